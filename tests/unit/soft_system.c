/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_system.c - the software engine's protection rules as tables: one short
 * piece of guest code a row, and the exception (vector and error code) or the EAX
 * it must end with. Segment loads, gates of every kind, returns, task switches,
 * ports, control registers; 32-bit protected mode and long mode, CPL 0 and 3.
 *
 * What SDM vol. 2 says of each instruction's exceptions, row by row.
 */
#include "test.h"

#include "engine/engine.h"

/* ---- the guest's memory ------------------------------------------------- */

enum {
    GDT = 0x1000, IDT = 0x2000, PML4 = 0x3000, PDPT = 0x4000, PD = 0x5000, TSS = 0x6000, TSS2 = 0x6800, LDT = 0x7000,
    HANDLER = 0x8000, INNER = 0x8100, TASK2 = 0x8200, SYSCALL = 0x8300, STACK0 = 0xa000, IST1 = 0xb000, STACK3 = 0xc000,
    STACK2 = 0xd000, CODE = 0x10000,
    DATA = 0x20000, MEM = 0x200000,
};

/* Selectors: numbers that the assembler text below uses too. */
#define C0 0x08     /* code, DPL 0 */
#define D0 0x10     /* data, DPL 0 */
#define C3 0x18     /* code, DPL 3 */
#define D3 0x20     /* data, DPL 3 */
#define CONF 0x28   /* conforming code, DPL 0 */
#define XO 0x30     /* execute-only code */
#define RO 0x38     /* read-only data */
#define DNP 0x40    /* data, not present */
#define CNP 0x48    /* code, not present */
#define LDTS 0x50   /* LDT (16 bytes) */
#define TSSB 0x60   /* the busy TSS that TR holds (16 bytes) */
#define TSSA 0x70   /* another TSS, available (16 bytes) */
#define TSSNP 0x80  /* TSS, not present (16 bytes) */
#define G0 0x90     /* call gate to INNER in C0, DPL 0 (16 bytes) */
#define G3 0xa0     /* call gate to INNER in C0, DPL 3, two parameters */
#define GNP 0xb0    /* call gate, not present */
#define GNULL 0xc0  /* call gate to a null selector */
#define GDATA 0xd0  /* call gate to data */
#define TG 0xe0     /* task gate to TSSA */
#define SMALL 0xe8  /* code of 4 KiB limit */
#define DOWN 0xf0   /* expand-down data, limit FFFh */
#define GDT_LIMIT 0xff
#define BEYOND 0x100
#define STR_(x) #x
#define S(x) STR_(x)

enum mode { PM0, PM3, PM3_IOPL3, LONG0, LONG3 };
enum { OK = -1 };

struct row {
    const char *name;
    enum mode mode;
    const u8 *start, *end;
    int vector; /* OK or the exception's */
    u32 value;  /* its error code; with OK: EAX */
};

/* Ends at the debug port; the exception handler goes there too. */
#define ASM(n, bits, text)                                                                                   \
    __asm__(".pushsection .rodata\n.code" #bits "\nrow_" #n ":\n" text                                       \
            "\n out %al, $0xf4\n 99: jmp 99b\nrow_" #n "_end:\n.code64\n.popsection\n");                     \
    extern const u8 row_##n[], row_##n##_end[];

/* The rows: name, mode, bits, expected vector and value, code. */
#define ROWS(X) \
    X(ds_null, PM0, 32, OK, 1, "xor %eax, %eax; mov %ax, %ds; inc %eax") \
    X(ds_null_use, PM0, 32, 13, 0, "xor %eax, %eax; mov %ax, %ds; mov 0x20000, %eax") \
    X(ss_null, PM0, 32, 13, 0, "xor %eax, %eax; mov %ax, %ss") \
    X(ds_beyond, PM0, 32, 13, BEYOND, "mov $" S(BEYOND) ", %eax; mov %ax, %ds") \
    X(ds_absent, PM0, 32, 11, DNP, "mov $" S(DNP) ", %eax; mov %ax, %ds") \
    X(ss_absent, PM0, 32, 12, DNP, "mov $" S(DNP) ", %eax; mov %ax, %ss") \
    X(es_xo, PM0, 32, 13, XO, "mov $" S(XO) ", %eax; mov %ax, %es") \
    X(fs_conf, PM0, 32, OK, CONF, "mov $" S(CONF) ", %eax; mov %ax, %fs") \
    X(ss_ro, PM0, 32, 13, RO, "mov $" S(RO) ", %eax; mov %ax, %ss") \
    X(ss_dpl3, PM0, 32, 13, D3, "mov $" S(D3) ", %eax; mov %ax, %ss") \
    X(ss_rpl, PM0, 32, 13, D0, "mov $" S(D0) "+1, %eax; mov %ax, %ss") \
    X(gs_system, PM0, 32, 13, TSSB, "mov $" S(TSSB) ", %eax; mov %ax, %gs") \
    X(ro_write, PM0, 32, 13, 0, "mov $" S(RO) ", %eax; mov %ax, %ds; mov %eax, 0x20000") \
    X(ldt_empty, PM0, 32, 13, 4, "mov $4, %eax; mov %ax, %es") \
    X(ldt_used, PM0, 32, OK, 12, "mov $" S(LDTS) ", %eax; lldt %ax; mov $12, %eax; mov %ax, %es") \
    X(accessed, PM0, 32, OK, 0x93, "andb $0xfe, 0x1000+" S(D0) "+5; mov $" S(D0) ", %eax; mov %ax, %es;" \
                                   "movzbl 0x1000+" S(D0) "+5, %eax") \
    X(les_far, PM0, 32, OK, 0x11223344, "movl $0x11223344, 0x20000; movw $" S(D3) ", 0x20004; les 0x20000, %eax") \
    X(down_below, PM0, 32, 13, 0, "mov $" S(DOWN) ", %eax; mov %ax, %es; mov %es:0xfff, %eax") \
    X(down_above, PM0, 32, OK, 5, "movl $5, 0x20000; mov $" S(DOWN) ", %eax; mov %ax, %es; mov %es:0x20000, %eax") \
    X(lldt_data, PM0, 32, 13, D0, "mov $" S(D0) ", %eax; lldt %ax") \
    X(lldt_null, PM0, 32, OK, 3, "mov $3, %eax; lldt %ax") \
    X(lldt_ti, PM0, 32, 13, LDTS + 4, "mov $" S(LDTS) "+4, %eax; lldt %ax") \
    X(lldt_user, PM3, 32, 13, 0, "mov $" S(LDTS) ", %eax; lldt %ax") \
    X(ltr_null, PM0, 32, 13, 0, "xor %eax, %eax; ltr %ax") \
    X(ltr_busy, PM0, 32, 13, TSSB, "mov $" S(TSSB) ", %eax; ltr %ax") \
    X(ltr_absent, PM0, 32, 11, TSSNP, "mov $" S(TSSNP) ", %eax; ltr %ax") \
    X(ltr, PM0, 32, OK, 0x8b, "mov $" S(TSSA) ", %eax; ltr %ax; movzbl 0x1000+" S(TSSA) "+5, %eax") \
    X(lgdt_user, PM3, 32, 13, 0, "lgdt 0x20000") \
    X(ljmp_null, PM0, 32, 13, 0, "ljmp $0, $0") \
    X(ljmp_data, PM0, 32, 13, D0, "ljmp $" S(D0) ", $0") \
    X(ljmp_absent, PM0, 32, 11, CNP, "ljmp $" S(CNP) ", $0") \
    X(ljmp_outer, PM0, 32, 13, C3, "ljmp $" S(C3) ", $0") \
    X(ljmp_limit, PM0, 32, 13, 0, "ljmp $" S(SMALL) ", $0x1000") \
    X(ljmp_inner, PM3, 32, 13, C0, "ljmp $" S(C0) ", $0x8000") \
    X(ljmp_conf, PM3, 32, OK, CONF + 3, "ljmp $" S(CONF) ", $(1f-row_ljmp_conf+0x10000); 1: mov %cs, %eax") \
    X(lcall_ret, PM0, 32, OK, 7, "lcall $" S(C0) ", $(1f-row_lcall_ret+0x10000); jmp 2f; 1: mov $7, %eax; lret; 2:") \
    X(gate_jmp_inner, PM3, 32, 13, C0, "ljmp $" S(G3) ", $0") \
    X(gate_dpl, PM3, 32, 13, G0, "lcall $" S(G0) ", $0") \
    X(gate_rpl, PM0, 32, 13, G0, "lcall $" S(G0) "+3, $0") \
    X(gate_absent, PM3, 32, 11, GNP, "lcall $" S(GNP) ", $0") \
    X(gate_null, PM3, 32, 13, 0, "lcall $" S(GNULL) ", $0") \
    X(gate_data, PM3, 32, 13, D0, "lcall $" S(GDATA) ", $0") \
    X(gate_same, PM0, 32, OK, 0x30, "push $0x10; push $0x20; lcall $" S(G0) ", $0") \
    X(gate_inner, PM3, 32, OK, 0x3c, "push $0x14; push $0x28; lcall $" S(G3) ", $0") \
    X(gate_no_tss, PM3, 32, 10, TSSB, "lcall $" S(G3) ", $0") \
    X(gate_bad_ss, PM3, 32, 10, D3, "lcall $" S(G3) ", $0") \
    X(gate_absent_ss, PM3, 32, 12, DNP, "lcall $" S(G3) ", $0") \
    X(lret_null, PM0, 32, 13, 0, "push $0; push $0; lret") \
    X(lret_inner, PM3, 32, 13, C0, "push $" S(C0) "; push $0; lret") \
    X(lret_outer_ss, PM0, 32, 13, 0, "push $0; push $0xc000; push $" S(C3) "+3; push $0; lret") \
    X(lret_outer_dpl, PM0, 32, 13, D0, "push $" S(D0) "+3; push $0xc000; push $" S(C3) "+3; push $0; lret") \
    X(lret_outer, PM0, 32, OK, 0x1b, "push $" S(D3) "+3; push $0xc000; push $" S(C3) "+3; push $(1f-row_lret_outer+0x10000); lret; 1: mov %cs, %eax") \
    X(iret_outer_nulls, PM0, 32, OK, 0, "push $" S(D3) "+3; push $0xc000; push $0x3002; push $" S(C3) "+3;" \
                                       "push $(1f-row_iret_outer_nulls+0x10000); iret; 1: mov %ds, %eax") \
    X(iret_outer_null_rpl, PM0, 32, OK, 0, "mov $3, %ecx; mov %ecx, %gs; mov $1, %ecx; mov %ecx, %es; push $" S(D3) "+3;" \
                                           "push $0xc000; push $0x3002; push $" S(C3) "+3;" \
                                           "push $(1f-row_iret_outer_null_rpl+0x10000); iret; 1: mov %gs, %eax; mov %es, %ecx;" \
                                           "or %ecx, %eax") \
    X(null_rpl, PM0, 32, OK, 3, "mov $3, %ecx; mov %ecx, %gs; mov %gs, %eax") \
    X(iret_inner, PM3, 32, 13, C0, "pushf; push $" S(C0) "; push $0; iret") \
    X(iret_if, PM3, 32, OK, 0, "pushf; orl $0x3200, (%esp); push $" S(C3) "+3; " \
                              "push $(1f-row_iret_if+0x10000); iret; 1: pushf; pop %eax; and $0x3200, %eax") \
    X(iret_v86, PM0, 32, OK, 0x1234, "push $0; push $0; push $0; push $0; push $0; push $0xc000; push $0x23002;" \
                                     "push $0x1000; push $(1f-row_iret_v86); iret; .code16; 1: mov $0x1234, %eax; .code32") \
    X(v86_int, PM0, 32, 13, 0, "push $0; push $0; push $0; push $0; push $0; push $0xc000; push $0x20002;" \
                               "push $0x1000; push $(1f-row_v86_int); iret; 1: int $0x40") \
    X(int_beyond, PM0, 32, 13, 0x7f * 8 + 2, "int $0x7f") \
    X(int_absent, PM0, 32, 11, 0x40 * 8 + 2, "int $0x40") \
    X(int_bad_gate, PM0, 32, 13, 0x41 * 8 + 2, "int $0x41") \
    X(int_dpl, PM3, 32, 13, 0x42 * 8 + 2, "int $0x42") \
    X(int_inner, PM3, 32, OK, 0x1b, "int $0x43") \
    X(int_task, PM3, 32, OK, 0x77, "int $0x44; mov %ebx, %eax") \
    X(int3_dpl, PM3, 32, 13, 3 * 8 + 2, "int3") \
    X(into, PM0, 32, OK, 9, "mov $9, %eax; into") \
    X(bound_ok, PM0, 32, OK, 5, "movl $-5, 0x20000; movl $5, 0x20004; mov $5, %eax; bound %eax, 0x20000") \
    X(bound, PM0, 32, 5, 0, "movl $-5, 0x20000; movl $5, 0x20004; mov $-6, %eax; bound %eax, 0x20000") \
    X(aam, PM0, 32, OK, 0x0703, "mov $73, %eax; aam") \
    X(aam_zero, PM0, 32, 0, 0, ".byte 0xd4, 0") \
    X(pusha_popa, PM0, 32, OK, 0x42, "mov $0x42, %eax; pusha; xor %eax, %eax; popa") \
    X(enter2, PM0, 32, OK, 0x9000, "mov $0x9000, %ebp; movl $0x5555, 0x8ffc; enter $8, $2; cmpl $0x5555, 12(%esp); jne 1f; mov (%ebp), %eax; 1:") \
    X(enter_ss16, PM0, 32, OK, 0x18ffc, "movl $0xffff, 0x1000+" S(GNULL) "; movl $0x008f9200, 0x1004+" S(GNULL) "; mov $" S(GNULL) ", %eax;" \
                                        "mov %ax, %ss; mov $0x19000, %esp; enter $8, $1; mov 0x8ff8, %eax") \
    X(arpl, PM0, 32, OK, 0x12, "mov $0x10, %eax; mov $2, %ebx; arpl %bx, %ax") \
    X(lar_gate, PM0, 32, OK, 0xec00, "mov $" S(G3) ", %ebx; lar %ebx, %eax") \
    X(lar_hidden, PM3, 32, OK, 1, "mov $1, %eax; mov $" S(D0) ", %ebx; lar %ebx, %eax") \
    X(lsl_small, PM0, 32, OK, 0xfff, "mov $" S(SMALL) ", %ebx; lsl %ebx, %eax") \
    X(verr_conf, PM3, 32, OK, 1, "xor %eax, %eax; mov $" S(CONF) ", %ebx; verr %bx; setz %al") \
    X(verw_ro, PM0, 32, OK, 0, "xor %eax, %eax; mov $" S(RO) ", %ebx; verw %bx; setz %al") \
    X(cli_user, PM3, 32, 13, 0, "cli") \
    X(cli_iopl, PM3_IOPL3, 32, OK, 0, "sti; cli; pushf; pop %eax; and $0x200, %eax") \
    X(popf_user, PM3, 32, OK, 0, "push $0x3202; popf; pushf; pop %eax; and $0x3200, %eax") \
    X(in_bitmap, PM3, 32, 13, 0, "in $0x60, %al") \
    X(in_wide, PM3, 32, 13, 0, "in $0xf4, %ax") \
    X(in_allowed, PM3, 32, OK, 0xff, "xor %eax, %eax; in $0xf4, %al") \
    X(hlt_user, PM3, 32, 13, 0, "hlt") \
    X(cr0_user, PM3, 32, 13, 0, "mov %cr0, %eax") \
    X(smsw_user, PM3, 32, OK, 1, "xor %eax, %eax; smsw %ax; and $1, %eax") \
    X(rdtsc_tsd, PM3, 32, 13, 0, "rdtsc") \
    X(sgdt_umip, PM3, 32, 13, 0, "sgdt 0x20000") \
    X(cr0_pg_pe, PM0, 32, 13, 0, "mov $0x80000010, %eax; mov %eax, %cr0") \
    X(cr0_nw_cd, PM0, 32, 13, 0, "mov $0x20000011, %eax; mov %eax, %cr0") \
    X(cr1, PM0, 32, 6, 0, ".byte 0x0f, 0x20, 0xc8") \
    X(mov_cs, PM0, 32, 6, 0, ".byte 0x8e, 0xc8") \
    X(task_jmp, PM0, 32, OK, 0x77, "ljmp $" S(TSSA) ", $0") \
    X(task_call, PM0, 32, OK, 0x1177, "lcall $" S(TG) ", $0; add $0x1100, %ebx; mov %ebx, %eax") \
    X(task_16bit, PM0, 32, OK, 0xabcd1234, "movb $0x81, 0x1005+" S(TSSA) "; movw $0x8200, 0x680e; movw $2, 0x6810; movw $0xd000, 0x681a;" \
                                           "movw $0x1234, 0x681e; movw $" S(D0) ", 0x6822; movw $" S(C0) ", 0x6824; movw $" S(D0) ", 0x6826;" \
                                           "movw $" S(D0) ", 0x6828; movl $0xf4e6f089, 0x8200; movw $0xfeeb, 0x8204;" \
                                           "mov $0xabcd5678, %esi; ljmp $" S(TSSA) ", $0") \
    X(task_busy, PM0, 32, 13, TSSB, "ljmp $" S(TSSB) ", $0") \
    X(task_absent, PM0, 32, 11, TSSNP, "ljmp $" S(TSSNP) ", $0") \
    X(task_user, PM3, 32, 13, TSSA, "ljmp $" S(TSSA) ", $0") \
    X(task_nt, PM0, 32, 10, 0, "pushf; orl $0x4000, (%esp); popf; iret") \
    X(ss_null64, LONG0, 64, OK, 0, "xor %eax, %eax; mov %eax, %ss") \
    X(ss_null64_rpl, LONG0, 64, 13, 0, "mov $1, %eax; mov %eax, %ss") \
    X(ss_null64_user, LONG3, 64, 13, 0, "mov $3, %eax; mov %eax, %ss") \
    X(iretq_same, LONG0, 64, OK, 0x2b, "mov %rsp, %rcx; push $0; push %rcx; pushf; push $" S(C0) "; lea 1f(%rip), %rax;" \
                                       "push %rax; iretq; 1: mov $0x2b, %eax") \
    X(iretq_canonical, LONG0, 64, 13, 0, "push $" S(D0) "; push %rsp; pushf; push $" S(C0) "; mov $0x800000000000, %rax;" \
                                         "push %rax; iretq") \
    X(iretq_user_ss, LONG0, 64, 13, 0, "push $3; push $0xc000; pushf; push $" S(C3) "+3; push $0; iretq") \
    X(iretq_user, LONG0, 64, OK, C3 + 3, "push $" S(D3) "+3; push $0xc000; push $0x202; push $" S(C3) "+3;" \
                                         "lea 1f(%rip), %rax; push %rax; iretq; 1: mov %cs, %eax") \
    X(iretq_nt, LONG0, 64, 13, 0, "pushf; orl $0x4000, (%rsp); popf; iretq") \
    X(int_ist, LONG0, 64, OK, 0xb000 - 40, "int $0x45") \
    X(int_user64, LONG3, 64, OK, C3 + 3, "int $0x43") \
    X(int_dpl64, LONG3, 64, 13, 0x42 * 8 + 2, "int $0x42") \
    X(task_gate64, LONG0, 64, 13, 0x44 * 8 + 2, "int $0x44") \
    X(syscall_off, LONG3, 64, 6, 0, "syscall") \
    X(syscall, LONG3, 64, OK, 0x1d, "xor %eax, %eax; syscall; add $0xd, %eax") \
    X(sysret_canonical, LONG0, 64, 13, 0, "mov $0x800000000000, %rcx; sysretq") \
    X(efer_reserved, LONG0, 64, 13, 0, "mov $0xc0000080, %ecx; rdmsr; or $2, %eax; wrmsr") \
    X(efer_lme, LONG0, 64, 13, 0, "mov $0xc0000080, %ecx; rdmsr; and $~0x100, %eax; wrmsr") \
    X(pat_bad, LONG0, 64, 13, 0, "mov $0x277, %ecx; mov $2, %eax; xor %edx, %edx; wrmsr") \
    X(lstar_bad, LONG0, 64, 13, 0, "mov $0xc0000082, %ecx; xor %eax, %eax; mov $0x8000, %edx; wrmsr") \
    X(cr0_pg_off, LONG0, 64, 13, 0, "mov %cr0, %rax; btr $31, %rax; mov %rax, %cr0") \
    X(cr4_pae_off, LONG0, 64, 13, 0, "mov %cr4, %rax; btr $5, %rax; mov %rax, %cr4") \
    X(cr4_reserved, LONG0, 64, 13, 0, "mov %cr4, %rax; bts $31, %rax; mov %rax, %cr4") \
    X(cr3_reserved, LONG0, 64, 13, 0, "mov %cr3, %rax; bts $62, %rax; mov %rax, %cr3") \
    X(cr8_high, LONG0, 64, 13, 0, "mov $16, %eax; mov %rax, %cr8") \
    X(fsgsbase_off, LONG0, 64, 6, 0, "rdfsbase %rax") \
    X(wrgsbase, LONG0, 64, OK, 7, "mov %cr4, %rax; bts $16, %rax; mov %rax, %cr4; mov $0x20000, %eax; wrgsbase %rax;" \
                                  "movl $7, 0x20008; mov %gs:8, %eax") \
    X(swapgs_user, LONG3, 64, 13, 0, "swapgs") \
    X(dr7_high, LONG0, 64, 13, 0, "mov $1, %eax; shl $32, %rax; mov %rax, %dr7") \
    X(dr4_de, LONG0, 64, 6, 0, "mov %cr4, %rax; or $8, %eax; mov %rax, %cr4; mov %dr4, %rax") \
    X(dr_gd, LONG0, 64, 1, 0, "mov $0x2400, %eax; mov %rax, %dr7; mov %dr0, %rax") \
    X(dr_watch, LONG0, 64, 1, 0, "mov $0x20000, %eax; mov %rax, %dr0; mov $0xd0402, %eax; mov %rax, %dr7; incl 0x20002") \
    X(invpcid_type, LONG0, 64, 13, 0, "mov $4, %eax; invpcid 0x20000, %rax") \
    X(lcall_gate64, LONG3, 64, OK, 0x8100, "movl $0, 0x20000; movl $" S(G3) ", 0x20004; lcall *0x20000") \
    X(ss_fault64, LONG0, 64, 12, 0, "mov $0x800000000008, %rsp; push %rax")

#define X(n, mode, bits, vector, value, text) ASM(n, bits, text)
ROWS(X)
#undef X
#define X(n, mode, bits, vector, value, text) { #n, mode, row_##n, row_##n##_end, vector, value },
static const struct row rows[] = { ROWS(X) };
#undef X

/* What call gates lead to: the sum of two parameters (or where it is, in long mode), back to the caller. */
__asm__(".pushsection .rodata\n"
        "inner32:\n.code32\n mov 8(%esp), %eax; add 12(%esp), %eax; lret $8\ninner32_end:\n"
        "inner64:\n.code64\n lea inner64(%rip), %eax; lretq\ninner64_end:\n"
        "task2:\n.code32\n mov $0x77, %eax; pushf; testl $0x4000, (%esp); jz 1f; mov 0x6000+40+12, %ebx; movl %eax, 0x6000+40+12;"
        "iret; 1: out %al, $0xf4; 2: jmp 2b\ntask2_end:\n"
        "handler32:\n.code32\n mov 4(%esp), %eax; out %al, $0xf4; 1: jmp 1b\nhandler32_end:\n"
        "handler64:\n.code64\n mov 8(%rsp), %eax; out %al, $0xf4; 1: jmp 1b\nhandler64_end:\n"
        "ist64:\n.code64\n mov %esp, %eax; out %al, $0xf4; 1: jmp 1b\nist64_end:\n"
        "syscall64:\n.code64\n mov $0x10, %eax; sysretq\nsyscall64_end:\n"
        ".popsection\n");
extern const u8 inner32[], inner32_end[], inner64[], inner64_end[], task2[], task2_end[], handler32[], handler32_end[], handler64[],
    handler64_end[], ist64[], ist64_end[], syscall64[], syscall64_end[];

/* ---- the machine -------------------------------------------------------- */

struct machine {
    struct engine_vcpu *v;
    struct memory *memory;
    bool done;
    int vector; /* of the first exception */
    u32 error;
};

static u64 port_read(void *m, u16 port, unsigned size) { return size == 1 ? 0xff : size == 2 ? 0xffff : 0xffffffff; }
static void port_write(void *p, u16 port, unsigned size, u64 value)
{
    struct machine *m = p;
    m->done = true;
    engine_soft.kick(m->v);
}
static u64 mmio_read(void *m, u32 vcpu, u64 gpa, unsigned size) { return ~0ull; }
static void mmio_write(void *m, u32 vcpu, u64 gpa, unsigned size, u64 value) {}
static int interrupt_ack(void *m, u32 vcpu) { return -1; }
static u8 cr8_read(void *m, u32 vcpu) { return 0; }
static void cr8_write(void *m, u32 vcpu, u8 value) {}
static int msr_read(void *m, u32 vcpu, u32 msr, u64 *value) { return -1; }
static int msr_write(void *m, u32 vcpu, u32 msr, u64 value) { return -1; }
static const struct engine_machine ops = { port_read, port_write, mmio_read, mmio_write, interrupt_ack,
                                           cr8_read, cr8_write, msr_read, msr_write };

static void on_exception(void *p, u32 vcpu, unsigned vector, bool has_error, u32 error, const struct cpu_state *s)
{
    struct machine *m = p;
    if (m->vector != OK)
        return;
    m->vector = (int)vector;
    m->error = has_error ? error : 0;
}

static void put(u8 *ram, u32 at, u64 x, unsigned n) { memcpy(ram + at, &x, n); }

static void desc(u8 *ram, u32 sel, u32 base, u32 limit, u32 attr)
{
    if (attr & SEG_G)
        limit >>= 12;
    put(ram, GDT + sel,
        (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40 | (u64)(limit >> 16) << 48 |
            (u64)(attr >> 12 & 15) << 52 | (u64)(base >> 24) << 56, 8);
}
static u64 gate(u32 sel, u32 off, u32 attr, u32 low) /* low: parameters, or IST */
{
    return (off & 0xffff) | (u64)sel << 16 | (u64)low << 32 | (u64)attr << 40 | (u64)(off >> 16) << 48;
}

enum { CODE_RX = SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_A, DATA_RW = SEG_P | SEG_S | SEG_W | SEG_A };

static void build(u8 *ram, const struct row *r)
{
    const bool l = r->mode >= LONG0;
    const u32 code = SEG_G | (l ? SEG_L : SEG_DB), data = SEG_G | SEG_DB, gate_type = SEG_P | 12;
    memset(ram, 0, MEM);
    desc(ram, C0, 0, ~0u, CODE_RX | code);
    desc(ram, D0, 0, ~0u, DATA_RW | data);
    desc(ram, C3, 0, ~0u, CODE_RX | code | SEG_DPL);
    desc(ram, D3, 0, ~0u, DATA_RW | data | SEG_DPL);
    desc(ram, CONF, 0, ~0u, CODE_RX | code | SEG_C);
    desc(ram, XO, 0, ~0u, (CODE_RX & ~SEG_R) | code);
    desc(ram, RO, 0, ~0u, (DATA_RW & ~SEG_W) | data);
    desc(ram, DNP, 0, ~0u, (DATA_RW & ~SEG_P) | data);
    desc(ram, CNP, 0, ~0u, (CODE_RX & ~SEG_P) | code);
    desc(ram, LDTS, LDT, 0xf, SEG_P | 2);
    desc(ram, TSSB, TSS, 0x68 + 0x20, SEG_P | 11);
    desc(ram, TSSA, TSS2, 0x67, SEG_P | 9);
    desc(ram, TSSNP, TSS2, 0x67, 9);
    put(ram, GDT + G0, gate(C0, INNER, gate_type, 0), 8);
    put(ram, GDT + G3, gate(C0, INNER, gate_type | SEG_DPL, l ? 0 : 2), 8);
    put(ram, GDT + GNP, gate(C0, INNER, 12 | SEG_DPL, 0), 8);
    put(ram, GDT + GNULL, gate(0, INNER, gate_type | SEG_DPL, 0), 8);
    put(ram, GDT + GDATA, gate(D0, INNER, gate_type | SEG_DPL, 0), 8);
    put(ram, GDT + TG, gate(TSSA, 0, SEG_P | 5, 0), 8);
    desc(ram, SMALL, 0, 0xfff, CODE_RX | code);
    desc(ram, DOWN, 0, 0xfff, DATA_RW | SEG_E | SEG_DB);
    put(ram, LDT + 8, 0x00cf93000000ffff, 8);

    for (u32 v = 0; v < 0x50; v++) {
        u32 attr = SEG_P | 14 | (v == 0x43 || v == 0x44 ? SEG_DPL : 0), to = v == 0x45 ? HANDLER + 0x40 : HANDLER;
        u64 g = gate(C0, to, attr, v == 0x45 && l ? 1 : 0);
        if (v == 0x40)
            g = gate(C0, HANDLER, 14 | SEG_DPL, 0);
        else if (v == 0x41)
            g = gate(C0, HANDLER, SEG_P | 2 | SEG_DPL, 0);
        else if (v == 0x44)
            g = gate(TSSA, 0, SEG_P | 5 | SEG_DPL, 0);
        put(ram, IDT + v * (l ? 16 : 8), g, 8);
    }
    memset(ram + TSS + 0x68, 0xff, 0x21); /* the I/O bitmap: port F4h alone */
    ram[TSS + 0x68 + 0xf4 / 8] &= (u8)~(1 << (0xf4 & 7));
    put(ram, TSS + 0x66, 0x68, 2);
    if (l) {
        put(ram, TSS + 4, STACK0, 8), put(ram, TSS + 36, IST1, 8);
    } else {
        put(ram, TSS + 4, STACK0, 4), put(ram, TSS + 8, D0, 4);
        put(ram, TSS2 + 32, TASK2, 4), put(ram, TSS2 + 36, 2, 4), put(ram, TSS2 + 56, STACK2, 4);
        static const u16 sel[] = { D0, C0, D0, D0, 0, 0 };
        for (u32 k = 0; k < 6; k++)
            put(ram, TSS2 + 72 + 4 * k, sel[k], 2);
    }
#define COPY(at, name) memcpy(ram + (at), name, (size_t)(name##_end - name))
    if (l) {
        COPY(INNER, inner64), COPY(HANDLER, handler64), COPY(HANDLER + 0x40, ist64), COPY(SYSCALL, syscall64);
    } else {
        COPY(INNER, inner32), COPY(HANDLER, handler32), COPY(TASK2, task2);
    }
    put(ram, PML4, PDPT | 7, 8), put(ram, PDPT, PD | 7, 8), put(ram, PD, 0x80 | 7, 8);
    memcpy(ram + CODE, r->start, (size_t)(r->end - r->start));
}

static struct cpu_seg seg(u32 sel, u32 attr, u32 base, u32 limit)
{
    return (struct cpu_seg){ .selector = (u16)sel, .attr = (u16)attr, .base = base, .limit = limit };
}

static void state(struct cpu_state *s, const struct row *r, u8 *ram)
{
    const bool l = r->mode >= LONG0, user = r->mode != PM0 && r->mode != LONG0;
    const u32 dpl = user ? SEG_DPL : 0, rpl = user ? 3 : 0;
    cpu_reset(s, true);
    memset(s->gpr, 0, sizeof s->gpr);
    s->cr0 = CR0_PE | CR0_ET | CR0_NE;
    s->gdtr = (struct cpu_table){ GDT, GDT_LIMIT };
    s->idtr = (struct cpu_table){ IDT, 0x50 * (l ? 16 : 8) - 1 };
    s->tr = seg(TSSB, SEG_P | 11, TSS, 0x68 + 0x20);
    s->ldtr.attr = SEG_UNUSABLE;
    for (int k = 0; k < SEG_COUNT; k++)
        s->seg[k] = seg((user ? D3 : D0) | rpl, DATA_RW | SEG_DB | SEG_G | dpl, 0, ~0u);
    s->seg[CS] = seg((user ? C3 : C0) | rpl, CODE_RX | SEG_G | dpl | (l ? SEG_L : SEG_DB), 0, ~0u);
    s->gpr[RSP] = user ? STACK3 : STACK0;
    s->rip = CODE;
    s->rflags = RFLAGS_FIXED | (r->mode == PM3_IOPL3 ? RFLAGS_IOPL : 0);
    if (l) {
        s->cr3 = PML4;
        s->cr4 = CR4_PAE;
        s->cr0 |= CR0_PG | CR0_WP;
        s->efer = EFER_LME | EFER_LMA | EFER_SCE;
        s->star = (u64)C0 << 32 | (u64)(C3 - 16 + 3) << 48; /* SYSRET: SS = +8, CS = +16 */
        s->lstar = SYSCALL;
    }
    /* What the row wants otherwise. */
    if (!strcmp(r->name, "gate_no_tss"))
        s->tr.limit = 7;
    else if (!strcmp(r->name, "gate_bad_ss"))
        put(ram, TSS + 8, D3 | 3, 4);
    else if (!strcmp(r->name, "gate_absent_ss"))
        put(ram, TSS + 8, DNP, 4);
    else if (!strcmp(r->name, "sgdt_umip"))
        s->cr4 |= CR4_UMIP;
    else if (!strcmp(r->name, "rdtsc_tsd"))
        s->cr4 |= CR4_TSD;
    else if (!strcmp(r->name, "syscall_off"))
        s->efer &= ~EFER_SCE;
}

static void run_row(struct machine *m, struct engine_vm *vm, const struct row *r)
{
    static struct cpu_state s;
    struct error err = { "" };
    u8 *ram = m->memory->region[0].host;
    build(ram, r);
    state(&s, r, ram);
    m->done = false;
    m->vector = OK;
    m->error = 0;
    engine_soft.reset_caches(vm);
    if (engine_soft.set_state(m->v, &s)) {
        test_fail(__FILE__, __LINE__, "%s: set_state", r->name);
        return;
    }
    enum run_result result = RUN_KICKED;
    for (int turn = 0; turn < 10 && !m->done && result == RUN_KICKED; turn++)
        result = engine_soft.run(m->v, &err);
    if (engine_soft.get_state(m->v, &s))
        test_fail(__FILE__, __LINE__, "%s: get_state", r->name);
    /* A stack that is no good is none for the handler either: the row ends in shutdown. */
    if (!m->done && (result != RUN_SHUTDOWN || m->vector == OK))
        test_fail(__FILE__, __LINE__, "%s: ended at rip %llx, exception %d(%x) %s", r->name, (unsigned long long)s.rip,
                  m->vector, m->error, err.text);
    else if (m->vector != r->vector)
        test_fail(__FILE__, __LINE__, "%s: exception %d(%x), not %d(%x)", r->name, m->vector, m->error, r->vector,
                  r->vector == OK ? 0 : r->value);
    else if (r->vector == OK ? (u32)s.gpr[RAX] != r->value : m->error != r->value)
        test_fail(__FILE__, __LINE__, "%s: %s %x, not %x", r->name, r->vector == OK ? "eax" : "error code",
                  r->vector == OK ? (u32)s.gpr[RAX] : m->error, r->value);
}

TEST(rules)
{
    static struct cpuid_table supported, cpuid;
    static struct machine m;
    struct error err = { "" };
    struct engine_vm *vm = NULL;
    REQUIRE(!cpuid_soft_supported(&supported, &err));
    const struct cpuid_request rq = { .model = "max", .cpus = 1, .supported = &supported };
    REQUIRE(!cpuid_build(&cpuid, &rq, &err));
    m.memory = memory_new(&err);
    REQUIRE(m.memory);
    REQUIRE(!memory_add(m.memory, "ram", 0, MEM, false, &err));
    const struct engine_trace trace = { .ctx = &m, .exception = on_exception };
    const struct engine_config cfg = { .memory = m.memory, .cpuid = &cpuid, .ops = &ops, .machine = &m, .cpus = 1, .trace = &trace };
    REQUIRE(!engine_soft.vm_create(&vm, &cfg, &err));
    REQUIRE(!engine_soft.vcpu_create(vm, 0, &m.v, &err));
    for (unsigned k = 0; k < ARRAY_SIZE(rows); k++)
        run_row(&m, vm, &rows[k]);
    printf("%u rows\n", (unsigned)ARRAY_SIZE(rows));
    /* An INIT, and the SIPI behind it, that come to a processor which stands still are in its state */
    static struct cpu_state s;
    state(&s, &rows[0], m.memory->region[0].host);
    REQUIRE(!engine_soft.set_state(m.v, &s));
    engine_soft.signal(m.v, SIGNAL_NMI, 0);
    engine_soft.signal(m.v, SIGNAL_INIT, 0);
    engine_soft.signal(m.v, SIGNAL_SIPI, 0x12);
    REQUIRE(!engine_soft.get_state(m.v, &s));
    CHECK_EQ(s.seg[CS].base + s.rip, 0xfffffff0);
    CHECK_EQ(s.cr0 & CR0_PE, 0);
    CHECK(!s.nmi_pending && s.sipi_pending);
    CHECK_EQ(s.sipi_vector, 0x12);
    engine_soft.vcpu_destroy(m.v);
    engine_soft.vm_destroy(vm);
    memory_free(m.memory);
}
