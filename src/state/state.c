/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.c - walks the field tables: save, load, dump.
 *
 * The stream, all numbers little-endian:
 *
 *   header   8 bytes "LODGEST\0", u32 format (1), u32 records
 *   record   u8 name length, name, u32 instance, u16 version, u8 flags, u32 length, fields
 *   field    u8 name length, name, u8 kind (0 scalars, 1 structs), u8 flags, u16 element size, u32 count,
 *            u32 length, data: for scalars count * size bytes, for structs count times (u32 length, fields)
 *
 * Flag bit 0 means that a reader that does not know the record or field may skip it. The loader trusts nothing: it checks
 * every length against what encloses it. Its recursion ends because it follows our own tables.
 */
#include "state/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    FORMAT = 1,
    NAME_MAX_BYTES = 31,
    FIELDS_MAX = 256, /* fields of one struct: load_fields has a bit for each */
    KIND_SCALARS = 0,
    KIND_STRUCTS = 1,
    FLAG_OPTIONAL = 1,
};

static const char magic[8] = "LODGEST";

struct entry {
    const struct state_desc *desc;
    u32 instance;
    void *obj;
};

struct state_list {
    struct entry *entry;
    u32 n, cap;
};

struct state_list *state_list_new(void)
{
    return calloc(1, sizeof(struct state_list));
}

void state_list_free(struct state_list *l)
{
    if (l)
        free(l->entry);
    free(l);
}

/* Our own tables are checked once, when they are added, and need no checks when they are walked. */
static bool fields_valid(const struct state_field *f, int depth)
{
    u32 n = 0;

    if (depth > 8)
        return false;
    for (; f->name; f++, n++) {
        size_t len = strlen(f->name);
        if (!len || len > 255 || !f->count || n >= FIELDS_MAX)
            return false;
        if (f->nested ? !fields_valid(f->nested, depth + 1)
                      : f->elem != 1 && f->elem != 2 && f->elem != 4 && f->elem != 8)
            return false;
    }
    return true;
}

int state_add(struct state_list *l, const struct state_desc *d, u32 instance, void *obj)
{
    if (!d->name[0] || strlen(d->name) > NAME_MAX_BYTES || !fields_valid(d->fields, 0))
        return -EINVAL;
    for (u32 i = 0; i < l->n; i++)
        if (l->entry[i].instance == instance && !strcmp(l->entry[i].desc->name, d->name))
            return -EEXIST;
    if (l->n == l->cap) {
        u32 cap = l->cap ? l->cap * 2 : 32;
        struct entry *e = realloc(l->entry, cap * sizeof(*e));
        if (!e)
            return -ENOMEM;
        l->entry = e;
        l->cap = cap;
    }
    l->entry[l->n++] = (struct entry){ d, instance, obj };
    return 0;
}

void state_buf_free(struct state_buf *b)
{
    free(b->data);
    *b = (struct state_buf){ 0 };
}

/* ---- save ---- */

static int put(struct state_buf *b, const void *data, size_t n)
{
    if (n > b->cap - b->len) {
        size_t cap = b->cap ? b->cap : 4096;
        while (n > cap - b->len)
            cap *= 2;
        u8 *p = realloc(b->data, cap);
        if (!p)
            return -ENOMEM;
        b->data = p;
        b->cap = cap;
    }
    if (n)
        memcpy(b->data + b->len, data, n);
    b->len += n;
    return 0;
}

static int put_int(struct state_buf *b, u64 v, unsigned size)
{
    return put(b, &v, size); /* the host is x86-64, so the bytes are in little-endian order already */
}

static int put_name(struct state_buf *b, const char *name)
{
    int r = put_int(b, strlen(name), 1);

    return r ? r : put(b, name, strlen(name));
}

/* Leaves room for a length, which put_length_end fills in. */
static int put_length_begin(struct state_buf *b, size_t *at)
{
    *at = b->len;
    return put_int(b, 0, 4);
}

static int put_length_end(struct state_buf *b, size_t at)
{
    size_t n = b->len - at - 4;

    if (n > UINT32_MAX)
        return -EFBIG;
    u32 v = (u32)n;
    memcpy(b->data + at, &v, 4);
    return 0;
}

static int save_fields(struct state_buf *b, const struct state_field *f, const u8 *obj)
{
    int r = 0;

    for (; f->name && !r; f++) {
        const u8 *data = obj + f->offset;
        size_t at;
        if ((r = put_name(b, f->name)) || (r = put_int(b, f->nested ? KIND_STRUCTS : KIND_SCALARS, 1)) ||
            (r = put_int(b, 0, 1)) || (r = put_int(b, f->nested ? 0 : f->elem, 2)) || (r = put_int(b, f->count, 4)) ||
            (r = put_length_begin(b, &at)))
            break;
        if (!f->nested) {
            r = put(b, data, (size_t)f->elem * f->count);
        } else {
            for (u32 i = 0; i < f->count && !r; i++) {
                size_t inner;
                if (!(r = put_length_begin(b, &inner)) && !(r = save_fields(b, f->nested, data + (size_t)i * f->elem)))
                    r = put_length_end(b, inner);
            }
        }
        if (!r)
            r = put_length_end(b, at);
    }
    return r;
}

int state_save(const struct state_list *l, struct state_buf *out, struct error *err)
{
    size_t at;
    int r;

    out->len = 0;
    if ((r = put(out, magic, sizeof(magic))) || (r = put_int(out, FORMAT, 4)) || (r = put_int(out, l->n, 4)))
        return error_set(err, -r, "no memory for the saved state");
    /* Every pre_save is called before the first record is written, because one may change the state of another object. */
    for (u32 i = 0; i < 2 * l->n; i++) {
        const struct entry *e = &l->entry[i % l->n];
        if (e->desc->pre_save && e->desc->pre_save_last == (i >= l->n) && (r = e->desc->pre_save(e->obj)))
            return error_set(err, -r, "cannot read the state of %s.%u: %s", e->desc->name, e->instance, strerror(-r));
    }
    for (u32 i = 0; i < l->n; i++) {
        const struct entry *e = &l->entry[i];
        if ((r = put_name(out, e->desc->name)) || (r = put_int(out, e->instance, 4)) ||
            (r = put_int(out, e->desc->version, 2)) || (r = put_int(out, 0, 1)) || (r = put_length_begin(out, &at)) ||
            (r = save_fields(out, e->desc->fields, e->obj)) || (r = put_length_end(out, at)))
            return error_set(err, -r, "no memory for the saved state");
    }
    return 0;
}

/* ---- load ---- */

struct reader {
    const u8 *p;
    size_t left;
    struct error *err;
};

static bool get(struct reader *r, void *to, size_t n)
{
    if (n > r->left)
        return false;
    memcpy(to, r->p, n);
    r->p += n;
    r->left -= n;
    return true;
}

/* Makes the next n bytes a reader of their own. */
static bool get_part(struct reader *r, size_t n, struct reader *part)
{
    if (n > r->left)
        return false;
    *part = (struct reader){ r->p, n, r->err };
    r->p += n;
    r->left -= n;
    return true;
}

static bool get_name(struct reader *r, char name[256])
{
    u8 n;

    if (!get(r, &n, 1) || !get(r, name, n))
        return false;
    name[n] = 0;
    return n && strlen(name) == n;
}

static int truncated(struct reader *r, const char *where)
{
    return error_set(r->err, EINVAL, "the saved state is damaged: %s ends too early", where);
}

static int load_fields(struct reader *r, const char *where, const struct state_field *fields, u16 version, u8 *obj);

static int load_field(struct reader *data, const char *where, const struct state_field *f, u8 kind, u16 elem, u32 count,
                      u16 version, u8 *obj)
{
    u8 *to = obj + f->offset;

    if (kind != (f->nested ? KIND_STRUCTS : KIND_SCALARS) || count != f->count || (!f->nested && elem != f->elem))
        return error_set(data->err, EINVAL, "the saved state does not fit: %s.%s has another type here", where,
                         f->name);
    if (!f->nested) {
        size_t n = (size_t)elem * count;
        if (data->left != n)
            return error_set(data->err, EINVAL, "the saved state is damaged: %s.%s has %zu bytes, not %zu", where,
                             f->name, data->left, n);
        for (size_t i = 0; f->boolean && i < n; i++)
            if (data->p[i] > 1)
                return error_set(data->err, EINVAL, "the saved state is damaged: %s.%s is neither true nor false",
                                 where, f->name);
        memcpy(to, data->p, n);
        return 0;
    }
    for (u32 i = 0; i < count; i++) {
        struct reader part;
        u32 n;
        if (!get(data, &n, 4) || !get_part(data, n, &part))
            return truncated(data, where);
        int e = load_fields(&part, where, f->nested, version, to + (size_t)i * f->elem);
        if (e)
            return e;
    }
    if (data->left)
        return error_set(data->err, EINVAL, "the saved state is damaged: bytes left over in %s.%s", where, f->name);
    return 0;
}

static int load_fields(struct reader *r, const char *where, const struct state_field *fields, u16 version, u8 *obj)
{
    u64 seen[FIELDS_MAX / 64] = { 0 };

    while (r->left) {
        struct reader data;
        char name[256];
        u8 kind, flags;
        u16 elem;
        u32 count, length, i = 0;
        if (!get_name(r, name) || !get(r, &kind, 1) || !get(r, &flags, 1) || !get(r, &elem, 2) || !get(r, &count, 4) ||
            !get(r, &length, 4) || !get_part(r, length, &data))
            return truncated(r, where);
        while (fields[i].name && strcmp(fields[i].name, name))
            i++;
        if (!fields[i].name) {
            if (flags & FLAG_OPTIONAL)
                continue;
            return error_set(r->err, EINVAL, "the saved state holds %s.%s, which this version of Lodge does not know",
                             where, name);
        }
        if (seen[i / 64] >> (i % 64) & 1)
            return error_set(r->err, EINVAL, "the saved state is damaged: %s.%s twice", where, name);
        seen[i / 64] |= BIT(i % 64);
        int e = load_field(&data, where, &fields[i], kind, elem, count, version, obj);
        if (e)
            return e;
    }
    for (u32 i = 0; fields[i].name; i++)
        if (!(seen[i / 64] >> (i % 64) & 1) && fields[i].since <= version)
            return error_set(r->err, EINVAL, "the saved state is damaged: %s.%s is missing", where, fields[i].name);
    return 0;
}

static struct entry *find(const struct state_list *l, const char *name, u32 instance, u32 *index)
{
    for (u32 i = 0; i < l->n; i++) {
        if (l->entry[i].instance == instance && !strcmp(l->entry[i].desc->name, name)) {
            *index = i;
            return &l->entry[i];
        }
    }
    return NULL;
}

static int load_record(const struct state_list *l, struct reader *r, u8 *seen)
{
    struct reader fields;
    char name[256], where[300];
    u32 instance, length, index;
    u16 version;
    u8 flags;

    if (!get_name(r, name) || !get(r, &instance, 4) || !get(r, &version, 2) || !get(r, &flags, 1) ||
        !get(r, &length, 4) || !get_part(r, length, &fields))
        return truncated(r, "a record");
    snprintf(where, sizeof(where), "%s.%u", name, instance);
    struct entry *e = find(l, name, instance, &index);
    if (!e) {
        if (flags & FLAG_OPTIONAL)
            return 0;
        return error_set(r->err, EINVAL, "the saved state holds %s, which this machine does not have", where);
    }
    if (seen[index])
        return error_set(r->err, EINVAL, "the saved state is damaged: %s twice", where);
    seen[index] = 1;
    if (version > e->desc->version)
        return error_set(r->err, EINVAL, "the saved state of %s is version %u; this Lodge knows %u: use a newer one",
                         where, version, e->desc->version);
    return load_fields(&fields, where, e->desc->fields, version, e->obj);
}

static int load_records(const struct state_list *l, struct reader *r, u32 records, u8 *seen)
{
    int e;

    for (u32 i = 0; i < records; i++)
        if ((e = load_record(l, r, seen)))
            return e;
    if (r->left)
        return error_set(r->err, EINVAL, "the saved state is damaged: bytes left over at its end");
    for (u32 i = 0; i < l->n; i++)
        if (!seen[i])
            return error_set(r->err, EINVAL, "the saved state lacks %s.%u, which this machine has",
                             l->entry[i].desc->name, l->entry[i].instance);
    /* Every object is loaded before the first post_load is called, because one may look at other objects. */
    for (u32 i = 0; i < l->n; i++) {
        struct entry *en = &l->entry[i];
        if (en->desc->post_load && (e = en->desc->post_load(en->obj, r->err)))
            return e;
    }
    return 0;
}

int state_load(const struct state_list *l, const void *data, size_t len, struct error *err)
{
    struct reader r = { data, len, err };
    char m[sizeof(magic)];
    u32 format, records;

    if (!get(&r, m, sizeof(m)) || memcmp(m, magic, sizeof(m)))
        return error_set(err, EINVAL, "this is not a saved state of Lodge");
    if (!get(&r, &format, 4) || !get(&r, &records, 4))
        return truncated(&r, "its header");
    if (format != FORMAT)
        return error_set(err, EINVAL, "the saved state has format %u; this Lodge knows %u", format, FORMAT);
    u8 *seen = calloc(l->n + 1, 1);
    if (!seen)
        return error_set(err, ENOMEM, "no memory to load the saved state");
    int e = load_records(l, &r, records, seen);
    free(seen);
    return e;
}

/* ---- dump ---- */

static void dump_fields(FILE *out, const char *where, const struct state_field *f, const u8 *obj)
{
    for (; f->name; f++) {
        const u8 *p = obj + f->offset;
        for (u32 i = 0; f->nested && i < f->count; i++) {
            char inner[600];
            if (f->count > 1)
                snprintf(inner, sizeof(inner), "%s.%s[%u]", where, f->name, i);
            else
                snprintf(inner, sizeof(inner), "%s.%s", where, f->name);
            dump_fields(out, inner, f->nested, p + (size_t)i * f->elem);
        }
        if (f->nested)
            continue;
        fprintf(out, "%s.%s =", where, f->name);
        for (u32 i = 0; i < f->count; i++) {
            u64 v = 0;
            memcpy(&v, p + (size_t)i * f->elem, f->elem);
            fprintf(out, " 0x%" PRIx64, v);
        }
        fputc('\n', out);
    }
}

void state_dump(const struct state_list *l, FILE *out)
{
    for (u32 i = 0; i < l->n; i++) {
        char where[64];
        snprintf(where, sizeof(where), "%s.%u", l->entry[i].desc->name, l->entry[i].instance);
        dump_fields(out, where, l->entry[i].desc->fields, l->entry[i].obj);
    }
}
