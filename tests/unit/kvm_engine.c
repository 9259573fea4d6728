/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_engine.c - the same snippets of guest code on both engines, through engine.h
 * alone: set the whole state, run to the debug port, get the whole state, compare
 * every register, every segment, every defined flag and all of memory.
 *
 * Where there is no usable /dev/kvm the software engine is still checked against
 * the RAX each snippet must end with.
 */
#include "snippets_rig.h"

/* ---- comparison --------------------------------------------------------- */

static void same(const char *name, const char *field, u64 kvm, u64 soft)
{
    if (kvm != soft)
        test_fail(__FILE__, __LINE__, "%s: %s is %llx on kvm, %llx on soft", name, field, (unsigned long long)kvm,
                  (unsigned long long)soft);
}

static void same_seg(const char *name, const char *field, const struct cpu_seg *a, const struct cpu_seg *b, bool long_mode)
{
    char f[40];
    bool dead_a = (a->attr & SEG_UNUSABLE) || !(a->attr & SEG_P), dead_b = (b->attr & SEG_UNUSABLE) || !(b->attr & SEG_P);
    snprintf(f, sizeof(f), "%s selector", field);
    same(name, f, a->selector, b->selector);
    snprintf(f, sizeof(f), "%s usable", field);
    same(name, f, !dead_a, !dead_b);
    if (dead_a || dead_b)
        return;
    snprintf(f, sizeof(f), "%s attr", field);
    same(name, f, a->attr, b->attr);
    snprintf(f, sizeof(f), "%s limit", field);
    same(name, f, a->limit, b->limit);
    snprintf(f, sizeof(f), "%s base", field);
    if (!long_mode || !strcmp(field, "fs") || !strcmp(field, "gs"))
        same(name, f, a->base, b->base);
}

/* A component whose XSTATE_BV bit is clear is in its initial state, whatever the image holds. */
static void fpu_image(const struct cpu_state *s, u8 out[512])
{
    memcpy(out, s->xsave, 512);
    if (!(s->xsave[512] & 1)) {
        memset(out, 0, 24);
        memset(out + 32, 0, 128);
        out[0] = 0x7f, out[1] = 3;
    }
    if (!(s->xsave[512] & 2))
        memset(out + 160, 0, 256);
    memset(out + 6, 0, 18);     /* FOP, FIP, FDP: processors differ in when they are kept */
    memset(out + 28, 0, 4);     /* MXCSR_MASK */
    memset(out + 416, 0, 96);
}

static void compare(const struct snippet *sn, const struct cpu_state *k, const struct cpu_state *s, const u8 *km, const u8 *sm)
{
    static const char *const gpr[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
    static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs" };
    bool long_mode = (k->efer & EFER_LMA) && (k->seg[CS].attr & SEG_L);
    const char *n = sn->name;

    for (int i = 0; i < 16; i++)
        same(n, gpr[i], k->gpr[i], s->gpr[i]);
    same(n, "rip", k->rip, s->rip);
    same(n, "rflags", k->rflags & ~sn->flags_undef, s->rflags & ~sn->flags_undef);
    for (int i = 0; i < SEG_COUNT; i++)
        same_seg(n, segs[i], &k->seg[i], &s->seg[i], long_mode);
    same_seg(n, "ldtr", &k->ldtr, &s->ldtr, false);
    same_seg(n, "tr", &k->tr, &s->tr, false);
    same(n, "gdtr.base", k->gdtr.base, s->gdtr.base);
    same(n, "gdtr.limit", k->gdtr.limit, s->gdtr.limit);
    same(n, "idtr.base", k->idtr.base, s->idtr.base);
    same(n, "idtr.limit", k->idtr.limit, s->idtr.limit);
#define SAME(f) same(n, #f, k->f, s->f)
    SAME(cr0), SAME(cr2), SAME(cr3), SAME(cr4), SAME(xcr0), SAME(dr[0]), SAME(dr6), SAME(dr7), SAME(efer);
    SAME(star), SAME(lstar), SAME(cstar), SAME(sfmask), SAME(kernel_gs_base), SAME(sysenter_cs), SAME(sysenter_esp);
    SAME(sysenter_eip), SAME(pat), SAME(activity), SAME(sti_shadow), SAME(movss_shadow), SAME(nmi_masked);
    SAME(exception_pending), SAME(interrupt_injected);
    u8 kf[512], sf[512];
    fpu_image(k, kf);
    fpu_image(s, sf);
    for (int i = 0; i < 512; i++) {
        if (kf[i] != sf[i]) {
            test_fail(__FILE__, __LINE__, "%s: byte %d of the x87/SSE image is %02x on kvm, %02x on soft", n, i, kf[i], sf[i]);
            break;
        }
    }
    for (u32 i = 0; i < MEM; i++) {
        if (km[i] == sm[i])
            continue;
        test_fail(__FILE__, __LINE__, "%s: memory at %x is %02x on kvm, %02x on soft", n, i, km[i], sm[i]);
        break;
    }
}

/* ---- the tests ---------------------------------------------------------- */

static bool kvm_there(struct engine_caps *caps)
{
    struct error err;
    if (engine_kvm.probe(caps, &err) == 0)
        return true;
    printf("no KVM here: %s\n", err.text);
    return false;
}

static void check_rax(const char *engine, const struct snippet *sn, const struct cpu_state *s)
{
    if (sn->rax != ~0ull && s->gpr[RAX] != sn->rax)
        test_fail(__FILE__, __LINE__, "%s %s: rax is %llx, not %llx", engine, sn->name, (unsigned long long)s->gpr[RAX],
                  (unsigned long long)sn->rax);
}

TEST(same_on_both_engines)
{
    static struct cpu_state ks, ss;
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    u8 *km = malloc(MEM), *sm = malloc(MEM);
    struct rig kvm = { .up = false }, soft = { .up = false };
    struct error err;
    const char *only = getenv("SNIPPET");

    bool have_kvm = kvm_there(caps);
    if (engine_soft.probe && !have_kvm)
        CHECK_EQ(engine_soft.probe(caps, &err), 0);
    struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported };
    if (cpuid_build(cpuid, &rq, &err)) {
        test_fail(__FILE__, __LINE__, "cpuid: %s", err.text);
        goto out;
    }
    if (have_kvm)
        rig_up(&kvm, &engine_kvm, cpuid);
    kvm.weak = kvm_selftest(&err) < 0;
    if (engine_soft.vm_create)
        rig_up(&soft, &engine_soft, cpuid);
    for (u32 i = 0; i < ARRAY_SIZE(snippets); i++) {
        const struct snippet *sn = &snippets[i];
        if (only && strcmp(only, sn->name))
            continue;
        bool k = kvm.up && run_snippet(&kvm, sn, &ks, km), s = soft.up && run_snippet(&soft, sn, &ss, sm);
        k = k && !(kvm.weak && sn->hard);
        if (k)
            check_rax("kvm", sn, &ks);
        if (s)
            check_rax("soft", sn, &ss);
        if (k && s)
            compare(sn, &ks, &ss, km, sm);
    }
out:
    rig_down(&kvm);
    rig_down(&soft);
    free(km);
    free(sm);
    free(caps);
    free(cpuid);
}

/* A program that stops at the port each round: 40 rounds of work on registers, flags, stack and memory. */
#define WANDER(n, bits, ax, bx, cx, dx, si, sp)                                                                  \
    ASM(n, bits, "mov $40, %" #cx "; mov $0x1234, %" #ax "; mov $0x5678, %" #bx "; xor %" #dx ", %" #dx ";"       \
                 "1: add %" #ax ", %" #bx "; adc %" #bx ", %" #dx "; rol $3, %" #ax "; xor %" #dx ", %" #ax "; push %" #ax ";"   \
                 "mov %" #cx ", %" #si "; shl $3, %" #si "; mov %" #bx ", 0x200(%" #si "); stc; out %al, $0xf4;" \
                 "pop %" #ax "; sbb 0x200(%" #si "), %" #dx "; dec %" #cx "; jnz 1b")
WANDER(wander16, 16, ax, bx, cx, dx, si, sp)
WANDER(wander32, 32, eax, ebx, ecx, edx, esi, esp)
WANDER(wander64, 64, rax, rbx, rcx, rdx, rsi, rsp)
static const struct snippet wanderers[] = { SN(wander16, REAL, ~0ull, 0), SN(wander32, PM32, ~0ull, 0),
                                            SN(wander64, LONG0, ~0ull, 0) };
enum { WANDER_OUTS = 41 };

/* Runs from the port to the port, on each engine in turn (or on one: b == a), state and memory carried across. */
static bool wander(struct rig *a, struct rig *b, const struct snippet *sn, struct cpu_state *s, u8 *mem)
{
    struct rig *on = a;
    struct error err = { "" };
    u32 outs = 0;

    build_memory(mem, sn);
    build_state(s, sn->mode);
    while (outs < WANDER_OUTS) {
        memcpy(on->memory->region[0].host, mem, MEM);
        on->machine.ops->reset_caches(on->vm);
        if (on->machine.ops->set_state(on->machine.v, s))
            return false;
        on->machine.outs = 0;
        for (int turns = 0; !on->machine.outs && turns < 1000; turns++) {
            if (on->machine.ops->run(on->machine.v, &err) != RUN_KICKED) {
                test_fail(__FILE__, __LINE__, "%s on %s: %s", sn->name, on->machine.ops->name, err.text);
                return false;
            }
        }
        outs += on->machine.outs;
        if (!on->machine.outs || on->machine.ops->get_state(on->machine.v, s))
            return false;
        memcpy(mem, on->memory->region[0].host, MEM);
        on = on == a ? b : a;
    }
    return true;
}

TEST(state_crosses_engines)
{
    static struct cpu_state one, two;
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    u8 *m1 = malloc(MEM), *m2 = malloc(MEM);
    struct rig kvm = { .up = false }, soft = { .up = false };
    struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported };
    struct error err;

    if (!kvm_there(caps) || cpuid_build(cpuid, &rq, &err) || !rig_up(&kvm, &engine_kvm, cpuid) ||
        !rig_up(&soft, &engine_soft, cpuid))
        goto out;
    for (u32 i = 0; i < ARRAY_SIZE(wanderers); i++) {
        const struct snippet *sn = &wanderers[i];
        CHECK(wander(&soft, &soft, sn, &one, m1));
        CHECK(wander(&soft, &kvm, sn, &two, m2));
        compare(sn, &two, &one, m2, m1);
        CHECK(wander(&kvm, &soft, sn, &two, m2));
        compare(sn, &two, &one, m2, m1);
    }
out:
    rig_down(&kvm);
    rig_down(&soft);
    free(m1);
    free(m2);
    free(caps);
    free(cpuid);
}

/* What is set is what is read back: no field is lost or mixed up on the way through an engine. */
static void round_trip(const struct engine_ops *ops)
{
    static struct cpu_state a, b;
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    struct rig r = { .up = false };
    struct error err;
    struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported };

    if (!ops->vm_create || ops->probe(caps, &err) || cpuid_build(cpuid, &rq, &err) || !rig_up(&r, ops, cpuid))
        goto out;
    build_state(&a, LONG3);
    for (u64 i = 0; i < 16; i++)
        a.gpr[i] = 0x1111111111111111u * i + 5;
    a.cr2 = 0x1234;
    a.dr[0] = 0x1000, a.dr[1] = 0x2000, a.dr[2] = 0x3000, a.dr[3] = 0x4000;
    a.star = 0x0023001000000000, a.lstar = 0xffff800000001000, a.cstar = 0x5000, a.sfmask = 0x47700;
    a.kernel_gs_base = 0xffff888000000000, a.sysenter_cs = 8, a.sysenter_esp = 0x7000, a.sysenter_eip = 0x8000;
    a.pat = 0x0007010600070106;
    a.seg[FS].base = 0x7fff12345000;
    a.seg[GS].base = 0x60000;
    a.nmi_masked = true;
    a.sti_shadow = true;
    a.xsave[512] = 3;
    a.xsave[160] = 0xaa; /* XMM0 */
    a.xsave[32] = 0x55;  /* ST0 */
    a.mtrr_def_type = 0x806;
    CHECK_EQ(ops->set_state(r.machine.v, &a), 0);
    CHECK_EQ(ops->get_state(r.machine.v, &b), 0);
#define BACK(f)                                                                                              \
    do {                                                                                                     \
        if (a.f != b.f)                                                                                      \
            test_fail(__FILE__, __LINE__, "%s: %s set to %llx, reads %llx", ops->name, #f,                   \
                      (unsigned long long)a.f, (unsigned long long)b.f);                                     \
    } while (0)
    for (int i = 0; i < 16; i++)
        BACK(gpr[i]);
    BACK(rip); BACK(rflags); BACK(cr0); BACK(cr2); BACK(cr3); BACK(cr4); BACK(efer); BACK(xcr0);
    BACK(dr[0]); BACK(dr[1]); BACK(dr[2]); BACK(dr[3]); BACK(dr6); BACK(dr7);
    BACK(star); BACK(lstar); BACK(cstar); BACK(sfmask); BACK(kernel_gs_base);
    BACK(sysenter_cs); BACK(sysenter_esp); BACK(sysenter_eip); BACK(pat); BACK(mtrr_def_type);
    BACK(seg[CS].selector); BACK(seg[CS].attr); BACK(seg[FS].base); BACK(seg[GS].base); BACK(tr.base); BACK(tr.attr);
    BACK(gdtr.base); BACK(gdtr.limit); BACK(idtr.base); BACK(idtr.limit);
    BACK(nmi_masked); BACK(sti_shadow); BACK(activity); BACK(xsave[160]); BACK(xsave[32]);
    build_state(&a, REAL);
    a.activity = CPU_WAIT_SIPI;
    CHECK_EQ(ops->set_state(r.machine.v, &a), 0);
    CHECK_EQ(ops->get_state(r.machine.v, &b), 0);
    BACK(activity);
    a.activity = CPU_HALTED;
    a.exception_pending = true;
    a.exception_vector = VEC_UD;
    CHECK_EQ(ops->set_state(r.machine.v, &a), 0);
    CHECK_EQ(ops->get_state(r.machine.v, &b), 0);
    BACK(activity); BACK(exception_pending); BACK(exception_vector);
out:
    rig_down(&r);
    free(caps);
    free(cpuid);
}

/* An NMI that comes while the processor stands still is part of its state, and goes with it. */
static void nmi_waits(const struct engine_ops *ops)
{
    static struct cpu_state s;
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported };
    struct rig r = { .up = false };
    struct error err;

    if (ops->probe(caps, &err) || cpuid_build(cpuid, &rq, &err) || !rig_up(&r, ops, cpuid))
        goto out;
    struct engine_vcpu *v = r.machine.v;
    build_state(&s, LONG0);
    s.apic_base = 0; /* without an APIC, LINT1 is the NMI pin */
    CHECK_EQ(ops->set_state(v, &s), 0);
    ops->signal(v, SIGNAL_NMI, 0);
    for (int i = 0; i < 2; i++) { /* the second time from what was set */
        s.nmi_pending = false;
        CHECK_EQ(ops->get_state(v, &s), 0);
        CHECK(s.nmi_pending);
        CHECK_EQ(ops->set_state(v, &s), 0);
    }
    ops->signal(v, SIGNAL_NMI, 0);
    s.nmi_pending = false;
    CHECK_EQ(ops->set_state(v, &s), 0);
    CHECK_EQ(ops->get_state(v, &s), 0);
    CHECK(!s.nmi_pending); /* it was another state's */
out:
    rig_down(&r);
    free(caps);
    free(cpuid);
}
TEST(nmi_waits_kvm) { nmi_waits(&engine_kvm); }
TEST(nmi_waits_soft) { nmi_waits(&engine_soft); }

/* TZCNT and LZCNT are BSF and BSR on a processor that has not got them: operands by RIP and with REX included. */
ASM(bitscan, 64, "movq $0x1000, 97f(%rip); xor %eax, %eax; lzcntq 97f(%rip), %r10; tzcnt %r10, %r11; mov $77, %ecx; tzcnt %eax, %ecx;"
                 "mov %ecx, %eax; shl $16, %eax; mov %r10w, %ax; out %al, $0xf4; 96: jmp 96b; .balign 8; 97: .quad 0")

TEST(tzcnt_without_bmi1)
{
    static struct cpu_state s;
    static const struct snippet sn = SN(bitscan, LONG0, ~0ull, 0);
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    struct cpuid_table *cpuid = calloc(1, sizeof(*cpuid));
    u8 *mem = malloc(MEM);
    struct error err;

    for (int with = 0; with < 2; with++) {
        struct rig soft = { .up = false };
        struct cpuid_request rq = { .cpus = 1, .supported = &caps->supported, .features = with ? NULL : "-bmi1,-abm" };
        if (!engine_soft.probe(caps, &err) && !cpuid_build(cpuid, &rq, &err) &&
            cpuid_has(cpuid, cpu_feature_find("bmi1")) == with && rig_up(&soft, &engine_soft, cpuid) &&
            run_snippet(&soft, &sn, &s, mem)) {
            CHECK_EQ(s.gpr[R10], with ? 51 : 12); /* leading zeros, or the number of the highest bit */
            CHECK_EQ(s.gpr[R11], with ? 0 : 2);
            CHECK_EQ(s.gpr[RCX], with ? 32 : 77); /* BSF of 0 leaves its destination */
        }
        rig_down(&soft);
    }
    free(mem);
    free(caps);
    free(cpuid);
}

TEST(round_trip_kvm) { round_trip(&engine_kvm); }
TEST(round_trip_soft) { round_trip(&engine_soft); }
