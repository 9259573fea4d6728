/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - images of installed systems, and the machines that run them, as folders of this user:
 *
 *   $XDG_DATA_HOME/lodge (else ~/.local/share/lodge)
 *     images/NAME/   image.conf, disk.raw, and where it is known: vmlinuz, initrd.  Never written again.
 *     vms/NAME/      one machine: disk.qcow2 (its overlay), seed.img, the keys, known_hosts, machine.conf, lock
 *
 * A folder is made under a name that begins with a dot and renamed when it is whole.  A machine's folder is locked
 * by the process that runs it (F_OFD_SETLK on its file `lock`); a throw-away's goes with the process, and one that was
 * left by a process killed goes when the next is made.
 *
 * Names are 1 to IMAGE_NAME_MAX of a-z 0-9 and "-", begin and end with a letter or digit: they become host names.
 * Any thread; no two at the same time on one struct.
 */
#ifndef LODGE_STORE_STORE_H
#define LODGE_STORE_STORE_H

#include <limits.h>

#include "base/base.h"
#include "base/error.h"

enum { IMAGE_NAME_MAX = 63 };

/* The folder all lies in, made if missing. 0 or -errno with err set. */
int must_check image_home(char path[PATH_MAX], struct error *err);
bool image_name_valid(const char *name);
/* Where the images are, for block_follow.store; nothing is made. -errno: nowhere. */
int must_check image_store(char path[PATH_MAX]);

struct image {
    char name[IMAGE_NAME_MAX + 1];
    char dir[PATH_MAX];
    char disk[PATH_MAX];   /* opened by no machine for writing: it is what overlays lie over */
    char format[8];        /* "raw" */
    char kernel[PATH_MAX]; /* for the direct boot; "" where the image brings none (import) */
    char initrd[PATH_MAX]; /* "" if none */
    char cmdline[256];     /* without a console; "" if no kernel */
    char system[96];       /* what it is, "Debian 12.9 (bookworm), Linux 6.1.0-..."; "" if unknown */
    u64 size;              /* of the disk as the guest sees it, bytes */
    u64 allocated;         /* of all its files on the host, bytes */
};

/* -ENOENT: there is none of this name; err says how to get it. */
int must_check image_find(const char *name, struct image *image, struct error *err);
/* Calls each() for every image, by name, until it returns nonzero: that is the result. */
int image_each(int (*each)(void *to, const struct image *image), void *to, struct error *err);
struct block_progress;
struct image_import {
    const char *file, *name;
    const char *format; /* "raw", "qcow2"; NULL: found out, and a raw one must look like a disk */
    const char *finder; /* the script tools/image/kernel, which looks in the disk for what the direct boot needs, or NULL */
    struct block_progress *progress; /* or NULL */
};
/* Copies a raw or qcow2 file into a sparse raw one. -EEXIST. -EINTR: progress said so. A failure leaves no image. */
int must_check image_import(const struct image_import *i, struct image *image, struct error *err);
/*
 * A new image: begin, fill the folder dir with disk.raw and image.conf (lines system=, cmdline=) and perhaps vmlinuz
 * and initrd, commit, end; end without commit leaves nothing.  replace: takes the place of one of this name; without it
 * begin and commit are -EEXIST if there is one.
 */
struct image_draft {
    char name[IMAGE_NAME_MAX + 1];
    char dir[PATH_MAX], final[PATH_MAX];
    int lock_fd;
    bool replace;
};
int must_check image_begin(struct image_draft *d, const char *name, bool replace, struct error *err);
/* What will be found when it is committed. */
int must_check image_draft_find(const struct image_draft *d, struct image *image, struct error *err);
int must_check image_commit(struct image_draft *d, struct error *err);
void image_draft_end(struct image_draft *d); /* also after a failed begin */
/* -EBUSY: a machine lies over it, and force is not set (then kept machines lose their disk's base). */
int must_check image_remove(const char *name, bool force, struct error *err);

/* ---- vm_dir.c: one machine over an image ---- */

struct image_machine {
    char name[IMAGE_NAME_MAX + 1]; /* kept: as given; throw-away: the image's, or that with -2, -3 ... */
    char dir[PATH_MAX];
    char image[IMAGE_NAME_MAX + 1];
    bool keep;
    char disk[PATH_MAX];   /* the first disk: a qcow2 over the image's, in this folder */
    char seed[PATH_MAX];   /* the second, read-only: a raw FAT image "CIDATA" */
    char key[PATH_MAX];    /* the user's private key for ssh */
    char known_hosts[PATH_MAX]; /* has the machine's key from the start, under the alias `name` */
    char user[33];         /* who logs in by ssh */
    u16 ssh_port;          /* on 127.0.0.1, to be forwarded to the guest's port 22; it was free just now */
    int lock_fd;           /* held while the machine runs; -1: not by us */
    int pid;               /* of who runs it; 0: it does not run */
};

struct image_machine_options {
    const char *keep;          /* the kept machine's name, made if there is none yet; NULL: a throw-away */
    const struct image *image; /* NULL: the one the kept machine has; another than that: -EINVAL */
    u64 disk_size;             /* bytes; 0: as it is, a new one as large as the image. Grows, never shrinks (-EINVAL) */
    u16 ssh_port;              /* 0: one that is free, for a kept machine the one of last time if it can be had */
};
/*
 * The machine to run, all its files made.  Takes the lock: -EBUSY if it runs.  The guest sees name as its host name,
 * finds its keys and its user in the seed, and grows its file system into a disk that has grown.
 */
int must_check image_machine_start(const struct image_machine_options *o, struct image_machine *m, struct error *err);
/* After the run: gives up the lock, and removes a throw-away. */
int must_check image_machine_end(struct image_machine *m, struct error *err);

/* As it is, without starting it (lodge ssh). -ENOENT, also for a throw-away whose process was killed. */
int must_check image_machine_find(const char *name, struct image_machine *m, struct error *err);
int image_machine_each(int (*each)(void *to, const struct image_machine *m), void *to, struct error *err);
int must_check image_machine_remove(const char *name, struct error *err); /* -EBUSY: it runs */

#endif
