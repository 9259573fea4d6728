/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stub.c - makes the stub of an instruction (native.h): host code that runs it
 * with the guest's registers and flags.
 *
 * An instruction in a stub behaves as it does on the host, undefined flags
 * included. A stub changes the following: the memory operand becomes [rdx] or [r11];
 * explicit general-register operands are in r8-r10 (or in the register where an
 * implicit operand already is); only the prefixes that the instruction needs in
 * 64-bit mode remain.
 */
#include "engine/soft/blocks.h"
#include "engine/soft/native.h"

_Static_assert(offsetof(struct soft_vcpu, gpr) == 0, "stubs address the registers from rdi with 8-bit displacements");
_Static_assert(offsetof(struct insn, fn) == 0 && sizeof(struct insn) < 128, "stubs step to the next insn");

/* ---- emitting ----------------------------------------------------------- */

struct emit {
    u8 b[NATIVE_STUB_MAX];
    unsigned n;
};

static void put1(struct emit *e, unsigned x)
{
    e->b[e->n++ % NATIVE_STUB_MAX] = (u8)x; /* native_make() checks n */
}
/* Emits the low n bytes of the constant, the most significant first: put(e, 3, 0x4189e0). */
static void put(struct emit *e, unsigned n, u64 bytes)
{
    while (n--)
        put1(e, (unsigned)(bytes >> (8 * n)) & 0xff);
}
static void put32(struct emit *e, u32 x)
{
    for (unsigned k = 0; k < 4; k++)
        put1(e, x >> (8 * k) & 0xff);
}

#define V_RFLAGS ((u32)offsetof(struct soft_vcpu, rflags))

/* Loads host register h from the guest's register: a high byte (AH-BH) alone, else all 64 bits. The flags do not change. */
static void load_gpr(struct emit *e, unsigned h, unsigned off)
{
    if (off & 7)
        put(e, 3, 0x400fb6 | (h >> 3) << 18);
    else
        put(e, 2, 0x488b | (h >> 3) << 10);
    put1(e, 0x47 | (h & 7) << 3);
    put1(e, off);
}
static void store_gpr(struct emit *e, unsigned h, unsigned off)
{
    put(e, 2, (off & 7 ? 0x4088 : 0x4889) | (h >> 3) << 10);
    put1(e, 0x47 | (h & 7) << 3);
    put1(e, off);
}

/* Loads the guest's six arithmetic flags into the host's flags, and overwrites eax. POPF would cost ten times as much. */
static void load_flags(struct emit *e)
{
    put(e, 2, 0x8b87), put32(e, V_RFLAGS); /* mov eax, [rdi+rflags] */
    put(e, 4, 0x0fbae00b);                 /* bt eax, 11 */
    put(e, 2, 0x88c4);                     /* mov ah, al */
    put(e, 3, 0x0f92c0);                   /* setc al */
    put(e, 2, 0x047f);                     /* add al, 7fh: overflows if al is 1 */
    put1(e, 0x9e);                         /* sahf */
}
static void store_flags(struct emit *e)
{
    put1(e, 0x9f);                         /* lahf */
    put(e, 3, 0x0f90c0);                   /* seto al */
    put(e, 3, 0x0fb6cc);                   /* movzx ecx, ah */
    put(e, 3, 0x0fb6c0);                   /* movzx eax, al */
    put(e, 3, 0xc1e00b);                   /* shl eax, 11 */
    put(e, 2, 0x09c8);                     /* or eax, ecx */
    put1(e, 0x25), put32(e, RFLAGS_ARITH); /* and eax, ARITH */
    put(e, 2, 0x8b8f), put32(e, V_RFLAGS); /* mov ecx, [rdi+rflags] */
    put(e, 2, 0x81e1), put32(e, ~(u32)RFLAGS_ARITH);
    put(e, 2, 0x09c8);
    put(e, 2, 0x8987), put32(e, V_RFLAGS);
}

/* Records FIP, FDP, FOP, FCS and FDS of the x87 instruction just executed. */
static void note_x87(struct emit *e, const struct decoded *d)
{
    put(e, 3, 0x0fb746), put1(e, offsetof(struct insn, off));                    /* movzx eax, [rsi+off] */
    put(e, 3, 0x480387), put32(e, 8 * REG_BLOCK);                                /* add rax, [rdi+block] */
    put(e, 3, 0x482387), put32(e, (u32)offsetof(struct soft_vcpu, ipmask));      /* and rax, [rdi+ipmask] */
    put(e, 3, 0x488987), put32(e, (u32)offsetof(struct soft_vcpu, x87.fip));     /* mov [rdi+fip], rax */
    put(e, 3, 0x66c787), put32(e, (u32)offsetof(struct soft_vcpu, x87.fop));     /* mov word [rdi+fop], opcode */
    put1(e, d->modrm), put1(e, d->opcode & 7);
    put(e, 3, 0x0fb787), put32(e, (u32)offsetof(struct soft_vcpu, s.seg[CS].selector));
    put(e, 3, 0x668987), put32(e, (u32)offsetof(struct soft_vcpu, x87.fcs));
    if (!d->has_mem)
        return;
    put(e, 3, 0x48898f), put32(e, (u32)offsetof(struct soft_vcpu, x87.fdp));     /* mov [rdi+fdp], rcx */
    u64 seg = offsetof(struct soft_vcpu, s.seg) + (d->seg % SEG_COUNT) * sizeof(struct cpu_seg);
    put(e, 3, 0x0fb787), put32(e, (u32)(seg + offsetof(struct cpu_seg, selector)));
    put(e, 3, 0x668987), put32(e, (u32)offsetof(struct soft_vcpu, x87.fds));
}

/* ---- which instructions -------------------------------------------------- */

/* The general-register instructions that run natively. Each is listed by name, because what is emitted runs in the host. */
bool stub_is_integer(unsigned m)
{
    switch (m) {
    case M_MUL: case M_IMUL: case M_DIV: case M_IDIV: case M_SHLD: case M_SHRD: case M_BSF: case M_BSR:
    case M_TZCNT: case M_LZCNT: case M_POPCNT: case M_BSWAP: case M_CMPXCHG: case M_CMPXCHG8B: case M_CMPXCHG16B:
    case M_XADD: case M_MOVBE: case M_CRC32: case M_ADCX: case M_ADOX: case M_ANDN: case M_BEXTR: case M_BLSI:
    case M_BLSMSK: case M_BLSR: case M_BZHI: case M_MULX: case M_PDEP: case M_PEXT: case M_RORX: case M_SARX:
    case M_SHLX: case M_SHRX: case M_RDRAND: case M_RDSEED: case M_MOVNTI: case M_LFENCE: case M_MFENCE:
    case M_SFENCE:
    /* Locked forms, XCHG with memory (which always locks), and the bit tests that op_int.c does not do. */
    case M_ADD: case M_OR: case M_ADC: case M_SBB: case M_AND: case M_SUB: case M_XOR: case M_INC: case M_DEC:
    case M_NEG: case M_NOT: case M_XCHG: case M_BT: case M_BTS: case M_BTR: case M_BTC: return true;
    }
    return false;
}

bool stub_is_x87_control(unsigned m)
{
    switch (m) {
    case M_FNINIT: case M_FNCLEX: case M_FLDCW: case M_FNSTCW: case M_FNSTSW: case M_FNSTENV: case M_FLDENV:
    case M_FNSAVE: case M_FRSTOR: case M_FWAIT: case M_FENI8087_NOP: case M_FDISI8087_NOP: case M_FSETPM287_NOP:
        return true;
    }
    return false;
}

/* Do F2 and F3 belong to the opcode? On other instructions they mean nothing and are dropped. */
static bool keeps_rep(const struct decoded *d, bool integer)
{
    if (!integer)
        return d->desc->cls != OPC_X87 && d->desc->cls != OPC_MMX;
    switch (d->desc->mnemonic) {
    case M_TZCNT: case M_LZCNT: case M_POPCNT: case M_CRC32: case M_ADOX: return true;
    }
    return false;
}

/* Does VEX.W or EVEX.W mean "64-bit general register"? Outside 64-bit mode it is ignored then (SDM vol. 2, 2.3.6). */
bool stub_w_is_gpr_size(const struct decoded *d)
{
    const struct opdesc *o = d->desc;
    return o->reg.size || o->vvvv.size || (!d->has_mem && o->rm.size) ||
           (d->map == 1 && (d->opcode == 0x6e || (d->opcode == 0x7e && d->pp == 1) || d->opcode == 0x2a ||
                            (d->opcode == 0x7b && d->pp >= 2))) ||
           (d->map == 3 && (d->opcode == 0x16 || d->opcode == 0x22));
}

/* ---- one instruction ---------------------------------------------------- */

struct plan {
    bool integer;
    unsigned implicit;        /* registers used by name, a bit each */
    unsigned ptr;             /* host register of the memory operand's address */
    unsigned reg, rm, vvvv;   /* numbers to encode */
    unsigned n;               /* explicit general registers */
    struct { u8 guest /* offset */, host; bool write; } gpr[3];
};

/* Finds a host register for an explicit operand. The same guest register always gets the same host register. */
static unsigned assign(struct plan *p, const struct decoded *d, unsigned num, const struct opdesc_gpr *o)
{
    static const u8 pool[3] = {8, 9, 10};
    unsigned off = REG_OFF(num & 15);
    if (o->size == 1 && d->encoding == ENC_LEGACY && !d->rex && num >= 4 && num < 8)
        off = REG_OFF(num - 4) + 1;
    for (unsigned k = 0; k < p->n; k++)
        if (p->gpr[k].guest == off) {
            p->gpr[k].write |= o->write;
            return p->gpr[k].host;
        }
    unsigned host = pool[p->n];
    if (!(off & 7) && (p->implicit >> (num & 15) & 1))
        host = num;
    p->gpr[p->n].guest = (u8)off;
    p->gpr[p->n].host = (u8)host;
    p->gpr[p->n].write = o->write;
    p->n++;
    return host;
}

static bool is_is4(const struct decoded *d)
{
    return d->encoding == ENC_VEX && d->map == 3 && d->opcode >= 0x4a && d->opcode <= 0x4c;
}

static void emit_tail(struct emit *e, const struct decoded *d)
{
    if (is_is4(d)) {
        put1(e, d->bytes[d->len - 1] & (d->bits == 64 ? 0xff : 0x7f));
        return;
    }
    if (d->imm_off)
        for (unsigned k = d->imm_off; k < d->len; k++)
            put1(e, d->bytes[k]);
}

static void emit_modrm(struct emit *e, const struct decoded *d, const struct plan *p)
{
    if (!d->has_modrm)
        return;
    if (d->has_mem)
        put1(e, (p->reg & 7) << 3 | (p->ptr & 7));
    else
        put1(e, 0xc0 | (p->reg & 7) << 3 | (p->rm & 7));
}

static void emit_legacy(struct emit *e, const struct decoded *d, const struct plan *p)
{
    const struct opdesc *o = d->desc;
    bool op66 = d->opsize66;
    if (p->integer && o->mnemonic != M_ADCX)
        op66 = d->osize == 2 && (o->reg.size == 2 || (d->has_mem ? o->mem_size : o->rm.size) == 2);
    else if (o->cls == OPC_X87)
        op66 = false;
    if (d->lock)
        put1(e, 0xf0);
    if (op66)
        put1(e, 0x66);
    if (d->rep && keeps_rep(d, p->integer))
        put1(e, d->rep);
    unsigned b = d->has_mem ? p->ptr : p->rm;
    unsigned rex = (d->bits == 64 ? d->rex & 8 : 0) | (d->has_modrm ? (p->reg >> 3 & 1) << 2 | (b >> 3 & 1)
                                                                    : (p->reg >> 3 & 1));
    if (rex)
        put1(e, 0x40 | rex);
    if (d->map)
        put1(e, 0x0f);
    if (d->map == 2)
        put1(e, 0x38);
    if (d->map == 3)
        put1(e, 0x3a);
    unsigned opcode = d->has_modrm || !o->reg.size ? d->opcode : (d->opcode & 0xf8u) | (p->reg & 7);
    put1(e, !d->map && opcode == 0x82 ? 0x80 : opcode); /* 82 means the same as 80 outside 64-bit mode */
    emit_modrm(e, d, p);
    emit_tail(e, d);
}

static void emit_vex(struct emit *e, const struct decoded *d, const struct plan *p)
{
    unsigned b = d->has_mem ? p->ptr : p->rm;
    unsigned w = d->bits != 64 && stub_w_is_gpr_size(d) ? 0 : d->w & 1;
    put1(e, 0xc4);
    put1(e, (~p->reg >> 3 & 1) << 7 | 0x40 | (~b >> 3 & 1) << 5 | d->map);
    put1(e, w << 7 | (~p->vvvv & 15) << 3 | (d->vl & 1u) << 2 | d->pp);
    put1(e, d->opcode);
    emit_modrm(e, d, p);
    emit_tail(e, d);
}

static void emit_evex(struct emit *e, const struct decoded *d, const struct plan *p)
{
    unsigned b = d->has_mem ? p->ptr : p->rm, x = d->has_mem ? 0 : p->rm >> 4;
    unsigned w = d->bits != 64 && stub_w_is_gpr_size(d) ? 0 : d->w & 1;
    u8 p2 = d->bytes[d->opcode_off - 1]; /* z L'L b V' aaa: kept, except for V' */
    put1(e, 0x62);
    put1(e, (~p->reg >> 3 & 1) << 7 | (~x & 1) << 6 | (~b >> 3 & 1) << 5 | (~p->reg >> 4 & 1) << 4 | d->map);
    put1(e, w << 7 | (~p->vvvv & 15) << 3 | 4 | d->pp);
    put1(e, (p2 & 0xf7u) | (~p->vvvv >> 4 & 1) << 3);
    put1(e, d->opcode);
    emit_modrm(e, d, p);
    emit_tail(e, d);
}

/* Outside 64-bit mode VZEROUPPER and VZEROALL touch registers 0 to 7 only. */
static void emit_vzero8(struct emit *e, const struct decoded *d)
{
    for (unsigned r = 0; r < 8; r++)
        if (d->desc->mnemonic == M_VZEROUPPER)
            put(e, 4, 0xc5f828c0 | r << 3 | r);                       /* vmovaps xmm, xmm */
        else
            put(e, 4, 0xc58057c0 | (~r & 15) << 19 | r << 3 | r);     /* vxorps xmm, xmm, xmm */
}

static void emit_stub(struct emit *e, const struct decoded *d, bool integer)
{
    const struct opdesc *o = d->desc;
    struct plan p = {.integer = integer, .implicit = o->gpr_read | o->gpr_write, .ptr = RDX};
    if (p.implicit & BIT(RDX))
        p.ptr = R11;
    p.reg = o->reg.size ? assign(&p, d, d->reg, &o->reg) : d->reg;
    p.rm = !d->has_mem && d->has_modrm && o->rm.size ? assign(&p, d, d->rm, &o->rm) : d->rm;
    p.vvvv = o->vvvv.size ? assign(&p, d, d->vvvv, &o->vvvv) : d->vvvv;
    const bool flags_in = (o->eflags_read | o->eflags_write) & RFLAGS_ARITH, flags_out = o->eflags_write & RFLAGS_ARITH;

    if (p.implicit & BIT(RBX))
        put1(e, 0x53); /* push rbx */
    if (p.ptr == R11 && d->has_mem)
        put(e, 3, 0x4989d3); /* mov r11, rdx */
    if (flags_in)
        load_flags(e);
    for (unsigned r = RAX; r <= RBX; r++)
        if (p.implicit >> r & 1)
            load_gpr(e, r, REG_OFF(r));
    for (unsigned k = 0; k < p.n; k++)
        if (p.gpr[k].host >= R8)
            load_gpr(e, p.gpr[k].host, p.gpr[k].guest);

    if (d->encoding == ENC_LEGACY)
        emit_legacy(e, d, &p);
    else if (d->bits != 64 && (o->mnemonic == M_VZEROUPPER || o->mnemonic == M_VZEROALL))
        emit_vzero8(e, d);
    else if (d->encoding == ENC_VEX)
        emit_vex(e, d, &p);
    else
        emit_evex(e, d, &p);

    for (unsigned r = RAX; r <= RBX; r++)
        if (o->gpr_write >> r & 1)
            store_gpr(e, r, REG_OFF(r));
    /* Whole registers are stored before high bytes: XADD AH, AL writes two parts of RAX. */
    for (unsigned high = 0; high < 2; high++)
        for (unsigned k = 0; k < p.n; k++)
            if (p.gpr[k].write && !!(p.gpr[k].guest & 7) == high)
                store_gpr(e, p.gpr[k].host, p.gpr[k].guest);
    if (flags_out)
        store_flags(e);
    if (o->cls == OPC_X87 && !stub_is_x87_control(o->mnemonic))
        note_x87(e, d);
    if (p.implicit & BIT(RBX))
        put1(e, 0x5b);
    put(e, 3, 0x4883c6), put1(e, sizeof(struct insn)); /* add rsi, sizeof(insn) */
    put(e, 2, 0xff26);                                 /* jmp [rsi] */
}

/* ---- the cache ---------------------------------------------------------- */

static bool same_bytes(const u8 *a, const u8 *b, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        if (a[k] != b[k])
            return false;
    return true;
}

/* Returns the stub that has these bytes, and makes it if there is none. Returns 0 if the buffer is full, or if the hash has
   no free slot near. */
static u64 place(struct soft_native *n, const struct emit *e)
{
    u64 h = 0xcbf29ce484222325ull;
    for (unsigned k = 0; k < e->n; k++)
        h = (h ^ e->b[k]) * 0x100000001b3ull;
    u32 slot = (u32)(h ^ h >> 32) % NATIVE_HASH_SIZE, probes = 0;
    for (; n->hash[slot] && probes < 64; slot = (slot + 1) % NATIVE_HASH_SIZE, probes++) {
        u32 k = n->hash[slot] - 1;
        if (n->length[k] == e->n && same_bytes(n->rw + k * NATIVE_ALIGN, e->b, e->n))
            return (u64)(n->rx + k * NATIVE_ALIGN);
    }
    u32 size = (u32)align_up(e->n, NATIVE_ALIGN);
    if (n->hash[slot] || n->used + size > NATIVE_CODE_SIZE)
        return 0;
    copy_bytes(n->rw + n->used, e->b, e->n);
    /* The stub is written through another mapping. No pipeline holds bytes that were never executed; before the buffer is
       used again, op_native_full has serialised (SDM vol. 3, 8.1.3). */
    u32 k = n->used / NATIVE_ALIGN;
    n->hash[slot] = k + 1;
    n->length[k] = (u16)e->n;
    n->used += size;
    return (u64)(n->rx + k * NATIVE_ALIGN);
}

/* There was no room for this instruction's stub when its block was decoded. Drops every block and stub, and runs the
   instruction again, newly decoded. */
void op_native_full(struct soft_vcpu *v, const struct insn *i)
{
    struct insn self = *i; /* i itself is dropped with the blocks */
    soft_code_flush(v);
    zero_bytes(v->native->hash, sizeof v->native->hash);
    v->native->used = 0;
    u32 a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)::"memory");
    soft_retry_slow(v, &self, SLOW_SMC);
}

/* MASKMOVQ and MASKMOVDQU store through rDI, so rdi holds the operand's address while they run. It need not hold v then,
   because they cannot fault here (op_maskmov has raised a pending #MF). */
static void emit_maskmov(struct emit *e, const struct decoded *d)
{
    struct plan p = {.reg = d->reg, .rm = d->rm, .vvvv = 0};
    put(e, 4, 0x574889d7); /* push rdi; mov rdi, rdx */
    if (d->encoding == ENC_VEX)
        emit_vex(e, d, &p);
    else
        emit_legacy(e, d, &p);
    put1(e, 0x5f);
    put(e, 3, 0x4883c6), put1(e, sizeof(struct insn));
    put(e, 2, 0xff26);
}

bool native_make(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    struct emit e;
    e.n = 0;
    if (d->desc->flags & OPF_IMPLICIT_MEM)
        emit_maskmov(&e, d);
    else
        emit_stub(&e, d, stub_is_integer(d->desc->mnemonic));
    if (e.n > sizeof e.b)
        return false;
    i->imm = place(v->native, &e);
    if (!i->imm)
        i->fn = op_native_full;
    return true;
}
