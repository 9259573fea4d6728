/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_cache.c - the translator's cache: what is evicted, when its place is used anew, and numbers of pages, of which
 * there are fewer than a guest has pages.
 */
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/soft/blocks.h"
#include "engine/soft/native.h"
#include "engine/soft/translate/translate.h"

enum { CPUS = 2, CODE = 256 /* bytes of a translation */, ENTRY = 16 };

static struct soft_vm vm;
static struct soft_vcpu *cpu[CPUS];
static struct cpuid_table cpuid = { .tsc_khz = 1000000 };

/* Two processors outside translated code. False: there is no translator on this host. */
static bool setup(void)
{
    memset(&vm, 0, sizeof vm);
    vm.cfg = (struct engine_config){ .cpus = CPUS, .code_cache = MiB(1), .cpuid = &cpuid };
    if (soft_jit_new(&vm) || !vm.jit)
        return false;
    for (u32 k = 0; k < CPUS; k++) {
        cpu[k] = aligned_alloc(64, align_up(sizeof *cpu[k], 64));
        if (!cpu[k])
            abort();
        memset(cpu[k], 0, sizeof *cpu[k]);
        cpu[k]->vm = &vm;
        if (soft_jit_attach(cpu[k]))
            abort();
        vm.vcpu[k] = cpu[k];
    }
    return true;
}
static void end(void)
{
    for (u32 k = 0; k < CPUS; k++) {
        soft_jit_detach(cpu[k]);
        free(cpu[k]);
    }
    soft_jit_free(&vm);
}

/* A translation for the start of a page; NULL: there is no room at present. */
static struct trans *make(u64 lin, u64 place)
{
    struct jit *j = vm.jit;
    if (!jit_room(cpu[0]))
        return NULL;
    struct jit_segment *s = &j->seg[j->open];
    struct trans *t = jit_data(j, sizeof *t);
    memset(t, 0, sizeof *t);
    t->rip = lin;
    t->place = place;
    t->place2 = ~0ull;
    t->entry = j->rw + s->code + ENTRY;
    t->code = (u64)j->rx + s->code + ENTRY;
    t->size = CODE - ENTRY;
    t->retired_code = CODE / 2;
    t->page_id = jit_page_id(j, lin, place, true);
    s->code += CODE;
    jit_add(j, t);
    return t;
}
static struct trans *find(u64 lin, u64 place)
{
    return jit_find(vm.jit, lin, place, ~0ull, 0, 0);
}

TEST(the_oldest_go_first)
{
    if (!setup())
        return;
    u64 n = 0;
    while (!vm.jit->evicted) {
        soft_jit_quiesce(cpu[0]);
        REQUIRE(make(n << 12, n << 12));
        n++;
    }
    CHECK(!find(0, 0));
    CHECK(find((n - 1) << 12, (n - 1) << 12));
    CHECK(n * CODE > vm.jit->size / 2); /* not before it was needed */
    CHECK(n - vm.jit->evicted > n / 2);
    end();
}

TEST(a_place_is_used_anew_when_all_have_left)
{
    if (!setup())
        return;
    soft_jit_quiesce(cpu[1]); /* inside from here on */
    u64 n = 0;
    while (make(n << 12, n << 12)) {
        soft_jit_quiesce(cpu[0]);
        n++;
        REQUIRE(n < 1 << 20);
    }
    CHECK(cpu[1]->poll); /* asked to leave */
    CHECK(!make(n << 12, n << 12));
    soft_jit_quiesce(cpu[0]);
    soft_jit_quiesce(cpu[1]);
    CHECK(make(n << 12, n << 12));
    end();
}

TEST(numbers_of_pages_come_back)
{
    if (!setup())
        return;
    u64 without = 0;
    for (u64 n = 1; n <= 4 * JIT_PAGE_IDS; n++) {
        struct trans *t;
        do {
            soft_jit_quiesce(cpu[0]);
            t = make(n << 12, n << 13);
        } while (!t);
        without += !t->page_id;
    }
    CHECK_EQ(without, 0);
    /* One number, one page. */
    unsigned living = 0;
    for (u32 k = 0; k < vm.jit->nseg; k++)
        for (const struct trans *t = vm.jit->seg[k].first; t; t = t->seg_next)
            if (!t->retired) {
                living++;
                CHECK_EQ(vm.jit->page_id[t->page_id].lin, t->rip);
                CHECK_EQ(jit_page_id(vm.jit, t->rip, t->place, true), t->page_id);
            }
    CHECK(living > 500);
    end();
}

TEST(a_number_stays_while_a_processor_may_take_it_for_mapped)
{
    if (!setup())
        return;
    struct jit *j = vm.jit;
    /* All numbers are given out, and no translation has them. */
    for (u64 n = 1; n < 64 * JIT_PAGE_IDS && !j->crowded; n++)
        jit_page_id(j, n << 12, 0, false);
    REQUIRE(j->crowded);
    j->made = j->swept + (1 << 20);
    soft_jit_quiesce(cpu[1]); /* inside */
    REQUIRE(make(0, 0)); /* looks for numbers that are not used */
    CHECK(j->sweep != 0);
    CHECK(cpu[1]->poll);
    const u32 before = j->npages, kept = jit_page_id(j, 1 << 12, 0, false); /* one that is asked for again meanwhile */
    soft_jit_quiesce(cpu[0]);
    REQUIRE(make(0, 0));
    CHECK(j->npages >= before);
    soft_jit_quiesce(cpu[1]);
    soft_jit_quiesce(cpu[0]);
    REQUIRE(make(0, 0));
    CHECK_EQ(j->sweep, 0);
    CHECK(j->npages <= 2);
    CHECK_EQ(j->page_id[kept].lin, 1 << 12);
    end();
}

/* ---- what lies beside code in the address space ---- */

struct place {
    u64 start, end;
    bool write, execute;
};

static unsigned read_maps(struct place *p, unsigned most)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned n = 0;
    if (!f)
        abort();
    while (n < most && fgets(line, sizeof line, f)) {
        unsigned long long start, end;
        char mode[5];
        if (sscanf(line, "%llx-%llx %4s", &start, &end, mode) == 3)
            p[n++] = (struct place){start, end, mode[1] == 'w', mode[2] == 'x'};
    }
    fclose(f);
    return n;
}

/* Nothing that may be written or executed ends where [start, start + size) begins, or begins where it ends. */
static bool alone(const void *start, u64 size)
{
    static struct place p[4096];
    const unsigned n = read_maps(p, ARRAY_SIZE(p));
    const u64 at = (u64)start, end = at + align_up(size, GUEST_PAGE_SIZE);
    bool found = false;
    for (unsigned k = 0; k < n; k++) {
        found |= p[k].start <= at && p[k].end > at;
        if ((p[k].end == at || p[k].start == end) && (p[k].write || p[k].execute))
            return false;
        if ((p[k].start < at && p[k].end > at) || (p[k].start < end && p[k].end > end)) /* one mapping with another's */
            return false;
    }
    return found && n < ARRAY_SIZE(p);
}

TEST(code_and_what_guests_reach_have_no_neighbours)
{
    static const struct engine_machine none;
    struct error err = {""};
    struct engine_vm *e[2];
    struct engine_vcpu *v[2];
    struct memory *memory[2];
    const u8 *far[2][4];
    for (unsigned k = 0; k < 2; k++) {
        REQUIRE((memory[k] = memory_new(&err)) && !memory_add(memory[k], "ram", 0, MiB(4), false, &err));
        const struct engine_config cfg = {.memory = memory[k], .cpuid = &cpuid, .ops = &none, .cpus = 1, .code_cache = MiB(4)};
        REQUIRE(!engine_soft.vm_create(&e[k], &cfg, &err) && !engine_soft.vcpu_create(e[k], 0, &v[k], &err));
    }
    for (unsigned k = 0; k < 2; k++) {
        const struct soft_vcpu *s = (const struct soft_vcpu *)v[k];
        const struct jit *j = s->vm->jit;
        CHECK(alone(s->native->rw, NATIVE_CODE_SIZE));
        CHECK(alone(s->native->rx, NATIVE_CODE_SIZE));
        CHECK(alone(memory[k]->piece[0].host, memory[k]->piece[0].size));
        far[k][0] = s->native->rw;
        far[k][1] = s->native->rx;
        far[k][2] = far[k][3] = NULL;
        if (!j) /* a sanitized build */
            continue;
        CHECK(alone(s, sizeof *s));
        CHECK(alone(j->rw, j->size));
        CHECK(alone(j->rx, j->size));
        CHECK(alone(j->data, j->data_size));
        CHECK(alone(s->tr.stack + GUEST_PAGE_SIZE, JIT_STACK));
        far[k][2] = j->rw;
        far[k][3] = j->rx;
    }
    CHECK(far[0][1] - far[0][0] != far[1][1] - far[1][0]);
    if (far[0][2])
        CHECK(far[0][3] - far[0][2] != far[1][3] - far[1][2]);
    for (unsigned k = 0; k < 2; k++) {
        engine_soft.vcpu_destroy(v[k]);
        engine_soft.vm_destroy(e[k]);
        memory_free(memory[k]);
    }
}

/* ---- a fault of ours is not the guest's ---- */

enum where { IN_TRANSLATION, IN_NO_TRANSLATION, IN_STUB };

/* In a process of its own: code with rdi and rdx as given (in a stub: rdi as stubs have it), as if the engine had made it. */
_Noreturn static void run_code(enum where where, const u8 *bytes, unsigned n, u64 rdx)
{
    static struct insn insn[2];
    struct soft_vcpu *v = cpu[0];
    const u8 *code = v->native->rx;
    u8 *to = v->native->rw;
    if (where != IN_STUB) {
        struct trans *t = make(0x1000, 0x1000);
        code = where == IN_TRANSLATION ? (const u8 *)t->code : vm.jit->rx + vm.jit->size - 64;
        to = where == IN_TRANSLATION ? t->entry : vm.jit->rw + vm.jit->size - 64;
        soft_jit_thread(v);
    }
    memcpy(to, bytes, n);
    alarm(20);
    __asm__ volatile("call *%0" : : "r"(code), "D"(where == IN_STUB ? (u64)v : rdx), "S"(insn), "d"(rdx)
                     : "rax", "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    _exit(0);
}

/* Ends by abort() and says that it is our fault, where it was and what the address was. */
static bool ends_as_ours(enum where where, const u8 *bytes, unsigned n, u64 rdx)
{
    char text[1024] = "";
    int fd[2], status = 0;
    ssize_t got = 0;
    if (pipe(fd))
        abort();
    const pid_t pid = fork();
    if (!pid) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(fd[1], STDERR_FILENO);
        run_code(where, bytes, n, rdx);
    }
    close(fd[1]);
    for (ssize_t r; (r = read(fd[0], text + got, sizeof text - 1 - (size_t)got)) > 0;)
        got += r;
    close(fd[0]);
    waitpid(pid, &status, 0);
    const bool ok = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(text, "internal error");
    if (!ok)
        fprintf(stderr, "status %#x: %s\n", (unsigned)status, text);
    return ok;
}

TEST(a_fault_of_ours_is_not_taken_for_the_guests)
{
    static const u8 load[] = {0x48, 0x8b, 0x02, 0xc3}; /* mov rax, [rdx]; ret */
    static const u8 store[] = {0x48, 0x89, 0x02, 0xc3};
    static const u8 far_load[] = {0x0f, 0x28, 0x02, 0xc3}; /* movaps xmm0, [rdx] */
    static const u8 divide[] = {0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1, 0xc3}; /* xor edx, edx; xor ecx, ecx; div ecx */
    const u64 nowhere = 0x5000, wild = 0x123456789abcdef0;
    if (!setup())
        return;
    if (soft_native_new(cpu[0]))
        abort();
    CHECK(ends_as_ours(IN_TRANSLATION, load, sizeof load, nowhere));
    CHECK(ends_as_ours(IN_TRANSLATION, store, sizeof store, nowhere));
    CHECK(ends_as_ours(IN_TRANSLATION, store, sizeof store, (u64)vm.jit->rx)); /* what cannot be written */
    CHECK(ends_as_ours(IN_TRANSLATION, load, sizeof load, (u64)cpu[0]->tr.stack + 64)); /* no CALL that finds no room */
    CHECK(ends_as_ours(IN_TRANSLATION, load, sizeof load, wild));
    CHECK(ends_as_ours(IN_TRANSLATION, far_load, sizeof far_load, wild));
    CHECK(ends_as_ours(IN_NO_TRANSLATION, load, sizeof load, nowhere));
    CHECK(ends_as_ours(IN_NO_TRANSLATION, divide, sizeof divide, 0));
    CHECK(ends_as_ours(IN_STUB, load, sizeof load, nowhere));
    CHECK(ends_as_ours(IN_STUB, load, sizeof load, wild));
    CHECK(ends_as_ours(IN_STUB, load, sizeof load, (u64)cpu[0]->native->guard)); /* no masked access runs */
    soft_native_free(cpu[0]);
    end();
}
