/* SPDX-License-Identifier: Apache-2.0 */
/* isa.h - of the board "pc": DMA controllers, floppy controller with its drives, parallel port; inside machine/ only. */
#ifndef LODGE_MACHINE_ISA_H
#define LODGE_MACHINE_ISA_H

#include "chardev/chardev.h"
#include "devices/fdc.h"
#include "devices/i8237.h"
#include "devices/lpt.h"

struct machine;

struct isa {
    bool has_drives; /* the controller is there */
    struct i8237 dma;
    struct fdc fdc;
    struct lpt lpt;
    u32 floppies; /* drives there are */
};

/* pc.c's list calls these; the floppy drives come when the RTC's CMOS and the order of booting can be told of them. */
int must_check isa_init_dma(struct machine *m, struct error *err);
int must_check isa_init_fdc(struct machine *m, struct error *err);
int must_check isa_init_lpt(struct machine *m, struct error *err);
int must_check isa_build_drives(struct machine *m, struct error *err);
void isa_ready(struct machine *m);  /* at a reset, after the chips': what a BIOS would do, if there is none */
void isa_settle(struct machine *m); /* nothing is under way on a floppy afterwards */

#endif
