/* SPDX-License-Identifier: Apache-2.0 */
/* rebase.c - makes a file's relative paths start from the file's folder, wherever the program that reads the file
   runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/fields.h"

/* The place where the path begins in a text of this kind; NULL: the text has no path. */
static const char *path_in(enum config_path kind, const char *text)
{
    switch (kind) {
    case PATH_FILE: return text;
    case PATH_FIRMWARE: return strcmp(text, "bios") && strcmp(text, "uefi") ? text : NULL;
    case PATH_URL: return strstr(text, "://") ? NULL : text;
    case PATH_CHARDEV: return !strncmp(text, "file:", 5) || !strncmp(text, "unix:", 5) ? text + 5 : NULL;
    case PATH_SCREEN: return !strncmp(text, "vnc:unix:", 9) ? text + 9 : NULL;
    default: return NULL;
    }
}

static int rebase(const struct config_field *table, void *at, const char *folder);

static int rebase_field(const struct config_field *f, void *at, const char *folder)
{
    u8 *in = (u8 *)at + f->offset;
    int rc = 0;

    if (f->type == CONFIG_GROUP)
        return rebase(f->fields, in, folder);
    if (f->type == CONFIG_LIST) {
        for (u32 i = 0; i < *(u32 *)(void *)((u8 *)at + f->count) && !rc; i++)
            rc = rebase(f->fields, in + i * f->size, folder);
        return rc;
    }
    char **text = (char **)(void *)in;
    const char *path = f->type == CONFIG_TEXT && *text ? path_in(f->path, *text) : NULL;
    if (!path || *path == '/')
        return 0;
    return config_text(text, "%.*s%s/%s", (int)(path - *text), *text, folder, path);
}

static int rebase(const struct config_field *table, void *at, const char *folder)
{
    int rc = 0;

    for (; table->type && !rc; table++)
        rc = rebase_field(table, at, folder);
    return rc;
}

int config_rebase(struct vm_config *c, const char *folder) { return rebase(config_fields, c, folder); }
