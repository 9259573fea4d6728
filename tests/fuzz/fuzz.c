/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.c - a plain driver for fuzz targets: changes the seeds at random and calls the target.
 *
 *   target              20,000 inputs, always the same; LODGE_TEST_SECONDS=600 goes on for that long, from a
 *                       seed of its own that it prints (LODGE_TEST_SEED=N repeats it)
 *   target FILE...      runs the target on these files once
 *
 * An input that ends the process is left in fuzz-crash.bin; a thousand that take 200 seconds count as a hang.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CAP = 64 * 1024, SEEDS = 64, HANG_S = 200, DEFAULT_INPUTS = 20000 };

static uint8_t *current; /* for the signal handler */
static size_t current_size;

/* A sanitizer ends the process by exit. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void write_input(void)
{
    int fd = open("fuzz-crash.bin", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t n = write(fd, current, current_size);
    static const char text[] = "fuzz: this input is left in fuzz-crash.bin\n";

    n += write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)n;
}

static void keep_input(int sig)
{
    write_input();
    signal(sig, SIG_DFL);
    raise(sig);
}

static uint64_t rng_state;

/* xorshift64* (Vigna 2016). */
static uint64_t rng(void)
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return rng_state * 0x2545f4914f6cdd1dull;
}

static size_t below(size_t n)
{
    return n ? (size_t)(rng() % n) : 0;
}

static size_t mutate(uint8_t *p, size_t n)
{
    static const uint32_t edges[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
                                      0xffffffff, 0xfffffff0, 0xfffff000, 0x100000 };
    size_t at = below(n), len = below(n - at < 64 ? n - at : 64);
    uint64_t v = edges[below(sizeof(edges) / sizeof(edges[0]))];

    switch (n ? rng() % 9 : 6) {
    case 0:
        p[at] ^= (uint8_t)(1 << rng() % 8);
        break;
    case 1:
        p[at] = (uint8_t)rng();
        break;
    case 2: /* a number at the edge of something */
        memcpy(p + at, &v, n - at < 4 ? n - at : 4);
        break;
    case 3: /* the same with its sign all the way up */
        v |= 0xffffffff00000000ull;
        memcpy(p + at, &v, n - at < 8 ? n - at : 8);
        break;
    case 4:
        return at; /* cut off */
    case 5: /* cut out */
        memmove(p + at, p + at + len, n - at - len);
        return n - len;
    case 6: /* put in */
        len = below(64);
        if (n + len > CAP)
            break;
        memmove(p + at + len, p + at, n - at);
        for (size_t i = 0; i < len; i++)
            p[at + i] = (uint8_t)rng();
        return n + len;
    case 7: /* copy over */
        memmove(p + below(n - len), p + at, len);
        break;
    default: /* a little more or less */
        p[at] = (uint8_t)(p[at] + (int)(rng() % 33) - 16);
        break;
    }
    return n;
}

static int run(const uint8_t *data, size_t n)
{
    /* A copy of exactly this length: a sanitizer then sees a read past its end. */
    current = malloc(n + !n);
    current_size = n;
    memcpy(current, data, n);
    int r = LLVMFuzzerTestOneInput(current, n);
    free(current);
    return r;
}

static int run_files(int argc, char **argv)
{
    static uint8_t buf[1024 * 1024];

    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            perror(argv[i]);
            return 1;
        }
        run(buf, fread(buf, 1, sizeof(buf), f));
        fclose(f);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static uint8_t seeds[SEEDS][CAP], input[CAP];
    size_t size[SEEDS];
    unsigned nseeds = 0;
    const char *seconds = getenv("LODGE_TEST_SECONDS"), *seed = getenv("LODGE_TEST_SEED");
    time_t end = seconds ? time(NULL) + atol(seconds) : 0;
    unsigned long long runs = 0;

    static const int deadly[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM };
    for (unsigned i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
        signal(deadly[i], keep_input);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(write_input);
    if (argc > 1)
        return run_files(argc, argv);

    rng_state = seed ? strtoull(seed, NULL, 0) : end ? (uint64_t)time(NULL) * 0x9e3779b97f4a7c15ull : 1;
    rng_state |= !rng_state;
    printf("LODGE_TEST_SEED=%llu\n", (unsigned long long)rng_state);
    fflush(stdout);
    while (nseeds < SEEDS && (size[nseeds] = fuzz_seed(nseeds, seeds[nseeds], CAP)))
        run(seeds[nseeds], size[nseeds]), nseeds++;
    do {
        alarm(HANG_S);
        for (int i = 0; i < 1000; i++, runs++) {
            unsigned s = (unsigned)below(nseeds);
            size_t n = nseeds ? size[s] : 0;
            if (n)
                memcpy(input, seeds[s], n);
            for (unsigned m = 1 + (unsigned)(rng() % 6); m; m--)
                n = mutate(input, n);
            run(input, n);
        }
    } while (end ? time(NULL) < end : runs < DEFAULT_INPUTS);
    printf("%llu inputs\n", runs);
    return 0;
}
