/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oracle - the host CPU as the judge of the software engine.
 *
 *   insn-oracle [-f] [-t] [-r] [-x] [-p CPU] [-n INSTRUCTIONS] [-s SEED] [-q SEQUENCE] [-v] [-N] [-c] [-m REPORTS]
 *
 * Runs random sequences on both and compares general registers, defined flags, x87, MXCSR, vectors, memory, and the
 * exception that ended them: vector, error code, RIP, CR2. -n: how many instructions the host is to execute
 * (1,000,000; with -f: how many programs; LODGE_TEST_SECONDS=600 goes on for that long from a new seed). -q: only that
 * sequence of the seed, with a listing. -t: the engine translates. -f: programs of loops, jumps and calls (flow.c), each
 * run several times in one guest: first cold, then hot, then cut by interrupts and kicks. -r: programs in real and
 * virtual-8086 mode (real.c), which the host cannot run: the interpreter ("host" in what is printed) against the
 * translator. -x: as on a processor that touches the operands of MOVS and CMPS in the other order than the host. -p: on a
 * guest's processor of that model, for what an engine on such a host would do: x86-64-v1 to -v4. -N: the host against
 * itself, which tries this program. -c: what was covered. The first differences are shrunk and listed.
 */
#include "trial.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REPORTS = 20 };
#define NO_SEQUENCE (~0ull)

struct options {
    const char *seconds, *model; /* or NULL */
    u64 seed, want, only, reports;
    bool against_itself, verbose, coverage;
};

struct tally {
    u64 executed, different;
    u64 faults[32];          /* by vector: sequences that ended so */
    u64 ran[MNEMONIC_COUNT]; /* with -c */
};

static struct { u64 seed, sequence; } current; /* for the handler of SIGALRM */

/* Drops every instruction without which the two still differ. */
static void shrink(struct trial *t, struct sequence *q, struct diff *d)
{
    struct diff now;
    for (unsigned again = 1; again;) {
        again = 0;
        for (unsigned i = q->n; i-- > 0;) {
            struct sequence s = *q;
            if (q->insn[i].keep)
                continue;
            memmove(&s.insn[i], &s.insn[i + 1], (s.n - i - 1) * sizeof(s.insn[0]));
            s.n--;
            if (s.n && (!s.flow || gen_flags_defined(&s)) && !trial_run(t, &s, &now, true)) {
                *q = s;
                again = 1;
            }
        }
    }
    if (trial_run(t, q, d, true))
        diff_note(d, "  only behind what ran before it, or by chance\n");
}

static void report(struct trial *t, u64 seed, u64 n, struct sequence *q, struct diff *d)
{
    /* Said first: without one of its instructions a sequence may never end. */
    printf("-s %llu -q %llu differs in the run %s, shrinking it\n", (unsigned long long)seed, (unsigned long long)n,
        t->run_name ? t->run_name : "of the host");
    if (t->flow)
        fputs(d->text, stdout);
    shrink(t, q, d);
    printf("DIFFERENT (-s %llu -q %llu), %u-bit%s, vector %u, in:\n", (unsigned long long)seed, (unsigned long long)n, q->bits,
        q->segmented ? " segmented" : "", t->host.f.vector);
    print_initial(q);
    print_listing(t, q);
    printf("  in the run %s\n", t->run_name);
    fputs(d->text, stdout);
}

static void stuck(int sig)
{
    static const char text[] = "insn-oracle: stuck\n";
    ssize_t n = write(2, text, sizeof(text) - 1);
    char line[80];
    n += write(2, line,
        (size_t)snprintf(line, sizeof(line), "-s %llu -q %llu\n", (unsigned long long)current.seed, (unsigned long long)current.sequence));
    (void)n;
    _exit(1);
}

static void count(const struct sequence *q, unsigned k, u64 ran[MNEMONIC_COUNT])
{
    struct decoded d;
    for (unsigned i = 0; i < k; i++)
        if (q->insn[i].len && !q->insn[i].data && decode(&d, q->insn[i].bytes, 15, q->bits, true) == DECODE_OK)
            ran[d.desc->mnemonic]++;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* False: an option that there is not. */
static bool parse_options(int argc, char **argv, struct options *o, struct trial *t)
{
    int c;

    *o = (struct options){.seconds = getenv("LODGE_TEST_SECONDS"), .seed = 1, .want = ENGINE_ALONE ? 100000 : 1000000, .only = NO_SEQUENCE,
        .reports = MAX_REPORTS};
    if (o->seconds)
        o->seed = (u64)time(NULL);
    if (getenv("LODGE_TEST_SEED"))
        o->seed = strtoull(getenv("LODGE_TEST_SEED"), NULL, 0);
    while ((c = getopt(argc, argv, "n:s:q:vNcm:tfrxp:")) != -1)
        switch (c) {
        case 'n': o->want = strtoull(optarg, NULL, 0); break;
        case 's': o->seed = strtoull(optarg, NULL, 0); break;
        case 'q': o->only = strtoull(optarg, NULL, 0); break;
        case 'v': o->verbose = true; break;
        case 't': t->translated = true; break;
        case 'f': t->flow = true; break;
        case 'r': t->real = t->flow = true; break;
        case 'p': o->model = optarg; break;
        case 'x': t->other_order = true; break;
        case 'm': o->reports = strtoull(optarg, NULL, 0); break;
        case 'c': o->coverage = true; break;
        case 'N': o->against_itself = true; break;
        default: return false;
        }
    return true;
}

/* One descriptor of Linux's (GDT entry 15) holds the number of the CPU, which LSL shows: always the first. */
static void stay_on_one_cpu(void)
{
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    if (sched_setaffinity(0, sizeof first, &first))
        fprintf(stderr, "cannot stay on CPU 0: LSL and VERR of selector 7Bh may differ\n");
}

/* A sequence has a generator of its own, so that it can be repeated alone. */
static void make(const struct trial *t, const struct gen *g, u64 seed, u64 n, struct sequence *q)
{
    struct rng rng = {(seed * 0x9e3779b97f4a7c15ull) ^ (n * 0xd1342543de82ef95ull + 1)};
    rng.s |= 1;
    for (int i = 0; i < 8; i++)
        rng_next(&rng);
    if (t->real)
        gen_real(g, &rng, q);
    else if (t->flow)
        gen_program(g, &rng, q);
    else
        gen_sequence(g, &rng, q);
}

static void try_one(struct trial *t, const struct options *o, const struct gen *g, u64 n, struct tally *sum)
{
    static struct sequence q;
    struct diff d;
    const bool alone = o->only != NO_SEQUENCE;

    make(t, g, o->seed, n, &q);
    const bool same = trial_run(t, &q, &d, alone);
    if (o->verbose || (alone && same)) {
        printf("sequence %llu: %u-bit, vector %u\n", (unsigned long long)n, q.bits, t->host.f.vector);
        print_initial(&q);
        print_listing(t, &q);
    }
    sum->executed += t->flow ? 1 : trial_instructions(t, &q, t->host.s.rip);
    if (o->coverage)
        count(&q, trial_instructions(t, &q, t->host.s.rip), sum->ran);
    if (t->host.f.vector < ARRAY_SIZE(sum->faults))
        sum->faults[t->host.f.vector]++;
    if (!same && ++sum->different <= o->reports)
        report(t, o->seed, n, &q, &d);
}

static void print_sum(const struct trial *t, const struct options *o, const struct tally *sum, double took)
{
    printf("seed %llu: %llu %s %s in %.1f s, %llu sequences differ; ended by", (unsigned long long)o->seed, (unsigned long long)sum->executed,
        t->flow ? "programs" : "instructions", ENGINE_ALONE ? "in the engine alone" : t->real ? "interpreted and translated" : "on both", took,
        (unsigned long long)sum->different);
    for (unsigned i = 0; i < ARRAY_SIZE(sum->faults); i++)
        if (sum->faults[i])
            printf(" %u:%llu", i, (unsigned long long)sum->faults[i]);
    if (t->flow)
        printf("; %llu endless; %llu excused; %llu cuts", (unsigned long long)t->endless, (unsigned long long)t->excused,
            (unsigned long long)trial_cuts(t));
    if (t->other_order)
        printf("; the other operand was named %llu times", (unsigned long long)t->others);
    printf("\n");
}

int main(int argc, char **argv)
{
    static struct trial t;
    static struct tally sum;
    struct options o;

    if (!parse_options(argc, argv, &o, &t))
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    stay_on_one_cpu();
    int r = host_init();
    if (r) {
        fprintf(stderr, "this host does not let us map the test areas: %s\n", strerror(-r));
        return 77;
    }
    r = trial_open(&t, o.against_itself, o.model);
    if (r)
        return r == -ENOENT ? 77 : 1;
    struct gen *g = gen_new(host_xcr0, t.guests[0]);
    signal(SIGALRM, stuck);
    current.seed = o.seed;

    const double start = seconds(), end = o.seconds ? start + atof(o.seconds) : 0;
    const bool alone = o.only != NO_SEQUENCE;
    for (u64 n = alone ? o.only : 0; o.seconds ? seconds() < end : sum.executed < o.want; n++) {
        if (n % 256 == 0 || alone)
            alarm(400); /* however many others want the one processor we are on */
        current.sequence = n;
        try_one(&t, &o, g, n, &sum);
        if (alone || sum.different > 2000)
            break;
    }
    print_sum(&t, &o, &sum, seconds() - start);
    if (o.coverage)
        print_coverage(g, sum.ran);
    trial_close(&t);
    gen_free(g);
    return sum.different != 0;
}
