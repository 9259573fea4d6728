/* SPDX-License-Identifier: Apache-2.0 */
/* selfcheck_memory.c - memory that is closed, moved or given back is as it should be, whatever instruction finds it. */
#define _GNU_SOURCE
#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <sys/mman.h>
#include <string.h>
#include <unistd.h>

#include "selfcheck.h"

static u64 key_of(u64 n) { return (n + 1) * 0x9e3779b97f4a7c15ull; }

static volatile u64 faults;
static void on_segv(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    faults++;
    if (mprotect((void *)((u64)info->si_addr & ~0xfffull), 4096, PROT_READ | PROT_WRITE))
        _exit(9);
}
void memory(void)
{
    enum { PAGES = 200 };
    struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &sa, NULL);
    u64 *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (; going();) {
        const u64 key = rnd();
        u64 want = 0, n = rnd() % PAGES;
        madvise(p, PAGES * 4096, MADV_DONTNEED);
        for (u64 k = 0; k < PAGES * 512; k += 1 + k % 61)
            p[k] = key * k;
        faults = 0;
        for (u64 k = 0; k < n; k++) { /* which of them are closed, the handler counts */
            const u64 page = rnd() % PAGES;
            if (mprotect(p + page * 512, 4096, rnd() & 1 ? PROT_NONE : PROT_READ))
                bad("mprotect: %d", errno);
        }
        u64 *q = mremap(p, PAGES * 4096, PAGES * 4096, MREMAP_MAYMOVE);
        if (q != p)
            bad("mremap to the same size");
        if ((q = mmap(NULL, PAGES * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
            bad("mmap: %d", errno);
        mprotect(p, PAGES * 4096, PROT_READ | PROT_WRITE); /* one mapping again */
        if (mremap(p, PAGES * 4096, PAGES * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, q) != q)
            bad("mremap: %d", errno);
        p = q;
        for (u64 k = 0; k < n; k++)
            mprotect(p + rnd() % PAGES * 512, 4096, rnd() & 1 ? PROT_NONE : PROT_READ);
        for (u64 k = 0; k < PAGES * 512; k += 1 + k % 61) {
            want = key * k;
            const u64 got = __atomic_fetch_add(p + k, 1, __ATOMIC_SEQ_CST);
            if (got != want || p[k] != want + 1)
                bad("memory at %lu: %#lx, not %#lx", k, got, want);
        }
        mprotect(p, PAGES * 4096, PROT_READ | PROT_WRITE);
    }
}

/* Strings of all lengths, whose pages come while the instruction runs; gathers likewise. */
void strings(void)
{
    enum { SIZE = 1 << 20 };
    u8 *a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    u8 *b = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (u64 k = 0; k < SIZE; k++)
        a[k] = (u8)(k * 7 + (k >> 8) * 3 + 1);
    for (; going();) {
        const u64 n = rnd() % (SIZE - 64), from = rnd() % (SIZE - n), to = rnd() % (SIZE - n);
        madvise(b, SIZE, MADV_DONTNEED);
        void *d = b + to;
        const void *s = a + from;
        u64 c = n;
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(c)::"memory");
        if (d != b + to + n || s != a + from + n || c)
            bad("REP MOVSB of %lu ends at %ld, %ld, %lu", n, (long)((u8 *)d - b - to), (long)((const u8 *)s - a - from), c);
        d = b + to, s = a + from, c = n + 1;
        u8 equal = 1;
        if (n)
            __asm__ volatile("cmp %%eax, %%eax; repe cmpsb; sete %3" : "+D"(d), "+S"(s), "=c"(c), "=q"(equal) : "2"(n) : "memory", "cc");
        if (n && (c || !equal))
            bad("REPE CMPSB of %lu stops at %lu", n, n - c);
        d = b + to, c = n / 8;
        __asm__ volatile("std; rep stosq; cld" : "=D"(d), "+c"(c) : "0"(b + to + n / 8 * 8 - (n >= 8 ? 8 : 0)), "a"(key_of(n)) : "memory");
        for (u64 k = 0; k < n / 8; k++) {
            u64 x;
            memcpy(&x, b + to + 8 * k, 8);
            if (x != key_of(n))
                bad("REP STOSQ of %lu: element %lu is %#lx", n / 8, k, x);
        }
        u64 sum = 0;
        for (u64 k = 0; k < SIZE; k += 4099)
            sum += (u8)(k * 7 + (k >> 8) * 3 + 1) != a[k];
        if (sum)
            bad("the source of strings changed");
    }
}

__attribute__((target("avx2"))) static void gather_round(int *base, unsigned pages)
{
    u32 at[8], got[8];
    for (unsigned k = 0; k < 8; k++)
        at[k] = (u32)(rnd() % (pages * 1024));
    __m256i x = _mm256_setzero_si256();
    x = _mm256_mask_i32gather_epi32(x, base, _mm256_loadu_si256((const __m256i *)at), _mm256_set1_epi32(-1), 4);
    _mm256_storeu_si256((__m256i *)got, x);
    for (unsigned k = 0; k < 8; k++)
        if (got[k] != at[k] * 0x9e3779b1u)
            bad("gather: element %u is %#x, not %#x", k, got[k], at[k] * 0x9e3779b1u);
}

void gathers(void)
{
    enum { PAGES = 64 };
    const int fd = memfd_create("gather", 0);
    if (fd < 0 || ftruncate(fd, PAGES * 4096))
        return;
    u32 *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (u32 k = 0; k < PAGES * 1024; k++)
        p[k] = k * 0x9e3779b1u;
    for (; going();) {
        madvise(p, PAGES * 4096, MADV_DONTNEED); /* mapped again by faults */
        for (unsigned k = 0; k < 200; k++) {
            if (__builtin_cpu_supports("avx2"))
                gather_round((int *)p, PAGES);
            else if (p[(k * 4099) % (PAGES * 1024)] != (k * 4099) % (PAGES * 1024) * 0x9e3779b1u)
                bad("shared memory");
        }
    }
}
