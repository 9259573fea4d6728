/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save_restore.c - a running machine is saved at some moment, and a fresh process goes on with it: what the guest
 * prints before and after is, byte for byte, what it prints when nobody interrupts it.
 *
 *   save_restore GUEST ENGINE [ENGINE2]     run it; ENGINE2 restores what ENGINE saved
 *
 * "soft+" is the software engine with its translator.
 *
 * GUEST is counter.elf, or bios:DISK, which SeaBIOS boots from, or KERNEL,INITRD of a Linux whose init prints what is always the same and then "END".
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

static int one(const char *how, const char *moment, char **argv)
{
    static const struct vm_run run;
    struct vm_config c;
    struct error err = { "" };
    struct saver s = { .dir = argv[3], .out = argv[4] };
    unsigned long when = strtoul(moment, NULL, 10); /* "12": ms; "12b": bytes printed */
    if (strchr(moment, 'b'))
        s.bytes = (off_t)when, when = 0;

    const bool bios = !strncmp(argv[0], "bios:", 5), translate = strchr(argv[1], '+');
    char *initrd = strchr(argv[0], ',');
    if (config_init(&c))
        return STATUS_BROKEN;
    no_serial(&c);
    if (bios) /* SeaBIOS writes to the first when it finds time */
        option(&c, STATUS_BROKEN, "serial", "null");
    option(&c, STATUS_BROKEN, "serial", "file:%s", argv[4]);
    if (initrd)
        *initrd++ = 0;
    option(&c, STATUS_BROKEN, bios ? "firmware" : "kernel", "%s", bios ? "bios" : argv[0]);
    option(&c, STATUS_BROKEN, "engine", "%s", translate ? "soft" : argv[1]);
    option(&c, STATUS_BROKEN, "code-cache", "%s", translate ? "32M" : "0");
    option(&c, STATUS_BROKEN, "memory", "%s", initrd ? "256M" : "16M");
    if (!bios)
        option(&c, STATUS_BROKEN, "append", "%s", initrd ? "console=ttyS0 loglevel=0" : argv[2]);
    if (initrd) {
        option(&c, STATUS_BROKEN, "initrd", "%s", initrd);
        option(&c, STATUS_BROKEN, "cpus", "2");
    }
    const char *machine = getenv("LODGE_STATE_MACHINE");
    char disk[4200];
    if (machine && initrd) {
        snprintf(disk, sizeof disk, "%s.disk", argv[3]);
        const int fd = open(disk, O_RDWR | O_CREAT | (strcmp(how, "--restore") ? O_TRUNC : 0), 0600);
        if (fd < 0 || ftruncate(fd, 16 << 20) || close(fd))
            return STATUS_BROKEN;
        const bool micro = !strcmp(machine, "micro"), old = !strcmp(machine, "ide") || !strcmp(machine, "ahci");
        option(&c, STATUS_BROKEN, "machine", "%s", micro ? "micro" : "pc");
        option(&c, STATUS_BROKEN, "vga", "%s", micro ? "none" : "std");
        option(&c, STATUS_BROKEN, "disk", "%s,format=raw,bus=%s", disk, old ? machine : "virtio");
        if (old)
            option(&c, STATUS_BROKEN, "cdrom", "%s,format=raw,bus=%s", getenv("LODGE_STATE_CDROM"), machine);
        option(&c, STATUS_BROKEN, "net", "none,mac=52:54:00:12:34:56");
        if (!micro) {
            option(&c, STATUS_BROKEN, "net", "none,mac=52:54:00:12:34:57,model=e1000");
            option(&c, STATUS_BROKEN, "usb", "tablet");
        }
        option(&c, STATUS_BROKEN, "rng", "on");
    }
    if (bios)
        option(&c, STATUS_BROKEN, "disk", "%s,format=raw,readonly", argv[0] + 5);
    if (c.machine == CONFIG_MACHINE_PC)
        option(&c, STATUS_BROKEN, "device", "testdev");
    char *cpu;
    if (atoi(argv[2]) < 4 && !initrd)
        if ((cpu = common_cpu())) {
            free(c.cpu);
            c.cpu = cpu;
        }
    log_set_level(LOG_WARN);

    struct vm *v = vm_new(&c, &run, &err);
    if (!v)
        return STATUS_BROKEN;
    v->restore = strcmp(how, "--restore") ? NULL : argv[3];
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

int main(int argc, char **argv)
{
    char self[4096], dir[] = "/tmp/lodge-state-XXXXXX", snap[64], out[64], out2[64], ref[64];
    int failures = 0, saved = 0;

    if (argc == 8)
        return one(argv[1], argv[2], argv + 3);
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: save_restore GUEST ENGINE [ENGINE2]\n");
        return 2;
    }
    const char *guest = argv[1], *first = argv[2], *second = argc > 3 ? argv[3] : argv[2];
    bool kvm = !strcmp(first, "kvm") || !strcmp(second, "kvm");
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
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0 || !mkdtemp(dir))
        return 2;
    self[n] = 0;
    snprintf(snap, sizeof snap, "%s/snap", dir);
    snprintf(out, sizeof out, "%s/out", dir);
    snprintf(out2, sizeof out2, "%s/out2", dir);
    snprintf(ref, sizeof ref, "%s/ref", dir);

    /* KVM without hardware virtualization interprets kernel code slowly: less work, the same moments. */
    const char *amount = kvm ? "2" : "6";
    int status = spawn(self, "--run", "0", guest, first, amount, snap, ref);
    size_t want_len;
    char *want = slurp(ref, &want_len);
    bool big = strchr(guest, ',');
    if (status != STATUS_OK || want_len < (strchr(guest, ':') ? 7 : 9 * 32)) {
        fprintf(stderr, "the uninterrupted run ended with %d and %zu bytes\n", status, want_len);
        failures++;
    }
    static const char *const small[] = { "1", "7", "23", "64", "110", "150", "210", "290", "350", NULL };
    static const char *const large[] = { "900", "1b", "700b", "1500b", NULL };
    static const char *const drives[] = { "1b", "300b", NULL };
    const char *machine = getenv("LODGE_STATE_MACHINE");
    const bool few = machine && (!strcmp(machine, "ide") || !strcmp(machine, "ahci"));
    for (const char *const *m = few ? drives : big ? large : small; *m && !failures; m++) {
        status = spawn(self, "--save", *m, guest, first, amount, snap, out);
        if (status == STATUS_OK)
            continue; /* it was over before */
        size_t len, len2;
        if (status != STATUS_SAVED) {
            fprintf(stderr, "save at %s: the process ended with %d\n", *m, status);
            failures++;
            continue;
        }
        saved++;
        status = spawn(self, "--restore", "0", guest, second, amount, snap, out2);
        char *a = slurp(out, &len), *b = slurp(out2, &len2);
        bool same = len + len2 == want_len && !memcmp(a, want, len) && !memcmp(b, want + len, len2);
        printf("saved at %5s, after %4zu bytes, went on for %4zu: %s\n", *m, len, len2,
               same ? "the same" : "DIFFERENT");
        if (status != STATUS_OK || !same) {
            fprintf(stderr, "saved at %s: the restored process ended with %d\n", *m, status);
            size_t at = 0;
            while (at < want_len && at < len + len2 && want[at] == (at < len ? a[at] : b[at - len]))
                at++;
            fprintf(stderr, "from byte %zu of %zu on: \"%.80s\", not \"%.80s\"\n", at, want_len, at < len ? a + at : b + (at - len),
                    want + at);
            failures++;
        }
        free(a);
        free(b);
    }
    free(want);
    if (!failures && saved < 2) {
        fprintf(stderr, "the guest was over too soon: only %d saves\n", saved);
        failures++;
    }
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    if (failures || system(cmd))
        fprintf(stderr, "files are in %s\n", dir);
    return failures != 0;
}
