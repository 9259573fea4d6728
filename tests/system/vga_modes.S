/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_modes.S - boots from a floppy disk; sets modes by the BIOS, draws in each by every way there is to write and to read
 * video memory, says "mode XXXX" on COM2 and waits for a byte there.  At the end, "end".
 */
.code16
.globl _start
_start:
    ljmp $0, $1f
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    sti
    mov $0x0207, %ax            /* 7 sectors from the second on */
    mov $0x0002, %cx
    xor %dh, %dh
    mov $0x7e00, %bx
    int $0x13
    jc 1b
    cld
    mov $modes, %si
next:
    lodsw
    mov %ax, mode
    inc %ax
    jz end
    dec %ax
    test %ah, %ah
    jnz vbe
    cmp $0x50, %al
    jne 1f
    mov $3, %al
1:  push %ax                    /* twice: SeaBIOS writes the CRT controller's registers before they are at the mode's ports */
    int $0x10
    pop %ax
    int $0x10
    mov $0x0100, %ax            /* no cursor */
    mov $0x2000, %cx
    int $0x10
draw:
    lodsw
    push %si
    call *%ax
    mov $said, %si
    call say
    mov mode, %ax
    call hex
    mov $0x2fd, %dx
1:  in %dx, %al
    test $1, %al
    jz 1b
    mov $0x2f8, %dx
    in %dx, %al
    pop %si
    jmp next
vbe:
    mov %ax, %bx
    mov $0x4f02, %ax
    int $0x10
    cmp $0x004f, %ax
    je draw
end:
    mov $ended, %si
    call say
1:  hlt
    jmp 1b

.org 510
.word 0xaa55

modes: /* 50: 80x50 characters. Not 7: SeaBIOS resets the flip-flop of 3C0h at 3DAh where it is at 3BAh, and the screen stays
          dark, with QEMU as well. No 4-bit mode of VBE:
          QEMU's sequencer is not the guest's there. */
.word 0x00, text, 0x01, text, 0x02, text, 0x03, text, 0x50, small, 0x04, cga, 0x05, cga, 0x06, cga
.word 0x0d, planar, 0x0e, planar, 0x0f, planar, 0x10, planar, 0x11, planar, 0x12, planar, 0x13, bytes
.word 0x101, banks, 0x10d, banks, 0x110, banks, 0x111, banks, 0x112, banks, 0x144, banks, 0xffff
mode: .word 0
said: .asciz "mode "
ended: .asciz "end\n"

say:
    lodsb
    test %al, %al
    jz 9f
    call put
    jmp say
put:
    push %ax
    mov $0x2fd, %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    pop %ax
    mov $0x2f8, %dx
    out %al, %dx
9:  ret
hex:
    mov $4, %cx
1:  rol $4, %ax
    push %ax
    and $15, %al
    add $'0', %al
    cmp $'9', %al
    jbe 2f
    add $'a' - '9' - 1, %al
2:  call put
    pop %ax
    loop 1b
    mov $'\n', %al
    jmp put

small:
    mov $0x1112, %ax
    xor %bl, %bl
    int $0x10
    mov $0x0100, %ax
    mov $0x2000, %cx
    int $0x10
text:                           /* all characters, all attributes that do not blink; not B0-BF, whose ninth dot is disputed */
    mov $0xb800, %ax
    mov %ax, %es
    xor %di, %di
    mov $4000, %cx
1:  mov %di, %ax
    shr $1, %ax
    mov %al, %bl
    and $0xf0, %bl
    cmp $0xb0, %bl
    jne 2f
    or $0x40, %al
2:  mov %di, %bx
    shr $5, %bx
    and $0x7f, %bl
    mov %bl, %ah
    stosw
    loop 1b
    ret
cga:
    mov $0xb800, %ax
    mov %ax, %es
    xor %di, %di
    mov $0x4000, %cx
1:  mov %di, %ax
    imul $5, %ax
    xor %ah, %al
    stosb
    loop 1b
    ret
bytes:
    mov $0xa000, %ax
    mov %ax, %es
    xor %di, %di
    mov $64000, %cx
1:  mov %di, %ax
    xor %ah, %al
    stosb
    loop 1b
    push %ds                    /* and some lines read back */
    push %es
    pop %ds
    mov $320 * 20, %si
    mov $320 * 150, %di
    mov $320 * 8, %cx
    rep movsl
    pop %ds
    ret
banks:                          /* all the memory that there may be a picture of */
    mov $0xa000, %ax
    mov %ax, %es
    xor %ebp, %ebp
1:  mov $0x4f05, %ax
    xor %bx, %bx
    mov %bp, %dx
    push %bp
    int $0x10
    pop %bp
    xor %di, %di
    mov $0x4000, %cx
2:  imul $0x01030517, %edi, %eax
    imul $0x3c6ef35f, %ebp, %edx
    xor %edx, %eax
    stosl
    loop 2b
    inc %bp
    cmp $48, %bp
    jne 1b
    ret

.macro gc register, value
    mov $\register | \value << 8, %ax
    out %ax, %dx
.endm
/* Eight lines from byte \at on: read (the latches) and written. */
.macro strip at
    mov $\at, %di
    mov $640, %cx
1:  mov %es:(%di), %al
    mov %di, %ax
    add %ah, %al
    stosb
    loop 1b
.endm
planar:
    mov $0xa000, %ax
    mov %ax, %es
    xor %bp, %bp
1:  mov $0x3c4, %dx             /* noise, plane by plane */
    mov %bp, %cx
    mov $0x0102, %ax
    shl %cl, %ah
    out %ax, %dx
    xor %di, %di
    mov $60000, %cx
2:  mov %di, %ax
    mov %bp, %bx
    imul $7, %bx
    inc %bx
    imul %bx, %ax
    xor %ah, %al
    stosb
    loop 2b
    inc %bp
    cmp $4, %bp
    jne 1b
    mov $0x0f02, %ax
    out %ax, %dx
    mov $0x3ce, %dx
    gc 1, 15                    /* write mode 0: set/reset, bit mask */
    gc 0, 5
    gc 8, 0x3c
    strip 1280
    gc 1, 2                     /* set/reset in one plane, rotation and the functions */
    gc 8, 0xff
    gc 3, 0x1b
    strip 2560
    gc 1, 0
    gc 3, 0x0d
    strip 3840
    gc 3, 0x17
    gc 8, 0x5a
    strip 5120
    gc 3, 0
    gc 8, 0xff
    gc 5, 1                     /* write mode 1 */
    push %ds
    push %es
    pop %ds
    mov $8000, %si
    mov $6400, %di
    mov $640, %cx
    rep movsb
    pop %ds
    gc 5, 2                     /* write mode 2 */
    gc 8, 0xf1
    strip 7680
    gc 5, 3                     /* write mode 3 */
    gc 0, 10
    gc 3, 2
    gc 8, 0x7e
    strip 8960
    gc 0, 0
    gc 3, 0
    gc 8, 0xff
    gc 5, 8                     /* read mode 1, and what it read */
    gc 2, 5
    gc 7, 7
    xor %si, %si
1:  mov %es:9600(%si), %al
    mov %al, 0xa000(%si)
    inc %si
    cmp $640, %si
    jne 1b
    gc 5, 0
    mov $0xa000, %si
    mov $10240, %di
    mov $640, %cx
    rep movsb
    mov $0x3c4, %dx             /* some planes only, and a map read out */
    mov $0x0a02, %ax
    out %ax, %dx
    mov $0x3ce, %dx
    gc 4, 2
    push %ds
    push %es
    pop %ds
    mov $2000, %si
    mov $11520, %di
    mov $320, %cx
    rep movsw
    pop %ds
    ret
.org 8 * 512
