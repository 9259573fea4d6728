/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_snapshot.c - takes internal snapshots, goes back to them and deletes them; each by one switch (qcow2_switch.c).
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Finds a snapshot by ID, else by name, as qemu does; or -1. */
static s64 find(const struct qcow2 *q, const char *name)
{
    for (u32 i = 0; i < q->nsnapshots; i++)
        if (!strcmp(q->snapshots[i].id, name))
            return i;
    for (u32 i = 0; i < q->nsnapshots; i++)
        if (!strcmp(q->snapshots[i].name, name))
            return i;
    return -1;
}

static bool copy_of(struct qcow2_snapshot *to, const struct qcow2_snapshot *from)
{
    *to = *from;
    to->extra = malloc(from->extra_size + 1u);
    to->id = strdup(from->id);
    to->name = strdup(from->name);
    if (to->extra)
        memcpy(to->extra, from->extra, from->extra_size);
    return to->extra && to->id && to->name;
}

/* Describes the active image as it is. Its L1 table becomes the snapshot's, and the active image gets another. */
static bool describe(struct qcow2 *q, struct qcow2_snapshot *s, const char *name)
{
    struct timespec now;
    u64 id = 1;
    char text[24];

    for (u32 i = 0; i < q->nsnapshots; i++) {
        u64 n = strtoull(q->snapshots[i].id, NULL, 10);
        id = n >= id && n < UINT64_MAX ? n + 1 : id;
    }
    snprintf(text, sizeof(text), "%llu", (unsigned long long)id);
    clock_gettime(CLOCK_REALTIME, &now);
    *s = (struct qcow2_snapshot){ .l1_offset = q->l1.offset, .l1_size = q->l1.n, .seconds = (u32)now.tv_sec,
                                  .nanoseconds = (u32)now.tv_nsec, .size = q->size, .extra_size = 24 };
    s->extra = calloc(1, 24);
    s->id = strdup(text);
    s->name = strdup(name);
    if (s->extra)
        put64(s->extra + 16, ~0ull); /* icount: none */
    return s->extra && s->id && s->name;
}

static int change(struct qcow2 *q, enum block_snapshot_op op, u32 at, const char *name, struct error *err)
{
    u32 n = q->nsnapshots + (op == BLOCK_SNAPSHOT_CREATE) - (op == BLOCK_SNAPSHOT_DELETE), l1_size = q->l1.n;
    static const char *const what[] = { "take a snapshot of", "go back to a snapshot of", "delete a snapshot of" };
    struct qcow2_snapshot *list = calloc(n + 1u, sizeof(*list));
    u64 size = q->size, *l1 = NULL;
    u32 kept = 0;
    int r = list ? 0 : -ENOMEM;

    for (u32 i = 0; !r && i < q->nsnapshots; i++)
        if ((op != BLOCK_SNAPSHOT_DELETE || i != at) && !copy_of(&list[kept++], &q->snapshots[i]))
            r = -ENOMEM;
    if (!r && op == BLOCK_SNAPSHOT_CREATE && !describe(q, &list[kept++], name))
        r = -ENOMEM;
    if (op == BLOCK_SNAPSHOT_APPLY) {
        l1_size = q->snapshots[at].l1_size;
        size = q->snapshots[at].size;
    }
    l1 = calloc(l1_size + 1u, 8);
    if (!l1)
        r = -ENOMEM;
    if (!r && op == BLOCK_SNAPSHOT_APPLY) {
        r = file_pread(q->file, q->snapshots[at].l1_offset, l1, (u64)l1_size * 8);
        for (u32 i = 0; i < l1_size; i++)
            l1[i] = be64toh(l1[i]);
    } else if (!r) {
        memcpy(l1, q->l1.entry, (size_t)l1_size * 8);
    }
    if (r) {
        error_set(err, -r, "cannot %s %s: %s", what[op], q->b->path, strerror(-r));
    } else {
        struct target t = { .l1 = l1, .l1_size = l1_size, .size = size, .snapshots = list, .nsnapshots = n };
        r = qcow2_switch(q, &t, what[op], err);
        if (q->snapshots == list)
            list = NULL;
    }
    qcow2_free_snapshots(list, list ? kept : 0);
    free(l1);
    return r;
}

int qcow2_snapshot(struct block *b, enum block_snapshot_op op, const char *name, struct error *err)
{
    struct qcow2 *q = b->priv;
    s64 at = find(q, name);

    if (op == BLOCK_SNAPSHOT_CREATE) {
        if (q->nsnapshots >= QCOW2_MAX_SNAPSHOTS)
            return error_set(err, EFBIG, "%s has %u snapshots, as many as there can be", b->path, q->nsnapshots);
        if (!*name || strlen(name) > 255)
            return error_set(err, EINVAL, "the name of a snapshot has 1 to 255 bytes");
        if (at >= 0)
            return error_set(err, EEXIST, "%s has a snapshot %s already", b->path, name);
        /* Everything that the snapshot will name must be in the file, because its L1 table is the one in the file. */
        int r = q->broken ? -EIO : qcow2_flush(q);
        if (r)
            return error_set(err, -r, "cannot write to %s: %s", b->path, strerror(-r));
    } else if (at < 0) {
        return error_set(err, ENOENT, "%s has no snapshot %s", b->path, name);
    }
    int r = change(q, op, (u32)at, name, err);
    b->size = align_down(q->size, BLOCK_SECTOR);
    return r;
}
