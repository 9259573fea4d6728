/* SPDX-License-Identifier: Apache-2.0 */
/* describe.c - writes the table for the manual page, the completion and the schema. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "config/fields.h"

static void value_arg(const struct config_field *f, char *out, size_t size)
{
    if (f->arg) {
        snprintf(out, size, "%s", f->arg);
    } else if (f->type == CONFIG_CHOICE) {
        size_t n = 0;
        for (u32 i = 0; f->choices[i] && n < size; i++)
            n += (size_t)snprintf(out + n, size - n, "%s%s", i ? "|" : "", f->choices[i]);
    } else {
        snprintf(out, size, f->type == CONFIG_BOOL ? "on|off" : "VALUE");
    }
}

/* "FILE[,KEY=VALUE]", "KIND[:FROM]": the head, its tail, and the key if there is only one. */
static void group_arg(const struct config_field *fields, char *out, size_t size)
{
    const struct config_field *only = NULL;
    char head[64];
    u32 keys = 0;

    for (const struct config_field *f = fields + 1; f->type; f++)
        if (*config_option_name(f)) {
            only = f;
            keys++;
        }
    value_arg(fields, head, sizeof head);
    size_t n = (size_t)snprintf(out, size, "%s", head);
    if (fields->colon && n < size)
        n += (size_t)snprintf(out + n, size - n, "[:%s]", config_find(fields, fields->tail)->arg);
    if (keys == 1 && n < size)
        snprintf(out + n, size - n, only->type == CONFIG_BOOL ? "[,%s]" : "[,%s=%s]", config_option_name(only), only->arg);
    else if (keys && n < size)
        snprintf(out + n, size - n, "[,KEY=VALUE]");
}

void config_option_arg(const struct config_field *f, char *out, size_t size)
{
    out[0] = 0;
    if (f->arg)
        snprintf(out, size, "%s", f->arg);
    else if (f->fields)
        group_arg(f->fields, out, size);
    else if (f->type != CONFIG_BOOL)
        value_arg(f, out, size);
}

void config_option_help(const struct config_field *f, char *out, size_t size)
{
    if (f->type == CONFIG_NUMBER && f->max)
        snprintf(out, size, "%s, %llu to %llu (%s)", f->help, (unsigned long long)f->min, (unsigned long long)f->max, f->def ? f->def : "0");
    else
        snprintf(out, size, "%s", f->help);
}

/* ---- the manual page ---- */

/* Writes text in the form of mdoc: each sentence on its own line, and nothing that is an escape or begins a line
   with a dot. */
static void man_text(FILE *to, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\\')
            fputs("\\e", to);
        else if (*p == '-')
            fputs("\\-", to);
        else if (*p == ' ' && p > text && p[-1] == '.' && p > text + 1 && p[-2] != '.' && p[1])
            fputc('\n', to);
        else
            fputc(*p, to);
    }
    fputc('\n', to);
}

static void man_word(FILE *to, const char *text)
{
    for (; *text; text++)
        *text == '-' ? fputs("\\-", to) : fputc(*text, to);
}

/* Writes what a value may be and what its default is, from the table alone. */
static void man_range(FILE *to, const struct config_field *f)
{
    const bool number = f->type == CONFIG_NUMBER || (f->type == CONFIG_SIZE && (f->max || f->min > 1));
    char form[256];

    config_value_form(f, form, sizeof form);
    if (number || f->type == CONFIG_CHOICE) {
        form[0] = (char)(form[0] >= 'a' && form[0] <= 'z' ? form[0] - 32 : form[0]);
        if (f->type == CONFIG_CHOICE)
            fputs("One of ", to), form[0] = (char)(form[0] | 32);
        man_word(to, form);
        if (f->def)
            fprintf(to, "; %s by default", f->def);
        else if (f->type == CONFIG_CHOICE)
            fprintf(to, "; %s by default", f->choices[0]);
        fputs(".\n", to);
    } else if (f->type == CONFIG_BOOL || (f->def && *f->def)) {
        fprintf(to, "%s by default.\n", f->def ? f->def : "off");
    }
    if (f->live)
        fputs("It can change while the machine runs.\n", to);
}

static void man_key(FILE *to, const struct config_field *k, bool head)
{
    char arg[128];

    value_arg(k, arg, sizeof arg);
    fputs(head ? ".It Ar " : ".It Cm ", to);
    if (!head) {
        man_word(to, config_option_name(k));
        fputs(k->type == CONFIG_BOOL ? " Ns Op = Ns Ar " : k->bare ? " Ns Op = Ns Ar " : "= Ns Ar ", to);
    }
    man_word(to, arg);
    /* the tail has no key of its own */
    const struct config_field *tail = head && k->colon ? config_find(k, k->tail) : NULL;
    if (tail)
        fprintf(to, " Ns Op : Ns Ar %s", tail->arg);
    fputc('\n', to);
    man_text(to, k->text);
    man_range(to, k);
    if (tail) {
        fprintf(to, ".Ar %s :\n", tail->arg);
        man_text(to, tail->text);
    }
}

void config_describe_man(FILE *to)
{
    for (const struct config_field *f = config_fields; f->type; f++) {
        char arg[128];
        if (!*config_option_name(f))
            continue;
        config_option_arg(f, arg, sizeof arg);
        fputs(".It Fl \\-", to);
        man_word(to, config_option_name(f));
        if (*arg == '[')
            fputs(" Ns Ar ", to);
        else if (*arg)
            fputs(" Ar ", to);
        man_word(to, arg);
        fputc('\n', to);
        man_text(to, f->text);
        if (!f->fields || config_is_plain_list(f)) {
            man_range(to, f);
            fprintf(to, f->type == CONFIG_LIST ? "May be given %u times.\n" : "", f->most);
            continue;
        }
        if (f->type == CONFIG_LIST)
            fprintf(to, f->most > 1 ? "May be given %u times.\n" : "May be given once.\n", f->most);
        fputs(".Bl -tag -width \"snapshot=on|off\"\n", to);
        for (const struct config_field *k = f->fields; k->type; k++)
            if (k == f->fields || *config_option_name(k))
                man_key(to, k, k == f->fields);
        fputs(".El\n", to);
    }
}

/* ---- completion ---- */

/* "OPTION KIND WORDS...": KIND is "file" where files may follow, "-" where nothing can be suggested. */
void config_describe_completion(FILE *to)
{
    for (const struct config_field *f = config_fields; f->type; f++) {
        const struct config_field *v = f->fields ? f->fields : f;
        char arg[128];
        if (!*config_option_name(f) || f->type == CONFIG_BOOL)
            continue;
        if (v->type == CONFIG_LIST)
            v = v->fields;
        config_option_arg(f, arg, sizeof arg);
        const bool files = v->arg && (!strcmp(v->arg, "FILE") || !strcmp(v->arg, "PATH") || !strcmp(v->arg, "WHAT"));
        fprintf(to, "%s %s", config_option_name(f), files ? "file" : "-");
        for (u32 i = 0; v->choices && v->choices[i]; i++)
            fprintf(to, " %s", v->choices[i]);
        for (const char *p = v->form; p && (p = strpbrk(p, "abcdefghijklmnopqrstuvwxyz"));) { /* "stdio", "file:" */
            const size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz");
            if (p[n] == ':' || p[n] == ',' || !p[n])
                fprintf(to, " %.*s", (int)(n + (p[n] == ':')), p);
            p += n + strspn(p + n, ":ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        }
        if (v->zero && *v->zero != '0')
            fprintf(to, " %s", v->zero);
        fputc('\n', to);
    }
}

/* ---- the schema ---- */

static json_t *schema_of(const struct config_field *f);

static json_t *schema_object(const struct config_field *table)
{
    json_t *properties = json_object();

    for (; table->type; table++)
        json_object_set_new(properties, table->name, schema_of(table));
    return json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0, "properties", properties);
}

static json_t *schema_choices(const struct config_field *f)
{
    json_t *list = json_array();

    for (u32 i = 0; f->choices[i]; i++)
        json_array_append_new(list, json_string(f->choices[i]));
    return json_pack("{s:o}", "enum", list);
}

static void set_number(json_t *o, const char *key, u64 n)
{
    if (n)
        json_object_set_new(o, key, json_integer((json_int_t)n));
}

/* Bytes, or a text with a unit. A word for zero is a further choice. */
static json_t *schema_size(const struct config_field *f)
{
    json_t *number = json_pack("{s:s}", "type", "integer"), *any = json_array();

    json_object_set_new(number, "minimum", json_integer(f->zero ? 0 : (json_int_t)f->min));
    set_number(number, "maximum", f->max);
    set_number(number, "multipleOf", f->step);
    json_array_append_new(any, number);
    json_array_append_new(any, json_pack("{s:s, s:s}", "type", "string", "pattern", "^([0-9]+([BbKkMmGgTt](i?[Bb])?)?|auto)$"));
    return json_pack("{s:o}", "anyOf", any);
}

static json_t *schema_value(const struct config_field *f)
{
    json_t *o;

    switch (f->type) {
    case CONFIG_BOOL: return json_pack("{s:[s,s]}", "type", "boolean", "string");
    case CONFIG_CHOICE: return schema_choices(f);
    case CONFIG_SIZE: return schema_size(f);
    case CONFIG_NUMBER:
        o = json_pack("{s:s}", "type", "integer");
        json_object_set_new(o, "minimum", json_integer(f->zero ? 0 : (json_int_t)f->min));
        set_number(o, "maximum", f->max);
        return o;
    case CONFIG_TEXT:
        o = json_pack("{s:s}", "type", "string");
        set_number(o, "minLength", f->min);
        set_number(o, "maxLength", f->max);
        return o;
    case CONFIG_LIST:
        o = json_pack("{s:s, s:i}", "type", "array", "maxItems", (int)f->most);
        if (config_is_plain_list(f)) {
            json_object_set_new(o, "items", schema_of(f->fields));
        } else {
            json_t *item = schema_object(f->fields);
            json_object_set_new(o, "items", json_pack("{s:[o,o]}", "anyOf", schema_of(f->fields), item));
        }
        return o;
    default:
        o = json_pack("{s:[o,o]}", "anyOf", schema_of(f->fields), schema_object(f->fields));
        if (f->present)
            json_array_append_new(json_object_get(o, "anyOf"), json_pack("{s:s}", "type", "boolean"));
        return o;
    }
}

static json_t *schema_of(const struct config_field *f)
{
    json_t *o = schema_value(f);

    if (f->text)
        json_object_set_new(o, "description", json_string(f->text));
    if (f->unit)
        json_object_set_new(o, "x-unit", json_string(f->unit));
    if (f->def && f->type == CONFIG_NUMBER)
        json_object_set_new(o, "default", json_integer(atoll(f->def)));
    else if (f->def && f->type == CONFIG_BOOL)
        json_object_set_new(o, "default", json_boolean(!strcmp(f->def, "on")));
    else if (f->def && f->type != CONFIG_LIST)
        json_object_set_new(o, "default", json_string(f->def));
    else if (f->type == CONFIG_CHOICE)
        json_object_set_new(o, "default", json_string(f->choices[0]));
    if (f->live)
        json_object_set_new(o, "x-live", json_true());
    return o;
}

int config_describe_schema(FILE *to)
{
    json_t *o = schema_object(config_fields);
    int rc = 0;

    if (!o)
        return -ENOMEM;
    json_object_set_new(o, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
    json_object_set_new(o, "title", json_string("A virtual machine of Lodge (vm.yaml)"));
    if (json_dumpf(o, to, JSON_INDENT(2)) || fputc('\n', to) == EOF)
        rc = -EIO;
    json_decref(o);
    return rc;
}
