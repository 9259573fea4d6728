/* SPDX-License-Identifier: Apache-2.0 */
/* deep_calls - calls without returns: 200,000 that nest, and as many that longjmp leaves. For tests/system/calls. */
#include <setjmp.h>
#include <stdio.h>

static volatile long depth = 200000;
static jmp_buf out;

static __attribute__((noinline)) long down(long n)
{
    return n == 0 ? 0 : down(n - 1) + (n & 3);
}

static __attribute__((noinline)) void down_and_out(long n)
{
    if (n == 0)
        longjmp(out, 1);
    down_and_out(n - 1);
    depth |= 0; /* no tail call */
}

int main(void)
{
    long sum = 0;
    for (volatile int i = 0; i < 100; i++) {
        sum += down(depth);
        if (!setjmp(out))
            down_and_out(depth);
    }
    printf("deep calls: %ld\n", sum);
    return 0;
}
