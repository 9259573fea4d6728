/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selfcheck.c - programs of a Linux guest that check themselves without pause, for a host that stops them at any
 * moment: this file starts them all.
 *
 *   selfcheck SECONDS SEED      all at once, about that long by the guest's clock; a line for what is wrong, and at
 *                               the end "rounds NAME N" a program and "all done"
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "selfcheck.h"

struct shared *sh;
unsigned self;

static u64 end_ns, seed;

u64 now(clockid_t c)
{
    struct timespec t;
    clock_gettime(c, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

void bad(const char *format, ...)
{
    char text[400];
    va_list ap;
    int n = snprintf(text, sizeof text, "bad: ");
    va_start(ap, format);
    n += vsnprintf(text + n, sizeof text - (size_t)n - 1, format, ap);
    va_end(ap);
    text[n++] = '\n';
    if (__atomic_add_fetch(&sh->bad, 1, __ATOMIC_SEQ_CST) < 100 && write(1, text, (size_t)n) < 0)
        _exit(1);
}

u64 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

int going(void)
{
    return ++sh->rounds[self] < 5 || now(CLOCK_MONOTONIC) < end_ns;
}

void pin(int cpu)
{
    cpu_set_t s;
    CPU_ZERO(&s);
    CPU_SET((unsigned)cpu % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &s);
    sched_setaffinity(0, sizeof s, &s);
}

static const struct program {
    const char *name;
    void (*run)(void);
} programs[] = {
    { "registers", registers }, { "registers+signals", registers }, { "clocks", clocks }, { "clocks2", clocks }, { "memory", memory },
    { "strings", strings }, { "gathers", gathers }, { "processes", processes }, { "streams", streams }, { "turns", turns0 },
    { "turns2", turns1 }, { "debugging", debugging },
};
enum { PROGRAMS = sizeof programs / sizeof *programs };

/* What the program "processes" starts: the digest goes to descriptor 9. */
static int print_digest(u64 s)
{
    u8 data[512];
    u64 h = s;
    for (unsigned k = 0; k < 40; k++) {
        memset(data, (int)(s >> k & 255), sizeof data);
        h = digest(h, data, sizeof data);
    }
    return write(9, &h, 8) != 8;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--digest"))
        return print_digest(strtoul(argv[2], NULL, 10));
    if (argc != 3)
        return 2;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    end_ns = now(CLOCK_MONOTONIC) + strtoul(argv[1], NULL, 10) * 1000000000ull;
    const u64 first = strtoul(argv[2], NULL, 10);
    printf("go\n");
    fflush(stdout);
    pid_t pid[PROGRAMS];
    for (unsigned k = 0; k < PROGRAMS; k++) {
        self = k;
        seed = (first + 1) * 0x9e3779b97f4a7c15ull + k * 0xd1342543de82ef95ull;
        seed |= 1;
        if (!(pid[k] = fork())) {
            programs[k].run();
            _exit(0);
        }
    }
    for (unsigned k = 0; k < PROGRAMS; k++) {
        int status;
        if (pid[k] < 0 || waitpid(pid[k], &status, 0) < 0 || status)
            bad("%s ended with %#x", programs[k].name, status);
        printf("rounds %s %lu\n", programs[k].name, sh->rounds[k]);
    }
    printf("all done\n");
    return 0;
}
