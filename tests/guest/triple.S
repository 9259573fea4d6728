/* SPDX-License-Identifier: Apache-2.0 */
/* triple.S - must die: an exception with no interrupt table is a triple fault. */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002
    .text
    .code32
    .globl _start
_start:
    mov $0x3f8, %edx
    mov $'T', %al
    out %al, %dx
    mov $'\n', %al
    out %al, %dx
    lidt empty
    ud2
    hlt
empty:
    .word 0
    .long 0
    .section .note.GNU-stack, "", @progbits
