/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modes.S - through the modes of the 16- and 32-bit machine: protected mode, 16-bit
 * protected mode, unreal mode (4 GiB segments in real mode), real mode with the
 * interrupt table and a software interrupt, and back.
 */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .set LOW, 0x8000            /* the 16-bit part runs from a copy here */
    .text
    .code32
    .globl _start
_start:
    cld
    cli
    mov $0x7000, %esp
    lgdt gdtr
    ljmp $0x08, $1f
1:  mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $low_start, %esi
    mov $LOW, %edi
    mov $(low_end - low_start), %ecx
    rep movsb
    movl $0x12345678, 0x200000  /* unreal mode is to find this */
    mov $'3', %al               /* 3: 32-bit protected mode */
    call putc32
    ljmp $0x18, $LOW            /* 16-bit code segment, base 0 */
back:
    mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7000, %esp
    mov $'b', %al               /* b: back in 32 bits */
    call putc32
    cmpl $0x87654321, 0x200000
    jne bad
    cmpl $0x1111, LOW - 0x10
    jne bad
    mov $pass, %esi
    call puts32
    mov $0, %al
    out %al, $0xf4
    hlt
bad:
    mov $failed, %esi
    call puts32
    mov $1, %al
    out %al, $0xf4
    hlt
puts32:
    lodsb
    test %al, %al
    jz 1f
    call putc32
    jmp puts32
1:  ret
putc32:
    push %edx
    push %eax
    mov $0x3fd, %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    pop %eax
    mov $0x3f8, %dx
    out %al, %dx
    pop %edx
    ret
pass:   .asciz "\nmodes: PASS\n"
failed: .asciz "\nmodes: FAIL\n"

    .align 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* 08 code 32 */
    .quad 0x00cf93000000ffff    /* 10 data 32 */
    .quad 0x00009b000000ffff    /* 18 code 16, base 0 */
    .quad 0x000093000000ffff    /* 20 data 16, base 0 */
gdtr:
    .word 39
    .long gdt

#define AT(label) (label - low_start + LOW)
    .code16
low_start:
    mov $0x20, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7000, %sp
    mov $'1', %al               /* 1: 16-bit protected mode */
    call putc
    mov $0x10, %ax              /* unreal: DS and ES keep the 4 GiB limit of this descriptor */
    mov %ax, %ds
    mov %ax, %es
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0, $AT(real)
real:
    xor %ax, %ax
    mov %ax, %ss
    mov $0x7000, %sp
    mov $'r', %al               /* r: real mode */
    call putc
    mov $0x200000, %ebx
    cmpl $0x12345678, %ds:(%ebx)
    jne 8f
    movl $0x87654321, %es:(%ebx)
    mov $'u', %al               /* u: unreal mode reads and writes above 1 MiB */
    call putc
8:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    lidtl AT(ivt)
    movw $AT(handler), 0x60 * 4
    movw $0, 0x60 * 4 + 2
    movw $AT(divide), 0
    movw $0, 2
    movw $0, LOW - 0x10
    movw $0, LOW - 0x0e
    int $0x60
    mov $7, %ax                 /* #DE through the table; its handler steps over */
    xor %cl, %cl
    div %cl
    mov $0x1100, %ax
    mov $0x20, %cl
    mov $0x1234, %bx            /* wrap-around of a 16-bit stack pointer */
    push %ds
    mov $0x6000, %dx
    mov %dx, %ss
    xor %sp, %sp
    push %bx
    cmp $0xfffe, %sp
    jne 9f
    pop %dx
    cmp %bx, %dx
    jne 9f
    addw $0x1000, %ds:LOW - 0x10
9:  xor %ax, %ax
    mov %ax, %ss
    mov $0x6ffe, %sp
    lgdtl AT(gdtr16)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x08, $back
handler:
    push %bp
    mov %sp, %bp
    testw $0x200, 6(%bp)        /* FLAGS as pushed: IF was clear */
    jnz 1f
    addw $0x11, %cs:LOW - 0x10
1:  mov $'i', %al               /* i: software interrupt */
    call putc
    pop %bp
    iret
divide:
    push %bp
    mov %sp, %bp
    addw $2, 2(%bp)             /* the fault's CS:IP is the DIV's */
    addw $0x100, %cs:LOW - 0x10
    pop %bp
    iret
putc:
    push %dx
    push %ax
    mov $0x3fd, %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    pop %ax
    mov $0x3f8, %dx
    out %al, %dx
    pop %dx
    ret
ivt:
    .word 0x3ff
    .long 0
gdtr16:
    .word 39
    .long gdt
low_end:
    .section .note.GNU-stack, "", @progbits
