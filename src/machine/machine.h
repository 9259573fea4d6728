/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - the boards "pc" and "micro": memory map, chips and how they are wired, what an engine asks of the world
 * around its processors, reset, and the one list of everything that has state.
 *
 * Order: machine_new, machine_plug, the engine's VM on machine_memory() with machine_engine_ops, its vCPUs,
 * machine_connect, machine_reset, run.  Taking down: vCPUs, machine_free, the engine's VM, the devices plugged in.
 *
 * Threads: machine_engine_ops on vCPU threads; the rest while no vCPU runs.
 */
#ifndef LODGE_MACHINE_MACHINE_H
#define LODGE_MACHINE_MACHINE_H

#include "base/base.h"
#include "base/error.h"
#include "base/loop.h"
#include "block/block.h"
#include "boot/boot.h"
#include "boot/firmware_files.h"
#include "chardev/chardev.h"
#include "cpu/cpuid.h"
#include "devices/device.h"
#include "display/display.h"
#include "display/input.h"
#include "engine/engine.h"
#include "memory/memory.h"
#include "pci/pci.h"
#include "state/state.h"
#include "virtio/virtio.h"

struct machine;
struct pci_function;

enum { MACHINE_MAX_CPUS = 64, MACHINE_SERIAL_PORTS = 4, MACHINE_MAX_VIRTIO = 16, MACHINE_FLOPPIES = 2, MACHINE_MAX_DEVICES = 96 };

enum machine_kind {
    MACHINE_PC,    /* i440FX-class: PCI and all that a PC always had */
    MACHINE_MICRO, /* no PCI, no legacy parts: a serial port, virtio by MMIO, hardware-reduced ACPI */
};

/* May a machine of this kind have a graphics adapter, keyboard and mouse? */
bool machine_has_screen(enum machine_kind kind);

enum machine_event {
    MACHINE_POWER_OFF,
    MACHINE_RESET,
    MACHINE_INIT,       /* machine_init_cpus is wanted */
    MACHINE_DEBUG_EXIT, /* status: (value << 1) | 1 */
};

/* Calls for each access to the buses, for traces. They come on vCPU threads. */
struct machine_trace {
    void *ctx;
    void (*port)(void *ctx, bool write, u16 port, unsigned size, u64 value, const char *name);          /* or NULL */
    void (*mmio)(void *ctx, u32 vcpu, bool write, u64 gpa, unsigned size, u64 value, const char *name); /* or NULL */
    void (*firmware)(void *ctx, u8 byte); /* what it writes to its debug port; or NULL */
};

/* The kinds of device that a firmware tries to boot from, in its order. */
enum machine_boot { MACHINE_BOOT_DISK, MACHINE_BOOT_CDROM, MACHINE_BOOT_FLOPPY, MACHINE_BOOT_NET };
enum { MACHINE_BOOT_KINDS = 4, MACHINE_MAX_BOOT = 32, MACHINE_BOOT_PATH = 96 };
struct machine_boot_order {
    u32 n;
    enum machine_boot what[MACHINE_BOOT_KINDS];
    u16 menu_ms; /* how long its boot menu is offered; 0: not at all */
};

struct machine_config {
    enum machine_kind kind;
    u64 ram;                         /* bytes, whole pages, at least 1 MiB */
    const struct cpuid_table *cpuid; /* outlives the machine; its cpus is the number of processors */
    struct loop *loop;
    bool kernel_irqchip; /* the engine has the PIC, the PIT and the APICs */
    bool vga;            /* a graphics adapter ("pc" only) */
    const char *vga_rom; /* a file with its BIOS, or NULL */
    struct chardev *serial[MACHINE_SERIAL_PORTS]; /* borrowed; NULL: nothing is plugged in */
    struct machine_floppy { /* "pc" only */
        bool drive;         /* there is one; its type follows from the disk, empty it is one for 1440 KiB */
        struct block *disk; /* borrowed; or NULL */
    } floppy[MACHINE_FLOPPIES];
    struct chardev *parallel; /* borrowed, the printer; NULL: there is none */
    struct display *display; /* borrowed, for the video card to plug itself into; NULL: nobody looks */
    struct input *input;     /* borrowed, for keyboard and mouse; or NULL */
    void (*event)(void *ctx, enum machine_event what, int status); /* any thread, no lock held; must not block */
    void *ctx;
    struct firmware *firmware; /* "pc" only; borrowed; NULL: a kernel is booted without one */
    struct machine_boot_order boot;
    bool boot_console;          /* the firmware's messages and its boot menu are on COM1, too */
    const struct machine_trace *trace; /* or NULL; outlives the machine */
};

struct machine *machine_new(const struct machine_config *c, struct error *err);
/* While the engine's vCPUs still exist or are gone; its VM must exist. */
void machine_free(struct machine *m);

struct memory *machine_memory(struct machine *m);
/* A device made on machine_memory() (virtio_init) gets its transport: a PCI function in the next free slot, or MMIO
   registers. Borrowed: it outlives the machine. Before machine_reset; the order is the order the guest finds. At most
   MACHINE_MAX_VIRTIO. Reset, settle and resume of the transport are machine_reset's, _before_save's and _after_load's. */
int must_check machine_plug(struct machine *m, struct virtio_device *d, struct error *err);
/* A firmware may boot from it; in the order of the calls, after the kind's place in the boot order. path: OpenFirmware's,
   as qemu's get_boot_devices_list has it ("/pci@i0cf8/ide@1,1/drive@0/disk@0"). Before machine_connect. */
int must_check machine_add_boot(struct machine *m, enum machine_boot what, const char *path, struct error *err);
/* A network card: the firmware may boot from it if that is in the boot order, and then gets the option ROM it does so by
   (iPXE's, "efi-virtio.rom"), if it is installed. f has no other and is on the bus already. */
int must_check machine_add_net_boot(struct machine *m, struct pci_function *f, const char *rom, struct error *err);
/* The same as machine_add_boot of a PCI function: "ide@/drive@0/disk@0", its slot and function put behind the first @. */
int must_check machine_add_pci_boot(struct machine *m, enum machine_boot what, const struct pci_function *f,
                                    const char *format, struct error *err);
/* What the machine gives to a device's create: all of it but what is the VM's (config, machine, act, clock, disk_stop,
   disk_go), which is left 0. */
void machine_device_env(struct machine *m, struct device_env *env);
/* From now on the machine calls the device's reset, settle and resume, and describes it to the guest; its state joins the
   list if its class has any. Borrowed: it outlives the machine. Before machine_reset; at most MACHINE_MAX_DEVICES. */
int must_check machine_add_device(struct machine *m, struct device *d, struct error *err);
/* Gives the IDE function, not initialised yet, and its channels their place on "pc". */
struct ide;
int must_check machine_place_ide(struct machine *m, struct ide *ide, struct error *err);
/* Changes the disk in a floppy drive while the machine runs, on the loop's thread. insert: the drive is empty, and takes
   disks of this size. eject: what was in it or NULL; nothing is under way on it any more. */
int must_check machine_floppy_insert(struct machine *m, u32 drive, struct block *disk, struct error *err);
struct block *machine_floppy_eject(struct machine *m, u32 drive);
extern const struct engine_machine machine_engine_ops; /* m: struct machine */

/* vcpus: borrowed, as many as processors. */
int must_check machine_connect(struct machine *m, const struct engine_ops *engine, struct engine_vm *vm,
                               struct engine_vcpu *const *vcpus, struct error *err);

/* Power-on state of every chip and processor; and what firmware leaves, and the kernel in memory, or (boot NULL) the
   firmware before its first instruction. */
int must_check machine_reset(struct machine *m, struct boot *boot, struct error *err);

/* INIT# at all processors and their local APICs: the first begins at FFFFFFF0h, the others wait for a SIPI. */
int must_check machine_init_cpus(struct machine *m);
/* A processor shut down (triple fault). True: a reset was asked for; false: there is no firmware to start. */
bool machine_shutdown(struct machine *m);
/* Presses the power button. False: there is none, or the guest does not listen to it. Any thread. */
bool machine_power_button(struct machine *m);

/* Presses the NMI button: a pulse on LINT1 of all processors, which may mask it. False: the guest masks NMIs at port 70h,
   and gets this one when it lifts that. Any thread. */
bool machine_nmi(struct machine *m);

/* Snapshot: fetches the processors' state and flushes what chips have buffered (what the reader of a serial port does not
   take for two seconds is lost), so that the list can be saved ... */
int must_check machine_before_save(struct machine *m, struct error *err);
/* ... then the machine may run on ... */
void machine_after_save(struct machine *m);
/* ... and puts the processors' state in force after the list and memory were loaded. */
int must_check machine_after_load(struct machine *m, struct error *err);
const struct state_list *machine_state(const struct machine *m);
/* The processor as machine_before_save or state_load left it. */
struct cpu_state *machine_cpu(struct machine *m, u32 i);

/* Output is given up on when nothing takes it for this long; 0: at once. Any thread: for the end of a run. */
void machine_drain_serial(struct machine *m, u64 patience_ns);

#endif
