/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - struct vm; inside vm/, and for the tests of saving and restoring. */
#ifndef LODGE_VM_INTERNAL_H
#define LODGE_VM_INTERNAL_H

#include <pthread.h>

#include "base/child.h"
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
#include "vm/vm.h"

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
    const char *restore; /* directory of the snapshot it comes from, or NULL; set before vm_boot */
    enum vm_state state; /* vm.c's `enter` alone changes it; any thread reads it */
    const struct engine_ops *engine;
    struct error engine_why; /* the choice, in a sentence */
    struct engine_caps caps;
    struct cpuid_table cpuid;
    u8 mac[CONFIG_MAX_NETS][6]; /* that the guest knows its cards by; 0: as they come */
    struct trace *trace;
    struct stats *stats; /* NULL: not asked for */
    struct child direct_child; /* makes the processes in which the guest's programs run */
    int direct;                /* its socket; 0: there is none */
    struct boot *boot;         /* NULL: a firmware starts */
    struct firmware *firmware; /* or NULL */
    struct loop *loop; /* this and all below are the machine's: NULL if there is none */
    struct devices *devices;
    struct vm_phase { /* of the start, for a report */
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

/* A phase of the start is over. */
void timing_phase(struct vm *v, const char *name);

/* vm_build.c: all that a machine is made of, up to its first reset; on failure vm_take_down still has to be called. */
int must_check vm_build(struct vm *v, struct error *err);
/* -errno: a disk could not be written out, which was said. */
int vm_take_down(struct vm *v);

/* vm.c, for those who call it back. ctx: struct vm. Any thread: */
void vm_on_machine_event(void *ctx, enum machine_event what, int status);
void vm_on_vcpu_stop(void *ctx, u32 vcpu, enum run_result why, const struct error *err);
void vm_on_quit(void *ctx);
void vm_act(void *ctx, enum device_action what, const char *why);
u64 vm_clock(void *ctx);
/* Loop thread: */
void vm_serve_request(struct loop_kick *requested);
void vm_disk_stop(void *ctx, const char *why);
void vm_disk_go(void *ctx);

/* The user's wishes, loop thread. -EALREADY: it is (not) paused. -EINVAL: not in the state it is in. */
int vm_pause(struct vm *v);
int vm_resume(struct vm *v);
void vm_ask(struct vm *v, enum machine_event what); /* power-off, reset */

#endif
