/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backing.c - which file an image means by the name of its backing file, and whether we follow that name.
 *
 * The name comes from the image, and the image may come from anybody. If every name were followed, an image could show
 * the guest any file that the user may read as its disk, or could connect to any server. So a file is followed unasked
 * only in two places where somebody who gave the image away would have put it. One place is the image's own folder and
 * the folders below. Hidden files are excluded there, because an image in the home folder could otherwise name .ssh.
 * The other place is the user's store of images. Each link of a chain is judged by the folder of the image that names
 * it. The user may allow more (struct block_follow). Names that the user or we gave are not judged.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/opener.h"
#include "base/place.h"
#include "block/internal.h"

bool block_is_nbd(const char *path)
{
    static const char *const schemes[] = { "nbd://", "nbd+unix://", "nbds://", "nbds+unix://" };

    for (u32 i = 0; i < ARRAY_SIZE(schemes); i++)
        if (!strncmp(path, schemes[i], strlen(schemes[i])))
            return true;
    return false;
}

/* "proto:rest", as qemu reads it: a colon before any slash. */
static bool has_protocol(const char *name)
{
    return name[strcspn(name, ":/")] == ':';
}

int block_resolve(const struct block *b, const char *name, char *path, struct error *err)
{
    const char *slash = strrchr(b->path, '/');
    int n;

    if (!strncmp(name, "file:", 5))
        name += 5;
    else if (!block_is_nbd(name) && has_protocol(name))
        return error_set(err, EINVAL, "%s: its backing file \"%.100s\" is named in a way that only qemu understands; name it "
                         "anew with \"lodge disk rebase -u -b FILE\"", b->path, name);
    if (block_is_nbd(name) || name[0] == '/' || !slash)
        n = snprintf(path, PATH_MAX, "%s", name);
    else
        n = snprintf(path, PATH_MAX, "%.*s%s", (int)(slash + 1 - b->path), b->path, name);
    if (n >= PATH_MAX)
        return error_set(err, ENAMETOOLONG, "%s: the name of its backing file is too long", b->path);
    return 0;
}

/* ---- the judgement ---- */

static int refuse(const struct block *b, const char *path, const char *why, struct error *err)
{
    return error_set(err, EXDEV, "%.130s names the backing file %.130s, %s, and could so read any file of yours; if you trust "
                     "it, say so with backing: its folder, or any", b->path, path, why);
}

int block_may_follow(const struct block *b, const char *path, char *real, struct error *err)
{
    const char *more = b->follow.more;
    struct stat st;

    real[0] = 0;
    if (b->own_name || (more && !strcmp(more, "any")))
        return 0;
    if (more && !strcmp(more, "none"))
        return error_set(err, EXDEV, "%.200s names the backing file %.200s, and none is to be followed (backing=none)", b->path,
                         path);
    if (block_is_nbd(path))
        return refuse(b, path, "which is on a server", err);
    const bool found = opener_real(OPENER_DISK, path, real);
    if (!found && errno == EACCES && opener_elsewhere()) /* who opens for us judges it, too */
        return refuse(b, path, "which is not in its own folder", err);
    if (!found)
        return errno == ENOENT ? error_set(err, ENOENT, "%s: there is no such file", path)
                               : error_set(err, errno, "%s cannot be opened: %s", path, strerror(errno));
    if (!place_is_beside(real, b->path) && !place_is_in(real, b->follow.store) && !place_is_in(real, more))
        return refuse(b, path, "which is not in its own folder", err);
    if (opener_stat(OPENER_DISK, real, 0, &st) || !S_ISREG(st.st_mode))
        return refuse(b, path, "which is no regular file", err);
    return 0;
}
