/* SPDX-License-Identifier: Apache-2.0 */
/* value.c - the value of one field: from text, to text, its default, and freeing it. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "config/fields.h"

enum { NAMES = 64 };

static void *place(const struct config_field *f, const void *at) { return (u8 *)(uintptr_t)at + f->offset; }
static u32 *counter(const struct config_field *f, const void *at) { return (u32 *)(void *)((u8 *)(uintptr_t)at + f->count); }

/* The items of a list are described by fields whose offsets count from the item. */
static void *item_at(const struct config_field *f, const void *at, u32 i) { return (u8 *)place(f, at) + i * f->size; }

int config_text(char **field, const char *fmt, ...)
{
    char *text;
    va_list ap;

    va_start(ap, fmt);
    const int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return -ENOMEM;
    free(*field);
    *field = text;
    return 0;
}

/* ---- the form of a value, in words ---- */

static void choices_text(const struct config_field *f, char *out, size_t size)
{
    size_t n = 0;

    for (u32 i = 0; f->choices[i] && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", !i ? "" : f->choices[i + 1] ? ", " : " or ", f->choices[i]);
}

static void number_text(const struct config_field *f, char *out, size_t size)
{
    const int n = f->max ? snprintf(out, size, "a number from %llu to %llu", (unsigned long long)f->min, (unsigned long long)f->max)
                         : snprintf(out, size, "a number from %llu on", (unsigned long long)f->min);

    if (f->unit && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, " (%s)", f->unit);
}

static void size_text(const struct config_field *f, char *out, size_t size)
{
    char least[32], most[32], step[32];
    size_t n = (size_t)snprintf(out, size, "a size");

    size_word(f->min, least), size_word(f->max, most), size_word(f->step, step);
    if (f->max && n < size)
        n += (size_t)snprintf(out + n, size - n, " from %s to %s", least, most);
    else if (f->min && n < size)
        n += (size_t)snprintf(out + n, size - n, " of at least %s", least);
    if (f->step && n < size)
        n += (size_t)snprintf(out + n, size - n, ", a multiple of %s", step);
    if (n < size)
        snprintf(out + n, size - n, " (a number with K, M, G or T)");
}

void config_value_form(const struct config_field *f, char *out, size_t size)
{
    switch (f->type) {
    case CONFIG_BOOL: snprintf(out, size, "on or off"); break;
    case CONFIG_NUMBER: number_text(f, out, size); break;
    case CONFIG_SIZE: size_text(f, out, size); break;
    case CONFIG_CHOICE: choices_text(f, out, size); break;
    case CONFIG_TEXT:
        if (f->form)
            snprintf(out, size, "%s", f->form);
        else if (f->max)
            snprintf(out, size, "a text of %llu to %llu bytes", (unsigned long long)f->min, (unsigned long long)f->max);
        else
            snprintf(out, size, f->min ? "a text that is not empty" : "a text");
        break;
    default: snprintf(out, size, f->type == CONFIG_LIST ? "a list" : "a group of keys");
    }
    if (f->zero && f->type != CONFIG_GROUP && f->type != CONFIG_LIST) {
        const size_t n = strlen(out);
        snprintf(out + n, size - n, "; or %s", f->zero);
    }
}

static int refuse(const struct config_field *f, const char *text, const char *path, struct error *err)
{
    char form[256];
    const char *best = f->type == CONFIG_CHOICE ? suggest(text, f->choices) : NULL;

    if (best)
        return error_set(err, EINVAL, "%s: did you mean %s?", path, best);
    config_value_form(f, form, sizeof form);
    return error_set(err, EINVAL, "%s: it is %s, and not \"%s\"", path, form, text);
}

/* ---- from text ---- */

static bool set_bool(bool *to, const char *text)
{
    static const char *const words[] = { "off", "on", "no", "yes", "false", "true" };

    for (u32 i = 0; i < ARRAY_SIZE(words); i++)
        if (!strcmp(text, words[i])) {
            *to = i & 1;
            return true;
        }
    return false;
}

static bool set_size(const struct config_field *f, u64 *to, const char *text)
{
    u64 bytes;

    if (f->def && !strcmp(f->def, "auto") && !strcmp(text, "auto")) {
        *to = CONFIG_CODE_CACHE_AUTO;
        return true;
    }
    if (f->bytes && *text && strspn(text, "0123456789") == strlen(text)) {
        if (parse_number(text, 0, UINT64_MAX, &bytes))
            return false;
    } else if (parse_size(text, &bytes)) {
        return false;
    }
    const bool off = !bytes && f->zero;
    if (!off && (bytes < f->min || (f->max && bytes > f->max) || (f->step && bytes % f->step)))
        return false;
    *to = bytes;
    return true;
}

static bool set_choice(const struct config_field *f, u32 *to, const char *text)
{
    for (u32 i = 0; f->choices[i]; i++)
        if (!strcmp(text, f->choices[i])) {
            *to = i;
            return true;
        }
    return false;
}

static int set_text(const struct config_field *f, char **to, const char *text, const char *path, struct error *err)
{
    const size_t n = strlen(text);

    if (n < f->min || (f->max && n > f->max) || (f->valid && !f->valid(text)))
        return refuse(f, text, path, err);
    return config_text(to, "%s", text) ? error_set(err, ENOMEM, "out of memory") : 0;
}

int config_value_set(const struct config_field *f, void *at, const char *text, const char *path, struct error *err)
{
    void *to = place(f, at);
    bool good = false;
    u64 n;

    if (f->zero && !strcmp(text, f->zero)) {
        config_value_free(f, at);
        if (f->type == CONFIG_SIZE)
            *(u64 *)to = 0;
        else if (f->type == CONFIG_NUMBER || f->type == CONFIG_CHOICE)
            *(u32 *)to = 0;
        return 0;
    }
    switch (f->type) {
    case CONFIG_BOOL: good = set_bool(to, text); break;
    case CONFIG_SIZE: good = set_size(f, to, text); break;
    case CONFIG_CHOICE: good = set_choice(f, to, text); break;
    case CONFIG_TEXT: return set_text(f, to, text, path, err);
    case CONFIG_NUMBER:
        if ((good = !parse_number(text, f->min, f->max ? f->max : UINT32_MAX, &n)))
            *(u32 *)to = (u32)n;
        break;
    default: break;
    }
    return good ? 0 : refuse(f, text, path, err);
}

/* ---- to text ---- */

bool config_value_text(const struct config_field *f, const void *at, char *out, size_t size)
{
    const void *from = place(f, at);
    char word[32];

    switch (f->type) {
    case CONFIG_BOOL: snprintf(out, size, *(const bool *)from ? "on" : "off"); return true;
    case CONFIG_NUMBER: snprintf(out, size, "%u", *(const u32 *)from); return true;
    case CONFIG_CHOICE: snprintf(out, size, "%s", f->choices[*(const u32 *)from]); return true;
    case CONFIG_SIZE:
        snprintf(out, size, "%s", *(const u64 *)from == CONFIG_CODE_CACHE_AUTO ? "auto" : size_word(*(const u64 *)from, word));
        return true;
    case CONFIG_TEXT:
        if (!*(char *const *)from)
            return false;
        snprintf(out, size, "%s", *(char *const *)from);
        return true;
    default: return false;
    }
}

/* ---- lists ---- */

static int default_fields(const struct config_field *table, void *at);

int config_list_add(const struct config_field *f, void *at, void **item, const char *path, struct error *err)
{
    u32 *n = counter(f, at);

    if (*n >= f->most)
        return error_set(err, EINVAL, "%s: there can be at most %u", path, f->most);
    *item = item_at(f, at, *n);
    memset(*item, 0, f->size);
    ++*n;
    if (default_fields(f->fields, *item))
        return error_set(err, ENOMEM, "out of memory");
    return 0;
}

/* ---- defaults, and freeing ---- */

int config_value_default(const struct config_field *f, void *at)
{
    struct error err;
    void *item;

    config_value_free(f, at);
    switch (f->type) {
    case CONFIG_GROUP:
        if (f->present)
            *(bool *)((u8 *)at + f->present) = false;
        return default_fields(f->fields, place(f, at));
    case CONFIG_LIST: {
        char words[64], *rest = words, *word;
        snprintf(words, sizeof words, "%s", f->def ? f->def : "");
        while (f->def && (word = strsep(&rest, " ")))
            if (config_list_add(f, at, &item, f->name, &err) || config_value_set(f->fields, item, word, f->name, &err))
                return -ENOMEM;
        return 0;
    }
    case CONFIG_SIZE: *(u64 *)place(f, at) = 0; break;
    case CONFIG_BOOL: *(bool *)place(f, at) = false; break;
    case CONFIG_TEXT: break;
    default: *(u32 *)place(f, at) = 0;
    }
    return f->def && config_value_set(f, at, f->def, f->name, &err) ? -ENOMEM : 0;
}

static int default_fields(const struct config_field *table, void *at)
{
    int rc = 0;

    for (const struct config_field *f = table; f->type && !rc; f++)
        rc = config_value_default(f, at);
    return rc;
}

void config_value_free(const struct config_field *f, void *at)
{
    if (f->type == CONFIG_TEXT) {
        free(*(char **)place(f, at));
        *(char **)place(f, at) = NULL;
    } else if (f->type == CONFIG_GROUP) {
        for (const struct config_field *k = f->fields; k->type; k++)
            config_value_free(k, place(f, at));
    } else if (f->type == CONFIG_LIST) {
        for (u32 i = 0, n = *counter(f, at); i < n; i++)
            for (const struct config_field *k = f->fields; k->type; k++)
                config_value_free(k, item_at(f, at, i));
        *counter(f, at) = 0;
    }
}

int config_init(struct vm_config *c)
{
    memset(c, 0, sizeof *c);
    return default_fields(config_fields, c);
}

void config_free(struct vm_config *c)
{
    for (const struct config_field *f = config_fields; f->type; f++)
        config_value_free(f, c);
}

/* Inserts items before those that are there, for the disks and cards of an image. */
static int insert(const char *list, struct vm_config *c, u32 n)
{
    const struct config_field *f = config_find(config_fields, list);
    u32 *count = counter(f, c);

    if (*count + n > f->most)
        return -E2BIG;
    memmove(item_at(f, c, n), item_at(f, c, 0), *count * f->size);
    memset(item_at(f, c, 0), 0, n * f->size);
    *count += n;
    for (u32 i = 0; i < n; i++)
        if (default_fields(f->fields, item_at(f, c, i)))
            return -ENOMEM;
    return 0;
}

int config_disks_insert(struct vm_config *c, u32 n) { return insert("disks", c, n); }
int config_nets_insert(struct vm_config *c, u32 n) { return insert("nets", c, n); }

/* ---- finding a field ---- */

const struct config_field *config_find(const struct config_field *table, const char *name)
{
    for (; table->type; table++)
        if (!strcmp(table->name, name))
            return table;
    return NULL;
}

const struct config_field *config_find_option(const struct config_field *table, const char *name, size_t len)
{
    for (; table->type; table++) {
        const char *o = config_option_name(table);
        if (*o && strlen(o) == len && !strncmp(o, name, len))
            return table;
    }
    return NULL;
}

const char *config_near(const struct config_field *table, const char *word, bool options)
{
    const char *names[NAMES + 1];
    u32 n = 0;

    for (; table->type && n < NAMES; table++) {
        const char *name = options ? config_option_name(table) : table->name;
        if (*name)
            names[n++] = name;
    }
    names[n] = NULL;
    return suggest(word, names);
}

const struct config_field *config_path_field(const char *text, u32 *item, const struct config_field **key, size_t *len)
{
    char name[32];
    const char *p = text;
    const struct config_field *f;
    size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz_0123456789");

    *item = 0;
    *key = NULL;
    snprintf(name, sizeof name, "%.*s", (int)MIN(n, sizeof name - 1), p);
    if (!(f = config_find(config_fields, name)))
        return NULL;
    p += n;
    if (*p == '[') {
        char *end;
        *item = (u32)strtoul(p + 1, &end, 10);
        if (*end != ']')
            return NULL;
        p = end + 1;
    }
    if (*p == '.' && f->fields) {
        n = strspn(++p, "abcdefghijklmnopqrstuvwxyz_0123456789");
        snprintf(name, sizeof name, "%.*s", (int)MIN(n, sizeof name - 1), p);
        *key = config_find(f->fields, name);
        p += n + (p[n] == '[' ? strcspn(p + n, "]") + 1 : 0);
    }
    if (*p != ':' || p[1] != ' ')
        return NULL;
    *len = (size_t)(p - text);
    return f;
}
