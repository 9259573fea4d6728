/* SPDX-License-Identifier: Apache-2.0 */
/*
 * translate.c - makes host code of a region of guest instructions. translate.h has the conventions, internal.h the list of
 * the files that do the parts.
 */
#include "engine/soft/translate/internal.h"

u64 jit_workspace_size(void)
{
    return sizeof(struct tr);
}

/* The block that was written so far has ended, and another begins, which has insns instructions (0: none begins). */
void count_block(struct tr *t, unsigned insns)
{
    emit_counts_end(&t->counts, t->probes, t->accesses);
    t->probes = t->accesses = 0;
    t->counts = t->j->count && insns ? emit_counts(&t->e, insns) : (struct emit_counts){ 0 };
}

void translate_one(struct tr *t, const struct rinsn *i)
{
    const struct decoded *d = &i->d;
    t->slot = d->bits == 16 ? d->osize : t->w;
    switch (i->how) {
    case HOW_NOP:
        return;
    case HOW_KEEP:
        if (!translate_kept(t, i))
            emit_fallback(t);
        return;
    case HOW_X87:
        if (!translate_kept(t, i)) {
            emit_fallback(t);
            return;
        }
        if (d->desc->cls == OPC_X87 && !stub_is_x87_control(d->desc->mnemonic))
            emit_note_x87(t, i);
        return;
    case HOW_STRING:
        translate_string(t, i);
        return;
    case HOW_LEA:
        translate_lea(t, i);
        return;
    case HOW_SEG_STORE:
        translate_seg_store(t, i);
        return;
    case HOW_SEG_LOAD:
        translate_seg_load(t, i);
        return;
    case HOW_PUSH:
        translate_push(t, i);
        return;
    case HOW_PUSH_MEM:
        translate_push_mem(t, i);
        return;
    case HOW_POP:
        translate_pop(t, i);
        return;
    case HOW_LEAVE:
        translate_leave(t);
        return;
    case HOW_STAC:
    case HOW_CLAC:
    case HOW_CLI:
    case HOW_STI:
    case HOW_SWAPGS:
    case HOW_RDTSC:
    case HOW_PUSHF:
    case HOW_POPF:
        translate_system(t, i);
        return;
    case HOW_CALL:
        translate_call(t, i);
        return;
    case HOW_CALL_IND:
        translate_call_indirect(t, i);
        return;
    case HOW_JMP_IND:
        translate_jump_indirect(t, i);
        return;
    case HOW_RET:
        translate_ret(t, i);
        return;
    case HOW_STOP:
    case HOW_FALLBACK:
        emit_fallback(t);
        return;
    }
}

/* Says what the region shall be made of: the code at v->rip. page2 has the rest of its bytes, if b reaches into a second
   page. */
static void set_region(struct region *r, const struct soft_vcpu *v, const struct block *b, u64 delta, const u8 *page2,
                       enum jit_kind kind, unsigned most)
{
    r->rip = v->rip - delta;
    r->delta = delta;
    r->reloc = jit_relocatable(v);
    r->place = b->place & ~0xfffull;
    r->crossing = page2 ? b : NULL;
    r->page2 = page2;
    r->most = most;
    r->whole = kind == JIT_KIND_WHOLE;
    r->careful = kind == JIT_KIND_CAREFUL;
}

/* Makes the record of the region's translation, without its code. The caller gives its space back if the translation
   fails. */
static struct trans *new_trans(struct soft_vcpu *v, const struct block *b)
{
    struct jit *j = v->jit;
    const struct region *r = &j->region;
    struct trans *x = jit_data(j, sizeof *x);
    zero_bytes(x, sizeof *x);
    const u64 lin = jit_lin(r->cs, r->rip) & ~0xfffull;
    x->rip = r->rip;
    x->cs = r->cs;
    x->place = b->place;
    x->reloc = r->reloc;
    x->merged = r->whole;
    x->place2 = b->place2;
    x->gen2 = b->gen2;
    if (r->page2)
        x->page_id2 = jit_page_id(j, lin + 4096, b->place2, v->cpl == 3);
    x->key = r->key;
    x->gen = r->gen;
    x->serial = ++j->serial;
    x->page_id = jit_page_id(j, lin, r->place, v->cpl == 3);
    return x;
}

/* Prepares t. Nothing is written yet. */
static void begin(struct tr *t, struct soft_vcpu *v, struct trans *x)
{
    struct jit *j = v->jit;
    struct region *r = &j->region;
    const struct jit_segment *seg = &j->seg[j->open];
    t->v = v, t->j = j, t->r = r, t->t = x;
    /* With more processors, another one may decode what lies there just before the store. 64-bit systems keep code apart. */
    t->watched = v->vm->cfg.cpus == 1 && v->bits != 64;
    t->e = (struct emit){ j->rw + align_up(seg->code, 16), j->rw + seg->code_end, j->rx - j->rw };
    j->data_in_code.n = 0;
    t->e.data = v->vm->cfg.trace ? &j->data_in_code : NULL;
    t->failed = false;
    t->w = v->bits / 8;
    t->sp = r->key & JIT_OTHER_STACK ? 6 - t->w : t->w;
    t->next_slot = 0;
    t->ntodo = t->nslow = t->nfixup = t->nout = t->ntinsn = t->nlink = t->nbytes = 0;
    t->loops = false;
    t->counts = (struct emit_counts){ 0 };
    for (unsigned k = 0; k < r->nblocks; k++) {
        t->nversions[k] = 0;
        t->loops |= r->block[k].header;
    }
    t->moved = 0;
    for (unsigned k = 0; k < r->ninsns; k++)
        t->moved |= written_or_stack(&r->insn[k]);
    choose_map(t);
}

/* Writes the entry, and then the blocks in each version that is needed. */
static void write_blocks(struct tr *t)
{
    struct emit *e = &t->e;
    const struct region *r = t->r;
    struct trans *x = t->t;
    x->entry = e->p;
    x->code = here(e);
    x->from_below = x->from_above = place(t, e->p);
    /* a no-operation of five bytes, which a jump can replace at once */
    e1(e, 0x0f), e1(e, 0x1f), e1(e, 0x44), e1(e, 0x00), e1(e, 0x00);
    const unsigned first = (unsigned)r->block_at[region_off(r, r->rip)];
    if (!r->block[first].header)
        emit_poll(t, r->rip, r->live[r->block[first].first], true);
    /* Who comes from a lower RIP needs no poll: a way that ends nowhere leads backward somewhere. Calls that return get on,
       too, and any other return is looked up. */
    x->from_below = place(t, e->p);
    emit_take(t);
    if (r->page2)
        emit_page2_check(t, r->rip);
    t->s = (struct state){ .n = 0, .ctx = (u8)r->ctx };
    choose_version(t, first);
    for (unsigned n = 0; n < t->ntodo && !t->failed; n++)
        write_block(t, t->todo[n].block, t->todo[n].version);
    t->s.ctx = (u8)r->ctx;
    count_block(t, 0);
}

/* Writes what lies behind the blocks: slow paths, ways out, and what a retired entry leads to. */
static void write_behind(struct tr *t)
{
    struct emit *e = &t->e;
    struct trans *x = t->t;
    x->slow_code = (u32)(e->p - x->entry);
    for (unsigned n = 0; n < t->nfixup; n++)
        e_fix(e, t->fixup[n].at, t->version[t->fixup[n].block][t->fixup[n].version].code);
    for (unsigned n = 0; n < t->nslow && !emit_full(e); n++)
        write_slow(t, &t->slow[n]);
    for (unsigned n = 0; n < t->nout && !emit_full(e); n++)
        write_way_out(t, &t->out[n]);
    if (t->nswaps) {
        x->convert = here(e);
        emit_give(t);
        e_jmp(e, t->j->fault);
    }
    x->retired_code = (u32)(e->p - x->entry);
    emit_rip(t, T0, t->r->rip);
    e_jmp(e, t->j->miss);
    x->size = (u32)(e->p - x->entry);
}

/* True if the translation is complete, and the guest's code is still the same. */
static bool good(const struct tr *t, const struct block *b)
{
    const struct jit_segment *seg = &t->j->seg[t->j->open];
    const struct trans *x = t->t;
    const u64 need = t->ntinsn * sizeof(struct tinsn) + t->nlink * sizeof(struct link) + t->nbytes +
                     t->r->nblocks * sizeof(struct door) + 80;
    return !t->failed && !emit_full(&t->e) && x->size <= JIT_REGION_MAX && seg->data + need <= seg->data_end &&
           soft_code_watch(t->v, b->place, 1) == t->r->gen &&
           (!t->r->page2 || (x->page_id2 && soft_code_watch(t->v, b->place2, 1) == b->gen2));
}

/* Notes the blocks that may be entered from outside as they are. */
static void keep_doors(struct tr *t)
{
    const struct region *r = t->r;
    struct trans *x = t->t;
    struct door door[REGION_BLOCKS];
    unsigned n = 0;
    for (unsigned b = 0; b < r->nblocks && !r->careful && !r->page2; b++)
        for (unsigned k = 0; k < t->nversions[b]; k++) {
            const struct version *v = &t->version[b][k];
            if (!v->code || v->s.n || v->s.ctx != r->ctx || r->block[b].off == region_off(r, r->rip))
                continue;
            door[n++] = (struct door){ r->block[b].off, (u16)(v->code - x->code), r->live[r->block[b].first], r->block[b].header };
            break;
        }
    x->ndoors = n;
    x->door = jit_data(t->j, n * sizeof *door);
    copy_bytes(x->door, door, n * sizeof *door);
    x->nswaps = (u8)t->nswaps;
    copy_bytes(x->swap, t->swap, sizeof x->swap);
}

/* Moves its tables to where they stay. It can be found from now on. */
static void keep(struct tr *t)
{
    struct jit *j = t->j;
    struct trans *x = t->t;
    x->ntinsns = t->ntinsn;
    x->tinsn = jit_data(j, t->ntinsn * sizeof(struct tinsn));
    copy_bytes(x->tinsn, t->tinsn, t->ntinsn * sizeof(struct tinsn));
    x->nlinks = t->nlink;
    x->link = jit_data(j, t->nlink * sizeof(struct link));
    copy_bytes(x->link, t->link, t->nlink * sizeof(struct link));
    for (u32 n = 0; n < x->nlinks; n++)
        x->link[n].from = x;
    x->bytes = jit_data(j, t->nbytes);
    copy_bytes(x->bytes, t->bytes, t->nbytes);
    keep_doors(t);
    j->seg[j->open].code = (u32)(t->e.p - j->rw);
    jit_add(j, x);
}

static struct trans *translate(struct soft_vcpu *v, const struct block *b, u64 delta, const u8 *page, const u8 *page2,
                               enum jit_kind kind, unsigned most)
{
    struct jit *j = v->jit;
    set_region(&j->region, v, b, delta, page2, kind, most);
    if (!region_find(&j->region, v, page))
        return NULL;
    struct tr *t = j->workspace;
    const u32 data_mark = j->seg[j->open].data;
    begin(t, v, new_trans(v, b));
    write_blocks(t);
    write_behind(t);
    if (!good(t, b)) {
        j->seg[j->open].data = data_mark;
        return NULL;
    }
    keep(t);
    return t->t;
}

/* ---- ways into what is there ---- */

/* The translation in r's page and mode that has r->rip as a door. */
static struct trans *find_door(struct jit *j, const struct region *r, const struct door **door)
{
    const unsigned off = region_off(r, r->rip);
    for (struct trans *x = j->page[(r->place >> 12) % JIT_PAGE_BUCKETS]; x; x = x->page_next) {
        for (u32 k = 0; k < x->ndoors && region_shares(r, x); k++)
            if (x->door[k].off == off) {
                *door = &x->door[k];
                return x;
            }
    }
    return NULL;
}

static void write_door(struct tr *t, struct trans *to, const struct door *door)
{
    struct emit *e = &t->e;
    struct trans *x = t->t;
    s16 n;
    x->entry = e->p;
    x->code = here(e);
    x->from_below = x->from_above = place(t, e->p);
    e1(e, 0x0f), e1(e, 0x1f), e1(e, 0x44), e1(e, 0x00), e1(e, 0x00);
    if (!door->header)
        emit_poll(t, t->r->rip, door->live, true);
    emit_take(t);
    struct link *l = new_link(t, t->r->rip, &n);
    l->door = true;
    e_align(e, 1);
    e1(e, 0xe9);
    l->jump = place(t, e->p);
    e4(e, 0);
    e_fix(e, t->j->rw + l->jump, to->code + door->host);
    l->unlinked = place(t, e->p);
    emit_give(t);
    emit_rip(t, T0, t->r->rip);
    e_jmp(e, t->j->miss);
    if (!t->nswaps) { /* not even by way of this */
        x->from_below = (u32)(to->entry - t->j->rw) + door->host;
        if (door->header)
            x->from_above = x->from_below;
    }
}

struct trans *jit_translate_door(struct soft_vcpu *v, const struct block *b, u64 delta)
{
    struct jit *j = v->jit;
    struct region *r = &j->region;
    const struct door *door;
    if (b->place2 != ~0ull)
        return NULL;
    set_region(r, v, b, delta, NULL, JIT_KIND_PLAIN, 0);
    region_empty(r, v, NULL);
    struct trans *to = find_door(j, r, &door);
    if (!to)
        return NULL;
    struct tr *t = j->workspace;
    const u32 data_mark = j->seg[j->open].data;
    r->gen = to->gen;
    begin(t, v, new_trans(v, b));
    t->nswaps = to->nswaps;
    copy_bytes(t->swap, to->swap, sizeof t->swap);
    t->s = (struct state){ .n = 0, .ctx = (u8)r->ctx };
    t->pos = 0;
    r->order[0] = 0;
    r->insn[0].off = (u16)region_off(r, r->rip);
    write_door(t, to, door);
    write_behind(t);
    if (!good(t, b)) {
        j->seg[j->open].data = data_mark;
        return NULL;
    }
    t->t->inside = to;
    keep(t);
    jit_note_link(t->t->link, to);
    return t->t;
}

struct trans *jit_translate(struct soft_vcpu *v, const struct block *b, u64 delta, const u8 *page, const u8 *page2,
                     enum jit_kind kind)
{
    struct trans *t = NULL;
    /* A region that does not fit is made smaller. Careful code is short, because it shall be left again soon. */
    for (unsigned most = kind == JIT_KIND_CAREFUL ? CAREFUL_INSNS : REGION_INSNS; !t && most >= 4; most /= 4)
        t = translate(v, b, delta, page, page2, kind, most);
    return t;
}
