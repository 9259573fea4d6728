/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - see json.h. */
#include "config/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/fields.h"

enum { PATH_SIZE = 96 };

/* ---- in ---- */

static int from_value(const struct config_field *f, void *at, const json_t *v, enum config_values values, const char *path, struct error *err);

static int wrong(const struct config_field *f, const char *path, struct error *err)
{
    char form[256];

    config_value_form(f, form, sizeof form);
    return error_set(err, EINVAL, "%s: it is %s", path, form);
}

static int from_number(const struct config_field *f, void *at, json_int_t n, const char *path, struct error *err)
{
    char text[40];

    if (n < 0 || (f->type != CONFIG_NUMBER && f->type != CONFIG_SIZE))
        return wrong(f, path, err);
    snprintf(text, sizeof text, f->type == CONFIG_SIZE ? "%lldB" : "%lld", (long long)n);
    return config_value_set(f, at, text, path, err);
}

static int from_scalar(const struct config_field *f, void *at, const json_t *v, enum config_values values, const char *path, struct error *err)
{
    const bool is_text = values == CONFIG_AS_TEXT || f->type == CONFIG_TEXT || f->type == CONFIG_CHOICE || f->type == CONFIG_SIZE;

    if (json_is_integer(v))
        return from_number(f, at, json_integer_value(v), path, err);
    if (json_is_boolean(v) && f->type == CONFIG_BOOL)
        return config_value_set(f, at, json_is_true(v) ? "on" : "off", path, err);
    if (!json_is_string(v) || !is_text || strlen(json_string_value(v)) != json_string_length(v))
        return wrong(f, path, err);
    return config_value_set(f, at, json_string_value(v), path, err);
}

static int from_list(const struct config_field *f, void *at, const json_t *v, enum config_values values, const char *path, struct error *err)
{
    int rc = json_is_array(v) ? 0 : wrong(f, path, err);

    if (!rc)
        config_value_free(f, at);
    for (size_t i = 0; i < json_array_size(v) && !rc; i++) {
        const json_t *from = json_array_get(v, i);
        char inner[PATH_SIZE];
        void *item;
        snprintf(inner, sizeof inner, "%s[%zu]", path, i);
        if ((rc = config_list_add(f, at, &item, inner, err)))
            break;
        if (!*f->fields->name) {
            rc = from_value(f->fields, item, from, values, inner, err);
            continue;
        }
        const struct config_field as_group = { .type = CONFIG_GROUP, .fields = f->fields };
        rc = from_value(&as_group, item, from, values, inner, err);
        if (!rc && f->fields->min && f->fields->type == CONFIG_TEXT && !f->fields->zero && !*(char **)((u8 *)item + f->fields->offset))
            rc = error_set(err, EINVAL, "%s: it needs \"%s\"", inner, f->fields->name);
    }
    return rc;
}

static int unknown(const struct config_field *table, const char *key, const char *path, struct error *err)
{
    const char *best = config_near(table, key, false), *dot = *path ? "." : "";

    if (best)
        return error_set(err, EINVAL, "%s%s%.32s: there is no such key; did you mean %s?", path, dot, key, best);
    return error_set(err, EINVAL, "%s%s%.32s: there is no such key", path, dot, key);
}

static int from_object(const struct config_field *table, void *at, const json_t *v, enum config_values values, const char *path, struct error *err)
{
    const char *key;
    json_t *inside;

    json_object_foreach((json_t *)(uintptr_t)v, key, inside) {
        const struct config_field *f = config_find(table, key);
        char inner[PATH_SIZE];
        int rc;
        if (!f)
            return unknown(table, key, path, err);
        snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", f->name);
        if ((rc = from_value(f, at, inside, values, inner, err)))
            return rc;
    }
    return 0;
}

/* A group may be written as its head alone: "disks: [a.img]". */
static int from_group(const struct config_field *f, void *at, const json_t *v, enum config_values values, const char *path, struct error *err)
{
    void *inner = (u8 *)at + f->offset;

    if (f->present)
        *(bool *)((u8 *)at + f->present) = !json_is_false(v);
    if (f->present && json_is_boolean(v))
        return 0;
    if (json_is_object(v))
        return from_object(f->fields, inner, v, values, path, err);
    return from_value(f->fields, inner, v, values, path, err);
}

static int from_value(const struct config_field *f, void *at, const json_t *v, enum config_values values, const char *path, struct error *err)
{
    return f->type == CONFIG_GROUP  ? from_group(f, at, v, values, path, err)
           : f->type == CONFIG_LIST ? from_list(f, at, v, values, path, err)
                                    : from_scalar(f, at, v, values, path, err);
}

int config_from_json(struct vm_config *c, const json_t *doc, enum config_values values, struct error *err)
{
    if (!json_is_object(doc))
        return error_set(err, EINVAL, "a configuration is a group of keys and values");
    return from_object(config_fields, c, doc, values, "", err);
}

/* ---- out ---- */

static json_t *object_of(const struct config_field *table, const void *at);

static json_t *text_json(const char *s)
{
    json_t *j = json_string(s);

    if (j)
        return j;
    char *plain = strdup(s); /* the text is not UTF-8; file names may be so */
    for (char *p = plain; p && *p;) {
        const u32 n = plain_bytes(p);
        if (!n)
            *p = '?';
        p += MAX(n, 1u);
    }
    j = plain ? json_string(plain) : NULL;
    free(plain);
    return j;
}

static const void *item_of(const struct config_field *f, const void *at, u32 i) { return (const u8 *)at + f->offset + i * f->size; }

static json_t *to_value(const struct config_field *f, const void *at)
{
    const u8 *from = (const u8 *)at + f->offset;
    const char *text;
    json_t *list;

    switch (f->type) {
    case CONFIG_BOOL: return json_boolean(*(const bool *)from);
    case CONFIG_NUMBER: return json_integer(*(const u32 *)(const void *)from);
    case CONFIG_CHOICE: return json_string(f->choices[*(const u32 *)(const void *)from]);
    case CONFIG_SIZE:
        return *(const u64 *)(const void *)from == CONFIG_CODE_CACHE_AUTO ? json_string("auto") : json_integer((json_int_t)*(const u64 *)(const void *)from);
    case CONFIG_TEXT: text = *(char *const *)(const void *)from; return text ? text_json(text) : json_null();
    case CONFIG_GROUP:
        return f->present && !*((const bool *)at + f->present) ? json_null() : object_of(f->fields, from);
    default:
        list = json_array();
        for (u32 i = 0; i < *(const u32 *)(const void *)((const u8 *)at + f->count); i++)
            if (json_array_append_new(list, *f->fields->name ? object_of(f->fields, item_of(f, at, i)) : to_value(f->fields, item_of(f, at, i)))) {
                json_decref(list);
                return NULL;
            }
        return list;
    }
}

static json_t *object_of(const struct config_field *table, const void *at)
{
    json_t *o = json_object();

    for (; table->type && o; table++) {
        json_t *v = to_value(table, at);
        if (json_is_null(v))
            continue;
        if (json_object_set_new(o, table->name, v)) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

json_t *config_to_json(const struct vm_config *c) { return object_of(config_fields, c); }

/* Sets v at a place such as "memory.size", which is in an inner object. */
static int set_at(json_t *o, const char *place, json_t *v)
{
    const char *dot = strchr(place, '.');
    char outer[32];

    if (!dot)
        return json_object_set_new(o, place, v);
    snprintf(outer, sizeof outer, "%.*s", (int)(dot - place), place);
    json_t *in = json_object_get(o, outer);
    if (!in && (json_object_set_new(o, outer, json_object()) || !(in = json_object_get(o, outer)))) {
        json_decref(v);
        return -1;
    }
    return set_at(in, dot + 1, v);
}

static json_t *api_object(const struct config_field *table, const void *at);

static json_t *api_value(const struct config_field *f, const void *at)
{
    const u8 *inner = (const u8 *)at + f->offset;

    if (f->type == CONFIG_GROUP) {
        if (f->present && !*((const bool *)at + f->present))
            return json_null();
        const char *head = f->fields->type == CONFIG_TEXT ? *(char *const *)(const void *)(inner + f->fields->offset) : "";
        if (!head)
            return json_null();
        return strchr(f->api, '.') ? to_value(f->fields, inner) : api_object(f->fields, inner);
    }
    if (f->type != CONFIG_LIST)
        return to_value(f, at);
    json_t *list = json_array();
    for (u32 i = 0; i < *(const u32 *)(const void *)((const u8 *)at + f->count); i++)
        if (json_array_append_new(list, api_object(f->fields, item_of(f, at, i)))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *api_object(const struct config_field *table, const void *at)
{
    json_t *o = json_object();

    for (; table->type && o; table++) {
        json_t *v = table->api ? api_value(table, at) : json_null();
        if (json_is_null(v))
            continue;
        if (set_at(o, table->api, v)) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

json_t *config_to_api(const struct vm_config *c)
{
    json_t *o = api_object(config_fields, c);

    if (o && ((c->rng && set_at(o, "rng.src", json_string("/dev/urandom"))) || set_at(o, "cpus.max_vcpus", json_integer(c->cpus)))) {
        json_decref(o);
        return NULL;
    }
    return o;
}
