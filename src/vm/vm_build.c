/* SPDX-License-Identifier: Apache-2.0 */
/* vm_build.c - from a configuration to a machine that can be reset, step by step, and back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opener.h"
#include "display/vnc.h"
#include "vm/api.h"
#include "vm/devices.h"
#include "vm/internal.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

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

static int open_loop(struct vm *v, struct error *err)
{
    if (!(v->loop = loop_new()))
        return error_set(err, errno, "cannot create the I/O loop: %s", strerror(errno));
    loop_kick_init(&v->requested, v->loop, vm_serve_request);
    return 0;
}

static int open_serial(struct vm *v, struct error *err)
{
    for (u32 i = 0; i < v->config->nserial && i < MACHINE_SERIAL_PORTS; i++) {
        v->serial[i] = chardev_open(v->config->serial[i], v->loop, err);
        if (!v->serial[i])
            return error_about(err, "serial[%u]", i);
        chardev_on_quit(v->serial[i], vm_on_quit, v);
    }
    return 0;
}

#define VGA_BIOS "/usr/share/seabios/vgabios-stdvga.bin" /* for SeaBIOS to run */

static enum machine_kind kind_of(const struct vm_config *c)
{
    static const enum machine_kind kinds[] = { [CONFIG_MACHINE_PC] = MACHINE_PC, [CONFIG_MACHINE_MICRO] = MACHINE_MICRO };
    return kinds[c->machine];
}

static bool has_vga(const struct vm_config *c)
{
    return c->vga == CONFIG_VGA_STD || (c->vga == CONFIG_VGA_AUTO && (c->display || !c->kernel) && machine_has_screen(kind_of(c)));
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

/* ---- the steps, in their order ------------------------------------------ */

static int choose_engine(struct vm *v, struct error *err)
{
    const struct vm_config *c = v->config;
    int rc;

    if (!(v->engine = engine_choose(engine_name(c), &v->engine_why, err)))
        return -ENODEV;
    if ((rc = build_cpuid(v, err)) || (rc = trace_open(&v->trace, v->run, err)) ||
        (rc = stats_open(&v->stats, v->run, c->cpus, trace_machine(v->trace), err)))
        return rc;
    if (trace_engine(v->trace) && !v->caps.trace_exec)
        return error_set(err, EINVAL, "the %s engine cannot trace instructions, exceptions and translations; the engine soft can",
                         v->engine->name);
    return 0;
}

static int open_kernel(struct vm *v, struct error *err)
{
    const struct vm_config *c = v->config;
    const struct boot_params bp = { c->kernel, c->initrd, c->append };
    const struct firmware_params fp = { c->firmware ? c->firmware : "bios", c->firmware_vars };

    if (c->kernel ? !(v->boot = boot_open(&bp, err)) : !(v->firmware = firmware_open(&fp, err)))
        return -EINVAL;
    return 0;
}

static int open_devices(struct vm *v, struct error *err)
{
    const struct devices_config dc = {
        .config = v->config, .image_store = v->run->image_store, .mac = v->mac, .loop = v->loop, .stop = vm_disk_stop,
        .go = vm_disk_go, .act = vm_act, .clock = vm_clock, .ctx = v,
    };
    return devices_open(&v->devices, &dc, err);
}

static int open_screen(struct vm *v, struct error *err)
{
    const struct vm_config *c = v->config;
    const struct vnc_params vp = { c->display ? c->display + strlen("vnc:") : NULL, c->display_password, c->display_tls_creds };

    if (!machine_has_screen(kind_of(c)))
        return 0;
    if (!(v->display = display_new(v->loop, err)) || !(v->input = input_new()))
        return err->text[0] ? -ENOMEM : error_set(err, ENOMEM, "no memory for the screen");
    if (c->display && !(v->vnc = vnc_open(&vp, c->name ? c->name : "Lodge", v->display, v->input, v->loop, err)))
        return error_about(err, "display");
    if (v->vnc)
        log_info("the screen is at vnc:%s", vnc_address(v->vnc));
    return 0;
}

static int build_machine(struct vm *v, struct error *err)
{
    const struct vm_config *c = v->config;
    struct stat rom;
    struct machine_config mc = {
        .kind = kind_of(c),
        .ram = c->memory, .cpuid = &v->cpuid, .loop = v->loop, .kernel_irqchip = v->caps.irqchip,
        .firmware = v->firmware, .boot = boot_order(c),
        .vga = has_vga(c), .vga_rom = has_vga(c) && !opener_stat(OPENER_ROM, VGA_BIOS, 0, &rom) ? VGA_BIOS : NULL,
        .boot_console = !c->display && c->nserial && strcmp(c->serial[0], "null"),
        .display = v->display, .input = v->input,
        .event = vm_on_machine_event, .ctx = v, .trace = stats_machine(v->stats, trace_machine(v->trace)),
    };

    memcpy(mc.serial, v->serial, sizeof mc.serial);
    devices_machine(v->devices, &mc);
    if (!(v->machine = machine_new(&mc, err)))
        return -EINVAL;
    return devices_plug(v->devices, v->machine, err);
}

/* The process that makes those in which the guest's programs run. Where it does not start, they are translated. */
static void start_direct(struct vm *v, const struct memory *m)
{
    char *const argv[] = { (char *)"lodge", (char *)"directd", NULL };
    int pair[2];

    v->direct = 0;
    v->direct_child = (struct child){ .says = -1 };
    if (v->config->direct == CONFIG_DIRECT_OFF || v->engine != &engine_soft ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return;
    if (child_start(&v->direct_child, argv, (int[]){ pair[1], m->fd }, 2)) {
        close(pair[0]);
        log_info("programs are translated: the process that would let them run directly did not start");
    } else {
        v->direct = pair[0];
        (void)!child_listen(&v->direct_child, v->loop, "direct");
    }
    close(pair[1]);
}

static int make_processors(struct vm *v, struct error *err)
{
    const struct vm_config *c = v->config;
    start_direct(v, machine_memory(v->machine));
    const struct engine_config ec = {
        .memory = machine_memory(v->machine),
        .cpuid = &v->cpuid,
        .ops = &machine_engine_ops,
        .machine = v->machine,
        .cpus = c->cpus,
        .trace = trace_engine(v->trace),
        .code_cache = config_code_cache(c),
        .translate_after = c->translate_after,
        .count = v->stats != NULL,
        .direct = v->direct,
        .direct_always = c->direct == CONFIG_DIRECT_ON,
    };
    memory_complete(ec.memory);
    int rc = v->engine->vm_create(&v->engine_vm, &ec, err);

    if (rc) {
        v->engine_vm = NULL;
        return rc;
    }
    const struct vcpus_config vc = { v->engine, v->engine_vm, c->cpus, vm_on_vcpu_stop, v, v->loop };
    if ((rc = vcpus_new(&v->vcpus, &vc, err)))
        return rc;
    for (u32 i = 0; i < c->cpus; i++)
        v->engine_vcpus[i] = vcpus_engine(v->vcpus, i);
    return machine_connect(v->machine, v->engine, v->engine_vm, v->engine_vcpus, err);
}

static int open_api(struct vm *v, struct error *err)
{
    if (!v->config->api_socket || (v->api = api_open(v, v->config->api_socket, err)))
        return 0;
    if (!v->run->api_optional)
        return -EINVAL;
    log_warn("%s; the machine goes without its control socket", err->text);
    err->text[0] = 0;
    return 0;
}

int vm_build(struct vm *v, struct error *err)
{
    static const struct {
        int (*step)(struct vm *v, struct error *err);
        const char *then; /* the phase that is over with it; or NULL */
    } steps[] = {
        { choose_engine, NULL }, { open_kernel, NULL }, { open_loop, NULL }, { open_serial, "engine, CPU, kernel found" },
        { open_devices, "disks and networks opened" }, { open_screen, NULL }, { build_machine, "machine built" },
        { make_processors, "processors made" }, { open_api, NULL },
    };
    int rc = vm_check_devices(v->config, err);

    for (u32 i = 0; i < ARRAY_SIZE(steps) && !rc; i++) {
        rc = steps[i].step(v, err);
        if (!rc && steps[i].then)
            timing_phase(v, steps[i].then);
    }
    return rc;
}

/* ---- and back ------------------------------------------------------------ */

int vm_take_down(struct vm *v)
{
    api_close(v->api);
    if (v->vcpus)
        vcpus_pause(v->vcpus);
    devices_quiet(v->devices); /* what ends now may still interrupt a processor */
    vcpus_free(v->vcpus);
    machine_free(v->machine);
    const int rc = devices_close(v->devices);
    if (v->engine_vm)
        v->engine->vm_destroy(v->engine_vm);
    if (v->direct)
        close(v->direct); /* this ends the process */
    v->direct = 0;
    child_end(&v->direct_child);
    vnc_close(v->vnc);
    display_free(v->display);
    input_free(v->input);
    for (u32 i = 0; i < MACHINE_SERIAL_PORTS; i++)
        if (v->serial[i])
            chardev_close(v->serial[i]);
    if (v->loop)
        loop_free(v->loop);
    boot_close(v->boot);
    firmware_close(v->firmware);
    trace_close(v->trace);
    stats_close(v->stats);
    /* It may be booted again. */
    v->api = NULL, v->vcpus = NULL, v->devices = NULL, v->machine = NULL, v->engine_vm = NULL, v->vnc = NULL, v->display = NULL;
    v->loop = NULL, v->input = NULL, v->boot = NULL, v->firmware = NULL, v->trace = NULL, v->stats = NULL;
    memset(v->serial, 0, sizeof v->serial);
    memset(v->engine_vcpus, 0, sizeof v->engine_vcpus);
    return rc;
}
