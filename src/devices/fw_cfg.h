/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fw_cfg.h - QEMU's firmware configuration device: select an item at 510h and read its bytes at 511h, or have it copied
 * to memory (DMA, 514h).  qemu/docs/specs/fw_cfg.rst.
 *
 * Items are added while the machine is built, and may be replaced while no vCPU runs or from selected(); no item can be
 * written by the guest.  Register access: under the lock the bus range names.
 */
#ifndef LODGE_DEVICES_FW_CFG_H
#define LODGE_DEVICES_FW_CFG_H

#include "base/base.h"
#include "memory/bus.h"
#include "memory/memory.h"
#include "state/state.h"

enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NOGRAPHIC = 0x04, FW_CFG_NB_CPUS = 0x05,
    FW_CFG_BOOT_MENU = 0x0e, FW_CFG_MAX_CPUS = 0x0f, FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20,
};
enum { FW_CFG_FILES = 32, FW_CFG_ITEMS = FW_CFG_FILE_FIRST + FW_CFG_FILES, FW_CFG_PORT = 0x510, FW_CFG_PORTS = 12 };

struct fw_cfg {
    struct { u8 *data; u32 len; } item[FW_CFG_ITEMS];
    u32 files;
    struct memory *memory;                  /* for DMA; NULL: there is none, and item 1 says so */
    void (*selected)(void *ctx, u16 key);   /* before the guest reads an item from its beginning; or NULL */
    void *ctx;
    u16 selector;    /* what the guest wrote */
    u32 offset;      /* of the next byte */
    u32 dma_high;    /* of the address, until its low half starts the transfer */
};

void fw_cfg_init(struct fw_cfg *f, struct memory *memory);
void fw_cfg_destroy(struct fw_cfg *f);
void fw_cfg_reset(struct fw_cfg *f);
/* Copies data. 0 or -ENOMEM, -ENOSPC. */
int must_check fw_cfg_add(struct fw_cfg *f, u16 key, const void *data, u32 len);
int must_check fw_cfg_add_int(struct fw_cfg *f, u16 key, u64 value, unsigned size);
/* name: at most 55 characters; one that exists gets new contents. Its key, or -ENOMEM, -ENOSPC. */
int must_check fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, u32 len);

extern const struct bus_ops fw_cfg_ops; /* FW_CFG_PORTS at FW_CFG_PORT; dev: struct fw_cfg */
extern const struct state_desc fw_cfg_state;

#endif
