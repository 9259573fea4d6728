/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - what the files of this room share: folders and small files (folders.c), the seed (seed.c).
 */
#ifndef LODGE_STORE_INTERNAL_H
#define LODGE_STORE_INTERNAL_H

#include "store/store.h"

/* ---- folders.c ---- */

/* dir/name, or -ENAMETOOLONG with err set. */
int must_check path_join(char path[PATH_MAX], const char *dir, const char *name, struct error *err);
/* Makes the folder and those above it, for this user alone. */
int must_check make_dirs(const char *path, struct error *err);
/* A folder and all in it; symbolic links are not followed. */
int must_check remove_tree(const char *path, struct error *err);
/* Bytes that a folder's files take on the host. */
int must_check tree_allocated(const char *path, u64 *bytes, struct error *err);
/* Writes a whole small file in one go (to NAME.new, then renamed). durable: whatever crashes, the old or the new is there,
   and the new once this has returned; else sync_tree comes later. */
int must_check write_file(const char *path, const void *data, size_t len, unsigned mode, bool durable, struct error *err);
/* A folder and all in it survive a crash; sync_above: that path is an entry, or is none, of the folder it is in. */
int must_check sync_tree(const char *path, struct error *err);
int must_check sync_above(const char *path, struct error *err);
/* Reads a file of at most size - 1 bytes, 0-terminated; 0, -E2BIG ... */
int must_check read_file(const char *path, char *data, size_t size, struct error *err);
/* The value of the line "key=value", cut to size; "" and false if there is none. */
bool conf_get(const char *conf, const char *key, char *value, size_t size);
/* Names of the folders in dir that image_name_valid() takes, sorted; NULL-ended, for names_free(). */
int must_check dir_names(const char *dir, char ***names, struct error *err);
void names_free(char **names);
/* Runs a program, found by PATH, with no input and no output; -errno, or -EIO if its status is not 0. */
int must_check run_program(const char *const argv[], struct error *err);

/* ---- images.c ---- */

/* The folder "images" or "vms" of image_home(). */
int must_check home_folder(const char *which, char path[PATH_MAX], struct error *err);
/* Opens, makes and locks a file: a descriptor, -EBUSY (without waiting; err untouched) or another error. Only whoever has
   the lock removes the file. */
int must_check lock_file(const char *path, bool wait, struct error *err);
bool file_locked(const char *path); /* by somebody */
/* The lock of a folder of home_folder(), waited for. Under that of "vms" machines begin and images go. */
int must_check home_lock(const char *folder, struct error *err);
/* 0, or -EBUSY with err: a machine that is kept or runs lies over the image. */
int must_check image_unused(const char *name, struct error *err);

/* ---- seed.c ---- */

struct seed {
    const char *instance_id, *hostname, *user;
    const char *authorized_key;       /* one line */
    const char *host_key;             /* OpenSSH's private key file, PEM lines */
    const char *host_key_public;      /* one line */
};
/* A FAT image with the files of cloud-init's NoCloud data source (docs.cloud-init.io, "NoCloud"). */
int must_check seed_write(const char *path, const struct seed *s, struct error *err);

#endif
