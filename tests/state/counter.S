/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counter.S - a guest whose output depends on everything it has been through, and on nothing else.
 *
 * Each round mixes a memory area, an SSE register, the x87 stack and a running sum, waits in HLT for a tick of the
 * 8254 through the 8259A, and prints the sum.  The digit at the end of the Multiboot command line sets the amount; below
 * 4 no SSE, x87 and IRET (a KVM that interprets has none in ring 0).
 * Ends by the debug exit with 0.
 */
    .code32
    .text
    .globl _start
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .set AREA_WORDS, 65536
    .set COM1, 0x3f8

_start:
    movl $stack_top, %esp
    movl 16(%ebx), %esi             /* command line: to its last character */
1:  lodsb
    testb %al, %al
    jnz 1b
    movzbl -2(%esi), %eax
    subl $'0', %eax
    movl %eax, %ecx
    shll $6, %eax
    movl %eax, rounds
    addl $3, %ecx
    movl $1, %eax
    shll %cl, %eax
    movl %eax, mixes

    lgdt gdt_pointer
    ljmp $8, $1f
1:  movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss

    movl $tick, %eax                /* vector 20h */
    movw %ax, idt + 0x20 * 8
    movw $8, idt + 0x20 * 8 + 2
    movw $0x8e00, idt + 0x20 * 8 + 4
    shrl $16, %eax
    movw %ax, idt + 0x20 * 8 + 6
    lidt idt_pointer

    movb $0x11, %al                 /* 8259A: vectors 20h and 28h, only IRQ 0 unmasked */
    outb %al, $0x20
    outb %al, $0xa0
    movb $0x20, %al
    outb %al, $0x21
    movb $0x28, %al
    outb %al, $0xa1
    movb $4, %al
    outb %al, $0x21
    movb $2, %al
    outb %al, $0xa1
    movb $1, %al
    outb %al, $0x21
    outb %al, $0xa1
    movb $0xfe, %al
    outb %al, $0x21
    movb $0xff, %al
    outb %al, $0xa1

    movb $0x34, %al                 /* 8254 channel 0, mode 2, 1 kHz */
    outb %al, $0x43
    movb $(1193 & 255), %al
    outb %al, $0x40
    movb $(1193 >> 8), %al
    outb %al, $0x40

    cmpl $128, mixes
    jb 1f
    movl %cr0, %eax                 /* SSE and x87 */
    andl $~4, %eax
    orl $2, %eax
    movl %eax, %cr0
    movl %cr4, %eax
    orl $0x600, %eax
    movl %eax, %cr4
    fninit
    fld1
    movdqu seed, %xmm5
1:
    movl $12345, %eax               /* the area, by a linear congruence */
    movl $area, %edi
    movl mixes, %ecx                /* (all of it at 6) */
    shll $7, %ecx
1:  imull $1664525, %eax, %eax
    addl $1013904223, %eax
    stosl
    loop 1b

    xorl %ebx, %ebx                 /* the sum */
    movl rounds, %ebp
round:
    movl mixes, %ecx
1:  imull $1664525, %eax, %eax
    addl $1013904223, %eax
    movl %eax, %edx
    shrl $16, %edx                  /* an index into the area */
    addl area(, %edx, 4), %ebx
    roll $5, %ebx
    xorl %ebx, area(, %edx, 4)
    cmpl $128, mixes
    jb 2f
    movd %ebx, %xmm6
    pshufd $0x93, %xmm5, %xmm5
    paddd %xmm6, %xmm5
2:  loop 1b
    cmpl $128, mixes
    jb 2f
    movd %xmm5, %edx
    xorl %edx, %ebx
    fld1                            /* counts rounds on the x87 stack */
    faddp
    fsts number
    addl number, %ebx
2:
    movl ticks, %edx
1:  sti
    hlt
    cli
    cmpl ticks, %edx
    je 1b

    pushl %eax
    movl %ebx, %esi
    movl $8, %ecx
2:  roll $4, %esi
    movl %esi, %eax
    andl $15, %eax
    movb digits(%eax), %al
    movw $COM1, %dx
    outb %al, %dx
    loop 2b
    movb $10, %al
    outb %al, %dx
    popl %eax
    decl %ebp
    jnz round

    movb $0, %al
    outb %al, $0xf4
3:  hlt
    jmp 3b

tick:
    incl ticks
    pushl %eax
    movb $0x20, %al
    outb %al, $0x20
    popl %eax
    cmpl $128, mixes
    jb 1f
    iret
1:  pushl 8(%esp)                   /* what IRET does, for a KVM that cannot interpret it in protected mode */
    popfl
    lret $4

    .data
    .align 16
seed: .long 0x12345678, 0x9abcdef0, 0x0fedcba9, 0x87654321
digits: .ascii "0123456789abcdef"
    .align 8
gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer: .word 23
    .long gdt
idt_pointer: .word 0x21 * 8 - 1
    .long idt
ticks: .long 0
rounds: .long 0
mixes: .long 0
number: .long 0

    .bss
    .align 4096
idt: .skip 0x21 * 8
    .align 4096
area: .skip AREA_WORDS * 4
    .skip 4096
stack_top:
    .section .note.GNU-stack, "", @progbits
