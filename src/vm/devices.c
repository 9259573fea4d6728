/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.c - the devices of a machine: which the configuration asks for, what is behind each, and its class's operations.
 */
#include "vm/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/block.h"
#include "chardev/chardev.h"
#include "net/net.h"
#include "virtio/virtio.h"
#include "vm/drives.h"
#include "vm/vm.h"

enum { MAX_DEVICES = CONFIG_MAX_DISKS + CONFIG_MAX_CDROMS + CONFIG_MAX_NETS + CONFIG_MAX_SHARES + CONFIG_MAX_INPUTS +
                     CONFIG_MAX_USB + CONFIG_MAX_DEVICES + 4 /* of which there is one at most */ };
_Static_assert(MAX_DEVICES + 2 <= MACHINE_MAX_DEVICES, "all of them, and two controllers, find room in the machine");

struct devices {
    struct devices_config c;
    struct device_env env;
    struct drives *drives;
    u32 n;
    struct device device[MAX_DEVICES];
    /* the board's own */
    struct block *floppy[CONFIG_MAX_FLOPPIES];
    struct chardev *parallel;
};

/* ---- what the configuration asks for ------------------------------------ */

static u32 count(const struct vm_config *c, enum device_kind kind)
{
    switch (kind) {
    case DEVICE_CDROM: return c->ncdroms;
    case DEVICE_DISK: return c->ndisks;
    case DEVICE_NET: return c->nnets;
    case DEVICE_RNG: return c->rng;
    case DEVICE_CONSOLE: return c->nconsoles > 0;
    case DEVICE_SHARE: return c->nshares;
    case DEVICE_INPUT: return c->ninputs;
    case DEVICE_USB: return c->nusb;
    case DEVICE_VSOCK: return c->vsock != NULL;
    case DEVICE_BALLOON: return c->balloon;
    case DEVICE_OTHER: return c->ndevices;
    case DEVICE_KINDS: break;
    }
    return 0;
}

/* The class's name there; NULL: its kind has one class. */
static const char *class_name(const struct vm_config *c, enum device_kind kind, u32 i)
{
    static const char *const disk[] = { [DRIVE_VIRTIO] = "virtio", [DRIVE_IDE] = "ide", [DRIVE_AHCI] = "ahci" };
    static const char *const cdrom[] = { [CDROM_IDE] = "ide", [CDROM_AHCI] = "ahci" };
    static const char *const net[] = { [NET_MODEL_VIRTIO] = "virtio", [NET_MODEL_E1000] = "e1000" };

    return kind == DEVICE_DISK    ? disk[c->disk[i].bus]
           : kind == DEVICE_CDROM ? cdrom[c->cdrom[i].bus]
           : kind == DEVICE_NET   ? net[c->net[i].model]
           : kind == DEVICE_OTHER ? c->device[i].type
                                  : NULL;
}

static const struct device_class *find_class(enum device_kind kind, const char *name)
{
    const struct device_class *const *list = kind == DEVICE_OTHER ? device_others : device_list;

    for (u32 i = 0; list[i]; i++)
        if (list[i]->kind == kind && (!name || !strcmp(list[i]->name, name)))
            return list[i];
    return NULL;
}

static int no_class(const char *type, struct error *err)
{
    char names[256];
    size_t n = 0;

    names[0] = 0;
    for (u32 i = 0; device_others[i] && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", device_others[i]->name);
    return error_set(err, EINVAL, "there is no device \"%s\"; there are %s", type, names);
}

int vm_check_devices(const struct vm_config *c, struct error *err)
{
    for (u32 i = 0; i < c->ndevices; i++) {
        struct device v = { .class = find_class(DEVICE_OTHER, c->device[i].type) };
        const int rc = v.class ? device_options(&v, c->device[i].options, err) : no_class(c->device[i].type, err);
        if (rc)
            return error_about(err, "devices[%u]", i);
    }
    return 0;
}

void vm_list_devices(FILE *out)
{
    for (u32 i = 0; device_others[i]; i++) {
        const struct device_class *k = device_others[i];
        fprintf(out, "%-12s %s\n", k->name, k->summary);
        for (const struct device_option *o = k->options; o && o->name; o++) {
            fprintf(out, "%-12s   %s=", "", o->name);
            for (u32 n = 0; o->values[n]; n++)
                fprintf(out, "%s%s%s", n ? "|" : "", o->values[n], n ? "" : " (the default)");
            fprintf(out, "\n%-12s     %s\n", "", o->help);
        }
    }
}

/* ---- what is behind them ------------------------------------------------ */

static struct block *open_disk(const struct config_disk *d, const char *store, struct loop *loop, struct error *err)
{
    static const enum block_format formats[] = { [DISK_FORMAT_AUTO] = BLOCK_AUTO, [DISK_FORMAT_RAW] = BLOCK_RAW, [DISK_FORMAT_QCOW2] = BLOCK_QCOW2 };
    struct block_options o = {
        .path = d->path,
        .format = formats[d->format],
        .cache = d->cache == DISK_CACHE_NONE ? BLOCK_DIRECT : BLOCK_WRITEBACK,
        .readonly = d->readonly,
        .discard = d->discard,
        .overlay = d->snapshot ? "" : NULL,
        .follow = { d->backing, store },
    };
    return block_open(&o, loop, err);
}

static struct block *open_floppy(const char *file, bool readonly, struct loop *loop, struct error *err)
{
    struct block_options o = { .path = file, .format = BLOCK_RAW, .readonly = readonly };
    return block_open(&o, loop, err);
}

static int open_chardev(struct chardev **out, const char *spec, struct loop *loop, struct error *err)
{
    return !spec || (*out = chardev_open(spec, loop, err)) ? 0 : -EINVAL;
}

static int open_behind(struct devices *d, struct device *v, struct error *err)
{
    const struct devices_config *c = &d->c;
    const struct vm_config *vc = c->config;
    const u32 i = v->index;

    switch (v->class->kind) {
    case DEVICE_DISK:
        return (v->block = open_disk(&vc->disk[i], c->image_store, c->loop, err)) ? 0 : -EINVAL;
    case DEVICE_CDROM:
        return !vc->cdrom[i].path || (v->block = drives_open_disc(vc->cdrom[i].path, vc->cdrom[i].format == DISK_FORMAT_RAW, c->loop, err))
                   ? 0 : -EINVAL;
    case DEVICE_NET:
        return (v->net = net_open(&vc->net[i], c->mac[i], c->loop, err)) ? 0 : error_about(err, "nets[%u]", i);
    case DEVICE_CONSOLE:
        for (u32 k = 0; k < vc->nconsoles; k++)
            if (open_chardev(&v->chardev[k], vc->console[k], c->loop, err))
                return error_about(err, "consoles[%u]", k);
        return 0;
    case DEVICE_INPUT:
        return open_chardev(&v->chardev[0], vc->input[i].from, c->loop, err) ? error_about(err, "inputs[%u]", i) : 0;
    case DEVICE_USB:
        return open_chardev(&v->chardev[0], vc->usb[i].from, c->loop, err) ? error_about(err, "usb[%u]", i) : 0;
    case DEVICE_OTHER:
        return device_options(v, vc->device[i].options, err) ? error_about(err, "devices[%u]", i) : 0;
    default:
        return 0;
    }
}

static int close_block(struct block *b)
{
    struct error err = { "" };
    const int rc = b ? block_close(b, &err) : 0;
    if (rc)
        log_error("%s", err.text);
    return rc;
}

static int close_behind(struct device *v)
{
    for (u32 k = 0; k < ARRAY_SIZE(v->chardev); k++)
        if (v->chardev[k])
            chardev_close(v->chardev[k]);
    if (v->net)
        net_close(v->net);
    return close_block(v->block);
}

static int open_kind(struct devices *d, enum device_kind kind, struct error *err)
{
    const struct vm_config *c = d->c.config;

    for (u32 i = 0; i < count(c, kind); i++) {
        struct device *v = &d->device[d->n++];
        *v = (struct device){ .class = find_class(kind, class_name(c, kind, i)), .env = &d->env, .index = i, .controller = d->drives };
        const int rc = open_behind(d, v, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int open_board(struct devices *d, struct error *err)
{
    const struct vm_config *c = d->c.config;

    for (u32 i = 0; i < c->nfloppies; i++)
        if (c->floppy[i].path && !(d->floppy[i] = open_floppy(c->floppy[i].path, c->floppy[i].readonly, d->c.loop, err)))
            return -EINVAL;
    return open_chardev(&d->parallel, c->parallel, d->c.loop, err) ? error_about(err, "parallel") : 0;
}

int devices_open(struct devices **out, const struct devices_config *c, struct error *err)
{
    struct devices *d = *out = calloc(1, sizeof *d);
    int rc;

    if (!d)
        return error_set(err, ENOMEM, "out of memory");
    d->c = *c;
    if (!(d->drives = drives_new(err)))
        return -ENOMEM;
    if ((rc = open_board(d, err)))
        return rc;
    for (enum device_kind k = 0; k < DEVICE_KINDS; k++)
        if ((rc = open_kind(d, k, err)))
            return rc;
    return 0;
}

static struct device *find(struct devices *d, enum device_kind kind, u32 index)
{
    for (u32 i = 0; i < d->n; i++)
        if (d->device[i].class->kind == kind && d->device[i].index == index)
            return &d->device[i];
    return NULL;
}

void devices_macs(struct devices *d, u8 mac[CONFIG_MAX_NETS][6])
{
    for (u32 i = 0; i < d->c.config->nnets; i++)
        net_mac(find(d, DEVICE_NET, i)->net, mac[i]);
}

void devices_machine(const struct devices *d, struct machine_config *c)
{
    for (u32 i = 0; i < d->c.config->nfloppies; i++)
        c->floppy[i] = (struct machine_floppy){ true, d->floppy[i] };
    c->parallel = d->parallel;
}

/* ---- media -------------------------------------------------------------- */

struct block *devices_open_medium(struct devices_drive drive, const char *file, bool readonly, struct error *err)
{
    return drive.cdrom ? drives_open_disc(file, false, NULL, err) : open_floppy(file, readonly, NULL, err);
}

static int swap_floppy(struct devices *d, struct machine *m, u32 n, struct block *disk, struct block **was, struct error *err)
{
    struct error ignored;

    if (n >= d->c.config->nfloppies)
        return error_set(err, ENODEV, "the machine has no floppy drive %u", n);
    if (d->floppy[n])
        block_hurry(d->floppy[n], true); /* the machine waits for what is under way */
    *was = machine_floppy_eject(m, n);
    const int rc = disk ? machine_floppy_insert(m, n, disk, err) : 0;
    if (!rc) {
        d->floppy[n] = disk;
        return 0;
    }
    if (*was) {
        block_hurry(*was, false);
        if (machine_floppy_insert(m, n, *was, &ignored))
            log_error("%s could not be put back", block_path(*was));
    }
    return rc;
}

static int swap_disc(struct devices *d, u32 n, struct block *b, bool force, struct block **was, struct error *err)
{
    struct device *v = find(d, DEVICE_CDROM, n);
    return v ? drives_swap(v, b, force, was, err) : error_set(err, ENODEV, "the machine has no CD drive %u", n);
}

int devices_swap_medium(struct devices *d, struct machine *m, struct devices_drive drive, struct block *b, bool force,
                        struct block **was, struct error *err)
{
    int rc = b ? block_attach(b, d->c.loop) : 0;

    if (rc)
        return error_set(err, -rc, "%s cannot be put in: %s", block_path(b), strerror(-rc));
    *was = NULL;
    rc = drive.cdrom ? swap_disc(d, drive.n, b, force, was, err) : swap_floppy(d, m, drive.n, b, was, err);
    if (rc)
        *was = NULL;
    if (rc && b)
        block_detach(b);
    if (*was) {
        block_hurry(*was, false); /* whoever closes it has time */
        block_detach(*was);
    }
    return rc;
}

/* ---- life --------------------------------------------------------------- */

int devices_plug(struct devices *d, struct machine *m, struct error *err)
{
    int rc;

    machine_device_env(m, &d->env);
    d->env.config = d->c.config;
    d->env.machine = d->c.ctx;
    d->env.act = d->c.act;
    d->env.clock = d->c.clock;
    d->env.disk_stop = d->c.stop;
    d->env.disk_go = d->c.go;
    if ((rc = drives_begin(d->drives, m, &d->env, err)))
        return rc;
    for (u32 i = 0; i < d->n; i++) {
        struct device *v = &d->device[i];
        if ((rc = v->class->create(v, &d->env, err)))
            return v->class->kind == DEVICE_OTHER ? error_about(err, "devices[%u]", v->index) : rc;
        if ((rc = machine_add_device(m, v, err)))
            return rc;
    }
    return 0;
}

void devices_timing(const struct devices *d, u64 started)
{
    for (u32 i = 0; i < d->n; i++) {
        const struct virtio_device *v = d->device[i].virtio;
        if (v && v->driver_ok_at)
            fprintf(stderr, "  guest: %-31s %10.2f\n", v->ops->name, (double)(v->driver_ok_at - started) / 1e6);
    }
}

void devices_quiet(struct devices *d)
{
    if (!d)
        return;
    for (u32 i = 0; i < d->n; i++)
        if (d->device[i].net)
            net_connect(d->device[i].net, NULL, NULL);
    drives_quiet(d->drives);
    for (u32 i = 0; i < d->n; i++)
        if (d->device[i].block)
            block_drain(d->device[i].block);
    for (u32 i = 0; i < CONFIG_MAX_FLOPPIES; i++)
        if (d->floppy[i])
            block_drain(d->floppy[i]);
}

int devices_close(struct devices *d)
{
    int rc = 0;

    if (!d)
        return 0;
    drives_free(d->drives);
    for (u32 i = 0; i < d->n; i++)
        if (d->device[i].dev && d->device[i].class->unplug)
            d->device[i].class->unplug(&d->device[i]);
    for (u32 i = 0; i < d->n; i++)
        rc = MIN(close_behind(&d->device[i]), rc);
    for (u32 i = 0; i < CONFIG_MAX_FLOPPIES; i++)
        rc = MIN(close_block(d->floppy[i]), rc);
    if (d->parallel)
        chardev_close(d->parallel);
    free(d);
    return rc;
}
