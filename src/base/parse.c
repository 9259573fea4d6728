/* SPDX-License-Identifier: Apache-2.0 */
/* parse.c - see parse.h. */
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

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
    unsigned least = (unsigned)strlen(word) / 3 + 1; /* one slip in three letters, and one in a short word */

    for (; *candidates; candidates++) {
        unsigned d = distance(word, *candidates);
        /* "mem" for "memory": the beginning of one candidate */
        if (strlen(word) >= 2 && !strncmp(word, *candidates, strlen(word)))
            d = MIN(d, 1);
        if (d <= least && (!best || d < least)) {
            least = d;
            best = *candidates;
        }
    }
    return best;
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

const char *size_word(u64 bytes, char out[32])
{
    static const char units[] = "BKMGT";
    u32 n = bytes ? 0 : 2; /* "0M" is 0 in any unit */

    while (n < 4 && bytes && !(bytes % 1024)) {
        bytes /= 1024;
        n++;
    }
    snprintf(out, 32, "%llu%c", (unsigned long long)bytes, units[n]);
    return out;
}
