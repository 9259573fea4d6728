/* SPDX-License-Identifier: Apache-2.0 */
/* drives.c - see drives.h. */
#include "vm/drives.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "devices/ahci.h"
#include "devices/ide.h"

struct drives {
    struct devices_config c;
    struct ide *ide;
    struct ahci *ahci;
    struct block *disc[CONFIG_MAX_CDROMS];
    struct ata_drive *cd[CONFIG_MAX_CDROMS];
};

/* ---- discs ---- */

/* ISO 9660 (ECMA-119, 8.1), or UDF (ECMA-167, 2/9.1), or Apple's, which has a partition map or HFS on it: what a file that
   is no CD image has none of. */
static bool is_disc(struct block *b, int *rc)
{
    static const char *const ids[] = { "CD001", "BEA01", "NSR02", "NSR03", "CDROM" };
    enum { FIRST = 16, LAST = 24, SECTOR = 2048 };
    u8 s[SECTOR];

    for (u32 n = FIRST; n <= LAST && (n + 1ull) * SECTOR <= block_size(b); n++) {
        if ((*rc = block_sync(b, BLOCK_READ, (u64)n * SECTOR, s, sizeof s)))
            return false;
        for (u32 i = 0; i < ARRAY_SIZE(ids); i++)
            if (!memcmp(s + 1, ids[i], 5) || !memcmp(s + 9, ids[i], 5))
                return true;
    }
    if (block_size(b) < SECTOR)
        return false;
    *rc = block_sync(b, BLOCK_READ, 0, s, sizeof s);
    return !*rc && (!memcmp(s + 512, "PM", 2) || !memcmp(s + 1024, "BD", 2));
}

static struct block *open_disc(const char *file, bool raw, struct loop *loop, struct error *err)
{
    struct block_options o = { .path = file, .format = BLOCK_RAW, .readonly = true };
    struct block *b = block_open(&o, loop, err);
    int rc = 0;

    if (b && (raw || is_disc(b, &rc)))
        return b;
    if (b) {
        block_close(b, NULL);
        if (rc)
            error_set(err, -rc, "%s cannot be read: %s", file, strerror(-rc));
        else
            error_set(err, EINVAL, "%s is no CD image: it has no ISO 9660 or UDF file system; with format=raw it is taken as it is",
                      file);
    }
    return NULL;
}

int drives_open(struct drives **out, const struct devices_config *c, struct error *err)
{
    const struct vm_config *vc = c->config;
    bool any = vc->ncdroms > 0 || !vc->kernel; /* firmware expects the PIIX3's IDE: U-Boot takes FFh there for a busy drive */
    struct drives *d;

    for (u32 i = 0; i < vc->ndisks; i++)
        any = any || vc->disk[i].bus != DRIVE_VIRTIO;
    if (!any)
        return 0;
    if (!(d = *out = calloc(1, sizeof *d)))
        return error_set(err, ENOMEM, "out of memory");
    d->c = *c;
    for (u32 i = 0; i < vc->ncdroms; i++) {
        const struct config_cdrom *cd = &vc->cdrom[i];
        if (cd->path && !(d->disc[i] = open_disc(cd->path, cd->format == DISK_FORMAT_RAW, c->loop, err)))
            return -EINVAL;
    }
    return 0;
}

/* ---- places ---- */

static int make_ide(struct drives *d, struct machine *m, struct error *err)
{
    if (d->ide)
        return 0;
    if (!(d->ide = calloc(1, sizeof *d->ide)))
        return error_set(err, ENOMEM, "out of memory");
    return machine_plug_ide(m, d->ide, err);
}

static void on_reset(void *a) { ahci_reset(a); }
static void on_settle(void *a) { ahci_settle(a); }
static void on_resume(void *a) { ahci_resume(a); }

static int make_ahci(struct drives *d, struct machine *m, struct error *err)
{
    int rc;

    if (d->ahci)
        return 0;
    if (!(d->ahci = calloc(1, sizeof *d->ahci)))
        return error_set(err, ENOMEM, "out of memory");
    if ((rc = ahci_init(d->ahci, machine_pci(m), machine_state_list(m), err)))
        return rc;
    return machine_add_part(m, &(struct machine_part){ d->ahci, on_reset, on_settle, on_resume }, err);
}

/* On AHCI the last places are the CD drives', in their order. */
static u32 first_cd(const struct drives *d)
{
    u32 n = AHCI_PORTS;

    for (u32 i = 0; i < d->c.config->ncdroms; i++)
        n -= d->c.config->cdrom[i].bus == CDROM_AHCI;
    return n;
}

static int place(struct drives *d, struct machine *m, enum config_drive_bus bus, struct ata_drive_config *c,
                 struct ata_drive **out, struct error *err)
{
    static const u8 cd_ide[IDE_DRIVES] = { 2, 3, 1, 0 };
    const bool ide = bus == DRIVE_IDE;
    const u32 places = ide ? IDE_DRIVES : AHCI_PORTS;
    char serial[ATA_SERIAL + 1], path[MACHINE_BOOT_PATH];
    int rc = ide ? make_ide(d, m, err) : make_ahci(d, m, err);

    for (u32 i = 0; i < places && !rc; i++) {
        const u32 n = !c->cdrom ? i : ide ? cd_ide[i] : (first_cd(d) + i) % places;
        if (ide ? ide_drive(d->ide, n) : ahci_drive(d->ahci, n))
            continue;
        if (!c->serial) {
            snprintf(serial, sizeof serial, "%s%u", ide ? "LI0000" : "LS0000", n);
            c->serial = serial;
        }
        if ((rc = ide ? ide_plug(d->ide, n, c, err) : ahci_plug(d->ahci, n, c, err)))
            return rc;
        *out = ide ? ide_drive(d->ide, n) : ahci_drive(d->ahci, n);
        snprintf(path, sizeof path, ide ? "ide@/drive@%u/disk@%u" : "pci8086,2922@/drive@%u/disk@0", ide ? n / 2 : n, n % 2);
        return machine_add_pci_boot(m, c->cdrom ? MACHINE_BOOT_CDROM : MACHINE_BOOT_DISK, ide ? &d->ide->f : &d->ahci->f, path, err);
    }
    return rc ? rc : error_set(err, E2BIG, "%s has room for %u drives, disks and CD drives together", ide ? "IDE" : "AHCI", places);
}

int drives_plug_discs(struct drives *d, struct machine *m, struct error *err)
{
    int rc = d && !d->c.config->kernel ? make_ide(d, m, err) : 0;

    for (u32 i = 0; d && i < d->c.config->ncdroms && !rc; i++) {
        struct ata_drive_config c = { .cdrom = true, .block = d->disc[i], .memory = machine_memory(m), .loop = d->c.loop };
        rc = place(d, m, d->c.config->cdrom[i].bus == CDROM_AHCI ? DRIVE_AHCI : DRIVE_IDE, &c, &d->cd[i], err);
    }
    return rc;
}

int drives_plug_disk(struct drives *d, struct machine *m, const struct config_disk *k, struct block *disk, struct error *err)
{
    static const enum ata_error_policy policy[] = {
        [DISK_ERRORS_ENOSPC] = ATA_ENOSPC, [DISK_ERRORS_STOP] = ATA_STOP, [DISK_ERRORS_REPORT] = ATA_REPORT,
    };
    struct ata_drive_config c = {
        .block = disk, .serial = k->serial, .discard = k->discard,
        .rerror = k->errors == DISK_ERRORS_STOP ? ATA_STOP : ATA_REPORT, .werror = policy[k->errors],
        .stop = d->c.stop, .go = d->c.go, .ctx = d->c.ctx, .memory = machine_memory(m), .loop = d->c.loop,
    };
    struct ata_drive *drive;

    return place(d, m, k->bus, &c, &drive, err);
}

struct block *drives_open_disc(const char *file, struct error *err)
{
    return open_disc(file, false, NULL, err);
}

int drives_swap(struct drives *d, u32 n, struct block *b, bool force, struct block **was, struct error *err)
{
    int rc;

    if (!d || n >= CONFIG_MAX_CDROMS || !d->cd[n])
        return error_set(err, ENODEV, "the machine has no CD drive %u", n);
    if (d->disc[n])
        block_hurry(d->disc[n], true); /* the machine waits for what is under way */
    if ((rc = ata_change_medium(d->cd[n], b, force, err))) {
        if (d->disc[n])
            block_hurry(d->disc[n], false);
        return rc;
    }
    *was = d->disc[n];
    d->disc[n] = b;
    return 0;
}

/* ---- the end ---- */

void drives_quiet(struct drives *d)
{
    if (d && d->ide)
        ide_settle(d->ide);
    if (d && d->ahci)
        ahci_settle(d->ahci);
}

int drives_close(struct drives *d)
{
    int rc = 0;

    if (!d)
        return 0;
    if (d->ide)
        ide_destroy(d->ide);
    if (d->ahci)
        ahci_destroy(d->ahci);
    for (u32 i = 0; i < CONFIG_MAX_CDROMS; i++) {
        struct error err = { "" };
        const int r = d->disc[i] ? block_close(d->disc[i], &err) : 0;
        if (r)
            log_error("%s", err.text);
        rc = r ? r : rc;
    }
    free(d->ide);
    free(d->ahci);
    free(d);
    return rc;
}
