/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - images of installed systems, and the machines that run them. Both are folders of this user:
 *
 *   $XDG_DATA_HOME/lodge (else ~/.local/share/lodge)
 *     images/NAME/   image.conf, disk.raw, and where it is known: vmlinuz, initrd.  Never written again.
 *     vms/NAME/      one machine: disk.qcow2 (its overlay), seed.img, the keys, known_hosts, machine.conf, lock
 *
 * A folder is made under a name that begins with a dot, and is renamed when it is complete. The process that runs a
 * machine locks the machine's folder (F_OFD_SETLK on its file `lock`). The folder of a throw-away machine is removed
 * when its process ends. If that process was killed, the folder is removed when the next machine is made.
 *
 * Names have 1 to IMAGE_NAME_MAX characters of a-z 0-9 and "-". They begin and end with a letter or digit, because they
 * become host names. Any thread; no two threads at the same time on one struct.
 */
#ifndef LODGE_STORE_STORE_H
#define LODGE_STORE_STORE_H

#include <limits.h>

#include "base/base.h"
#include "base/error.h"

enum { IMAGE_NAME_MAX = 63 };

/* Gives the folder that holds everything, and makes it if it is missing. 0 or -errno with err set. */
int must_check image_home(char path[PATH_MAX], struct error *err);
bool image_name_valid(const char *name);
/* Gives the folder of the images, for block_follow.store. It makes nothing. -errno: there is no such folder. */
int must_check image_store(char path[PATH_MAX]);

struct image {
    char name[IMAGE_NAME_MAX + 1];
    char dir[PATH_MAX];
    char disk[PATH_MAX];   /* no machine opens it for writing: overlays are based on it */
    char format[8];        /* "raw" */
    char kernel[PATH_MAX]; /* for the direct boot; "" if the image has none (import) */
    char initrd[PATH_MAX]; /* "" if there is none */
    char cmdline[256];     /* without a console; "" if there is no kernel */
    char system[96];       /* the name of the system, "Debian 12.9 (bookworm), Linux 6.1.0-..."; "" if unknown */
    u64 size;              /* bytes of the disk as the guest sees it */
    u64 allocated;         /* bytes of all its files on the host */
};

/* -ENOENT: there is no image of this name; err says how to get it. */
int must_check image_find(const char *name, struct image *image, struct error *err);
/* Calls each() for every image, ordered by name, until it returns nonzero. That value is the result. */
int image_each(int (*each)(void *to, const struct image *image), void *to, struct error *err);
struct block_progress;
struct image_import {
    const char *file, *name;
    const char *format; /* "raw", "qcow2"; NULL: the format is detected, and a raw file must then look like a disk */
    const char *finder; /* the script tools/image/kernel, which looks in the disk for the files of the direct boot,
                           or NULL */
    struct block_progress *progress; /* or NULL */
};
/* Copies a raw or qcow2 file into a sparse raw one. -EEXIST. -EINTR: progress asked to stop. A failure leaves no
   image. */
int must_check image_import(const struct image_import *i, struct image *image, struct error *err);
/*
 * A new image. Call begin, fill the folder dir with disk.raw and image.conf (lines system=, cmdline=) and perhaps
 * vmlinuz and initrd, call commit, then end. An end without a commit leaves nothing. replace: the new image replaces
 * one of this name. Without replace, begin and commit return -EEXIST if there is one.
 */
struct image_draft {
    char name[IMAGE_NAME_MAX + 1];
    char dir[PATH_MAX], final[PATH_MAX];
    int lock_fd;
    bool replace;
};
int must_check image_begin(struct image_draft *d, const char *name, bool replace, struct error *err);
/* Gives what image_find will give after the commit. */
int must_check image_draft_find(const struct image_draft *d, struct image *image, struct error *err);
int must_check image_commit(struct image_draft *d, struct error *err);
void image_draft_end(struct image_draft *d); /* also after a failed begin */
/* -EBUSY: a machine uses it, and force is not set. With force, kept machines lose the base of their disk. */
int must_check image_remove(const char *name, bool force, struct error *err);

/* ---- vm_dir.c: one machine over an image ---- */

struct image_machine {
    char name[IMAGE_NAME_MAX + 1]; /* kept machine: the given name; throw-away: the name of the image, or that name
                                      with -2, -3 ... */
    char dir[PATH_MAX];
    char image[IMAGE_NAME_MAX + 1];
    bool keep;
    char disk[PATH_MAX];   /* the first disk: a qcow2 in this folder, based on the image's disk */
    char seed[PATH_MAX];   /* the second disk, read-only: a raw FAT image "CIDATA" */
    char key[PATH_MAX];    /* the user's private key for ssh */
    char known_hosts[PATH_MAX]; /* contains the machine's key from the start, under the alias `name` */
    char user[33];         /* the user who logs in by ssh */
    u16 ssh_port;          /* on 127.0.0.1, to be forwarded to the guest's port 22; it was free a moment ago */
    int lock_fd;           /* held while the machine runs; -1: not held by us */
    int pid;               /* of the process that runs it; 0: it does not run */
};

struct image_machine_options {
    const char *keep;          /* the name of the kept machine, which is made if there is none yet; NULL: a
                                  throw-away machine */
    const struct image *image; /* NULL: the image that the kept machine has; another image than that: -EINVAL */
    u64 disk_size;             /* bytes; 0: unchanged, and a new disk is as large as the image. It can grow but not
                                  shrink (-EINVAL) */
    u16 ssh_port;              /* 0: a free port; for a kept machine the port of last time, if that is free */
};
/*
 * Prepares the machine to run and makes all its files. It takes the lock; -EBUSY: the machine runs. The guest sees name
 * as its host name and finds its keys and its user in the seed. If its disk has grown, it grows its file system to fill
 * the disk.
 */
int must_check image_machine_start(const struct image_machine_options *o, struct image_machine *m, struct error *err);
/* Call it after the run: it releases the lock and removes a throw-away machine. */
int must_check image_machine_end(struct image_machine *m, struct error *err);

/* Finds a machine as it is, without starting it (lodge ssh). -ENOENT, also for a throw-away machine whose process
   was killed. */
int must_check image_machine_find(const char *name, struct image_machine *m, struct error *err);
int image_machine_each(int (*each)(void *to, const struct image_machine *m), void *to, struct error *err);
int must_check image_machine_remove(const char *name, struct error *err); /* -EBUSY: it runs */

#endif
