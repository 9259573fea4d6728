/* SPDX-License-Identifier: Apache-2.0 */
/* echo.S - a boot sector that shows what is typed, by the BIOS; slowly, as programs are that have more to do. */
    .code16
    .globl _start
_start:
    ljmp $0, $begin
begin:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    movw $ready, %si
say:
    lodsb
    testb %al, %al
    jz next
    movb $0x0e, %ah
    movw $7, %bx
    int $0x10
    jmp say
next:
    movb $0, %ah
    int $0x16
    cmpb $13, %al
    jne show
    movw $0x0e0a, %ax
    int $0x10
    movb $13, %al
show:
    cmpw $0x3b00, %ax /* F1 */
    jne 1f
    movw $f1, %si
    jmp say
1:  movb $0x0e, %ah
    movw $7, %bx
    int $0x10
    movb $0x86, %ah /* 15 ms */
    xorw %cx, %cx
    movw $15000, %dx
    int $0x15
    jmp next
ready:
    .asciz "type> "
f1:
    .asciz "[help]"
    .org 510
    .word 0xaa55
