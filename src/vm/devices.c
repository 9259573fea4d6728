/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.c - opens what the configuration names and makes a virtio device of each.
 */
#include "vm/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/block.h"
#include "devices/e1000.h"
#include "devices/uhci.h"
#include "machine/i440fx.h"
#include "net/net.h"
#include "virtio/virtio_balloon.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_fs.h"
#include "virtio/virtio_input.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"
#include "virtio/virtio_vsock.h"
#include "vm/drives.h"

struct devices {
    struct devices_config c;
    struct block *block[CONFIG_MAX_DISKS];
    struct drives *drives; /* NULL: none but virtio's */
    struct block *floppy[CONFIG_MAX_FLOPPIES];
    struct chardev *parallel;
    struct net *net[CONFIG_MAX_NETS];
    struct virtio_blk *blk[CONFIG_MAX_DISKS];
    struct virtio_net *card[CONFIG_MAX_NETS];
    struct e1000 *e1000[CONFIG_MAX_NETS];
    struct virtio_rng *rng;
    struct virtio_balloon *balloon;
    struct virtio_console *console;
    struct chardev *port[CONFIG_MAX_CONSOLES];
    struct virtio_input *input[CONFIG_MAX_INPUTS];
    struct chardev *events[CONFIG_MAX_INPUTS];
    struct uhci *uhci;
    struct chardev *usb_events;
    struct virtio_vsock *vsock;
    struct virtio_fs *share[CONFIG_MAX_SHARES];
    u32 n;
    struct virtio_device *all[MACHINE_MAX_VIRTIO];
};

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

/* Where bytes and packets come from and go to. */
static int open_cables(struct devices *d, const struct devices_config *c, struct error *err)
{
    const struct vm_config *vc = c->config;

    if (vc->parallel && !(d->parallel = chardev_open(vc->parallel, c->loop, err)))
        return error_about(err, "parallel");
    for (u32 i = 0; i < vc->nnets; i++)
        if (!(d->net[i] = net_open(&vc->net[i], c->mac[i], c->loop, err)))
            return error_about(err, "nets[%u]", i);
    for (u32 i = 0; i < vc->nconsoles; i++)
        if (!(d->port[i] = chardev_open(vc->console[i], c->loop, err)))
            return error_about(err, "consoles[%u]", i);
    if (vc->nusb && vc->usb[0].from && !(d->usb_events = chardev_open(vc->usb[0].from, c->loop, err)))
        return error_about(err, "usb[0]");
    for (u32 i = 0; i < vc->ninputs; i++)
        if (vc->input[i].from && !(d->events[i] = chardev_open(vc->input[i].from, c->loop, err)))
            return error_about(err, "inputs[%u]", i);
    return 0;
}

int devices_open(struct devices **out, const struct devices_config *c, struct error *err)
{
    struct devices *d = *out = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, ENOMEM, "out of memory");
    d->c = *c;
    for (u32 i = 0; i < c->config->ndisks; i++)
        if (!(d->block[i] = open_disk(&c->config->disk[i], c->image_store, c->loop, err)))
            return -EINVAL;
    if (drives_open(&d->drives, c, err))
        return -EINVAL;
    for (u32 i = 0; i < c->config->nfloppies; i++) {
        const struct config_floppy *f = &c->config->floppy[i];
        if (f->path && !(d->floppy[i] = open_floppy(f->path, f->readonly, c->loop, err)))
            return -EINVAL;
    }
    return open_cables(d, c, err);
}

void devices_macs(const struct devices *d, u8 mac[CONFIG_MAX_NETS][6])
{
    for (u32 i = 0; i < d->c.config->nnets; i++)
        net_mac(d->net[i], mac[i]);
}

void devices_machine(const struct devices *d, struct machine_config *c)
{
    for (u32 i = 0; i < d->c.config->nfloppies; i++)
        c->floppy[i] = (struct machine_floppy){ true, d->floppy[i] };
    c->parallel = d->parallel;
}

struct block *devices_open_medium(struct devices_drive drive, const char *file, bool readonly, struct error *err)
{
    return drive.cdrom ? drives_open_disc(file, err) : open_floppy(file, readonly, NULL, err);
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

int devices_swap_medium(struct devices *d, struct machine *m, struct devices_drive drive, struct block *b, bool force,
                        struct block **was, struct error *err)
{
    int rc = b ? block_attach(b, d->c.loop) : 0;

    if (rc)
        return error_set(err, -rc, "%s cannot be put in: %s", block_path(b), strerror(-rc));
    *was = NULL;
    rc = drive.cdrom ? drives_swap(d->drives, drive.n, b, force, was, err) : swap_floppy(d, m, drive.n, b, was, err);
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

/* ---- the devices -------------------------------------------------------- */

static int plug(struct devices *d, struct machine *m, struct virtio_device *v, struct error *err)
{
    const int rc = machine_plug(m, v, err);
    if (!rc)
        d->all[d->n++] = v;
    return rc;
}

void devices_timing(const struct devices *d, u64 started)
{
    for (u32 i = 0; i < d->n; i++)
        if (d->all[i]->driver_ok_at)
            fprintf(stderr, "  guest: %-31s %10.2f\n", d->all[i]->ops->name,
                    (double)(d->all[i]->driver_ok_at - started) / 1e6);
}

static int plug_uhci(struct devices *d, struct machine *m, struct error *err)
{
    int rc;
    if (!(d->uhci = calloc(1, sizeof *d->uhci)))
        return error_set(err, ENOMEM, "out of memory");
    if ((rc = uhci_init(d->uhci, machine_memory(m), d->c.loop, machine_input(m), d->usb_events, machine_pci(m),
                        I440FX_ISA_SLOT, 2, machine_state_list(m), err)))
        return rc;
    return machine_add_part(m, &(struct machine_part){ d->uhci, uhci_reset, NULL, NULL }, err);
}

static int plug_e1000(struct devices *d, struct machine *m, u32 i, struct error *err)
{
    if (!(d->e1000[i] = e1000_new(d->net[i], machine_memory(m), d->c.loop, machine_pci(m), machine_state_list(m), i, err)))
        return -EINVAL;
    const int rc = machine_add_net_boot(m, e1000_pci(d->e1000[i]), "efi-e1000.rom", err);
    return rc ? rc : machine_add_part(m, &(struct machine_part){ d->e1000[i], e1000_reset, NULL, e1000_resume }, err);
}

int devices_plug(struct devices *d, struct machine *m, struct error *err)
{
    const struct vm_config *c = d->c.config;
    struct memory *memory = machine_memory(m);
    int rc;

    if ((rc = drives_plug_discs(d->drives, m, err)))
        return rc;
    for (u32 i = 0; i < c->ndisks; i++) {
        struct virtio_blk_config bc = {
            .memory = memory,
            .loop = d->c.loop,
            .block = d->block[i],
            .serial = c->disk[i].serial,
            .queues = c->disk[i].queues ? c->disk[i].queues : MIN(c->cpus, 4u),
            .write_cache = true,
            .discard = c->disk[i].discard,
            .rerror = c->disk[i].errors == DISK_ERRORS_STOP ? VIRTIO_BLK_STOP : VIRTIO_BLK_REPORT,
            .werror = c->disk[i].errors == DISK_ERRORS_STOP     ? VIRTIO_BLK_STOP
                      : c->disk[i].errors == DISK_ERRORS_REPORT ? VIRTIO_BLK_REPORT
                                                                : VIRTIO_BLK_ENOSPC,
            .stop = d->c.stop,
            .go = d->c.go,
            .ctx = d->c.ctx,
        };
        if (c->disk[i].bus != DRIVE_VIRTIO) {
            if ((rc = drives_plug_disk(d->drives, m, &c->disk[i], d->block[i], err)))
                return rc;
            continue;
        }
        if (!(d->blk[i] = virtio_blk_new(&bc, err)))
            return -ENOMEM;
        if ((rc = plug(d, m, virtio_blk_device(d->blk[i]), err)))
            return rc;
    }
    for (u32 i = 0; i < c->nnets; i++) {
        if (c->net[i].model == NET_MODEL_E1000) {
            if ((rc = plug_e1000(d, m, i, err)))
                return rc;
            continue;
        }
        if (!(d->card[i] = virtio_net_new(d->net[i], memory, d->c.loop, err)))
            return -ENOMEM;
        if ((rc = plug(d, m, virtio_net_device(d->card[i]), err)))
            return rc;
    }
    if (c->rng) {
        if (!(d->rng = virtio_rng_new(memory, d->c.loop, err)))
            return -ENOMEM;
        if ((rc = plug(d, m, virtio_rng_device(d->rng), err)))
            return rc;
    }
    if (c->nconsoles) {
        struct virtio_console_config cc = { .memory = memory, .loop = d->c.loop, .nports = c->nconsoles };
        memcpy(cc.port, d->port, sizeof cc.port);
        if (!(d->console = virtio_console_new(&cc, err)))
            return -ENOMEM;
        if ((rc = plug(d, m, virtio_console_device(d->console), err)))
            return rc;
    }
    for (u32 i = 0; i < c->nshares; i++) {
        struct virtio_fs_config fc = {
            .memory = memory, .loop = d->c.loop, .path = c->share[i].path, .tag = config_share_tag(&c->share[i]),
            .readonly = c->share[i].readonly,
        };
        if (!(d->share[i] = virtio_fs_new(&fc, err)))
            return error_about(err, "shares[%u]", i);
        if ((rc = plug(d, m, virtio_fs_device(d->share[i]), err)))
            return rc;
    }
    for (u32 i = 0; i < c->ninputs; i++) {
        const enum virtio_input_kind kind = c->input[i].kind == INPUT_TABLET ? VIRTIO_INPUT_TABLET : VIRTIO_INPUT_KEYBOARD;
        if (!(d->input[i] = virtio_input_new(kind, memory, d->c.loop, d->events[i], err)))
            return -ENOMEM;
        if ((rc = plug(d, m, virtio_input_device(d->input[i]), err)))
            return rc;
    }
    if (c->nusb && (rc = plug_uhci(d, m, err)))
        return rc;
    if (c->vsock) {
        struct virtio_vsock_config vc = { .memory = memory, .loop = d->c.loop, .path = c->vsock, .cid = c->vsock_cid };
        if (!(d->vsock = virtio_vsock_new(&vc, err)))
            return error_about(err, "vsock");
        if ((rc = plug(d, m, virtio_vsock_device(d->vsock), err)))
            return rc;
    }
    if (c->balloon) {
        if (!(d->balloon = virtio_balloon_new(memory, d->c.loop, c->balloon_target, err)))
            return -ENOMEM;
        if ((rc = plug(d, m, virtio_balloon_device(d->balloon), err)))
            return rc;
    }
    return 0;
}

void devices_quiet(struct devices *d)
{
    if (!d)
        return;
    for (u32 i = 0; i < CONFIG_MAX_NETS; i++)
        if (d->net[i])
            net_connect(d->net[i], NULL, NULL);
    drives_quiet(d->drives);
    for (u32 i = 0; i < CONFIG_MAX_DISKS; i++)
        if (d->block[i])
            block_drain(d->block[i]);
    for (u32 i = 0; i < CONFIG_MAX_FLOPPIES; i++)
        if (d->floppy[i])
            block_drain(d->floppy[i]);
}

static int close_block(struct block *b)
{
    struct error err = { "" };
    const int rc = b ? block_close(b, &err) : 0;
    if (rc)
        log_error("%s", err.text);
    return rc;
}

int devices_close(struct devices *d)
{
    int rc = 0;
    if (!d)
        return 0;
    rc = drives_close(d->drives);
    for (u32 i = 0; i < CONFIG_MAX_DISKS; i++)
        virtio_blk_free(d->blk[i]);
    for (u32 i = 0; i < CONFIG_MAX_NETS; i++)
        virtio_net_free(d->card[i]), e1000_free(d->e1000[i]);
    virtio_rng_free(d->rng);
    virtio_console_free(d->console);
    for (u32 i = 0; i < CONFIG_MAX_SHARES; i++)
        virtio_fs_free(d->share[i]);
    for (u32 i = 0; i < CONFIG_MAX_INPUTS; i++)
        virtio_input_free(d->input[i]);
    if (d->uhci)
        uhci_destroy(d->uhci);
    free(d->uhci);
    if (d->usb_events)
        chardev_close(d->usb_events);
    virtio_vsock_free(d->vsock);
    virtio_balloon_free(d->balloon);
    for (u32 i = 0; i < CONFIG_MAX_CONSOLES; i++)
        if (d->port[i])
            chardev_close(d->port[i]);
    for (u32 i = 0; i < CONFIG_MAX_INPUTS; i++)
        if (d->events[i])
            chardev_close(d->events[i]);
    if (d->parallel)
        chardev_close(d->parallel);
    for (u32 i = 0; i < CONFIG_MAX_DISKS; i++)
        rc = MIN(close_block(d->block[i]), rc);
    for (u32 i = 0; i < CONFIG_MAX_FLOPPIES; i++)
        rc = MIN(close_block(d->floppy[i]), rc);
    for (u32 i = 0; i < CONFIG_MAX_NETS; i++)
        if (d->net[i])
            net_close(d->net[i]);
    free(d);
    return rc;
}
