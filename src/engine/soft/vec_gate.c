/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_gate.c - what native.c needs from the system: the code buffer, mapped once for
 * writing and once for execution (no mapping allows both), the guard pages, and the
 * list of what the host's unit can hold.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/apart.h"
#include "engine/soft/native.h"

static void ask_host(struct soft_native *n)
{
    u32 a, b, c, d;
    static const u8 zero[512] __attribute__((aligned(16)));
    u8 image[512] __attribute__((aligned(16)));
    memcpy(image, zero, sizeof image);
    __asm__ volatile("fxsave64 %0" : "+m"(image));
    memcpy(&n->mxcsr_mask, image + XS_MXCSR_MASK, 4);
    if (!n->mxcsr_mask)
        n->mxcsr_mask = 0xffbf; /* SDM vol. 1, 11.6.6 */
    __asm__ volatile("fninit; fld1; fxsave64 %0; fninit" : "+m"(image));
    u64 fip;
    memcpy(&fip, image + XS_FIP, 8);
    n->fip_if_pending = !fip;
    /* Bit 47 of a pending exception's address is read back as the sign (48 bits), or as bit 47 of 57 bits. */
    fip = 1ull << 47;
    image[0] = 0x7e;                        /* FCW: invalid operations are not masked, */
    image[XS_FSW] = 0x81, image[XS_FSW + 1] = 0x80; /* FSW: and there was one */
    memcpy(image + XS_FIP, &fip, 8);
    __asm__ volatile("fxrstor64 %0; fxsave64 %0; fninit" : "+m"(image));
    memcpy(&fip, image + XS_FIP, 8);
    n->fip_spare = fip >> 63 ? 16 : 7;
    n->size[0] = 160;
    n->size[1] = 256;
    n->offset[1] = XS_XMM;
    n->mask = XCOMP_X87 | XCOMP_SSE;
    __cpuid(1, a, b, c, d);
    n->xsave = c >> 27 & 1; /* OSXSAVE */
    if (!n->xsave)
        return;
    u32 lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    n->mask = lo & XCOMP_VECTOR;
    __cpuid_count(0xd, 1, a, b, c, d);
    n->xsavec = a >> 1 & 1;
    for (unsigned k = 2; k < XCOMP_COUNT; k++) {
        if (!(n->mask >> k & 1))
            continue;
        __cpuid_count(0xd, k, a, b, c, d);
        if (!a || b + a > CPU_XSAVE_SIZE) {
            n->mask &= ~BIT(k);
            continue;
        }
        n->size[k] = a;
        n->offset[k] = b;
        if (c & 2)
            n->aligned |= 1u << k;
    }
}

/* Finds what the guest was told, by CPUID 0Dh, about the components that the host unit lacks (PKRU): it lays out the image
   by that. */
static void ask_table(struct soft_native *n, const struct cpuid_table *t)
{
    n->offered = XCOMP_X87 | XCOMP_SSE;
    if (!t)
        return;
    n->offered |= t->xcr0 & (n->mask | XCOMP_PKRU);
    for (u32 k = 0; k < t->n && k < CPUID_MAX_LEAVES; k++) {
        const struct cpuid_leaf *l = &t->leaf[k];
        if (l->function == 0xd && l->index == 1)
            n->xgetbv1 = l->eax >> 2 & 1;
        if (l->function != 0xd || l->index < 2 || l->index >= XCOMP_COUNT || n->size[l->index])
            continue;
        if (l->eax && (u64)l->eax + l->ebx <= CPU_XSAVE_SIZE) {
            n->size[l->index] = l->eax;
            n->offset[l->index] = l->ebx;
            if (l->ecx & 2)
                n->aligned |= 1u << l->index;
        }
    }
    for (unsigned k = 2; k < XCOMP_COUNT; k++)
        if (!n->size[k])
            n->offered &= ~BIT(k);
}

int soft_native_new(struct soft_vcpu *v)
{
    int r = -ENOMEM, fd = -1;
    struct soft_native *n = calloc(1, sizeof *n);
    if (!n)
        return -ENOMEM;
    v->native = n;
    fd = memfd_create("lodge-stubs", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, NATIVE_CODE_SIZE) < 0)
        goto fail;
    if (!(n->rw = apart_reserve(NATIVE_CODE_SIZE, 0)) || !(n->rx = apart_reserve(NATIVE_CODE_SIZE, 0)) ||
        !(n->guard = apart_reserve(GUARD_PAGES * 4096, 0)))
        goto fail;
    if (mmap(n->rw, NATIVE_CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != n->rw ||
        mmap((void *)n->rx, NATIVE_CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) != n->rx ||
        mprotect(n->guard + GUARD_OPEN, 4096, PROT_READ | PROT_WRITE) < 0)
        goto fail;
    close(fd);
    fd = -1;
    ask_host(n);
    ask_table(n, v->vm->cfg.cpuid);
    v->vec_live = false;
    r = fault_register(v);
    if (r < 0)
        goto done;
    return 0;
fail:
    r = errno ? -errno : -ENOMEM;
done:
    if (fd >= 0)
        close(fd);
    soft_native_free(v);
    return r;
}

void soft_native_free(struct soft_vcpu *v)
{
    struct soft_native *n = v->native;
    if (!n)
        return;
    v->vec_live = false;
    fault_unregister(v);
    apart_free(n->rw, NATIVE_CODE_SIZE);
    apart_free((void *)n->rx, NATIVE_CODE_SIZE);
    apart_free(n->guard, GUARD_PAGES * 4096);
    free(n);
    v->native = NULL;
}
