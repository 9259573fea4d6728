/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fields.h - the one table of a machine's configuration: each field's name, type, range, unit, default and help. The
 * options, their help, the manual page, completion, vm.yaml, JSON and its schema are made from it.
 *
 * The path of a field consists of the names of the groups before it, its name, and an item's number: "disks[1].queues".
 * Every error of this room begins with the path of its subject and ": ". A front end replaces the path with the form in
 * which its user wrote it.
 */
#ifndef LODGE_CONFIG_FIELDS_H
#define LODGE_CONFIG_FIELDS_H

#include <stddef.h>
#include <stdio.h>

#include "config/config.h"

enum config_type {
    CONFIG_END,    /* the end of a table */
    CONFIG_BOOL,   /* bool; in an option, the key alone ("readonly") or on|off */
    CONFIG_NUMBER, /* u32 */
    CONFIG_SIZE,   /* u64, bytes; as text with K, M, G or T; a plain number counts MiB, or bytes if .bytes */
    CONFIG_TEXT,   /* char *, owned */
    CONFIG_CHOICE, /* u32, the index in choices */
    CONFIG_GROUP,  /* fields that are within the structure at offset */
    CONFIG_LIST,   /* an array of items, whose fields are given (if the field has no name: plain values) */
};

struct config_field {
    const char *name;   /* in YAML and JSON: a-z, 0-9, _ */
    const char *option; /* the name in options, if it differs; "" : there is no option */
    const char *arg;    /* the name of its value in an option's help: "FILE" */
    enum config_type type;
    size_t offset;

    u64 min, max, step; /* of NUMBER and SIZE; max 0: no limit. TEXT: limits of its length */
    const char *const *choices; /* ends with NULL */
    const char *def;    /* the default, as text; NULL: zero, no text */
    const char *bare;   /* the value of an option's key that is given without one; NULL: it needs one (a BOOL: "on") */
    const char *zero;   /* a word that stands for the value 0 or for no text: "none" */
    bool bytes;         /* a plain number counts bytes */
    bool (*valid)(const char *text); /* TEXT: false: the text does not have the form that `form` describes; or NULL */
    const char *form;

    const struct config_field *fields; /* of GROUP and LIST; the first field is the head: the part of an option
                                          before its keys */
    size_t present;     /* GROUP: offset of a bool that says that the group was given; 0: none */
    size_t size, count; /* LIST: size of an item; offset of the u32 that counts the items */
    u32 most;
    char colon;         /* 0, or how a head's text is cut for the sibling `tail`: ':' at the first colon, '/' at the
                           last colon that has no / after it */
    const char *tail;
    bool rest;          /* TEXT: takes all keys of the option that are not in this table */
    /* which part of a text is a path */
    enum config_path { PATH_NONE, PATH_FILE, PATH_FIRMWARE, PATH_URL, PATH_CHARDEV, PATH_SCREEN } path;
    bool live;          /* it can change while the machine runs */
    const char *unit;

    const char *help;   /* help of the option, in a few words and lines */
    const char *text;   /* longer help, in sentences, for the manual page and the schema */
    const char *api;    /* its place in Cloud Hypervisor's VmConfig, "memory.size"; NULL: it has no place there */
};

extern const struct config_field config_fields[]; /* offsets in struct vm_config; ends with CONFIG_END */

static inline bool config_is_plain_list(const struct config_field *f)
{
    return f->type == CONFIG_LIST && !*f->fields->name;
}
static inline const char *config_option_name(const struct config_field *f) { return f->option ? f->option : f->name; }

/* The field of the table with this name, or with this option's name; or NULL. */
const struct config_field *config_find(const struct config_field *table, const char *name);
const struct config_field *config_find_option(const struct config_field *table, const char *name, size_t len);

/* The name in the table, or the option's name, that is nearest to word, if it is near enough; or NULL. */
const char *config_near(const struct config_field *table, const char *word, bool options);

/* Finds the field for the path at the beginning of text ("disks[1].queues: ..."). It returns the outermost field,
   its item (or 0), and the number of bytes before ": ". NULL: text begins with no path. key: the inner field, or
   NULL. */
const struct config_field *config_path_field(const char *text, u32 *item, const struct config_field **key, size_t *len);

/* ---- value.c: one value as text; at: the structure that holds the field ---- */

int must_check config_value_set(const struct config_field *f, void *at, const char *text, const char *path, struct error *err);
/* Writes the value to out in the form that config_value_set accepts. false: there is no value (a text that was not
   given). */
bool config_value_text(const struct config_field *f, const void *at, char *out, size_t size);
/* Adds an item with its defaults: *item. */
int must_check config_list_add(const struct config_field *f, void *at, void **item, const char *path, struct error *err);
/* Frees the content of the field and gives the field its default again. */
int must_check config_value_default(const struct config_field *f, void *at);
void config_value_free(const struct config_field *f, void *at);
/* Describes the form of a value in words: "a number from 1 to 64". */
void config_value_form(const struct config_field *f, char *out, size_t size);

/* ---- option.c ---- */

/* Sets a field from the value of an option, "FILE,key=value" for groups and lists. value NULL: the option stood
   alone. first: this is the first option of its name, so the default items of a list are removed. */
int must_check config_option_set(struct vm_config *c, const struct config_field *f, bool first, const char *value, struct error *err);

/* ---- describe.c: writes the table for people and programs; -EIO, -ENOMEM ---- */

/* "FILE[,KEY=VALUE]"; "" if the option takes no value */
void config_option_arg(const struct config_field *f, char *out, size_t size);
void config_option_help(const struct config_field *f, char *out, size_t size); /* with the range of a number */
void config_describe_man(FILE *to);        /* the options, as items of an mdoc(7) list */
void config_describe_completion(FILE *to); /* a line for each option: its name and what may follow it */
int must_check config_describe_schema(FILE *to); /* JSON Schema 2020-12 of vm.yaml */

#endif
