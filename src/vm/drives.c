/* SPDX-License-Identifier: Apache-2.0 */
/* drives.c - see drives.h. */
#include "vm/drives.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/ahci.h"
#include "devices/ide.h"

struct drives {
    struct machine *machine;
    const struct device_env *env;
    struct device ide, ahci; /* the controllers; dev NULL: there is none */
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

struct block *drives_open_disc(const char *file, bool raw, struct loop *loop, struct error *err)
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

/* ---- controllers ---- */

static void reset_ide(struct device *d) { ide_reset(d->dev); }
static void settle_ide(struct device *d) { ide_settle(d->dev); }
static void resume_ide(struct device *d) { ide_resume(d->dev); }
static void reset_ahci(struct device *d) { ahci_reset(d->dev); }
static void settle_ahci(struct device *d) { ahci_settle(d->dev); }
static void resume_ahci(struct device *d) { ahci_resume(d->dev); }

static int create_ide(struct device *d, const struct device_env *env, struct error *err)
{
    (void)env;
    d->dev = calloc(1, sizeof(struct ide));
    return d->dev ? machine_place_ide(d->controller, d->dev, err) : error_set(err, ENOMEM, "out of memory");
}

static int create_ahci(struct device *d, const struct device_env *env, struct error *err)
{
    d->dev = calloc(1, sizeof(struct ahci));
    return d->dev ? ahci_init(d->dev, env->pci, env->state, err) : error_set(err, ENOMEM, "out of memory");
}

static void unplug_ide(struct device *d)
{
    ide_destroy(d->dev);
    free(d->dev);
}

static void unplug_ahci(struct device *d)
{
    ahci_destroy(d->dev);
    free(d->dev);
}

/* They are in no list of the configuration: the first drive on one brings it along. */
static const struct device_class ide_class = {
    .kind = DEVICE_KINDS, .name = "ide", .create = create_ide, .unplug = unplug_ide, .reset = reset_ide, .settle = settle_ide,
    .resume = resume_ide,
};
static const struct device_class ahci_class = {
    .kind = DEVICE_KINDS, .name = "ahci", .create = create_ahci, .unplug = unplug_ahci, .reset = reset_ahci, .settle = settle_ahci,
    .resume = resume_ahci,
};

static int make(struct drives *s, struct device *d, const struct device_class *class, struct error *err)
{
    int rc;

    if (d->dev)
        return 0;
    *d = (struct device){ .class = class, .env = s->env, .controller = s->machine };
    rc = class->create(d, s->env, err);
    return rc ? rc : machine_add_device(s->machine, d, err);
}

/* ---- places ---- */

/* On AHCI the last places are the CD drives', in their order. */
static u32 first_cd(const struct vm_config *c)
{
    u32 n = AHCI_PORTS;

    for (u32 i = 0; i < c->ncdroms; i++)
        n -= c->cdrom[i].bus == CDROM_AHCI;
    return n;
}

static int place_ide(struct drives *s, struct device *d, struct ata_drive_config *c, struct error *err)
{
    static const u8 cd[IDE_DRIVES] = { 2, 3, 1, 0 };
    char serial[ATA_SERIAL + 1], path[MACHINE_BOOT_PATH];
    int rc = make(s, &s->ide, &ide_class, err);
    struct ide *ide = s->ide.dev;

    for (u32 i = 0; i < IDE_DRIVES && !rc; i++) {
        const u32 n = c->cdrom ? cd[i] : i;
        if (ide_drive(ide, n))
            continue;
        snprintf(serial, sizeof serial, "LI0000%u", n);
        c->serial = c->serial ? c->serial : serial;
        if ((rc = ide_plug(ide, n, c, err)))
            return rc;
        d->dev = ide_drive(ide, n);
        snprintf(path, sizeof path, "ide@/drive@%u/disk@%u", n / 2, n % 2);
        return machine_add_pci_boot(s->machine, c->cdrom ? MACHINE_BOOT_CDROM : MACHINE_BOOT_DISK, &ide->f, path, err);
    }
    return rc ? rc : error_set(err, E2BIG, "IDE has room for %u drives, disks and CD drives together", (u32)IDE_DRIVES);
}

static int place_ahci(struct drives *s, struct device *d, struct ata_drive_config *c, struct error *err)
{
    const u32 first = c->cdrom ? first_cd(s->env->config) : 0;
    char serial[ATA_SERIAL + 1], path[MACHINE_BOOT_PATH];
    int rc = make(s, &s->ahci, &ahci_class, err);
    struct ahci *ahci = s->ahci.dev;

    for (u32 i = 0; i < AHCI_PORTS && !rc; i++) {
        const u32 n = (first + i) % AHCI_PORTS;
        if (ahci_drive(ahci, n))
            continue;
        snprintf(serial, sizeof serial, "LS0000%u", n);
        c->serial = c->serial ? c->serial : serial;
        if ((rc = ahci_plug(ahci, n, c, err)))
            return rc;
        d->dev = ahci_drive(ahci, n);
        snprintf(path, sizeof path, "pci8086,2922@/drive@%u/disk@0", n);
        return machine_add_pci_boot(s->machine, c->cdrom ? MACHINE_BOOT_CDROM : MACHINE_BOOT_DISK, &ahci->f, path, err);
    }
    return rc ? rc : error_set(err, E2BIG, "AHCI has room for %u drives, disks and CD drives together", (u32)AHCI_PORTS);
}

/* ---- the classes; a drive ends with its controller ---- */

static struct ata_drive_config disc_config(const struct device *d, const struct device_env *env)
{
    return (struct ata_drive_config){ .cdrom = true, .block = d->block, .memory = env->memory, .loop = env->loop };
}

static struct ata_drive_config disk_config(const struct device *d, const struct device_env *env)
{
    const struct config_disk *k = &env->config->disk[d->index];

    return (struct ata_drive_config){
        .block = d->block, .serial = k->serial, .discard = k->discard, .rerror = config_read_errors(k), .werror = k->errors,
        .stop = env->disk_stop, .go = env->disk_go, .ctx = env->machine, .memory = env->memory, .loop = env->loop,
    };
}

static int cdrom_ide(struct device *d, const struct device_env *env, struct error *err)
{
    struct ata_drive_config c = disc_config(d, env);
    return place_ide(d->controller, d, &c, err);
}

static int cdrom_ahci(struct device *d, const struct device_env *env, struct error *err)
{
    struct ata_drive_config c = disc_config(d, env);
    return place_ahci(d->controller, d, &c, err);
}

static int disk_ide(struct device *d, const struct device_env *env, struct error *err)
{
    struct ata_drive_config c = disk_config(d, env);
    return place_ide(d->controller, d, &c, err);
}

static int disk_ahci(struct device *d, const struct device_env *env, struct error *err)
{
    struct ata_drive_config c = disk_config(d, env);
    return place_ahci(d->controller, d, &c, err);
}

const struct device_class cdrom_ide_class = { .kind = DEVICE_CDROM, .name = "ide", .create = cdrom_ide };
const struct device_class cdrom_ahci_class = { .kind = DEVICE_CDROM, .name = "ahci", .create = cdrom_ahci };
const struct device_class disk_ide_class = { .kind = DEVICE_DISK, .name = "ide", .create = disk_ide };
const struct device_class disk_ahci_class = { .kind = DEVICE_DISK, .name = "ahci", .create = disk_ahci };

int drives_swap(struct device *d, struct block *b, bool force, struct block **was, struct error *err)
{
    int rc;

    if (d->block)
        block_hurry(d->block, true); /* the machine waits for what is under way */
    if ((rc = ata_change_medium(d->dev, b, force, err))) {
        if (d->block)
            block_hurry(d->block, false);
        return rc;
    }
    *was = d->block;
    d->block = b;
    return 0;
}

/* ---- life ---- */

struct drives *drives_new(struct error *err)
{
    struct drives *s = calloc(1, sizeof *s);
    if (!s)
        error_set(err, ENOMEM, "out of memory");
    return s;
}

int drives_begin(struct drives *s, struct machine *m, const struct device_env *env, struct error *err)
{
    s->machine = m;
    s->env = env;
    /* Firmware expects the PIIX3's IDE: U-Boot takes FFh there for a busy drive. */
    return env->config->kernel || !env->pci ? 0 : make(s, &s->ide, &ide_class, err);
}

void drives_quiet(struct drives *s)
{
    if (s && s->ide.dev)
        ide_settle(s->ide.dev);
    if (s && s->ahci.dev)
        ahci_settle(s->ahci.dev);
}

void drives_free(struct drives *s)
{
    if (s && s->ide.dev)
        unplug_ide(&s->ide);
    if (s && s->ahci.dev)
        unplug_ahci(&s->ahci);
    free(s);
}
