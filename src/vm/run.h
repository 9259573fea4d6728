/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - what is about one run and not about the machine: what is traced and counted, and what is said on the way.
 * Texts belong to whoever filled it and outlive the machine.
 */
#ifndef LODGE_VM_RUN_H
#define LODGE_VM_RUN_H

#include "base/base.h"

enum { VM_MAX_TRACE = 8 };

enum vm_trace_what { TRACE_EXEC, TRACE_EXCEPTIONS, TRACE_IO, TRACE_MMIO, TRACE_JIT, TRACE_FIRMWARE };
enum vm_stats { STATS_NONE, STATS_TEXT, STATS_JSON };

struct vm_run {
    u32 ntrace;
    struct vm_trace {
        enum vm_trace_what what;
        const char *file; /* NULL: standard error */
    } trace[VM_MAX_TRACE];
    bool perf_map;           /* /tmp/perf-PID.map is written */
    const char *system_map;  /* the guest kernel's symbols for it, or NULL */
    bool timing;             /* at the end, how long each phase of the start took */
    u64 started;             /* clock_ns() when the command began */
    enum vm_stats stats;
    const char *stats_file;  /* NULL: standard error */
    bool quiet;              /* nothing on standard error but errors */
    int pid;                 /* the process's number for those outside, if it has another one in a namespace of its own; or 0 */
    bool api_optional;       /* the machine goes without its control socket if that cannot be had */
    const char *image_store; /* or NULL: the folder of the user's images, which disks may have as backing files */
};

#endif
