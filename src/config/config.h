/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - what a virtual machine is, as data: structures that own what they hold. Nothing is opened yet.
 *
 * Every member below stands in the one table of fields (fields.h), which says its name, type, range, unit, default and
 * help. The options of "lodge run", vm.yaml, JSON, its schema, the manual page and the completion are made of that
 * table. Rules that concern more than one field are in rules.c. What concerns a run and not the machine (traces,
 * figures, how long phases took) is in struct vm_run of vm/vm.h.
 *
 * Texts are allocated by malloc and belong to the structure; NULL says that the field was not given. A struct vm_config
 * is used by one thread at a time; once a machine was made of it, nothing changes it.
 */
#ifndef LODGE_CONFIG_CONFIG_H
#define LODGE_CONFIG_CONFIG_H

#include <errno.h>

#include "base/base.h"
#include "base/error.h"

/* The ranges of what counts. A test builds the table with another CONFIG_MAX_CPUS and looks at what follows from it. */
#ifndef CONFIG_MAX_CPUS
#define CONFIG_MAX_CPUS 64
#endif
enum {
    CONFIG_MAX_SERIAL = 4, CONFIG_MAX_DISKS = 16, CONFIG_MAX_CDROMS = 4, CONFIG_MAX_FLOPPIES = 2, CONFIG_MAX_NETS = 8,
    CONFIG_MAX_FORWARDS = 32, CONFIG_MAX_SHARES = 8, CONFIG_MAX_CONSOLES = 8, CONFIG_MAX_INPUTS = 4, CONFIG_MAX_USB = 1,
    CONFIG_MAX_DEVICES = 8, CONFIG_MAX_BOOT = 4,
};

enum config_engine { CONFIG_ENGINE_AUTO, CONFIG_ENGINE_KVM, CONFIG_ENGINE_SOFT };
enum config_machine { CONFIG_MACHINE_PC, CONFIG_MACHINE_MICRO };
enum config_boot { CONFIG_BOOT_DISK, CONFIG_BOOT_CDROM, CONFIG_BOOT_FLOPPY, CONFIG_BOOT_NET };
enum config_vga { CONFIG_VGA_AUTO, CONFIG_VGA_STD, CONFIG_VGA_NONE };
enum config_drive_bus { DRIVE_VIRTIO, DRIVE_IDE, DRIVE_AHCI };
enum config_cdrom_bus { CDROM_IDE, CDROM_AHCI };
enum config_disk_format { DISK_FORMAT_AUTO, DISK_FORMAT_RAW, DISK_FORMAT_QCOW2 };
enum config_disk_cache { DISK_CACHE_WRITEBACK, DISK_CACHE_NONE };
/* What becomes of a request that the host could not carry out: it fails in the guest; the machine waits, and the request is
   tried again; the machine waits if the host's disk or quota is full, and anything else fails in the guest. A device has
   one policy for reads and one for the rest, see config_read_errors. */
enum config_disk_errors { DISK_ERRORS_REPORT, DISK_ERRORS_STOP, DISK_ERRORS_ENOSPC };
enum config_net_model { NET_MODEL_VIRTIO, NET_MODEL_E1000 };
enum config_input_kind { INPUT_KEYBOARD, INPUT_TABLET };
enum config_usb_kind { USB_TABLET };

struct config_disk {
    char *path;    /* a file, a block device, nbd:// or nbd+unix:// */
    char *serial;
    char *backing; /* what else an image may name: "any", "none", a folder; NULL: see struct block_follow */
    u32 format;    /* enum config_disk_format */
    u32 bus;       /* enum config_drive_bus */
    u32 cache;     /* enum config_disk_cache */
    u32 errors;    /* enum config_disk_errors */
    u32 queues;    /* 0: as many as CPUs, at most 4 */
    bool readonly, discard;
    bool snapshot; /* what is written goes with the run */
};

struct config_cdrom {
    char *path;  /* NULL: the drive is empty */
    u32 format;  /* DISK_FORMAT_RAW: whatever it is */
    u32 bus;     /* enum config_cdrom_bus */
};

struct config_floppy {
    char *path; /* NULL: the drive is empty */
    bool readonly;
};

struct config_net {
    char *backend; /* "user", "tap:IF", "switch:NAME", "none" */
    u32 model;     /* enum config_net_model */
    u32 queues;
    char *mac, *seed, *pcap;
    u64 rate, burst; /* bytes a second, bytes; 0: no limit, and for the latter what 50 ms take, at least 64 KiB */
    /* of "user" */
    u32 nhostfwd;
    char *hostfwd[CONFIG_MAX_FORWARDS];
    char *net, *hostname, *tftp, *bootfile;
    u32 mtu;
    bool restricted, ipv6;
};

struct config_share {
    char *path, *tag; /* tag NULL: the folder's own name */
    bool readonly;
};

struct config_input {
    u32 kind;   /* enum config_input_kind, of the USB one enum config_usb_kind */
    char *from; /* where its events come from, or NULL */
};

/* A device that is neither a disk nor a network card nor one of the above: by its name, which the machine knows. */
struct config_device {
    char *type;    /* the name of a device class, devices/device.h */
    char *options; /* KEY=VALUE,KEY=VALUE of its own; or NULL */
};

struct vm_config {
    char *name; /* the machine's, for its screen's title */

    u32 engine; /* enum config_engine */
    char *cpu;  /* MODEL[,+feature,-feature] */
    u32 cpus;
    u64 memory;          /* bytes, a multiple of 4 KiB */
    u64 code_cache;      /* bytes for translated code, software engine; 0: interpret all; or CONFIG_CODE_CACHE_AUTO */
    u32 translate_after; /* runs of a block before it is translated */

    char *kernel; /* a file; NULL: a firmware starts */
    char *initrd; /* a file; for a Multiboot kernel "file args,file2 args": its modules */
    char *append; /* the kernel's command line */
    char *firmware, *firmware_vars; /* "bios", "uefi" or a file; see boot/firmware_files.h */
    u32 nboot, boot[CONFIG_MAX_BOOT]; /* enum config_boot: what the firmware tries */
    u32 boot_menu;                    /* seconds that its menu is offered; 0: not at all */

    u32 machine; /* enum config_machine */
    u32 vga;     /* enum config_vga; auto: if there is firmware or a screen */
    u32 nserial;
    char *serial[CONFIG_MAX_SERIAL]; /* "stdio", "null", "file:PATH", "unix:PATH"; COM1 on, those not given are "null" */
    char *parallel;                  /* the printer's, as serial; NULL: there is none */

    u32 ndisks, ncdroms, nfloppies, nnets, nshares, nconsoles, ninputs, nusb, ndevices;
    struct config_disk disk[CONFIG_MAX_DISKS];
    struct config_cdrom cdrom[CONFIG_MAX_CDROMS];
    struct config_floppy floppy[CONFIG_MAX_FLOPPIES];
    struct config_net net[CONFIG_MAX_NETS];
    struct config_share share[CONFIG_MAX_SHARES];
    char *console[CONFIG_MAX_CONSOLES]; /* ports of the virtio console, hvc0 on; as serial */
    struct config_input input[CONFIG_MAX_INPUTS], usb[CONFIG_MAX_USB];
    struct config_device device[CONFIG_MAX_DEVICES];

    bool rng;
    bool balloon;
    u64 balloon_target; /* bytes it takes at first */
    char *vsock;        /* its socket's path, or NULL */
    u32 vsock_cid;

    char *display; /* "vnc:HOST:PORT", "vnc:unix:PATH"; NULL: none */
    char *display_password, *display_tls_creds; /* a file, a folder; or NULL */
    char *api_socket; /* the control socket's path */
    bool no_reboot;   /* a reboot ends the run */
};

/* An eighth of the machine's memory, within 64 and 256 MiB: a compiler alone fills 64. What is not used costs nothing. */
#define CONFIG_CODE_CACHE_AUTO (~0ull)
static inline u64 config_code_cache(const struct vm_config *c)
{
    return c->code_cache != CONFIG_CODE_CACHE_AUTO ? c->code_cache : MAX(MIN(c->memory / 8, MiB(256)), MiB(64));
}

/* Every field as the table has its default. -ENOMEM; config_free is right after it, too. */
int must_check config_init(struct vm_config *c);
void config_free(struct vm_config *c);

/* Replaces an owned text, or sets the first; it may be among the arguments. -ENOMEM leaves it as it was. */
int must_check config_text(char **field, const char *fmt, ...) printf_like(2, 3);

/* Makes room for n items before those of a list; they have their defaults. -E2BIG: no room; -ENOMEM. */
int must_check config_disks_insert(struct vm_config *c, u32 n);
int must_check config_nets_insert(struct vm_config *c, u32 n);

/* Paths that are relative, and in none of these a URL or a word such as "uefi", become such below folder. -ENOMEM. */
int must_check config_rebase(struct vm_config *c, const char *folder);

/* A disk's policy for reads: they need no room. */
static inline enum config_disk_errors config_read_errors(const struct config_disk *d)
{
    return d->errors == DISK_ERRORS_STOP ? DISK_ERRORS_STOP : DISK_ERRORS_REPORT;
}

/* May a request that failed so wait for the host to mend it? An error that no time mends is always the guest's. */
static inline bool config_may_wait(enum config_disk_errors policy, int error)
{
    if (error == EINVAL || error == EROFS || error == EOPNOTSUPP)
        return false;
    return policy == DISK_ERRORS_STOP || (policy == DISK_ERRORS_ENOSPC && (error == ENOSPC || error == EDQUOT));
}

/* What the guest mounts a share by. */
const char *config_share_tag(const struct config_share *s);

/* The rules across fields: -errno with err set, "disks[1].bus: ..." as config_path_field (fields.h) reads it. */
int must_check config_check(const struct vm_config *c, struct error *err);

#endif
