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
#include "devices/device.h"
#include "machine/machine.h"

struct drives; /* the controllers; `controller` of each device of these classes */

extern const struct device_class cdrom_ide_class, cdrom_ahci_class, disk_ide_class, disk_ahci_class;

struct drives *drives_new(struct error *err); /* NULL with err set */
/* Before the first of them is created: a machine with firmware has IDE in any case. env and m outlive it. */
int must_check drives_begin(struct drives *s, struct machine *m, const struct device_env *env, struct error *err);
/* A CD image; raw: whatever it is. loop NULL: it is attached later. Any thread. NULL with err set. */
struct block *drives_open_disc(const char *file, bool raw, struct loop *loop, struct error *err);
/* As devices_swap_medium, of a CD drive. */
int must_check drives_swap(struct device *d, struct block *b, bool force, struct block **was, struct error *err);
void drives_quiet(struct drives *s); /* before the machine goes; NULL: nothing */
void drives_free(struct drives *s);  /* after it has gone, before the disks are closed; NULL: nothing */

#endif
