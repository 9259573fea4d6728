/* SPDX-License-Identifier: Apache-2.0 */
/* gen_optable_graph.c - the decision graph and the descriptors at its ends: equal ones are stored once. */
#include "gen_optable.h"

struct opdesc descs[MAX_DESC];
u32 n_desc = 1;
u32 tree[MAX_TREE];
u32 n_tree = 2;

static u32 desc_hash[1 << 16];
static u32 node_hash[1 << 18];

static u32 hash_bytes(const void *p, size_t n)
{
    u32 h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const u8 *)p)[i]) * 16777619u;
    return h ^ h >> 15;
}

u32 intern_desc(const struct opdesc *d)
{
    for (u32 h = hash_bytes(d, sizeof(*d));; h++) {
        u32 *slot = &desc_hash[h & (ARRAY_SIZE(desc_hash) - 1)];
        if (!*slot) {
            if (n_desc == MAX_DESC)
                die("too many descriptors");
            descs[n_desc] = *d;
            return *slot = n_desc++;
        }
        if (!memcmp(&descs[*slot], d, sizeof(*d)))
            return *slot;
    }
}

u32 intern_node(unsigned dim, unsigned n, const u32 *child)
{
    u32 key[1 + 64];
    bool same = true;
    key[0] = dim;
    for (unsigned i = 0; i < n; i++) {
        key[1 + i] = child[i];
        same = same && child[i] == child[0];
    }
    if (same)
        return child[0];
    for (u32 h = hash_bytes(key, (1 + n) * 4);; h++) {
        u32 *slot = &node_hash[h & (ARRAY_SIZE(node_hash) - 1)];
        if (!*slot) {
            if (n_tree + n + 1 > MAX_TREE)
                die("tree too large");
            memcpy(tree + n_tree, key, (1 + n) * 4);
            *slot = n_tree;
            n_tree += (n + 2) & ~1u; /* nodes are named by place / 2 */
            return *slot | NODE;
        }
        if (tree[*slot] == dim && !memcmp(tree + *slot, key, (1 + n) * 4))
            return *slot | NODE;
    }
}
