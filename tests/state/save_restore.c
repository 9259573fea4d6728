/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save_restore.c - a running machine is saved at some moment, and a fresh process goes on with it: what the guest
 * prints before and after is, byte for byte, what it prints when nobody interrupts it.
 *
 *   save_restore GUEST ENGINE [ENGINE2]     run it; ENGINE2 restores what ENGINE saved
 *
 * "soft+" is the software engine with its translator.
 *
 * GUEST is counter.elf, or bios:DISK, which SeaBIOS boots from, or KERNEL,INITRD of a Linux whose init prints what is
 * always the same and then "END".
 *
 * With LODGE_STATE_MACHINE=pc or micro in the environment the Linux has a disk, empty at the start of its run, a network
 * card without a cable, and a random number generator; on a pc a graphics adapter, too. With ide or ahci it is a pc whose
 * disk is there, and a CD drive with the disc that LODGE_STATE_CDROM names.
 *
 * and, started by itself:  --run | --save | --restore  MOMENT GUEST ENGINE AMOUNT DIR OUT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "option.h"
#include "vm/internal.h"
#include "vm/snapshot.h"

enum { STATUS_OK = 0, STATUS_DEBUG_EXIT_0 = 1, STATUS_SAVED = 40, STATUS_BROKEN = 41, SKIP = 77 };

/* ---- one run, in a process of its own ----------------------------------- */

struct saver {
    struct timer timer;
    struct vm *vm;
    const char *dir, *out;
    off_t bytes; /* wait until the guest has printed so much */
    bool saved, failed;
};

static void save_now(struct timer *t)
{
    struct saver *s = container_of(t, struct saver, timer);
    struct error err = { "" };
    struct stat st;
    if (s->bytes && (stat(s->out, &st) || st.st_size < s->bytes)) {
        timer_arm(t, clock_ns() + 2000000);
        return;
    }
    pthread_mutex_lock(&s->vm->lock);
    bool ended = s->vm->ended || s->vm->request != REQUEST_NONE;
    pthread_mutex_unlock(&s->vm->lock);
    if (ended)
        return;
    vcpus_pause(s->vm->vcpus);
    pthread_mutex_lock(&s->vm->lock);
    ended = s->vm->request != REQUEST_NONE; /* it ended in this moment: let it */
    pthread_mutex_unlock(&s->vm->lock);
    if (ended)
        return;
    s->saved = vm_save(s->vm, s->dir, &err) == 0;
    s->failed = !s->saved;
    if (s->failed)
        fprintf(stderr, "save: %s\n", err.text);
    loop_stop(s->vm->loop);
}

/* A CPU that both engines have: "host" less what either lacks. */
static char *common_cpu(void)
{
    struct engine_caps *kvm = calloc(1, sizeof *kvm), *soft = calloc(1, sizeof *soft);
    const struct cpu_feature *f;
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    fprintf(out, "host");
    if (!engine_kvm.probe(kvm, NULL) && !engine_soft.probe(soft, NULL))
        for (u32 i = 0; (f = cpu_feature_at(i)); i++)
            if (cpuid_has(&kvm->supported, f) != cpuid_has(&soft->supported, f))
                fprintf(out, ",-%s", f->name);
    fclose(out);
    free(kvm);
    free(soft);
    return text;
}

/* What LODGE_STATE_MACHINE says that the Linux has; false: not to be had. The disk is new, unless it is `kept`. */
static bool add_devices(struct vm_config *c, const char *machine, const char *dir, bool kept)
{
    char disk[4200];
    snprintf(disk, sizeof disk, "%s.disk", dir);
    const int fd = open(disk, O_RDWR | O_CREAT | (kept ? 0 : O_TRUNC), 0600);
    if (fd < 0 || ftruncate(fd, 16 << 20) || close(fd))
        return false;
    const bool micro = !strcmp(machine, "micro"), old = !strcmp(machine, "ide") || !strcmp(machine, "ahci");
    option(c, STATUS_BROKEN, "machine", "%s", micro ? "micro" : "pc");
    option(c, STATUS_BROKEN, "vga", "%s", micro ? "none" : "std");
    option(c, STATUS_BROKEN, "disk", "%s,format=raw,bus=%s", disk, old ? machine : "virtio");
    if (old)
        option(c, STATUS_BROKEN, "cdrom", "%s,format=raw,bus=%s", getenv("LODGE_STATE_CDROM"), machine);
    option(c, STATUS_BROKEN, "net", "none,mac=52:54:00:12:34:56");
    if (!micro) {
        option(c, STATUS_BROKEN, "net", "none,mac=52:54:00:12:34:57,model=e1000");
        option(c, STATUS_BROKEN, "usb", "tablet");
    }
    option(c, STATUS_BROKEN, "rng", "on");
    return true;
}

/* The machine for GUEST ENGINE AMOUNT DIR OUT into c, which config_init made; false: not to be had. */
static bool configure(struct vm_config *c, char **argv, bool kept)
{
    const bool bios = !strncmp(argv[0], "bios:", 5), translate = strchr(argv[1], '+');
    char *initrd = strchr(argv[0], ',');
    no_serial(c);
    if (bios) /* SeaBIOS writes to the first when it finds time */
        option(c, STATUS_BROKEN, "serial", "null");
    option(c, STATUS_BROKEN, "serial", "file:%s", argv[4]);
    if (initrd)
        *initrd++ = 0;
    option(c, STATUS_BROKEN, bios ? "firmware" : "kernel", "%s", bios ? "bios" : argv[0]);
    option(c, STATUS_BROKEN, "engine", "%s", translate ? "soft" : argv[1]);
    option(c, STATUS_BROKEN, "code-cache", "%s", translate ? "32M" : "0");
    option(c, STATUS_BROKEN, "memory", "%s", initrd ? "256M" : "16M");
    if (!bios)
        option(c, STATUS_BROKEN, "append", "%s", initrd ? "console=ttyS0 loglevel=0" : argv[2]);
    if (initrd) {
        option(c, STATUS_BROKEN, "initrd", "%s", initrd);
        option(c, STATUS_BROKEN, "cpus", "2");
    }
    const char *machine = getenv("LODGE_STATE_MACHINE");
    if (machine && initrd && !add_devices(c, machine, argv[3], kept))
        return false;
    if (bios)
        option(c, STATUS_BROKEN, "disk", "%s,format=raw,readonly", argv[0] + 5);
    if (c->machine == CONFIG_MACHINE_PC)
        option(c, STATUS_BROKEN, "device", "testdev");
    char *cpu;
    if (atoi(argv[2]) < 4 && !initrd)
        if ((cpu = common_cpu())) {
            free(c->cpu);
            c->cpu = cpu;
        }
    return true;
}

static int one(const char *how, const char *moment, char **argv)
{
    static const struct vm_run run;
    struct vm_config c;
    struct error err = { "" };
    struct saver s = { .dir = argv[3], .out = argv[4] };
    const bool restore = !strcmp(how, "--restore");
    unsigned long when = strtoul(moment, NULL, 10); /* "12": ms; "12b": bytes printed */
    if (strchr(moment, 'b'))
        s.bytes = (off_t)when, when = 0;

    if (config_init(&c) || !configure(&c, argv, restore))
        return STATUS_BROKEN;
    log_set_level(LOG_WARN);

    struct vm *v = vm_new(&c, &run, &err);
    if (!v)
        return STATUS_BROKEN;
    v->restore = restore ? argv[3] : NULL;
    int rc = vm_boot(v, &err);
    if (rc) {
        fprintf(stderr, "%s: %s\n", how, err.text);
        vm_free(v);
        return STATUS_BROKEN;
    }
    s.vm = v;
    timer_init(&s.timer, v->loop, save_now);
    if (!strcmp(how, "--save"))
        timer_arm(&s.timer, clock_ns() + when * 1000000ull);
    const int status = vm_run(v, &err);
    rc = status < 0 || s.failed ? STATUS_BROKEN : s.saved ? STATUS_SAVED : status;
    vm_free(v);
    config_free(&c);
    return rc == STATUS_DEBUG_EXIT_0 ? STATUS_OK : rc;
}

/* ---- the test ----------------------------------------------------------- */

static int spawn(const char *self, const char *how, const char *moment, const char *guest, const char *engine,
                 const char *amount, const char *dir, const char *out)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, how, moment, guest, engine, amount, dir, out, (char *)NULL);
        _exit(STATUS_BROKEN);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return STATUS_BROKEN;
    return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_BROKEN;
}

static char *slurp(const char *path, size_t *len)
{
    FILE *f = fopen(path, "re");
    char *p = calloc(1, 1 << 20);
    *len = f && p ? fread(p, 1, (1 << 20) - 1, f) : 0;
    if (f)
        fclose(f);
    char *end = p ? strstr(p, "END") : NULL; /* what Linux says while it goes down has times in it */
    if (end)
        *len = (size_t)(end - p);
    return p;
}

struct test {
    char self[4096], dir[32], snap[64], out[64], out2[64], ref[64];
    const char *guest, *amount;
    const char *first, *second; /* engines */
    char *want; /* what the guest prints when nobody interrupts it */
    size_t want_len;
    int saved;
};

/* 0, or what main returns: the test cannot be. */
static int missing(const char *guest, bool kvm)
{
    struct engine_caps *caps = calloc(1, sizeof *caps);
    struct error err = { "" };
    if (kvm && (!caps || engine_kvm.probe(caps, &err))) {
        printf("skipped: %s\n", err.text);
        return SKIP;
    }
    free(caps);
    if (!strncmp(guest, "bios:", 5) && access("/usr/share/seabios/bios-256k.bin", R_OK)) {
        printf("skipped: no SeaBIOS (package seabios)\n");
        return SKIP;
    }
    return 0;
}

static bool name_files(struct test *t)
{
    ssize_t n = readlink("/proc/self/exe", t->self, sizeof t->self - 1);
    snprintf(t->dir, sizeof t->dir, "/tmp/lodge-state-XXXXXX");
    if (n < 0 || !mkdtemp(t->dir))
        return false;
    t->self[n] = 0;
    snprintf(t->snap, sizeof t->snap, "%s/snap", t->dir);
    snprintf(t->out, sizeof t->out, "%s/out", t->dir);
    snprintf(t->out2, sizeof t->out2, "%s/out2", t->dir);
    snprintf(t->ref, sizeof t->ref, "%s/ref", t->dir);
    return true;
}

static bool run_uninterrupted(struct test *t)
{
    int status = spawn(t->self, "--run", "0", t->guest, t->first, t->amount, t->snap, t->ref);
    t->want = slurp(t->ref, &t->want_len);
    if (status == STATUS_OK && t->want_len >= (strchr(t->guest, ':') ? 7 : 9 * 32))
        return true;
    fprintf(stderr, "the uninterrupted run ended with %d and %zu bytes\n", status, t->want_len);
    return false;
}

static void print_difference(const struct test *t, const char *a, size_t len, const char *b, size_t len2)
{
    const char *want = t->want;
    size_t at = 0;
    while (at < t->want_len && at < len + len2 && want[at] == (at < len ? a[at] : b[at - len]))
        at++;
    fprintf(stderr, "from byte %zu of %zu on: \"%.80s\", not \"%.80s\"\n", at, t->want_len,
            at < len ? a + at : b + (at - len), want + at);
}

/* Whether the guest went on as if nobody had interrupted it; it may also have been over before. */
static bool save_and_restore(struct test *t, const char *moment)
{
    int status = spawn(t->self, "--save", moment, t->guest, t->first, t->amount, t->snap, t->out);
    if (status == STATUS_OK)
        return true; /* it was over before */
    size_t len, len2;
    if (status != STATUS_SAVED) {
        fprintf(stderr, "save at %s: the process ended with %d\n", moment, status);
        return false;
    }
    t->saved++;
    status = spawn(t->self, "--restore", "0", t->guest, t->second, t->amount, t->snap, t->out2);
    char *a = slurp(t->out, &len), *b = slurp(t->out2, &len2);
    bool same = len + len2 == t->want_len && !memcmp(a, t->want, len) && !memcmp(b, t->want + len, len2);
    printf("saved at %5s, after %4zu bytes, went on for %4zu: %s\n", moment, len, len2,
           same ? "the same" : "DIFFERENT");
    if (status != STATUS_OK || !same) {
        fprintf(stderr, "saved at %s: the restored process ended with %d\n", moment, status);
        print_difference(t, a, len, b, len2);
    }
    free(a);
    free(b);
    return status == STATUS_OK && same;
}

static const char *const *moments(const char *guest)
{
    static const char *const small[] = { "1", "7", "23", "64", "110", "150", "210", "290", "350", NULL };
    static const char *const large[] = { "900", "1b", "700b", "1500b", NULL };
    static const char *const drives[] = { "1b", "300b", NULL };
    const char *machine = getenv("LODGE_STATE_MACHINE");
    if (machine && (!strcmp(machine, "ide") || !strcmp(machine, "ahci")))
        return drives;
    return strchr(guest, ',') ? large : small;
}

int main(int argc, char **argv)
{
    static struct test t;

    if (argc == 8)
        return one(argv[1], argv[2], argv + 3);
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: save_restore GUEST ENGINE [ENGINE2]\n");
        return 2;
    }
    t.guest = argv[1], t.first = argv[2], t.second = argc > 3 ? argv[3] : argv[2];
    bool kvm = !strcmp(t.first, "kvm") || !strcmp(t.second, "kvm");
    int skip = missing(t.guest, kvm);
    if (skip)
        return skip;
    if (!name_files(&t))
        return 2;
    /* KVM without hardware virtualization interprets kernel code slowly: less work, the same moments. */
    t.amount = kvm ? "2" : "6";
    bool failed = !run_uninterrupted(&t);
    for (const char *const *m = moments(t.guest); *m && !failed; m++)
        failed = !save_and_restore(&t, *m);
    free(t.want);
    if (!failed && t.saved < 2) {
        fprintf(stderr, "the guest was over too soon: only %d saves\n", t.saved);
        failed = true;
    }
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", t.dir);
    if (failed || system(cmd))
        fprintf(stderr, "files are in %s\n", t.dir);
    return failed;
}
