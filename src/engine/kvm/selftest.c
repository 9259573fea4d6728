/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest.c - finds out whether this host's KVM runs a guest's kernel at the speed of the processor. /dev/kvm can exist and
 * be useless: a KVM without hardware virtualization interprets ring 0, which is a thousand times slower.
 *
 * Two loops are timed in 64-bit ring 0. One has plain instructions, and is compared with the same loop on the host. The
 * other changes the address space (MOV CR3, INVLPG), which a KVM without nested paging must trap; there is a limit to its
 * time. A timer ends a run that takes too long. The speed then follows from how far it came.
 */
#include "engine/kvm/selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/opener.h"
#include "engine/kvm/kvm.h"

enum {
    PLAIN_LOOPS = 20000, SPACE_LOOPS = 50, ROUNDS = 3,
    LIMIT_NS = 5 * 1000 * 1000, /* for one run */
    TOO_SLOW = 20,               /* for plain instructions: so many times the host's time */
    TOO_LONG_NS = 200 * 1000,    /* for one change of the address space */
    MEM_SIZE = 0x10000, PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, CODE = 0x8000, DATA = 0xc000,
};

/* rcx rounds of ten plain instructions with loads, stores and flags. The guest and the host run the same. rbx: memory. */
#define PLAIN_LOOP                   \
    "1: mov (%rbx), %rax\n"          \
    "   add $3, %rax\n"              \
    "   mov %rax, (%rbx)\n"          \
    "   xor %rax, %rdx\n"            \
    "   rol $5, %rdx\n"              \
    "   lea 7(%rdx,%rax), %rsi\n"    \
    "   push %rsi\n"                 \
    "   pop %rdi\n"                  \
    "   dec %rcx\n"                  \
    "   jnz 1b\n"

extern const u8 kvm_selftest_plain[], kvm_selftest_space[], kvm_selftest_end[];
__asm__(".pushsection .rodata\n"
        "kvm_selftest_plain:\n" PLAIN_LOOP "   hlt\n"
        "kvm_selftest_space:\n"
        "1: mov %cr3, %rax\n"
        "   mov %rax, %cr3\n"
        "   invlpg (%rbx)\n"
        "   mov %rax, (%rbx)\n"
        "   dec %rcx\n"
        "   jnz 1b\n"
        "   hlt\n"
        "kvm_selftest_end:\n"
        ".popsection\n");

/* The limit goes by the wall clock. The speed goes by this thread's CPU time, which includes the guest's, since other
   threads may be running. */
static u64 now_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

static u64 host_plain_ns(void)
{
    u64 best = ~0ull, memory = 0;
    for (int i = 0; i < ROUNDS; i++) {
        u64 t = now_ns(CLOCK_THREAD_CPUTIME_ID);
        u64 rcx = PLAIN_LOOPS, rdx = 0;
        /* The loop pushes, so the stack pointer must be below the red zone. */
        __asm__ volatile("sub $256, %%rsp\n\t"
                         "1: mov (%%rbx), %%rax\n\tadd $3, %%rax\n\tmov %%rax, (%%rbx)\n\txor %%rax, %%rdx\n\t"
                         "rol $5, %%rdx\n\tlea 7(%%rdx,%%rax), %%rsi\n\tpush %%rsi\n\tpop %%rdi\n\tdec %%rcx\n\tjnz 1b\n\t"
                         "add $256, %%rsp"
                         : "+c"(rcx), "+d"(rdx)
                         : "b"(&memory)
                         : "rax", "rsi", "rdi", "memory", "cc");
        best = MIN(best, now_ns(CLOCK_THREAD_CPUTIME_ID) - t);
    }
    return MAX(best, 1);
}

struct tester {
    int kvm, vm, vcpu;
    u8 *mem;
    struct kvm_run *run;
    size_t run_size;
    timer_t timer;
    bool has_timer;
};

static void store64(u8 *p, u64 v)
{
    memcpy(p, &v, 8);
}

/* Puts the vCPU into 64-bit ring 0, with the first 2 MiB mapped to themselves. There are no descriptor tables in memory,
   because the loops load no segment. */
static int set_mode(struct tester *t)
{
    struct kvm_sregs s;
    int r = kvm_vm_ioctl(t->vcpu, KVM_GET_SREGS, &s);
    if (r < 0)
        return r;
    store64(t->mem + PML4, PDPT | 3);
    store64(t->mem + PDPT, PD | 3);
    store64(t->mem + PD, 0 | 0x83);
    s.cr3 = PML4;
    s.cr4 = CR4_PAE;
    s.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    s.efer = EFER_LME | EFER_LMA;
    s.cs = (struct kvm_segment){ .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1 };
    s.ds = (struct kvm_segment){ .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
    s.es = s.ss = s.fs = s.gs = s.ds;
    s.gdt.limit = s.idt.limit = 0;
    return kvm_vm_ioctl(t->vcpu, KVM_SET_SREGS, &s);
}

static int arm(struct tester *t, u64 ns)
{
    /* The timer repeats, because KVM_RUN does not see a signal that comes just before it. */
    struct itimerspec its = { .it_value = { 0, (long)ns }, .it_interval = { 0, ns ? 2 * 1000 * 1000 : 0 } };
    return timer_settime(t->timer, 0, &its, NULL) < 0 ? -errno : 0;
}

/* Runs one loop. *ns is how long it took, and *done how many rounds it made. */
static int run_loop(struct tester *t, u64 rip, u64 loops, u64 *ns, u64 *done)
{
    struct kvm_regs g = { .rip = rip, .rsp = 0xfff0, .rbx = DATA, .rcx = loops, .rflags = RFLAGS_FIXED };
    int r = kvm_vm_ioctl(t->vcpu, KVM_SET_REGS, &g);
    if (r >= 0)
        r = arm(t, LIMIT_NS);
    if (r < 0)
        return r;
    u64 start = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
    do
        r = ioctl(t->vcpu, KVM_RUN, 0) < 0 ? -errno : 0;
    while ((r == -EINTR || r == -EAGAIN) && now_ns(CLOCK_MONOTONIC) - start < LIMIT_NS);
    *ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    arm(t, 0);
    if (r == -EINTR || r == -EAGAIN) {
        if (kvm_vm_ioctl(t->vcpu, KVM_GET_REGS, &g) < 0 || g.rcx > loops)
            return -EIO;
        *done = loops - g.rcx;
        return 0;
    }
    if (r < 0)
        return r;
    if (t->run->exit_reason != KVM_EXIT_HLT)
        return -EPROTO;
    *done = loops;
    return 0;
}

static int open_tester(struct tester *t, struct error *why)
{
    int r;
    t->kvm = opener_file(OPENER_ENGINE, "/dev/kvm", O_RDWR, 0);
    if (t->kvm < 0)
        return error_set(why, errno, "/dev/kvm cannot be opened: %s", strerror(errno));
    t->vm = ioctl(t->kvm, KVM_CREATE_VM, 0);
    if (t->vm < 0)
        return error_set(why, errno, "KVM cannot make a VM: %s", strerror(errno));
    ioctl(t->vm, KVM_SET_TSS_ADDR, 0xfeffd000ul);
    t->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->mem == MAP_FAILED)
        return error_set(why, ENOMEM, "out of memory");
    struct kvm_userspace_memory_region m = { .memory_size = MEM_SIZE, .userspace_addr = (u64)(uintptr_t)t->mem };
    r = kvm_vm_ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &m);
    if (r >= 0)
        r = t->vcpu = ioctl(t->vm, KVM_CREATE_VCPU, 0ul);
    if (r < 0)
        return error_set(why, -r, "KVM cannot make a CPU");
    t->run_size = (size_t)ioctl(t->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    t->run = mmap(NULL, t->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
    if (t->run == MAP_FAILED)
        return error_set(why, errno, "KVM's run area cannot be mapped: %s", strerror(errno));
    kvm_install_kick();
    struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = kvm_kick_signal() };
    ev._sigev_un._tid = (int)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &ev, &t->timer) < 0)
        return error_set(why, errno, "no timer: %s", strerror(errno));
    t->has_timer = true;

    memset(t->mem + CODE, 0xf4, 0x1000);
    memcpy(t->mem + CODE, kvm_selftest_plain, (size_t)(kvm_selftest_end - kvm_selftest_plain));
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
    if (!c)
        return error_set(why, ENOMEM, "out of memory");
    c->nent = 256;
    if (ioctl(t->kvm, KVM_GET_SUPPORTED_CPUID, c) == 0)
        ioctl(t->vcpu, KVM_SET_CPUID2, c); /* a vCPU without long mode in its CPUID cannot enter it */
    free(c);
    r = set_mode(t);
    return r < 0 ? error_set(why, -r, "KVM does not let a guest into 64-bit mode: %s", strerror(-r)) : 0;
}

static void close_tester(struct tester *t)
{
    if (t->has_timer)
        timer_delete(t->timer);
    if (t->run != MAP_FAILED)
        munmap(t->run, t->run_size);
    if (t->mem != MAP_FAILED)
        munmap(t->mem, MEM_SIZE);
    for (int i = 0; i < 3; i++) {
        int fd = i == 0 ? t->vcpu : i == 1 ? t->vm : t->kvm;
        if (fd >= 0)
            close(fd);
    }
}

/* *ns_each is how long a round of the loop takes. It is the best of a few runs, since the machine may be busy. */
static int best_of(struct tester *t, u64 rip, u64 loops, double *ns_each)
{
    *ns_each = 1e18;
    for (int i = 0; i < ROUNDS; i++) {
        u64 ns = 0, done = 0;
        int r = run_loop(t, rip, loops, &ns, &done);
        if (r < 0)
            return r;
        double each = (double)ns / (double)MAX(done, 1);
        *ns_each = MIN(*ns_each, each);
        if (done < loops && i > 0)
            break; /* it is hopelessly slow, and another run would only take time */
    }
    return 0;
}

int kvm_selftest(struct error *why)
{
    struct tester t = { .kvm = -1, .vm = -1, .vcpu = -1, .mem = MAP_FAILED, .run = MAP_FAILED };
    sigset_t set, old;
    double plain = 0, space = 0;

    sigemptyset(&set);
    sigaddset(&set, kvm_kick_signal());
    pthread_sigmask(SIG_UNBLOCK, &set, &old);
    int r = open_tester(&t, why);
    if (r < 0)
        goto out;
    r = best_of(&t, CODE, PLAIN_LOOPS, &plain);
    double ratio = plain * PLAIN_LOOPS / (double)host_plain_ns();
    if (r >= 0 && ratio > TOO_SLOW) {
        r = error_set(why, ENOTSUP, "KVM here runs ring 0 %.0f times slower than the host: it has no hardware "
                      "virtualization to use", ratio);
        goto out;
    }
    if (r >= 0)
        r = best_of(&t, CODE + (u64)(kvm_selftest_space - kvm_selftest_plain), SPACE_LOOPS, &space);
    if (r < 0) {
        error_set(why, -r, "KVM here does not run the test guest (exit %u): %s", t.run->exit_reason, strerror(-r));
        goto out;
    }
    if (space > TOO_LONG_NS) {
        r = error_set(why, ENOTSUP, "KVM here takes %.0f us to change the guest's address space", space / 1000);
        goto out;
    }
    error_set(why, 1, "KVM here runs ring 0 at %.1f times the host's time, a change of address space takes %.1f us", ratio,
              space / 1000);
    r = 0;
out:
    close_tester(&t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r;
}
