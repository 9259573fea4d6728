/* SPDX-License-Identifier: Apache-2.0 */
/*
 * firmware_files.h - the files of a machine that starts as a PC does: the firmware's code, and the file where UEFI
 * keeps its variables.
 *
 * The files are hostile: whatever is in them, the result is bytes of a size that the board can place, or one sentence.
 * One thread at a time; firmware_vars_write: any thread.
 */
#ifndef LODGE_BOOT_FIRMWARE_H
#define LODGE_BOOT_FIRMWARE_H

#include "base/base.h"
#include "base/error.h"

enum { FIRMWARE_MIN = 64 << 10, FIRMWARE_MAX = 16 << 20 }; /* bytes of code and variables together */

struct firmware_params { /* the strings are needed only during the call */
    const char *what; /* "bios": SeaBIOS, "uefi": OVMF (both from Debian's packages), or a file */
    const char *vars; /* a file with UEFI's variables; if it does not exist, it is made from the one that comes with
                         OVMF; NULL: "uefi" keeps its variables for this run only, other firmware has none */
};

struct firmware {
    u8 *code;
    u32 code_size;   /* whole pages */
    u8 *vars;        /* the content of the file when it was opened; NULL: there are no variables */
    u32 vars_size;   /* whole pages */
    int vars_fd;     /* locked against other machines; -1: the variables are kept for this run only */
    char *vars_path;
};

struct firmware *firmware_open(const struct firmware_params *p, struct error *err); /* NULL with err */
void firmware_close(struct firmware *f);
/* Variables changed: writes [offset, offset + len) to the file. 0, or -errno of the host. */
int must_check firmware_vars_write(const struct firmware *f, u32 offset, const void *data, u32 len);

/* Reads an option ROM of a package ("pxe-virtio.rom") into allocated memory; NULL: it is not installed. */
u8 *firmware_rom(const char *file, u32 *size);

#endif
