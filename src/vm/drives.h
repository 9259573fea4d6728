/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drives.h - the disks and CD drives that are not virtio's: on the PIIX3's two IDE channels, and on an AHCI adapter; inside
 * vm/ only.  The loop's thread.
 *
 * IDE has four places: CD drives take 2, 3, 1, 0, disks the lowest that are left.  AHCI has six: disks first.
 */
#ifndef LODGE_VM_DRIVES_H
#define LODGE_VM_DRIVES_H

#include "block/block.h"
#include "vm/devices.h"

struct drives;

/* Opens the discs. Nothing and NULL if there is no such drive. */
int must_check drives_open(struct drives **out, const struct devices_config *c, struct error *err);
/* disk: those of the configuration, opened; borrowed. */
int must_check drives_plug(struct drives *d, struct machine *m, struct block *const *disk, struct error *err);
/* As devices_cdrom. */
int must_check drives_change(struct drives *d, u32 n, const char *file, bool force, struct error *err);
void drives_quiet(struct drives *d);  /* before the machine goes */
int drives_close(struct drives *d);   /* after it has gone; -errno, said on standard error, if a disc could not be closed */

#endif
