/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stac.S - the same RIP is code of 32 bits and, in another segment, of 16; both run in the supervisor's half of the TLB that
 * SMAP's AC flag opens, which STAC and CLAC enter and leave in the midst of a translation: each must find its own.
 */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002
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
    mov $low, %esi
    mov $0x8000, %edi
    mov $(low_end - low), %ecx
    rep movsb
    mov $low16, %esi
    mov $0x28000, %edi
    mov $(low16_end - low16), %ecx
    rep movsb
    mov $7, %eax
    xor %ecx, %ecx
    cpuid
    mov $0x8000 + passed - low, %eax
    test $1 << 20, %ebx /* SMAP */
    jz 2f
    mov %cr4, %eax
    or $0x200000, %eax
    mov %eax, %cr4
    mov $0x8000 + main - low, %eax
2:  jmp *%eax
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00009b020000ffff
gdtr:
    .word 31
    .long gdt
    .data
    .long 1
    .text
low:
    .org low + 0x100
    mov $2, %bl                 /* 8100: 32 bits */
    jmp *%ebp
main:
    mov $20000, %esi
round:
    ljmp $0x18, $0x8000
back:
    mov $0x8000 + 1f - low, %ebp
    mov $0x8100, %eax
    xor %ebx, %ebx
    stac
    jmp *%eax
1:  clac
    cmp $2, %bl
    jne bad
    dec %esi
    jnz round
passed:
    mov $0x8000 + pass - low, %esi
    mov $0, %bl
    jmp 2f
bad:
    mov $0x8000 + failed - low, %esi
2:  lodsb
    test %al, %al
    jz 4f
    mov $0x3f8, %dx
    out %al, %dx
    jmp 2b
4:  mov %bl, %al
    out %al, $0xf4
    hlt
pass: .asciz "stac: PASS\n"
failed: .asciz "stac: FAIL\n"
low_end:
    .code16
low16:
    mov $3, %di
    stac
3:  mov $0x8000 + 1f - low16, %bp
    mov $0x8100, %ax
    jmp *%ax
1:  dec %di
    jnz 3b
    clac
    ljmpl $0x08, $0x8000 + back - low
    .org low16 + 0x100
    mov $1, %bl                 /* 8100: 16 bits */
    jmp *%bp
low16_end:
