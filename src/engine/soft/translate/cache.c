/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.c - where translations are kept, how they are found, linked, made stale and thrown out.
 *
 * The space is cut into segments that fill one after the other. When one is opened, the next in turn is drained: its
 * translations are taken out of every list and table, and it is free once every processor has been outside translated
 * code since (soft_jit_quiesce; a request makes them leave). Meanwhile the others run on; what is not translated for
 * want of space is interpreted.
 *
 * Lists are changed under jit.lock. jit_find walks them without: what it meets stays readable until its processor
 * has been outside next.
 */
#include "engine/soft/translate/translate.h"

bool jit_lock(struct jit *j, bool wait)
{
    while (__atomic_exchange_n(&j->lock, 1, __ATOMIC_ACQUIRE)) {
        if (!wait)
            return false;
        __builtin_ia32_pause();
    }
    return true;
}

void jit_unlock(struct jit *j)
{
    __atomic_store_n(&j->lock, 0, __ATOMIC_RELEASE);
}

/* Not by what one place seldom has two of. */
static unsigned hash_of(const struct jit *j, u64 rip, u64 place, u32 key)
{
    return (unsigned)(((rip ^ place << 20 ^ (u64)key << 52) * 0x9e3779b97f4a7c15ull) >> (64 - j->hash_bits));
}

struct trans *jit_find(struct jit *j, u64 rip, u64 place, u64 place2, u32 key, u64 cs)
{
    struct trans *t = __atomic_load_n(&j->hash[hash_of(j, rip, place, key)], __ATOMIC_ACQUIRE);
    while (t && (t->rip != rip || t->place != place || t->place2 != place2 || t->key != key || t->cs != cs || t->retired))
        t = __atomic_load_n(&t->hash_next, __ATOMIC_ACQUIRE);
    return t;
}

static u64 segment_size(const struct jit *j)
{
    return (j->size - j->stubs_end) / j->nseg & ~63ull;
}

struct trans *jit_by_code(struct jit *j, u64 pc)
{
    /* Only the segment it lies in stays as it is while we are in there. */
    const u64 k = (pc - (u64)j->rx - j->stubs_end) / segment_size(j);
    if (k < j->nseg)
        for (struct trans *t = __atomic_load_n(&j->seg[k].first, __ATOMIC_ACQUIRE); t; t = t->seg_next)
            if (pc - t->code < t->size)
                return t;
    return NULL;
}

/* ---- processors outside translated code ------------------------------------- */

/* What is out of reach from here on may be used anew once every processor has been outside since. */
static u64 new_epoch(struct soft_vcpu *v)
{
    const u64 epoch = __atomic_add_fetch(&v->jit->epoch, 1, __ATOMIC_SEQ_CST);
    for (u32 k = 0; k < v->vm->cfg.cpus; k++) {
        struct soft_vcpu *o = __atomic_load_n(&v->vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (o)
            __atomic_store_n(&o->poll, 1, __ATOMIC_SEQ_CST);
    }
    return epoch;
}

static bool all_passed(struct soft_vcpu *v, u64 epoch)
{
    for (u32 k = 0; k < v->vm->cfg.cpus; k++) {
        const struct soft_vcpu *o = __atomic_load_n(&v->vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (o && __atomic_load_n(&o->jit_epoch, __ATOMIC_SEQ_CST) < epoch)
            return false;
    }
    return true;
}

/* ---- numbers of pages --------------------------------------------------------- */

enum { PAGE_USED = 1, PAGE_USER = 2, PAGE_DYING = 4 }; /* in jit_page.place */

/* A number for guest page lin, mapped to place; 0: there are no more at present. */
u32 jit_page_id(struct jit *j, u64 lin, u64 place, bool user)
{
    const u64 key = place | PAGE_USED | (user ? PAGE_USER : 0);
    u32 h = (u32)(((lin ^ place << 24 ^ (u64)user << 63) * 0x9e3779b97f4a7c15ull) >> 40), free = 0;
    for (unsigned n = 0; n < 64; n++, h++) {
        const u32 k = h % JIT_PAGE_IDS;
        struct jit_page *p = &j->page_id[k];
        if (p->lin == lin && (p->place & ~(u64)PAGE_DYING) == key) {
            p->place = key;
            return k;
        }
        if (!p->place && !free)
            free = k; /* never 0 */
    }
    if (!free) {
        j->crowded = true;
        return 0;
    }
    j->page_id[free] = (struct jit_page){ lin, key };
    j->npages++;
    return free;
}

/* Numbers that no translation has any more are given out again once no processor takes them for mapped. */
static void sweep_pages(struct soft_vcpu *v)
{
    enum { EVERY = 4096 }; /* translations: should all numbers be in use, this costs little */
    struct jit *j = v->jit;
    if (j->sweep) {
        if (!all_passed(v, j->sweep))
            return;
        for (u32 k = 0; k < JIT_PAGE_IDS; k++)
            if (j->page_id[k].place & PAGE_DYING) {
                j->page_id[k] = (struct jit_page){ 0 };
                j->npages--;
            }
        j->sweep = 0;
    }
    if (likely(!j->crowded && j->npages < JIT_PAGE_IDS / 4 * 3) || j->made - j->swept < EVERY)
        return;
    for (u32 k = 0; k < JIT_PAGE_IDS; k++)
        if (j->page_id[k].place)
            j->page_id[k].place |= PAGE_DYING;
    for (u32 k = 0; k < j->nseg; k++)
        for (const struct trans *t = j->seg[k].first; t; t = t->seg_next)
            if (!t->retired) {
                j->page_id[t->page_id].place &= ~(u64)PAGE_DYING;
                j->page_id[t->page_id2].place &= ~(u64)PAGE_DYING;
            }
    j->crowded = false;
    j->swept = j->made;
    j->sweep = new_epoch(v);
}

/* ---- links ---------------------------------------------------------------- */

static void store32(struct jit *j, u32 at, u32 x)
{
    __atomic_store_n((u32 *)(j->rw + at), x, __ATOMIC_SEQ_CST);
}

void jit_unlink(struct jit *j, struct link *l)
{
    if (!l->to)
        return;
    *l->prev = l->next;
    if (l->next)
        l->next->prev = l->prev;
    l->to = NULL;
    if (l->check)
        l->quiet = __atomic_add_fetch(&j->quiet, 1, __ATOMIC_SEQ_CST);
    if (l->check)
        store32(j, l->check, OFF(jit_mapped));
    else
        store32(j, l->jump, l->unlinked - (l->jump + 4));
}

/* Has every processor been outside translated code since? */
static bool quiet_since(struct soft_vcpu *v, u64 when)
{
    for (u32 k = 0; when && k < v->vm->cfg.cpus; k++) {
        const struct soft_vcpu *o = __atomic_load_n(&v->vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (o && o != v && __atomic_load_n(&o->jit_quiet, __ATOMIC_SEQ_CST) < when)
            return false;
    }
    return true;
}

void jit_link(struct soft_vcpu *v, struct link *l, struct trans *to)
{
    struct jit *j = v->jit;
    if (l->to == to || l->from->retired || to->retired || (l->check && !to->page_id))
        return;
    /* Within a page the target is where the code comes from. */
    if (!l->check && (l->from->place ^ to->place) >= 4096)
        return;
    /* Who has passed the check for the former target must not meet the jump to this one. */
    if (l->check && (l->to || !quiet_since(v, l->quiet))) {
        jit_unlink(j, l);
        return;
    }
    jit_unlink(j, l);
    l->to = to;
    l->next = to->in;
    l->prev = &to->in;
    if (l->next)
        l->next->prev = &l->next;
    to->in = l;
    store32(j, l->jump, (u32)(to->entry - j->rw) - (l->jump + 4));
    if (l->check)
        store32(j, l->check, OFF(jit_mapped) + 8 * to->page_id);
    j->links++;
}

/* ---- a translation's life --------------------------------------------------- */

void *jit_data(struct jit *j, u64 n)
{
    struct jit_segment *s = &j->seg[j->open];
    void *p = j->data + s->data;
    s->data += (u32)align_up(n, 16);
    return p;
}

void jit_add(struct jit *j, struct trans *t)
{
    struct jit_segment *s = &j->seg[j->open];
    struct trans **page = &j->page[(t->place >> 12) % JIT_PAGE_BUCKETS];
    struct trans **hash = &j->hash[hash_of(j, t->rip, t->place, t->key)];
    t->seg_next = s->first;
    __atomic_store_n(&s->first, t, __ATOMIC_RELEASE);
    t->page_next = *page;
    t->page_prev = page;
    if (t->page_next)
        t->page_next->page_prev = &t->page_next;
    *page = t;
    if (t->place2 != ~0ull) {
        struct trans **page2 = &j->page2[(t->place2 >> 12) % JIT_PAGE_BUCKETS];
        t->page2_next = *page2;
        *page2 = t;
    }
    t->hash_next = *hash;
    __atomic_store_n(hash, t, __ATOMIC_RELEASE);
    j->made++;
    j->made_insns += t->ntinsns;
    j->made_bytes += t->size;
}

/* SDM vol. 3, 5.3: limits. FS and GS of 4 GiB are what threads' own data is reached by. */
static bool whole(const struct cpu_seg *s)
{
    return s->limit == 0xffffffff && (s->attr & (SEG_UNUSABLE | SEG_CODE | SEG_E | SEG_W)) == SEG_W;
}

u32 jit_key32(const struct soft_vcpu *v)
{
    const u32 flat = BIT(ES) | BIT(SS) | BIT(DS);
    const struct cpu_seg *cs = &v->s.seg[CS];
    if (v->bits == 16 || (v->seg_flat & flat) != flat || cs->base || cs->limit != 0xffffffff || !v->ss32) {
        if (cs->base + cs->limit > 0xffffffff)
            return JIT_NOT;
        return JIT_SEGMENTED | (v->ss32 != (v->bits == 32) ? JIT_OTHER_STACK : 0);
    }
    return (whole(&v->s.seg[FS]) ? JIT_FS_4G : 0) | (whole(&v->s.seg[GS]) ? JIT_GS_4G : 0);
}

/* Nobody gets to it any more but who is in it. Once only: what page_prev points to is later another's. */
static void retire(struct jit *j, struct trans *t)
{
    if (t->retired)
        return;
    for (struct trans **p = &j->hash[hash_of(j, t->rip, t->place, t->key)]; *p; p = &(*p)->hash_next)
        if (*p == t) {
            __atomic_store_n(p, t->hash_next, __ATOMIC_RELEASE); /* t's own pointer stays, for who stands there */
            break;
        }
    *t->page_prev = t->page_next;
    if (t->page_next)
        t->page_next->page_prev = t->page_prev;
    for (struct trans **p = &j->page2[(t->place2 >> 12) % JIT_PAGE_BUCKETS]; *p && t->place2 != ~0ull;
         p = &(*p)->page2_next)
        if (*p == t) {
            *p = t->page2_next;
            break;
        }
    t->retired = true;
    while (t->in)
        jit_unlink(j, t->in);
    for (u32 k = 0; k < t->nlinks; k++)
        jit_unlink(j, &t->link[k]);
    /* The entry's no-operation becomes a jump: eight aligned bytes, of which the last three stay. */
    u64 x;
    copy_bytes(&x, t->entry, 8);
    x = (x & ~0xffffffffffull) | (u64)(u32)(t->retired_code - 5) << 8 | 0xe9;
    __atomic_store_n((u64 *)t->entry, x, __ATOMIC_SEQ_CST);
    j->retired++;
}

void soft_jit_retire_page(struct soft_vm *vm, u64 page)
{
    struct jit *j = vm->jit;
    jit_lock(j, true);
    __atomic_store_n(&j->home[page], 0, __ATOMIC_RELAXED);
    for (struct trans *t = j->page[page % JIT_PAGE_BUCKETS], *next; t; t = next) {
        next = t->page_next;
        if (t->place >> 12 == page)
            retire(j, t);
    }
    for (struct trans *t = j->page2[page % JIT_PAGE_BUCKETS], *next; t; t = next) {
        next = t->page2_next;
        if (t->place2 >> 12 == page)
            retire(j, t);
    }
}

void soft_jit_page_retired(struct soft_vm *vm)
{
    jit_unlock(vm->jit);
}

void soft_jit_retire_all(struct soft_vcpu *v)
{
    struct jit *j = v->jit;
    jit_lock(j, true);
    for (unsigned k = 0; k < JIT_PAGE_BUCKETS; k++)
        while (j->page[k])
            retire(j, j->page[k]);
    jit_unlock(j);
}

/* ---- space ------------------------------------------------------------------- */

static void drain(struct soft_vcpu *v, u32 n)
{
    struct jit *j = v->jit;
    struct jit_segment *s = &j->seg[n];
    for (struct trans *t = s->first; t; t = t->seg_next) {
        if (t->retired)
            continue;
        retire(j, t);
        j->evicted++;
    }
    s->state = SEG_DRAINING;
    s->epoch = new_epoch(v);
}

static void empty(struct jit *j, u32 n)
{
    struct jit_segment *s = &j->seg[n];
    const u32 each = (u32)segment_size(j), deach = (u32)(j->data_size / j->nseg & ~63ull);
    s->first = NULL;
    s->code = j->stubs_end + n * each;
    s->code_end = s->code + each;
    s->data = MAX(n * deach, 16u); /* no translation has number 0 */
    s->data_end = (n + 1) * deach;
}

bool jit_room(struct soft_vcpu *v)
{
    struct jit *j = v->jit;
    struct jit_segment *s = &j->seg[j->open];
    sweep_pages(v);
    if (s->state == SEG_FREE) { /* the very first */
        empty(j, j->open);
        s->state = SEG_OPEN;
    }
    const u32 n = (j->open + 1) % j->nseg;
    struct jit_segment *next = &j->seg[n];
    const u32 left = s->code_end - s->code, data_left = s->data_end - s->data;
    const bool room = s->state == SEG_OPEN && left > JIT_REGION_MAX + KiB(4) && data_left > KiB(4);
    /* The next is drained while there is room left in this one, so that nobody has to wait. */
    if (next->state == SEG_FULL &&
        (!room || left < segment_size(j) / 4 + JIT_REGION_MAX || data_left < j->data_size / j->nseg / 4))
        drain(v, n);
    if (room)
        return true;
    s->state = SEG_FULL;
    if (next->state == SEG_DRAINING && !all_passed(v, next->epoch))
        return false;
    empty(j, n);
    next->state = SEG_OPEN;
    j->open = n;
    return true;
}

/* ---- how much a block must run ------------------------------------------------- */

/*
 * A cache too small for what the guest runs is filled over and over with what was in it a while ago. So the time spent
 * on translating is held against the time that passes: while translations are evicted and making them is a good part of
 * it, blocks must run twice as often first, up to where the interpreter has spent on one what its translation costs;
 * when it is a small part they need to run half as often.
 */
enum { HOT_MOST = 4096, HOT_WINDOW_MS = 5 };

static void watch_cost(struct soft_vcpu *v, u64 since)
{
    struct jit *j = v->jit;
    const u64 now = __builtin_ia32_rdtsc(), time = now - j->window;
    j->busy += now - since;
    if (time < v->vm->cfg.cpuid->tsc_khz * HOT_WINDOW_MS)
        return;
    if (j->evicted != j->window_evicted && j->busy > time / 4)
        j->hot = (u16)MIN(j->hot * 2u, (u32)MAX(HOT_MOST, j->hot_least));
    else if (j->busy < time / 16)
        j->hot = MAX((u16)(j->hot / 2), j->hot_least);
    j->window = now;
    j->window_evicted = j->evicted;
    j->busy = 0;
}

/* ---- one processor ------------------------------------------------------------- */

void soft_jit_quiesce(struct soft_vcpu *v)
{
    __atomic_store_n(&v->jit_quiet, __atomic_load_n(&v->jit->quiet, __ATOMIC_SEQ_CST), __ATOMIC_RELEASE);
    const u64 now = __atomic_load_n(&v->jit->epoch, __ATOMIC_SEQ_CST);
    if (likely(v->jit_epoch == now))
        return;
    soft_jit_clear_lookup(v, ~0u);
    v->jit_pending = NULL;
    __atomic_store_n(&v->jit_epoch, now, __ATOMIC_SEQ_CST);
}

void soft_jit_idle(struct soft_vcpu *v)
{
    if (!v->jit)
        return;
    soft_jit_clear_lookup(v, ~0u);
    v->jit_pending = NULL;
    __atomic_store_n(&v->jit_quiet, ~0ull, __ATOMIC_SEQ_CST);
    __atomic_store_n(&v->jit_epoch, ~0ull, __ATOMIC_SEQ_CST);
}

static void clear_jct(struct soft_vcpu *v, u32 contexts)
{
    u32 left = 0;
    for (u32 k = 0; k < v->jit_nfilled; k++) {
        const u32 f = v->jit_filled[k];
        if (contexts >> f / JCT_SIZE & 1)
            v->jct[0][f] = (struct jct_entry){ .minus_rip = JCT_NONE(f % JCT_SIZE) };
        else
            v->jit_filled[left++] = f;
    }
    v->jit_nfilled = left;
}

void soft_jit_clear_lookup(struct soft_vcpu *v, u32 contexts)
{
    u32 left = 0;
    clear_jct(v, contexts);
    for (u32 k = 0; k < v->jit_nmapped; k++) {
        const u32 id = v->jit_mapped_log[k];
        const u32 of = v->jit->page_id[id].place >> 1 & 1 ? BIT(TLB_USER) : BIT(TLB_KERNEL) | BIT(TLB_KERNEL_AC);
        if (contexts & of)
            v->jit_mapped[id] = 0;
        else
            v->jit_mapped_log[left++] = (u16)id;
    }
    v->jit_nmapped = left;
}

static void note_page(struct soft_vcpu *v, u32 id, u64 delta)
{
    if (!id || v->jit_mapped[id] == 1 - delta)
        return;
    if (!v->jit_mapped[id]) {
        if (v->jit_nmapped == ARRAY_SIZE(v->jit_mapped_log))
            soft_jit_clear_lookup(v, ~0u);
        v->jit_mapped_log[v->jit_nmapped++] = (u16)id;
    }
    v->jit_mapped[id] = 1 - delta;
}

/* v is about to enter t: who leads here from now on finds it without the run loop. */
static void note(struct soft_vcpu *v, struct trans *t, u64 delta)
{
    const u32 f = v->tlb_ctx * (u32)JCT_SIZE + (v->rip & (JCT_SIZE - 1));
    if (!v->jct[0][f].trans) {
        if (v->jit_nfilled == ARRAY_SIZE(v->jit_filled))
            soft_jit_clear_lookup(v, ~0u);
        v->jit_filled[v->jit_nfilled++] = f;
    }
    v->jct[0][f] = (struct jct_entry){ 0 - v->rip, t->code, delta, t };
    note_page(v, t->page_id, delta);
    note_page(v, t->page_id2, delta);
    v->jit_delta = delta;
}

/* ---- code that lies elsewhere in each process -------------------------------------- */

/*
 * Libraries and programs lie elsewhere in each process. Their translations are not made anew for each: they are made for
 * a home, an address of ours below 2 GiB, and run with what is to be added to it, a multiple of the page's size, in
 * jit_delta. What leads from one translation to the next without a look-up is for one delta: so what is mapped in one
 * piece gets homes in one piece, as far as that can be guessed; where the guess is wrong, links are not made.
 */
enum { MODULE_REACH = 16 << 20 };

/* Is code at v->rip made relocatable? Not what lies below 4 GiB, which nobody moves. And no direct jump of it leads to
   an address that is not canonical. */
bool jit_relocatable(const struct soft_vcpu *v)
{
    return v->cpl == 3 && v->bits == 64 && v->rip - JIT_RELOC_FROM < JIT_RELOC_END - JIT_RELOC_FROM;
}

/* What separates v->rip, at place, from where translations there are made for; false: that is not known. */
static bool home_of(const struct soft_vcpu *v, u64 place, u64 *delta)
{
    const u32 home = __atomic_load_n(&v->jit->home[place >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED);
    *delta = (v->rip & ~0xfffull) - ((u64)home << 12);
    return home;
}

static void note_module(struct soft_vcpu *v, u64 delta)
{
    const u32 n = MIN(v->jit_modules, (u32)ARRAY_SIZE(v->jit_module));
    for (u32 k = 0; k < n; k++)
        if (v->jit_module[k].delta == delta) {
            v->jit_module[k].lo = MIN(v->jit_module[k].lo, v->rip);
            v->jit_module[k].hi = MAX(v->jit_module[k].hi, v->rip);
            return;
        }
    v->jit_module[v->jit_modules % ARRAY_SIZE(v->jit_module)].delta = delta;
    v->jit_module[v->jit_modules % ARRAY_SIZE(v->jit_module)].lo = v->rip;
    v->jit_module[v->jit_modules++ % ARRAY_SIZE(v->jit_module)].hi = v->rip;
}

/* A home for the page of v->rip: beside that of the code that leads here, or else of what lies nearest. */
static u64 find_home(struct soft_vcpu *v, u64 place)
{
    struct jit *j = v->jit;
    const u64 page = v->rip & ~0xfffull;
    const struct link *l = v->jit_pending;
    u64 delta = 0, least = MODULE_REACH;
    bool have = false;
    if (l && v->jit_pending_epoch == v->jit_epoch && l->from->reloc && l->rip + v->jit_delta == v->rip) {
        delta = v->jit_delta;
        have = true;
    } else {
        for (u32 k = 0; k < MIN(v->jit_modules, (u32)ARRAY_SIZE(v->jit_module)); k++) {
            const u64 lo = v->jit_module[k].lo, hi = v->jit_module[k].hi;
            const u64 far = v->rip < lo ? lo - v->rip : v->rip > hi ? v->rip - hi : 0;
            if (far < least) {
                least = far;
                delta = v->jit_module[k].delta;
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

/* The translation for v->rip at place, and the delta it runs with; NULL. */
static struct trans *find_here(struct soft_vcpu *v, u64 place, u64 place2, u32 key, u64 cs, u64 *delta)
{
    *delta = 0;
    if (!jit_relocatable(v))
        return jit_find(v->jit, v->rip, place, place2, key, cs);
    return home_of(v, place, delta) ? jit_find(v->jit, v->rip - *delta, place, place2, key | JIT_RELOC, cs) : NULL;
}

/* The same for a block's place: mostly it is known from the last time. */
static struct trans *find_of(struct soft_vcpu *v, struct block *b, u32 key, u64 cs, u64 *delta)
{
    struct trans *t = b->trans;
    const bool reloc = jit_relocatable(v);
    *delta = 0;
    if (t && b->trans_epoch == v->jit_epoch && !t->retired && t->key == (reloc ? key | JIT_RELOC : key) && t->cs == cs &&
        t->place == b->place && t->place2 == b->place2 && (!reloc || home_of(v, b->place, delta)) && t->rip + *delta == v->rip)
        return t;
    b->trans = t = find_here(v, b->place, b->place2, key, cs, delta);
    b->trans_epoch = v->jit_epoch;
    return t;
}

/* What jct holds of this context is for one mode and one code segment. The supervisor's contexts are for the same: STAC
   and CLAC go from one to the other without a look. */
static inline unsigned mode_of(const struct soft_vcpu *v)
{
    return v->tlb_ctx == TLB_USER ? TLB_USER : TLB_KERNEL;
}
static inline void for_mode(struct soft_vcpu *v, u32 key, u64 cs)
{
    const unsigned k = mode_of(v);
    const u32 contexts = k == TLB_USER ? BIT(TLB_USER) : BIT(TLB_KERNEL) | BIT(TLB_KERNEL_AC);
    if (unlikely((key & JIT_MODE) != v->jit_mode[k])) {
        soft_jit_clear_lookup(v, contexts);
        v->jit_mode[k] = key & JIT_MODE;
    }
    if (unlikely(cs != v->jit_cs[k])) {
        clear_jct(v, contexts);
        v->jit_cs[k] = cs;
    }
}

void soft_jit_expect(struct soft_vcpu *v, u64 place)
{
    const bool reloc = jit_relocatable(v);
    u64 delta = 0;
    if (reloc)
        (void)home_of(v, place, &delta);
    __builtin_prefetch(&v->jit->hash[hash_of(v->jit, v->rip - delta, place, jit_key(v) | (reloc ? JIT_RELOC : 0))]);
}

struct trans *jit_known(struct soft_vcpu *v)
{
    const unsigned ctx = v->tlb_ctx, of = mode_of(v), k = v->rip & (JCT_SIZE - 1);
    const u32 key = jit_key(v);
    const u64 cs = jit_cs(v);
    const struct jct_entry *x = &v->jct[ctx][k];
    if ((key & JIT_MODE) == v->jit_mode[of] && cs == v->jit_cs[of] && x->minus_rip + v->rip == 0) {
        v->jit_delta = x->delta;
        return x->trans;
    }
    struct block *b = key & JIT_NOT ? NULL : soft_jc_block(v);
    u64 delta;
    struct trans *t = b ? find_of(v, b, key, cs, &delta) : NULL; /* jc has none that reaches into a second page */
    if (t) {
        for_mode(v, key, cs);
        note(v, t, delta);
    }
    return t;
}

/* Links l to t. Where t leads back to where l comes from, a loop was cut in two: then both become one, which is
   returned. */
static struct trans *join(struct soft_vcpu *v, struct block *b, struct link *l, struct trans *t, u64 delta)
{
    struct jit *j = v->jit;
    u64 place;
    const u8 *page = soft_fetch_page(v, jit_lin(t->cs, v->rip), &place); /* before the lock: it may fault */
    if (!jit_lock(j, false))
        return t;
    jit_link(v, l, t);
    struct trans *from = l->from;
    bool back = false;
    if (l->to == t && !l->check && from != t && !from->merged && !t->merged && b->place2 == ~0ull)
        for (u32 k = 0; k < t->nlinks && !back; k++)
            back = t->link[k].to == from;
    if (back && page && place == (b->place & ~0xfffull) && jit_room(v)) {
        struct trans *whole = jit_translate(v, b, delta, page, NULL, JIT_KIND_WHOLE);
        if (whole) {
            if (unlikely(v->vm->cfg.trace))
                soft_jit_report(v, whole);
            retire(j, from);
            retire(j, t);
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
    u8 *splits = &v->jit_splits[(place * 0x9e3779b97f4a7c15ull) >> 54];
    if (++*splits < MIN(j->hot, 0xff))
        return NULL;
    *splits = 0;
    u64 now;
    const u8 *page = soft_fetch_page(v, jit_lin(cs, v->rip), &now); /* before the lock: it may fault */
    if (!page || now != (place & ~0xfffull) || !jit_lock(j, false))
        return NULL;
    const struct block b = { .place = place, .place2 = ~0ull };
    /* Its home may be another's by now, should the page have been written. */
    if (!t->retired && !(x = jit_find(j, v->rip - delta, place, ~0ull, key, cs)) && jit_room(v)) {
        const u64 since = __builtin_ia32_rdtsc();
        x = jit_translate(v, &b, delta, page, NULL, JIT_KIND_CAREFUL);
        watch_cost(v, since);
        if (x && unlikely(v->vm->cfg.trace))
            soft_jit_report(v, x);
    }
    jit_unlock(j);
    return x;
}

bool soft_jit_run(struct soft_vcpu *v, struct block *b)
{
    struct jit *j = v->jit;
    if (unlikely(v->jit_stayed)) {
        v->jit_stayed = false;
        return false;
    }
    if ((b->key & KEY_SINGLE) || v->tlb_ctx == TLB_EMPTY)
        return false;
    const u64 rip = v->rip, cs = jit_cs(v);
    const u32 key = jit_key(v);
    if (key & JIT_NOT)
        return false;
    for_mode(v, key, cs);
    /* Code that ran a few times has none, unless another processor or process made it: that is looked for now and then. */
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
        if (b->untranslatable)
            return false;
        /* Before the lock: they may fault. */
        u64 place, place2 = ~0ull;
        const u64 lin = jit_lin(cs, v->rip);
        const u8 *page = soft_fetch_page(v, lin, &place), *page2 = NULL;
        if (b->place2 != ~0ull)
            page2 = soft_fetch_page(v, (lin & ~0xfffull) + 4096, &place2);
        if (!page || place != (b->place & ~0xfffull) || place2 != b->place2 || !jit_lock(j, false))
            return false;
        t = find_here(v, b->place, b->place2, key, cs, &delta);
        if (!t && jit_room(v)) {
            if (jit_relocatable(v) && !home_of(v, b->place, &delta))
                delta = find_home(v, b->place);
            const u64 since = __builtin_ia32_rdtsc();
            t = jit_translate(v, b, delta, page, page2, JIT_KIND_PLAIN);
            if (j->hot > j->hot_least)
                b->hits = 0; /* should it be evicted soon it is not to come back as fast */
            watch_cost(v, since);
            j->refused += !t;
            if (t && unlikely(v->vm->cfg.trace))
                soft_jit_report(v, t);
            b->untranslatable = !t;
        }
        jit_unlock(j);
        if (!t)
            return false;
    }
    struct link *l = v->jit_pending;
    v->jit_pending = NULL;
    /* Relocatable code leads on to such with the same delta. */
    if (l && v->jit_pending_epoch == v->jit_epoch && l->to != t && l->rip == t->rip && l->key == t->key && l->from->cs == cs &&
        (l->from->reloc ? v->jit_delta : 0) == delta)
        t = join(v, b, l, t, delta);
    note(v, t, delta);
    if (t->reloc)
        note_module(v, delta);
    v->stat.enter++;
    if (v->mmu.ndisplaced) { /* nothing that translated code knew holds any longer; the fence as in tlb.c, before_closing() */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (!(__atomic_load_n(&v->request, __ATOMIC_RELAXED) & REQ_FLUSH))
            v->mmu.ndisplaced = 0;
    }
    v->jit_site = 0;
    *(u64 *)v->jit_base = j->sentinel[v->tlb_ctx];
    jit_vec_load(v);
    v->jit_from = 0;
    ((void (*)(u64))j->enter)(t->code);
    if (unlikely(v->jit_from && !v->jit_site && ((u64)((s64)(v->rip << 16) >> 16) != v->rip || v->rip > v->jc_limit)))
        jit_bad_target(v);
    if (v->jit_site) {
        const struct jit_site *s = jit_site_at(v->jit_site);
        v->jit_pending = &jit_trans_of(j, s)->link[s->insn];
        v->jit_pending_epoch = v->jit_epoch;
    } else {
        /* It may have been left before its first instruction, for a poll or because it was retired. Whatever asks for
           that, even if it does so each time: the interpreter gets on. */
        v->jit_stayed = v->rip == rip;
    }
    return true;
}
