/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.c - a machine at work is handed from process to process: each runs it for a random time, saves it, and ends.
 *
 *   relay SAVES DIR KERNEL INITRD APPEND PART...   until the guest powers off; after SAVES saves it is left alone.
 *
 * INITRD -: KERNEL is one of tests/guest, which takes no NMIs; it is saved from its start on, and leaves by the debug exit.
 *
 * PART: cpus=N, cpu=MODEL, memory=MIB, cache=MIB, after=N: the machine's, as lodge's options; vga: with a screen; shake: between the
 * saves the machine is stopped, looked at, asked for its state and given it again, sent NMIs and what else comes at any moment, all
 * the time; what was written must show in the dirty log. storm=US: each processor that runs is stopped every so many microseconds,
 * and, if it is the only one, asked for its state and given it again.
 * ide=FILE, ahci=FILE (raw disks), cdrom=FILE, floppy=FILE, net=SPEC, and keys=N with mouse or tablet: N steps of
 * a key that is pressed and released, and (a tablet) the left button changed or (a mouse) a movement of 3 right, 1 down.  A
 * step waits until the guest is ready and has printed what the one before it did (oldpc.c: "keys 1 CODE VALUE", "pointer 1 CODE VALUE"
 * or "pointer 2 ..."); in the end the escape key and the middle button.  The first save is some time after the guest's line
 * "go".  What it prints is in DIR/out.0, out.1 ... LODGE_TEST_SEED repeats the moments.
 *
 * and, started by itself:  relay --leg N MOMENT DIR ...   MOMENT: ms, 0 to the end
 */
#include <fcntl.h>
#include <linux/input-event-codes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "net/netd.h"
#include "option.h"
#include "vm/internal.h"
#include "vm/snapshot.h"

enum { SAVED = 40, BROKEN = 41, MEMORY_MIB = 256, TICK_NS = 2000000, END = 2 };

struct leg {
    struct timer timer;
    struct vm *vm;
    const char *dir;
    u32 n, steps, moment, storm;
    bool tablet, pointer, going, saved, failed, shake, tiny;
    u64 save_at, shaken;
    u32 step; /* done so far, by this leg and those before it */
    u8 *copy[MEMORY_MAX_PIECES];
};

/* How many lines of all output begin with it. */
static u32 printed(const struct leg *g, const char *word)
{
    const size_t len = strlen(word);
    char path[4200];
    u32 n = 0;
    size_t at = 0; /* in a line, which may go on in the next file; len + 1: another one */

    for (u32 i = 0; i <= g->n; i++) {
        snprintf(path, sizeof path, "%s/out.%u", g->dir, i);
        FILE *f = fopen(path, "re");
        for (int c; f && (c = getc(f)) != EOF;) {
            at = c == '\n' ? 0 : at < len && c == word[at] ? at + 1 : len + 1;
            n += at == len;
        }
        if (f)
            fclose(f);
    }
    return n;
}

static void one_step(struct leg *g)
{
    struct input *in = g->vm->input;
    const bool last = g->step == g->steps;

    if (g->step >= g->steps + 1 || input_waiting(in) || !printed(g, "keys ready") || (g->pointer && !printed(g, "pointer ready")) || printed(g, "keys 1 ") < 2 * g->step ||
        (g->pointer && printed(g, g->tablet ? "pointer 1 " : "pointer 2 0 ") < g->step))
        return;
    const u16 code = last ? KEY_ESC : (u16)(KEY_1 + g->step % 10);
    input_key(in, code, true);
    input_key(in, code, false);
    if (g->tablet)
        input_position(in, g->step % 640, 100, 640, 480, 0, last ? INPUT_MIDDLE : g->step & 1 ? 0 : INPUT_LEFT);
    else if (g->pointer)
        input_move(in, 3, 1, 640, 480, 0, last ? INPUT_MIDDLE : 0);
    if (last && g->tablet)
        input_position(in, 0, 0, 640, 480, 0, 0);
    else if (last && g->pointer)
        input_move(in, 0, 0, 640, 480, 0, 0);
    g->step++;
}

/* ---- stopped all the time: the engine's run() is ours ---- */

static struct storm {
    enum run_result (*run)(struct engine_vcpu *v, struct error *err);
    long ns;
    u32 cpus;
    u64 stops;
} storm;
static _Thread_local struct engine_vcpu *storm_vcpu;
static _Thread_local timer_t storm_timer;

static void on_storm(int sig)
{
    if (storm_vcpu)
        engine_soft.kick(storm_vcpu);
}

static enum run_result storm_run(struct engine_vcpu *v, struct error *err)
{
    if (!storm_vcpu) {
        struct sigevent e = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2 };
        e._sigev_un._tid = gettid();
        sigset_t set;
        storm_vcpu = v;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        if (pthread_sigmask(SIG_UNBLOCK, &set, NULL) || timer_create(CLOCK_MONOTONIC, &e, &storm_timer))
            return RUN_ERROR;
    }
    const struct itimerspec t = { .it_value.tv_nsec = 1 + random() % storm.ns };
    timer_settime(storm_timer, 0, &t, NULL);
    const enum run_result r = storm.run(v, err);
    if (r == RUN_KICKED && ++storm.stops % 2 && storm.cpus == 1) {
        struct cpu_state s;
        if (engine_soft.get_state(v, &s) || engine_soft.set_state(v, &s))
            return RUN_ERROR;
    }
    return r;
}

static void storm_begins(u32 us, u32 cpus)
{
    struct engine_ops *ops = (struct engine_ops *)(uintptr_t)&engine_soft;
    const u64 page = (u64)ops & ~4095ull;
    const struct sigaction sa = { .sa_handler = on_storm, .sa_flags = SA_ONSTACK | SA_RESTART };

    if (mprotect((void *)page, (u64)(ops + 1) - page, PROT_READ | PROT_WRITE) || sigaction(SIGUSR2, &sa, NULL))
        exit(BROKEN);
    storm.run = ops->run;
    storm.ns = (long)us * 1000;
    storm.cpus = cpus;
    ops->run = storm_run;
}

/* What is written shows in the dirty log: with it a copy of memory is kept that in the end is the same. */
static void copy_dirty(struct leg *g)
{
    struct memory *mem = machine_memory(g->vm->machine);
    const struct engine_ops *ops = g->vm->engine;

    for (u32 k = 0; k < mem->npieces; k++) {
        const struct memory_piece *p = &mem->piece[k];
        if (strncmp(p->name, "ram", 3))
            continue;
        u64 *bits = calloc(p->size / 4096 / 64 + 1, 8);
        const bool first = !g->copy[k];
        if (!bits || (first && (!(g->copy[k] = malloc(p->size)) || ops->dirty_enable(g->vm->engine_vm, true))) ||
            ops->dirty_sync(g->vm->engine_vm))
            g->failed = true;
        else
            memory_dirty_take(mem, p, bits);
        if (ops->dirty_sync(g->vm->engine_vm))
            g->failed = true;
        for (u64 n = 0; !g->failed && n < p->size / 4096; n++)
            if (first || bits[n / 64] >> n % 64 & 1)
                memcpy(g->copy[k] + n * 4096, p->host + n * 4096, 4096);
        free(bits);
    }
}

/* The processors stand still and the devices wait. */
static void check_copy(struct leg *g)
{
    struct memory *mem = machine_memory(g->vm->machine);
    copy_dirty(g);
    for (u32 k = 0; k < mem->npieces; k++)
        for (u64 n = 0; g->copy[k] && n < mem->piece[k].size; n += 4096)
            if (memcmp(g->copy[k] + n, mem->piece[k].host + n, 4096)) {
                fprintf(stderr, "the dirty log lacks the page at %#llx of %s\n", (unsigned long long)n, mem->piece[k].name);
                g->failed = true;
                return;
            }
}

static void no_figure(void *ctx, const struct engine_figure *f) { (void)ctx, (void)f; }

/* What a host may do to a running machine, which it must not notice. */
static void shake(struct leg *g)
{
    struct machine *m = g->vm->machine;
    const struct engine_ops *ops = g->vm->engine;
    struct error err = { "" };
    const long what = random() % 16;
    bool ended;

    g->shaken++;
    if (what == 0 && !g->tiny) {
        machine_nmi(m);
    } else if (what == 1) {
        if (ops->reset_caches)
            ops->reset_caches(g->vm->engine_vm);
    } else if (what == 2) {
        copy_dirty(g);
    } else if (what == 3 && g->vm->display) {
        display_refresh(g->vm->display);
    } else {
        vcpus_pause(g->vm->vcpus);
        pthread_mutex_lock(&g->vm->lock);
        ended = g->vm->ended || g->vm->request != REQUEST_NONE;
        pthread_mutex_unlock(&g->vm->lock);
        if (!ended && what < 6) { /* all of its state, as for a snapshot; 5: and back */
            if (machine_before_save(m, &err))
                g->failed = true;
            if (what == 4)
                check_copy(g);
            machine_after_save(m);
        }
        static struct cpu_state s;
        for (u32 k = 0; !ended && what >= 5 && what < 9 && k < g->vm->config->cpus; k++)
            if (ops->get_state(g->vm->engine_vcpus[k], &s) || ops->set_state(g->vm->engine_vcpus[k], &s))
                g->failed = true;
        if (what == 9 && !ended) {
            ops->stats(g->vm->engine_vm, -1, no_figure, NULL);
            ops->stats(g->vm->engine_vm, 0, no_figure, NULL);
        }
        if (what == 15)
            usleep(1000);
        vcpus_resume(g->vm->vcpus);
    }
    if (g->failed) {
        fprintf(stderr, "shake: %ld: %s\n", what, err.text);
        loop_stop(g->vm->loop);
    }
}

static void tick(struct timer *t)
{
    struct leg *g = container_of(t, struct leg, timer);
    struct error err = { "" };

    timer_arm(t, clock_ns() + (g->tiny ? (u64)random() % 30000 : g->shake ? (u64)random() % TICK_NS : TICK_NS));
    if (!g->going && !(g->going = printed(g, "go")))
        return;
    if (!g->save_at)
        g->save_at = clock_ns() + g->moment * 1000000ull;
    if (g->steps)
        one_step(g);
    if (g->shake)
        shake(g);
    if (!g->moment || clock_ns() < g->save_at)
        return;
    timer_disarm(t);
    vcpus_pause(g->vm->vcpus);
    pthread_mutex_lock(&g->vm->lock);
    const bool ended = g->vm->ended || g->vm->request != REQUEST_NONE;
    pthread_mutex_unlock(&g->vm->lock);
    if (ended) {
        vcpus_resume(g->vm->vcpus);
        return;
    }
    g->saved = vm_save(g->vm, g->dir, &err) == 0;
    g->failed = !g->saved;
    if (g->failed)
        fprintf(stderr, "save: %s\n", err.text);
    loop_stop(g->vm->loop);
}

static void part(struct vm_config *c, struct leg *g, char *p)
{
    char *value = strchr(p, '=');
    if (value)
        *value++ = 0;
    if (!strcmp(p, "ide") || !strcmp(p, "ahci"))
        option(c, BROKEN, "disk", "%s,format=raw,bus=%s", value, p);
    else if (!strcmp(p, "cdrom"))
        option(c, BROKEN, "cdrom", "%s,format=raw,bus=ide", value);
    else if (!strcmp(p, "floppy") || !strcmp(p, "net") || !strcmp(p, "cpus") || !strcmp(p, "memory") || !strcmp(p, "cpu"))
        option(c, BROKEN, p, "%s", value);
    else if (!strcmp(p, "keys"))
        g->steps = (u32)atoi(value);
    else if (!strcmp(p, "mouse"))
        g->pointer = true;
    else if (!strcmp(p, "tablet"))
        g->pointer = g->tablet = true, option(c, BROKEN, "usb", "tablet");
    else if (!strcmp(p, "storm"))
        g->storm = (u32)atoi(value);
    else if (!strcmp(p, "cache"))
        c->code_cache = MiB((u64)atoi(value));
    else if (!strcmp(p, "after"))
        c->translate_after = (u32)atoi(value);
    else if (!strcmp(p, "vga"))
        option(c, BROKEN, "vga", "std");
    else if (!strcmp(p, "shake"))
        g->shake = true;
}

static bool tiny(const char *initrd) { return !strcmp(initrd, "-"); }

/* argv: N MOMENT STEPS-DONE DIR KERNEL ... */
static int one_leg(char **argv)
{
    struct vm_config c;
    struct error err = { "" };
    struct leg g = { .n = (u32)atoi(argv[0]), .moment = (u32)atoi(argv[1]), .dir = argv[3], .step = (u32)atoi(argv[2]) };
    static const struct vm_run run;
    char path[4200];

    if (config_init(&c))
        return BROKEN;
    g.tiny = tiny(argv[5]);
    option(&c, BROKEN, "engine", "soft");
    no_serial(&c);
    option(&c, BROKEN, "serial", "file:%s/out.%u", g.dir, g.n);
    option(&c, BROKEN, "kernel", "%s", argv[4]);
    option(&c, BROKEN, "append", "%s", argv[6]);
    if (g.tiny)
        option(&c, BROKEN, "device", "testdev");
    else
        option(&c, BROKEN, "initrd", "%s", argv[5]);
    c.cpus = 2;
    c.memory = MiB(MEMORY_MIB);
    for (char **p = argv + 7; *p; p++)
        part(&c, &g, *p);
    log_set_level(LOG_WARN);
    srandom(g.moment + 7919 * g.n);
    if (g.storm)
        storm_begins(g.storm, c.cpus);
    struct vm *v = vm_new(&c, &run, &err);
    if (!v)
        return BROKEN;
    v->restore = g.n ? g.dir : NULL;
    g.going = g.n || g.tiny;
    int rc = vm_boot(v, &err);
    if (rc) {
        fprintf(stderr, "leg %u: %s\n", g.n, err.text);
        vm_free(v);
        return BROKEN;
    }
    g.vm = v;
    timer_init(&g.timer, v->loop, tick);
    timer_arm(&g.timer, clock_ns());
    const int status = vm_run(v, &err);
    rc = status < 0 || g.failed ? BROKEN : g.saved ? SAVED : status;
    vm_free(v);
    snprintf(path, sizeof path, "%s/step", g.dir);
    if (g.shaken || storm.stops)
        printf("leg %u: shaken %llu times, stopped %llu times\n", g.n, (unsigned long long)g.shaken, (unsigned long long)storm.stops);
    FILE *f = fopen(path, "we");
    if (!f || fprintf(f, "%u", g.step) < 0 || fclose(f))
        return BROKEN;
    return rc;
}

static u32 step_of(const char *dir)
{
    char path[4200];
    u32 n = 0;
    snprintf(path, sizeof path, "%s/step", dir);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%u", &n) != 1)
        n = 0;
    if (f)
        fclose(f);
    return n;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "netd"))
        _exit(netd_main(argc - 1, argv + 1)); /* a network's process, started by net_open */
    if (argc > 8 && !strcmp(argv[1], "--leg"))
        return one_leg(argv + 2);
    if (argc < 6) {
        fprintf(stderr, "usage: relay SAVES DIR KERNEL INITRD APPEND PART...\n");
        return 2;
    }
    const u32 saves = (u32)atoi(argv[1]);
    const char *given = getenv("LODGE_TEST_SEED");
    u32 seed = given ? (u32)strtoul(given, NULL, 10) : 0;
    if (!given && getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return 2;
    printf("LODGE_TEST_SEED=%u\n", seed);
    fflush(stdout);
    srandom(seed);
    int status = SAVED;
    u32 n = 0;
    for (; status == SAVED; n++) {
        char leg[16], moment[16], step[16];
        char **a = calloc((size_t)argc + 5, sizeof *a);
        u32 k = 0;
        if (!a)
            return 2;
        snprintf(leg, sizeof leg, "%u", n);
        snprintf(moment, sizeof moment, "%ld", n >= saves ? 0 : tiny(argv[4]) ? 1 + random() % 15 : 30 + random() % 250);
        snprintf(step, sizeof step, "%u", step_of(argv[2]));
        a[k++] = argv[0], a[k++] = (char *)"--leg", a[k++] = leg, a[k++] = moment, a[k++] = step;
        for (int i = 2; i < argc; i++)
            a[k++] = argv[i];
        const pid_t pid = fork();
        if (pid == 0) {
            execv("/proc/self/exe", a);
            _exit(BROKEN);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
            return 2;
        status = WIFEXITED(status) ? WEXITSTATUS(status) : BROKEN;
        free(a);
    }
    printf("saves=%u status=%d\n", n - 1, status);
    return status;
}
