/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.c - keeps the translations: finds them, links them, makes them stale and throws them out.
 *
 * The space is cut into segments, which fill one after the other. Before one is full, the next one is drained: its
 * translations are taken out of every list and table. It is free once every processor has been outside translated code
 * since (soft_jit_quiesce; `poll` makes them leave). Processors do not wait for this. Code that is not translated because
 * there is no space is interpreted.
 *
 * Lists are changed under jit.lock. jit_find walks them without it: what it meets stays readable until its processor is
 * outside translated code the next time.
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

struct trans *jit_find(struct jit *j, u64 rip, u64 place, u64 place2, u32 key, u64 cs)
{
    struct trans *t = __atomic_load_n(&j->hash[jit_hash_of(j, rip, place, key)], __ATOMIC_ACQUIRE);
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
    /* Only the segment in which pc lies is sure to stay as it is while this processor runs code there. */
    const u64 k = (pc - (u64)j->rx - j->stubs_end) / segment_size(j);
    if (k < j->nseg)
        for (struct trans *t = __atomic_load_n(&j->seg[k].first, __ATOMIC_ACQUIRE); t; t = t->seg_next)
            if (pc - t->code < t->size)
                return t;
    return NULL;
}

/* ---- processors outside translated code ------------------------------------- */

/* Begins a new epoch, and makes all processors leave translated code. Space that nobody can reach from now on may be used
   again when all of them have passed this epoch. */
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
        if (o && __atomic_load_n(&o->tr.epoch, __ATOMIC_SEQ_CST) < epoch)
            return false;
    }
    return true;
}

/* ---- numbers of pages --------------------------------------------------------- */

enum { PAGE_USED = 1, PAGE_USER = 2, PAGE_DYING = 4 }; /* in jit_page.place */

/* Returns a number for guest page lin, which is mapped to place; 0: there are no more at present. */
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
            free = k; /* if k is 0, nothing was found yet, so 0 is never given out */
    }
    if (!free) {
        j->crowded = true;
        return 0;
    }
    j->page_id[free] = (struct jit_page){ lin, key };
    j->npages++;
    return free;
}

/* Numbers that no translation has any more are given out again, but not before no processor takes them for mapped. */
static void sweep_pages(struct soft_vcpu *v)
{
    enum { EVERY = 4096 }; /* translations between two sweeps, so that it costs little even if all numbers are in use */
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
        store32(j, l->check, OFF(tr.mapped));
    else
        store32(j, l->jump, l->unlinked - (l->jump + 4));
}

/* True if every other processor has been outside translated code since then. */
static bool quiet_since(struct soft_vcpu *v, u64 when)
{
    for (u32 k = 0; when && k < v->vm->cfg.cpus; k++) {
        const struct soft_vcpu *o = __atomic_load_n(&v->vm->vcpu[k], __ATOMIC_ACQUIRE);
        if (o && o != v && __atomic_load_n(&o->tr.quiet, __ATOMIC_SEQ_CST) < when)
            return false;
    }
    return true;
}

void jit_note_link(struct link *l, struct trans *to)
{
    l->to = to;
    l->next = to->in;
    l->prev = &to->in;
    if (l->next)
        l->next->prev = &l->next;
    to->in = l;
}

void jit_link(struct soft_vcpu *v, struct link *l, struct trans *to)
{
    struct jit *j = v->jit;
    if (l->to == to || l->from->retired || to->retired || (l->check && !to->page_id))
        return;
    /* A link without a mapping check stays in its page. */
    if (!l->check && (l->from->place ^ to->place) >= 4096)
        return;
    /* A processor that has passed the check for the former target must not meet the jump to this one. */
    if (l->check && (l->to || !quiet_since(v, l->quiet))) {
        jit_unlink(j, l);
        return;
    }
    jit_unlink(j, l);
    jit_note_link(l, to);
    store32(j, l->jump, (l->forward ? to->from_below : to->from_above) - (l->jump + 4));
    if (l->check)
        store32(j, l->check, OFF(tr.mapped) + 8 * to->page_id);
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
    struct trans **hash = &j->hash[jit_hash_of(j, t->rip, t->place, t->key)];
    t->seg_next = s->first;
    __atomic_store_n(&s->first, t, __ATOMIC_RELEASE);
    if (!t->inside) { /* which is in the list, and takes this with it when it goes */
        t->page_next = *page;
        t->page_prev = page;
        if (t->page_next)
            t->page_next->page_prev = &t->page_next;
        *page = t;
    }
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

/* True if any address is within the segment's limit (SDM vol. 3, 5.3), as it is in the FS or GS by which threads reach their
   own data. */
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

/* From now on nothing leads into t, and only processors that are in it still run it. This must be done only once, because
   page_prev later points to what belongs to another. */
void jit_retire(struct jit *j, struct trans *t)
{
    if (t->retired)
        return;
    for (struct trans **p = &j->hash[jit_hash_of(j, t->rip, t->place, t->key)]; *p; p = &(*p)->hash_next)
        if (*p == t) {
            __atomic_store_n(p, t->hash_next, __ATOMIC_RELEASE); /* t's own pointer stays for a jit_find that is at t now */
            break;
        }
    if (t->page_prev)
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
    while (t->in) {
        struct link *l = t->in;
        jit_unlink(j, l);
        if (l->door)
            jit_retire(j, l->from);
    }
    for (u32 k = 0; k < t->nlinks; k++)
        jit_unlink(j, &t->link[k]);
    /* The no-operation at the entry becomes a jump. Eight aligned bytes are written, of which the last three stay as they
       are. */
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
            jit_retire(j, t);
    }
    for (struct trans *t = j->page2[page % JIT_PAGE_BUCKETS], *next; t; t = next) {
        next = t->page2_next;
        if (t->place2 >> 12 == page)
            jit_retire(j, t);
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
            jit_retire(j, j->page[k]);
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
        jit_retire(j, t);
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
    /* The next one is drained while there is room left in this one, so that nobody has to wait. */
    if (next->state == SEG_FULL &&
        (!room || left < segment_size(j) / 4 + JIT_REGION_MAX || data_left < j->data_size / j->nseg / 4))
        drain(v, n);
    if (unlikely(room && s->code + JIT_REGION_MAX > j->huge))
        jit_huge(v, s->code + JIT_REGION_MAX);
    if (room)
        return true;
    s->state = SEG_FULL;
    if (next->state == SEG_DRAINING && !all_passed(v, next->epoch))
        return false;
    empty(j, n);
    next->state = SEG_OPEN;
    j->open = n;
    if (j->seg[n].code + JIT_REGION_MAX > j->huge)
        jit_huge(v, j->seg[n].code + JIT_REGION_MAX);
    return true;
}

/* ---- how much a block must run ------------------------------------------------- */

/*
 * A cache that is too small for what the guest runs is filled again and again with what was in it a while ago. So the time
 * that translating takes is compared with the time that passes. If translations are evicted, and making them takes more than
 * a quarter of the time, blocks must run twice as often before they are translated. The limit (HOT_MOST) is where the
 * interpreter has spent as much time on a block as its translation costs. If translating takes less than a sixteenth of the
 * time, blocks need to run half as often.
 */
enum { HOT_MOST = 4096, HOT_WINDOW_MS = 5 };

void jit_watch_cost(struct soft_vcpu *v, u64 since)
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
