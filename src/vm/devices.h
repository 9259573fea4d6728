/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.h - the devices that the configuration plugs into a machine, and what is behind them. The loop's thread, but where
 * it says otherwise.
 */
#ifndef LODGE_VM_DEVICES_H
#define LODGE_VM_DEVICES_H

#include "base/error.h"
#include "base/loop.h"
#include "config/config.h"
#include "devices/device.h"
#include "machine/machine.h"

struct devices;

extern const struct device_class *const device_list[]; /* all but device_others; ends with NULL */

struct devices_config {
    const struct vm_config *config;
    const char *image_store; /* or NULL: the folder of images, which disks may have as backing files */
    u8 (*mac)[6]; /* a card's address, instead of what the configuration says; 0: none is given */
    struct loop *loop;
    /* A disk cannot go on (the host's is full): the machine is to wait; go: no longer. The loop's thread, each stop
       followed by its go. */
    void (*stop)(void *ctx, const char *why);
    void (*go)(void *ctx);
    void (*act)(void *ctx, enum device_action what, const char *why); /* these two: see struct device_env */
    u64 (*clock)(void *ctx);
    void *ctx;
};

/* Opens the files, sockets and cables: all that can be refused for the user's sake. */
int must_check devices_open(struct devices **out, const struct devices_config *c, struct error *err);
/* The addresses the cards came up with. */
void devices_macs(struct devices *d, u8 mac[CONFIG_MAX_NETS][6]);
/* Puts into a configuration what is plugged in while the machine is built: floppies, the printer. */
void devices_machine(const struct devices *d, struct machine_config *c);
/* Makes the devices and plugs them in. */
int must_check devices_plug(struct devices *d, struct machine *m, struct error *err);
/* CD drive n, or floppy drive n. */
struct devices_drive {
    bool cdrom;
    u32 n;
};
/* Opens a disc or floppy that is to be put into the drive while the machine runs. It may take long, so any thread may do it.
   readonly is for floppies. NULL with err set. */
struct block *devices_open_medium(struct devices_drive drive, const char *file, bool readonly, struct error *err);
/* Puts it there (NULL: nothing), on the loop's thread; *was, or NULL, is the one from there, for any thread to close. If it
   fails, all stays as it was: -EBUSY if the guest has locked the tray, and not `force`. */
int must_check devices_swap_medium(struct devices *d, struct machine *m, struct devices_drive drive, struct block *b, bool force,
                                   struct block **was, struct error *err);
/* When each one's driver was ready, in ms from `started`, on standard error. */
void devices_timing(const struct devices *d, u64 started);
/* Before the machine's memory goes: nothing is under way any more. */
void devices_quiet(struct devices *d);
/* After the machine is gone. -errno, with one line on standard error, if a disk could not be written out. */
int devices_close(struct devices *d);

#endif
