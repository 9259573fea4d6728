/* SPDX-License-Identifier: Apache-2.0 */
/*
 * firmware_files.h - the files of a machine that starts as a PC does: the firmware's code, and where UEFI keeps its variables.
 *
 * The files are hostile: whatever is in them, the result is bytes of a size that the board can place, or one sentence.
 * One thread at a time; firmware_vars_write: any.
 */
#ifndef LODGE_BOOT_FIRMWARE_H
#define LODGE_BOOT_FIRMWARE_H

#include "base/base.h"
#include "base/error.h"

enum { FIRMWARE_MIN = 64 << 10, FIRMWARE_MAX = 16 << 20 }; /* of code and variables together; bytes */

struct firmware_params { /* strings outlive the call only */
    const char *what; /* "bios": SeaBIOS, "uefi": OVMF (both as Debian packages have them), or a file */
    const char *vars; /* a file with UEFI's variables, made from what OVMF brings if there is none; NULL: "uefi" keeps them
                         for this run alone, others have none */
};

struct firmware {
    u8 *code;
    u32 code_size;   /* whole pages */
    u8 *vars;        /* what the file had when it was opened; NULL: there are none */
    u32 vars_size;   /* whole pages */
    int vars_fd;     /* locked against other machines; -1: kept for this run alone */
    char *vars_path;
};

struct firmware *firmware_open(const struct firmware_params *p, struct error *err); /* NULL with err */
void firmware_close(struct firmware *f);
/* Variables changed: [offset, offset + len) as the file is to have it. 0, -errno of the host. */
int must_check firmware_vars_write(const struct firmware *f, u32 offset, const void *data, u32 len);

/* An option ROM of a package ("pxe-virtio.rom"), allocated; NULL: it is not installed. */
u8 *firmware_rom(const char *file, u32 *size);

#endif
