/* SPDX-License-Identifier: Apache-2.0 */
/* jit_gate.c - the translator's memory: its code, which is mapped once to be written and once to be executed, and its
   records. */
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/apart.h"
#include "engine/soft/native.h"
#include "engine/soft/translate/translate.h"

/* BMI2 has shifts that keep the flags, which the lookup of indirect branches uses. */
static bool host_bmi2(void)
{
    u32 a, b = 0, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 8 & 1);
}
/* Translated code needs LAHF and SAHF in 64-bit mode. Only the first processors with long mode lack them. */
static bool host_can(void)
{
    u32 a, b, c = 0, d;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & 1);
}

/*
 * What is executed lies all over the code, and each of its pages wants an entry of the host's TLB for instructions: huge
 * pages. Hosts mostly give them for shared memory only if asked for at once (Linux 6.1), which costs a fraction of a
 * millisecond for each: just before code is first written there.
 */
void jit_huge(struct soft_vcpu *v, u64 end)
{
    enum { POPULATE_WRITE = 23, COLLAPSE = 25 }; /* MADV_: newer than some headers */
    struct jit *j = v->jit;
    soft_vec_save(v);
    for (; j->huge < end; j->huge += MiB(2)) {
        const u64 at = j->huge;
        if (j->size - at >= MiB(2) && !madvise(j->rw + at, MiB(2), POPULATE_WRITE) && !madvise(j->rw + at, MiB(2), COLLAPSE) &&
            !madvise(j->rx + at, MiB(2), COLLAPSE))
            continue;
        j->huge = ~0ull; /* not here */
        return;
    }
}

void soft_jit_free(struct soft_vm *vm)
{
    struct jit *j = vm->jit;
    if (!j)
        return;
    apart_free(j->rw, j->size);
    apart_free(j->rx, j->size);
    apart_free(j->data, j->data_size);
    apart_free(j->workspace, jit_workspace_size());
    apart_free(j->hash, sizeof *j->hash << j->hash_bits);
    apart_free(j->home, vm->pages * sizeof *j->home);
    apart_free(j, sizeof *j);
    vm->jit = NULL;
}

/* Two fifths of the cache's bytes are records about the code in the rest. */
int soft_jit_new(struct soft_vm *vm)
{
    const u64 share = vm->cfg.code_cache;
    if (!share || vm->vec_eager || !host_can())
        return 0;
    struct jit *j = apart_alloc(sizeof *j);
    if (!j)
        return -ENOMEM;
    vm->jit = j;
    j->size = align_up(MAX(share / 5 * 3, MiB(1)), GUEST_PAGE_SIZE);
    j->data_size = align_up(MAX(share / 5 * 2, KiB(512)), GUEST_PAGE_SIZE);
    j->nseg = j->size < MiB(8) ? 4 : JIT_SEGMENTS;
    j->bmi2 = host_bmi2();
    /* This is shared anonymous memory, mapped twice. perf takes "/dev/zero" for a place of generated code, but not a
       memfd. */
    if (!(j->rw = apart_reserve(j->size, 0)) || !(j->rx = apart_reserve(j->size, 0)))
        goto fail;
    if (mmap(j->rw, j->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != j->rw ||
        mremap(j->rw, 0, j->size, MREMAP_MAYMOVE | MREMAP_FIXED, j->rx) != j->rx ||
        mprotect(j->rx, j->size, PROT_READ | PROT_EXEC) < 0)
        goto fail;
    /* There is a bucket for each 256 bytes of records. A translation has so many on average, so most buckets hold at most
       one. */
    for (j->hash_bits = 12; 256ull << j->hash_bits < j->data_size; j->hash_bits++)
        ;
    j->next_home = JIT_HOME_FIRST;
    if (!(j->data = apart_alloc(j->data_size)) || !(j->workspace = apart_alloc(jit_workspace_size())) ||
        !(j->hash = apart_alloc(sizeof *j->hash << j->hash_bits)) || !(j->home = apart_alloc(vm->pages * sizeof *j->home)))
        goto fail;
    j->count = vm->cfg.count;
    j->hot = j->hot_least = (u16)MIN(vm->cfg.translate_after, 1000u);
    for (unsigned k = 0; k < 4096; k++)
        j->region.at[k] = j->region.block_at[k] = -1;
    jit_stubs(j, vm->code_lines);
    soft_jit_report_stubs(vm);
    return 0;
fail:;
    const int r = -errno;
    soft_jit_free(vm);
    return r;
}

/* The size of the stack for signals in bytes. It depends on the processor, whose vector registers must fit. */
static u64 signal_stack_size(void)
{
    return ((u64)sysconf(_SC_SIGSTKSZ) + GUEST_PAGE_SIZE - 1) & ~(u64)(GUEST_PAGE_SIZE - 1);
}

static u8 *signal_stack(struct soft_vcpu *v)
{
    return v->tr.stack + JIT_STACK + 2 * GUEST_PAGE_SIZE;
}

/* The stack of translated calls lies between pages that fault. If a guest calls and never returns, it runs into the lower
   page, and the stack is emptied (fault_gate.c). The stack then has no room for that signal, so a stack for signals lies
   above it. */
int soft_jit_attach(struct soft_vcpu *v)
{
    struct jit *j = v->vm->jit;
    if (!j)
        return 0;
    const u64 calls = JIT_STACK + 2 * GUEST_PAGE_SIZE;
    u8 *stack = apart_reserve(calls + signal_stack_size(), 0);
    if (!stack)
        return -errno;
    v->tr.stack = stack;
    if (mprotect(stack + GUEST_PAGE_SIZE, JIT_STACK, PROT_READ | PROT_WRITE) < 0 ||
        mprotect(stack + calls, signal_stack_size(), PROT_READ | PROT_WRITE) < 0)
        return -errno;
    if (!(v->tr.lowered = apart_alloc(soft_jit_lowered_size())))
        return -ENOMEM;
    v->tr.base = (u64)stack + GUEST_PAGE_SIZE + JIT_STACK - 64;
    v->tr.self = v;
    v->tr.code = (u64)j->rx;
    v->tr.code_size = j->size;
    v->tr.fault = soft_jit_fault_entry;
    for (unsigned c = 0; c < TLB_EMPTY; c++) {
        v->jct[c][0].minus_rip = JCT_NONE(0);
        v->tr.stack_page[c].page = NO_STACK_PAGE;
    }
    v->tr.epoch = ~0ull;
    v->jit = j;
    return 0;
}

void soft_jit_detach(struct soft_vcpu *v)
{
    apart_free(v->tr.lowered, soft_jit_lowered_size());
    apart_free(v->tr.stack, JIT_STACK + 2 * GUEST_PAGE_SIZE + signal_stack_size());
    v->tr.lowered = NULL;
    v->tr.stack = NULL;
    v->jit = NULL;
}

void soft_jit_thread(struct soft_vcpu *v)
{
    soft_fault_vcpu = v;
    if (!v->jit)
        return;
    syscall(SYS_arch_prctl, ARCH_SET_GS, v);
    stack_t s;
    if (sigaltstack(NULL, &s) == 0 && !(s.ss_flags & SS_DISABLE))
        return; /* it belongs to a sanitizer, which removes it itself */
    s = (stack_t){ .ss_sp = signal_stack(v), .ss_size = signal_stack_size() };
    sigaltstack(&s, NULL);
}

void soft_jit_thread_end(struct soft_vcpu *v)
{
    stack_t s;
    if (v->jit && sigaltstack(NULL, &s) == 0 && s.ss_sp == signal_stack(v)) {
        s = (stack_t){ .ss_flags = SS_DISABLE };
        sigaltstack(&s, NULL);
    }
}
