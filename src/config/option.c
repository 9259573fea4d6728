/* SPDX-License-Identifier: Apache-2.0 */
/*
 * option.c - sets a field from the value of one option of the command line.
 *
 * A group is written "HEAD,key=value,key": its first field, then others by name. ",," is a comma within a value. Each
 * option adds one item to a list. If a key of a group is a list, each such key adds one item.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/fields.h"

enum { PATH_SIZE = 96 };

/* Cuts the next word of "a,b=c" out in place; ",," is a comma within it. *rest moves on, and is NULL at the end. */
static char *next_word(char **rest)
{
    char *start = *rest, *to = start, *p = start;

    if (!start)
        return NULL;
    for (; *p && (*p != ',' || p[1] == ','); p++) {
        if (*p == ',')
            p++;
        *to++ = *p;
    }
    *rest = *p ? p + 1 : NULL;
    *to = 0;
    return start;
}

static void inner_path(char out[PATH_SIZE], const char *path, const struct config_field *f)
{
    snprintf(out, PATH_SIZE, "%s.%s", path, f->name);
}

/* Sets the value of a key. If the key is a list, it adds an item with the value. */
static int set_key(const struct config_field *k, void *at, const char *value, const char *path, struct error *err)
{
    void *item;
    int rc;

    if (k->type != CONFIG_LIST)
        return config_value_set(k, at, value, path, err);
    if ((rc = config_list_add(k, at, &item, path, err)))
        return rc;
    return config_value_set(k->fields, item, value, path, err);
}

/* Cuts "PATH:TAG" and similar texts. The part behind the colon belongs to another field. */
static char *cut_tail(const struct config_field *f, char *value)
{
    char *colon = f->colon == '/' ? strrchr(value, ':') : f->colon ? strchr(value, ':') : NULL;

    if (!colon || (f->colon == '/' && strchr(colon, '/')))
        return NULL;
    *colon = 0;
    return colon + 1;
}

static int set_with_tail(const struct config_field *fields, const struct config_field *f, void *at, char *value,
                         const char *path, struct error *err)
{
    char inner[PATH_SIZE];
    char *tail = cut_tail(f, value);
    int rc;

    inner_path(inner, path, f);
    if ((rc = set_key(f, at, value, inner, err)) || !tail)
        return rc;
    const struct config_field *other = config_find(fields, f->tail);
    inner_path(inner, path, other);
    return set_key(other, at, tail, inner, err);
}

static int unknown_key(const struct config_field *fields, const char *word, const char *path, struct error *err)
{
    char name[33];

    snprintf(name, sizeof name, "%.*s", (int)MIN(strcspn(word, "="), sizeof name - 1), word);
    const char *best = config_near(fields + 1, name, true);
    if (best)
        return error_set(err, EINVAL, "%s: unknown \"%s\"; did you mean %s?", path, name, best);
    return error_set(err, EINVAL, "%s: unknown \"%s\"; \"lodge help run\" says what it takes", path, name);
}

/* Adds a key to a field that takes all other keys, for a device's own options. */
static int add_rest(const struct config_field *f, void *at, const char *word, struct error *err)
{
    char **text = (char **)(void *)((u8 *)at + f->offset);
    const int rc = *text ? config_text(text, "%s,%s", *text, word) : config_text(text, "%s", word);
    return rc ? error_set(err, ENOMEM, "out of memory") : 0;
}

static int set_word(const struct config_field *fields, void *at, char *word, const char *path, struct error *err)
{
    const struct config_field *k = config_find_option(fields + 1, word, strcspn(word, "=")), *head = fields;
    char *value = strchr(word, '=');

    if (!k && head->type == CONFIG_LIST && !value) /* "disk,cdrom": the head itself is a list */
        return set_with_tail(fields, head, at, word, path, err);
    for (const struct config_field *f = fields; f->type && !k; f++)
        if (f->rest)
            return add_rest(f, at, word, err);
    if (!k)
        return unknown_key(fields, word, path, err);
    if (value)
        value++;
    const char *bare = k->bare ? k->bare : k->type == CONFIG_BOOL ? "on" : NULL;
    if ((!value && !bare) || (value && !*value))
        return error_set(err, EINVAL, "%s.%s: it needs a value: %s=%s", path, k->name, config_option_name(k), k->arg ? k->arg : "VALUE");
    char text[32];
    if (!value) {
        snprintf(text, sizeof text, "%s", bare);
        value = text;
    }
    return set_with_tail(fields, k, at, value, path, err);
}

/* at: the structure of the group, or the item. text is cut in place. */
static int set_group(const struct config_field *fields, void *at, char *text, const char *path, struct error *err)
{
    char *rest = text, *head = next_word(&rest), *word;
    int rc;

    if (!*head && fields->arg)
        return error_set(err, EINVAL, "%s: it needs %s", path, fields->arg);
    rc = fields->type == CONFIG_LIST ? set_word(fields, at, head, path, err) : set_with_tail(fields, fields, at, head, path, err);
    while (!rc && (word = next_word(&rest)))
        rc = set_word(fields, at, word, path, err);
    return rc;
}

/* If a group's head is a list ("boot"), an option that names any item replaces the list as a whole. */
static void empty_head(const struct config_field *f, void *at, const char *value)
{
    const struct config_field *head = f->fields;

    if (head->type != CONFIG_LIST)
        return;
    for (const char *p = value; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ','))
        if (!config_find_option(head + 1, p, strcspn(p, ",="))) {
            config_value_free(head, at);
            return;
        }
}

static int set_cut(struct vm_config *c, const struct config_field *f, char *value, struct error *err)
{
    char path[PATH_SIZE];
    void *item;
    int rc;

    if (f->type == CONFIG_GROUP) {
        if (f->present)
            *(bool *)((u8 *)c + f->present) = true;
        empty_head(f, (u8 *)c + f->offset, value);
        return set_group(f->fields, (u8 *)c + f->offset, value, f->name, err);
    }
    snprintf(path, sizeof path, "%s[%u]", f->name, *(u32 *)(void *)((u8 *)c + f->count));
    if ((rc = config_list_add(f, c, &item, path, err)))
        return rc;
    return config_is_plain_list(f) ? config_value_set(f->fields, item, value, path, err)
                                   : set_group(f->fields, item, value, path, err);
}

int config_option_set(struct vm_config *c, const struct config_field *f, bool first, const char *value, struct error *err)
{
    if (f->type != CONFIG_GROUP && f->type != CONFIG_LIST)
        return config_value_set(f, c, value ? value : f->bare ? f->bare : "on", f->name, err);
    if (!value) {
        if (f->present)
            *(bool *)((u8 *)c + f->present) = true;
        return 0;
    }
    if (first && f->type == CONFIG_LIST && f->def)
        config_value_free(f, c);
    char *cut = strdup(value);
    if (!cut)
        return error_set(err, ENOMEM, "out of memory");
    const int rc = set_cut(c, f, cut, err);
    free(cut);
    return rc;
}
