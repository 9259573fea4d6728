/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atapi_disc.c - what a CD-ROM drive answers about itself and its disc.  MMC-5 ch. 5 (features, profiles), 6; SPC-3 7.4
 * (mode pages).  More than a CD holds is a DVD-ROM.
 */
#include <string.h>

#include "devices/ata_internal.h"

enum { CD_SECTORS = 80 * 60 * 75, PROFILE_CD_ROM = 0x08, PROFILE_DVD_ROM = 0x10, LEAD_OUT = 0xaa };

static u32 sectors(const struct ata_drive *d)
{
    return (u32)MIN(d->size / ATA_CD_SECTOR, UINT32_MAX);
}

static bool is_dvd(const struct ata_drive *d)
{
    return sectors(d) > CD_SECTORS;
}

static u32 refuse(struct ata_drive *d)
{
    d->sense_key = SENSE_ILLEGAL_REQUEST;
    d->asc = ASC_INVALID_FIELD;
    d->ascq = 0;
    return 0;
}

/* ---- READ TOC/PMA/ATIP, 6.26 ---- */

static u8 *address(u8 *to, u32 lba, bool msf)
{
    if (msf) {
        to[0] = 0;
        atapi_msf(lba, to + 1);
    } else {
        put_be32(to, lba);
    }
    return to + 4;
}

static u8 *toc_entry(u8 *to, u8 track, u32 lba, bool msf)
{
    to[0] = 0;
    to[1] = 0x14; /* data */
    to[2] = track;
    to[3] = 0;
    return address(to + 4, lba, msf);
}

static u8 *full_toc_entry(u8 *to, u8 point, u8 m, u8 s, u8 f)
{
    const u8 entry[11] = { 1, 0x14, 0, point, 0, 0, 0, 0, m, s, f };
    memcpy(to, entry, sizeof entry);
    return to + sizeof entry;
}

u32 atapi_toc(struct ata_drive *d, u8 *to)
{
    const bool msf = d->cdb[1] & 2;
    const u8 format = d->cdb[2] & 0xf ? d->cdb[2] & 0xf : d->cdb[9] >> 6, start = d->cdb[6];
    u8 *p = to + 4, end[3];

    memset(to, 0, 64);
    to[2] = to[3] = 1; /* first and last, track or session */
    switch (format) {
    case 0:
        if (start > 1 && start != LEAD_OUT)
            return refuse(d);
        if (start <= 1)
            p = toc_entry(p, 1, 0, msf);
        p = toc_entry(p, LEAD_OUT, sectors(d), msf);
        break;
    case 1:
        p = toc_entry(p, 1, 0, msf);
        break;
    case 2:
        atapi_msf(sectors(d), end);
        p = full_toc_entry(p, 0xa0, 1, 0, 0);
        p = full_toc_entry(p, 0xa1, 1, 0, 0);
        p = full_toc_entry(p, 0xa2, end[0], end[1], end[2]);
        p = full_toc_entry(p, 1, 0, 2, 0);
        break;
    default:
        return refuse(d);
    }
    put_be16(to, (u32)(p - to) - 2);
    return (u32)(p - to);
}

/* ---- GET CONFIGURATION, 6.6 ---- */

static u8 *feature(u8 *to, u32 code, u8 flags, u8 len)
{
    put_be16(to, code);
    to[2] = flags; /* version << 2 | persistent << 1 | current */
    to[3] = len;
    memset(to + 4, 0, len);
    return to + 4;
}

u32 atapi_configuration(struct ata_drive *d, u8 *to)
{
    const u8 rt = d->cdb[1] & 3;
    const u32 from = be16(d->cdb + 2), profile = !atapi_present(d) ? 0 : is_dvd(d) ? PROFILE_DVD_ROM : PROFILE_CD_ROM;
    const bool cd = profile == PROFILE_CD_ROM, dvd = profile == PROFILE_DVD_ROM;
    static const u16 codes[] = { 0x0, 0x1, 0x3, 0x10, 0x1e, 0x1f };
    u8 *p = to + 8;

    memset(to, 0, 8);
    if (rt == 3)
        return refuse(d);
    put_be16(to + 6, profile);
    for (u32 i = 0; i < ARRAY_SIZE(codes); i++) {
        const u16 code = codes[i];
        const bool current = code < 0x10 || (code == 0x10 && profile) || (code == 0x1e && cd) || (code == 0x1f && dvd);
        u8 *f;
        if (rt == 2 ? code != from : code < from || (rt == 1 && !current))
            continue;
        switch (code) {
        case 0x0: /* profiles */
            f = feature(p, code, 3, 8);
            put_be16(f, PROFILE_DVD_ROM);
            f[2] = dvd;
            put_be16(f + 4, PROFILE_CD_ROM);
            f[6] = cd;
            p = f + 8;
            break;
        case 0x1: /* core: ATAPI */
            f = feature(p, code, 2 << 2 | 3, 8);
            put_be32(f, 2);
            f[4] = 1; /* device busy event */
            p = f + 8;
            break;
        case 0x3: /* removable medium: a tray, ejects, locks */
            f = feature(p, code, 3, 4);
            f[0] = 1 << 5 | 8 | 1;
            p = f + 4;
            break;
        case 0x10: /* random readable */
            f = feature(p, code, profile != 0, 8);
            put_be32(f, ATA_CD_SECTOR);
            put_be16(f + 4, 1);
            p = f + 8;
            break;
        case 0x1e: /* CD read */
            p = feature(p, code, (u8)(2 << 2 | cd), 4) + 4;
            break;
        default: /* DVD read */
            p = feature(p, code, dvd, 4) + 4;
            break;
        }
    }
    put_be32(to, (u32)(p - to) - 4);
    return (u32)(p - to);
}

/* ---- GET EVENT STATUS NOTIFICATION, 6.7 ---- */

u32 atapi_event_status(struct ata_drive *d, u8 *to)
{
    enum { CLASS_MEDIA = 4 };

    if (!(d->cdb[1] & 1)) /* only by polling */
        return refuse(d);
    memset(to, 0, 8);
    to[3] = BIT(CLASS_MEDIA);
    if (!(d->cdb[4] & BIT(CLASS_MEDIA))) {
        to[1] = 2;
        to[2] = 0x80; /* no event of these classes */
        return 4;
    }
    to[1] = 6;
    to[2] = CLASS_MEDIA;
    to[4] = d->media_event;
    to[5] = (u8)(d->tray_open | (atapi_present(d) ? 2 : 0));
    d->media_event = 0;
    return 8;
}

/* ---- MODE SENSE, SPC-3 6.9 ---- */

u32 atapi_mode_sense(struct ata_drive *d, u8 *to)
{
    const bool six = d->cdb[0] == 0x1a;
    const u8 page = d->cdb[2] & 0x3f, control = d->cdb[2] >> 6;
    u8 *p = to + (six ? 4 : 8);
    const bool changeable = control == 1;

    if (control == 3) {
        d->sense_key = SENSE_ILLEGAL_REQUEST;
        d->asc = ASC_SAVING_NOT_SUPPORTED;
        return 0;
    }
    memset(to, 0, 128);
    if (page == 0x01 || page == 0x3f) { /* read error recovery */
        p[0] = 0x01;
        p[1] = 6;
        p[3] = changeable ? 0 : 5; /* retries */
        p += 8;
    }
    if (page == 0x0e || page == 0x3f) { /* CD audio control */
        p[0] = 0x0e;
        p[1] = 14;
        if (!changeable)
            p[2] = 4, p[8] = 1, p[9] = 0xff, p[10] = 2, p[11] = 0xff;
        p += 16;
    }
    if (page == 0x2a || page == 0x3f) { /* capabilities and mechanical status */
        p[0] = 0x2a;
        p[1] = 20;
        if (!changeable) {
            p[2] = 0x3b; /* reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R */
            p[4] = 0x70; /* mode 2 forms 1 and 2, multisession */
            p[6] = (u8)(0x29 | (d->locked ? 2 : 0)); /* a tray that locks and ejects */
            put_be16(p + 8, 706 * 4);  /* KB/s: 16 times a CD */
            put_be16(p + 10, 2);
            put_be16(p + 12, 512);     /* KiB of buffer */
            put_be16(p + 14, 706 * 4);
        }
        p += 22;
    }
    if (p == to + (six ? 4 : 8))
        return refuse(d);
    const u8 medium = !atapi_present(d) ? 0x70 : 0x01; /* none; data CD of 120 mm */
    if (six) {
        to[0] = (u8)(p - to - 1);
        to[1] = medium;
    } else {
        put_be16(to, (u32)(p - to) - 2);
        to[2] = medium;
    }
    return (u32)(p - to);
}

/* ---- READ DISC INFORMATION, READ TRACK INFORMATION, READ DVD STRUCTURE; 6.22, 6.27, 6.23 ---- */

u32 atapi_disc_information(struct ata_drive *d, u8 *to)
{
    if (d->cdb[1] & 7)
        return refuse(d);
    memset(to, 0, 34);
    to[1] = 32;
    to[2] = 0x0e; /* the last session complete, the disc finalized */
    to[3] = to[4] = to[5] = to[6] = 1;
    to[7] = 0x20; /* unrestricted use */
    memset(to + 16, 0xff, 8); /* no lead-in or lead-out to be written */
    return 34;
}

u32 atapi_track_information(struct ata_drive *d, u8 *to)
{
    const u8 type = d->cdb[1] & 3;
    const u32 n = be32(d->cdb + 2);

    if (type == 3 || (type == 0 && n >= sectors(d)) || (type && n != 1))
        return refuse(d);
    memset(to, 0, 36);
    to[1] = 34;
    to[2] = to[3] = 1;
    to[5] = 4; /* data */
    to[6] = 1; /* mode 1 */
    put_be32(to + 24, sectors(d));
    return 36;
}

u32 atapi_dvd_structure(struct ata_drive *d, u8 *to)
{
    enum { LEAD_IN = 0x30000 };

    if (!is_dvd(d) || d->cdb[1] & 0xf || d->cdb[6])
        return refuse(d);
    switch (d->cdb[7]) {
    case 0: /* physical format: DVD-ROM, 120 mm, one layer */
        memset(to, 0, 2052);
        put_be16(to, 2050);
        to[4] = 1;
        to[5] = 0x0f;
        to[6] = 1;
        put_be32(to + 8, LEAD_IN);
        put_be32(to + 12, LEAD_IN + sectors(d) - 1);
        return 2052;
    case 1: /* no copyright */
        memset(to, 0, 8);
        put_be16(to, 6);
        return 8;
    default:
        return refuse(d);
    }
}
