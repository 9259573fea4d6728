/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start32.S - a 32-bit tiny guest's beginning: Multiboot entry, descriptor
 * tables, an interrupt stub for each vector, then main() in C.
 */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .code32
    .globl _start
_start:
    cld
    mov $stack_top, %esp
    xor %ebp, %ebp
    lgdt gdt_pointer
    ljmp $0x08, $1f
1:  mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    /* the IDT: 256 interrupt gates to the stubs below */
    mov $stubs, %eax
    mov $idt, %edi
    mov $256, %ecx
2:  mov %ax, (%edi)
    movw $0x08, 2(%edi)
    movw $0x8e00, 4(%edi)
    mov %eax, %edx
    shr $16, %edx
    mov %dx, 6(%edi)
    add $8, %edi
    add $16, %eax
    loop 2b
    lidt idt_pointer
    movl $stack0_top, tss + 4
    movl $0x10, tss + 8
    movw $104, tss + 102
    mov $0x38, %ax
    ltr %ax
    call main
    push $0
    call guest_exit

    .align 16
stubs:
    .set v, 0
    .rept 256
    .align 16
    .if !(v == 8 || (v >= 10 && v <= 14) || v == 17)
    pushl $0
    .endif
    pushl $v
    jmp common
    .set v, v + 1
    .endr
common:
    pusha
    push %ds
    push %es
    push %fs
    push %gs
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    cld
    push %esp
    call interrupt
    add $4, %esp
    pop %gs
    pop %fs
    pop %es
    pop %ds
    popa
    add $8, %esp
    iret

    .data
    .align 8
    .globl gdt, idt, tss
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff   /* 08 code 32 */
    .quad 0x00cf93000000ffff   /* 10 data */
    .quad 0x00af9b000000ffff   /* 18 code 64 */
    .quad 0x00cffb000000ffff   /* 20 user code 32 */
    .quad 0x00cff3000000ffff   /* 28 user data */
    .quad 0x00affb000000ffff   /* 30 user code 64 */
    .word 103                  /* 38 TSS */
    .word tss_low, tss_mid, 0
    .quad 0x00009b000000ffff   /* 40 code 16, base 0 */
    .quad 0x000093000000ffff   /* 48 data 16, base 0 */
    .fill 16, 8, 0             /* 50.. the guest's own */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
idt_pointer:
    .word 256 * 8 - 1
    .long idt
    /* A linker cannot split an address over a descriptor, so the TSS lies at a fixed place in low memory. */
    .set tss, 0x3000
    .set tss_low, 0x3000
    .set tss_mid, 0x8900
    .bss
    .align 4096
idt:    .skip 2048
    .skip 16384
stack_top:
    .skip 8192
    .globl stack0_top
stack0_top:
    .section .note.GNU-stack, "", @progbits
