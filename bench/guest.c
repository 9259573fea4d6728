/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest - what a machine costs, seen from inside it.
 *
 *   guest KIND [NAME...]    kinds: compute, kernel, smp; with names only those tests
 *
 * One line a test: "BENCH kind name nanoseconds-per-operation result". The same static program runs on the bare host
 * and in a guest: the quotient of the times is the slowdown, and the results must be the same. The first and the last
 * line give CLOCK_MONOTONIC, for bench/run to hold against the host's.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "guest.h"

enum {
    SHORTEST_NS = 40000000, /* a run that is timed lasts about that long ... */
    REPEATS = 3,            /* ... and the best of so many counts */
    RESULT_N = 3,           /* the operations that make the result */
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static double time_of(const struct bench *b, long n)
{
    double start = now_ns();
    b->run(n);
    return now_ns() - start;
}

static void measure(const char *kind, const struct bench *b)
{
    if (b->possible && !b->possible())
        return;
    uint64_t result = b->run(RESULT_N);
    long n = 1;
    double best;
    for (;;) {
        double t = time_of(b, n);
        best = t / n;
        if (t >= SHORTEST_NS)
            break;
        /* Short runs say little of the speed: the next is longer by ten at most. */
        double more = t > 0 ? SHORTEST_NS * 1.2 / t : 10;
        n = (long)(n * (more < 10 ? more : 10)) + 1;
    }
    for (int i = 1; i < REPEATS; i++) {
        double t = time_of(b, n) / n;
        best = t < best ? t : best;
    }
    printf("BENCH %s %s %.2f %016llx\n", kind, b->name, best, (unsigned long long)result);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        const struct bench *benches;
    } kinds[] = { { "compute", compute_benches }, { "kernel", kernel_benches }, { "smp", smp_benches } };
    enum { KINDS = sizeof kinds / sizeof kinds[0] };

    if (argc > 1 && !strcmp(argv[1], "--exit")) /* what the test of exec runs */
        return 0;
    const struct bench *benches = NULL;
    for (int k = 0; k < KINDS; k++)
        if (argc > 1 && !strcmp(argv[1], kinds[k].name))
            benches = kinds[k].benches;
    if (!benches) {
        fprintf(stderr, "Usage: guest compute|kernel|smp [NAME...]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("CLOCK %.0f\n", now_ns());
    for (const struct bench *b = benches; b->name; b++) {
        bool chosen = argc == 2;
        for (int a = 2; a < argc; a++)
            chosen |= !strcmp(argv[a], b->name);
        if (chosen)
            measure(argv[1], b);
    }
    printf("CLOCK %.0f\n", now_ns());
    return 0;
}
