/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - long options by table, sizes, and "did you mean".
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { WORD_MAX = 32 };

/* Edit distance with transposition as one step (Damerau); words longer than WORD_MAX are far from everything. */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned d[WORD_MAX + 1][WORD_MAX + 1];

    if (n > WORD_MAX || m > WORD_MAX)
        return 2 * WORD_MAX;
    for (size_t i = 0; i <= n; i++) {
        for (size_t j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned v = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            v = MIN(v, d[i - 1][j] + 1);
            v = MIN(v, d[i][j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                v = MIN(v, d[i - 2][j - 2] + 1);
            d[i][j] = v;
        }
    }
    return d[n][m];
}

const char *suggest(const char *word, const char *const *candidates)
{
    const char *best = NULL;
    unsigned least = (unsigned)strlen(word) / 3 + 1; /* one slip in three letters, and one for short words */

    for (; *candidates; candidates++) {
        unsigned d = distance(word, *candidates);
        /* "--mem" for --memory: the beginning of one candidate */
        if (strlen(word) >= 2 && !strncmp(word, *candidates, strlen(word)))
            d = MIN(d, 1);
        if (d <= least && (!best || d < least)) {
            least = d;
            best = *candidates;
        }
    }
    return best;
}

static int unknown(const struct option_def *table, const char *given, struct error *err)
{
    const char *names[64];
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

int options_parse(const struct option_def *table, int argc, char **argv, void *to, struct error *err)
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
        int r = o->set(to, value, err);
        if (r)
            return r;
    }
    return 0;
}

char *options_word(char **rest)
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

/* "raw|qcow2" holds value? */
static bool is_choice(const char *choices, const char *value)
{
    const size_t n = strlen(value);
    for (const char *c = choices; *c; c += strcspn(c, "|"), c += *c == '|')
        if (strcspn(c, "|") == n && !strncmp(c, value, n))
            return true;
    return false;
}

char *options_text(struct option_text **list, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    struct option_text *t = n < 0 ? NULL : malloc(sizeof *t + (size_t)n + 1);
    if (!t)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(t->text, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->next = *list;
    *list = t;
    return t->text;
}

void options_free(struct option_text **list)
{
    for (struct option_text *t; (t = *list); free(t))
        *list = t->next;
}

int options_keys(const struct option_def *table, const char *option, char *text, void *to, struct error *err)
{
    for (char *word, *rest = text; (word = options_word(&rest));) {
        const struct option_def *o = table;
        char *value = strchr(word, '=');
        const size_t n = value ? (size_t)(value - word) : strlen(word);
        const char *names[32];
        size_t k = 0;
        for (; o->name && (strlen(o->name) != n || strncmp(o->name, word, n)); o++)
            if (k < ARRAY_SIZE(names) - 1)
                names[k++] = o->name;
        if (!o->name) {
            char name[WORD_MAX + 1];
            names[k] = NULL;
            snprintf(name, sizeof name, "%.*s", (int)MIN(n, sizeof name - 1), word);
            const char *best = suggest(name, names);
            return best ? error_set(err, EINVAL, "--%s: unknown \"%s\"; did you mean %s?", option, name, best)
                        : error_set(err, EINVAL, "--%s: unknown \"%s\"; \"lodge help run\" says what it takes", option, name);
        }
        if (value)
            value++;
        if (!o->arg && value)
            return error_set(err, EINVAL, "--%s: %s takes no value", option, o->name);
        if (o->arg && (!value || !*value))
            return error_set(err, EINVAL, "--%s: %s needs a value: %s=%s", option, o->name, o->name, o->arg);
        if (o->arg && strchr(o->arg, '|') && !is_choice(o->arg, value))
            return error_set(err, EINVAL, "--%s: %s=%s: it is one of %s", option, o->name, value, o->arg);
        int r = o->set(to, value, err);
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

int parse_number(const char *text, u64 min, u64 max, u64 *value)
{
    u64 v = 0;

    if (!*text)
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (u64)(*text - '0'), &v))
            return -ERANGE;
    }
    if (v < min || v > max)
        return -ERANGE;
    *value = v;
    return 0;
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

int parse_size(const char *text, u64 *bytes)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = { { "", 20 }, { "B", 0 }, { "K", 10 }, { "M", 20 }, { "G", 30 }, { "T", 40 } };
    size_t digits = strspn(text, "0123456789");
    const char *suffix = text + digits;
    char number[24];
    u64 v;

    if (!digits)
        return -EINVAL;
    if (digits >= sizeof(number))
        return -ERANGE;
    memcpy(number, text, digits);
    number[digits] = 0;
    int r = parse_number(number, 0, UINT64_MAX, &v);
    if (r)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        size_t n = strlen(units[i].suffix);
        if (strncasecmp(suffix, units[i].suffix, n) ||
            (suffix[n] && (i < 2 || (strcasecmp(suffix + n, "iB") && strcasecmp(suffix + n, "B")))))
            continue;
        if (v > UINT64_MAX >> units[i].shift)
            return -ERANGE;
        *bytes = v << units[i].shift;
        return 0;
    }
    return -EINVAL;
}
