/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mirror.c - what the runner of an address space has mapped.
 *
 * It is a TLB: each page in it is one that a walk of the guest's tables would give now, or would have given until the guest
 * invalidates it, with no more rights than that. A page is mapped only if its A bit is set already, and open for stores only
 * if D is set, too; whoever comes first sets them by a walk. What tlb.c hears of (INVLPG, CR3, INVPCID, a shootdown's
 * interrupt handler, a moved region) marks leaves or spaces as stale. They are compared with the tables before the program
 * goes on, and only what differs is unmapped.
 *
 * A page is open for stores only while it holds no decoded code, and is marked as dirty. A page with code, decoded or admitted
 * for execution, is never open in any mirror.
 *
 * SDM vol. 3 4.10.2.3 (when A and D are cached), 4.10.4 (invalidation).
 */
#include "engine/soft/direct/direct.h"

/* ---- leaves --------------------------------------------------------------------- */

static unsigned slot_of(u64 number) { return (unsigned)((number * 0x9e3779b97f4a7c15ull) >> 52); }
_Static_assert(MIRROR_HASH == 1 << 12, "slot_of gives 12 bits");

struct mirror_leaf *mirror_find(const struct direct_space *s, u64 lin)
{
    const u64 number = lin >> PAGE_2M;
    for (unsigned k = slot_of(number); s->hash[k]; k = (k + 1) & (MIRROR_HASH - 1))
        if (s->leaf[s->hash[k] - 1]->number == number)
            return s->leaf[s->hash[k] - 1];
    return NULL;
}

/* Leaves come from direct_gate.c, which puts an empty one behind the last. */
static struct mirror_leaf *leaf_make(struct direct_space *s, u64 lin)
{
    struct mirror_leaf *l = mirror_find(s, lin);
    if (l)
        return l;
    if (s->leaves == MIRROR_MOST_LEAVES || !s->leaf[s->leaves])
        return NULL;
    l = s->leaf[s->leaves++];
    l->number = lin >> PAGE_2M;
    unsigned k = slot_of(l->number);
    while (s->hash[k])
        k = (k + 1) & (MIRROR_HASH - 1);
    s->hash[k] = (u16)s->leaves;
    return l;
}

/* ---- orders --------------------------------------------------------------------- */

enum { MUNMAP = 11, MMAP = 9, PROT_R = 1, PROT_W = 2, PROT_X = 4, SHARED = 1, FIXED = 0x10, POPULATE = 0x8000 };

static u64 protection(u64 page)
{
    return PROT_R | (page & MIRROR_OPEN ? PROT_W : 0) | (page & MIRROR_EXEC ? PROT_X : 0);
}

/* The runner is to have the page at lin as `page` says (0: not). False: there is no room. */
static bool order(struct direct_space *s, u64 lin, u64 page)
{
    struct runner_map *m = &s->map[s->nmaps - 1];
    const u64 call = page ? MMAP : MUNMAP, place = page & ~(u64)MIRROR_BITS, prot = page ? protection(page) : 0;
    if (s->nmaps && m->call == call && m->address + m->size == lin && m->protection == prot &&
        (!page || m->offset + m->size == place)) {
        m->size += GUEST_PAGE_SIZE;
        m->flags = SHARED | FIXED;
        return true;
    }
    if (s->nmaps == RUNNER_MOST_MAPS)
        return false;
    s->map[s->nmaps++] = (struct runner_map){ call, lin, GUEST_PAGE_SIZE, prot, SHARED | FIXED, place };
    return true;
}

/* Counts and notes what order() has been given. */
static void note(struct soft_direct *d, struct direct_space *s, struct mirror_leaf *l, unsigned k, u64 now)
{
    const u64 was = l->page[k];
    if (was & MIRROR_OPEN) {
        l->open--;
        d->open[was >> GUEST_PAGE_SHIFT]--;
    }
    if (now & MIRROR_OPEN) {
        l->open++;
        d->open[now >> GUEST_PAGE_SHIFT]++;
    }
    l->mapped += !!now - !!was;
    s->pages += (u32)(!!now - !!was);
    d->stat.maps += !!now;
    d->stat.unmaps += !now;
    l->page[k] = now;
}

/* ---- what the tables give ----------------------------------------------------------- */

struct view { /* of 2 MiB of linear addresses */
    struct soft_walk_peek peek;
    struct memory_region r; /* the last one that was found */
};

/* The page at lin as it may be mapped; 0: not at all. exec: it is to be executed, if it can be. */
static u64 wanted(struct soft_vcpu *v, struct view *w, u64 lin, bool exec)
{
    struct walk at;
    if (!soft_peek_page(v, &w->peek, lin, &at))
        return 0;
    if (at.gpa - w->r.gpa >= w->r.size && !memory_lookup(v->vm->cfg.memory, at.gpa, &w->r)) {
        w->r.size = 0;
        return 0;
    }
    const u64 place = w->r.place + (at.gpa - w->r.gpa), page = place >> GUEST_PAGE_SHIFT;
    u64 x = place | MIRROR_MAPPED;
    if (at.w && at.dirty && !w->r.readonly && !(exec && !at.nx) && !__atomic_load_n(&v->vm->code_lines[page], __ATOMIC_SEQ_CST))
        x |= MIRROR_OPEN;
    else if (exec && !at.nx)
        x |= MIRROR_EXEC;
    return x;
}

static bool joins(struct soft_vcpu *v, const struct direct_space *s, u64 lin, u64 place)
{
    const u64 before = mirror_page(s, lin - GUEST_PAGE_SIZE), after = mirror_page(s, lin + GUEST_PAGE_SIZE);
    return (!(before & MIRROR_EXEC) || admit_pair(v, before & ~(u64)MIRROR_BITS, place)) &&
           (!(after & MIRROR_EXEC) || admit_pair(v, place, after & ~(u64)MIRROR_BITS));
}

static bool set(struct soft_vcpu *v, struct direct_space *s, struct mirror_leaf *l, u64 lin, u64 now)
{
    struct soft_direct *d = v->direct;
    const unsigned k = lin >> PAGE_4K & 511;
    if (l->page[k] == now)
        return true;
    if (now & MIRROR_EXEC) {
        const u64 place = now & ~(u64)MIRROR_BITS, was = l->page[k];
        if (was & MIRROR_EXEC && (was & ~(u64)MIRROR_BITS) == place)
            now |= was & MIRROR_GUARDED;
        else if (!admit_page(v, place))
            now = guard_covers(v, s, lin, place) ? now | MIRROR_GUARDED : now & ~(u64)MIRROR_EXEC;
        if (now & ~was & MIRROR_EXEC && !joins(v, s, lin, place))
            now &= ~(u64)(MIRROR_EXEC | MIRROR_GUARDED);
        if (l->page[k] == now)
            return true;
    }
    if ((now && !l->page[k] && s->pages >= MIRROR_MOST_PAGES) || !order(s, lin, now))
        return false;
    if (now & MIRROR_OPEN)
        memory_mark_dirty(v->vm->cfg.memory, now & ~(u64)MIRROR_BITS);
    note(d, s, l, k, now);
    return true;
}

/* ---- mapping ------------------------------------------------------------------------ */

enum { AROUND = 16 /* pages */ };

/* No page of a program's lies there: it is the runner's own, or a process may have nothing there (vm.mmap_min_addr). */
static bool never(u64 lin)
{
    return lin < KiB(64) || lin >= RUNNER_TOP || lin - RUNNER_BASE < RUNNER_REACH;
}

bool mirror_update(struct soft_vcpu *v, struct direct_space *s, u64 lin, bool exec)
{
    struct view w = { .r.size = 0 };
    lin &= ~0xfffull;
    if (never(lin) || !soft_peek(v, lin, &w.peek))
        return true;
    struct mirror_leaf *l = leaf_make(s, lin);
    if (!l)
        return false;
    /* A large page of the guest's is one mapping. */
    const u64 size = w.peek.large ? BIT(PAGE_2M) : AROUND * GUEST_PAGE_SIZE, first = lin & ~(size - 1);
    const u32 before = s->nmaps;
    s->huge |= w.peek.huge;
    if (!set(v, s, l, lin, wanted(v, &w, lin, exec)))
        return false;
    if (s->nmaps > before && !w.peek.large) /* the program touches it next */
        s->map[before].flags |= POPULATE;
    if (w.peek.large && s->pages + 512 > MIRROR_MOST_PAGES)
        return true;
    for (u64 at = first; at < first + size; at += GUEST_PAGE_SIZE) {
        const u64 was = l->page[at >> PAGE_4K & 511];
        if (never(at) || at == lin)
            continue;
        /* What is executed elsewhere around is so here, too, unless it is written. */
        u64 now = wanted(v, &w, at, (was & MIRROR_EXEC) || (exec && !(was & MIRROR_OPEN)));
        if (now && !set(v, s, l, at, now))
            return true;
    }
    return true;
}

static bool settle_leaf(struct soft_vcpu *v, struct direct_space *s, struct mirror_leaf *l)
{
    struct view w = { .r.size = 0 };
    u64 lin = (u64)((s64)(l->number << PAGE_2M << 16) >> 16);
    const bool there = soft_peek(v, lin, &w.peek);
    for (unsigned k = 0, left = l->mapped; left; k++, lin += GUEST_PAGE_SIZE) {
        const u64 was = l->page[k];
        if (!was)
            continue;
        left--;
        u64 now = there ? wanted(v, &w, lin, was & MIRROR_EXEC) : 0;
        if ((now ^ was) & ~(u64)MIRROR_BITS)
            now = 0;
        if (l->taken)
            now &= ~(u64)MIRROR_OPEN;
        const u64 place = now & ~(u64)MIRROR_BITS;
        if ((now & MIRROR_EXEC) && !(was & MIRROR_GUARDED ? admit_same(v, place) : admit_current(v, place)))
            now &= ~(u64)MIRROR_EXEC;
        now &= was; /* it gets no more rights here */
        if (!(now & MIRROR_MAPPED))
            now = 0;
        if (!set(v, s, l, lin, now))
            return false;
    }
    l->stale = l->taken = false;
    return true;
}

bool mirror_settle(struct soft_vcpu *v, struct direct_space *s)
{
    const u64 seq = __atomic_load_n(&v->vm->direct_seq, __ATOMIC_SEQ_CST);
    const bool all = s->stale || s->recheck || s->code_seq != seq || s->pkru != v->pkru;
    if (!all && !s->some)
        return true;
    if (all)
        for (u32 k = 0; k < s->leaves; k++)
            s->leaf[k]->stale = true;
    if (s->stale)
        s->pages_before = s->pages;
    s->stale = s->recheck = false;
    s->code_seq = seq;
    s->pkru = v->pkru;
    s->some = true;
    for (u32 k = 0; k < s->leaves; k++)
        if (s->leaf[k]->stale && !settle_leaf(v, s, s->leaf[k]))
            return false;
    s->some = false;
    s->replaced = s->pages < s->pages_before / 2;
    s->pages_before = 0;
    return true;
}

bool mirror_unguard(struct soft_vcpu *v, struct direct_space *s, u64 lin)
{
    struct mirror_leaf *l = mirror_find(s, lin);
    return set(v, s, l, lin, l->page[lin >> PAGE_4K & 511] & ~(u64)(MIRROR_EXEC | MIRROR_GUARDED));
}

void mirror_forget(struct soft_vcpu *v, struct direct_space *s)
{
    struct soft_direct *d = v->direct;
    for (u32 k = 0; k < s->leaves; k++) {
        struct mirror_leaf *l = s->leaf[k];
        for (unsigned p = 0; p < 512 && l->open; p++)
            if (l->page[p] & MIRROR_OPEN) {
                l->open--;
                d->open[l->page[p] >> GUEST_PAGE_SHIFT]--;
            }
        zero_bytes(l, sizeof *l);
    }
    zero_bytes(s->hash, sizeof s->hash);
    zero_bytes(s->guard, sizeof s->guard);
    s->leaves = s->pages = s->nmaps = 0;
    s->expected = 0;
    s->stale = s->recheck = s->some = s->huge = false;
}

/* ---- what tlb.c says ------------------------------------------------------------------ */

void mirror_flush_page(struct soft_vcpu *v, u64 lin)
{
    /* of all PCIDs: the page may be a global one */
    for (struct direct_space *s = v->direct->spaces; s < v->direct->spaces + DIRECT_SPACES; s++) {
        struct mirror_leaf *l;
        if (!s->leaves)
            continue;
        if (s->huge) /* a page of 1 GiB has many leaves */
            s->stale = true;
        else if ((l = mirror_find(s, lin)))
            l->stale = s->some = true;
    }
}

void mirror_switched(struct soft_vcpu *v, u16 pcid, bool keep)
{
    direct_count(v);
    v->direct->space = NULL;
    v->direct_now = true;
    if (keep)
        return;
    mirror_flush_space(v, pcid);
    /* It may be another program, which got the tables of one that has ended. */
    for (struct direct_space *s = v->direct->spaces; s < v->direct->spaces + DIRECT_SPACES; s++)
        if (s->pcid == pcid && !s->direct)
            s->total = 0;
}

void mirror_flush_space(struct soft_vcpu *v, u32 pcid)
{
    for (struct direct_space *s = v->direct->spaces; s < v->direct->spaces + DIRECT_SPACES; s++)
        if (pcid == MIRROR_EVERY || s->pcid == pcid)
            s->stale = true;
}

/* See before_closing() and soft_drop_writable() in tlb.c. A page stays open if it counts as dirty since it was opened, since
   then the log was not taken since, and it holds no code. */
void mirror_drop_writable(struct soft_vcpu *v, void (*written)(struct soft_vcpu *v, u64 place))
{
    const struct memory *m = v->vm->cfg.memory;
    for (struct direct_space *s = v->direct->spaces; s < v->direct->spaces + DIRECT_SPACES; s++)
        for (u32 k = 0; s->cr3 && k < s->leaves; k++) {
            struct mirror_leaf *l = s->leaf[k];
            for (unsigned p = 0, left = l->open; left; p++) {
                if (!(l->page[p] & MIRROR_OPEN))
                    continue;
                left--;
                const u64 place = l->page[p] & ~(u64)MIRROR_BITS;
                const bool taken = !memory_is_dirty(m, place);
                const bool code = __atomic_load_n(&v->vm->code_lines[place >> GUEST_PAGE_SHIFT], __ATOMIC_SEQ_CST);
                written(v, place);
                if (taken || code) {
                    l->taken |= taken;
                    l->stale = s->some = true;
                }
            }
        }
}

bool mirror_protect_page(struct soft_vcpu *v, u64 place)
{
    if (!v->direct->open[place >> GUEST_PAGE_SHIFT])
        return false;
    for (struct direct_space *s = v->direct->spaces; s < v->direct->spaces + DIRECT_SPACES; s++)
        s->recheck = true;
    return true;
}
