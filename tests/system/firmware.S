/* SPDX-License-Identifier: Apache-2.0 */
/*
 * firmware.S - a boot sector that resets the machine by all ways there are, one after the other, and counts in CMOS how
 * often it was started; each start is a digit on COM1 and COM2.  The last way is the 80286's: CMOS tells the firmware to go on at
 * 0040:0067, with memory as it was: "R".  Then it powers off.
 */
        .code16
        .set COUNTER, 0x50              /* CMOS bytes that no firmware uses */
        .set SHUTDOWN, 0x0f
        .globl _start
_start: ljmp $0, $1f
1:      cli
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %ss
        movw $0x7c00, %sp
        movb $COUNTER, %al
        outb %al, $0x70
        inb $0x71, %al
        movb %al, %bl
        cmpb $6, %al                    /* power-on: the byte is 0, or whatever */
        jb 2f
        xorb %bl, %bl
2:      movb $COUNTER, %al
        outb %al, $0x70
        movb %bl, %al
        incb %al
        outb %al, $0x71
        movb %bl, %al
        addb $'0', %al
        call putc

        cmpb $0, %bl
        je keyboard
        cmpb $1, %bl
        je hard
        cmpb $2, %bl
        je soft
        cmpb $3, %bl
        je fast
        cmpb $4, %bl
        je shutdown

        movb $SHUTDOWN, %al             /* 5: 0Ah, a jump without an end of interrupt */
        outb %al, $0x70
        movb $0x0a, %al
        outb %al, $0x71
        movw $resumed, 0x467
        movw $0, 0x469
        movl $0x1badcafe, 0x600
keyboard:
        movb $0xfe, %al
        outb %al, $0x64
        jmp wait
hard:   movb $2, %al
        movw $0xcf9, %dx
        outb %al, %dx
        movb $6, %al
        outb %al, %dx
        jmp wait
soft:   xorb %al, %al
        movw $0xcf9, %dx
        outb %al, %dx
        movb $4, %al
        outb %al, %dx
        jmp wait
fast:   inb $0x92, %al
        andb $0xfe, %al
        outb %al, $0x92
        orb $1, %al
        outb %al, $0x92
        jmp wait
shutdown:
        lidt none
        int $3
wait:   hlt
        jmp wait

resumed:
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %ss
        movw $0x7c00, %sp
        movb $'R', %al
        cmpl $0x1badcafe, 0x600
        je 1f
        movb $'?', %al
1:      call putc
        movw $0x604, %dx
        movw $0x2000, %ax
        outw %ax, %dx
        jmp wait

putc:   movb %al, %ah
        movw $0x3fd, %dx
        call 1f
        movw $0x2fd, %dx
1:      inb %dx, %al
        testb $0x20, %al
        jz 1b
        movb $0xf8, %dl
        movb %ah, %al
        outb %al, %dx
        ret
none:   .word 0
        .long 0
        .org 510
        .word 0xaa55
        .org 0x100000                   /* a disk of more than a cylinder */
