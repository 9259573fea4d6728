/* SPDX-License-Identifier: Apache-2.0 */
/* code_gate.h - shared by blocks.c, which calls no libc, and code_gate.c, which allocates memory for it. */
#ifndef LODGE_ENGINE_SOFT_CODE_GATE_H
#define LODGE_ENGINE_SOFT_CODE_GATE_H

#include "engine/soft/soft.h"

u64 soft_code_arena_size(const struct soft_vcpu *v);
u64 soft_code_struct_size(void);
void soft_code_attach(struct soft_vcpu *v, void *zeroed, u8 *arena);
u8 *soft_code_arena(const struct soft_vcpu *v);

/* The tables with an entry for each page of guest memory. direct_page stays NULL without direct execution. -ENOMEM: some may
   be there, for code_tables_free. */
int must_check code_tables_new(struct soft_vm *vm);
void code_tables_free(struct soft_vm *vm);

#endif
