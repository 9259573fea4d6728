/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - what a device that can be plugged into a machine is: one descriptor each, struct device_class, which stands
 * in a list: that of devices/others.c if it is plugged in by its name, that of vm/device_list.c if the configuration has a
 * list for its kind. docs/adding-a-device.md shows how one is added.
 *
 * A class belongs to a list of the configuration (`kind`), and to those of its entries that ask for its `name`. Its
 * instances, struct device, are made in this order: what is behind one (a disk image, a network, a character device) is
 * opened by its kind; create makes the chip and connects it to the buses; the machine then calls reset, settle and resume
 * whenever it is reset, saved or loaded; unplug ends it.
 *
 * Threads: every operation on the loop's thread (or before it runs) while no processor runs. Registers are accessed on
 * processors' threads: a device locks itself.
 */
#ifndef LODGE_DEVICES_DEVICE_H
#define LODGE_DEVICES_DEVICE_H

#include "base/base.h"
#include "base/error.h"
#include "config/config.h"
#include "irq/irq.h"
#include "state/state.h"

struct block;
struct bus;
struct chardev;
struct input;
struct loop;
struct memory;
struct net;
struct pci_bus;
struct pci_function;
struct virtio_device;

enum { DEVICE_MAX_OPTIONS = 4 };

/* Which list of the configuration has it. */
enum device_kind {
    DEVICE_CDROM, DEVICE_DISK, DEVICE_NET, DEVICE_RNG, DEVICE_CONSOLE, DEVICE_SHARE, DEVICE_INPUT, DEVICE_USB,
    DEVICE_VSOCK, DEVICE_BALLOON, DEVICE_OTHER /* devices[], by its name */,
    DEVICE_KINDS,
};

/* What a device may do to its machine. */
enum device_action { DEVICE_NOTHING, DEVICE_RESET, DEVICE_POWER_OFF, DEVICE_PAUSE, DEVICE_EXIT, DEVICE_NMI };

/* What a machine gives to its devices. Everything here outlives them. */
struct device_env {
    struct memory *memory;
    struct loop *loop;
    struct bus *ports, *mmio;
    struct pci_bus *pci; /* NULL: the board has no PCI */
    struct state_list *state;
    u32 isa_slot;        /* of the PCI bus: its functions are what belongs to the south bridge */
    struct input *input; /* keyboard and pointer of the screen, or NULL */
    const struct vm_config *config;

    void *board; /* the first argument of these; lines, act and clock: any thread, a device's lock may be held */
    int (*plug_virtio)(void *board, struct virtio_device *d, struct error *err);
    int (*net_boot)(void *board, struct pci_function *f, const char *rom, struct error *err); /* see machine_add_net_boot */
    struct irq_line (*line)(void *board, u32 gsi);
    void (*debug_exit)(void *board, int status); /* status: (value << 1) | 1 */
    void (*debug_console)(void *board, const u8 *data, size_t len);

    void *machine; /* the first argument of these */
    /* why: a sentence for the user, which outlives the machine. DEVICE_EXIT ends it with status 1. */
    void (*act)(void *machine, enum device_action what, const char *why);
    u64 (*clock)(void *machine); /* ns; stands still while the user has paused the machine */
    void (*disk_stop)(void *machine, const char *why); /* a disk cannot go on: the machine waits ... */
    void (*disk_go)(void *machine);                    /* ... and goes on. The loop's thread, in turns */
};

struct device {
    const struct device_class *class;
    const struct device_env *env;
    u32 index; /* in its list of the configuration; 0 where there is only one */
    u32 option[DEVICE_MAX_OPTIONS]; /* DEVICE_OTHER: the chosen of each option's values */
    /* What is behind it, opened already and closed after unplug; the rest is NULL. */
    struct block *block;
    struct net *net;
    struct chardev *chardev[CONFIG_MAX_CONSOLES];
    void *controller; /* CD drives and disks that are not virtio's: vm/drives.c's */

    void *dev;                    /* by create: the class's own */
    struct virtio_device *virtio; /* by device_plug_virtio */
};

/* An option "name=value" of a DEVICE_OTHER; its first value is the default. */
struct device_option {
    const char *name, *help;
    const char *const *values; /* ends with NULL */
};

/* Values that do something in its registers, for the fuzzer of all of DEVICE_OTHER (tests/fuzz/fuzz_device.c). */
struct device_hints {
    const u32 *values;
    u32 n;
};

struct device_class {
    enum device_kind kind;
    const char *name;    /* its `type`, `model` or `bus` there; NULL: the only one of its kind */
    const char *summary; /* a line for lists of them; of DEVICE_OTHER */
    const struct device_option *options; /* ends with a name of NULL; or NULL: it has none */
    const struct state_desc *state;      /* of what `dev` points to; NULL: none, or it joins the list by itself */
    const struct device_hints *hints;    /* or NULL */

    /* Makes it. -errno with err set; if `dev` is set all the same, unplug ends it as if it were whole. */
    int (*create)(struct device *d, const struct device_env *env, struct error *err);
    /* After its machine is gone. NULL: nothing to do. */
    void (*unplug)(struct device *d);
    /* Any of these may be NULL. Settle: nothing is under way until resume, which follows a save or a load. */
    void (*reset)(struct device *d);
    void (*settle)(struct device *d);
    void (*resume)(struct device *d);
    /* Its device object in ACPI's namespace, as AML inside \_SB. Returns its length, at most cap. NULL: none */
    u32 (*aml)(const struct device *d, u8 *to, u32 cap);
};

extern const struct device_class *const device_others[]; /* others.c: all of DEVICE_OTHER; ends with NULL */

/* Reads "name=value,name=value" by the class's table into d->option; text may be NULL. -EINVAL with a sentence. */
int must_check device_options(struct device *d, const char *text, struct error *err);
/* For create: a virtio device gets its transport from the board. */
static inline int device_plug_virtio(struct device *d, struct virtio_device *v, struct error *err)
{
    const int rc = d->env->plug_virtio(d->env->board, v, err);
    d->virtio = rc ? NULL : v;
    return rc;
}

#endif
