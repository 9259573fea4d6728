/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - shared by the files of this room: folders and small files (folders.c), the seed (seed.c).
 */
#ifndef LODGE_STORE_INTERNAL_H
#define LODGE_STORE_INTERNAL_H

#include "store/store.h"

/* ---- folders.c ---- */

/* Writes dir/name to path, or returns -ENAMETOOLONG with err set. */
int must_check path_join(char path[PATH_MAX], const char *dir, const char *name, struct error *err);
/* Makes the folder and the folders above it, for this user only. */
int must_check make_dirs(const char *path, struct error *err);
/* Removes a folder and everything in it. It does not follow symbolic links. */
int must_check remove_tree(const char *path, struct error *err);
/* Counts the bytes that the files of a folder take on the host. */
int must_check tree_allocated(const char *path, u64 *bytes, struct error *err);
/* Writes a whole small file at once (to NAME.new, which is then renamed). durable: whatever crashes, either the old
   or the new file is there; when this has returned, it is the new one. If not durable, sync_tree comes later. */
int must_check write_file(const char *path, const void *data, size_t len, unsigned mode, bool durable, struct error *err);
/* sync_tree: makes a folder and everything in it survive a crash. sync_above: makes it durable that path is, or is
   no longer, an entry of its folder. */
int must_check sync_tree(const char *path, struct error *err);
int must_check sync_above(const char *path, struct error *err);
/* Reads a file of at most size - 1 bytes and puts a 0 after it; 0, -E2BIG ... */
int must_check read_file(const char *path, char *data, size_t size, struct error *err);
/* Gives the value of the line "key=value", cut to size. If there is no such line, the value is "" and the result
   false. */
bool conf_get(const char *conf, const char *key, char *value, size_t size);
/* Gives the names of the folders in dir that image_name_valid() accepts, sorted and ended by NULL. Free them with
   names_free(). */
int must_check dir_names(const char *dir, char ***names, struct error *err);
void names_free(char **names);
/* Runs a program that is found by PATH, with no input and no output. -errno, or -EIO if its status is not 0. */
int must_check run_program(const char *const argv[], struct error *err);

/* ---- images.c ---- */

/* Gives the folder "images" or "vms" of image_home(). */
int must_check home_folder(const char *which, char path[PATH_MAX], struct error *err);
/* Opens a file, makes it if necessary, and locks it. Returns a descriptor, -EBUSY (if not wait; err is unchanged) or
   another error. Only the process that has the lock may remove the file. */
int must_check lock_file(const char *path, bool wait, struct error *err);
bool file_locked(const char *path); /* true if some process holds the lock */
/* Takes the lock of a folder of home_folder(), and waits for it. The lock of "vms" is held while a machine is
   started and while an image is removed. */
int must_check home_lock(const char *folder, struct error *err);
/* 0, or -EBUSY with err: a machine that is kept or runs uses the image. */
int must_check image_unused(const char *name, struct error *err);

/* ---- seed.c ---- */

struct seed {
    const char *instance_id, *hostname, *user;
    const char *authorized_key;       /* one line */
    const char *host_key;             /* OpenSSH's private key file, PEM lines */
    const char *host_key_public;      /* one line */
};
/* Writes a FAT image with the files of cloud-init's NoCloud data source (docs.cloud-init.io, "NoCloud"). */
int must_check seed_write(const char *path, const struct seed *s, struct error *err);

#endif
