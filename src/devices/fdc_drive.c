/* SPDX-License-Identifier: Apache-2.0 */
/* fdc_drive.c - what disks there are, which drive takes which, and changing them. */
#include <errno.h>
#include <string.h>

#include "devices/fdc_private.h"

enum { RATE_500K, RATE_300K, RATE_250K, RATE_1M };

/* The first of a size is the drive made for it. */
static const struct format {
    u16 kib;
    u8 drive, cylinders, heads, sectors, rate;
} formats[] = {
    { 160, FDC_360K, 40, 1, 8, RATE_250K },    { 180, FDC_360K, 40, 1, 9, RATE_250K },
    { 320, FDC_360K, 40, 2, 8, RATE_250K },    { 360, FDC_360K, 40, 2, 9, RATE_250K },
    { 720, FDC_720K, 80, 2, 9, RATE_250K },    { 1200, FDC_1200K, 80, 2, 15, RATE_500K },
    { 1440, FDC_1440K, 80, 2, 18, RATE_500K }, { 1680, FDC_1440K, 80, 2, 21, RATE_500K },
    { 2880, FDC_2880K, 80, 2, 36, RATE_1M },
    { 160, FDC_1200K, 40, 1, 8, RATE_300K },   { 180, FDC_1200K, 40, 1, 9, RATE_300K },
    { 320, FDC_1200K, 40, 2, 8, RATE_300K },   { 360, FDC_1200K, 40, 2, 9, RATE_300K },
    { 720, FDC_1440K, 80, 2, 9, RATE_250K },   { 720, FDC_2880K, 80, 2, 9, RATE_250K },
    { 1440, FDC_2880K, 80, 2, 18, RATE_500K }, { 1680, FDC_2880K, 80, 2, 21, RATE_500K },
};

static const struct format *find(u64 bytes, u8 drive) /* FDC_NO_DRIVE: any */
{
    for (u32 i = 0; i < ARRAY_SIZE(formats); i++)
        if (formats[i].kib * 1024ull == bytes && (drive == FDC_NO_DRIVE || formats[i].drive == drive))
            return &formats[i];
    return NULL;
}

enum fdc_drive_type fdc_drive_for(u64 bytes)
{
    const struct format *m = find(bytes, FDC_NO_DRIVE);
    return m ? m->drive : FDC_NO_DRIVE;
}

struct fdc_drive *fdc_drive(struct fdc *f, u8 select)
{
    select &= 3;
    return select < FDC_DRIVES && f->drive[select].type != FDC_NO_DRIVE ? &f->drive[select] : NULL;
}

u8 fdc_drive_cylinder(const struct fdc_drive *d)
{
    return d->double_step ? d->track / 2 : d->track;
}

bool fdc_drive_readable(const struct fdc *f, const struct fdc_drive *d, u8 side, bool mfm)
{
    return d && d->disk && mfm && f->rate == d->rate && side < d->heads && fdc_drive_cylinder(d) < d->cylinders;
}

void fdc_plug(struct fdc *f, u32 drive, enum fdc_drive_type type)
{
    f->drive[drive].type = (u8)type;
}

int fdc_insert(struct fdc *f, u32 drive, struct block *disk, struct error *err)
{
    static const char *const names[] = { "no", "a 360 KiB", "a 1.2 MiB", "a 720 KiB", "a 1.44 MiB", "a 2.88 MiB" };
    struct fdc_drive *d = &f->drive[drive];
    const struct format *m = find(block_size(disk), d->type);

    if (d->type == FDC_NO_DRIVE || !m)
        return error_set(err, EINVAL, "%s has %llu bytes, which is no disk for %s drive", block_path(disk),
                         (unsigned long long)block_size(disk), names[d->type]);
    pthread_mutex_lock(&f->lock);
    d->disk = disk;
    d->cylinders = m->cylinders;
    d->heads = m->heads;
    d->sectors = m->sectors;
    d->rate = m->rate;
    d->double_step = m->cylinders == 40 && d->type == FDC_1200K;
    d->dirty = false;
    d->passed = 0;
    d->changed = true;
    pthread_mutex_unlock(&f->lock);
    return 0;
}

struct block *fdc_eject(struct fdc *f, u32 drive)
{
    struct fdc_drive *d = &f->drive[drive];
    struct block *was;

    pthread_mutex_lock(&f->lock);
    was = d->disk;
    d->disk = NULL;
    d->changed = was || d->changed;
    fdc_transfer_gone(f, drive);
    pthread_mutex_unlock(&f->lock);
    if (was)
        block_drain(was);
    return was;
}
