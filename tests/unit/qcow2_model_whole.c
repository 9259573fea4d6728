/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_model_whole.c - operations on the whole image (snapshots, resizes, another backing file), and what each does. */
#include "qcow2_model.h"

#include <errno.h>
#include <stdlib.h>

u32 *tags[SNAPSHOTS];
u64 tags_size[SNAPSHOTS];
char snapshot_names[SNAPSHOTS][16];
u32 nsnapshots;
struct unfinished unfinished;

static u32 next_name;

static void add_snapshot(const char *name)
{
    snprintf(snapshot_names[nsnapshots], sizeof(snapshot_names[0]), "%s", name);
    tags[nsnapshots] = calloc(SECTORS, 4);
    tags_size[nsnapshots] = top.size;
    for (u64 i = 0; i < top.size / SECTOR; i++)
        tags[nsnapshots][i] = model[i].w[0].tag;
    nsnapshots++;
}

void finish_kind(const struct unfinished *u)
{
    u32 s = u->snapshot;

    switch (u->kind) {
    case TAKE:
        add_snapshot(u->name);
        break;
    case APPLY:
        for (u64 i = 0; i < SECTORS; i++)
            set_sector(i, i < tags_size[s] / SECTOR ? tags[s][i] : 0);
        break;
    case DELETE:
        free(tags[s]);
        nsnapshots--;
        tags[s] = tags[nsnapshots], tags_size[s] = tags_size[nsnapshots];
        memcpy(snapshot_names[s], snapshot_names[nsnapshots], sizeof(snapshot_names[0]));
        break;
    case RESIZE:
        live = MAX(live, u->size / SECTOR);
        for (u64 i = u->size / SECTOR; i < SECTORS; i++)
            set_sector(i, 0);
        break;
    case EMPTY:
        for (u64 i = 0; i < top.size / SECTOR; i++)
            set_sector(i, i < base_size / SECTOR ? base_tags[i] : 0);
        break;
    }
}

/* Nothing is under way, and each sector holds what it holds. */
static void come_to_rest(void)
{
    drain();
    if (disk->cut)
        return;
    disk->full = 0;
    flush_now();
    if (!disk->cut)
        settle(top.size);
}

/* Another name for the backing file. */
static int rename_base(struct error *err)
{
    char name[400] = "";

    for (u64 i = below(cluster > 512 ? 180 : 20); i; i--)
        strcat(name, "./");
    strcat(name, "base.raw");
    int r = block_qcow2.set_backing(&top, name, one_in(4) ? NULL : "raw", err);
    return r == -ENOSPC && cluster == 512 ? 0 : r;
}

/* 0, or why not; -ERANGE: the image's refcounts do not reach so far. */
static int carry_out(struct unfinished *u, struct error *err)
{
    switch (u->kind) {
    case TAKE:
        snprintf(u->name, sizeof(u->name), "s%u", next_name++);
        return block_qcow2.snapshot(&top, BLOCK_SNAPSHOT_CREATE, u->name, err);
    case APPLY:
        return block_qcow2.snapshot(&top, BLOCK_SNAPSHOT_APPLY, snapshot_names[u->snapshot], err);
    case DELETE:
        return block_qcow2.snapshot(&top, BLOCK_SNAPSHOT_DELETE, snapshot_names[u->snapshot], err);
    case RESIZE:
        u->size = (1 + below(one_in(2) ? SECTORS : top.size / SECTOR + 200)) * SECTOR;
        u->size = MIN(u->size, DISK_MAX);
        return block_qcow2.resize(&top, u->size, err);
    case RENAME:
        return base_size ? rename_base(err) : 0;
    case EMPTY:
        return block_qcow2.make_empty(&top, err);
    }
    return 0;
}

void whole(void)
{
    struct unfinished u = { .kind = (int)below(KINDS) };
    struct error err = { "" };

    come_to_rest();
    if (disk->cut)
        return;
    if ((u.kind == APPLY || u.kind == DELETE) && !nsnapshots)
        u.kind = TAKE;
    if (u.kind == TAKE && nsnapshots == SNAPSHOTS)
        u.kind = DELETE;
    if (u.kind == RESIZE && v2 && nsnapshots)
        return;
    u.snapshot = (u32)below(nsnapshots);
    u.is = true;
    unfinished = u;
    int r = carry_out(&unfinished, &err);
    if (r == -ERANGE && u.kind <= DELETE) { /* refcounts of one bit */
        unfinished.is = false;
        return;
    }
    if (r && !disk->cut)
        die("operation %d: %s", u.kind, err.text);
    if (r)
        return;
    finish_kind(&unfinished);
    unfinished.is = false;
}
