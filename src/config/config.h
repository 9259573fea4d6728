/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the description of a virtual machine, as data: structures that own what they contain. Nothing is opened
 * yet.
 *
 * Every member below is in the one table of fields (fields.h). The table gives its name, type, range, unit, default and
 * help. The options of "lodge run", vm.yaml, JSON, its schema, the manual page and the completion are made from that
 * table. Rules that concern more than one field are in rules.c. Settings of a run, not of the machine (traces, figures,
 * how long phases took), are in struct vm_run of vm/vm.h.
 *
 * Texts are allocated by malloc and belong to the structure; NULL says that the field was not given. One thread at a
 * time uses a struct vm_config. After a machine was made from it, nothing changes it.
 */
#ifndef LODGE_CONFIG_CONFIG_H
#define LODGE_CONFIG_CONFIG_H

#include <errno.h>

#include "base/base.h"
#include "base/error.h"

/* The limits of lists and counts. A test builds the table with another CONFIG_MAX_CPUS and checks the results. */
#ifndef CONFIG_MAX_CPUS
#define CONFIG_MAX_CPUS 64
#endif
enum {
    CONFIG_MAX_SERIAL = 4, CONFIG_MAX_DISKS = 16, CONFIG_MAX_CDROMS = 4, CONFIG_MAX_FLOPPIES = 2, CONFIG_MAX_NETS = 8,
    CONFIG_MAX_FORWARDS = 32, CONFIG_MAX_SHARES = 8, CONFIG_MAX_CONSOLES = 8, CONFIG_MAX_INPUTS = 4, CONFIG_MAX_USB = 1,
    CONFIG_MAX_DEVICES = 8, CONFIG_MAX_BOOT = 4,
};

enum config_direct { CONFIG_DIRECT_OFF, CONFIG_DIRECT_AUTO, CONFIG_DIRECT_ON };
enum config_engine { CONFIG_ENGINE_AUTO, CONFIG_ENGINE_KVM, CONFIG_ENGINE_SOFT };
enum config_machine { CONFIG_MACHINE_PC, CONFIG_MACHINE_MICRO };
enum config_boot { CONFIG_BOOT_DISK, CONFIG_BOOT_CDROM, CONFIG_BOOT_FLOPPY, CONFIG_BOOT_NET };
enum config_vga { CONFIG_VGA_AUTO, CONFIG_VGA_STD, CONFIG_VGA_NONE };
enum config_drive_bus { DRIVE_VIRTIO, DRIVE_IDE, DRIVE_AHCI };
enum config_cdrom_bus { CDROM_IDE, CDROM_AHCI };
enum config_disk_format { DISK_FORMAT_AUTO, DISK_FORMAT_RAW, DISK_FORMAT_QCOW2 };
enum config_disk_cache { DISK_CACHE_WRITEBACK, DISK_CACHE_NONE };
/* What happens to a request that the host could not carry out. REPORT: it fails in the guest. STOP: the machine
   waits, and the request is tried again. ENOSPC: the machine waits if the host's disk or quota is full; any other
   error fails in the guest. A device has one policy for reads and one for the rest; see config_read_errors. */
enum config_disk_errors { DISK_ERRORS_REPORT, DISK_ERRORS_STOP, DISK_ERRORS_ENOSPC };
enum config_net_model { NET_MODEL_VIRTIO, NET_MODEL_E1000 };
enum config_input_kind { INPUT_KEYBOARD, INPUT_TABLET };
enum config_usb_kind { USB_TABLET };

struct config_disk {
    char *path;    /* a file, a block device, nbd:// or nbd+unix:// */
    char *serial;
    char *backing; /* which other files an image may name: "any", "none", a folder; NULL: see struct block_follow */
    u32 format;    /* enum config_disk_format */
    u32 bus;       /* enum config_drive_bus */
    u32 cache;     /* enum config_disk_cache */
    u32 errors;    /* enum config_disk_errors */
    u32 queues;    /* 0: as many as there are CPUs, at most 4 */
    bool readonly, discard;
    bool snapshot; /* everything that is written is lost at the end of the run */
};

struct config_cdrom {
    char *path;  /* NULL: the drive is empty */
    u32 format;  /* DISK_FORMAT_RAW: used whatever the file contains */
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
    u64 rate, burst; /* bytes a second, bytes; 0: for rate no limit, for burst the bytes of 50 ms, at least 64 KiB */
    /* for "user" */
    u32 nhostfwd;
    char *hostfwd[CONFIG_MAX_FORWARDS];
    char *net, *hostname, *tftp, *bootfile;
    u32 mtu;
    bool restricted, ipv6;
};

struct config_share {
    char *path, *tag; /* tag NULL: the name of the folder */
    bool readonly;
};

struct config_input {
    u32 kind;   /* enum config_input_kind; for the USB device enum config_usb_kind */
    char *from; /* where its events come from, or NULL */
};

/* A device that is not a disk, a network card or one of the above. It is given by its name, which the machine knows. */
struct config_device {
    char *type;    /* the name of a device class, devices/device.h */
    char *options; /* KEY=VALUE,KEY=VALUE of its own options; or NULL */
};

struct vm_config {
    char *name; /* name of the machine, for the title of its screen */

    u32 engine; /* enum config_engine */
    char *cpu;  /* MODEL[,+feature,-feature] */
    u32 cpus;
    u64 memory;          /* bytes, a multiple of 4 KiB */
    u32 direct;          /* enum config_direct */
    u64 code_cache;      /* bytes for translated code, software engine; 0: interpret everything; or
                            CONFIG_CODE_CACHE_AUTO */
    u32 translate_after; /* how often a block runs before it is translated */

    char *kernel; /* a file; NULL: a firmware starts */
    char *initrd; /* a file; for a Multiboot kernel "file args,file2 args": its modules */
    char *append; /* the kernel's command line */
    char *firmware, *firmware_vars; /* "bios", "uefi" or a file; see boot/firmware_files.h */
    u32 nboot, boot[CONFIG_MAX_BOOT]; /* enum config_boot: what the firmware tries, in this order */
    u32 boot_menu;                    /* seconds for which its menu is offered; 0: no menu */

    u32 machine; /* enum config_machine */
    u32 vga;     /* enum config_vga; auto: present if there is firmware or a screen */
    u32 nserial;
    char *serial[CONFIG_MAX_SERIAL]; /* "stdio", "null", "file:PATH", "unix:PATH"; from COM1 on; ports that are not
                                        given are "null" */
    char *parallel;                  /* the printer's port, in the form of serial; NULL: there is none */

    u32 ndisks, ncdroms, nfloppies, nnets, nshares, nconsoles, ninputs, nusb, ndevices;
    struct config_disk disk[CONFIG_MAX_DISKS];
    struct config_cdrom cdrom[CONFIG_MAX_CDROMS];
    struct config_floppy floppy[CONFIG_MAX_FLOPPIES];
    struct config_net net[CONFIG_MAX_NETS];
    struct config_share share[CONFIG_MAX_SHARES];
    char *console[CONFIG_MAX_CONSOLES]; /* ports of the virtio console, from hvc0 on; in the form of serial */
    struct config_input input[CONFIG_MAX_INPUTS], usb[CONFIG_MAX_USB];
    struct config_device device[CONFIG_MAX_DEVICES];

    bool rng;
    bool balloon;
    u64 balloon_target; /* bytes that it takes at first */
    char *vsock;        /* path of its socket, or NULL */
    u32 vsock_cid;

    char *display; /* "vnc:HOST:PORT", "vnc:unix:PATH"; NULL: none */
    char *display_password, *display_tls_creds; /* a file, a folder; or NULL */
    char *api_socket; /* path of the control socket */
    bool no_reboot;   /* a reboot ends the run */
};

/* An eighth of the machine's memory, but at least 64 and at most 256 MiB: a compiler alone fills 64. Memory that is
   not used costs nothing. */
#define CONFIG_CODE_CACHE_AUTO (~0ull)
static inline u64 config_code_cache(const struct vm_config *c)
{
    return c->code_cache != CONFIG_CODE_CACHE_AUTO ? c->code_cache : MAX(MIN(c->memory / 8, MiB(256)), MiB(64));
}

/* Sets every field to its default from the table. -ENOMEM; config_free may be called after that, too. */
int must_check config_init(struct vm_config *c);
void config_free(struct vm_config *c);

/* Replaces an owned text, or sets the first one. The old text may be among the arguments. -ENOMEM leaves it
   unchanged. */
int must_check config_text(char **field, const char *fmt, ...) printf_like(2, 3);

/* Inserts n items with their defaults before those of a list. -E2BIG: no room; -ENOMEM. */
int must_check config_disks_insert(struct vm_config *c, u32 n);
int must_check config_nets_insert(struct vm_config *c, u32 n);

/* Makes relative paths start from folder. A URL, or a word such as "uefi", is not a path. -ENOMEM. */
int must_check config_rebase(struct vm_config *c, const char *folder);

/* A disk's policy for reads. Reads need no space on the host. */
static inline enum config_disk_errors config_read_errors(const struct config_disk *d)
{
    return d->errors == DISK_ERRORS_STOP ? DISK_ERRORS_STOP : DISK_ERRORS_REPORT;
}

/* May a request that failed with this error wait until the host has solved the problem? An error that never goes
   away by itself always goes to the guest. */
static inline bool config_may_wait(enum config_disk_errors policy, int error)
{
    if (error == EINVAL || error == EROFS || error == EOPNOTSUPP)
        return false;
    return policy == DISK_ERRORS_STOP || (policy == DISK_ERRORS_ENOSPC && (error == ENOSPC || error == EDQUOT));
}

/* The tag by which the guest mounts a share. */
const char *config_share_tag(const struct config_share *s);

/* Checks the rules across fields: -errno with err set, "disks[1].bus: ..." in the form that config_path_field
   (fields.h) reads. */
int must_check config_check(const struct vm_config *c, struct error *err);

#endif
