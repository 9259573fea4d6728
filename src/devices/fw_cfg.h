/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fw_cfg.h - QEMU's firmware configuration device as seen through its ports: select an item at 510h, read its
 * bytes at 511h.  qemu/docs/specs/fw_cfg.rst.  No DMA interface: item 1 says so.
 *
 * Items are added while the machine is built.  Register access: under the lock the bus range names.
 */
#ifndef LODGE_DEVICES_FW_CFG_H
#define LODGE_DEVICES_FW_CFG_H

#include "base/base.h"
#include "memory/bus.h"
#include "state/state.h"

enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NB_CPUS = 0x05, FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20,
};
enum { FW_CFG_ITEMS = 48, FW_CFG_FILES = 16, FW_CFG_PORT = 0x510, FW_CFG_PORTS = 2 };

struct fw_cfg {
    struct { u8 *data; u32 len; } item[FW_CFG_ITEMS];
    u32 files;
    u16 selector; /* what the guest wrote */
    u32 offset;   /* of the next byte */
};

void fw_cfg_init(struct fw_cfg *f);
void fw_cfg_destroy(struct fw_cfg *f);
void fw_cfg_reset(struct fw_cfg *f);
/* Copies data. 0 or -ENOMEM, -ENOSPC. */
int must_check fw_cfg_add(struct fw_cfg *f, u16 key, const void *data, u32 len);
int must_check fw_cfg_add_int(struct fw_cfg *f, u16 key, u64 value, unsigned size);
int must_check fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data,
                               u32 len); /* name: at most 55 characters */

extern const struct bus_ops fw_cfg_ops; /* FW_CFG_PORTS at FW_CFG_PORT; dev: struct fw_cfg */
extern const struct state_desc fw_cfg_state;

#endif
