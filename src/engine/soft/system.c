/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system.c - instructions that concern the processor itself: flags and interrupts, TLB, time, CPUID, ports, HLT. Control
 * and debug registers have files of their own.
 *
 * SDM vol. 2 (each instruction), vol. 3 ch. 4.10 (INVLPG, PCID), vol. 1 ch. 18 (I/O).
 */
#include "engine/soft/system.h"

void soft_set_rflags(struct soft_vcpu *v, u64 value, u64 mask)
{
    flags_change(v, value, mask);
}

/* ---- flags and interrupts ----------------------------------------------- */

static void op_pushf64(struct soft_vcpu *v, const struct insn *i)
{
    u64 sp = v->gpr[RSP] - 8;
    if (unlikely(!canonical(v, sp)))
        soft_raise_err(v, i, VEC_SS, 0);
    soft_store(v, i, sp, 8, v->rflags & ~(u64)(RFLAGS_RF | RFLAGS_VM));
    v->gpr[RSP] = sp;
    NEXT(v, i);
}
static void op_pushf(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    if (v->v86 && iopl_of(v) < 3)
        raise_gp0(v);
    stack_poke(v, i->size, i->size, v->rflags & ~(u64)(RFLAGS_RF | RFLAGS_VM));
    sp_set(v, v->gpr[RSP] - i->size);
    NEXT(v, i);
}

/* The end of POPF: a trap or interrupt that the new flags allow is dealt with now, not at the end of the block. */
#define POPF_END(v, i, old)                                                                               \
    do {                                                                                                  \
        u64 diff_ = (v)->rflags ^ (old);                                                                  \
        if (unlikely(diff_ & (RFLAGS_TF | RFLAGS_AC))) {                                                  \
            soft_update_slow(v);                                                                          \
            END_BLOCK((v), (i));                                                                          \
        }                                                                                                 \
        if ((diff_ & RFLAGS_IF) && unlikely(__atomic_load_n(&(v)->request, __ATOMIC_RELAXED)))            \
            END_BLOCK((v), (i));                                                                          \
        NEXT((v), (i));                                                                                   \
    } while (0)

static void op_popf64(struct soft_vcpu *v, const struct insn *i)
{
    const u64 sp = v->gpr[RSP], old = v->rflags;
    if (unlikely(!canonical(v, sp)))
        soft_raise_err(v, i, VEC_SS, 0);
    const u64 x = soft_load(v, i, sp, 8);
    u64 mask = FLAGS_IRET32;
    if (v->cpl <= iopl_of(v))
        mask |= RFLAGS_IF;
    if (v->cpl == 0)
        mask |= RFLAGS_IOPL;
    v->gpr[RSP] = sp + 8;
    v->rflags = (old & ~(mask | RFLAGS_RF)) | (x & mask);
    POPF_END(v, i, old);
}
static void op_popf(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    if (v->v86 && iopl_of(v) < 3)
        raise_gp0(v);
    const u64 old = v->rflags, x = stack_peek(v, 0, i->size);
    u64 mask = i->size == 2 ? FLAGS_IRET16 : FLAGS_IRET32;
    if (v->cpl <= iopl_of(v)) /* in V86 mode CPL is 3, and so is IOPL here */
        mask |= RFLAGS_IF;
    if (v->cpl == 0)
        mask |= RFLAGS_IOPL;
    sp_set(v, v->gpr[RSP] + i->size);
    v->rflags = (old & ~(mask | RFLAGS_RF)) | (x & mask);
    POPF_END(v, i, old);
}

static void op_cli(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(v->cpl > iopl_of(v)))
        soft_raise_err(v, i, VEC_GP, 0);
    v->rflags &= ~(u64)RFLAGS_IF;
    NEXT(v, i);
}
/*
 * The instruction after STI runs before any interrupt is taken. Within a block no interrupt is taken, so the handler need
 * only go on, unless a request waits already or the block ends here: then that instruction runs alone.
 */
static void op_sti(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(v->cpl > iopl_of(v)))
        soft_raise_err(v, i, VEC_GP, 0);
    if (v->rflags & RFLAGS_IF)
        NEXT(v, i);
    v->rflags |= RFLAGS_IF;
    if (unlikely(__atomic_load_n(&v->request, __ATOMIC_RELAXED) || i[1].fn == op_end)) {
        v->s.sti_shadow = true;
        v->slow |= SLOW_SHADOW;
        END_BLOCK(v, i);
    }
    NEXT(v, i);
}

static void op_clac_stac(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(v->cpl != 0))
        soft_raise(v, i, VEC_UD);
    v->rflags = i->aux ? v->rflags | RFLAGS_AC : v->rflags & ~(u64)RFLAGS_AC;
    soft_update_tlb_ctx(v);
    NEXT(v, i);
}

static void op_hlt(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    v->s.activity = CPU_HALTED;
    END_BLOCK(v, i);
}

/*
 * A guest that spins may wait for a processor whose thread does not run, so every few PAUSEs the host is asked to run
 * another thread. The system call sched_yield() is made by hand, because the guest's vectors may be in the registers, which
 * the kernel preserves.
 */
void op_pause(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely((++v->pauses & 63) == 0) && v->vm->cfg.cpus > 1) {
        u64 rax = 24; /* sched_yield */
        __asm__ volatile("syscall" : "+a"(rax) : : "rcx", "r11", "memory");
    }
    NEXT_UNLESS_REQUEST(v, i);
}

/* ---- time, identity ----------------------------------------------------- */

static void check_tsd(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely((v->s.cr4 & CR4_TSD) && v->cpl > 0 && (v->s.cr0 & CR0_PE)))
        soft_raise_err(v, i, VEC_GP, 0);
}
static void op_rdtsc(struct soft_vcpu *v, const struct insn *i)
{
    check_tsd(v, i);
    u64 t = soft_tsc(v);
    v->gpr[RAX] = (u32)t;
    v->gpr[RDX] = t >> 32;
    NEXT(v, i);
}
static void op_rdtscp(struct soft_vcpu *v, const struct insn *i)
{
    check_tsd(v, i);
    __asm__ volatile("lfence" ::: "memory"); /* RDTSCP waits for all instructions before it, loads included */
    u64 t = soft_tsc(v);
    v->gpr[RAX] = (u32)t;
    v->gpr[RDX] = t >> 32;
    v->gpr[RCX] = (u32)v->s.tsc_aux;
    NEXT(v, i);
}
static void op_rdpid(struct soft_vcpu *v, const struct insn *i)
{
    v->gpr[i->rm / 8] = (u32)v->s.tsc_aux;
    NEXT(v, i);
}
/* The performance counters do not count. AMD processors have the K7's four counters whatever CPUID says. */
static void op_rdpmc(struct soft_vcpu *v, const struct insn *i)
{
    if ((v->cpl > 0 && !(v->s.cr4 & CR4_PCE)) || (u32)v->gpr[RCX] >= 4 || !soft_is_amd(v))
        soft_raise_err(v, i, VEC_GP, 0);
    v->gpr[RAX] = v->gpr[RDX] = 0;
    NEXT(v, i);
}
static __attribute__((noinline)) void cpuid(struct soft_vcpu *v)
{
    u32 out[4];
    soft_cpuid(v, (u32)v->gpr[RAX], (u32)v->gpr[RCX], out);
    v->gpr[RAX] = out[0];
    v->gpr[RBX] = out[1];
    v->gpr[RCX] = out[2];
    v->gpr[RDX] = out[3];
}
static void op_cpuid(struct soft_vcpu *v, const struct insn *i)
{
    cpuid(v); /* a function of its own, so that no local here has its address taken and NEXT is a jump */
    NEXT(v, i);
}

/*
 * VMCALL, VMMCALL where CPUID announces KVM's paravirtual interface
 * (linux/Documentation/virt/kvm/x86/hypercalls.rst). Elsewhere #UD, as on a processor without virtualization.
 */
static void op_hypercall(struct soft_vcpu *v, const struct insn *i)
{
    if (!soft_has(v, 0x40000000, 0, 1, 0)) /* "K" of KVMKVMKVM is odd */
        soft_raise(v, i, VEC_UD);
    const u64 mask = v->bits == 64 ? UINT64_MAX : UINT32_MAX;
    const u64 arg[4] = { v->gpr[RBX] & mask, v->gpr[RCX] & mask, v->gpr[RDX] & mask, v->gpr[RSI] & mask };
    const s64 result = v->cpl ? -1 /* EPERM */ : soft_hypercall(v, v->gpr[RAX] & mask, arg);
    v->gpr[RAX] = v->bits == 64 ? (u64)result : (u32)result;
    NEXT(v, i);
}

/* ---- TLB and caches ----------------------------------------------------- */

static void op_invlpg(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    u64 lin = insn_ea(v, i) + v->segbase[i->seg];
    if (v->bits != 64)
        lin = (u32)lin;
    if (canonical(v, lin))
        soft_flush_page(v, lin);
    END_BLOCK(v, i);
}

static void op_invpcid(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    const u64 type = reg_read(v, i->reg, v->bits == 64 ? 8 : 4);
    const u64 lin = insn_linear(v, i, 16, ACCESS_READ);
    const u64 pcid = soft_load(v, i, lin, 8), address = soft_load(v, i, lin + 8, 8);
    SYNC(v, i);
    if (type > 3 || (pcid >> 12) || (type < 2 && pcid && !(v->s.cr4 & CR4_PCIDE)) ||
        (type == 0 && !canonical(v, address)))
        raise_gp0(v);
    v->stat.flush[FLUSH_INVPCID]++;
    switch (type) {
    case 0: /* one address; of another PCID all addresses, because its kept entries are not searched */
        if (pcid == soft_pcid(v))
            soft_flush_page(v, address);
        else
            soft_flush_space(v, (u16)pcid);
        break;
    case 1: soft_flush_space(v, (u16)pcid); break;
    case 2: soft_flush_tlb(v); break;
    default: soft_flush_spaces(v); break;
    }
    END_BLOCK(v, i);
}

static void op_wbinvd(struct soft_vcpu *v, const struct insn *i) /* also INVD: the caches belong to the host */
{
    need_cpl0(v, i);
    NEXT(v, i);
}

void soft_set_pkru(struct soft_vcpu *v, u32 value)
{
    if (v->pkru == value)
        return;
    v->pkru = value;
    soft_flush_data(v);
}
static void op_rdpkru(struct soft_vcpu *v, const struct insn *i)
{
    if (!(v->s.cr4 & CR4_PKE))
        soft_raise(v, i, VEC_UD);
    if ((u32)v->gpr[RCX])
        soft_raise_err(v, i, VEC_GP, 0);
    v->gpr[RAX] = v->pkru;
    v->gpr[RDX] = 0;
    NEXT(v, i);
}
static void op_wrpkru(struct soft_vcpu *v, const struct insn *i)
{
    if (!(v->s.cr4 & CR4_PKE))
        soft_raise(v, i, VEC_UD);
    if ((u32)v->gpr[RCX] || (u32)v->gpr[RDX])
        soft_raise_err(v, i, VEC_GP, 0);
    soft_set_pkru(v, (u32)v->gpr[RAX]);
    END_BLOCK(v, i);
}

/* ---- ports -------------------------------------------------------------- */

/* The I/O permission bitmap of a 32- or 64-bit TSS (SDM vol. 1 18.5.2). Two bytes of it are read for any port. */
static bool io_permitted(struct soft_vcpu *v, u16 port, unsigned size)
{
    const struct cpu_seg *tr = &v->s.tr;
    if (!(tr->attr & 8) || (tr->attr & SEG_UNUSABLE) || tr->limit < 103)
        return false;
    const u32 at = (u32)soft_sys_load(v, tr->base + 102, 2) + port / 8;
    if (at + 1 > tr->limit)
        return false;
    const u32 bits = (u32)soft_sys_load(v, tr->base + at, 2);
    return !(bits >> (port & 7) & ((1u << size) - 1));
}

void soft_check_io(struct soft_vcpu *v, const struct insn *i, u16 port, unsigned size)
{
    if (unlikely(v->s.cr0 & CR0_PE) && (v->v86 || v->cpl > iopl_of(v))) {
        if (i)
            SYNC(v, i);
        if (!io_permitted(v, port, size))
            raise_gp0(v);
    }
    check_io_bp(v, port, size);
}

/* aux: access size; aux2: true if DX has the port, else imm has it. */
static void op_in(struct soft_vcpu *v, const struct insn *i)
{
    const u16 port = i->aux2 ? (u16)v->gpr[RDX] : (u16)(u8)i->imm;
    soft_check_io(v, i, port, i->aux);
    reg_write(v, REG_OFF(RAX), i->aux, soft_port_in(v, port, i->aux));
    NEXT_UNLESS_REQUEST(v, i);
}
static void op_out(struct soft_vcpu *v, const struct insn *i)
{
    const u16 port = i->aux2 ? (u16)v->gpr[RDX] : (u16)(u8)i->imm;
    soft_check_io(v, i, port, i->aux);
    soft_port_out(v, port, i->aux, v->gpr[RAX]);
    NEXT_UNLESS_REQUEST(v, i);
}

/* ---- lowering ----------------------------------------------------------- */

static bool set(struct insn *i, soft_fn *fn, unsigned size, unsigned aux)
{
    i->fn = fn;
    i->size = (u8)size;
    i->aux = (u8)aux;
    return true;
}

static bool lower_one_byte(const struct decoded *d, struct insn *i)
{
    const u8 io = (d->opcode & 1) ? (d->osize == 2 ? 2 : 4) : 1;
    switch (d->opcode) {
    case 0x9c: return set(i, stack_size(d) == 8 ? op_pushf64 : op_pushf, stack_size(d), 0);
    case 0x9d: return set(i, stack_size(d) == 8 ? op_popf64 : op_popf, stack_size(d), 0);
    case 0xfa: return set(i, op_cli, 0, 0);
    case 0xfb: return set(i, op_sti, 0, 0);
    case 0xf4: return set(i, op_hlt, 0, 0);
    case 0xe4: case 0xe5: i->aux2 = 0; return set(i, op_in, 0, io);
    case 0xec: case 0xed: i->aux2 = 1; return set(i, op_in, 0, io);
    case 0xe6: case 0xe7: i->aux2 = 0; return set(i, op_out, 0, io);
    case 0xee: case 0xef: i->aux2 = 1; return set(i, op_out, 0, io);
    }
    return false;
}

static bool lower_group7(const struct decoded *d, struct insn *i)
{
    const unsigned reg = d->reg & 7;
    i->aux2 = d->has_mem;
    if (reg == 4)
        return set(i, op_smsw, d->osize, 0);
    if (reg == 6)
        return set(i, op_lmsw, 2, 0);
    if (reg == 7 && d->has_mem)
        return set(i, op_invlpg, 0, 0);
    if (d->has_mem)
        return false;
    switch (d->modrm) {
    case 0xc1: case 0xd9: return set(i, op_hypercall, 0, 0);
    case 0xca: return set(i, op_clac_stac, 0, 0);
    case 0xcb: return set(i, op_clac_stac, 0, 1);
    case 0xee: return set(i, op_rdpkru, 0, 0);
    case 0xef: return set(i, op_wrpkru, 0, 0);
    case 0xf9: return set(i, op_rdtscp, 0, 0);
    }
    return false;
}

bool lower_system(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    if (lower_segment(v, d, i) || lower_legacy(v, d, i))
        return true;
    if (d->encoding != ENC_LEGACY)
        return false;
    if (d->map == 0)
        return lower_one_byte(d, i);
    const u8 wide = d->bits == 64 ? 8 : 4;
    if (d->map == 2)
        return d->opcode == 0x82 && d->opsize66 && d->has_mem ? set(i, op_invpcid, wide, 0) : false;
    if (d->map != 1)
        return false;
    switch (d->opcode) {
    case 0x01: return lower_group7(d, i);
    case 0x06: return set(i, op_clts, 0, 0);
    case 0x08: case 0x09: return set(i, op_wbinvd, 0, 0);
    case 0x20: case 0x22:
        if (d->reg != 0 && (d->reg < 2 || d->reg > 4) && d->reg != 8)
            return set(i, op_ud, 0, 0);
        i->rm = REG_OFF(d->rm & 15);
        return set(i, d->opcode == 0x20 ? op_mov_from_cr : op_mov_to_cr, wide, d->reg);
    case 0x21: case 0x23:
        if (d->reg > 7)
            return set(i, op_ud, 0, 0);
        i->rm = REG_OFF(d->rm & 15);
        return set(i, d->opcode == 0x21 ? op_mov_from_dr : op_mov_to_dr, wide, d->reg);
    case 0x0b: case 0xb9: case 0xff: return set(i, op_ud, 0, 0); /* UD2 UD1 UD0 */
    case 0x30: return set(i, op_wrmsr, 0, 0);
    case 0x31: return set(i, op_rdtsc, 0, 0);
    case 0x32: return set(i, op_rdmsr, 0, 0);
    case 0x33: return set(i, op_rdpmc, 0, 0);
    case 0xa2: return set(i, op_cpuid, 0, 0);
    case 0xc7:
        if (!d->has_mem && (d->reg & 7) == 7 && d->rep == 0xf3) {
            i->rm = REG_OFF(d->rm & 15);
            return set(i, op_rdpid, 0, 0);
        }
        return false;
    }
    return false;
}
