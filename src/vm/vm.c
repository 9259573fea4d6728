/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.c - the life of a virtual machine: its states, what a processor, a device or the user wants of it, and its end.
 *
 * The thread inside vm_run is the I/O loop, and the only one that pauses, resets and ends the machine. What others want goes
 * through `request` and a kick of the loop.
 */
#include "vm/vm.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vm/devices.h"
#include "vm/internal.h"
#include "vm/snapshot.h"

#define SERIAL_PATIENCE_NS 2000000000ull /* for a reader of a serial port who takes nothing, at the end */
#define ACT_QUIET_NS 10000000000ull      /* between two reports of what devices want */

/* ---- states ------------------------------------------------------------- */

#define TO(s) (1u << VM_##s)
static const u16 transitions[VM_STATES] = {
    [VM_CREATED] = TO(BOOTING),
    [VM_BOOTING] = TO(RUNNING) | TO(CREATED), /* CREATED: it could not be started */
    [VM_RUNNING] = TO(PAUSED) | TO(WAITING) | TO(STOPPED) | TO(CRASHED),
    [VM_PAUSED] = TO(RUNNING) | TO(WAITING) | TO(STOPPED) | TO(CRASHED),
    [VM_WAITING] = TO(RUNNING) | TO(PAUSED) | TO(STOPPED) | TO(CRASHED),
    [VM_STOPPED] = TO(BOOTING),
    [VM_CRASHED] = TO(BOOTING),
};

enum vm_state vm_state(const struct vm *v)
{
    return __atomic_load_n(&v->state, __ATOMIC_ACQUIRE);
}

const char *vm_state_name(enum vm_state s)
{
    static const char *const names[VM_STATES] = {
        [VM_CREATED] = "created", [VM_BOOTING] = "booting", [VM_RUNNING] = "running", [VM_PAUSED] = "paused",
        [VM_WAITING] = "waiting", [VM_STOPPED] = "stopped", [VM_CRASHED] = "crashed",
    };
    return names[s];
}

static bool may_enter(const struct vm *v, enum vm_state s)
{
    return transitions[v->state] >> s & 1;
}

/* The one place where the state changes; on the thread that boots and runs the machine. */
static void enter(struct vm *v, enum vm_state s)
{
    if (v->state == s)
        return;
    assert(may_enter(v, s));
    log_debug("the machine is %s, was %s", vm_state_name(s), vm_state_name(v->state));
    __atomic_store_n(&v->state, s, __ATOMIC_RELEASE);
}

static bool has_ended(const struct vm *v)
{
    return v->state == VM_STOPPED || v->state == VM_CRASHED;
}

/* ---- requests ----------------------------------------------------------- */

/* Any thread. The first request wins until it is served, but for the wish to leave; the processors stop at once. */
static void request(struct vm *v, enum vm_request what, int status, u32 vcpu, const struct error *why)
{
    bool leaving = what == REQUEST_QUIT || what == REQUEST_SIGNAL;

    pthread_mutex_lock(&v->lock);
    bool first = v->request == REQUEST_NONE && !v->ended;
    if (first || (leaving && !v->ended)) {
        v->request = what;
        v->request_status = status;
        v->request_vcpu = vcpu;
        v->request_error = why ? *why : (struct error){ "" };
    }
    if (first && v->vcpus)
        vcpus_stop_soon(v->vcpus);
    if (first && v->loop)
        loop_kick(&v->requested); /* which needs no memory: a host that has none left sees the machine end in order */
    pthread_mutex_unlock(&v->lock); /* held until here: `ended` is set under it before loop and processors go */
}

void vm_on_machine_event(void *ctx, enum machine_event what, int status)
{
    static const enum vm_request map[] = {
        [MACHINE_POWER_OFF] = REQUEST_POWER_OFF, [MACHINE_RESET] = REQUEST_RESET, [MACHINE_INIT] = REQUEST_INIT,
        [MACHINE_DEBUG_EXIT] = REQUEST_EXIT,
    };
    request(ctx, map[what], status, 0, NULL);
}

void vm_on_vcpu_stop(void *ctx, u32 vcpu, enum run_result why, const struct error *err)
{
    struct vm *v = ctx;
    /* With a firmware it is a reset, as systems know that leave protected mode by it; unless the user wants to see it. */
    if (why == RUN_SHUTDOWN && !v->config->no_reboot && machine_shutdown(v->machine))
        return;
    request(ctx, why == RUN_SHUTDOWN ? REQUEST_TRIPLE_FAULT : REQUEST_FAILED, 0, vcpu, err);
}

void vm_on_quit(void *ctx)
{
    request(ctx, REQUEST_QUIT, 0, 0, NULL);
}

static void no_more_requests(struct vm *v)
{
    pthread_mutex_lock(&v->lock);
    v->ended = true;
    pthread_mutex_unlock(&v->lock);
}

static void end(struct vm *v, enum vm_state how, int status)
{
    v->status = status;
    enter(v, how);
    no_more_requests(v);
    loop_stop(v->loop);
}

static void say_triple_fault(struct vm *v, u32 vcpu)
{
    struct cpu_state *s = machine_cpu(v->machine, vcpu);
    if (v->engine->get_state(vcpus_engine(v->vcpus, vcpu), s))
        memset(s, 0, sizeof *s);
    log_error("triple fault: the guest's CPU %u could not deliver an exception at %04x:%llx (cr0 0x%llx, cr3 0x%llx); "
              "on the engine soft a trace of exceptions shows what led to it",
              vcpu, s->seg[CS].selector, (unsigned long long)s->rip, (unsigned long long)s->cr0,
              (unsigned long long)s->cr3);
}

/* The processors run, unless a disk waits for room on the host or the user wants it so. */
static void go_on(struct vm *v)
{
    if (!v->stopped)
        vcpus_resume(v->vcpus);
}

static void running_or_not(struct vm *v)
{
    if (v->state != VM_BOOTING && !has_ended(v))
        enter(v, v->paused ? VM_PAUSED : v->stopped ? VM_WAITING : VM_RUNNING);
}

static void stop(struct vm *v)
{
    if (!v->stopped++) {
        vcpus_pause(v->vcpus);
        __atomic_store_n(&v->stopped_since, clock_ns(), __ATOMIC_RELAXED);
    }
    running_or_not(v);
}

static void stop_no_more(struct vm *v)
{
    v->stopped--;
    running_or_not(v);
    if (v->stopped)
        return;
    __atomic_store_n(&v->stopped_for, v->stopped_for + clock_ns() - v->stopped_since, __ATOMIC_RELAXED);
    __atomic_store_n(&v->stopped_since, 0, __ATOMIC_RELAXED);
    pthread_mutex_lock(&v->lock);
    const bool wanted = v->request == REQUEST_NONE && !v->ended;
    pthread_mutex_unlock(&v->lock);
    if (wanted)
        vcpus_resume(v->vcpus);
}

void vm_disk_stop(void *ctx, const char *why)
{
    log_error("the machine waits: %s", why);
    stop(ctx);
}

void vm_disk_go(void *ctx)
{
    struct vm *v = ctx;
    if (v->stopped == 1)
        log_error("the machine goes on");
    stop_no_more(v);
}

/* What a device wants of the machine. */
void vm_act(void *ctx, enum device_action what, const char *why)
{
    static const enum vm_request map[] = {
        [DEVICE_RESET] = REQUEST_RESET, [DEVICE_POWER_OFF] = REQUEST_POWER_OFF, [DEVICE_PAUSE] = REQUEST_PAUSE,
        [DEVICE_EXIT] = REQUEST_GUEST_FAILED,
    };
    static const char *const then[] = {
        [DEVICE_NOTHING] = "", [DEVICE_RESET] = "; the machine is reset", [DEVICE_POWER_OFF] = "; the machine is turned off",
        [DEVICE_PAUSE] = "; the machine is paused", [DEVICE_EXIT] = "; the machine ends", [DEVICE_NMI] = "; it gets an NMI",
    };
    struct vm *v = ctx;
    const u64 now = clock_ns(), said = __atomic_load_n(&v->act_said, __ATOMIC_RELAXED);

    /* A guest may repeat it as often as it likes, and does not fill the user's disk with that. */
    if (!said || now - said >= ACT_QUIET_NS) {
        __atomic_store_n(&v->act_said, now, __ATOMIC_RELAXED);
        log_error("%s%s", why, then[what]);
    }
    if (what == DEVICE_NMI)
        machine_nmi(v->machine);
    else if (what != DEVICE_NOTHING)
        request(v, map[what], 0, 0, NULL);
}

u64 vm_clock(void *ctx)
{
    const struct vm *v = ctx;
    const u64 since = __atomic_load_n(&v->stopped_since, __ATOMIC_RELAXED);
    return (since ? since : clock_ns()) - __atomic_load_n(&v->stopped_for, __ATOMIC_RELAXED);
}

int vm_pause(struct vm *v)
{
    if (v->paused)
        return -EALREADY;
    if (v->state != VM_WAITING && !may_enter(v, VM_PAUSED))
        return -EINVAL;
    v->paused = true;
    stop(v);
    return 0;
}

int vm_resume(struct vm *v)
{
    if (!v->paused)
        return v->state == VM_RUNNING ? -EALREADY : -EINVAL;
    v->paused = false;
    stop_no_more(v);
    return 0;
}

void vm_ask(struct vm *v, enum machine_event what)
{
    vm_on_machine_event(v, what, 0);
}

void vm_quit(struct vm *v, int signal)
{
    request(v, signal ? REQUEST_SIGNAL : REQUEST_QUIT, signal, 0, NULL);
}

static void reboot(struct vm *v)
{
    struct error err = { "" };
    if (v->config->no_reboot) {
        end(v, VM_STOPPED, VM_EXIT_OK);
        return;
    }
    log_debug("the guest asked for a reset");
    if (machine_reset(v->machine, v->boot, &err)) {
        log_error("the machine could not be reset: %s", err.text);
        end(v, VM_CRASHED, VM_EXIT_FAILED);
        return;
    }
    go_on(v);
}

void vm_serve_request(struct loop_kick *k)
{
    struct vm *v = container_of(k, struct vm, requested);
    struct error why;

    pthread_mutex_lock(&v->lock);
    enum vm_request what = v->request;
    int status = v->request_status;
    u32 vcpu = v->request_vcpu;
    why = v->request_error;
    pthread_mutex_unlock(&v->lock);

    v->left = what == REQUEST_QUIT || what == REQUEST_SIGNAL;
    vcpus_pause(v->vcpus);
    pthread_mutex_lock(&v->lock);
    v->request = REQUEST_NONE;
    pthread_mutex_unlock(&v->lock);

    switch (what) {
    case REQUEST_NONE: break;
    case REQUEST_POWER_OFF: end(v, VM_STOPPED, VM_EXIT_OK); break;
    case REQUEST_QUIT: end(v, VM_STOPPED, VM_EXIT_OK); break;
    case REQUEST_EXIT: end(v, VM_STOPPED, status); break;
    case REQUEST_SIGNAL:
        if (status != SIGTERM && status != SIGINT && status != SIGHUP && status != SIGQUIT) /* a strange way to ask for it */
            log_error("signal %d (%s) ends the machine", status, strsignal(status));
        end(v, VM_STOPPED, 128 + status);
        break;
    case REQUEST_RESET: reboot(v); break;
    case REQUEST_PAUSE:
        (void)vm_pause(v); /* it may be so already */
        go_on(v);
        break;
    case REQUEST_GUEST_FAILED: end(v, VM_CRASHED, VM_EXIT_FAILED); break;
    case REQUEST_INIT:
        if (machine_init_cpus(v->machine)) {
            log_error("the machine could not be reset: the %s engine refuses the processors' state", v->engine->name);
            end(v, VM_CRASHED, VM_EXIT_FAILED);
        } else {
            go_on(v);
        }
        break;
    case REQUEST_TRIPLE_FAULT:
        say_triple_fault(v, vcpu);
        end(v, VM_CRASHED, VM_EXIT_FAILED);
        break;
    case REQUEST_FAILED:
        log_error("CPU %u stopped: %s", vcpu, why.text[0] ? why.text : "the engine failed");
        end(v, VM_CRASHED, VM_EXIT_FAILED);
        break;
    }
}

/* ---- timing ------------------------------------------------------------- */

void timing_phase(struct vm *v, const char *name)
{
    if (v->run->timing && v->nphases < ARRAY_SIZE(v->phase))
        v->phase[v->nphases++] = (struct vm_phase){ name, clock_ns() };
}

static void timing_print(struct vm *v)
{
    u64 before = v->run->started;
    if (!v->run->timing)
        return;
    timing_phase(v, "the run itself");
    fprintf(stderr, "phases of the run, ms%30s %10s\n", "from start", "took");
    for (u32 i = 0; i < v->nphases; i++) {
        const struct vm_phase *p = &v->phase[i];
        fprintf(stderr, "  %-38s %10.2f %10.2f\n", p->name, (double)(p->at - v->run->started) / 1e6,
                (double)(p->at - before) / 1e6);
        before = p->at;
    }
    devices_timing(v->devices, v->run->started);
}

/* ---- life --------------------------------------------------------------- */

struct vm *vm_new(const struct vm_config *config, const struct vm_run *run, struct error *err)
{
    struct vm *v = calloc(1, sizeof *v);

    if (!v) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    v->config = config;
    v->run = run;
    v->state = VM_CREATED;
    v->ended = true;
    pthread_mutex_init(&v->lock, NULL);
    return v;
}

void vm_free(struct vm *v)
{
    if (!v)
        return;
    if (v->state == VM_BOOTING) {
        no_more_requests(v);
        (void)vm_take_down(v);
    }
    pthread_mutex_destroy(&v->lock);
    free(v);
}

static void begin(struct vm *v)
{
    v->status = VM_EXIT_FAILED;
    v->left = v->paused = false;
    v->stopped = v->nphases = 0;
    v->stopped_since = v->stopped_for = 0;
    pthread_mutex_lock(&v->lock);
    v->request = REQUEST_NONE;
    v->ended = false;
    pthread_mutex_unlock(&v->lock);
}

struct loop *vm_loop(struct vm *v)
{
    return v->loop;
}

const char *vm_engine(const struct vm *v, const char **why)
{
    *why = v->engine_why.text;
    return v->engine->name;
}

int vm_boot(struct vm *v, struct error *err)
{
    int rc;

    if (!may_enter(v, VM_BOOTING))
        return error_set(err, EINVAL, "the machine is %s", vm_state_name(v->state));
    enter(v, VM_BOOTING);
    begin(v);
    if (!(rc = vm_build(v, err)))
        rc = v->restore ? vm_load(v, v->restore, err) : machine_reset(v->machine, v->boot, err);
    if (rc) {
        no_more_requests(v);
        (void)vm_take_down(v);
        enter(v, VM_CREATED);
        return rc;
    }
    log_debug("%s by %s, %u CPUs, %llu MiB", v->boot ? v->config->kernel : "a firmware", v->boot ? boot_protocol(v->boot) : "itself",
              v->config->cpus, (unsigned long long)(v->config->memory >> 20));
    timing_phase(v, "kernel loaded");
    return 0;
}

int vm_run(struct vm *v, struct error *err)
{
    if (!may_enter(v, VM_RUNNING))
        return error_set(err, EINVAL, "the machine is %s", vm_state_name(v->state));
    enter(v, VM_RUNNING);
    running_or_not(v);
    go_on(v);
    int rc = loop_run(v->loop);
    if (rc)
        error_set(err, -rc, "the I/O loop failed: %s", strerror(-rc));
    if (!has_ended(v)) /* whoever stopped the loop has no more use for it */
        end(v, rc ? VM_CRASHED : VM_STOPPED, VM_EXIT_FAILED);
    /* A reader that takes nothing more must not keep us: not at all when the user left, a moment otherwise. */
    machine_drain_serial(v->machine, rc || v->left ? 0 : SERIAL_PATIENCE_NS);
    if (!rc) {
        stats_print(v->stats, v->engine, v->engine_vm);
        timing_print(v);
    }
    const int lost = vm_take_down(v);
    return rc ? rc : lost && v->status == VM_EXIT_OK ? VM_EXIT_FAILED : v->status;
}
