/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rom.S - the last page of a firmware of 128 KiB that is a tiny guest: its first page is the guest's command line, then comes
 * the guest, as it lies from IMAGE_BASE on (objcopy -O binary).  Enters it as a Multiboot loader would.
 */
        .set ROM, 0xfffe0000
        .set IMAGE, 0x1e000             /* bytes of it in the ROM */
        .set BSS, 0x60000               /* and of zeros behind them */
        .set INFO, 0x500                /* the Multiboot information: flags, ..., command line */
        .code16
        .globl _start
_start: cli
        lgdtl %cs:(gdtr - _start + 0xf000)
        movl $1, %eax
        movl %eax, %cr0
        ljmpl $8, $1f
        .code32
1:      movw $16, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        cld
        movl $ROM + 0x1000, %esi
        movl $IMAGE_BASE, %edi
        movl $IMAGE / 4, %ecx
        rep movsl
        xorl %eax, %eax
        movl $BSS / 4, %ecx
        rep stosl
        movl $4, INFO
        movl $ROM, INFO + 16
        movl $INFO, %ebx
        movl $IMAGE_BASE + 0x10, %eax   /* behind the Multiboot header */
        jmp *%eax
        .align 8
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word 23
        .long gdt
        .org 0xff0
        .code16
        jmp _start
        .org 0x1000
        .section .note.GNU-stack, "", @progbits
