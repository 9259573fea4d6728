/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drives.h - the disks and CD drives that are not virtio's: on the PIIX3's two IDE channels, and on an AHCI adapter; inside
 * vm/ only.  The loop's thread.
 *
 * IDE has four places: CD drives take 2, 3, 1, 0.  AHCI has six: CD drives take the last.  Disks take the lowest left.
 */
#ifndef LODGE_VM_DRIVES_H
#define LODGE_VM_DRIVES_H

#include "block/block.h"
#include "vm/devices.h"

struct drives;

/* Opens the discs. Nothing and NULL if there is no such drive. */
int must_check drives_open(struct drives **out, const struct devices_config *c, struct error *err);
/* First the CD drives (d may be NULL), */
int must_check drives_plug_discs(struct drives *d, struct machine *m, struct error *err);
/* then each disk that is not virtio's, in the order in which they are to be booted from. disk: k's, opened; borrowed. */
int must_check drives_plug_disk(struct drives *d, struct machine *m, const struct config_disk *k, struct block *disk,
                                struct error *err);
/* As devices_open_medium and devices_swap_medium, of CD drives. */
struct block *drives_open_disc(const char *file, struct error *err);
int must_check drives_swap(struct drives *d, u32 n, struct block *b, bool force, struct block **was, struct error *err);
void drives_quiet(struct drives *d);  /* before the machine goes */
int drives_close(struct drives *d);   /* after it has gone; -errno, said on standard error, if a disc could not be closed */

#endif
