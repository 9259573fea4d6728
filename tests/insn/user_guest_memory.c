/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_guest_memory.c - the areas of a sequence in guest memory.
 *
 * The pages of an area lie apart from each other, with a pattern between them that must stay: an access across a page's
 * end must be two.
 */
#include "user_guest.h"

#include <string.h>

u64 guest_page_gpa(u64 area, unsigned n)
{
    static const u8 slot[] = {2, 0, 3, 1, 4};
    return area + slot[n] * 0x2000;
}

void guest_scatter(struct guest *g, u64 area, u64 offset, const u8 *from, u64 size)
{
    for (u64 n; size; offset += n, from += n, size -= n) {
        n = MIN(4096 - offset % 4096, size);
        memcpy(g->ram + guest_page_gpa(area, (unsigned)(offset / 4096)) + offset % 4096, from, n);
    }
}

void guest_gather(const struct guest *g, u64 area, u8 *to, u64 size)
{
    for (u64 at = 0; at < size; at += 4096)
        memcpy(to + at, g->ram + guest_page_gpa(area, (unsigned)(at / 4096)), 4096);
}

bool guest_code(const struct guest *g, u64 lin, u8 *to, unsigned n)
{
    static u8 all[CODE_SIZE];
    if (lin < CODE_BASE || lin - CODE_BASE > CODE_SIZE - n)
        return false;
    guest_gather(g, CODE_GPA, all, CODE_SIZE);
    memcpy(to, all + (lin - CODE_BASE), n);
    return true;
}

bool guest_pattern(struct guest *g, bool check)
{
    static const u8 want[4096] = {[0 ... 4095] = PATTERN};
    for (u64 gpa = CODE_GPA + 0x1000; gpa < AREAS_END; gpa += 0x2000)
        if (!check)
            memcpy(g->ram + gpa, want, 4096);
        else if (memcmp(g->ram + gpa, want, 4096))
            return false;
    return true;
}
