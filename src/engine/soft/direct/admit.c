/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admit.c - which pages of a guest's program may be executed by a runner: those in which no instruction that would show the
 * host begins at any byte. docs/direct-execution.md has the list with its reasons; class (c) there is what is looked for here.
 *
 * Encodings: SDM vol. 2, appendix A (opcode map of 0Fh, groups 6, 7, 9, 15); APM vol. 3 for RDPRU, VMMCALL.
 */
#include "engine/soft/direct/direct.h"

enum { UNKNOWN = 0, CLEAN = 1, REFUSED = 2 };
/* In soft_vm.direct_page: the generation of the page's code, and the answer for it. */
static u64 answer(u32 gen, u32 scan, unsigned what) { return (u64)gen << 32 | scan << 8 | what; }

/* May the opcode at k have the prefix F3h? Code that begins before what is known here may. */
static bool repeated(const u8 *code, unsigned k)
{
    for (unsigned n = 0; n < 12; n++) {
        if (!k || code[k - 1] == 0xf3)
            return true;
        switch (code[--k]) {
        case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x66: case 0x67: case 0xf2: continue;
        }
        if ((code[k] & 0xf0) != 0x40) /* REX; LOCK would be #UD */
            return false;
    }
    return false;
}

/* Does 0Fh at k, with the two bytes behind it, begin an instruction that shows the host? */
static bool shows(const u8 *code, unsigned k, u32 scan)
{
    const unsigned second = code[k + 1], third = code[k + 2], reg = third >> 3 & 7;
    const bool memory = third < 0xc0;
    switch (second) {
    case 0x02:                       /* LAR */
        return scan & ADMIT_NO_LAR;
    case 0x03:                       /* LSL, whose 7Bh has the processor's number */
    case 0xa2:                       /* CPUID */
        return !(scan & ADMIT_CPUID);
    case 0x34:                       /* SYSENTER */
        return scan & ADMIT_NO_SYSENTER;
    case 0x00:                       /* SLDT, STR, VERR, VERW */
        return (reg <= 1 && scan & ADMIT_NO_TABLES) || ((reg == 4 || reg == 5) && scan & ADMIT_NO_LAR);
    case 0x01:
        if (memory)
            return scan & ADMIT_NO_TABLES && (reg == 0 || reg == 1 || reg == 4); /* SGDT, SIDT, SMSW */
        switch (third) {
        case 0xc1: case 0xd9: case 0xfd: /* VMCALL, VMMCALL, RDPRU */
            return true;
        case 0xd0:                       /* XGETBV */
            return scan & ADMIT_NO_XSAVE;
        case 0xd7:                       /* ENCLU */
            return scan & ADMIT_NO_SGX;
        case 0xee: case 0xef:            /* RDPKRU, WRPKRU */
            return scan & ADMIT_NO_PKRU;
        case 0xf9:                       /* RDTSCP */
            return scan & ADMIT_NO_RDTSCP;
        }
        return reg == 4 && scan & ADMIT_NO_TABLES; /* SMSW */
    case 0xae:                       /* XSAVE, XRSTOR, XSAVEOPT */
        return scan & ADMIT_NO_XSAVE && memory && reg >= 4 && reg <= 6;
    case 0xc7:                       /* RDPID, with F3h, else it is RDSEED; XSAVEC */
        return memory ? reg == 4 && scan & ADMIT_NO_XSAVE : reg == 7 && repeated(code, k);
    }
    return false;
}

/* Does an instruction begin at k? Decoding falls into step with the code within a few instructions, wherever it begins. So most
   ways to begin some way before k agree on it. */
static bool begins_at(const u8 *code, unsigned n, unsigned k)
{
    enum { BACK = 64, WAYS = 24, FEW = 3 };
    const unsigned first = k > BACK ? k - BACK : 0, last = MIN(first + WAYS, k);
    unsigned hits = 0;
    for (unsigned from = first; from < last; from++) {
        unsigned at = from;
        struct decoded d;
        while (at < k) {
            const enum decode_result r = decode(&d, code + at, MIN(n - at, 15u), 64, true);
            at += r == DECODE_OK ? d.len : 1;
        }
        hits += at == k;
    }
    return last - first < WAYS / 2 || hits > FEW;
}

/* The first such instruction at k or behind it, and before `end`; else `end`. */
static unsigned next_refused(const u8 *code, unsigned n, unsigned k, unsigned end, u32 scan)
{
    for (; k < end; k++) {
        if (likely(code[k] != 0x0f)) {
            if (unlikely(code[k] == 0xcd) && scan & ADMIT_NO_TABLES && k + 1 < n && code[k + 1] == 0x80) /* INT 80h loses the upper half of RAX */
                return k;
            continue;
        }
        /* What lies beyond n is looked at together with the page that follows. */
        if (k + 2 < n && shows(code, k, scan) &&
            (code[k + 1] != 0x03 || begins_at(code, n, k)))
            return k;
        if (k + 2 == n && ((code[k + 1] == 0xa2 && !(scan & ADMIT_CPUID)) || (code[k + 1] == 0x34 && scan & ADMIT_NO_SYSENTER)))
            return k;
    }
    return end;
}

bool admit_bytes(const u8 *code, unsigned n, unsigned from, u32 scan)
{
    return next_refused(code, n, 0, from, scan) == from;
}

static const u8 *bytes_at(const struct soft_vcpu *v, u64 place)
{
    const struct memory *m = v->vm->cfg.memory;
    for (u32 k = 0; k < m->npieces; k++)
        if (place - m->piece[k].place < m->piece[k].size)
            return m->piece[k].host + (place - m->piece[k].place);
    return NULL;
}

bool admit_current(const struct soft_vcpu *v, u64 place)
{
    const u64 page = place >> GUEST_PAGE_SHIFT;
    return __atomic_load_n(&v->vm->direct_page[page], __ATOMIC_ACQUIRE) ==
           answer(__atomic_load_n(&v->vm->code_gen[page], __ATOMIC_SEQ_CST), v->direct->scan, CLEAN);
}

/* True if no processor can still write to a page whose lines have been watched just now: each has closed what it had open. */
static bool all_closed(const struct soft_vcpu *v)
{
    for (u32 k = 0; k < v->vm->cfg.cpus; k++) {
        const struct soft_vcpu *o = __atomic_load_n(&v->vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (o && !__atomic_load_n(&o->sleeping, __ATOMIC_SEQ_CST) && __atomic_load_n(&o->request, __ATOMIC_SEQ_CST) & REQ_FLUSH)
            return false;
    }
    return true;
}

bool admit_page(struct soft_vcpu *v, u64 place)
{
    const u64 page = place >> GUEST_PAGE_SHIFT, have = __atomic_load_n(&v->vm->direct_page[page], __ATOMIC_ACQUIRE);
    const u64 known = have & ~0xffull;
    if (have && known == answer(__atomic_load_n(&v->vm->code_gen[page], __ATOMIC_SEQ_CST), v->direct->scan, UNKNOWN))
        return (have & 0xff) == CLEAN;
    const u8 *p = bytes_at(v, place);
    if (!p)
        return false;
    const u32 gen = soft_code_watch(v, place, GUEST_PAGE_SIZE);
    if (!all_closed(v))
        return false; /* the next time */
    const bool clean = admit_bytes(p, GUEST_PAGE_SIZE, GUEST_PAGE_SIZE, v->direct->scan);
    __atomic_store_n(&v->vm->direct_page[page], answer(gen, v->direct->scan, clean ? CLEAN : REFUSED), __ATOMIC_RELEASE);
    return clean && admit_current(v, place);
}

bool admit_same(const struct soft_vcpu *v, u64 place)
{
    const u64 page = place >> GUEST_PAGE_SHIFT;
    return __atomic_load_n(&v->vm->direct_page[page], __ATOMIC_ACQUIRE) ==
           answer(__atomic_load_n(&v->vm->code_gen[page], __ATOMIC_SEQ_CST), v->direct->scan, REFUSED);
}

/* Could a load of SS end at k? Behind it the processor ignores breakpoints for one instruction (SDM vol. 3 6.8.3). */
static bool behind_ss(const u8 *code, unsigned k)
{
    enum { LONGEST = 8 /* opcode, ModRM, SIB, displacement */ };
    if (k < LONGEST || code[k - 1] == 0x17 /* POP SS in 32-bit code */)
        return true;
    for (unsigned n = 2; n <= LONGEST; n++)
        if (code[k - n] == 0x8e && (code[k - n + 1] >> 3 & 7) == 2)
            return true;
    return false;
}

unsigned admit_refused(struct soft_vcpu *v, u64 place, u16 *offset, unsigned most)
{
    const u8 *p = bytes_at(v, place);
    unsigned n = 0, k = 0;
    if (!p || admit_page(v, place))
        return most + 1;
    while ((k = next_refused(p, GUEST_PAGE_SIZE, k, GUEST_PAGE_SIZE, v->direct->scan)) < GUEST_PAGE_SIZE) {
        if (n == most || behind_ss(p, k))
            return most + 1;
        offset[n++] = (u16)k++;
    }
    return admit_same(v, place) ? n : most + 1;
}

bool admit_pair(const struct soft_vcpu *v, u64 place, u64 next)
{
    const u8 *p = bytes_at(v, place), *q = bytes_at(v, next);
    if (!p || !q)
        return false;
    const u8 code[4] = { p[GUEST_PAGE_SIZE - 2], p[GUEST_PAGE_SIZE - 1], q[0], q[1] };
    return admit_bytes(code, sizeof code, 2, v->direct->scan);
}
