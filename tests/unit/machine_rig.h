/* SPDX-License-Identifier: Apache-2.0 */
/* machine_rig.h - a machine of two processors with an engine that runs nothing. Include it in one .c of a test program. */
#ifndef LODGE_TEST_MACHINE_RIG_H
#define LODGE_TEST_MACHINE_RIG_H

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/testdev.h"
#include "machine/machine.h"
#include "test.h"

struct engine_vcpu {
    struct cpu_state state;
    bool intr;
    unsigned nmi, init, sipi;
};

static int get_state(struct engine_vcpu *v, struct cpu_state *s)
{
    *s = v->state;
    return 0;
}

static int set_state(struct engine_vcpu *v, const struct cpu_state *s)
{
    v->state = *s;
    return 0;
}

static void signal_vcpu(struct engine_vcpu *v, enum engine_signal sig, u32 arg)
{
    switch (sig) {
    case SIGNAL_INTR: v->intr = arg; break;
    case SIGNAL_NMI: v->nmi++; break;
    case SIGNAL_INIT: v->init++; break;
    case SIGNAL_SIPI: v->sipi = arg; break;
    }
}

static u64 tsc_offset(struct engine_vcpu *v) { return 0; }

static const struct engine_ops fake = {
    .name = "fake", .get_state = get_state, .set_state = set_state, .signal = signal_vcpu, .tsc_offset = tsc_offset
};

#ifndef RIG_VGA /* a graphics adapter in slot 2 */
#define RIG_VGA false
#endif

struct rig {
    struct loop *loop;
    struct cpuid_table cpuid;
    struct machine *m;
    struct device_env env;
    struct device testdev;
    struct engine_vcpu *vcpu[2];
    struct boot *boot;
    char path[64];
    int fd, events[4], status;
};

static void on_event(void *ctx, enum machine_event what, int status)
{
    struct rig *r = ctx;
    r->events[what]++;
    r->status = status;
}

static int open_memfd(const void *data, size_t len, char *path, size_t size)
{
    int fd = memfd_create("kernel", 0);
    snprintf(path, size, "/proc/self/fd/%d", fd);
    CHECK_EQ(write(fd, data, len), len);
    return fd;
}

static const struct engine_machine *ops = &machine_engine_ops;
static inline u64 in(struct rig *r, u16 port, unsigned size) { return ops->port_read(r->m, port, size); }
static inline void out(struct rig *r, u16 port, unsigned size, u64 value) { ops->port_write(r->m, port, size, value); }

/* plug: called before the reset; or NULL. fw: it starts instead of a kernel; or NULL. */
static inline void rig_new_firmware(struct rig *r, enum machine_kind kind, struct firmware *fw, void (*plug)(struct rig *r))
{
    static const u32 kernel[16] = { 0x1badb002, 0x10000, -(0x1badb002u + 0x10000), 0x100000, 0x100000, 0, 0, 0x100020 };
    struct error err = { "" };
    memset(r, 0, sizeof *r);
    r->testdev = (struct device){ .class = &testdev_class, .env = &r->env };
    r->loop = loop_new();
    r->cpuid = (struct cpuid_table){ .cpus = 2, .tsc_khz = 2000000, .phys_bits = 40, .lin_bits = 48 };
    struct machine_config c = {
        .kind = kind, .ram = MiB(8), .cpuid = &r->cpuid, .loop = r->loop, .event = on_event, .ctx = r,
        .vga = RIG_VGA && kind == MACHINE_PC, .firmware = fw, .boot = { .n = 2, .what = { MACHINE_BOOT_CDROM, MACHINE_BOOT_DISK } },
    };
    r->m = machine_new(&c, &err);
    for (int i = 0; i < 2; i++)
        r->vcpu[i] = aligned_alloc(64, (sizeof *r->vcpu[i] + 63) & ~63ul), memset(r->vcpu[i], 0, sizeof *r->vcpu[i]);
    machine_device_env(r->m, &r->env);
    CHECK_EQ(testdev_class.create(&r->testdev, &r->env, &err), 0);
    CHECK_EQ(machine_add_device(r->m, &r->testdev, &err), 0);
    if (plug)
        plug(r);
    CHECK_EQ(machine_connect(r->m, &fake, NULL, r->vcpu, &err), 0);
    r->fd = open_memfd(kernel, sizeof kernel, r->path, sizeof r->path);
    r->boot = fw ? NULL : boot_open(&(struct boot_params){ r->path, NULL, NULL }, &err);
    CHECK_EQ(machine_reset(r->m, r->boot, &err), 0);
}

static inline void rig_new_kind(struct rig *r, enum machine_kind kind, void (*plug)(struct rig *r))
{
    rig_new_firmware(r, kind, NULL, plug);
}

static inline void rig_free(struct rig *r)
{
    machine_free(r->m);
    testdev_class.unplug(&r->testdev);
    boot_close(r->boot);
    close(r->fd);
    for (int i = 0; i < 2; i++)
        free(r->vcpu[i]);
    loop_free(r->loop);
}

static inline void rig_new(struct rig *r)
{
    rig_new_kind(r, MACHINE_PC, NULL);
}

#endif
