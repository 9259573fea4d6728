/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml.c - vm.yaml, by libyaml: its nodes become JSON whose values are all text, which json.c reads by the table. An
 * error there has a path; the file is then read once more, to find the line and column of that path.
 *
 * A file from a stranger costs no more than its size: anchors and aliases, by which a small text stands for a large
 * one, are refused, and so are tags, keys that are no plain text, and a second document.
 *
 * Why libyaml: its events have exact places, and it has been fuzzed for years. libfyaml 0.7.12, Debian 12's, does not
 * come back from some inputs (tests/fuzz/fuzz_config.c found "%ets: ..." in a minute).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/parse.h"
#include "config/fields.h"
#include "config/json.h"

enum { MOST = 1 << 20, DEPTH = 16, PATH_SIZE = 96 };

struct reader {
    const char *file, *text;
    size_t size;
    yaml_parser_t parser;
    struct error *err;
    const char *want; /* the path that is looked for, up to its ": "; NULL: none */
    size_t want_len, found_len;
    yaml_mark_t found; /* of the longest beginning of it that is there */
};

/* ---- where an error is ---- */

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

/* A node at this path; json.c cuts the names of keys that it does not know to 32 bytes. */
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

/* The next event; false: there is none, and why is said. It is to be deleted in both cases. */
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

/* One key and its value; false: it failed. */
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

/* The one document of the stream. */
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

/* Where the path is that the sentence of json.c begins with: r->found. */
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

/* One character of UTF-8 within double quotes: as it is where YAML prints it (YAML 1.2, 5.1), else by its number. */
static const char *put_character(FILE *to, const char *p)
{
    const u8 *b = (const u8 *)p;
    const u32 n = b[0] < 0x80 ? 1 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    u32 code = n == 1 ? b[0] : b[0] & (0x7fu >> n);

    for (u32 i = 1; i < n; i++)
        code = code << 6 | (b[i] & 0x3f);
    const bool special = code == 0xfeff || code == 0xfffe || code == 0xffff || code == 0x2028 || code == 0x2029;
    if (code == '"' || code == '\\')
        fprintf(to, "\\%c", (int)code);
    else if (plain_bytes(p) && !special)
        fwrite(p, 1, n, to);
    else
        fprintf(to, "\\U%08x", code);
    return p + n;
}

/* Is it the same text to every reader of YAML, and no number, truth or nothing? */
static bool is_plain(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+=@-";
    static const char *const words[] = { "null", "true", "false", "yes", "no", "on", "off", "y", "n" };

    for (u32 i = 0; i < ARRAY_SIZE(words); i++)
        if (!strcasecmp(text, words[i]))
            return false;
    return *text && strspn(text, plain) == strlen(text) && (*text > '9' || *text == '/') && *text != '=' && *text != '@';
}

/* Plain where that will do, else in double quotes. */
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

static void put_value(FILE *to, const json_t *v, u32 indent, bool in_list);

static void put_scalar(FILE *to, const char *key, const json_t *v)
{
    char size[32];

    if (json_is_string(v))
        put_text(to, json_string_value(v));
    else if (json_is_boolean(v))
        fputs(json_is_true(v) ? "on" : "off", to);
    else if (!strcmp(key, "size") || !strcmp(key, "memory") || !strcmp(key, "rate") || !strcmp(key, "burst"))
        fputs(size_word((u64)json_integer_value(v), size), to);
    else
        fprintf(to, "%lld", (long long)json_integer_value(v));
    fputc('\n', to);
}

static void put_object(FILE *to, const json_t *o, u32 indent, bool in_list)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        fprintf(to, "%*s%s:", in_list ? 0 : (int)indent, "", key);
        in_list = false;
        if (!json_object_size(v) && !json_array_size(v) && (json_is_object(v) || json_is_array(v))) {
            fputs(json_is_object(v) ? " {}\n" : " []\n", to);
        } else if (json_is_object(v) || json_is_array(v)) {
            fputc('\n', to);
            put_value(to, v, indent + 2, false);
        } else {
            fputc(' ', to);
            put_scalar(to, key, v);
        }
    }
}

static void put_value(FILE *to, const json_t *v, u32 indent, bool in_list)
{
    size_t i;
    json_t *item_;

    if (json_is_object(v)) {
        put_object(to, v, indent, in_list);
        return;
    }
    json_array_foreach((json_t *)(uintptr_t)v, i, item_) {
        fprintf(to, "%*s- ", (int)indent, "");
        if (json_is_object(item_) && !json_object_size(item_))
            fputs("{}\n", to);
        else if (json_is_object(item_))
            put_object(to, item_, indent + 2, true);
        else
            put_scalar(to, "", item_);
    }
}

/* Takes away what is as it would be without; but an item keeps its head, which says what it is. */
static void without_defaults(json_t *o, const json_t *plain, const char *head)
{
    const char *key;
    json_t *v;
    void *next;

    json_object_foreach_safe(o, next, key, v) {
        json_t *d = json_object_get(plain, key);
        if (json_is_object(v) && json_is_object(d))
            without_defaults(v, d, NULL);
        if (d && (!head || strcmp(key, head)) && (json_equal(v, d) || (json_is_object(v) && !json_object_size(v))))
            json_object_del(o, key);
    }
}

/* The items of lists, against one that was just added. */
static int items_without_defaults(json_t *o, struct vm_config *plain)
{
    struct error err;
    json_t *item_;
    void *one;
    size_t i;

    for (const struct config_field *f = config_fields; f->type; f++)
        if (f->type == CONFIG_LIST && !config_is_plain_list(f) && config_list_add(f, plain, &one, f->name, &err))
            return -ENOMEM;
    json_t *defaults = config_to_json(plain);
    for (const struct config_field *f = config_fields; f->type && defaults; f++)
        if (f->type == CONFIG_LIST && !config_is_plain_list(f))
            json_array_foreach(json_object_get(o, f->name), i, item_)
                without_defaults(item_, json_array_get(json_object_get(defaults, f->name), 0), f->fields->name);
    json_decref(defaults);
    return defaults ? 0 : -ENOMEM;
}

int config_to_yaml(const struct vm_config *c, FILE *to)
{
    struct vm_config plain;
    json_t *o = config_to_json(c), *defaults = NULL;
    int rc = config_init(&plain);

    if (!rc && o && (defaults = config_to_json(&plain)))
        without_defaults(o, defaults, NULL);
    if (!rc)
        rc = defaults ? items_without_defaults(o, &plain) : -ENOMEM;
    if (!rc)
        put_value(to, o, 0, false);
    json_decref(o);
    json_decref(defaults);
    config_free(&plain);
    return rc ? rc : ferror(to) ? -EIO : 0;
}
