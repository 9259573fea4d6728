/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start64.S - a 64-bit tiny guest's beginning: Multiboot entry in 32-bit mode,
 * the first 4 GiB mapped one to one by 2 MiB pages, long mode, an interrupt stub
 * for each vector, then main() in C.  Everything lies below 4 GiB.
 */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .code32
    .globl _start
_start:
    cld
    mov %ebx, boot_info
    mov $stack_top, %esp
    lgdt gdt_pointer
    mov $pdpt, %eax
    or $7, %eax
    mov %eax, pml4
    mov $pd, %eax
    or $7, %eax
    mov $pdpt, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $4096, %eax
    add $8, %edi
    loop 1b
    mov $0x87, %eax            /* present, writable, user, large */
    mov $pd, %edi
    mov $2048, %ecx
2:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 2b
    mov $stubs, %eax
    mov $idt, %edi
    mov $256, %ecx
3:  mov %ax, (%edi)
    movw $0x18, 2(%edi)
    movw $0x8e00, 4(%edi)
    mov %eax, %edx
    shr $16, %edx
    mov %dx, 6(%edi)
    add $16, %edi
    add $16, %eax
    loop 3b
    call enter_long
    .code64
    mov $stack_top, %rsp
    movq $stack0_top, tss + 4
    movw $104, tss + 102
    mov $0x38, %ax
    ltr %ax
    call main
    xor %edi, %edi
    call guest_exit

    .code32
    /* From 32-bit protected mode with the GDT loaded: returns in 64-bit mode. Used by the other CPUs too. */
    .globl enter_long
enter_long:
    pop %esi
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0x620, %eax           /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax            /* SCE, LME, NXE */
    wrmsr
    mov $0x80010033, %eax      /* PG, WP, NE, ET, MP, PE */
    mov %eax, %cr0
    ljmp $0x18, $1f
    .code64
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    lidt idt_pointer
    jmp *%rsi

    /* The other CPUs arrive at the trampoline, copied to 8000h, in real mode. */
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl (trampoline_gdtr - trampoline + 0x8000)
    mov $0x11, %eax
    mov %eax, %cr0
    ljmpl $0x08, $ap32
trampoline_gdtr:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:
    .code32
ap32:
    mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $1, %eax
    lock xadd %eax, ap_started
    shl $12, %eax
    lea ap_stacks + 4096(%eax), %esp
    mov %esp, %ebx
    call enter_long
    .code64
    mov %ebx, %esp
    call ap_main
4:  cli
    hlt
    jmp 4b

    .align 16
stubs:
    .set v, 0
    .rept 256
    .align 16
    .if !(v == 8 || (v >= 10 && v <= 14) || v == 17)
    pushq $0
    .endif
    pushq $v
    jmp common
    .set v, v + 1
    .endr
common:
    push %r15
    push %r14
    push %r13
    push %r12
    push %r11
    push %r10
    push %r9
    push %r8
    push %rdi
    push %rsi
    push %rbp
    push %rbx
    push %rdx
    push %rcx
    push %rax
    cld
    mov %rsp, %rdi
    mov %rsp, %rbx
    and $-16, %rsp
    call interrupt
    mov %rbx, %rsp
    pop %rax
    pop %rcx
    pop %rdx
    pop %rbx
    pop %rbp
    pop %rsi
    pop %rdi
    pop %r8
    pop %r9
    pop %r10
    pop %r11
    pop %r12
    pop %r13
    pop %r14
    pop %r15
    add $16, %rsp
    iretq

    .weak ap_main
ap_main:
    ret

    .data
    .align 8
    .globl gdt, gdt_end, idt, tss, pml4, pdpt, pd, ap_started
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff   /* 08 code 32 */
    .quad 0x00cf93000000ffff   /* 10 data */
    .quad 0x00af9b000000ffff   /* 18 code 64 */
    .quad 0x00cffb000000ffff   /* 20 user code 32 */
    .quad 0x00cff3000000ffff   /* 28 user data */
    .quad 0x00affb000000ffff   /* 30 user code 64 */
    .word 103, 0x3000, 0x8900, 0 /* 38 TSS, at the fixed address 3000h */
    .quad 0
    .quad 0x00009b000000ffff   /* 48 code 16 */
    .quad 0x000093000000ffff   /* 50 data 16 */
    .fill 16, 8, 0             /* 58.. the guest's own */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
idt_pointer:
    .word 256 * 16 - 1
    .quad idt
ap_started:
    .long 0
    .globl boot_info
boot_info:
    .long 0                    /* the Multiboot information's address */
    .set tss, 0x3000
    .bss
    .align 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4 * 4096
idt:    .skip 4096
    .skip 16384
    .globl stack_top, stack0_top
stack_top:
    .skip 16384
stack0_top:
ap_stacks:
    .skip 16 * 4096
    .section .note.GNU-stack, "", @progbits
