/* SPDX-License-Identifier: Apache-2.0 */
/*
 * images.c - the images of this user.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_user.h"
#include "base/patience.h"
#include "store/internal.h"

enum { LOCK_TRIES = 1000 };

bool image_name_valid(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return n && n <= IMAGE_NAME_MAX && !name[n] && name[0] != '-' && name[n - 1] != '-';
}

static int home_path(char path[PATH_MAX], struct error *err)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

    if (data && data[0] == '/') /* relative paths are invalid: XDG Base Directory Specification */
        return path_join(path, data, "lodge", err);
    if (home && home[0] == '/')
        return path_join(path, home, ".local/share/lodge", err);
    return error_set(err, ENOENT, "there is no folder for images: neither XDG_DATA_HOME nor HOME has the whole path of one");
}

int image_home(char path[PATH_MAX], struct error *err)
{
    int r = home_path(path, err);

    return r ? r : make_dirs(path, err);
}

int image_store(char path[PATH_MAX])
{
    char home[PATH_MAX];
    int r = home_path(home, NULL);

    return r ? r : path_join(path, home, "images", NULL);
}

int home_folder(const char *which, char path[PATH_MAX], struct error *err)
{
    char home[PATH_MAX];
    int r = image_home(home, err);

    if (!r)
        r = path_join(path, home, which, err);
    return r ? r : make_dirs(path, err);
}

/* Gives the path of a file of the image if the file exists, else "". */
static int part(const struct image *image, const char *name, char path[PATH_MAX], struct error *err)
{
    int r = path_join(path, image->dir, name, err);

    if (!r && access(path, R_OK))
        path[0] = 0;
    return r;
}

static int load(const char *images, const char *name, struct image *image, struct error *err)
{
    char path[PATH_MAX], conf[4096];
    struct stat st;

    memset(image, 0, sizeof(*image));
    snprintf(image->name, sizeof(image->name), "%s", name);
    int r = path_join(image->dir, images, name, err);
    if (!r)
        r = path_join(path, image->dir, "image.conf", err);
    if (!r)
        r = read_file(path, conf, sizeof(conf), err);
    if (r)
        return r;
    conf_get(conf, "system", image->system, sizeof(image->system));
    conf_get(conf, "cmdline", image->cmdline, sizeof(image->cmdline));
    r = part(image, "disk.raw", image->disk, err);
    if (!r)
        r = part(image, "vmlinuz", image->kernel, err);
    if (!r)
        r = part(image, "initrd", image->initrd, err);
    if (r)
        return r;
    if (!image->disk[0] || stat(image->disk, &st))
        return error_set(err, ENOENT, "the image %s has lost its disk; \"lodge image rm %s\" removes the rest", name,
                         name);
    snprintf(image->format, sizeof(image->format), "raw");
    image->size = (u64)st.st_size;
    return tree_allocated(image->dir, &image->allocated, err);
}

int image_find(const char *name, struct image *image, struct error *err)
{
    char images[PATH_MAX], dir[PATH_MAX];

    if (!image_name_valid(name))
        return error_set(err, EINVAL, "\"%s\" is no name of an image; it has small letters, digits and \"-\"", name);
    int r = home_folder("images", images, err);
    if (!r)
        r = path_join(dir, images, name, err);
    if (r)
        return r;
    if (access(dir, F_OK))
        return !strcmp(name, "debian")
                   ? error_set(err, ENOENT, "there is no image debian yet; \"lodge image build debian\" makes it")
                   : error_set(err, ENOENT, "there is no image %s; \"lodge image ls\" lists them, \"lodge image "
                                            "import\" adds one", name);
    return load(images, name, image, err);
}

int image_each(int (*each)(void *to, const struct image *image), void *to, struct error *err)
{
    char images[PATH_MAX];
    struct image *image = malloc(sizeof(*image));
    char **names = NULL;
    int r = image ? home_folder("images", images, err) : -ENOMEM;

    if (!r)
        r = dir_names(images, &names, err);
    for (char **n = names; !r && *n; n++) {
        r = load(images, *n, image, err);
        if (r == -ENOENT) { /* the image is damaged, or is just being removed: it is shown as empty */
            image->size = 0;
            r = 0;
        }
        if (!r)
            r = each(to, image);
    }
    names_free(names);
    free(image);
    return r;
}

int home_lock(const char *folder, struct error *err)
{
    char path[PATH_MAX];
    int r = path_join(path, folder, ".lock", err);

    if (r)
        return r;
    int fd = lock_file(path, true, err);
    return fd;
}

/* This is the only place where this room waits for another process. It waits as long as that process holds the lock
   of fd. */
static int lock_wait(int fd, const char *path)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    struct patience p = { 0 };
    char who[FILE_USER];

    while (fcntl(fd, F_OFD_SETLK, &lock)) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EACCES)
            return -errno;
        if (!p.said)
            file_user(fd, who);
        if (patience_ask(&p, "%s: waiting for %s, which makes, starts or removes a machine or an image", path,
                         who[0] ? who : "another program"))
            return -EINTR;
        patience_sleep(-1, 0);
    }
    return 0;
}

static int lock_now(int fd)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (!fcntl(fd, F_OFD_SETLK, &lock))
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

/* The earlier owner of the lock may have removed the file before it released the lock. Then we have locked a file
   that nobody else can find, and the next process makes another file. */
static bool still_named(int fd, const char *path)
{
    struct stat held, named;

    return !fstat(fd, &held) && !stat(path, &named) && held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

int lock_file(const char *path, bool wait, struct error *err)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            return error_set(err, errno, "%s cannot be opened: %s", path, strerror(errno));
        int r = wait ? lock_wait(fd, path) : lock_now(fd);
        if (!r && still_named(fd, path))
            return fd;
        close(fd);
        if (r == -EAGAIN)
            return -EBUSY;
        if (r == -EINTR)
            return error_set(err, EINTR, "%s is held by another program; a signal ended the wait", path);
        if (r)
            return error_set(err, -r, "%s cannot be locked: %s", path, strerror(-r));
    }
    return error_set(err, EIO, "%s cannot be locked: its file system has another file under this name each time", path);
}

bool file_locked(const char *path)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool held = fd >= 0 && !fcntl(fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;

    if (fd >= 0)
        close(fd);
    return held;
}

/* ---- new images: made in a folder .NAME.new; a file with a lock marks the work while it goes on ---- */

static int exists_already(const char *name, struct error *err)
{
    return error_set(err, EEXIST, "there is an image %s already; \"lodge image rm %s\" removes it", name, name);
}

int image_begin(struct image_draft *d, const char *name, bool replace, struct error *err)
{
    char images[PATH_MAX], hidden[IMAGE_NAME_MAX + 8], lock[PATH_MAX];

    memset(d, 0, sizeof(*d));
    d->lock_fd = -1;
    snprintf(d->name, sizeof(d->name), "%s", name);
    d->replace = replace;
    if (!image_name_valid(name))
        return error_set(err, EINVAL, "\"%s\" cannot be the name of an image: up to %d small letters, digits and \"-\"",
                         name, IMAGE_NAME_MAX);
    snprintf(hidden, sizeof(hidden), ".%s.new", name);
    int r = home_folder("images", images, err);
    if (!r)
        r = path_join(d->final, images, name, err);
    if (!r)
        r = path_join(d->dir, images, hidden, err);
    if (!r)
        r = path_join(lock, images, hidden, err);
    if (r)
        return r;
    if (strlen(lock) + 6 > sizeof(lock))
        return error_set(err, ENAMETOOLONG, "the path %.64s... is too long", lock);
    strcat(lock, ".lock");
    d->lock_fd = lock_file(lock, false, err);
    if (d->lock_fd == -EBUSY)
        return error_set(err, EBUSY, "the image %s is being made by another lodge just now", name);
    if (d->lock_fd < 0)
        return d->lock_fd;
    /* This looks while the lock is held, since another process that had it may have made the image. The commit looks
       again. */
    if (!replace && !access(d->final, F_OK))
        return exists_already(name, err);
    if (replace && (r = image_unused(name, err)))
        return r;
    r = remove_tree(d->dir, err); /* left by a process that was killed */
    return r ? r : make_dirs(d->dir, err);
}

/* 0 if nobody has made an image of this name meanwhile, or -EEXIST. If the file system has no RENAME_NOREPLACE,
   rename(2) is used. It does not replace a folder that is not empty. */
static int place_new(const struct image_draft *d, struct error *err)
{
    int r = renameat2(AT_FDCWD, d->dir, AT_FDCWD, d->final, RENAME_NOREPLACE);

    if (r && (errno == EINVAL || errno == ENOSYS))
        r = rename(d->dir, d->final);
    if (r && (errno == EEXIST || errno == ENOTEMPTY))
        return exists_already(d->name, err);
    return r ? error_set(err, errno, "%s cannot be made: %s", d->final, strerror(errno)) : 0;
}

/* The draft replaces the image that is there. This is one step if the file system supports it (not all do; linux man
   2 rename). Afterwards the replaced image is in old, or in the draft's folder and is removed with it. */
static int place_instead(const struct image_draft *d, const char *old, struct error *err)
{
    int r = remove_tree(old, err);

    if (r || !renameat2(AT_FDCWD, d->dir, AT_FDCWD, d->final, RENAME_EXCHANGE))
        return r;
    if (rename(d->final, old) && errno != ENOENT)
        return error_set(err, errno, "%s cannot be replaced: %s", d->final, strerror(errno));
    return rename(d->dir, d->final) ? error_set(err, errno, "%s cannot be made: %s", d->final, strerror(errno)) : 0;
}

int image_draft_find(const struct image_draft *d, struct image *image, struct error *err)
{
    char images[PATH_MAX];
    int r = home_folder("images", images, err);

    if (!r)
        r = load(images, strrchr(d->dir, '/') + 1, image, err);
    if (r)
        return r;
    snprintf(image->name, sizeof(image->name), "%s", d->name);
    snprintf(image->dir, sizeof(image->dir), "%s", d->final);
    r = path_join(image->disk, d->final, "disk.raw", err);
    if (!r && image->kernel[0])
        r = path_join(image->kernel, d->final, "vmlinuz", err);
    if (!r && image->initrd[0])
        r = path_join(image->initrd, d->final, "initrd", err);
    return r;
}

int image_commit(struct image_draft *d, struct error *err)
{
    char old[PATH_MAX], home[PATH_MAX];
    int r = home_folder("vms", home, err);

    if (!r)
        r = sync_tree(d->dir, err); /* done before the lock is taken, because it may take long */

    /* Machines are made and started under this lock, so none begins to use the old image in between. */
    int lock = r ? r : home_lock(home, err);
    if (lock < 0)
        return lock;
    r = image_unused(d->name, err);
    if (!r && snprintf(old, sizeof(old), "%s.old", d->dir) >= (int)sizeof(old))
        r = error_set(err, ENAMETOOLONG, "the path %.64s... is too long", d->dir);
    if (!r)
        r = d->replace ? place_instead(d, old, err) : place_new(d, err);
    if (!r) {
        r = sync_above(d->final, err);
        if (r && !d->replace && rename(d->final, d->dir)) /* it becomes a draft again, which is removed */
            r = error_set(err, errno, "%s may be lost when the power fails: %s", d->final, strerror(errno));
    }
    close(lock);
    return r || !d->replace ? r : remove_tree(old, err);
}

void image_draft_end(struct image_draft *d)
{
    char lock[PATH_MAX + 8];

    if (d->lock_fd < 0)
        return;
    (void)!remove_tree(d->dir, NULL);
    snprintf(lock, sizeof(lock), "%s.lock", d->dir);
    unlink(lock); /* it is still locked: see still_named() */
    close(d->lock_fd);
    d->lock_fd = -1;
}

struct use {
    const char *image;
    char by[IMAGE_NAME_MAX + 1];
};

static int uses(void *to, const struct image_machine *m)
{
    struct use *u = to;

    if (strcmp(m->image, u->image))
        return 0;
    snprintf(u->by, sizeof(u->by), "%s", m->name);
    return 1;
}

int image_unused(const char *name, struct error *err)
{
    struct use u = { .image = name };
    int r = image_machine_each(uses, &u, err);

    return r <= 0 ? r
                  : error_set(err, ENOTEMPTY, "the machine %s needs the image %s: remove the machine first", u.by, name);
}

int image_remove(const char *name, bool force, struct error *err)
{
    char images[PATH_MAX], dir[PATH_MAX], gone[PATH_MAX], hidden[IMAGE_NAME_MAX + 8], vms[PATH_MAX];
    int r = image_name_valid(name) ? home_folder("images", images, err)
                                   : error_set(err, EINVAL, "\"%s\" is no name of an image", name);

    snprintf(hidden, sizeof(hidden), ".%s.gone", name);
    if (!r)
        r = path_join(dir, images, name, err);
    if (!r)
        r = path_join(gone, images, hidden, err);
    if (!r)
        r = home_folder("vms", vms, err);
    if (r)
        return r;
    int lock = home_lock(vms, err);
    if (lock < 0)
        return lock;
    if (access(dir, F_OK) && access(gone, F_OK)) /* gone: an earlier removal failed and is now continued */
        r = error_set(err, ENOENT, "there is no image %s; \"lodge image ls\" lists them", name);
    if (!r && !force)
        r = image_unused(name, err);
    if (!r)
        r = remove_tree(gone, err);
    if (!r && rename(dir, gone) && errno != ENOENT)
        r = error_set(err, errno, "%s cannot be removed: %s", dir, strerror(errno));
    if (!r)
        r = remove_tree(gone, err); /* under the lock, too: the next image to be removed would have the same name */
    close(lock);
    return r;
}
