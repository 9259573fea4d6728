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
    bool built;
    struct i8237 dma;
    struct fdc fdc;
    struct lpt lpt;
    u32 floppies; /* drives there are */
};

int must_check isa_build(struct machine *m, struct error *err);
void isa_destroy(struct machine *m);
void isa_reset(struct machine *m);
void isa_settle(struct machine *m); /* nothing is under way on a floppy afterwards */

#endif
