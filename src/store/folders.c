/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folders.c - folders, small files, running programs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/internal.h"

int path_join(char path[PATH_MAX], const char *dir, const char *name, struct error *err)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);

    if (n < 0 || n >= PATH_MAX)
        return error_set(err, ENAMETOOLONG, "the path %.64s.../%s is too long", dir, name);
    return 0;
}

int make_dirs(const char *path, struct error *err)
{
    char part[PATH_MAX];

    for (size_t i = 1;; i++) {
        if (path[i] && path[i] != '/')
            continue;
        snprintf(part, sizeof(part), "%.*s", (int)i, path);
        if (mkdir(part, 0700) && errno != EEXIST)
            return error_set(err, errno, "the folder %s cannot be made: %s", part, strerror(errno));
        if (!path[i])
            return 0;
    }
}

/* Brings the content of the file or folder to the disk. */
static int sync_at(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    /* EINVAL: a file system that cannot do this for folders */
    int r = fd < 0 || (fsync(fd) && errno != EINVAL) ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return r;
}

enum walk { COUNT, REMOVE, SYNC };
static int one(int folder, const char *name, enum walk how, u64 *blocks);

/* Walks over everything in the folder. blocks: counts 512 bytes each, and is added to. It needs no memory, so that
   it can also remove what is left after a failure for lack of memory. */
static int walk(int parent, const char *name, enum walk how, u64 *blocks)
{
    alignas(struct dirent64) char buf[4096];
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
    ssize_t n;

    if (fd < 0)
        return -errno;
    while ((n = getdents64(fd, buf, sizeof(buf))) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *e = (const struct dirent64 *)(buf + at);
            const int failed = one(fd, e->d_name, how, blocks);
            r = r ? r : failed;
            at += e->d_reclen;
        }
    if (n < 0 && !r)
        r = -errno;
    close(fd);
    if (how == SYNC && !r)
        r = sync_at(parent, name);
    return r;
}

static int one(int folder, const char *name, enum walk how, u64 *blocks)
{
    struct stat st;
    int r = 0;

    if (!strcmp(name, ".") || !strcmp(name, "..") || fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW))
        return 0;
    *blocks += (u64)st.st_blocks;
    if (S_ISDIR(st.st_mode))
        r = walk(folder, name, how, blocks);
    else if (how == SYNC && S_ISREG(st.st_mode))
        r = sync_at(folder, name);
    if (how == REMOVE && !r && unlinkat(folder, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0))
        r = -errno;
    return r;
}

int remove_tree(const char *path, struct error *err)
{
    u64 blocks = 0;
    int r = walk(AT_FDCWD, path, REMOVE, &blocks);

    if (!r && rmdir(path))
        r = -errno;
    return r && r != -ENOENT ? error_set(err, -r, "%s cannot be removed: %s", path, strerror(-r)) : 0;
}

int tree_allocated(const char *path, u64 *bytes, struct error *err)
{
    u64 blocks = 0;
    int r = walk(AT_FDCWD, path, COUNT, &blocks);

    *bytes = blocks * 512;
    return r && r != -ENOENT /* removed just now */ ? error_set(err, -r, "what %s takes cannot be counted: %s", path, strerror(-r)) : 0;
}

int sync_tree(const char *path, struct error *err)
{
    u64 blocks = 0;
    int r = walk(AT_FDCWD, path, SYNC, &blocks);

    return r ? error_set(err, -r, "%s cannot be brought onto the disk: %s", path, strerror(-r)) : 0;
}

int sync_above(const char *path, struct error *err)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');

    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)MAX(slash - path, 1) : 1, slash ? path : ".");
    int r = sync_at(AT_FDCWD, dir);
    return r ? error_set(err, -r, "%s cannot be brought onto the disk: %s", dir, strerror(-r)) : 0;
}

int write_file(const char *path, const void *data, size_t len, unsigned mode, bool durable, struct error *err)
{
    char new[PATH_MAX];
    int n = snprintf(new, sizeof(new), "%s.new", path);

    if (n < 0 || n >= (int)sizeof(new))
        return error_set(err, ENAMETOOLONG, "the path %.64s... is too long", path);
    unlink(new);
    int fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    int r = fd < 0 ? -errno : 0;
    for (size_t done = 0; !r && done < len;) {
        ssize_t w = write(fd, (const char *)data + done, len - done);
        if (w < 0 && errno != EINTR)
            r = -errno;
        else if (w > 0)
            done += (size_t)w;
    }
    if (!r && durable && fsync(fd))
        r = -errno;
    if (fd >= 0 && close(fd) && !r)
        r = -errno;
    if (!r && rename(new, path))
        r = -errno;
    if (r) {
        unlink(new);
        return error_set(err, -r, "%s cannot be written: %s", path, strerror(-r));
    }
    return durable ? sync_above(path, err) : 0;
}

int read_file(const char *path, char *data, size_t size, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    int r = fd < 0 ? -errno : 0;

    while (!r) {
        ssize_t got = read(fd, data + n, size - n);
        if (got < 0 && errno != EINTR)
            r = -errno;
        if (got == 0)
            break;
        if (got > 0 && (n += (size_t)got) == size)
            r = -E2BIG;
    }
    if (fd >= 0)
        close(fd);
    data[r ? 0 : n] = 0;
    return r ? error_set(err, -r, "%s cannot be read: %s", path, strerror(-r)) : 0;
}

bool conf_get(const char *conf, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);

    for (; *conf; conf += strcspn(conf, "\n"), conf += *conf == '\n') {
        if (strncmp(conf, key, n) || conf[n] != '=')
            continue;
        snprintf(value, size, "%.*s", (int)strcspn(conf + n + 1, "\n"), conf + n + 1);
        return true;
    }
    *value = 0;
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int dir_names(const char *path, char ***names, struct error *err)
{
    size_t n = 0, room = 16;
    DIR *dir = opendir(path);

    if (!dir)
        return error_set(err, errno, "the folder %s cannot be read: %s", path, strerror(errno));
    char **list = calloc(room, sizeof(*list));
    int r = list ? 0 : -ENOMEM;
    for (struct dirent *e; !r && (e = readdir(dir));) {
        if (!image_name_valid(e->d_name))
            continue;
        if (n + 1 == room) {
            char **more = reallocarray(list, room *= 2, sizeof(*list));
            if (!more) {
                r = -ENOMEM;
                break;
            }
            list = more;
        }
        if ((list[n] = strdup(e->d_name)))
            list[++n] = NULL;
        else
            r = -ENOMEM;
    }
    closedir(dir);
    if (r) { /* an incomplete list must not look complete */
        names_free(list);
        return error_set(err, -r, "the folder %s cannot be read: %s", path, strerror(-r));
    }
    qsort(list, n, sizeof(*list), by_name);
    *names = list;
    return 0;
}

void names_free(char **names)
{
    for (char **n = names; names && *n; n++)
        free(*n);
    free(names);
}

int run_program(const char *const argv[], struct error *err)
{
    posix_spawn_file_actions_t files;
    extern char **environ;
    pid_t pid;
    int status;

    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, 0, 1);
    posix_spawn_file_actions_adddup2(&files, 0, 2);
    int r = posix_spawnp(&pid, argv[0], &files, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    if (r == ENOENT)
        return error_set(err, r, "%s is needed and not installed", argv[0]);
    if (r)
        return error_set(err, r, "%s cannot be run: %s", argv[0], strerror(r));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return error_set(err, errno, "%s is lost: %s", argv[0], strerror(errno));
    if (status)
        return error_set(err, EIO, "%s failed (status %d)", argv[0], WIFEXITED(status) ? WEXITSTATUS(status) : status);
    return 0;
}
