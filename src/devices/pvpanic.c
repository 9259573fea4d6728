/* SPDX-License-Identifier: Apache-2.0 */
/* pvpanic.c - see pvpanic.h. */
#include "devices/pvpanic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory/bus.h"
#include "pci/pci.h"

enum { EVENTS = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED, BAR_SIZE = 16, BASE_CLASS = 0x088000 /* another system peripheral */ };

struct pvpanic {
    const struct device_env *env;
    enum device_action action;
    struct pci_function f; /* of pvpanic-pci */
};

static u64 read_events(void *dev, u64 offset, unsigned size)
{
    (void)dev, (void)size;
    return offset ? 0 : EVENTS;
}

/* A kernel that has a crash kernel loaded says so instead, and goes on by itself. */
static void write_event(void *dev, u64 offset, unsigned size, u64 value)
{
    const struct pvpanic *p = dev;

    (void)size;
    if (offset)
        return;
    if (value & PVPANIC_PANICKED)
        p->env->act(p->env->machine, p->action, "the guest's kernel has crashed");
    else if (value & PVPANIC_CRASH_LOADED)
        p->env->act(p->env->machine, DEVICE_NOTHING, "the guest's kernel has crashed; its crash kernel takes over");
}

static const struct bus_ops register_ops = { .read = read_events, .write = write_event, .min_size = 1, .max_size = 1 };

static struct pvpanic *make(struct device *d, const struct device_env *env, struct error *err)
{
    static const enum device_action actions[] = { DEVICE_EXIT, DEVICE_PAUSE, DEVICE_RESET, DEVICE_POWER_OFF, DEVICE_NOTHING };
    struct pvpanic *p = d->dev = calloc(1, sizeof *p);

    if (!p) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    p->env = env;
    p->action = actions[d->option[0]];
    return p;
}

static void unplug(struct device *d)
{
    free(d->dev);
    d->dev = NULL;
}

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    struct pvpanic *p = make(d, env, err);
    const int rc = p ? bus_add(env->ports, &(struct bus_range){ PVPANIC_PORT, 1, &register_ops, p, NULL, "pvpanic" }) : -ENOMEM;

    if (!rc)
        return 0;
    unplug(d);
    return err->text[0] ? rc : error_set(err, -rc, "port %xh is taken: a machine has one pvpanic", PVPANIC_PORT);
}

static int create_pci(struct device *d, const struct device_env *env, struct error *err)
{
    struct pvpanic *p = env->pci ? make(d, env, err) : NULL;
    int rc;

    if (!env->pci)
        return error_set(err, EINVAL, "this board has no PCI; pvpanic is the one for every board");
    if (!p)
        return -ENOMEM;
    pci_function_init(&p->f, "pvpanic-pci", 0x1b36, 0x0011, 1, BASE_CLASS, 0x1af4, 0x1100);
    pci_bar_init(&p->f, 0, &(struct pci_bar){ .size = BAR_SIZE, .ops = &register_ops, .dev = p, .name = "pvpanic" });
    if ((rc = pci_add(env->pci, &p->f, PCI_SLOTS, 0, env->state, err)))
        unplug(d);
    return rc;
}

/* Device (PEVT) { Name (_HID, "QEMU0001") Name (_CRS, ResourceTemplate () { IO (Decode16, 505h, 505h, 1, 1) }) Name (_STA, 15) }
   ACPI 6.5, 20.2 (AML) and 6.4.2.5 (the I/O port descriptor). */
static u32 aml(const struct device *d, u8 *to, u32 cap)
{
    static const u8 object[] = {
        0x5b, 0x82, 46, 'P', 'E', 'V', 'T',
        0x08, '_', 'H', 'I', 'D', 0x0d, 'Q', 'E', 'M', 'U', '0', '0', '0', '1', 0,
        0x08, '_', 'C', 'R', 'S', 0x11, 13, 0x0a, 10,
        0x47, 1, PVPANIC_PORT & 0xff, PVPANIC_PORT >> 8, PVPANIC_PORT & 0xff, PVPANIC_PORT >> 8, 1, 1, 0x79, 0,
        0x08, '_', 'S', 'T', 'A', 0x0a, 15,
    };
    _Static_assert(sizeof object == 2 + 46, "PkgLength counts all that follows DeviceOp");

    (void)d;
    if (cap < sizeof object)
        return 0;
    memcpy(to, object, sizeof object);
    return sizeof object;
}

static const char *const action_names[] = { "exit", "pause", "reset", "poweroff", "none", NULL };
static const struct device_option options[] = {
    { "action", "what becomes of the machine when its guest crashes; exit: it ends with status 1", action_names }, { NULL, NULL, NULL },
};

const struct device_class pvpanic_class = {
    .kind = DEVICE_OTHER, .name = "pvpanic", .summary = "the guest's kernel says when it has crashed: port 505h, ACPI QEMU0001",
    .options = options, .create = create, .unplug = unplug, .aml = aml,
};

const struct device_class pvpanic_pci_class = {
    .kind = DEVICE_OTHER, .name = "pvpanic-pci", .summary = "the same as a PCI device, for systems that look for that",
    .options = options, .create = create_pci, .unplug = unplug,
};
