/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_state.c - the loader of saved states against hostile streams.  What it accepts, it must be able to save
 * and load again, to the same bytes.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/state.h"

struct inner {
    u32 x;
    bool on;
    u8 more[4];
};
struct outer {
    u8 a;
    u16 b;
    u64 c;
    bool on;
    u32 regs[8];
    struct inner in[3];
};

static const struct state_field inner_fields[] = { STATE_FIELD(struct inner, x, 1), STATE_FIELD(struct inner, on, 1),
                                                   STATE_ARRAY(struct inner, more, 2), STATE_END };
static const struct state_field outer_fields[] = { STATE_FIELD(struct outer, a, 1),
                                                   STATE_FIELD(struct outer, b, 1),
                                                   STATE_FIELD(struct outer, c, 2),
                                                   STATE_FIELD(struct outer, on, 1),
                                                   STATE_ARRAY(struct outer, regs, 1),
                                                   STATE_STRUCTS(struct outer, in, 1, inner_fields),
                                                   STATE_END };
static const struct state_desc desc[] = { { "outer", 3, outer_fields, NULL, NULL },
                                          { "inner", 2, inner_fields, NULL, NULL } };

struct objects {
    struct outer o[2];
    struct inner i;
};

static struct state_list *list(struct objects *x)
{
    struct state_list *l = state_list_new();

    if (!l || state_add(l, &desc[0], 0, &x->o[0]) || state_add(l, &desc[0], 1, &x->o[1]) ||
        state_add(l, &desc[1], 0, &x->i))
        abort();
    return l;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct objects x = { 0 }, y = { 0 };
    struct state_list *lx = list(&x), *ly = list(&y);
    struct state_buf first = { 0 }, second = { 0 };
    struct error err = { "" };

    if (!state_load(lx, data, size, &err)) {
        if (state_save(lx, &first, NULL) || state_load(ly, first.data, first.len, NULL) ||
            state_save(ly, &second, NULL) || first.len != second.len ||
            memcmp(first.data, second.data, first.len) != 0)
            abort();
    } else if (!err.text[0]) {
        abort();
    }
    state_buf_free(&first);
    state_buf_free(&second);
    state_list_free(lx);
    state_list_free(ly);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    struct objects x;
    struct state_buf b = { 0 };

    if (i > 1)
        return 0;
    memset(&x, i ? 1 : 0, sizeof(x));
    struct state_list *l = list(&x);
    if (state_save(l, &b, NULL) || b.len > cap)
        abort();
    memcpy(buf, b.data, b.len);
    size_t n = b.len;
    state_buf_free(&b);
    state_list_free(l);
    return n;
}
