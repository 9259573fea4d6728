/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fw_cfg.c - the items, the ports they are read through, and their DMA.  Writes to items are ignored, as they are by
 * QEMU since 2.4 (by DMA: refused); past an item's end bytes are zero.
 */
#include "devices/fw_cfg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MASK = 0x3fff, DIR_ENTRY = 64, DIR_NAME = 56 }; /* bits 15-14: architecture-local, write; no such items here */
enum { ID_TRADITIONAL = 1, ID_DMA = 2 };
enum { SELECTOR = 0, DATA = 1, DMA_HIGH = 4, DMA_LOW = 8 }; /* offsets of the registers */
#define ZEROES_MOST MiB(16) /* behind an item in one transfer: the processor waits for it, and so may all the others */
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16, DMA_ACCESS = 16 /* bytes */ };

void fw_cfg_init(struct fw_cfg *f, struct memory *memory)
{
    memset(f, 0, sizeof *f);
    f->memory = memory;
    /* These cannot fail but for want of memory, and then fw_cfg_add_int of the board reports it. */
    (void)!fw_cfg_add(f, FW_CFG_SIGNATURE, "QEMU", 4);
    (void)!fw_cfg_add_int(f, FW_CFG_ID, ID_TRADITIONAL | (memory ? ID_DMA : 0), 4);
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
    f->dma_high = 0;
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

static void big_endian(u8 *p, u64 v, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (u8)(v >> (size - 1 - i) * 8);
}

static u64 from_big_endian(const u8 *p, unsigned size)
{
    u64 v = 0;
    for (unsigned i = 0; i < size; i++)
        v = v << 8 | p[i];
    return v;
}

/* The directory: a count, then { u32 size; u16 select; u16 reserved; char name[56] }, all big-endian. */
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, u32 len)
{
    u8 dir[4 + FW_CFG_FILES * DIR_ENTRY] = { 0 };
    u32 n = 0;

    memcpy(dir, f->item[FW_CFG_FILE_DIR].data, f->item[FW_CFG_FILE_DIR].len);
    while (n < f->files && strncmp((const char *)dir + 4 + n * DIR_ENTRY + 8, name, DIR_NAME))
        n++;
    if (n == FW_CFG_FILES || strlen(name) >= DIR_NAME)
        return -ENOSPC;
    const u16 key = (u16)(FW_CFG_FILE_FIRST + n);
    int rc = fw_cfg_add(f, key, data, len);
    if (rc)
        return rc;
    u8 *e = dir + 4 + n * DIR_ENTRY;
    big_endian(e, len, 4);
    big_endian(e + 4, key, 2);
    memcpy(e + 8, name, strlen(name));
    f->files = MAX(f->files, n + 1);
    big_endian(dir, f->files, 4);
    rc = fw_cfg_add(f, FW_CFG_FILE_DIR, dir, 4 + f->files * DIR_ENTRY);
    return rc ? rc : key;
}

/* ---- reading ------------------------------------------------------------ */

static void select_item(struct fw_cfg *f, u16 key)
{
    f->selector = key;
    f->offset = 0;
    if (f->selected)
        f->selected(f->ctx, key & KEY_MASK);
}

/* How many bytes of the item are left, and where. */
static u32 left(const struct fw_cfg *f, const u8 **at)
{
    const u32 key = f->selector & KEY_MASK;
    if (f->selector & ~KEY_MASK || key >= FW_CFG_ITEMS || f->offset >= f->item[key].len)
        return 0;
    *at = f->item[key].data + f->offset;
    return f->item[key].len - f->offset;
}

/* len bytes to memory at gpa, zeroes after the item's end, if there are not too many. What is in front of an address that
   is no RAM arrives. */
static int dma_read(struct fw_cfg *f, u64 gpa, u32 len)
{
    static const u8 zeroes[GUEST_PAGE_SIZE];
    const u8 *at = NULL;
    const u32 n = MIN(left(f, &at), len);
    u64 end;

    if (len - n > ZEROES_MOST || add_overflows(gpa, len, &end) || (n && memory_write(f->memory, gpa, at, n)))
        return -EFAULT;
    f->offset += n;
    for (gpa += n; gpa < end; gpa += MIN(end - gpa, sizeof zeroes))
        if (memory_write(f->memory, gpa, zeroes, MIN(end - gpa, sizeof zeroes)))
            return -EFAULT;
    return 0;
}

/* struct FWCfgDmaAccess { u32 control; u32 length; u64 address; }, big-endian; control tells the end: 0, or ERROR. */
static void dma(struct fw_cfg *f, u64 gpa)
{
    u8 access[DMA_ACCESS], result[4];

    if (!f->memory || memory_read(f->memory, gpa, access, sizeof access))
        return;
    const u32 control = (u32)from_big_endian(access, 4), len = (u32)from_big_endian(access + 4, 4);
    const u64 address = from_big_endian(access + 8, 8);
    const u8 *at;
    bool failed = false;

    if (control & DMA_SELECT)
        select_item(f, (u16)(control >> 16));
    if (control & DMA_READ)
        failed = dma_read(f, address, len) != 0;
    else if (control & DMA_WRITE)
        failed = true;
    else if (control & DMA_SKIP)
        f->offset += MIN(left(f, &at), len);
    big_endian(result, failed ? DMA_ERROR : 0, 4);
    (void)!memory_write(f->memory, gpa, result, sizeof result); /* it was readable; a ROM has nobody who looks */
}

/* ---- registers ------------------------------------------------------------ */

static u64 fw_cfg_read(void *dev, u64 offset, unsigned size)
{
    static const u8 signature[8] = "QEMU CFG"; /* what the DMA register reads as, from its most significant byte on */
    struct fw_cfg *f = dev;
    const u8 *at;
    u64 v = 0;

    if (offset == DATA) {
        if (left(f, &at))
            v = *at, f->offset++;
    } else if (offset >= DMA_HIGH && f->memory) {
        memcpy(&v, signature + offset - DMA_HIGH, MIN(size, sizeof signature - (offset - DMA_HIGH)));
    }
    return v; /* the selector is write-only */
}

static void fw_cfg_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct fw_cfg *f = dev;
    u8 bytes[4];

    if (offset == SELECTOR) {
        select_item(f, size >= 2 ? (u16)value : (u16)((f->selector & 0xff00) | (value & 0xff)));
    } else if (size == 4 && (offset == DMA_HIGH || offset == DMA_LOW)) {
        memcpy(bytes, &value, 4); /* the register is big-endian */
        if (offset == DMA_HIGH) {
            f->dma_high = (u32)from_big_endian(bytes, 4);
            return;
        }
        const u64 gpa = (u64)f->dma_high << 32 | from_big_endian(bytes, 4);
        f->dma_high = 0;
        dma(f, gpa);
    }
}

const struct bus_ops fw_cfg_ops = { .read = fw_cfg_read, .write = fw_cfg_write, .min_size = 1, .max_size = 4 };

static const struct state_field fields[] = {
    STATE_FIELD(struct fw_cfg, selector, 1),
    STATE_FIELD(struct fw_cfg, offset, 1),
    STATE_FIELD(struct fw_cfg, dma_high, 2),
    STATE_END,
};
const struct state_desc fw_cfg_state = { "fw_cfg", 2, fields, NULL, NULL };
