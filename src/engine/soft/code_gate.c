/* SPDX-License-Identifier: Apache-2.0 */
/* code_gate.c - allocates and frees the memory of blocks.c. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

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

/* ---- the VM's tables ------------------------------------------------------ */

static void *table_new(const struct soft_vm *vm, u64 size)
{
    void *p = mmap(NULL, vm->pages * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}
static void table_free(const struct soft_vm *vm, void *p, u64 size)
{
    if (p)
        munmap(p, vm->pages * size);
}

int code_tables_new(struct soft_vm *vm)
{
    vm->code_lines = table_new(vm, sizeof *vm->code_lines);
    vm->code_gen = table_new(vm, sizeof *vm->code_gen);
    vm->direct_page = vm->cfg.direct ? table_new(vm, sizeof *vm->direct_page) : NULL;
    return vm->code_lines && vm->code_gen ? 0 : -ENOMEM;
}

void code_tables_free(struct soft_vm *vm)
{
    table_free(vm, vm->code_lines, sizeof *vm->code_lines);
    table_free(vm, vm->code_gen, sizeof *vm->code_gen);
    table_free(vm, vm->direct_page, sizeof *vm->direct_page);
}
