/* SPDX-License-Identifier: Apache-2.0 */
/* code_gate.c - allocates and frees the memory of blocks.c. */
#include <errno.h>
#include <stdlib.h>

#include "base/apart.h"
#include "engine/soft/blocks.h"
#include "engine/soft/code_gate.h"

int soft_code_new(struct soft_vcpu *v)
{
    void *arena = apart_alloc(soft_code_arena_size(v));
    if (!arena)
        return -errno;
    void *code = calloc(1, soft_code_struct_size());
    if (!code) {
        apart_free(arena, soft_code_arena_size(v));
        return -ENOMEM;
    }
    soft_code_attach(v, code, arena);
    return 0;
}

void soft_code_free(struct soft_vcpu *v)
{
    if (!v->code)
        return;
    apart_free(soft_code_arena(v), soft_code_arena_size(v));
    free(v->code);
    v->code = NULL;
}
