/* SPDX-License-Identifier: Apache-2.0 */
/* guest.c - see guest.h. */
#include "guest.h"

int failures;
int (*on_interrupt)(struct frame *f);
struct caught caught;
word caught_sp, caught_bp;

void *memset(void *d, int c, unsigned long n)
{
    u8 *p = d;
    while (n--)
        *p++ = (u8)c;
    return d;
}

void *memcpy(void *d, const void *s, unsigned long n)
{
    u8 *p = d;
    const u8 *q = s;
    while (n--)
        *p++ = *q++;
    return d;
}

static void put(char c)
{
    for (int i = 0; i < 100000 && !(inb(0x3fd) & 0x20); i++)
        ;
    outb(0x3f8, (u8)c);
}

void print(const char *s)
{
    for (; *s; s++)
        put(*s);
}

void print_hex(u64 v)
{
    int digits = 1;
    while (digits < 16 && v >> (4 * digits))
        digits++;
    while (digits--)
        put("0123456789abcdef"[v >> (4 * digits) & 15]);
}

void fail(const char *what, u64 got, u64 want)
{
    if (++failures > 20)
        return;
    print(guest_name);
    print(": ");
    print(what);
    print(": ");
    print_hex(got);
    print(", not ");
    print_hex(want);
    print("\n");
}

void guest_exit(int code)
{
    print(guest_name);
    print(code || failures ? ": FAIL\n" : ": PASS\n");
    outb(0xf4, code || failures ? 1 : 0);
    for (;;)
        __asm__ volatile("cli; hlt");
}

int try_interrupt(struct frame *f)
{
    if (!caught.resume || f->vector >= 32)
        return 0;
    caught.vector = (int)f->vector;
    caught.error = (u32)f->error;
    caught.cr2 = READ_CR(2);
    caught.ip = f->ip;
    caught.flags = f->flags;
    f->ip = caught.resume;
    f->flags &= ~0x100ul; /* TF */
    return 1;
}

void interrupt(struct frame *f)
{
    if (on_interrupt && on_interrupt(f))
        return;
    print("unexpected interrupt ");
    print_hex(f->vector);
    print(" error ");
    print_hex(f->error);
    print(" at ");
    print_hex(f->cs);
    print(":");
    print_hex(f->ip);
    print(" cr2 ");
    print_hex(READ_CR(2));
    print("\n");
    guest_exit(1);
}

void gate_dpl(unsigned vector, unsigned dpl)
{
    u8 *p = idt + vector * (sizeof(word) == 8 ? 16 : 8) + 5;
    *p = (u8)((*p & 0x9f) | dpl << 5);
}
