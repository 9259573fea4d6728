/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lifecycle.S - a Multiboot guest that ends in the way the last letter of its command line names:
 *
 *   o power-off   e debug exit 21   t triple fault   h halts for ever   l loops for ever
 *   c k n p       resets by CF9h, the 8042, port 92h, the ACPI reset register; the second time round it powers off
 *   w             writes to COM1 for ever
 *   d             writes sector 2048 of the first IDE disk (ATA, WRITE SECTORS), then halts for ever
 */
    .code32
    .text
    .globl _start
    .align 4
    .long 0x1badb002, 0, -0x1badb002

_start:
    movl $stack_top, %esp
    movl 16(%ebx), %esi
1:  lodsb
    testb %al, %al
    jnz 1b
    movb -2(%esi), %bl

    cmpb $'o', %bl
    je power_off
    cmpb $'e', %bl
    je debug_exit
    cmpb $'t', %bl
    je triple_fault
    cmpb $'h', %bl
    je halt
    cmpb $'l', %bl
    je loop_for_ever
    cmpb $'w', %bl
    je write_for_ever
    cmpb $'d', %bl
    je write_disk

    cmpb $1, loaded                 /* the kernel is loaded anew, whatever was done to it */
    jne broken
    movb $0, loaded
    movb $0x50, %al                 /* CMOS survives a reset */
    outb %al, $0x70
    inb $0x71, %al
    cmpb $0x5a, %al
    je second_time
    movb $0x5a, %al
    outb %al, $0x71
    movl $first, %esi
    call print
    cmpb $'k', %bl
    je by_8042
    cmpb $'n', %bl
    je by_port92
    movw $0xcf9, %dx
    movb $0xe, %al
    cmpb $'c', %bl
    je 2f
    movb $6, %al                    /* what the FADT says */
2:  outb %al, %dx
    jmp broken                      /* not one instruction more */
by_8042:
    movb $0xfe, %al
    outb %al, $0x64
    jmp broken
by_port92:
    movb $1, %al
    outb %al, $0x92
broken:
    movl $wrong, %esi
    call print
    hlt
    jmp broken

second_time:
    movl $again, %esi
    call print
power_off:
    movw $0x604, %dx
    movw $0x2000, %ax
    outw %ax, %dx
    jmp broken
debug_exit:
    movb $21, %al
    outb %al, $0xf4
    jmp broken
triple_fault:
    lidt no_idt
    ud2
halt:
    movl $halting, %esi
    call print
1:  cli
    hlt
    jmp 1b
loop_for_ever:
    movl $halting, %esi
    call print
1:  jmp 1b
write_for_ever:
    movw $0x3f8, %dx
1:  outb %al, %dx
    jmp 1b

write_disk:
    movl $task_file, %esi           /* LBA 2048, one sector */
    movw $0x1f2, %dx
1:  lodsb
    outb %al, %dx
    incw %dx
    cmpw $0x1f8, %dx
    jne 1b
    decw %dx
1:  inb %dx, %al                    /* until BSY is clear and DRQ set */
    andb $0x88, %al
    cmpb $0x08, %al
    jne 1b
    movw $0x1f0, %dx
    movl $256, %ecx
    movw $0x5aa5, %ax
1:  outw %ax, %dx
    loop 1b
    movw $0x1f7, %dx
1:  inb %dx, %al
    testb $0x80, %al
    jnz 1b
    jmp halt

print:
    movw $0x3f8, %dx
1:  lodsb
    testb %al, %al
    jz 2f
    outb %al, %dx
    jmp 1b
2:  ret

    .data
loaded: .byte 1
first: .asciz "first\n"
again: .asciz "again\n"
wrong: .asciz "WRONG\n"
halting: .asciz "ready\n"
task_file: .byte 1, 0, 8, 0, 0xe0, 0x30
no_idt: .word 0
    .long 0

    .bss
    .skip 4096
stack_top:
    .section .note.GNU-stack, "", @progbits
