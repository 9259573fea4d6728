/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_guests.c - tiny guests on the engines alone: the software engine, interpreted and translated, and KVM.
 * Guest memory that is seen elsewhere from one instruction to the next: code and data of a window that a port or a store
 * moves, also by code within it and with another processor that runs there; the same place by two addresses; ROMs, whose
 * writes are the bus's; the A20 gate. And a processor that is stopped at any moment, whose registers are as they were.
 */
#include "test.h"

#include <pthread.h>
#include <sched.h>

#include "engine/engine.h"

enum {
    CODE = 0x1000, CODE1 = 0x3000, STACK = 0x8000, VARS = 0xa000,
    RAM = 0x400000, WIN = 0x800000, WIN2 = 0x900000, WIN_SIZE = 0x2000, DEV = 0xfe000000,
    PORT_MAP = 0x80, PORT_DONE = 0x81, PORT_A20 = 0x92,
};
#define STR_(x) #x
#define S(x) STR_(x)

/* ---- the guest ------------------------------------------------------------ */

/* What a piece holds, n being its number: functions that answer n. The second and the third have the window show piece
   ECX before they answer, by port and by store, and so answer as that piece. */
__asm__(".pushsection .rodata\n.code32\n"
        "win_code: mov $0x11, %eax; ret\n.org win_code + 0x100\n"
        "mov %ecx, %eax; out %al, $" S(0x80) "; mov $0x11, %eax; ret\n.org win_code + 0x200\n"
        "mov %ecx, 0xfe000000; mov $0x11, %eax; ret\n.org win_code + 0x300\n"
        "win_code_end:\n"

        /* ROUNDS in edi */
        "moves: 1: mov %edi, %ecx; and $1, %ecx; mov %ecx, %eax; out %al, $0x80\n"
        " mov 0x800800, %edx; cmp %ecx, %edx; jne fail\n" /* the next instruction sees it */
        " mov $0x800000, %eax; call *%eax; cmp %ecx, %eax; jne fail\n"
        " xor $1, %ecx; mov $0x800100, %eax; call *%eax; cmp %ecx, %eax; jne fail\n"
        " xor $1, %ecx; mov $0x800200, %eax; call *%eax; cmp %ecx, %eax; jne fail\n"
        " mov %edi, 0xa000\n" /* the other processor, if there is one, is to call there now */
        " cmpl $0, 0xa00c; je 3f; 2: pause; cmp %edi, 0xa004; jne 2b; cmp %ecx, 0xa008; jne fail; 3:\n"
        " dec %edi; jnz 1b\n"
        "good: mov $1, %al; out %al, $0x81; jmp good\n"
        "fail: mov $2, %al; out %al, $0x81; jmp fail\nmoves_end:\n"

        "other: xor %edi, %edi; 1: mov 0xa000, %edx; mov $0x800000, %eax; call *%eax; cmp $1, %eax; ja fail1\n"
        " cmp %edx, %edi; je 1b; mov %edx, %edi\n"
        " mov $0x800000, %eax; call *%eax; mov %eax, 0xa008; mov %edi, 0xa004; jmp 1b\n"
        "fail1: mov $4, %al; out %al, $0x81; jmp fail1\nother_end:\n"

        /* ROM at the window, RAM at the other: EDI is left as it is; then code by two addresses. */
        "roms: mov $2, %al; out %al, $0x80; mov $0x800000, %eax; call *%eax; cmp $2, %eax; jne 9f\n"
        " movl $0x1234, 0x800900; addl $5, 0x800904; movw $0x77, 0x8009ff; cmpl $0, 0x800900; jne 9f\n"
        " lock orl $3, 0x800908; mov $0x800910, %edi; mov $3, %ecx; mov $0x5a, %al; rep stosb\n"
        " cmpl $0, 0x800910; jne 9f\n"
        " mov $3, %al; out %al, $0x80; cmpl $-1, 0x800000; jne 9f\n" /* nothing there */
        " mov $4, %al; out %al, $0x80\n"                             /* RAM again, read-only */
        " mov $0x800000, %eax; call *%eax; cmp $0, %eax; jne 9f; movl $7, 0x800920; cmpl $0, 0x800920; jne 9f\n"
        " xor %al, %al; out %al, $0x80; mov $200, %edi\n"
        "1: mov $0x800000, %eax; call *%eax; cmp 0x900001, %eax; jne 9f; incb 0x900001; dec %edi; jnz 1b\n"
        " mov $1, %al; out %al, $0x81; jmp .\n"
        "9: mov $2, %al; out %al, $0x81; jmp 9b\nroms_end:\n"

        /* Below 1 MiB it answers 2, above 3; with the gate closed both are the former. */
        "gate: mov $100, %edi\n"
        "1: mov $0x10c000, %esi; call *%esi; cmp $3, %eax; jne 9f; mov 0x10c010, %ebx; cmp $0x33, %ebx; jne 9f\n"
        " xor %eax, %eax; out %al, $0x92\n"
        " mov 0x10c010, %ebx; cmp $0x22, %ebx; jne 9f; call *%esi; cmp $2, %eax; jne 9f\n"
        " movl $0x44, 0x10c014; cmpl $0x44, 0xc014; jne 9f; movl $0, 0xc014; cmpl $0x66, 0x200014; jne 9f\n"
        " mov $1, %al; out %al, $0x92; cmpl $0x55, 0x10c014; jne 9f\n"
        " dec %edi; jnz 1b; mov $1, %al; out %al, $0x81; jmp .\n"
        "9: mov $2, %al; out %al, $0x81; jmp 9b\ngate_end:\n"

        /* All vector registers and ST(0) hold values that the loop only looks at, until somebody says enough. */
        "vectors: mov $0x12345670, %eax; xor %ecx, %ecx; xor %edx, %edx; wrpkru; fninit; mov $0xa100, %edx\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7; movups \\n * 16(%edx), %xmm\\n; .endr; fldl (%edx)\n"
        "1: .irp n, 0, 1, 2, 3, 4, 5, 6, 7; movups %xmm\\n, 0x100 + \\n * 16(%edx); .endr; fstl 0x180(%edx)\n"
        " mov %edx, %esi; lea 0x100(%edx), %edi; mov $32, %ecx; repe cmpsl; jne 9f\n"
        " mov (%edx), %eax; cmp 0x180(%edx), %eax; jne 9f; mov 4(%edx), %eax; cmp 0x184(%edx), %eax; jne 9f\n"
        " rdpkru; cmp $0x12345670, %eax; jne 9f; mov $0xa100, %edx\n"
        " incl 0xa000; cmpl $0, 0xa004; je 1b; mov $1, %al; out %al, $0x81; jmp .\n"
        "9: mov $2, %al; out %al, $0x81; jmp 9b\nvectors_end:\n"

        /* MOV SS holds back the trap of the word it reads until the next instruction is through: one a round. */
        "held: lgdt 0xa120; lidt 0xa128; ljmp $8, $1f - held + 0x1000\n"
        "1: mov $0xa110, %eax; mov %eax, %dr0; mov $0x70001, %eax; mov %eax, %dr7; xor %ebx, %ebx; xor %edi, %edi\n"
        "2: mov 0xa110, %ss; inc %ebx; cmp %ebx, %edi; jne 9f; mov %ebx, 0xa000; cmpl $0, 0xa004; je 2b\n"
        " mov $1, %al; out %al, $0x81; jmp .\n9: mov $2, %al; out %al, $0x81; jmp 9b\n"
        ".org held + 0x200\n inc %edi; iret\nheld_end:\n"
        ".code64\n.popsection\n");
extern const u8 win_code[], win_code_end[], moves[], moves_end[], other[], other_end[], roms[], roms_end[], gate[], gate_end[],
                vectors[], vectors_end[], held[], held_end[];

/* ---- the machine ---------------------------------------------------------- */

static struct machine {
    const struct engine_ops *ops;
    struct engine_vm *vm;
    struct engine_vcpu *v[2];
    u32 cpus;
    struct memory *memory;
    struct memory_piece *piece[3]; /* RAM, RAM, ROM */
    bool mapped;
    u32 done; /* what the guest said: 1 good, 2 or 4 not; atomic */
    u64 log[16][3];
    u32 nlog;
} m;
static u64 first_tsc, more_tsc; /* what up() begins with; of the second processor's IA32_TSC_ADJUST */

static void show(u32 what)
{
    if (what == 3) {
        memory_unmap(m.memory, WIN);
        m.mapped = false;
        return;
    }
    const struct memory_piece *p = m.piece[what == 4 ? 0 : what % 3];
    if (m.mapped)
        CHECK_EQ(memory_remap(m.memory, WIN, p, 0, what == 4), 0);
    else
        CHECK_EQ(memory_map(m.memory, WIN, WIN_SIZE, p, 0, what == 4), 0);
    m.mapped = true;
}

static u64 port_read(void *p, u16 port, unsigned size) { return UINT64_MAX; }
static void port_write(void *p, u16 port, unsigned size, u64 value)
{
    if (port == PORT_MAP) {
        show((u32)value);
    } else if (port == PORT_A20) {
        m.ops->a20(m.vm, value & 1);
    } else {
        __atomic_fetch_or(&m.done, (u32)value, __ATOMIC_SEQ_CST);
        for (u32 k = 0; k < m.cpus; k++)
            m.ops->kick(m.v[k]);
    }
}
static u64 mmio_read(void *p, u32 vcpu, u64 gpa, unsigned size) { return UINT64_MAX; }
static void mmio_write(void *p, u32 vcpu, u64 gpa, unsigned size, u64 value)
{
    if (gpa == DEV)
        show((u32)value);
    else if (m.nlog < ARRAY_SIZE(m.log))
        memcpy(m.log[m.nlog++], (u64[3]){ gpa, size, value & (size == 8 ? ~0ull : BIT(8 * size) - 1) }, 24);
}
static int interrupt_ack(void *p, u32 vcpu) { return -1; }
static u8 cr8_read(void *p, u32 vcpu) { return 0; }
static void cr8_write(void *p, u32 vcpu, u8 value) {}
static int msr_read(void *p, u32 vcpu, u32 msr, u64 *value) { return -1; }
static int msr_write(void *p, u32 vcpu, u32 msr, u64 value) { return -1; }
static const struct engine_machine ops = { port_read, port_write, mmio_read, mmio_write, interrupt_ack,
                                           cr8_read, cr8_write, msr_read, msr_write };

static void put_code(u8 *at, const u8 *from, const u8 *end) { memcpy(at, from, (size_t)(end - from)); }

static bool kvm_usable(void)
{
    static struct engine_caps caps;
    struct error err = { "" };
    if (!engine_kvm.probe(&caps, &err))
        return true;
    printf("not on kvm: %s\n", err.text);
    return false;
}

enum tier { INTERPRETED, TRANSLATED, KVM, TIERS };

static bool up(u32 cpus, enum tier tier)
{
    static struct cpuid_table supported, cpuid;
    struct error err = { "" };
    const struct cpuid_request rq = { .model = "max", .cpus = cpus, .supported = &supported };
    memset(&m, 0, sizeof m);
    m.cpus = cpus;
    m.ops = tier == KVM ? &engine_kvm : &engine_soft;
    if (tier == KVM && !kvm_usable())
        return false;
    if (cpuid_soft_supported(&supported, &err) || cpuid_build(&cpuid, &rq, &err) || !(m.memory = memory_new(&err)) ||
        memory_add(m.memory, "ram", 0, RAM, false, &err) || memory_piece(m.memory, &m.piece[0], "a", WIN_SIZE, false, &err) ||
        memory_piece(m.memory, &m.piece[1], "b", WIN_SIZE, false, &err) ||
        memory_piece(m.memory, &m.piece[2], "rom", WIN_SIZE, true, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.text);
        return false;
    }
    for (u32 k = 0; k < 3; k++) {
        u8 *host = m.piece[k]->host;
        put_code(host, win_code, win_code_end);
        for (u8 *at = host; (at = memchr(at, 0x11, (size_t)(host + 0x300 - at))); at++)
            *at = (u8)k;
        memcpy(host + 0x800, &k, 4);
    }
    show(0);
    const struct engine_config cfg = { .memory = m.memory, .cpuid = &cpuid, .ops = &ops, .machine = &m, .cpus = cpus,
                                       .code_cache = tier == TRANSLATED ? MiB(16) : 0 };
    if (m.ops->vm_create(&m.vm, &cfg, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.text);
        return false;
    }
    for (u32 k = 0; k < cpus; k++) {
        struct cpu_state s;
        CHECK_EQ(m.ops->vcpu_create(m.vm, k, &m.v[k], &err), 0);
        cpu_reset(&s, true);
        s.cr0 = CR0_PE | CR0_ET | CR0_NE;
        for (int n = 0; n < SEG_COUNT; n++)
            s.seg[n] = (struct cpu_seg){ .selector = 16, .attr = SEG_P | SEG_S | SEG_W | 1 | SEG_DB | SEG_G, .limit = ~0u };
        s.seg[CS].attr = SEG_P | SEG_S | SEG_CODE | SEG_R | 1 | SEG_DB | SEG_G;
        s.rflags = RFLAGS_FIXED;
        s.gpr[RSP] = STACK - 0x800 * k;
        s.gpr[RDI] = cpus > 1 ? 50 : 2000;
        s.rip = k ? CODE1 : CODE;
        s.tsc = first_tsc;
        if (k)
            s.tsc += s.tsc_adjust = more_tsc;
        CHECK_EQ(m.ops->set_state(m.v[k], &s), 0);
    }
    return true;
}

static void down(void)
{
    for (u32 k = 0; k < m.cpus; k++)
        m.ops->vcpu_destroy(m.v[k]);
    m.ops->vm_destroy(m.vm);
    memory_free(m.memory);
}

static void *run(void *v)
{
    struct error err = { "" };
    while (!__atomic_load_n(&m.done, __ATOMIC_SEQ_CST))
        if (m.ops->run(v, &err) != RUN_KICKED) {
            test_fail(__FILE__, __LINE__, "the guest crashed: %s", err.text);
            port_write(NULL, PORT_DONE, 1, 8);
        }
    return NULL;
}

/* ---- tests ---------------------------------------------------------------- */

TEST(a_window_that_moves)
{
    for (unsigned t = 0; t < TIERS && up(1, t); t++) {
        put_code(m.memory->piece[0].host + CODE, moves, moves_end);
        run(m.v[0]);
        CHECK_EQ(m.done, 1);
        down();
    }
}

TEST(with_another_processor_in_it)
{
    for (unsigned t = 0; t < TIERS && up(2, t); t++) {
        pthread_t thread;
        u8 *ram = m.memory->piece[0].host;
        put_code(ram + CODE, moves, moves_end);
        put_code(ram + CODE1, other, other_end);
        memcpy(ram + VARS + 12, &(u32){ 1 }, 4);
        CHECK_EQ(pthread_create(&thread, NULL, run, m.v[1]), 0);
        run(m.v[0]);
        pthread_join(thread, NULL);
        CHECK_EQ(m.done, 1);
        down();
    }
}

TEST(roms_and_aliases)
{
    static const u64 want[][3] = { { WIN + 0x900, 4, 0x1234 }, { WIN + 0x904, 4, 5 },    { WIN + 0x9ff, 2, 0x77 },
                                   { WIN + 0x908, 4, 3 },      { WIN + 0x910, 1, 0x5a }, { WIN + 0x911, 1, 0x5a },
                                   { WIN + 0x912, 1, 0x5a },   { WIN + 0x920, 4, 7 } };
    for (unsigned t = 0; t < TIERS && up(1, t); t++) {
        CHECK_EQ(memory_map(m.memory, WIN2, WIN_SIZE, m.piece[0], 0, false), 0);
        put_code(m.memory->piece[0].host + CODE, roms, roms_end);
        run(m.v[0]);
        CHECK_EQ(m.done, 1);
        CHECK_EQ(m.nlog, ARRAY_SIZE(want));
        for (u32 k = 0; k < ARRAY_SIZE(want) && k < m.nlog; k++)
            for (u32 i = 0; i < 3; i++)
                CHECK_EQ(m.log[k][i], want[k][i]);
        down();
    }
}

TEST(a20)
{
    for (unsigned t = 0; t < TIERS && up(1, t); t++) {
        u8 *ram = m.memory->piece[0].host;
        put_code(ram + CODE, gate, gate_end);
        for (u32 k = 2; k < 4; k++) {
            u8 *at = ram + (k - 2) * MiB(1) + 0xc000;
            memcpy(at, (u8[]){ 0xb8, (u8)k, 0, 0, 0, 0xc3 }, 6);
            at[0x10] = (u8)(k * 0x11);
        }
        ram[0x10c014] = 0x55, ram[0x200014] = 0x66;
        run(m.v[0]);
        CHECK_EQ(m.done, 1);
        down();
    }
}

static void *stop_it(void *v)
{
    while (!__atomic_load_n(&m.done, __ATOMIC_SEQ_CST)) {
        m.ops->kick(v);
        sched_yield();
    }
    return NULL;
}

/* Runs it, stopped all the time, until it has gone round often enough. */
static void stop_all_the_time(void)
{
    pthread_t thread;
    static struct cpu_state s;
    struct error err = { "" };
    u32 stops = 0, *rounds = (u32 *)(m.memory->piece[0].host + VARS);
    CHECK_EQ(pthread_create(&thread, NULL, stop_it, m.v[0]), 0);
    while (!m.done && m.ops->run(m.v[0], &err) == RUN_KICKED) {
        if (++stops > 2000 && __atomic_load_n(&rounds[0], __ATOMIC_RELAXED) > 2000)
            __atomic_store_n(&rounds[1], 1, __ATOMIC_RELAXED);
        if (stops % 4)
            continue;
        /* And whoever asks for its state, and gives it back, has all of it. */
        CHECK_EQ(m.ops->get_state(m.v[0], &s), 0);
        CHECK_EQ(m.ops->set_state(m.v[0], &s), 0);
    }
    CHECK_EQ(m.done, 1);
    __atomic_store_n(&m.done, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    down();
}

TEST(stopped_at_any_moment)
{
    for (unsigned t = 0; t <= TRANSLATED && up(1, t); t++) {
        static struct cpu_state s;
        u8 *ram = m.memory->piece[0].host;
        put_code(ram + CODE, vectors, vectors_end);
        for (u32 k = 0; k < 32; k++)
            memcpy(ram + VARS + 0x100 + 4 * k, &(u32){ 0x3ff01234 * (2 * k + 1) }, 4);
        CHECK_EQ(m.ops->get_state(m.v[0], &s), 0);
        s.cr4 |= CR4_OSFXSR | CR4_PKE;
        CHECK_EQ(m.ops->set_state(m.v[0], &s), 0);
        stop_all_the_time();
    }
}

TEST(stopped_behind_mov_ss)
{
    for (unsigned t = 0; t <= TRANSLATED && up(1, t); t++) {
        u8 *ram = m.memory->piece[0].host;
        static const u64 gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
        put_code(ram + CODE, held, held_end);
        memcpy(ram + VARS + 0x110, &(u32){ 16 }, 4);
        memcpy(ram + VARS + 0x120, (u16[]){ sizeof gdt - 1, VARS + 0x200, 0 }, 6);
        memcpy(ram + VARS + 0x128, (u16[]){ 15, VARS + 0x300, 0 }, 6);
        memcpy(ram + VARS + 0x200, gdt, sizeof gdt);
        memcpy(ram + VARS + 0x308, (u16[]){ CODE + 0x200, 8, 0x8e00, 0 }, 8);
        stop_all_the_time();
    }
}

/* A state goes on with its TSC, also one of a machine's first second; processors differ by what the guest made them. */
TEST(tsc_of_a_state)
{
    first_tsc = 300000000, more_tsc = 100000000;
    if (up(2, INTERPRETED)) {
        static struct cpu_state s[2];
        for (u32 k = 0; k < 2; k++)
            CHECK_EQ(m.ops->get_state(m.v[k], &s[k]), 0);
        CHECK_EQ(s[0].tsc >= first_tsc && s[1].tsc >= s[0].tsc + more_tsc, true);
        CHECK_EQ(s[1].tsc_adjust, more_tsc);
        down();
    }
    first_tsc = more_tsc = 0;
}

/* What hardware would do for ever costs us nothing. */
TEST(ten_million_times)
{
    if (!up(1, INTERPRETED))
        return;
    for (u32 k = 0; k < 10000000; k++)
        if (memory_remap(m.memory, WIN, m.piece[k & 1], 0, false))
            test_fail(__FILE__, __LINE__, "round %u", k);
    down();
}
