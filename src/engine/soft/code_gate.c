/* SPDX-License-Identifier: Apache-2.0 */
/* code_gate.c - the memory behind block.c. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/soft/block.h"
#include "engine/soft/code_gate.h"

int soft_code_new(struct soft_vcpu *v)
{
    void *arena = mmap(NULL, soft_code_arena_size(v), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        return -errno;
    void *code = calloc(1, soft_code_struct_size());
    if (!code) {
        munmap(arena, soft_code_arena_size(v));
        return -ENOMEM;
    }
    soft_code_attach(v, code, arena);
    return 0;
}

void soft_code_free(struct soft_vcpu *v)
{
    if (!v->code)
        return;
    munmap(soft_code_arena(v), soft_code_arena_size(v));
    free(v->code);
    v->code = NULL;
}
