/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_table.c - L2 tables and refcount blocks in memory, and the flush that writes them back. The flush writes in an
 * order that is safe at any power cut (docs/qcow2.md): first the counts and everything that nothing points to yet, then
 * what points to them.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdlib.h>

static void list_remove(struct table *t)
{
    t->prev->next = t->next;
    t->next->prev = t->prev;
}

static void list_first(struct top *t, struct table *tab)
{
    tab->next = t->lru.next;
    tab->prev = &t->lru;
    tab->next->prev = tab;
    t->lru.next = tab;
}

int top_load(struct qcow2 *q, struct top *t, u64 offset, u32 n, u64 most)
{
    u32 room = n ? n : 1;

    *t = (struct top){ .offset = offset, .n = n, .most = most };
    t->lru.next = t->lru.prev = &t->lru;
    t->entry = calloc(room, 8);
    t->dirty = calloc(room / 4096 + 1, 8);
    t->sub = calloc(room, sizeof(*t->sub));
    int r = t->entry && t->dirty && t->sub ? 0 : -ENOMEM;
    if (!r && n)
        r = file_pread(q->file, offset, t->entry, (u64)n * 8);
    for (u32 i = 0; !r && i < n; i++)
        t->entry[i] = be64toh(t->entry[i]);
    if (r)
        top_free(t);
    return r;
}

static void forget(struct top *t, struct table *tab)
{
    list_remove(tab);
    t->sub[tab->index] = NULL;
    t->cached--;
    t->dirty_tables -= tab->dirty != 0;
    free(tab);
}

void top_free(struct top *t)
{
    while (t->lru.next && t->lru.next != &t->lru)
        forget(t, t->lru.next);
    free(t->entry);
    free(t->dirty);
    free(t->sub);
    *t = (struct top){ 0 };
}

void top_replace(struct top *t, struct top *by)
{
    top_free(t);
    *t = *by;
    t->lru.next = t->lru.prev = &t->lru; /* nothing is cached yet */
}

/* Makes room for one more table. Dirty tables stay; qcow2_relieve makes sure that they do not become too many. lock
   held. */
static void evict(struct top *t)
{
    for (struct table *tab = t->lru.prev, *prev; t->cached >= t->most && tab != &t->lru; tab = prev) {
        prev = tab->prev;
        if (!tab->dirty && !tab->writing)
            forget(t, tab);
    }
}

static void insert(struct qcow2 *q, struct top *t, u32 i, struct table *tab)
{
    pthread_mutex_lock(&q->lock);
    evict(t);
    tab->index = i;
    t->sub[i] = tab;
    list_first(t, tab);
    t->cached++;
    t->dirty_tables += tab->dirty != 0;
    pthread_mutex_unlock(&q->lock);
}

static u64 all_pieces(const struct qcow2 *q)
{
    return ~0ull >> (64 - (q->cluster_size >> q->piece_bits));
}

int table_get(struct qcow2 *q, struct top *t, u32 i, struct table **out)
{
    struct table *tab = t->sub[i];

    if (tab) {
        pthread_mutex_lock(&q->lock);
        list_remove(tab);
        list_first(t, tab);
        pthread_mutex_unlock(&q->lock);
        *out = tab;
        return 0;
    }
    u64 offset = t->entry[i] & (t == &q->l1 ? ENTRY_OFFSET : ~511ull);
    if (in_cluster(q, offset) || offset >= q->file_end)
        return qcow2_corrupt(q, "%s %u is at %llu, which is %s", t == &q->l1 ? "L2 table" : "refcount block", i,
                             (unsigned long long)offset, in_cluster(q, offset) ? "not aligned" : "past the end of the file");
    tab = malloc(sizeof(*tab) + q->cluster_size);
    if (!tab)
        return -ENOMEM;
    *tab = (struct table){ .offset = offset };
    int r = file_pread(q->file, offset, tab->data, q->cluster_size);
    if (r) {
        free(tab);
        return r;
    }
    insert(q, t, i, tab);
    *out = tab;
    return 0;
}

/* The table that it replaces is clean, because a shared table is never changed. Its space in the file is taken at
   once. So, when the host's disk is full, new data is refused then, and not the tables of data that the disk already
   has. */
int table_new(struct qcow2 *q, struct top *t, u32 i, u64 offset, const struct table *from)
{
    int r = file_do(q->file, FILE_ALLOCATE, offset, q->cluster_size);
    struct table *tab = r ? NULL : malloc(sizeof(*tab) + q->cluster_size);

    if (!tab)
        return r ? r : -ENOMEM;
    *tab = (struct table){ .offset = offset, .fresh = true, .dirty = all_pieces(q) };
    if (from)
        memcpy(tab->data, from->data, q->cluster_size);
    else
        memset(tab->data, 0, q->cluster_size);
    if (t->sub[i]) {
        pthread_mutex_lock(&q->lock);
        forget(t, t->sub[i]);
        pthread_mutex_unlock(&q->lock);
    }
    insert(q, t, i, tab);
    return 0;
}

void table_change(struct qcow2 *q, struct top *t, struct table *tab, u32 at, const void *bytes, u32 len)
{
    pthread_mutex_lock(&q->lock);
    memcpy(tab->data + at, bytes, len);
    t->dirty_tables += !tab->dirty;
    for (u32 p = at >> q->piece_bits; p <= (at + len - 1) >> q->piece_bits; p++)
        tab->dirty |= BIT(p);
    pthread_mutex_unlock(&q->lock);
}

void top_set(struct qcow2 *q, struct top *t, u32 i, u64 entry)
{
    pthread_mutex_lock(&q->lock);
    t->entry[i] = entry;
    t->dirty[i / 4096] |= BIT(i / 64 % 64);
    t->any_dirty = true;
    pthread_mutex_unlock(&q->lock);
}

/* ---- the flush ---- */

enum phase {
    UNREFERRED, /* refcount blocks, and L2 tables that no L1 entry in the file names yet */
    REFTABLE,   /* it names new refcount blocks; or the header, which names a new refcount table */
    REFERRING,  /* L1 entries and L2 tables: they name clusters */
    PHASES,
};

/* A copy of bytes as they were when the flush began. Later changes belong to the next flush. */
struct piece {
    struct piece *next;
    u64 offset;
    u32 len;
    u8 data[];
};

struct batch {
    struct piece *first[PHASES], **last[PHASES];
    struct kept {
        struct top *top;
        struct table *tab; /* or NULL: 64 entries of the top table itself */
        u64 dirty;
        u32 word;
        enum phase phase;
    } *kept;
    u64 nkept, room;
    struct dropped *dropped;
    u64 ndropped;
    bool new_reftable; /* all of it is in this batch */
    u8 *header;        /* the header's bytes in its piece, if the header is to be written */
};

static u8 *add_piece(struct batch *b, enum phase phase, u64 offset, u32 len)
{
    struct piece *p = malloc(sizeof(*p) + len);
    if (!p)
        return NULL;
    *p = (struct piece){ .offset = offset, .len = len };
    *b->last[phase] = p;
    b->last[phase] = &p->next;
    return p->data;
}

static bool keep(struct batch *b, struct kept k)
{
    if (b->nkept == b->room) {
        u64 room = b->room ? b->room * 2 : 64;
        struct kept *grown = realloc(b->kept, room * sizeof(*grown));
        if (!grown)
            return false;
        b->kept = grown, b->room = room;
    }
    b->kept[b->nkept++] = k;
    return true;
}

static int collect_tables(struct qcow2 *q, struct batch *b, struct top *t)
{
    u32 pieces = q->cluster_size >> q->piece_bits;

    for (struct table *tab = t->lru.next; t->dirty_tables && tab != &t->lru; tab = tab->next) {
        enum phase phase = t == &q->reftable || tab->fresh ? UNREFERRED : REFERRING;
        if (!tab->dirty)
            continue;
        if (!keep(b, (struct kept){ .top = t, .tab = tab, .dirty = tab->dirty, .phase = phase }))
            return -ENOMEM;
        for (u32 i = 0, n; i < pieces; i += n) {
            for (n = 1; tab->dirty & BIT(i) && i + n < pieces && tab->dirty & BIT(i + n);)
                n++;
            if (!(tab->dirty & BIT(i)))
                continue;
            u8 *data = add_piece(b, phase, tab->offset + ((u64)i << q->piece_bits), n << q->piece_bits);
            if (!data) {
                b->nkept--;
                return -ENOMEM;
            }
            memcpy(data, tab->data + ((size_t)i << q->piece_bits), (size_t)n << q->piece_bits);
        }
        tab->dirty = 0;
        tab->writing = true;
        t->dirty_tables--;
    }
    return 0;
}

static int collect_top(struct qcow2 *q, struct batch *b, struct top *t)
{
    enum phase phase = t == &q->l1 ? REFERRING : t->fresh ? UNREFERRED : REFTABLE;

    if (t->unnamed) {
        b->header = add_piece(b, REFTABLE, 0, 512);
        if (!b->header)
            return -ENOMEM;
        memcpy(b->header, q->header, 512);
        put64(b->header + H_REFTABLE_OFFSET, t->offset);
        put32(b->header + H_REFTABLE_CLUSTERS, (u32)clusters_for(q, (u64)t->n * 8));
        b->new_reftable = t->fresh;
    }
    for (u32 w = 0; t->any_dirty && w <= t->n / 4096; w++) {
        if (!t->dirty[w])
            continue;
        if (!keep(b, (struct kept){ .top = t, .dirty = t->dirty[w], .word = w, .phase = phase }))
            return -ENOMEM;
        for (u64 left = t->dirty[w]; left; left &= left - 1) {
            u32 i = w * 4096 + (u32)__builtin_ctzll(left) * 64, n = MIN(64, t->n - i);
            u8 *data = add_piece(b, phase, t->offset + (u64)i * 8, n * 8);
            if (!data) {
                b->nkept--;
                return -ENOMEM;
            }
            for (u32 k = 0; k < n; k++)
                put64(data + (size_t)k * 8, t->entry[i + k]);
        }
        t->dirty[w] = 0;
    }
    t->any_dirty = false;
    return 0;
}

/* Takes everything that is dirty; op and lock held. */
static int collect(struct qcow2 *q, struct batch *b)
{
    int r = collect_tables(q, b, &q->reftable);
    r = r ? r : collect_tables(q, b, &q->l1);
    r = r ? r : collect_top(q, b, &q->reftable);
    r = r ? r : collect_top(q, b, &q->l1);
    b->dropped = q->dropped, b->ndropped = q->ndropped;
    q->dropped = NULL, q->ndropped = q->dropped_room = 0;
    return r;
}

static int write_phase(struct qcow2 *q, struct batch *b, enum phase phase)
{
    int r = 0;
    for (struct piece *p = b->first[phase]; p && !r; p = p->next)
        r = file_pwrite(q->file, p->offset, p->data, p->len);
    return r ? r : file_flush(q->file);
}

/* op held. If the flush failed, everything is dirty again. */
static void settle(struct qcow2 *q, struct batch *b, int result)
{
    pthread_mutex_lock(&q->lock);
    for (u64 i = 0; i < b->nkept; i++) {
        struct kept *k = &b->kept[i];
        if (k->tab)
            k->tab->writing = false;
        if (result && k->tab) {
            k->top->dirty_tables += !k->tab->dirty;
            k->tab->dirty |= k->dirty;
        } else if (result) {
            k->top->dirty[k->word] |= k->dirty;
            k->top->any_dirty = true;
        }
    }
    pthread_mutex_unlock(&q->lock);
    if (!result)
        clusters_release(q, b->dropped, b->ndropped);
    else if (b->ndropped && q->ndropped) {
        for (u64 i = 0; i < b->ndropped; i++)
            if (clusters_drop(q, b->dropped[i].cluster, b->dropped[i].n))
                break; /* no memory: they are leaked */
    } else if (b->ndropped) {
        q->dropped = b->dropped, q->ndropped = q->dropped_room = b->ndropped;
        b->dropped = NULL;
    }
}

static int flush_now(struct qcow2 *q)
{
    struct batch b = { 0 };
    u64 number;

    if (q->b->readonly)
        return 0;
    if (q->broken)
        return -EIO;
    for (int i = 0; i < PHASES; i++)
        b.last[i] = &b.first[i];
    pthread_mutex_lock(&q->op);
    pthread_mutex_lock(&q->lock);
    number = ++q->flushes_begun;
    int r = collect(q, &b);
    pthread_mutex_unlock(&q->lock);
    pthread_mutex_unlock(&q->op);

    /* Data, counts and new tables are stable before anything names them. */
    if (!r)
        r = write_phase(q, &b, UNREFERRED);
    if (!r) {
        pthread_mutex_lock(&q->op);
        for (u64 i = 0; i < b.nkept; i++)
            if (b.kept[i].tab)
                b.kept[i].tab->fresh = false;
        if (b.new_reftable && q->reftable.offset == get64(b.header + H_REFTABLE_OFFSET))
            q->reftable.fresh = false;
        pthread_mutex_unlock(&q->op);
    }
    if (!r && b.first[REFTABLE])
        r = write_phase(q, &b, REFTABLE);
    if (!r && b.header) {
        pthread_mutex_lock(&q->op);
        memcpy(q->header, b.header, 512);
        if (q->broken && q->version > 2) { /* the image was found corrupt after the copy was made: the mark stays */
            put64(q->header + H_INCOMPATIBLE, q->incompatible);
            r = file_pwrite(q->file, 0, q->header, 512);
        }
        q->reftable.unnamed = q->reftable.offset != get64(q->header + H_REFTABLE_OFFSET);
        pthread_mutex_unlock(&q->op);
    }
    if (!r && b.first[REFERRING])
        r = write_phase(q, &b, REFERRING);

    pthread_mutex_lock(&q->op);
    settle(q, &b, r);
    if (!r)
        q->flushes_done = number;
    pthread_mutex_unlock(&q->op);
    for (int i = 0; i < PHASES; i++)
        for (struct piece *p = b.first[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    free(b.kept);
    free(b.dropped);
    return r;
}

int qcow2_flush_since(struct qcow2 *q, u64 seen)
{
    pthread_mutex_lock(&q->flushing);
    int r = q->flushes_done > seen ? 0 : flush_now(q);
    pthread_mutex_unlock(&q->flushing);
    return r;
}

int qcow2_flush(struct qcow2 *q)
{
    return qcow2_flush_since(q, ~0ull);
}

int qcow2_relieve(struct qcow2 *q)
{
    pthread_mutex_lock(&q->lock);
    bool full = q->l1.dirty_tables > q->l1.most / 2 || q->reftable.dirty_tables > q->reftable.most / 2;
    u64 seen = q->flushes_begun;
    pthread_mutex_unlock(&q->lock);
    return full ? qcow2_flush_since(q, seen) : 0;
}
