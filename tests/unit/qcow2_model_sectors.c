/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_model_sectors.c - the model: what each sector of the active disk may hold. */
#include "qcow2_model.h"

struct sector *model;
u64 live, now, forgotten;

void pattern(u8 *p, u32 tag, u64 sector)
{
    u32 *w = (u32 *)(void *)p;
    if (!tag) {
        memset(p, 0, SECTOR);
        return;
    }
    for (u32 i = 0; i < SECTOR / 4; i++)
        w[i] = i == 0 ? tag : i == 1 ? (u32)sector : tag * 0x9e3779b1u + i;
}

u32 tag_of(const u8 *p, u64 sector)
{
    u8 want[SECTOR];
    u32 tag;
    memcpy(&tag, p, 4);
    pattern(want, tag, sector);
    if (!memcmp(p, want, SECTOR))
        return tag;
    return ~0u;
}

static bool outdated(const struct sector *s, u32 i, u64 look)
{
    for (u32 j = 0; j < s->n; j++)
        if (s->w[j].ended < look && s->w[j].begun > s->w[i].ended)
            return true;
    return false;
}

bool may_hold(const struct sector *s, u32 tag, u64 look)
{
    for (u32 i = 0; i < s->n; i++)
        if (s->w[i].tag == tag && !outdated(s, i, look))
            return true;
    return s->any;
}

void add_write(u64 sector, u32 tag, u64 begun)
{
    struct sector *s = &model[sector];
    if (s->n == WRITES)
        s->any = true;
    else
        s->w[s->n++] = (struct write){ tag, begun, ~0ull };
}

void end_write(u64 sector, u32 tag, u64 begun, u64 at)
{
    struct sector *s = &model[sector];
    for (u32 i = 0; i < s->n; i++)
        if (s->w[i].tag == tag && s->w[i].begun == begun)
            s->w[i].ended = at;
}

void flushed(u64 look)
{
    forgotten = MAX(forgotten, look);
    for (u64 i = 0; i < live; i++) {
        struct sector *s = &model[i];
        bool gone[WRITES];
        u32 n = 0;
        for (u32 k = 0; k < s->n; k++)
            gone[k] = outdated(s, k, look);
        for (u32 k = 0; k < s->n; k++)
            if (!gone[k])
                s->w[n++] = s->w[k];
        s->n = n;
    }
}

void set_sector(u64 sector, u32 tag)
{
    model[sector] = (struct sector){ .w = { { tag, 0, 0 } }, .n = 1 };
}

u64 wrong_sector(const u8 *content, u64 size, u64 look)
{
    for (u64 i = 0; i < size / SECTOR; i++)
        if (!may_hold(&model[i], tag_of(content + i * SECTOR, i), look))
            return i;
    return ~0ull;
}
