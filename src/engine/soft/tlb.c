/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tlb.c - what is remembered of the guest's page tables, and when it is forgotten: the tables that loads and stores
 * look at, the last few PCIDs, and which parts of the engine are told that executable mappings are gone.
 *
 * SDM vol. 3 4.10.2.4 (global pages), 4.10.4.1 (what invalidates which).
 */
#include "engine/soft/mmu.h"
#include "engine/soft/direct/direct.h"
#include "engine/soft/translate/translate.h"

/* ---- sets of pages, by a hash ------------------------------------------- */

static unsigned filter_bit(u64 lin, unsigned shift)
{
    return (unsigned)((((lin >> shift) ^ (u64)shift << 56) * 0x9e3779b97f4a7c15ull) >> (64 - FILTER_BITS));
}
static void filter_add(struct page_filter *f, u64 lin, unsigned shift)
{
    const unsigned b = filter_bit(lin, shift);
    f->word[b / 64] |= BIT(b % 64);
}
static bool filter_has(const struct page_filter *f, u64 lin, unsigned shift)
{
    const unsigned b = filter_bit(lin, shift);
    return f->word[b / 64] >> (b % 64) & 1;
}
/* Is lin in a page that was added, whatever the page's size? */
static bool filter_covers(const struct page_filter *f, u64 lin)
{
    return filter_has(f, lin, PAGE_4K) || filter_has(f, lin, PAGE_2M) || filter_has(f, lin, PAGE_4M) ||
           filter_has(f, lin, PAGE_1G);
}

/* ---- code --------------------------------------------------------------- */

enum {
    USER_CODE = 1 << TLB_USER | 1 << TLB_EMPTY,
    SUPERVISOR_CODE = 1 << TLB_KERNEL | 1 << TLB_KERNEL_AC | 1 << TLB_EMPTY,
};

/* Executable mappings of these contexts (a bit for each enum tlb_ctx) have changed, and jc_gen has its new value already.
   This function, and no other, tells everything that finds code by its RIP without a call of soft_fetch_page. */
static void code_unmapped(struct soft_vcpu *v, u32 contexts)
{
    v->stat.forgot++;
    soft_update_jc_key(v);
    if (v->jit)
        soft_jit_clear_lookup(v, contexts);
}

static void space_new_code(struct soft_vcpu *v, struct tlb_space *s)
{
    s->code_gen = ++v->mmu.gen;
    zero_bytes(&s->code, sizeof s->code);
}
static void supervisor_new_code(struct soft_vcpu *v)
{
    struct soft_mmu *m = &v->mmu;
    v->jc_gen[0] = ++m->gen;
    m->local_code = false;
    zero_bytes(&m->code[0], sizeof m->code[0]);
}
static void all_users_new_code(struct soft_vcpu *v)
{
    struct soft_mmu *m = &v->mmu;
    for (unsigned k = 0; k < SPACE_COUNT; k++)
        space_new_code(v, &m->spaces[k]);
    zero_bytes(&m->code[1], sizeof m->code[1]);
    if (m->space) /* NULL only before the first soft_flush_tlb */
        v->jc_gen[1] = m->space->code_gen;
}

void soft_forget_code(struct soft_vcpu *v)
{
    supervisor_new_code(v);
    all_users_new_code(v);
    code_unmapped(v, USER_CODE | SUPERVISOR_CODE);
}

void soft_note_code(struct soft_vcpu *v, u64 lin, const struct walk *w)
{
    struct soft_mmu *m = &v->mmu;
    if (v->cpl < 3) {
        filter_add(&m->code[0], lin, w->shift);
        m->local_code |= !w->global;
    } else {
        filter_add(w->global ? &m->code[1] : &m->space->code, lin, w->shift);
    }
}

/* For INVLPG: forgets code only if code was fetched through the page of lin. */
static void forget_code_at(struct soft_vcpu *v, u64 lin)
{
    struct soft_mmu *m = &v->mmu;
    u32 contexts = 0;
    if (filter_covers(&m->code[0], lin)) {
        supervisor_new_code(v);
        contexts |= SUPERVISOR_CODE;
    }
    if (filter_covers(&m->code[1], lin)) {
        all_users_new_code(v);
        contexts |= USER_CODE;
    } else if (filter_covers(&m->space->code, lin)) {
        space_new_code(v, m->space);
        v->jc_gen[1] = m->space->code_gen;
        contexts |= USER_CODE;
    }
    if (contexts)
        code_unmapped(v, contexts);
}

/* ---- stores ------------------------------------------------------------- */

/*
 * The guest may write to a page that is open for stores until the run loop sees REQ_FLUSH; soft_drop_writable then notes
 * the page as written. So no other function may remove an open entry while that request waits. The fence pairs with
 * soft_request: either we see the request here, or the thread that made it sees every store that went through the entry.
 */
static void before_closing(struct soft_vcpu *v)
{
    if (v->vm->cfg.cpus > 1)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (unlikely(__atomic_load_n(&v->request, __ATOMIC_RELAXED) & REQ_FLUSH))
        soft_drop_writable(v);
}

/* This slot of a table changes: what translated code has copied from it for the stack does not hold any more. */
static void forget_stack(struct soft_vcpu *v, unsigned ctx, unsigned slot)
{
    if ((v->tr.stack_page[ctx].page >> 12 & (TLB_SIZE - 1)) == slot)
        v->tr.stack_page[ctx].page = NO_STACK_PAGE;
}
static void forget_stacks(struct soft_vcpu *v)
{
    for (unsigned c = 0; c < TLB_EMPTY; c++)
        v->tr.stack_page[c].page = NO_STACK_PAGE;
}

void soft_tlb_note(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin)
{
    const unsigned slot = (lin >> 12) & (TLB_SIZE - 1);
    v->mmu.index[ctx].open.word[slot / 64] |= BIT(slot % 64);
}

/*
 * No fence is needed between the read of code_lines and the first store through the entry. A thread that sets a line
 * sends REQ_FLUSH after it (blocks.c, watch); the processor that takes that request closes the entry and sees the line
 * from then on. The entry itself belongs to this processor alone.
 */
void soft_tlb_open(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin)
{
    const unsigned slot = (lin >> 12) & (TLB_SIZE - 1);
    struct tlb_entry *e = &v->tlbs[ctx][slot];
    const u64 place = e->place & ~0xfffull;
    const bool watched = __atomic_load_n(&v->vm->code_lines[place >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED);
    if (watched)
        forget_stack(v, ctx, slot);
    e->write = watched ? TLB_NONE(slot) : e->read;
    e->place = place | (watched ? PLACE_WATCHED : 0);
    soft_tlb_note(v, ctx, lin);
}

/* The page at place may have been written since the dirty log was taken, or since another processor decoded code from it.
   So it is marked as dirty (again), and that code is stale. */
static void note_written(struct soft_vcpu *v, u64 place)
{
    memory_mark_dirty(v->vm->cfg.memory, place);
    soft_code_written(v, place, GUEST_PAGE_SIZE);
}

/* More pages were displaced than could be noted, so any page may have been written. */
static void note_all_written(struct soft_vcpu *v)
{
    const struct memory *mem = v->vm->cfg.memory;
    for (u32 i = 0; i < mem->npieces; i++)
        for (u64 n = 0; n < mem->piece[i].size; n += GUEST_PAGE_SIZE)
            note_written(v, mem->piece[i].place + n);
}

void soft_drop_writable(struct soft_vcpu *v)
{
    struct soft_mmu *m = &v->mmu;
    forget_stacks(v);
    if (v->direct)
        mirror_drop_writable(v, note_written);
    if (unlikely(m->displaced_lost)) {
        m->displaced_lost = false;
        note_all_written(v);
    }
    for (; m->ndisplaced; m->ndisplaced--)
        note_written(v, m->displaced[m->ndisplaced - 1]);
    for (unsigned c = 0; c < TLB_EMPTY; c++)
        for (unsigned k = 0; k < ARRAY_SIZE(m->index[c].open.word); k++)
            for (u64 *left = &m->index[c].open.word[k]; *left; *left &= *left - 1) {
                const unsigned slot = k * 64 + (unsigned)__builtin_ctzll(*left);
                struct tlb_entry *e = &v->tlbs[c][slot];
                const bool open = e->write == e->read;
                e->write = TLB_NONE(slot);
                e->place &= ~0xfffull;
                if (open)
                    note_written(v, e->place);
                else /* watched: stores took the slow path, which has dealt with the code */
                    memory_mark_dirty(v->vm->cfg.memory, e->place);
            }
    for (unsigned n = 0; n < SPACE_COUNT; n++)
        for (unsigned k = 0; k < m->spaces[n].nkept; k++) {
            struct tlb_entry *e = &m->spaces[n].kept[k].entry;
            if (e->write == e->read)
                note_written(v, e->place & ~0xfffull);
            else if (e->place & PLACE_WATCHED)
                memory_mark_dirty(v->vm->cfg.memory, e->place & ~0xfffull);
            e->write = ~e->read;
            e->place &= ~0xfffull;
        }
}

void soft_protect_page(struct soft_vcpu *v, u64 place)
{
    struct soft_mmu *m = &v->mmu;
    bool was_open = false;
    forget_stacks(v);
    for (unsigned c = 0; c < TLB_EMPTY; c++)
        for (unsigned k = 0; k < ARRAY_SIZE(m->index[c].open.word); k++)
            for (u64 left = m->index[c].open.word[k]; left; left &= left - 1) {
                const unsigned slot = k * 64 + (unsigned)__builtin_ctzll(left);
                struct tlb_entry *e = &v->tlbs[c][slot];
                if ((e->place & ~0xfffull) == place) {
                    was_open |= e->write == e->read;
                    e->write = TLB_NONE(slot);
                    e->place |= PLACE_WATCHED;
                }
            }
    for (unsigned n = 0; n < SPACE_COUNT; n++)
        for (unsigned k = 0; k < m->spaces[n].nkept; k++) {
            struct tlb_entry *e = &m->spaces[n].kept[k].entry;
            if ((e->place & ~0xfffull) == place) {
                was_open |= e->write == e->read;
                e->write = ~e->read;
            }
        }
    for (unsigned k = 0; k < m->ndisplaced; k++)
        was_open |= m->displaced[k] == place;
    was_open |= m->displaced_lost;
    if (v->direct)
        was_open |= mirror_protect_page(v, place);
    if (was_open)
        memory_mark_dirty(v->vm->cfg.memory, place); /* the dirty log may have been taken since the page was opened */
}

/* ---- the tables --------------------------------------------------------- */

/* Another entry replaces one that was open. Until control leaves translated code, that code may still write to the page
   with what it has kept about it. */
static void displaced(struct soft_vcpu *v, u64 place)
{
    struct soft_mmu *m = &v->mmu;
    if (m->ndisplaced == ARRAY_SIZE(m->displaced)) {
        v->poll = 1; /* soon */
        m->displaced_lost = true;
        return;
    }
    m->displaced[m->ndisplaced++] = place;
}

void soft_tlb_fill(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin, const struct walk *w, u8 *host, u64 place)
{
    const unsigned slot = (lin >> 12) & (TLB_SIZE - 1), k = slot / 64;
    const u64 bit = BIT(slot % 64), page = lin & ~0xfffull;
    struct tlb_index *x = &v->mmu.index[ctx];
    forget_stack(v, ctx, slot);
    if (x->open.word[k] & bit) {
        before_closing(v);
        x->open.word[k] &= ~bit;
        displaced(v, v->tlbs[ctx][slot].place & ~0xfffull);
    }
    x->filled.word[k] |= bit;
    x->global.word[k] = (x->global.word[k] & ~bit) | (w->global ? bit : 0);
    v->tlbs[ctx][slot] =
        (struct tlb_entry){ .read = page, .write = TLB_NONE(slot), .host = (u64)host - page, .place = place };
}

static void drop_slot(struct soft_vcpu *v, unsigned ctx, unsigned slot)
{
    struct tlb_index *x = &v->mmu.index[ctx];
    const unsigned k = slot / 64;
    const u64 keep = ~BIT(slot % 64);
    x->filled.word[k] &= keep;
    x->open.word[k] &= keep;
    x->global.word[k] &= keep;
    forget_stack(v, ctx, slot);
    v->tlbs[ctx][slot].read = v->tlbs[ctx][slot].write = TLB_NONE(slot);
}

/* Removes all entries from the tables, or only those that are not global. keep: the space that keeps the removed entries
   for which it has room, or NULL. */
static void drop_entries(struct soft_vcpu *v, bool all, struct tlb_space *keep)
{
    for (unsigned c = 0; c < TLB_EMPTY; c++) {
        struct tlb_index *x = &v->mmu.index[c];
        for (unsigned k = 0; k < ARRAY_SIZE(x->filled.word); k++)
            for (u64 left = x->filled.word[k] & (all ? ~0ull : ~x->global.word[k]); left; left &= left - 1) {
                const unsigned slot = k * 64 + (unsigned)__builtin_ctzll(left);
                if (keep && keep->nkept < SPACE_KEPT)
                    keep->kept[keep->nkept++] = (struct tlb_kept){ v->tlbs[c][slot], c };
                drop_slot(v, c, slot);
            }
    }
}

/* Puts back what drop_entries kept. */
static void restore_entries(struct soft_vcpu *v, struct tlb_space *s)
{
    for (; s->nkept; s->nkept--) {
        const struct tlb_kept *from = &s->kept[s->nkept - 1];
        const unsigned slot = (from->entry.read >> 12) & (TLB_SIZE - 1), k = slot / 64;
        const u64 bit = BIT(slot % 64);
        struct tlb_index *x = &v->mmu.index[from->ctx];
        if (x->filled.word[k] & bit) /* a global page has this slot */
            continue;
        struct tlb_entry *e = &v->tlbs[from->ctx][slot];
        *e = from->entry;
        x->filled.word[k] |= bit;
        if (e->write == e->read || (e->place & PLACE_WATCHED))
            x->open.word[k] |= bit;
        if (e->write != e->read)
            e->write = TLB_NONE(slot);
    }
}

/* ---- address spaces ----------------------------------------------------- */

/* Forgets all that s knew. Either s is not the current space, or its entries have left the tables already. */
static void space_reset(struct soft_vcpu *v, struct tlb_space *s, u16 pcid)
{
    s->used = true;
    s->pcid = pcid;
    s->nkept = 0;
    s->psc_gen = ++v->mmu.gen;
    space_new_code(v, s);
}

static struct tlb_space *space_of(struct soft_vcpu *v, u16 pcid)
{
    for (struct tlb_space *s = v->mmu.spaces; s < v->mmu.spaces + SPACE_COUNT; s++)
        if (s->used && s->pcid == pcid)
            return s;
    return NULL;
}
static struct tlb_space *space_oldest(struct soft_vcpu *v)
{
    struct tlb_space *oldest = NULL;
    for (struct tlb_space *s = v->mmu.spaces; s < v->mmu.spaces + SPACE_COUNT; s++)
        if (s != v->mmu.space && (!oldest || !s->used || (oldest->used && s->last < oldest->last)))
            oldest = s;
    return oldest;
}

void soft_set_space(struct soft_vcpu *v, u16 pcid, bool keep)
{
    struct soft_mmu *m = &v->mmu;
    struct tlb_space *from = m->space, *to = space_of(v, pcid);
    if (v->direct)
        mirror_switched(v, pcid, keep);
    if (to == from && keep)
        return;
    before_closing(v);
    drop_entries(v, false, to == from ? NULL : from);
    if (!to || !keep) {
        to = to ? to : space_oldest(v);
        space_reset(v, to, pcid);
    }
    to->last = ++m->now;
    m->space = to;
    restore_entries(v, to);
    v->jc_gen[1] = to->code_gen;
    const bool local = m->local_code;
    if (local)
        supervisor_new_code(v);
    code_unmapped(v, local ? USER_CODE | SUPERVISOR_CODE : USER_CODE);
}

void soft_flush_space(struct soft_vcpu *v, u16 pcid)
{
    struct tlb_space *s = space_of(v, pcid);
    if (v->direct)
        mirror_flush_space(v, pcid);
    if (s == v->mmu.space) {
        soft_set_space(v, pcid, false);
    } else if (s) {
        before_closing(v);
        s->used = false;
        s->nkept = 0;
    }
}

void soft_flush_spaces(struct soft_vcpu *v)
{
    if (v->direct)
        mirror_flush_space(v, MIRROR_EVERY);
    for (struct tlb_space *s = v->mmu.spaces; s < v->mmu.spaces + SPACE_COUNT; s++)
        if (s->used)
            soft_flush_space(v, s->pcid);
}

/* ---- flushes ------------------------------------------------------------ */

void soft_note_large(struct soft_vcpu *v, u64 lin, unsigned shift)
{
    filter_add(&v->mmu.pieces[lin >> 63], lin, shift);
}

void soft_flush_data(struct soft_vcpu *v)
{
    v->stat.flush[FLUSH_RIGHTS]++;
    before_closing(v);
    if (v->direct)
        mirror_flush_space(v, MIRROR_EVERY);
    drop_entries(v, true, NULL);
    for (unsigned k = 0; k < SPACE_COUNT; k++)
        v->mmu.spaces[k].nkept = 0;
}

void soft_flush_tlb(struct soft_vcpu *v)
{
    struct soft_mmu *m = &v->mmu;
    soft_flush_data(v);
    v->stat.flush[FLUSH_RIGHTS]--;
    v->stat.flush[FLUSH_ALL]++;
    for (unsigned c = 0; c < TLB_CTX_COUNT; c++) /* a new table is all 0, which is a valid tag in slot 0 */
        v->tlbs[c][0].read = v->tlbs[c][0].write = TLB_NONE(0);
    for (unsigned k = 0; k < SPACE_COUNT; k++)
        m->spaces[k].used = false;
    m->space = &m->spaces[0];
    space_reset(v, m->space, soft_pcid(v));
    m->psc_global = ++m->gen;
    zero_bytes(m->pieces, sizeof m->pieces);
    soft_forget_code(v);
}

void soft_flush_page(struct soft_vcpu *v, u64 lin)
{
    struct soft_mmu *m = &v->mmu;
    const struct page_filter *pieces = &m->pieces[lin >> 63];
    v->stat.flush[FLUSH_INVLPG]++;
    before_closing(v);
    if (v->direct)
        mirror_flush_page(v, lin);
    unsigned shift = PAGE_4K;
    if (filter_has(pieces, lin, PAGE_1G))
        shift = PAGE_1G;
    else if (filter_has(pieces, lin, PAGE_4M))
        shift = PAGE_4M;
    else if (filter_has(pieces, lin, PAGE_2M))
        shift = PAGE_2M;
    if (shift == PAGE_4K) {
        const unsigned slot = (lin >> 12) & (TLB_SIZE - 1);
        for (unsigned c = 0; c < TLB_EMPTY; c++)
            if (v->tlbs[c][slot].read == (lin & ~0xfffull))
                drop_slot(v, c, slot);
    } else {
        for (unsigned c = 0; c < TLB_EMPTY; c++)
            for (unsigned k = 0; k < ARRAY_SIZE(m->index[c].filled.word); k++)
                for (u64 left = m->index[c].filled.word[k]; left; left &= left - 1) {
                    const unsigned slot = k * 64 + (unsigned)__builtin_ctzll(left);
                    if (!((v->tlbs[c][slot].read ^ lin) >> shift))
                        drop_slot(v, c, slot);
                }
        for (unsigned k = 0; k < PSC_SIZE; k++)
            if (m->psc[k].gen == m->psc_global && !((m->psc[k].lin << PAGE_2M ^ lin) >> shift))
                m->psc[k].gen = 0;
    }
    m->space->psc_gen = ++m->gen; /* INVLPG drops the paging-structure entries of all addresses (SDM vol. 3 4.10.4.1) */
    forget_code_at(v, lin);
}
