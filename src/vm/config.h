/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - what the user asked for, as parsed and checked in form by the command line; nothing is opened yet.
 *
 * Strings belong to whoever filled it (argv lives as long as the process); NULL or 0 where an option was not
 * given, unless said otherwise.  config_defaults() first, then the options.
 */
#ifndef LODGE_VM_CONFIG_H
#define LODGE_VM_CONFIG_H

#include "base/base.h"
#include "machine/machine.h"

enum { CONFIG_MAX_CPUS = 64, CONFIG_MAX_SERIAL = 4, CONFIG_MAX_TRACE = 8 };

#define CONFIG_MIN_MEMORY MiB(1)
#define CONFIG_MIN_CODE_CACHE MiB(1)
#define CONFIG_MAX_CODE_CACHE GiB(2)

enum config_trace_what { TRACE_EXEC, TRACE_EXCEPTIONS, TRACE_IO, TRACE_MMIO, TRACE_JIT, TRACE_FIRMWARE };

struct config_trace { /* --trace WHAT[:FILE] */
    enum config_trace_what what;
    const char *file; /* NULL: standard error */
};

enum config_drive_bus { DRIVE_VIRTIO, DRIVE_IDE, DRIVE_AHCI };

struct config_disk { /* --disk FILE[,...] */
    const char *file;   /* a path, a block device, nbd:// or nbd+unix:// */
    const char *format; /* NULL (found out), "raw", "qcow2" */
    const char *serial; /* or NULL */
    const char *backing; /* what else an image may name: "any", "none", a folder; NULL: see struct block_follow */
    const char *overlay; /* what is written goes there, a qcow2 made anew; "": nowhere with a name; NULL: into file */
    bool readonly;
    bool direct;        /* cache=none */
    bool no_discard;    /* discard=off */
    /* What becomes of the host's errors: the guest gets them, the machine waits till they are mended, or the latter for a
       full disk alone. */
    enum { DISK_ERRORS_ENOSPC, DISK_ERRORS_STOP, DISK_ERRORS_REPORT } errors;
    u32 queues;         /* 0: as many as CPUs */
    enum config_drive_bus bus;
};

struct config_cdrom { /* --cdrom FILE[,...] */
    const char *file; /* NULL: the drive is empty */
    bool raw;         /* format=raw: whatever it is */
    enum config_drive_bus bus; /* IDE or AHCI */
};

struct config_floppy { /* --floppy FILE[,readonly] */
    const char *file; /* NULL: the drive is empty */
    bool readonly;
};

struct config_share { /* --share PATH[:TAG][,ro] */
    const char *path, *tag;
    bool readonly;
};

enum { CONFIG_MAX_FLOPPIES = 2 };
enum { CONFIG_MAX_CDROMS = 4, CONFIG_MAX_DISKS = 16, CONFIG_MAX_NETS = 8, CONFIG_MAX_SHARES = 8, CONFIG_MAX_CONSOLES = 8, CONFIG_MAX_INPUTS = 4 };

enum config_stats { STATS_NONE, STATS_TEXT, STATS_JSON };

struct vm_config {
    const char *engine; /* "auto", "kvm", "soft" */
    const char *cpu;    /* MODEL[,+feature,-feature] as given; "host" by default */
    u32 cpus;           /* 1..CONFIG_MAX_CPUS */
    u64 memory;         /* bytes, a multiple of 4 KiB */
    u64 code_cache;     /* bytes for translated code, software engine; 0: interpret everything; or CONFIG_CODE_CACHE_AUTO */
    u32 translate_after; /* runs of a block before it is translated */

    const char *kernel; /* a path; NULL: a firmware starts */
    const char *initrd; /* a path; for a Multiboot kernel "file args,file2 args": its modules */
    const char *append; /* the kernel's command line; "" by default */

    const char *firmware; /* "bios", "uefi" or a path; NULL with a kernel */
    const char *firmware_vars; /* as firmware_params has it */
    struct machine_boot_order boot; /* what the firmware tries; disk, cdrom, floppy by default */

    u32 nserial; /* ports of the UARTs from COM1 on; those not given are "null" */
    const char *serial[CONFIG_MAX_SERIAL]; /* "stdio", "null", "file:PATH", "unix:PATH", in form checked */

    bool micro; /* --machine micro */
    enum config_vga { CONFIG_VGA_AUTO, CONFIG_VGA_STD, CONFIG_VGA_NONE } vga; /* auto: if there is firmware or a screen */
    const char *image_store; /* or NULL: the folder of the user's images, which disks may have as backing files */
    u32 ndisks;
    struct config_disk disk[CONFIG_MAX_DISKS];
    u32 ncdroms;
    struct config_cdrom cdrom[CONFIG_MAX_CDROMS];
    u32 nfloppies;
    struct config_floppy floppy[CONFIG_MAX_FLOPPIES];
    const char *parallel; /* where the printer's bytes go, as serial; NULL: no printer */
    u32 nnets;
    const char *net[CONFIG_MAX_NETS]; /* as net.h has it */
    u32 nshares;
    struct config_share share[CONFIG_MAX_SHARES];
    u32 nconsoles; /* ports of the virtio console, hvc0 on */
    const char *console[CONFIG_MAX_CONSOLES]; /* as serial */
    bool rng;                 /* --rng */
    bool balloon;             /* --balloon */
    u64 balloon_target;       /* bytes it asks for at first */
    u32 ninputs;
    struct config_input { /* --input keyboard|tablet[:WHERE] */
        bool tablet;
        const char *from; /* as serial, or NULL */
    } input[CONFIG_MAX_INPUTS];
    bool usb_tablet;          /* --usb tablet[:WHERE] */
    const char *usb_from;     /* as serial, or NULL */
    const char *vsock;        /* the socket's path, or NULL */
    u64 vsock_cid;            /* 3 by default */

    const char *display;    /* --display vnc:..., without "vnc:"; NULL: none */
    const char *api_socket; /* the control socket's path; NULL: none */
    bool api_optional;      /* without it, if it cannot be had */
    const char *name;       /* the machine's, for its screen's title; NULL: it has none */

    bool testdev;   /* --device testdev */
    bool no_reboot; /* a reboot ends the run with status 0 */
    bool quiet;     /* nothing on standard error but errors */

    u32 ntrace;
    struct config_trace trace[CONFIG_MAX_TRACE];
    bool perf_map;          /* --perf-map */
    const char *system_map; /* the guest kernel's symbols, or NULL */
    bool timing; /* --timing */
    u64 started; /* clock_ns() when the command began */
    enum config_stats stats;
    const char *stats_file; /* NULL: standard error */
};

/* An eighth of the machine's memory, within 64 and 256 MiB: a compiler alone fills 64. What is not used costs nothing. */
#define CONFIG_CODE_CACHE_AUTO (~0ull)
static inline u64 config_code_cache(const struct vm_config *c)
{
    return c->code_cache != CONFIG_CODE_CACHE_AUTO ? c->code_cache : MAX(MIN(c->memory / 8, MiB(256)), MiB(64));
}

/* One CPU, 512 MiB, engine auto, the first serial port on stdio. */
static inline void config_defaults(struct vm_config *c)
{
    *c = (struct vm_config){ .engine = "auto",
                             .cpu = "host",
                             .cpus = 1,
                             .memory = MiB(512),
                             .code_cache = CONFIG_CODE_CACHE_AUTO,
                             .translate_after = 12,
                             .append = "",
                             .boot = { .n = 3, .what = { MACHINE_BOOT_DISK, MACHINE_BOOT_CDROM, MACHINE_BOOT_FLOPPY } },
                             .nserial = 1,
                             .serial = { "stdio" } };
}

#endif
