/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml.c - vm.yaml, by libyaml. Its nodes become JSON whose values are all text. json.c reads that JSON by the table.
 * An error of json.c has a path. The file is then read a second time, to find the line and column of that path.
 *
 * A file from a stranger costs no more than its size. Anchors and aliases, by which a small text can stand for a large
 * one, are refused. Tags, keys that are not plain text, and a second document are refused, too.
 *
 * libyaml is used because its events have exact places, and it has been fuzzed for years. libfyaml 0.7.12, Debian 12's,
 * never returns for some inputs (tests/fuzz/fuzz_config.c found "%ets: ..." in a minute).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "config/fields.h"
#include "config/json.h"

enum { MOST = 1 << 20, DEPTH = 16, PATH_SIZE = 96 };

struct reader {
    const char *file, *text;
    size_t size;
    yaml_parser_t parser;
    struct error *err;
    const char *want; /* the path to look for, up to its ": "; NULL: none */
    size_t want_len, found_len;
    yaml_mark_t found; /* the place of the longest beginning of the path that was found */
};

/* ---- the place of an error ---- */

static int at_mark(const struct reader *r, yaml_mark_t m, const char *what, struct error *err)
{
    const char *p = r->text, *end = r->text + r->size;
    char quoted[96];

    for (size_t i = 0; i < m.line && p < end; i++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        p = newline ? newline + 1 : end;
    }
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    const char *newline = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
    const ptrdiff_t n = (newline ? newline : end) - p;
    snprintf(quoted, sizeof quoted, "%.*s", (int)MIN(n, (ptrdiff_t)sizeof quoted - 1), p < end ? p : "");
    return error_set(err, EINVAL, "%s:%zu:%zu: %s (the line is: %s)", r->file, m.line + 1, m.column + 1, what, quoted);
}

static json_t *fails(struct reader *r, const yaml_event_t *e, const char *what)
{
    if (!r->err->text[0])
        at_mark(r, e->start_mark, what, r->err);
    return NULL;
}

/* Notes that there is a node at this path. json.c cuts the names of unknown keys to 32 bytes. */
static void pass(struct reader *r, const char *path, yaml_mark_t mark)
{
    const size_t n = strlen(path);

    if (r->want && n > r->found_len && n <= r->want_len + 64 && !strncmp(path, r->want, MIN(n, r->want_len)) &&
        (n >= r->want_len || r->want[n] == '.' || r->want[n] == '[')) {
        r->found = mark;
        r->found_len = n;
    }
}

/* ---- events to JSON ---- */

static json_t *from_node(struct reader *r, yaml_event_t *e, const char *path, u32 depth);

/* Gets the next event. false: there is none, and r->err says why. The caller deletes the event in both cases. */
static bool next(struct reader *r, yaml_event_t *e)
{
    memset(e, 0, sizeof *e);
    if (yaml_parser_parse(&r->parser, e))
        return true;
    const yaml_parser_t *p = &r->parser;
    if (r->err->text[0])
        return false;
    if (p->error == YAML_MEMORY_ERROR)
        error_set(r->err, ENOMEM, "out of memory");
    else
        at_mark(r, p->error == YAML_READER_ERROR ? (yaml_mark_t){ p->problem_offset, 0, 0 } : p->problem_mark, p->problem ? p->problem : "this is no YAML", r->err);
    return false;
}

static bool is_text(const yaml_event_t *e)
{
    return e->type == YAML_SCALAR_EVENT && !memchr(e->data.scalar.value, 0, e->data.scalar.length);
}

static bool has_extras(const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_SCALAR_EVENT: return e->data.scalar.anchor || e->data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT: return e->data.sequence_start.anchor || e->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT: return e->data.mapping_start.anchor || e->data.mapping_start.tag;
    default: return e->type == YAML_ALIAS_EVENT;
    }
}

/* Reads one key and its value. false: it failed. */
static bool from_pair(struct reader *r, json_t *o, yaml_event_t *key, const char *path, u32 depth)
{
    char inner[PATH_SIZE];
    yaml_event_t e;
    json_t *v = NULL;

    if (!is_text(key) || has_extras(key) || key->data.scalar.length > 64)
        return fails(r, key, "a key is a word"), false;
    const char *name = (const char *)key->data.scalar.value;
    if (json_object_get(o, name))
        return fails(r, key, "this key is there twice"), false;
    snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", name);
    pass(r, inner, key->start_mark);
    if (next(r, &e))
        v = from_node(r, &e, inner, depth + 1);
    yaml_event_delete(&e);
    if (v && json_object_set_new(o, name, v))
        return fails(r, key, "a key is a word of UTF-8"), false;
    return v;
}

static json_t *from_mapping(struct reader *r, const char *path, u32 depth)
{
    json_t *o = json_object();
    bool good = o, more = good;

    while (good && more) {
        yaml_event_t e;
        good = next(r, &e);
        more = good && e.type != YAML_MAPPING_END_EVENT;
        good = good && (!more || from_pair(r, o, &e, path, depth));
        yaml_event_delete(&e);
    }
    if (!good) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *from_sequence(struct reader *r, const char *path, u32 depth)
{
    json_t *list = json_array();
    bool good = list, more = good;

    for (size_t i = 0; good && more; i++) {
        char inner[PATH_SIZE];
        yaml_event_t e;
        good = next(r, &e);
        more = good && e.type != YAML_SEQUENCE_END_EVENT;
        snprintf(inner, sizeof inner, "%s[%zu]", path, i);
        if (more)
            pass(r, inner, e.start_mark);
        json_t *v = more ? from_node(r, &e, inner, depth + 1) : NULL;
        good = good && (!more || (v && !json_array_append_new(list, v)));
        yaml_event_delete(&e);
    }
    if (!good) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *from_node(struct reader *r, yaml_event_t *e, const char *path, u32 depth)
{
    if (depth > DEPTH)
        return fails(r, e, "this is nested too deeply");
    if (has_extras(e))
        return fails(r, e, "anchors, aliases and tags are not taken here");
    if (e->type == YAML_MAPPING_START_EVENT)
        return from_mapping(r, path, depth);
    if (e->type == YAML_SEQUENCE_START_EVENT)
        return from_sequence(r, path, depth);
    json_t *v = is_text(e) ? json_stringn((const char *)e->data.scalar.value, e->data.scalar.length) : NULL;
    return v ? v : fails(r, e, "a value is a text of UTF-8");
}

/* ---- the file ---- */

/* Reads the one document of the stream. */
static json_t *read_document(struct reader *r)
{
    json_t *doc = NULL;
    bool over = false;

    while (!over && !r->err->text[0]) {
        yaml_event_t e;
        if (!next(r, &e))
            over = true;
        else if (e.type == YAML_STREAM_END_EVENT)
            over = true;
        else if (e.type == YAML_DOCUMENT_START_EVENT && doc)
            fails(r, &e, "there is a second document; a machine is one");
        else if (e.type != YAML_STREAM_START_EVENT && e.type != YAML_DOCUMENT_START_EVENT && e.type != YAML_DOCUMENT_END_EVENT)
            doc = from_node(r, &e, "", 0);
        yaml_event_delete(&e);
    }
    if (!doc && !r->err->text[0])
        at_mark(r, (yaml_mark_t){ 0, 0, 0 }, "there is nothing in it", r->err);
    if (doc && r->err->text[0]) {
        json_decref(doc);
        doc = NULL;
    }
    return doc;
}

static json_t *read_text(struct reader *r)
{
    if (!yaml_parser_initialize(&r->parser)) {
        error_set(r->err, ENOMEM, "out of memory");
        return NULL;
    }
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)r->text, r->size);
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    json_t *doc = read_document(r);
    yaml_parser_delete(&r->parser);
    return doc;
}

/* Finds the place of the path with which the sentence of json.c begins: r->found. */
static void find_place(struct reader *r, const struct error *inner)
{
    struct error ignored = { .code = 0 };
    const char *colon = strstr(inner->text, ": ");

    r->want = inner->text;
    r->want_len = colon ? (size_t)(colon - inner->text) : 0;
    r->err = &ignored;
    json_decref(read_text(r));
}

int config_from_yaml(struct vm_config *c, const char *file, const char *text, size_t size, struct error *err)
{
    struct reader r = { .file = file, .text = text, .size = size, .err = err };
    struct error inner = { .code = 0 };

    err->text[0] = 0;
    if (size > MOST)
        return error_set(err, E2BIG, "%s: it has more than 1 MiB", file);
    json_t *doc = read_text(&r);
    if (!doc)
        return err->text[0] ? -err->code : error_set(err, ENOMEM, "out of memory");
    const int rc = config_from_json(c, doc, CONFIG_AS_TEXT, &inner);
    json_decref(doc);
    if (!rc)
        return 0;
    if (rc == -ENOMEM)
        return error_set(err, ENOMEM, "out of memory");
    find_place(&r, &inner);
    return at_mark(&r, r.found, inner.text, err);
}

/* ---- out ---- */

/* Writes one character within double quotes. A character that YAML can print (YAML 1.2, 5.1) is written as it is,
   others by their number. Bytes that are not UTF-8 become "?". */
static const char *put_character(FILE *to, const char *p)
{
    static const char *const special[] = { "\xef\xbb\xbf", "\xef\xbf\xbe", "\xef\xbf\xbf", "\xe2\x80\xa8", "\xe2\x80\xa9" };
    static const char *const escape[] = { "feff", "fffe", "ffff", "2028", "2029" };
    const u8 *b = (const u8 *)p;
    const u32 n = plain_bytes(p);

    for (u32 i = 0; i < ARRAY_SIZE(special); i++)
        if (n == 3 && !memcmp(p, special[i], 3)) {
            fprintf(to, "\\u%s", escape[i]);
            return p + 3;
        }
    if (*p == '"' || *p == '\\') {
        fprintf(to, "\\%c", *p);
        return p + 1;
    }
    if (n) {
        fwrite(p, 1, n, to);
        return p + n;
    }
    const bool c1 = b[0] == 0xc2 && b[1] >= 0x80 && b[1] < 0xa0;
    if (b[0] < 0x80 || c1)
        fprintf(to, "\\x%02x", b[c1]);
    else
        fputc('?', to);
    return p + 1 + c1;
}

/* Is this the same text for every reader of YAML, and not a number, a truth value or null? */
static bool is_plain(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+=@-";
    static const char *const words[] = { "null", "true", "false", "yes", "no", "on", "off", "y", "n" };

    for (u32 i = 0; i < ARRAY_SIZE(words); i++)
        if (!strcasecmp(text, words[i]))
            return false;
    return *text && strspn(text, plain) == strlen(text) && (*text > '9' || *text == '/') && *text != '=' && *text != '@';
}

/* Writes a plain text if that is enough, else a text in double quotes. */
static void put_text(FILE *to, const char *text)
{
    if (is_plain(text)) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    while (*text)
        text = put_character(to, text);
    fputc('"', to);
}

static u32 items(const struct config_field *f, const void *at) { return *(const u32 *)(const void *)((const u8 *)at + f->count); }

static bool same_fields(const struct config_field *table, const void *a, const void *b);

static bool same(const struct config_field *f, const void *a, const void *b)
{
    const u8 *x = (const u8 *)a + f->offset, *y = (const u8 *)b + f->offset;
    bool equal = true;

    switch (f->type) {
    case CONFIG_BOOL: return *(const bool *)x == *(const bool *)y;
    case CONFIG_SIZE: return *(const u64 *)(const void *)x == *(const u64 *)(const void *)y;
    case CONFIG_GROUP: return same_fields(f->fields, x, y);
    case CONFIG_TEXT: {
        const char *s = *(char *const *)(const void *)x, *t = *(char *const *)(const void *)y;
        return s && t ? !strcmp(s, t) : s == t;
    }
    case CONFIG_LIST:
        equal = items(f, a) == items(f, b);
        for (u32 i = 0; i < items(f, a) && equal; i++)
            equal = same_fields(f->fields, x + i * f->size, y + i * f->size);
        return equal;
    default: return *(const u32 *)(const void *)x == *(const u32 *)(const void *)y;
    }
}

static bool same_fields(const struct config_field *table, const void *a, const void *b)
{
    for (; table->type; table++)
        if (!same(table, a, b))
            return false;
    return true;
}

/* Is this field written? plain has the default values, and one item of each list of groups. The head of an item says
   what the item is. */
static bool is_written(const struct config_field *f, const void *at, const void *plain, bool head)
{
    if (f->type == CONFIG_TEXT && !*(char *const *)(const void *)((const u8 *)at + f->offset))
        return false;
    if (f->type == CONFIG_GROUP && f->present)
        return *((const bool *)at + f->present);
    if (f->type == CONFIG_LIST && !config_is_plain_list(f))
        return items(f, at);
    return head || !same(f, at, plain);
}

static void put_scalar(FILE *to, const struct config_field *f, const void *at)
{
    char text[64];

    if (f->type == CONFIG_TEXT)
        put_text(to, *(char *const *)(const void *)((const u8 *)at + f->offset));
    else if (config_value_text(f, at, text, sizeof text))
        fputs(text, to);
    fputc('\n', to);
}

static bool put_fields(FILE *to, const struct config_field *table, const void *at, const void *plain, u32 indent, bool in_list, bool head);

static void put_list(FILE *to, const struct config_field *f, const void *at, const void *plain, u32 indent)
{
    const u8 *first = (const u8 *)at + f->offset;

    fputs(items(f, at) ? "\n" : " []\n", to);
    for (u32 i = 0; i < items(f, at); i++) {
        fprintf(to, "%*s- ", (int)indent, "");
        if (config_is_plain_list(f))
            put_scalar(to, f->fields, first + i * f->size);
        else if (!put_fields(to, f->fields, first + i * f->size, (const u8 *)plain + f->offset, indent + 2, true, true))
            fputs("{}\n", to);
    }
}

/* Returns false if it has written nothing. in_list: the first field stands behind an item's "- ". */
static bool put_fields(FILE *to, const struct config_field *table, const void *at, const void *plain, u32 indent, bool in_list, bool head)
{
    bool any = false;

    for (const struct config_field *f = table; f->type; f++) {
        if (!is_written(f, at, plain, head && f == table))
            continue;
        fprintf(to, "%*s%s:", in_list && !any ? 0 : (int)indent, "", f->name);
        any = true;
        if (f->type == CONFIG_LIST) {
            put_list(to, f, at, plain, indent + 2);
        } else if (f->type == CONFIG_GROUP) {
            fputc('\n', to);
            put_fields(to, f->fields, (const u8 *)at + f->offset, (const u8 *)plain + f->offset, indent + 2, false, f->present);
        } else {
            fputc(' ', to);
            put_scalar(to, f, at);
        }
    }
    return any;
}

int config_to_yaml(const struct vm_config *c, FILE *to)
{
    struct vm_config plain;
    struct error err;
    void *item;
    int rc = config_init(&plain);

    for (const struct config_field *f = config_fields; f->type && !rc; f++)
        if (f->type == CONFIG_LIST && !config_is_plain_list(f))
            rc = config_list_add(f, &plain, &item, f->name, &err);
    if (!rc)
        put_fields(to, config_fields, c, &plain, 0, false, false);
    config_free(&plain);
    return rc ? rc : ferror(to) ? -EIO : 0;
}
