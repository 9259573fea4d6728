/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fields.h - the one table of a machine's configuration: each field's name, type, range, unit, default and help, from
 * which options, their help, the manual page, completion, vm.yaml, JSON and its schema are made.
 *
 * The path of a field is its name, those of groups before it, and an item's number: "disks[1].queues". Every error of
 * this room begins with the path of what it is about and ": "; a front end puts in its place how its user wrote it.
 */
#ifndef LODGE_CONFIG_FIELDS_H
#define LODGE_CONFIG_FIELDS_H

#include <stddef.h>
#include <stdio.h>

#include "config/config.h"

enum config_type {
    CONFIG_END,    /* of a table */
    CONFIG_BOOL,   /* bool; in an option alone ("readonly"), or on|off */
    CONFIG_NUMBER, /* u32 */
    CONFIG_SIZE,   /* u64, bytes; as text with K, M, G or T, a plain number counts MiB, or bytes with .bytes */
    CONFIG_TEXT,   /* char *, owned */
    CONFIG_CHOICE, /* u32, the index in choices */
    CONFIG_GROUP,  /* fields, within the structure at offset */
    CONFIG_LIST,   /* an array of items, whose fields are given (one without a name: plain values) */
};

struct config_field {
    const char *name;   /* in YAML and JSON: a-z, 0-9, _ */
    const char *option; /* as options have it, where it is another; "" : no option */
    const char *arg;    /* what an option's help calls its value: "FILE" */
    enum config_type type;
    size_t offset;

    u64 min, max, step; /* of NUMBER and SIZE; max 0: no limit. TEXT: of its length */
    const char *const *choices; /* ends with NULL */
    const char *def;    /* the default, as text; NULL: zero, no text */
    const char *bare;   /* what an option's key without a value means; NULL: it needs one (a BOOL: "on") */
    const char *zero;   /* a word for the value 0 or no text: "none" */
    bool bytes;         /* a plain number counts bytes */
    bool (*valid)(const char *text); /* TEXT: false: it has not the form that `form` says in words; or NULL */
    const char *form;

    const struct config_field *fields; /* of GROUP and LIST; the first is the head: what an option has before its keys */
    size_t present;     /* GROUP: offset of a bool that says that it was given; 0: none */
    size_t size, count; /* LIST: of an item; the offset of the u32 that counts them */
    u32 most;
    char colon;         /* 0, or how a head's text is cut for the sibling `tail`: ':' at the first, '/' at the last colon with no / after it */
    const char *tail;
    bool rest;          /* TEXT: takes all keys of the option that are not known here */
    enum config_path { PATH_NONE, PATH_FILE, PATH_FIRMWARE, PATH_URL, PATH_CHARDEV, PATH_SCREEN } path; /* what of a text is a path */
    bool live;          /* it can change while the machine runs */
    const char *unit;

    const char *help;   /* of the option, in a few words and lines */
    const char *text;   /* more, in sentences, for the manual page and the schema */
    const char *api;    /* its place in Cloud Hypervisor's VmConfig, "memory.size"; NULL: it has none */
};

extern const struct config_field config_fields[]; /* offsets in struct vm_config; ends with CONFIG_END */

static inline bool config_is_plain_list(const struct config_field *f)
{
    return f->type == CONFIG_LIST && !*f->fields->name;
}
static inline const char *config_option_name(const struct config_field *f) { return f->option ? f->option : f->name; }

/* The field of the table with this name, or option's name; or NULL. */
const struct config_field *config_find(const struct config_field *table, const char *name);
const struct config_field *config_find_option(const struct config_field *table, const char *name, size_t len);

/* The name in the table, or option's name, that is nearest to word and can be meant; or NULL. */
const char *config_near(const struct config_field *table, const char *word, bool options);

/* The field a path at the beginning of text leads to ("disks[1].queues: ..."): the outermost, its item (or 0), and how
   many bytes before ": ". NULL: it begins with none. key: the inner field, or NULL. */
const struct config_field *config_path_field(const char *text, u32 *item, const struct config_field **key, size_t *len);

/* ---- value.c: one value as text; at: the structure that holds the field ---- */

int must_check config_value_set(const struct config_field *f, void *at, const char *text, const char *path, struct error *err);
/* As config_value_set takes it, in out; false: it has none (a text that was not given). */
bool config_value_text(const struct config_field *f, const void *at, char *out, size_t size);
/* Adds an item with its defaults: *item. */
int must_check config_list_add(const struct config_field *f, void *at, void **item, const char *path, struct error *err);
/* What is in the field goes, and it has its default again. */
int must_check config_value_default(const struct config_field *f, void *at);
void config_value_free(const struct config_field *f, void *at);
/* What a value must be, in words: "a number from 1 to 64". */
void config_value_form(const struct config_field *f, char *out, size_t size);

/* ---- option.c ---- */

/* An option's value, "FILE,key=value" for groups and lists; value NULL: the option stood alone. first: it is the first
   of its name, so what a list has by default goes. */
int must_check config_option_set(struct vm_config *c, const struct config_field *f, bool first, const char *value, struct error *err);

/* ---- describe.c: the table for people and programs; -EIO, -ENOMEM ---- */

void config_option_arg(const struct config_field *f, char *out, size_t size); /* "FILE[,KEY=VALUE]"; "" if it takes none */
void config_option_help(const struct config_field *f, char *out, size_t size); /* with a number's range */
void config_describe_man(FILE *to);        /* the options, as items of an mdoc(7) list */
void config_describe_completion(FILE *to); /* a line an option: its name and what may follow */
int must_check config_describe_schema(FILE *to); /* JSON Schema 2020-12 of vm.yaml */

#endif
