/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - long options by table. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { WORD_MAX = 32 };

static int unknown(const struct option_def *table, const char *given, struct error *err)
{
    const char *names[96];
    char word[WORD_MAX + 1];
    size_t n = 0, len = strcspn(given, "=");

    while (*given == '-' && len) {
        given++;
        len--;
    }
    for (; table->name && n < ARRAY_SIZE(names) - 1; table++)
        if (*table->name)
            names[n++] = table->name;
    names[n] = NULL;
    snprintf(word, sizeof(word), "%.*s", (int)MIN(len, sizeof(word) - 1), given);
    const char *best = len <= WORD_MAX ? suggest(word, names) : NULL;
    if (best)
        return error_set(err, EINVAL, "unknown option --%.*s; did you mean --%s?", (int)MIN(len, 64), given, best);
    return error_set(err, EINVAL, "unknown option --%.*s; --help lists them", (int)MIN(len, 64), given);
}

int options_parse(const struct option_def *table, option_field_set *set_field, int argc, char **argv, void *to, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        const struct option_def *o = table;
        const char *given = argv[i], *value = NULL;
        size_t len = strcspn(given, "=");
        const struct option_def *plain = table;
        while (plain->name && *plain->name)
            plain++;
        if (given[0] != '-' && plain->name) {
            int r = plain->set(to, given, err);
            if (r)
                return r;
            continue;
        }
        if (given[0] != '-' || !given[1])
            return error_set(err, EINVAL, "\"%s\" is not an option; options begin with --", given);
        if (given[1] != '-')
            return unknown(table, given, err);
        while (o->name && (!*o->name || strlen(o->name) != len - 2 || strncmp(o->name, given + 2, len - 2)))
            o++;
        if (!o->name)
            return unknown(table, given, err);
        if (given[len] == '=')
            value = given + len + 1;
        if (!o->arg && value)
            return error_set(err, EINVAL, "--%s takes no value", o->name);
        if (o->arg && o->arg[0] != '[' && !value) {
            if (i + 1 == argc)
                return error_set(err, EINVAL, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
            value = argv[++i];
        }
        int r = o->set ? o->set(to, value, err) : set_field(to, o->field, value, err);
        if (r)
            return r;
    }
    return 0;
}

void options_help(const struct option_def *table)
{
    for (; table->name; table++) {
        if (!*table->name)
            continue;
        char left[80];
        const char *text = table->help;
        const char *gap = table->arg && table->arg[0] != '[' ? " " : "";
        snprintf(left, sizeof(left), "--%s%s%s", table->name, gap, table->arg ? table->arg : "");
        bool wide = strlen(left) > 22;
        printf(wide ? "  %s\n" : "  %-22s", left);
        for (bool first = !wide; *text; first = false) {
            size_t n = strcspn(text, "\n");
            printf("%*s%.*s\n", first ? 1 : 25, "", (int)n, text);
            text += n + (text[n] == '\n');
        }
    }
}

int parse_backing(const char *option, const char *value, struct error *err)
{
    struct stat st;

    if (!strcmp(value, "any") || !strcmp(value, "none"))
        return 0;
    if (stat(value, &st))
        return error_set(err, errno, "%s=%s: it is any, none or a folder: %s", option, value, strerror(errno));
    return S_ISDIR(st.st_mode) ? 0 : error_set(err, ENOTDIR, "%s=%s: it is any, none or a folder", option, value);
}
