/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.h - the few words of a tiny guest: print on the first serial port, check,
 * leave through the debug-exit port, catch interrupts.  32 and 64 bits.
 */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long word; /* as wide as a register */

#define NULL ((void *)0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#ifdef __x86_64__
struct frame {
    u64 ax, cx, dx, bx, bp, si, di, r8, r9, r10, r11, r12, r13, r14, r15;
    u64 vector, error, ip, cs, flags, sp, ss;
};
#else
struct frame {
    u32 gs, fs, es, ds, di, si, bp, sp_unused, bx, dx, cx, ax;
    u32 vector, error, ip, cs, flags, sp, ss; /* sp, ss: only from another ring */
    u32 v86_es, v86_ds, v86_fs, v86_gs;
};
#endif

/* A guest's own: called for each interrupt; true: go on where frame says. */
extern int (*on_interrupt)(struct frame *f);
void interrupt(struct frame *f);

void *memcpy(void *d, const void *s, unsigned long n);
void print(const char *s);
void print_hex(u64 v);
void fail(const char *what, u64 got, u64 want); /* counts; the guest goes on */
void guest_exit(int code) __attribute__((noreturn));
extern int failures;
extern const char guest_name[]; /* each guest defines it */

#define CHECK(what, got, want)                        \
    do {                                              \
        u64 got_ = (u64)(got), want_ = (u64)(want);   \
        if (got_ != want_)                            \
            fail(what, got_, want_);                  \
    } while (0)

static inline void outb(u16 p, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(p)); }
static inline void outw(u16 p, u16 v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(p)); }
static inline void outl(u16 p, u32 v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(p)); }
static inline u8 inb(u16 p) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u16 inw(u16 p) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u32 inl(u16 p) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u64 rdmsr(u32 n) { u32 a, d; __asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(n)); return (u64)d << 32 | a; }
static inline void wrmsr(u32 n, u64 v) { __asm__ volatile("wrmsr" : : "c"(n), "a"((u32)v), "d"((u32)(v >> 32)) : "memory"); }
static inline u64 rdtsc(void) { u32 a, d; __asm__ volatile("rdtsc" : "=a"(a), "=d"(d)); return (u64)d << 32 | a; }
static inline void cpuid(u32 f, u32 i, u32 r[4])
{
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(f), "c"(i));
}
#define READ_CR(n) ({ word v_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)); v_; })
#define WRITE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n : : "r"((word)(v)) : "memory")
#define READ_DR(n) ({ word v_; __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v_)); v_; })
#define WRITE_DR(n, v) __asm__ volatile("mov %0, %%dr" #n : : "r"((word)(v)) : "memory")
static inline void invlpg(void *p) { __asm__ volatile("invlpg (%0)" : : "r"(p) : "memory"); }
static inline void barrier(void) { __asm__ volatile("" : : : "memory"); }

extern u64 gdt[];
extern u8 idt[], tss[];

/* Interrupt gates: DPL 3 lets ring 3 use INT. */
void gate_dpl(unsigned vector, unsigned dpl);

/*
 * TRY runs one piece of assembly that may fault; afterwards caught.vector is the exception (or -1),
 * caught.error, caught.cr2 and caught.flags what came with it.  Works through on_interrupt == try_interrupt.
 */
struct caught {
    int vector;
    u32 error;
    word cr2, ip, flags, dr6;
    word resume;
};
extern struct caught caught;
int try_interrupt(struct frame *f);
extern word caught_sp, caught_bp; /* by name in the assembly */
#ifdef __x86_64__
#define TRY(text, ...)                                                                                      \
    do {                                                                                                    \
        caught.vector = -1;                                                                                 \
        __asm__ volatile("movq $98f, %0; mov %%rsp, caught_sp; mov %%rbp, caught_bp; " text                 \
                         "; 98: mov caught_sp, %%rsp; mov caught_bp, %%rbp; movq $0, %0"                    \
                         : "=m"(caught.resume) : __VA_ARGS__ : "rax", "rcx", "rdx", "memory", "cc");        \
    } while (0)
#else
#define TRY(text, ...)                                                                                      \
    do {                                                                                                    \
        caught.vector = -1;                                                                                 \
        __asm__ volatile("movl $98f, %0; mov %%esp, caught_sp; mov %%ebp, caught_bp; " text                 \
                         "; 98: mov caught_sp, %%esp; mov caught_bp, %%ebp; movl $0, %0"                    \
                         : "=m"(caught.resume) : __VA_ARGS__ : "eax", "memory", "cc");                      \
    } while (0)
#endif

#endif
