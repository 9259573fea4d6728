/* SPDX-License-Identifier: Apache-2.0 */
/* place.c - see place.h. */
#include "base/place.h"

#include <stdio.h>
#include <string.h>

#include "base/opener.h"

/* The part of the real path `file` that lies below the real path `folder`; NULL: `file` is not below it. */
static const char *below(const char *file, const char *folder)
{
    size_t n = strlen(folder);

    if (n && folder[n - 1] == '/')
        n--; /* the root */
    return !strncmp(file, folder, n) && file[n] == '/' ? file + n : NULL;
}

bool place_is_in(const char *file, const char *folder)
{
    char real[PATH_MAX];

    return folder && opener_real(OPENER_DISK, folder, real) && below(file, real);
}

bool place_is_beside(const char *file, const char *image)
{
    char folder[PATH_MAX], real[PATH_MAX];

    for (int follow = 0; follow < 2; follow++) {
        if (follow ? !opener_real(OPENER_DISK, image, folder) : snprintf(folder, sizeof(folder), "%s", image) >= PATH_MAX)
            continue;
        char *slash = strrchr(folder, '/');
        if (!slash)
            strcpy(folder, ".");
        else
            slash[slash == folder] = 0;
        const char *rest = opener_real(OPENER_DISK, folder, real) ? below(file, real) : NULL;
        if (rest && !strstr(rest, "/."))
            return true;
    }
    return false;
}
