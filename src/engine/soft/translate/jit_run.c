/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_run.c - what the run loop calls: it finds the translation that a processor runs next, or decides that one is made. It
 * also keeps what each processor knows of where translations are. cache.c keeps the translations of all processors.
 */
#include "engine/soft/translate/translate.h"

/* ---- one processor ------------------------------------------------------------- */

void soft_jit_quiesce(struct soft_vcpu *v)
{
    __atomic_store_n(&v->tr.quiet, __atomic_load_n(&v->jit->quiet, __ATOMIC_SEQ_CST), __ATOMIC_RELEASE);
    const u64 now = __atomic_load_n(&v->jit->epoch, __ATOMIC_SEQ_CST);
    if (likely(v->tr.epoch == now))
        return;
    soft_jit_clear_lookup(v, ~0u);
    v->tr.pending = NULL;
    __atomic_store_n(&v->tr.epoch, now, __ATOMIC_SEQ_CST);
}

void soft_jit_idle(struct soft_vcpu *v)
{
    if (!v->jit)
        return;
    soft_jit_clear_lookup(v, ~0u);
    v->tr.pending = NULL;
    __atomic_store_n(&v->tr.quiet, ~0ull, __ATOMIC_SEQ_CST);
    __atomic_store_n(&v->tr.epoch, ~0ull, __ATOMIC_SEQ_CST);
}

static void clear_jct(struct soft_vcpu *v, u32 contexts)
{
    u32 left = 0;
    for (u32 k = 0; k < v->tr.nfilled; k++) {
        const u32 f = v->tr.filled[k];
        if (contexts >> f / JCT_SIZE & 1)
            v->jct[0][f] = (struct jct_entry){ .minus_rip = JCT_NONE(f % JCT_SIZE) };
        else
            v->tr.filled[left++] = f;
    }
    v->tr.nfilled = left;
}

void soft_jit_clear_lookup(struct soft_vcpu *v, u32 contexts)
{
    u32 left = 0;
    clear_jct(v, contexts);
    for (u32 k = 0; k < v->tr.nmapped; k++) {
        const u32 id = v->tr.mapped_log[k];
        const u32 of = v->jit->page_id[id].place >> 1 & 1 ? BIT(TLB_USER) : BIT(TLB_KERNEL) | BIT(TLB_KERNEL_AC);
        if (contexts & of)
            v->tr.mapped[id] = 0;
        else
            v->tr.mapped_log[left++] = (u16)id;
    }
    v->tr.nmapped = left;
}

static void note_page(struct soft_vcpu *v, u32 id, u64 delta)
{
    if (!id || v->tr.mapped[id] == 1 - delta)
        return;
    if (!v->tr.mapped[id]) {
        if (v->tr.nmapped == ARRAY_SIZE(v->tr.mapped_log))
            soft_jit_clear_lookup(v, ~0u);
        v->tr.mapped_log[v->tr.nmapped++] = (u16)id;
    }
    v->tr.mapped[id] = 1 - delta;
}

/* v is about to enter t. From now on, code that leads to this RIP finds t without the run loop. */
static void note(struct soft_vcpu *v, struct trans *t, u64 delta)
{
    const u32 f = v->tlb_ctx * (u32)JCT_SIZE + (v->rip & (JCT_SIZE - 1));
    if (!v->jct[0][f].trans) {
        if (v->tr.nfilled == ARRAY_SIZE(v->tr.filled))
            soft_jit_clear_lookup(v, ~0u);
        v->tr.filled[v->tr.nfilled++] = f;
    }
    v->jct[0][f] = (struct jct_entry){ 0 - v->rip, t->code, delta, t };
    note_page(v, t->page_id, delta);
    note_page(v, t->page_id2, delta);
    v->tr.delta = delta;
}

/* ---- code that lies elsewhere in each process -------------------------------------- */

/*
 * Libraries and programs lie at another address in each process, but have one translation for all of them. It is made for a
 * home, which is an address below 2 GiB that this file chooses. When it runs, tr.delta has what is to be added to its RIPs,
 * a multiple of the page's size. Translations are linked only if they have the same delta. So code that is mapped in one
 * piece should get homes in one piece. What is one piece is guessed (find_home); if the guess is wrong, links are not made.
 */
enum { MODULE_REACH = 16 << 20 };

/* True if code at v->rip is translated as relocatable. Code below 4 GiB is not, because nobody moves it. Code just below
   2^47 is not either, so no direct jump of relocatable code leads to an address that is not canonical. */
bool jit_relocatable(const struct soft_vcpu *v)
{
    return v->cpl == 3 && v->bits == 64 && v->rip - JIT_RELOC_FROM < JIT_RELOC_END - JIT_RELOC_FROM;
}

/* *delta: the distance of v->rip, which is at place, from the RIP for which code there is translated. False: the page has no
   home yet. */
static bool home_of(const struct soft_vcpu *v, u64 place, u64 *delta)
{
    const u32 home = __atomic_load_n(&v->jit->home[place >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED);
    *delta = (v->rip & ~0xfffull) - ((u64)home << 12);
    return home;
}

static void note_module(struct soft_vcpu *v, u64 delta)
{
    const u32 n = MIN(v->tr.modules, (u32)ARRAY_SIZE(v->tr.module));
    for (u32 k = 0; k < n; k++)
        if (v->tr.module[k].delta == delta) {
            v->tr.module[k].lo = MIN(v->tr.module[k].lo, v->rip);
            v->tr.module[k].hi = MAX(v->tr.module[k].hi, v->rip);
            return;
        }
    v->tr.module[v->tr.modules % ARRAY_SIZE(v->tr.module)].delta = delta;
    v->tr.module[v->tr.modules % ARRAY_SIZE(v->tr.module)].lo = v->rip;
    v->tr.module[v->tr.modules++ % ARRAY_SIZE(v->tr.module)].hi = v->rip;
}

/* Chooses a home for the page of v->rip: with the delta of the code that leads here, or else with that of the nearest code.
   If there is none near, it is a new one. Returns the delta. */
static u64 find_home(struct soft_vcpu *v, u64 place)
{
    struct jit *j = v->jit;
    const u64 page = v->rip & ~0xfffull;
    const struct link *l = v->tr.pending;
    u64 delta = 0, least = MODULE_REACH;
    bool have = false;
    if (l && v->tr.pending_epoch == v->tr.epoch && l->from->reloc && l->rip + v->tr.delta == v->rip) {
        delta = v->tr.delta;
        have = true;
    } else {
        for (u32 k = 0; k < MIN(v->tr.modules, (u32)ARRAY_SIZE(v->tr.module)); k++) {
            const u64 lo = v->tr.module[k].lo, hi = v->tr.module[k].hi;
            const u64 far = v->rip < lo ? lo - v->rip : v->rip > hi ? v->rip - hi : 0;
            if (far < least) {
                least = far;
                delta = v->tr.module[k].delta;
                have = true;
            }
        }
    }
    if (!have || page - delta - JIT_HOME_FIRST >= JIT_HOME_END - JIT_HOME_FIRST) {
        delta = page - j->next_home;
        j->next_home += JIT_HOME_STEP;
        if (j->next_home >= JIT_HOME_END)
            j->next_home = JIT_HOME_FIRST;
    }
    __atomic_store_n(&j->home[place >> GUEST_PAGE_SHIFT], (u32)((page - delta) >> 12), __ATOMIC_RELAXED);
    return delta;
}

/* Returns the translation for v->rip at place, and the delta with which it runs; or NULL. */
static struct trans *find_here(struct soft_vcpu *v, u64 place, u64 place2, u32 key, u64 cs, u64 *delta)
{
    *delta = 0;
    if (!jit_relocatable(v))
        return jit_find(v->jit, v->rip, place, place2, key, cs);
    return home_of(v, place, delta) ? jit_find(v->jit, v->rip - *delta, place, place2, key | JIT_RELOC, cs) : NULL;
}

/* The same for the place of a block, which mostly knows its translation from the last time. */
static struct trans *find_of(struct soft_vcpu *v, struct block *b, u32 key, u64 cs, u64 *delta)
{
    struct trans *t = b->trans;
    const bool reloc = jit_relocatable(v);
    *delta = 0;
    if (t && b->trans_epoch == v->tr.epoch && !t->retired && t->key == (reloc ? key | JIT_RELOC : key) && t->cs == cs &&
        t->place == b->place && t->place2 == b->place2 && (!reloc || home_of(v, b->place, delta)) && t->rip + *delta == v->rip)
        return t;
    b->trans = t = find_here(v, b->place, b->place2, key, cs, delta);
    b->trans_epoch = v->tr.epoch;
    return t;
}

/* What jct has for a context is for one mode and one code segment. The two contexts of the supervisor have the same mode and
   segment, because STAC and CLAC switch between them without a check. */
static inline unsigned mode_of(const struct soft_vcpu *v)
{
    return v->tlb_ctx == TLB_USER ? TLB_USER : TLB_KERNEL;
}
static inline void for_mode(struct soft_vcpu *v, u32 key, u64 cs)
{
    const unsigned k = mode_of(v);
    const u32 contexts = k == TLB_USER ? BIT(TLB_USER) : BIT(TLB_KERNEL) | BIT(TLB_KERNEL_AC);
    if (unlikely((key & JIT_MODE) != v->tr.mode[k])) {
        soft_jit_clear_lookup(v, contexts);
        v->tr.mode[k] = key & JIT_MODE;
    }
    if (unlikely(cs != v->tr.cs[k])) {
        clear_jct(v, contexts);
        v->tr.cs[k] = cs;
    }
}

void soft_jit_expect(struct soft_vcpu *v, u64 place)
{
    const bool reloc = jit_relocatable(v);
    u64 delta = 0;
    if (reloc)
        (void)home_of(v, place, &delta);
    __builtin_prefetch(&v->jit->hash[jit_hash_of(v->jit, v->rip - delta, place, jit_key(v) | (reloc ? JIT_RELOC : 0))]);
}

struct trans *jit_known(struct soft_vcpu *v)
{
    const unsigned ctx = v->tlb_ctx, of = mode_of(v), k = v->rip & (JCT_SIZE - 1);
    const u32 key = jit_key(v);
    const u64 cs = jit_cs(v);
    const struct jct_entry *x = &v->jct[ctx][k];
    if ((key & JIT_MODE) == v->tr.mode[of] && cs == v->tr.cs[of] && x->minus_rip + v->rip == 0) {
        v->tr.delta = x->delta;
        return x->trans;
    }
    struct block *b = key & JIT_NOT ? NULL : soft_jc_block(v);
    u64 delta;
    struct trans *t = b ? find_of(v, b, key, cs, &delta) : NULL; /* jc has no block that reaches into a second page */
    if (t) {
        for_mode(v, key, cs);
        note(v, t, delta);
    }
    return t;
}

/* Links l to t, and returns t. If t leads back to the translation from which l comes, a loop was cut in two. Then one
   translation takes the place of both, and is returned. */
static struct trans *join(struct soft_vcpu *v, struct block *b, struct link *l, struct trans *t, u64 delta)
{
    struct jit *j = v->jit;
    u64 place;
    const u8 *page = soft_fetch_page(v, jit_lin(t->cs, v->rip), &place); /* before jit_lock, because it may fault */
    if (!jit_lock(j, false))
        return t;
    jit_link(v, l, t);
    struct trans *from = l->from;
    const struct trans *in = t->inside ? t->inside : t;
    bool back = false;
    if (l->to == t && !l->check && from != in && !from->merged && !in->merged && b->place2 == ~0ull)
        for (u32 k = 0; k < in->nlinks && !back; k++)
            back = in->link[k].to == from;
    if (back && page && place == (b->place & ~0xfffull) && jit_room(v)) {
        struct trans *whole = jit_translate(v, b, delta, page, NULL, JIT_KIND_WHOLE);
        if (whole) {
            if (unlikely(v->vm->cfg.trace))
                soft_jit_report(v, whole);
            jit_retire(j, from);
            jit_retire(j, t);
            t = whole;
        }
    }
    jit_unlock(j);
    return t;
}

struct trans *jit_careful(struct soft_vcpu *v, const struct trans *t, u64 place)
{
    struct jit *j = v->jit;
    const u32 key = jit_key(v) | JIT_CAREFUL | (t->reloc ? JIT_RELOC : 0);
    const u64 delta = jit_delta_of(v, t), cs = jit_cs(v);
    struct trans *x = jit_find(j, v->rip - delta, place, ~0ull, key, cs);
    if (likely(x) || t->place2 != ~0ull)
        return x;
    u8 *splits = &v->tr.splits[(place * 0x9e3779b97f4a7c15ull) >> 54];
    if (++*splits < MIN(j->hot, 0xff))
        return NULL;
    *splits = 0;
    u64 now;
    const u8 *page = soft_fetch_page(v, jit_lin(cs, v->rip), &now); /* before jit_lock, because it may fault */
    if (!page || now != (place & ~0xfffull) || !jit_lock(j, false))
        return NULL;
    const struct block b = { .place = place, .place2 = ~0ull };
    /* If the page was written meanwhile, t is retired, and the page may have another home. */
    if (!t->retired && !(x = jit_find(j, v->rip - delta, place, ~0ull, key, cs)) && jit_room(v)) {
        const u64 since = __builtin_ia32_rdtsc();
        x = jit_translate(v, &b, delta, page, NULL, JIT_KIND_CAREFUL);
        jit_watch_cost(v, since);
        if (x && unlikely(v->vm->cfg.trace))
            soft_jit_report(v, x);
    }
    jit_unlock(j);
    return x;
}

/* Returns a translation of block b at v->rip, which is made now or was made meanwhile by another processor. NULL: there is
   none this time. */
static __attribute__((noinline)) struct trans *make(struct soft_vcpu *v, struct block *b, u32 key, u64 cs, u64 *delta)
{
    struct jit *j = v->jit;
    /* soft_fetch_page is called before jit_lock, because it may fault. */
    u64 place, place2 = ~0ull;
    const u64 lin = jit_lin(cs, v->rip);
    const u8 *page = soft_fetch_page(v, lin, &place), *page2 = NULL;
    if (b->place2 != ~0ull)
        page2 = soft_fetch_page(v, (lin & ~0xfffull) + 4096, &place2);
    if (!page || place != (b->place & ~0xfffull) || place2 != b->place2 || !jit_lock(j, false))
        return NULL;
    struct trans *t = find_here(v, b->place, b->place2, key, cs, delta);
    if (!t && jit_room(v)) {
        if (jit_relocatable(v) && !home_of(v, b->place, delta))
            *delta = find_home(v, b->place);
        const u64 since = __builtin_ia32_rdtsc();
        if (!(t = jit_translate_door(v, b, *delta)))
            t = jit_translate(v, b, *delta, page, page2, JIT_KIND_PLAIN);
        if (j->hot > j->hot_least)
            b->hits = 0; /* if it is evicted soon, it must not come back as fast */
        jit_watch_cost(v, since);
        j->refused += !t;
        if (t && unlikely(v->vm->cfg.trace))
            soft_jit_report(v, t);
        b->untranslatable = !t;
    }
    jit_unlock(j);
    return t;
}

/* Runs t and what follows it, and notes by which way out translated code was left. */
static inline void run(struct soft_vcpu *v, const struct trans *t)
{
    struct jit *j = v->jit;
    const u64 rip = v->rip;
    v->tr.site = 0;
    *(u64 *)v->tr.base = j->sentinel[v->tlb_ctx];
    jit_vec_load(v);
    v->tr.from = 0;
    ((void (*)(u64))j->enter)(t->code);
    if (unlikely(v->tr.from && !v->tr.site && ((u64)((s64)(v->rip << 16) >> 16) != v->rip || v->rip > v->jc_limit)))
        jit_bad_target(v);
    if (v->tr.site) {
        const struct jit_site *s = jit_site_at(v->tr.site);
        v->tr.pending = &jit_trans_of(j, s)->link[s->insn];
        v->tr.pending_epoch = v->tr.epoch;
    } else {
        /* It may have been left before its first instruction, for a poll or because it was retired. The interpreter then
           runs the block next, so the guest gets on even if this happens each time. */
        v->tr.stayed = v->rip == rip;
    }
}

bool soft_jit_run(struct soft_vcpu *v, struct block *b)
{
    struct jit *j = v->jit;
    if (unlikely(v->tr.stayed)) {
        v->tr.stayed = false;
        return false;
    }
    if ((b->key & KEY_SINGLE) || v->tlb_ctx == TLB_EMPTY)
        return false;
    const u64 cs = jit_cs(v);
    const u32 key = jit_key(v);
    if (key & JIT_NOT)
        return false;
    for_mode(v, key, cs);
    /* Code that ran only a few times has no translation, unless it was made for another processor or process. So it is
       looked for only now and then. */
    if (!b->trans && b->hits % 8 && b->hits < j->hot) {
        b->hits++;
        return false;
    }
    u64 delta;
    struct trans *t = find_of(v, b, key, cs, &delta);
    if (!t) {
        if (b->hits < j->hot) {
            b->hits++;
            return false;
        }
        if (b->untranslatable || !(t = make(v, b, key, cs, &delta)))
            return false;
    }
    struct link *l = v->tr.pending;
    v->tr.pending = NULL;
    /* Relocatable code is linked only to code with the same delta. */
    if (l && v->tr.pending_epoch == v->tr.epoch && l->to != t && l->rip == t->rip && l->key == t->key && l->from->cs == cs &&
        (l->from->reloc ? v->tr.delta : 0) == delta)
        t = join(v, b, l, t, delta);
    note(v, t, delta);
    if (t->reloc)
        note_module(v, delta);
    v->stat.enter++;
    /* Nothing that translated code knew from its probes counts any longer. The fence is that of before_closing() in
       tlb.c. */
    if (v->mmu.ndisplaced) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (!(__atomic_load_n(&v->request, __ATOMIC_RELAXED) & REQ_FLUSH))
            v->mmu.ndisplaced = 0, v->mmu.displaced_lost = false;
    }
    run(v, t);
    return true;
}
