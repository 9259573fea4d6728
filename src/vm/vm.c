/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.c - building a machine from its configuration, and its life: start, reset, power-off, the ways it can end.
 *
 * The calling thread becomes the I/O loop and is the only one that pauses, resets and ends the machine.  What a
 * vCPU or a device wants of it goes through `request` and a posted call.
 */
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/patience.h"
#include "base/signals.h"
#include "display/vnc.h"
#include "vm/api.h"
#include "vm/devices.h"
#include "vm/internal.h"
#include "vm/snapshot.h"

/* ---- requests ----------------------------------------------------------- */

static void serve(struct loop_kick *k);

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
    pthread_mutex_unlock(&v->lock);
    if (!first)
        return;
    if (v->vcpus)
        vcpus_stop_soon(v->vcpus);
    loop_kick(&v->requested); /* which needs no memory: a host that has none left sees the machine end in order */
}

static void on_machine_event(void *ctx, enum machine_event what, int status)
{
    static const enum vm_request map[] = {
        [MACHINE_POWER_OFF] = REQUEST_POWER_OFF, [MACHINE_RESET] = REQUEST_RESET, [MACHINE_INIT] = REQUEST_INIT,
        [MACHINE_DEBUG_EXIT] = REQUEST_EXIT,
    };
    request(ctx, map[what], status, 0, NULL);
}

static void on_vcpu_stop(void *ctx, u32 vcpu, enum run_result why, const struct error *err)
{
    struct vm *v = ctx;
    /* With a firmware it is a reset, as systems know that leave protected mode by it; unless the user wants to see it. */
    if (why == RUN_SHUTDOWN && !v->config->no_reboot && machine_shutdown(v->machine))
        return;
    request(ctx, why == RUN_SHUTDOWN ? REQUEST_TRIPLE_FAULT : REQUEST_FAILED, 0, vcpu, err);
}

static void on_quit(void *ctx)
{
    request(ctx, REQUEST_QUIT, 0, 0, NULL);
}

static void on_signal(struct loop_fd *w, u32 events)
{
    struct vm *v = container_of(w, struct vm, signals);
    struct signalfd_siginfo si;
    (void)events;
    if (read(w->fd, &si, sizeof si) == sizeof si)
        request(v, REQUEST_SIGNAL, (int)si.ssi_signo, 0, NULL);
}

static void end(struct vm *v, int status)
{
    v->status = status;
    pthread_mutex_lock(&v->lock);
    v->ended = true;
    pthread_mutex_unlock(&v->lock);
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

static void stop(struct vm *v)
{
    if (v->stopped++)
        return;
    vcpus_pause(v->vcpus);
    __atomic_store_n(&v->stopped_since, clock_ns(), __ATOMIC_RELAXED);
}

static void stop_no_more(struct vm *v)
{
    if (--v->stopped)
        return;
    __atomic_store_n(&v->stopped_for, v->stopped_for + clock_ns() - v->stopped_since, __ATOMIC_RELAXED);
    __atomic_store_n(&v->stopped_since, 0, __ATOMIC_RELAXED);
    pthread_mutex_lock(&v->lock);
    const bool wanted = v->request == REQUEST_NONE && !v->ended;
    pthread_mutex_unlock(&v->lock);
    if (wanted)
        vcpus_resume(v->vcpus);
}

static void on_disk_stop(void *ctx, const char *why)
{
    log_error("the machine waits: %s", why);
    stop(ctx);
}

static void on_disk_go(void *ctx)
{
    struct vm *v = ctx;
    if (v->stopped == 1)
        log_error("the machine goes on");
    stop_no_more(v);
}

/* What a device wants of the machine. */
static void on_device_act(void *ctx, enum device_action what, const char *why)
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

static u64 vm_clock(void *ctx)
{
    const struct vm *v = ctx;
    const u64 since = __atomic_load_n(&v->stopped_since, __ATOMIC_RELAXED);
    return (since ? since : clock_ns()) - __atomic_load_n(&v->stopped_for, __ATOMIC_RELAXED);
}

int vm_pause(struct vm *v)
{
    if (v->paused)
        return -EALREADY;
    v->paused = true;
    stop(v);
    return 0;
}

int vm_resume(struct vm *v)
{
    if (!v->paused)
        return -EALREADY;
    v->paused = false;
    stop_no_more(v);
    return 0;
}

void vm_ask(struct vm *v, enum machine_event what)
{
    on_machine_event(v, what, 0);
}

static void reboot(struct vm *v)
{
    struct error err = { "" };
    if (v->config->no_reboot) {
        end(v, VM_EXIT_OK);
        return;
    }
    log_debug("the guest asked for a reset");
    if (machine_reset(v->machine, v->boot, &err)) {
        log_error("the machine could not be reset: %s", err.text);
        end(v, VM_EXIT_FAILED);
        return;
    }
    go_on(v);
}

/* On the loop's thread. */
static void serve(struct loop_kick *k)
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
    case REQUEST_POWER_OFF: end(v, VM_EXIT_OK); break;
    case REQUEST_QUIT: end(v, VM_EXIT_OK); break;
    case REQUEST_EXIT: end(v, status); break;
    case REQUEST_SIGNAL:
        if (status != SIGTERM && status != SIGINT && status != SIGHUP && status != SIGQUIT) /* a strange way to ask for it */
            log_error("signal %d (%s) ends the machine", status, strsignal(status));
        end(v, 128 + status);
        break;
    case REQUEST_RESET: reboot(v); break;
    case REQUEST_PAUSE:
        (void)vm_pause(v); /* it may be so already */
        go_on(v);
        break;
    case REQUEST_GUEST_FAILED: end(v, VM_EXIT_FAILED); break;
    case REQUEST_INIT:
        if (machine_init_cpus(v->machine)) {
            log_error("the machine could not be reset: the %s engine refuses the processors' state", v->engine->name);
            end(v, VM_EXIT_FAILED);
        } else {
            go_on(v);
        }
        break;
    case REQUEST_TRIPLE_FAULT:
        say_triple_fault(v, vcpu);
        end(v, VM_EXIT_FAILED);
        break;
    case REQUEST_FAILED:
        log_error("CPU %u stopped: %s", vcpu, why.text[0] ? why.text : "the engine failed");
        end(v, VM_EXIT_FAILED);
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

/* ---- building ----------------------------------------------------------- */

/* "MODEL,+x,-y" as the model and the rest. */
static int build_cpuid(struct vm *v, struct error *err)
{
    const char *cpu = v->config->cpu;
    size_t n = strcspn(cpu, ",");
    char *model = strndup(cpu, n);
    int rc = v->engine->probe(&v->caps, err);

    if (!model)
        rc = error_set(err, ENOMEM, "out of memory");
    /* "+x,-y" alone is about the default model */
    bool only_features = n && (cpu[0] == '+' || cpu[0] == '-');
    struct cpuid_request rq = {
        .model = only_features || !n ? NULL : model, .features = only_features ? cpu : cpu[n] ? cpu + n + 1 : NULL,
        .cpus = v->config->cpus, .supported = &v->caps.supported,
    };
    if (!rc)
        rc = v->restore ? snapshot_config(v->restore, v->config, &v->caps.supported, &v->cpuid, v->mac, err)
                        : cpuid_build(&v->cpuid, &rq, err);
    free(model);
    return rc;
}

static int open_serial(struct vm *v, struct error *err)
{
    for (u32 i = 0; i < v->config->nserial && i < MACHINE_SERIAL_PORTS; i++) {
        v->serial[i] = chardev_open(v->config->serial[i], v->loop, err);
        if (!v->serial[i])
            return error_about(err, "serial[%u]", i);
        chardev_on_quit(v->serial[i], on_quit, v);
    }
    return 0;
}

static int watch_signals(struct vm *v, struct error *err)
{
    sigset_t set;
    signals_of_end(&set);
    pthread_sigmask(SIG_BLOCK, &set, &v->old_mask);
    v->masked = true;
    v->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    v->signals.events = EPOLLIN;
    v->signals.ready = on_signal;
    if (v->signals.fd < 0)
        return error_set(err, errno, "cannot watch for signals: %s", strerror(errno));
    return loop_fd_add(v->loop, &v->signals);
}

#define VGA_BIOS "/usr/share/seabios/vgabios-stdvga.bin" /* for SeaBIOS to run */

static bool has_vga(const struct vm_config *c)
{
    return c->vga == CONFIG_VGA_STD || (c->vga == CONFIG_VGA_AUTO && (c->display || !c->kernel) && c->machine == CONFIG_MACHINE_PC);
}

static const char *engine_name(const struct vm_config *c)
{
    static const char *const names[] = { [CONFIG_ENGINE_AUTO] = "auto", [CONFIG_ENGINE_KVM] = "kvm", [CONFIG_ENGINE_SOFT] = "soft" };
    return names[c->engine];
}

static struct machine_boot_order boot_order(const struct vm_config *c)
{
    static const enum machine_boot kinds[] = { [CONFIG_BOOT_DISK] = MACHINE_BOOT_DISK, [CONFIG_BOOT_CDROM] = MACHINE_BOOT_CDROM,
                                               [CONFIG_BOOT_FLOPPY] = MACHINE_BOOT_FLOPPY, [CONFIG_BOOT_NET] = MACHINE_BOOT_NET };
    struct machine_boot_order o = { .n = c->nboot, .menu_ms = (u16)(c->boot_menu * 1000) };

    for (u32 i = 0; i < c->nboot; i++)
        o.what[i] = kinds[c->boot[i]];
    return o;
}

int vm_build(struct vm *v, struct error *err)
{
    const struct vm_config *c = v->config;
    int rc;

    if ((rc = vm_check_devices(c, err)))
        return rc;
    if (!(v->engine = engine_choose(engine_name(c), &v->engine_why, err)))
        return -ENODEV;
    if ((rc = build_cpuid(v, err)) || (rc = trace_open(&v->trace, v->run, err)) ||
        (rc = stats_open(&v->stats, v->run, c->cpus, trace_machine(v->trace), err)))
        return rc;
    if (trace_engine(v->trace) && !v->caps.trace_exec)
        return error_set(err, EINVAL, "the %s engine cannot trace instructions, exceptions and translations; the engine soft can",
                         v->engine->name);

    struct boot_params bp = { c->kernel, c->initrd, c->append };
    struct firmware_params fp = { c->firmware ? c->firmware : "bios", c->firmware_vars };
    if (c->kernel && !(v->boot = boot_open(&bp, err)))
        return -EINVAL;
    if (!c->kernel && !(v->firmware = firmware_open(&fp, err)))
        return -EINVAL;
    if (!(v->loop = loop_new()))
        return error_set(err, errno, "cannot create the I/O loop: %s", strerror(errno));
    loop_kick_init(&v->requested, v->loop, serve);
    if ((rc = watch_signals(v, err)) || (rc = open_serial(v, err)))
        return rc;
    timing_phase(v, "engine, CPU, kernel found");
    struct devices_config dc = { .config = c, .image_store = v->run->image_store, .mac = v->mac, .loop = v->loop, .stop = on_disk_stop, .go = on_disk_go,
                                 .act = on_device_act, .clock = vm_clock, .ctx = v };
    if ((rc = devices_open(&v->devices, &dc, err)))
        return rc;
    timing_phase(v, "disks and networks opened");

    static const enum machine_kind kinds[] = { [CONFIG_MACHINE_PC] = MACHINE_PC, [CONFIG_MACHINE_MICRO] = MACHINE_MICRO };
    struct machine_config mc = {
        .kind = kinds[c->machine],
        .ram = c->memory, .cpuid = &v->cpuid, .loop = v->loop, .kernel_irqchip = v->caps.irqchip,
        .firmware = v->firmware, .boot = boot_order(c),
        .vga = has_vga(c), .vga_rom = has_vga(c) && !access(VGA_BIOS, R_OK) ? VGA_BIOS : NULL,
        .boot_console = !c->display && c->nserial && strcmp(c->serial[0], "null"),
        .event = on_machine_event, .ctx = v, .trace = stats_machine(v->stats, trace_machine(v->trace)),
    };
    memcpy(mc.serial, v->serial, sizeof mc.serial);
    if (c->machine == CONFIG_MACHINE_PC && (!(v->display = display_new(v->loop, err)) || !(v->input = input_new())))
        return err->text[0] ? -ENOMEM : error_set(err, ENOMEM, "no memory for the screen");
    mc.display = v->display;
    mc.input = v->input;
    devices_machine(v->devices, &mc);
    const struct vnc_params vp = { c->display ? c->display + strlen("vnc:") : NULL, c->display_password, c->display_tls_creds };
    if (c->display && !(v->vnc = vnc_open(&vp, c->name ? c->name : "Lodge", v->display, v->input, v->loop, err)))
        return error_about(err, "display");
    if (v->vnc)
        log_info("the screen is at vnc:%s", vnc_address(v->vnc));
    if (!(v->machine = machine_new(&mc, err)))
        return -EINVAL;
    if ((rc = devices_plug(v->devices, v->machine, err)))
        return rc;
    timing_phase(v, "machine built");
    struct engine_config ec = {
        .memory = machine_memory(v->machine),
        .cpuid = &v->cpuid,
        .ops = &machine_engine_ops,
        .machine = v->machine,
        .cpus = c->cpus,
        .trace = trace_engine(v->trace),
        .code_cache = config_code_cache(c),
        .translate_after = c->translate_after,
        .count = v->stats != NULL,
    };
    if ((rc = v->engine->vm_create(&v->engine_vm, &ec, err))) {
        v->engine_vm = NULL;
        return rc;
    }
    struct vcpus_config vc = { v->engine, v->engine_vm, c->cpus, on_vcpu_stop, v, v->loop };
    if ((rc = vcpus_new(&v->vcpus, &vc, err)))
        return rc;
    for (u32 i = 0; i < c->cpus; i++)
        v->engine_vcpus[i] = vcpus_engine(v->vcpus, i);
    rc = machine_connect(v->machine, v->engine, v->engine_vm, v->engine_vcpus, err);
    timing_phase(v, "processors made");
    if (!rc && c->api_socket && !(v->api = api_open(v, c->api_socket, err))) {
        if (!v->run->api_optional)
            return -EINVAL;
        log_warn("%s; the machine goes without its control socket", err->text);
        err->text[0] = 0;
    }
    return rc;
}

int vm_take_down(struct vm *v)
{
    api_close(v->api);
    if (v->vcpus)
        vcpus_pause(v->vcpus);
    devices_quiet(v->devices); /* what ends now may still interrupt a processor */
    vcpus_free(v->vcpus);
    machine_free(v->machine);
    int rc = devices_close(v->devices);
    if (v->engine_vm)
        v->engine->vm_destroy(v->engine_vm);
    vnc_close(v->vnc);
    display_free(v->display);
    input_free(v->input);
    for (u32 i = 0; i < MACHINE_SERIAL_PORTS; i++)
        if (v->serial[i])
            chardev_close(v->serial[i]);
    if (v->signals.fd > 0) {
        loop_fd_remove(v->loop, &v->signals);
        close(v->signals.fd);
    }
    if (v->loop)
        loop_free(v->loop);
    boot_close(v->boot);
    firmware_close(v->firmware);
    trace_close(v->trace);
    stats_close(v->stats);
    if (v->masked)
        pthread_sigmask(SIG_SETMASK, &v->old_mask, NULL);
    pthread_mutex_destroy(&v->lock);
    free(v);
    return rc;
}

struct vm *vm_new(const struct vm_config *config, const struct vm_run *run)
{
    struct vm *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->config = config;
    v->run = run;
    v->status = VM_EXIT_FAILED;
    pthread_mutex_init(&v->lock, NULL);
    return v;
}

int vm_run(const struct vm_config *config, const struct vm_run *run, struct error *err)
{
    struct vm *v = vm_new(config, run);
    if (!v)
        return error_set(err, ENOMEM, "out of memory");
    patience_until(&patience_signals); /* nobody reads them yet */
    int rc = vm_build(v, err);
    if (!rc)
        rc = machine_reset(v->machine, v->boot, err);
    patience_until(NULL);
    if (!rc) {
        /* Only now: a machine that cannot be started says one line, and that is why it cannot. */
        if (strcmp(engine_name(config), v->engine->name))
            log_info("engine %s: %s", v->engine->name, v->engine_why.text);
        log_debug("%s by %s, %u CPUs, %llu MiB", config->kernel ? config->kernel : config->firmware ? config->firmware : "bios",
                  v->boot ? boot_protocol(v->boot) : "firmware", config->cpus, (unsigned long long)(config->memory >> 20));
        timing_phase(v, "kernel loaded");
        chardev_begin();
        vcpus_resume(v->vcpus);
        rc = loop_run(v->loop);
        if (rc)
            error_set(err, -rc, "the I/O loop failed: %s", strerror(-rc));
        else
            rc = v->status;
    }
    /* A reader that takes nothing more must not keep us: not at all when the user left, a moment otherwise. */
    if (v->machine)
        machine_drain_serial(v->machine, rc < 0 || v->left ? 0 : SERIAL_PATIENCE_NS);
    if (rc >= 0)
        stats_print(v->stats, v->engine, v->engine_vm);
    if (rc >= 0)
        timing_print(v);
    const int lost = vm_take_down(v);
    return lost && rc == VM_EXIT_OK ? VM_EXIT_FAILED : rc;
}
