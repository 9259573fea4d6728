/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smp.c - the other CPUs by INIT and SIPI, locked counters, compare-and-exchange,
 * interrupts between CPUs, and a store-buffer test: x86 orders what it says it orders.
 */
#include "lib/guest.h"

const char guest_name[] = "smp";

extern volatile u32 ap_started;
extern char trampoline[], trampoline_end[];
static volatile u32 running, done, locked, plain, spin_lock, go, ipis[16], ids;
static volatile u64 pair[2] __attribute__((aligned(16)));
enum { LOOPS = 2000 };

static void apic_write(u32 reg, u32 v) { *(volatile u32 *)(0xfee00000ull + reg) = v; }
static u32 apic_read(u32 reg) { return *(volatile u32 *)(0xfee00000ull + reg); }

static int on_ipi(struct frame *f)
{
    if (f->vector != 0x80)
        return 0;
    __atomic_fetch_add(&ipis[apic_read(0x20) >> 24 & 15], 1, __ATOMIC_SEQ_CST);
    apic_write(0xb0, 0);
    return 1;
}

static void work(void)
{
    for (int i = 0; i < LOOPS; i++) {
        __atomic_fetch_add(&locked, 1, __ATOMIC_SEQ_CST);
        while (__atomic_exchange_n(&spin_lock, 1, __ATOMIC_ACQUIRE))
            __asm__ volatile("pause");
        plain++;
        __atomic_store_n(&spin_lock, 0, __ATOMIC_RELEASE);
        /* both halves change together, or not */
        u64 a = pair[0], d = pair[1];
        u8 ok;
        do
            __asm__ volatile("lock cmpxchg16b %0; setz %3"
                             : "+m"(*(volatile __int128 *)pair), "+a"(a), "+d"(d), "=q"(ok)
                             : "b"(a + 1), "c"(d + 3) : "memory", "cc");
        while (!ok);
    }
}

void ap_main(void)
{
    apic_write(0xf0, 0x1ff);
    __atomic_fetch_or(&ids, 1u << (apic_read(0x20) >> 24), __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&running, 1, __ATOMIC_SEQ_CST);
    while (!go)
        __asm__ volatile("pause");
    work();
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    for (;;)
        __asm__ volatile("sti; hlt");
}

static void pause_ms(u32 ms)
{
    u32 r[4];
    cpuid(0x40000010, 0, r);
    u64 until = rdtsc() + (u64)r[0] * ms;
    while (rdtsc() < until)
        __asm__ volatile("pause");
}

/* However late the host lets the other CPUs run. */
static void wait_until(volatile u32 *p, u32 n)
{
    while (*p < n)
        __asm__ volatile("pause");
}

int main(void)
{
    u32 r[4];
    cpuid(0xb, 1, r);
    u32 cpus = r[1] & 0xff;
    on_interrupt = on_ipi;
    u8 *low = (u8 *)0x8000;
    for (char *p = trampoline; p < trampoline_end; p++)
        *low++ = (u8)*p;
    apic_write(0xf0, 0x1ff);
    apic_write(0x300, 0xc4500); /* INIT to all others */
    pause_ms(10);
    apic_write(0x300, 0xc4608); /* SIPI, page 8 */
    pause_ms(1);
    apic_write(0x300, 0xc4608);
    wait_until(&running, cpus - 1);
    CHECK("each once", ap_started, cpus - 1);
    CHECK("with APIC IDs of their own", ids, (1u << cpus) - 2);
    go = 1;
    work();
    wait_until(&done, cpus - 1);
    CHECK("locked counter", locked, cpus * LOOPS);
    CHECK("counter under a lock", plain, cpus * LOOPS);
    CHECK("CMPXCHG16B low", pair[0], cpus * LOOPS);
    CHECK("CMPXCHG16B high", pair[1], 3 * cpus * LOOPS);

    /* interrupts to each: fixed, physical destination; the CPUs are in HLT */
    for (u32 i = 1; i < cpus; i++) {
        apic_write(0x310, i << 24);
        apic_write(0x300, 0x4080);
        wait_until(&ipis[i], 1);
    }
    apic_write(0x300, 0xc4080); /* all but self */
    for (u32 i = 1; i < cpus; i++)
        wait_until(&ipis[i], 2);
    CHECK("not to self", ipis[0], 0);
    return 0;
}
