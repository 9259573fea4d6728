/* SPDX-License-Identifier: Apache-2.0 */
/* selfcheck.h - what the programs of selfcheck.c share: time, chance, and a line for what is wrong. */
#ifndef LODGE_TESTS_STATE_SELFCHECK_H
#define LODGE_TESTS_STATE_SELFCHECK_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;

extern struct shared { /* of all programs */
    u64 rounds[32], tsc, clock[3];
    u32 futex[4], bad;
} *sh;
extern unsigned self; /* this program's number */

u64 now(clockid_t c);
void bad(const char *format, ...) __attribute__((format(printf, 1, 2)));
u64 rnd(void);
int going(void); /* counts a round; 0: it was the last */
void pin(int cpu);

/* selfcheck_registers.c; every other one of these is disturbed by signals, too */
void registers(void);
/* selfcheck_clocks.c */
void clocks(void);
/* selfcheck_memory.c */
void memory(void);
void strings(void);
void gathers(void);
/* selfcheck_processes.c */
void processes(void);
void streams(void);
void turns0(void);
void turns1(void);
u64 digest(u64 h, const u8 *p, size_t n);
/* selfcheck_debugging.c */
void debugging(void);

#endif
