/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fw_cfg.c - the items, and the two ports they are read through.  Writes to items are ignored, as they are by
 * QEMU since 2.4; past an item's end bytes are zero.
 */
#include "devices/fw_cfg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MASK = 0x3fff, DIR_ENTRY = 64 }; /* bits 15-14: architecture-local, write; we have no such items */

void fw_cfg_init(struct fw_cfg *f)
{
    memset(f, 0, sizeof *f);
    /* These cannot fail but for want of memory, and then fw_cfg_add_int of the board reports it. */
    (void)!fw_cfg_add(f, FW_CFG_SIGNATURE, "QEMU", 4);
    (void)!fw_cfg_add_int(f, FW_CFG_ID, 1, 4); /* the traditional interface only */
    (void)!fw_cfg_add(f, FW_CFG_FILE_DIR, "\0\0\0\0", 4);
}

void fw_cfg_destroy(struct fw_cfg *f)
{
    for (u32 i = 0; i < FW_CFG_ITEMS; i++)
        free(f->item[i].data);
    memset(f, 0, sizeof *f);
}

void fw_cfg_reset(struct fw_cfg *f)
{
    f->selector = 0;
    f->offset = 0;
}

int fw_cfg_add(struct fw_cfg *f, u16 key, const void *data, u32 len)
{
    if (key >= FW_CFG_ITEMS)
        return -ENOSPC;
    u8 *copy = malloc(MAX(len, 1));
    if (!copy)
        return -ENOMEM;
    memcpy(copy, data, len);
    free(f->item[key].data);
    f->item[key].data = copy;
    f->item[key].len = len;
    return 0;
}

int fw_cfg_add_int(struct fw_cfg *f, u16 key, u64 value, unsigned size)
{
    return fw_cfg_add(f, key, &value, size); /* items are little-endian, as the host is */
}

static void big_endian(u8 *p, u32 v, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (u8)(v >> (size - 1 - i) * 8);
}

/* The directory: a count, then { u32 size; u16 select; u16 reserved; char name[56] }, all big-endian. */
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, u32 len)
{
    u8 dir[4 + FW_CFG_FILES * DIR_ENTRY] = { 0 };
    u16 key = (u16)(FW_CFG_FILE_FIRST + f->files);

    if (f->files == FW_CFG_FILES || key >= FW_CFG_ITEMS || strlen(name) > 55)
        return -ENOSPC;
    int rc = fw_cfg_add(f, key, data, len);
    if (rc)
        return rc;
    memcpy(dir, f->item[FW_CFG_FILE_DIR].data, f->item[FW_CFG_FILE_DIR].len);
    u8 *e = dir + 4 + f->files * DIR_ENTRY;
    big_endian(e, len, 4);
    big_endian(e + 4, key, 2);
    memcpy(e + 8, name, strlen(name));
    f->files++;
    big_endian(dir, f->files, 4);
    return fw_cfg_add(f, FW_CFG_FILE_DIR, dir, 4 + f->files * DIR_ENTRY);
}

static u64 fw_cfg_read(void *dev, u64 offset, unsigned size)
{
    struct fw_cfg *f = dev;
    if (offset != 1) /* the selector is write-only */
        return 0;
    u32 key = f->selector & KEY_MASK;
    if (key >= FW_CFG_ITEMS || f->offset >= f->item[key].len)
        return 0;
    return f->item[key].data[f->offset++];
}

static void fw_cfg_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct fw_cfg *f = dev;
    if (offset != 0)
        return;
    f->selector = size == 2 ? (u16)value : (u16)((f->selector & 0xff00) | (value & 0xff));
    f->offset = 0;
}

const struct bus_ops fw_cfg_ops = { .read = fw_cfg_read, .write = fw_cfg_write, .min_size = 1, .max_size = 2 };

static const struct state_field fields[] = {
    STATE_FIELD(struct fw_cfg, selector, 1),
    STATE_FIELD(struct fw_cfg, offset, 1),
    STATE_END,
};
const struct state_desc fw_cfg_state = { "fw_cfg", 1, fields, NULL, NULL };
