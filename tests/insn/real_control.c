/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real_control.c - branches, loops of all kinds, jumps through a table; a fault made on purpose.
 */
#include "real.h"

#include <string.h>

void real_fault(struct prog *f)
{
    struct rng *r = f->b.r;
    const u16 on = real_new_label(f);
    const u32 at = (u32)f->counter;
    const unsigned k = 1 + rng_below(r, f->counts_from);
    f->bomb = false;
    real_settle(f);
    PUT(f, 0x36, 0x83, 0x3e, (u8)at, (u8)(at >> 8), (u8)k);
    real_jump(f, 5, on);
    switch (rng_below(r, f->env->v86 ? 19 : 14)) {
    case 0: PUT(f, 0x0f, 0x0b); break;                                      /* ud2 */
    case 1: PUT(f, 0xd4, 0); break;                                         /* aam 0: #DE */
    case 2: PUT(f, 0xa3, 0xff, 0xff); break;                                /* mov [ffff], ax: beyond the limit */
    case 3: PUT(f, 0x36, 0xa1, 0xff, 0xff); break;                          /* mov ax, [ss:ffff]: #SS */
    case 4: PUT(f, 0x67, 0x89, 0x83, 0, 0, 1, 0); break;                    /* mov [ebx + 10000h], ax */
    case 5: PUT(f, 0x66, 0xb8, 0, 0, 1, 0, 0x66, 0xff, 0xe0); break;        /* mov eax, 10000h; jmp eax */
    case 6: PUT(f, 0x36, 0x66, 0xff, 0x36, 0xfd, 0xff); break;              /* push dword [ss:fffd] */
    case 7: PUT(f, 0x66, 0x68, 0, 0, 2, 0, 0x66, 0xc3); break;              /* push 20000h; ret */
    case 8: PUT(f, 0x8e, 0xc8); break;                                      /* mov cs, ax: #UD */
    case 9: PUT(f, 0x66, 0xe9, 0, 0, 1, 0); break;                          /* jmp: 10000h further */
    case 10: PUT(f, 0xcc); break;
    case 11: PUT(f, 0x66, 0x0e, 0x66, 0x68, 0, 0, 2, 0, 0x66, 0xcb); break; /* push cs; push 20000h; retf */
    case 12: PUT(f, 0x26, 0x66, 0xff, 0x06, 0xfd, 0xff); break;             /* inc dword [es:fffd] */
    case 13: PUT(f, 0x66, 0xe8, 0, 0, 1, 0); break;                         /* call: 10000h further */
    case 14: PUT(f, 0xf4); break;                                           /* hlt: #GP */
    case 15: PUT(f, 0x0f, 0x22, 0xd8); break;                               /* mov cr3, eax */
    case 16: PUT(f, 0xcd, 0x21); break;                                     /* int through a gate of privilege 0 */
    case 17: PUT(f, 0xa3, 0x10, 0xf0 | (u8)rng_below(r, 8)); break;         /* what is read-only or not there */
    default: PUT(f, 0xec); break;                                           /* in al, dx */
    }
    real_place_label(f, on);
}

void real_if_else(struct prog *f)
{
    struct rng *r = f->b.r;
    const u16 other = real_new_label(f), end = real_new_label(f);
    if (f->b.fixed >> RCX & 1 || chance(r, 80)) {
        real_jump(f, rng_below(r, 16), other);
        real_body(f, 1 + rng_below(r, 2));
    } else { /* loop, jcxz, by CX or ECX, over little */
        real_settle(f);
        const bool wide = chance(r, 30);
        const u8 c[] = {0x67, (u8)(0xe0 + rng_below(r, 4)), 0};
        gen_fix(real_put(f, c + !wide, 2u + wide), FIX_REL8, 1u + wide, other, 0);
        real_straight(f, 1 + rng_below(r, 3));
    }
    const bool has_else = chance(r, 40);
    if (has_else)
        real_jump(f, JMP, end);
    real_place_label(f, other);
    if (has_else)
        real_body(f, 1);
    real_place_label(f, end);
}

void real_loop(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned most = ITERATIONS / f->around;
    unsigned kind = rng_below(r, 5), reg = RCX;
    if (most < 2 || real_free_registers(f) < 3 || real_full(f))
        return;
    if (kind < 3 && f->b.fixed >> RCX & 1)
        kind = 3;
    const unsigned times = 2 + rng_below(r, MIN(most, chance(r, 30) ? 60u : 12u));
    const u32 saved_fixed = f->b.fixed, slot = real_new_slot(f);
    const s32 saved_counter = f->counter;
    const unsigned saved_from = f->counts_from;
    const u16 top = real_new_label(f), out = real_new_label(f), again = real_new_label(f);
    if (kind < 4) {
        if (kind == 3)
            reg = real_scratch(f);
        gen_set_register(&f->b, reg, times);
        f->b.fixed |= 1u << reg;
    } else {
        real_store(f, slot, times);
        f->counter = (s32)slot;
        f->counts_from = times;
    }
    f->around *= times;
    f->depth++;
    real_place_label(f, top);
    real_body(f, 1 + rng_below(r, 4));
    if (chance(r, 30))
        real_jump(f, rng_below(r, 16), out);
    if (chance(r, 30))
        real_jump(f, rng_below(r, 16), again);
    if (f->bomb && f->counter >= 0 && chance(r, 60))
        real_fault(f);
    if (chance(r, 40))
        real_body(f, 1);
    real_place_label(f, again);
    switch (kind) {
    case 0: { /* loop, loope, loopne by CX or ECX, with a jump back */
        const u16 on = real_new_label(f);
        const bool wide = chance(r, 30);
        const u8 c[] = {0x67, chance(r, 70) ? 0xe2 : (u8)(0xe0 + rng_below(r, 2)), 0};
        gen_fix(real_put(f, c + !wide, 2u + wide), FIX_REL8, 1u + wide, on, 0);
        real_jump(f, JMP, out);
        real_place_label(f, on);
        real_jump(f, JMP, top);
        break;
    }
    case 1: /* loop itself, where it reaches; else as above */
        gen_fix(PUT(f, 0xe2, 0), FIX_REL8, 1, top, 0);
        f->b.q->insn[f->b.q->n - 1].skip = 1; /* made long if need be, see real_lengthen() */
        break;
    case 2: { /* dec cx by lea; jcxz */
        const bool wide = chance(r, 30);
        const u8 c[] = {0x67, 0xe3, 0};
        PUT(f, 0x67, 0x8d, 0x49, 0xff);
        gen_fix(real_put(f, c + !wide, 2u + wide), FIX_REL8, 1u + wide, out, 0);
        real_jump(f, JMP, top);
        break;
    }
    case 3: /* dec reg */
        real_put(f, chance(r, 30) ? (const u8[]){0x66, (u8)(0x48 | reg)} : (const u8[]){(u8)(0x48 | reg), 0x90}, 2);
        real_jump(f, 5, top);
        break;
    default: /* dec word [slot] */
        PUT(f, 0x36, 0xff, 0x0e, (u8)slot, (u8)(slot >> 8));
        real_jump(f, 15, top);
        break;
    }
    real_place_label(f, out);
    f->depth--;
    f->around /= times;
    f->b.fixed = saved_fixed;
    f->counter = saved_counter;
    f->counts_from = saved_from;
}

void real_select_one(struct prog *f)
{
    struct rng *r = f->b.r;
    if (f->moved || real_free_registers(f) < 3 || real_full(f) || f->b.fixed & 1u << RDI)
        return;
    const u16 end = real_new_label(f);
    u16 arm[4];
    const u32 table = SLOTS + 8 * (f->slots % 30), fixed = f->b.fixed;
    f->slots += 1;
    for (unsigned k = 0; k < 4; k++)
        real_store_label(f, table + 2 * k, arm[k] = real_new_label(f));
    real_straight(f, rng_below(r, 3));
    real_settle(f);
    PUT(f, 0x83, 0xe7, 3);                                                      /* and di, 3 */
    real_settle(f);
    PUT(f, 0x01, 0xff);                                                         /* add di, di */
    PUT(f, 0x36, 0xff, 0xa5, (u8)table, (u8)(table >> 8));                      /* jmp [ss:di + table] */
    for (unsigned k = 0; k < 4; k++) {
        real_place_label(f, arm[k]);
        real_straight(f, 1 + rng_below(r, 3));
        if (k < 3)
            real_jump(f, JMP, end);
        f->b.fixed = fixed;
    }
    real_place_label(f, end);
}
