/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test.h - the unit tests' few words.
 *
 *   #include "test.h"
 *   TEST(fifo_overflows) { CHECK(uart_full(&u)); CHECK_EQ(u.lsr, 0x61); }
 *
 * test.c has the main(): it runs every TEST of the program, or the one named by the first argument.  A failed
 * check prints where and goes on; REQUIRE leaves the test.  A program may have its own main() and return
 * test_status() instead.
 */
#ifndef LODGE_TEST_H
#define LODGE_TEST_H

#include <stdio.h>
#include <string.h>

#include "base/base.h"

struct test_case {
    const char *name;
    void (*run)(void);
};

/* The linker gathers the cases: a section with a C name gets __start_ and __stop_ symbols. */
#define TEST(name_)                                                                                              \
    static void test_##name_(void);                                                                              \
    static const struct test_case *const test_case_##name_ __attribute__((used, section("lodge_tests"))) =       \
        &(const struct test_case){ #name_, test_##name_ };                                                       \
    static void test_##name_(void)

void test_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int test_status(void); /* exit status: 0, or 1 after any failure */
enum { TEST_SKIP = 77 };

#define CHECK(cond)                                           \
    do {                                                      \
        if (!(cond))                                          \
            test_fail(__FILE__, __LINE__, "%s", #cond);       \
    } while (0)

#define REQUIRE(cond)                                         \
    do {                                                      \
        if (!(cond)) {                                        \
            test_fail(__FILE__, __LINE__, "%s", #cond);       \
            return;                                           \
        }                                                     \
    } while (0)

/* Integers and pointers, compared and printed as 64 bits. */
#define CHECK_EQ(got, want)                                                                                      \
    do {                                                                                                         \
        u64 got_ = (u64)(got), want_ = (u64)(want);                                                              \
        if (got_ != want_)                                                                                       \
            test_fail(__FILE__, __LINE__, "%s is 0x%llx, not %s = 0x%llx", #got, (unsigned long long)got_,       \
                      #want, (unsigned long long)want_);                                                         \
    } while (0)

#define CHECK_STR(got, want)                                                                                     \
    do {                                                                                                         \
        const char *got_ = (got), *want_ = (want);                                                               \
        if (strcmp(got_, want_) != 0)                                                                            \
            test_fail(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"", #got, got_, want_);                        \
    } while (0)

/* For random tests: HAMMER_SEED of the environment, made odd, or what the test has by itself. */
u64 test_seed(u64 otherwise);

#endif
