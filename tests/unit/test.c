/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test.c - main() of the unit tests.  In a library of its own, so that a program with its own main() keeps it.
 */
#include "test.h"

#include <stdarg.h>
#include <stdlib.h>

extern const struct test_case *const __start_lodge_tests[] __attribute__((weak));
extern const struct test_case *const __stop_lodge_tests[] __attribute__((weak));

static int failures; /* of a test program, not of Lodge: threads of a test add to it atomically */

void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    char text[1024];

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED) <= 50)
        fprintf(stderr, "%s:%d: %s\n", file, line, text);
}

int test_status(void)
{
    return __atomic_load_n(&failures, __ATOMIC_RELAXED) != 0;
}

u64 test_seed(u64 otherwise)
{
    const char *seed = getenv("HAMMER_SEED");
    return seed ? strtoull(seed, NULL, 0) | 1 : otherwise;
}

/* Weak: a program may bring its own. */
__attribute__((weak)) int main(int argc, char **argv)
{
    int ran = 0;

    for (const struct test_case *const *t = __start_lodge_tests; t < __stop_lodge_tests; t++) {
        if (argc > 1 && strcmp(argv[1], (*t)->name) != 0)
            continue;
        int before = failures;
        (*t)->run();
        printf("%s %s\n", failures == before ? "ok  " : "FAIL", (*t)->name);
        fflush(stdout);
        ran++;
    }
    if (!ran) {
        fprintf(stderr, "no such test\n");
        return 1;
    }
    return test_status();
}
