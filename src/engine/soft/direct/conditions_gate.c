/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conditions_gate.c - what must hold so that a program sees the guest's processor, and not the host's: class (b) of the table in
 * docs/direct-execution.md.
 */
#include <cpuid.h>
#include <string.h>

#include "engine/soft/direct/direct.h"
#include "engine/soft/native.h"
#include "engine/soft/system.h"

/* ---- what must hold ------------------------------------------------------------- */

/* The descriptors that CPL 3 can see here: Linux's user segments and the processor's number (asm/segment.h). A guest must have
   the same ones in these places, whatever it has elsewhere: there the host faults, and the engine executes the instruction. */
static const struct { u16 sel; u64 raw; } visible[] = {
    { 0x23, 0x00cffa000000ffff }, { 0x2b, 0x00cff2000000ffff }, { 0x33, 0x00affa000000ffff }, { 0x7b, 0x0040f40000000000 },
};
enum { HOST_TR = 0x40 };
#define DESC_A BIT(40)
#define DESC_SHOWN 0x00f0ff0000000000ull /* by LAR */

static bool host_shows(u16 sel, u32 *rights)
{
    bool ok;
    __asm__("lar %2, %1" : "=@ccz"(ok), "=r"(*rights) : "r"((u32)sel));
    return ok;
}

/* What LAR says here of `visible`. False: CPL 3 sees other descriptors here. */
static bool host_segments(u32 rights[ARRAY_SIZE(visible)])
{
    unsigned seen = 0;
    u16 tr, ldt;
    for (unsigned k = 3; k < 0x10000; k += 4) {
        u32 r;
        if (!host_shows((u16)k, &r))
            continue;
        unsigned n = 0;
        while (n < ARRAY_SIZE(visible) && visible[n].sel != k)
            n++;
        if (n == ARRAY_SIZE(visible) || (((u64)r << 32 ^ visible[n].raw) & DESC_SHOWN & ~DESC_A))
            return false;
        rights[n] = r;
        seen++;
    }
    __asm__("str %0" : "=r"(tr));
    __asm__("sldt %0" : "=r"(ldt));
    return seen == ARRAY_SIZE(visible) && tr == HOST_TR && !ldt;
}

/* True if Linux here has UMIP and emulates what it forbids (linux/arch/x86/kernel/umip.c), so that these show constants. */
static bool host_answers_umip(void)
{
    struct __attribute__((packed)) { u16 limit; u64 base; } gdt = { 0 }, idt = { 0 };
    u64 cr0 = 0;
    __asm__ volatile("sgdt %0; sidt %1; smsw %2" : "=m"(gdt), "=m"(idt), "=r"(cr0));
    return gdt.base == 0xfffffffffffe0000 && !gdt.limit && idt.base == 0xffffffffffff0000 && !idt.limit && (u32)cr0 == 0x80050033;
}

/* Could LAR at CPL 3 succeed for this descriptor? */
static bool can_show(u64 raw)
{
    const unsigned type = raw >> 40 & 15;
    if (!(raw & DESC_S))
        return (type == 2 || type == 9 || type == 11 || type == 12) && desc_dpl(raw) == 3;
    return desc_dpl(raw) == 3 || (type & 12) == 12; /* conforming code */
}

/* Looks at the guest's descriptors, if they are others than at the last look. False: a program could load one that differs from
   the host's. d->scan: what it must not execute, since it would see others. */
static bool segments_as_expected(struct soft_vcpu *v)
{
    struct soft_direct *d = v->direct;
    const u64 base = v->s.gdtr.base, size = v->s.gdtr.limit + 1ull;
    if ((v->s.ldtr.selector & ~3u) || size > sizeof d->gdt || size < 0x80 || (base & 0xfff) + size > GUEST_PAGE_SIZE ||
        !soft_accessible(v, base, ACCESS_READ | ACCESS_IMPLICIT))
        return false;
    const struct tlb_entry *e = &v->tlbs[ctx_of(v, ACCESS_READ | ACCESS_IMPLICIT)][(base >> 12) & (TLB_SIZE - 1)];
    if (e->read != (base & ~0xfffull))
        return false;
    if (size == d->gdt_size && !memcmp(d->gdt, (const void *)(e->host + base), size))
        return d->gdt_good;
    d->gdt_size = (u32)size;
    memcpy(d->gdt, (const void *)(e->host + base), size);
    d->gdt_good = true;
    d->gdt_scan = 0;
    for (unsigned k = 1, n = 0; k < size / 8; k++) {
        const u64 raw = d->gdt[k];
        if (n < ARRAY_SIZE(visible) && k == visible[n].sel >> 3) {
            d->gdt_good &= !((raw ^ visible[n].raw) & (n < 3 ? ~DESC_A : DESC_SHOWN & ~DESC_A));
            if ((raw ^ (u64)d->host.rights[n] << 32) & DESC_SHOWN)
                d->gdt_scan |= ADMIT_NO_LAR;
            n++;
        } else if (can_show(raw)) {
            d->gdt_scan |= ADMIT_NO_LAR;
        }
    }
    return d->gdt_good;
}

static bool plain(const struct cpu_seg *s) { return s->selector <= 3 || s->selector == 0x2b; }

bool conditions_hold(struct soft_vcpu *v)
{
    const struct cpu_state *s = &v->s;
    return v->bits == 64 && !v->slow && !v->watch_access && !v->fpu_deny && s->seg[CS].selector == 0x33 &&
           s->seg[SS].selector == 0x2b && plain(&s->seg[DS]) && plain(&s->seg[ES]) && plain(&s->seg[FS]) && plain(&s->seg[GS]) &&
           (s->cr4 & (CR4_FSGSBASE | CR4_OSXSAVE | CR4_OSFXSR | CR4_LA57 | CR4_CET)) == (CR4_FSGSBASE | CR4_OSXSAVE | CR4_OSFXSR) &&
           (s->efer & EFER_SCE) && (s->xcr0 & ~BIT(9)) == v->native->mask && v->native->xsave &&
           (v->rflags & (RFLAGS_IF | RFLAGS_IOPL | RFLAGS_TF | RFLAGS_RF)) == RFLAGS_IF && segments_as_expected(v);
}

u32 conditions_scan(const struct soft_vcpu *v)
{
    const struct soft_direct *d = v->direct;
    return d->host.scan | d->gdt_scan | (d->host.xcr0 != v->s.xcr0 || v->s.xcr0 & XCOMP_PKRU ? ADMIT_NO_XSAVE : 0) |
           (runner_traps_tsc(v) ? 0 : ADMIT_NO_RDTSCP) |
           (!(v->s.cr4 & CR4_UMIP) || !d->host.umip || d->gdt_scan || v->s.tr.selector != HOST_TR ? ADMIT_NO_TABLES : 0);
}

bool conditions_visible(u16 sel)
{
    for (unsigned n = 0; n < ARRAY_SIZE(visible); n++)
        if ((visible[n].sel | 3u) == (sel | 3u))
            return true;
    return false;
}

static u64 host_xcr0(void)
{
    u32 lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (u64)hi << 32 | lo;
}

/* What the host's processor has, which others give #UD for (SDM vol. 2 and vol. 3 2.5; APM vol. 3, SYSENTER). */
static u32 host_scan(u64 xcr0)
{
    u32 eax, ebx, ecx, edx;
    __cpuid(0, eax, ebx, ecx, edx);
    const bool amd = (ebx == 0x68747541 && edx == 0x69746e65) || (ebx == 0x6f677948 && edx == 0x6e65476e); /* Hygon */
    __cpuid_count(7, 0, eax, ebx, ecx, edx);
    return (amd ? 0 : ADMIT_NO_SYSENTER) | (ebx >> 2 & 1 ? ADMIT_NO_SGX : 0) | (xcr0 & XCOMP_PKRU || ecx >> 3 & 3 ? ADMIT_NO_PKRU : 0);
}

bool conditions_of_host(struct direct_host *h)
{
    h->xcr0 = host_xcr0();
    h->scan = host_scan(h->xcr0);
    h->umip = host_answers_umip();
    return host_segments(h->rights);
}
