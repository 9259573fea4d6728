/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - struct vm, for vm.c, snapshot.c and the tests of saving and restoring. */
#ifndef LODGE_VM_INTERNAL_H
#define LODGE_VM_INTERNAL_H

#include <pthread.h>
#include <signal.h>

#include "base/loop.h"
#include "boot/boot.h"
#include "chardev/chardev.h"
#include "config/config.h"
#include "cpu/cpuid.h"
#include "display/display.h"
#include "display/input.h"
#include "engine/engine.h"
#include "engine/vcpu.h"
#include "machine/machine.h"
#include "vm/run.h"
#include "vm/stats.h"
#include "vm/trace.h"

#define SERIAL_PATIENCE_NS 2000000000ull
#define ACT_QUIET_NS 10000000000ull

enum vm_request {
    REQUEST_NONE,
    REQUEST_POWER_OFF,
    REQUEST_RESET,
    REQUEST_INIT,
    REQUEST_PAUSE,        /* a device wants it */
    REQUEST_GUEST_FAILED, /* the guest has said so itself */
    REQUEST_EXIT,
    REQUEST_TRIPLE_FAULT,
    REQUEST_FAILED,
    REQUEST_QUIT,
    REQUEST_SIGNAL,
};

struct vm {
    const struct vm_config *config;
    const struct vm_run *run;
    const char *restore; /* directory of the snapshot it comes from, or NULL; set before vm_build */
    const struct engine_ops *engine;
    struct error engine_why; /* the choice, in a sentence */
    struct engine_caps caps;
    struct cpuid_table cpuid;
    u8 mac[CONFIG_MAX_NETS][6]; /* that the guest knows its cards by; 0: as they come */
    struct trace *trace;
    struct stats *stats; /* NULL: not asked for */
    struct boot *boot;         /* NULL: a firmware starts */
    struct firmware *firmware; /* or NULL */
    struct loop *loop;
    struct devices *devices;
    struct vm_phase { /* --timing */
        const char *name;
        u64 at; /* clock_ns() when it was over */
    } phase[16];
    u32 nphases;
    u32 stopped; /* disks that wait, and `paused`; loop thread */
    bool paused; /* by the user */
    u64 stopped_since, stopped_for; /* clock_ns() at which it stopped, 0: it runs; ns it was stopped before */
    u64 act_said; /* clock_ns() at which a device's deed was last told; 0: never. Any thread */
    struct chardev *serial[MACHINE_SERIAL_PORTS];
    struct display *display; /* NULL: a machine without a screen */
    struct input *input;
    struct vnc *vnc;
    struct api *api;
    struct shot *shots; /* api_screen.c's */
    struct media *media; /* api_media.c's */
    struct machine *machine;
    struct engine_vm *engine_vm;
    struct vcpus *vcpus;
    struct engine_vcpu *engine_vcpus[MACHINE_MAX_CPUS];

    struct loop_fd signals;
    sigset_t old_mask;
    bool masked;

    struct loop_kick requested; /* somebody wants something: serve it */
    pthread_mutex_t lock; /* the following */
    enum vm_request request;
    int request_status;
    u32 request_vcpu;
    struct error request_error;
    bool ended;

    int status; /* loop thread */
    bool left;  /* the user has ended it */
};

struct vm *vm_new(const struct vm_config *config, const struct vm_run *run);
/* A phase of the start is over, for --timing. */
void timing_phase(struct vm *v, const char *name);
/* Everything up to the machine's first reset; on failure vm_take_down still has to be called. */
int must_check vm_build(struct vm *v, struct error *err);
/* The user's wishes, loop thread. -EALREADY: it is (not) paused. */
int vm_pause(struct vm *v);
int vm_resume(struct vm *v);
void vm_ask(struct vm *v, enum machine_event what); /* power-off, reset */
/* -errno: a disk could not be written out, which was said. */
int vm_take_down(struct vm *v);

#endif
