/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real16.S - 16-bit code: the widths of operands, addresses and the stack, where offsets, IP and SP wrap and where they pass a
 * limit, one place run under several code segments, segments that keep what protected mode gave them. Every round goes
 * through 16-bit protected, virtual-8086 and real mode, and there are enough for all of it to be translated.
 * (SDM vol. 1 ch. 3 and 6, vol. 2 each instruction, vol. 3 ch. 3.4, 5.3, 20.)
 *
 * A fault is expected where DI says to go on; the handler answers DL vector, CX error code (protected mode), SI its IP.
 * -DNO_LIMITS is for QEMU's TCG, which holds no access against a limit.
 */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .set LOW, 0x10140           /* the 16-bit code: no page begins where its segment does */
    .set SEG, LOW >> 4
    .set DATA, 0x20000          /* DS */
    .set EXTRA, 0x30000         /* ES */
    .set STACK, 0x40000         /* SS */
    .set SMALL, 0x50000         /* what segments of small limits show */
    .set WRAP, 0x60000          /* a code segment that is run at its ends, which are those of pages */
    .set PATCHED, 0x23000       /* code that is written to while it is in use; DS shows it */
    .set FAR, 0x300000          /* beyond what real mode reaches, but for limits kept of protected mode */
    .set ROUNDS, 1500
    .set STACK0, 0x9000         /* of 32-bit code */
    .set SP0, 0x8000
    .set SAVED_SP, 0x10
    .set ROUND, 0x12
    .set TO_PATCHED, 0x20       /* far pointers to 10h and 20h there */

    .set CODE, 0x08
    .set FLAT, 0x10
    .set CODE16, 0x18
    .set DATA16, 0x20
    .set EXTRA16, 0x28
    .set STACK16, 0x30
    .set LIMITED, 0x38          /* SMALL, limit 1FFF */
    .set DOWN, 0x40             /* SMALL, expands down: 1000 to FFFF */
    .set READONLY, 0x48         /* SMALL */
    .set PATCHED16, 0x50        /* PATCHED */
    .set CODE16_OTHER, 0x58     /* the code, from 10000h on */
    .set CODE16_LIMITED, 0x60   /* the code, limit just before `beyond` */
    .set WIDE_STACK, 0x68       /* STACK, B = 1 */
    .set TASK, 0x70
    .set TSS, 0x5000            /* at a fixed place: a linker cannot split an address over a descriptor */
    .set TSS_SIZE, 104 + 8192 + 4

    .text
    .code32
    .globl _start
_start:
    cld
    cli
    mov $STACK0, %esp
    lgdt gdtr
    ljmp $CODE, $1f
1:  mov $FLAT, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $low_start, %esi
    mov $LOW, %edi
    mov $(low_end - low_start), %ecx
    rep movsb
    mov $0xff, %al              /* no interrupt comes: IF is free to change */
    out %al, $0x21
    out %al, $0xa1
    movl $0x600df00d, FAR
    mov $wrap_low, %esi
    mov $WRAP, %edi
    mov $(wrap_low_end - wrap_low), %ecx
    rep movsb
    mov $wrap_high, %esi
    mov $(WRAP + 0xfff0), %edi
    mov $16, %ecx
    rep movsb
    mov $patched, %esi
    mov $PATCHED, %edi
    mov $(patched_end - patched), %ecx
    rep movsb
    movw $0, DATA + ROUND
    movw $0x10, DATA + TO_PATCHED
    movw $0x20, DATA + TO_PATCHED + 4
    movl $0x11112222, SMALL
    movl $0x55556666, SMALL + 0xfffc
    /* With the vector registers at the guest's disposal, all of them, code for them is translated. */
    mov %cr0, %eax
    and $~0xe, %eax             /* TS, EM, MP */
    mov %eax, %cr0
    mov %cr4, %eax
    or $0x200, %eax             /* OSFXSR */
    mov %eax, %cr4
    mov $1, %eax
    cpuid
    and $0x14000000, %ecx       /* XSAVE, AVX */
    cmp $0x14000000, %ecx
    jne 1f
    mov %cr4, %eax
    or $0x40000, %eax           /* OSXSAVE */
    mov %eax, %cr4
    xor %ecx, %ecx
    xor %edx, %edx
    mov $7, %eax
    xsetbv
1:  fninit
    mov $32, %ecx               /* real mode's table: what is not expected fails */
    xor %edi, %edi
    mov $(SEG << 16 | (bad - low_start)), %eax
    rep stosl
    movl $(SEG << 16 | (real_ss - low_start)), 12 * 4
    movl $(SEG << 16 | (real_gp - low_start)), 13 * 4
    mov $v86_over, %eax         /* INT 20h of virtual-8086 mode */
    mov %ax, idt + 0x20 * 8
    shr $16, %eax
    mov %ax, idt + 0x20 * 8 + 6
    mov $(TSS + 4), %edi
    xor %eax, %eax
    mov $(TSS_SIZE - 4) / 4, %ecx
    rep stosl
    movl $STACK0, TSS + 4
    movl $FLAT, TSS + 8
    movw $104, TSS + 102        /* all ports are allowed */
    mov $TASK, %ax
    ltr %ax
    lidt idtr
    ljmp $CODE16, $(main - low_start)

v86:
    mov $FLAT, %ax
    mov %ax, %ss
    mov $STACK0, %esp
    pushl $SEG                  /* GS FS DS ES */
    pushl $SEG
    pushl $(DATA >> 4)
    pushl $(EXTRA >> 4)
    pushl $(STACK >> 4)
    pushl $SP0
    pushl $0x23002              /* VM, IOPL 3 */
    pushl $SEG
    pushl $(v86_round - low_start)
    iret
v86_over:
    mov $DATA16, %ax
    mov %ax, %ds
    mov $STACK16, %ax
    mov %ax, %ss
    mov $SP0, %esp
    ljmp $CODE16, $(v86_done - low_start)

/* What runs at WRAP:0. */
    .code16
wrap_low:
    .org wrap_low + 0x10
    inc %ax                     /* 0010: from FFF0 and FFF4 */
    lret
    .org wrap_low + 0x20
    mov $2, %cx                 /* 0020 */
    pushw $0xfff9               /* 0023 */
    ret
wrap_low_end:
wrap_high:
    jmp .+0x20                  /* FFF0 to 10010 */
    .org wrap_high + 4
    test %ax, %ax               /* FFF4 */
    jnz .+0x1a                  /* FFF6, to 10010 */
    hlt
    .org wrap_high + 9
    dec %cx                     /* FFF9 */
    jnz .+0x29                  /* FFFA, to 10023: the first time */
    incb PATCHED - DATA + 8     /* FFFC, its end is the segment's */
patched:                        /* what runs at PATCHED, and is seen at DS:3000 */
    lret
    .org patched + 0x10
    mov $0, %ax
    lret
    .org patched + 0x20
    mov %cl, PATCHED - DATA + 0x25 /* the very next instruction, 0024 */
    mov $0, %al
    lret
patched_end:
    .code32

    .align 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00009b010140ffff
    .quad 0x000093020000ffff
    .quad 0x000093030000ffff
    .quad 0x000093040000ffff
    .quad 0x0000930500001fff
    .quad 0x0000970500000fff
    .quad 0x000091050000ffff
    .quad 0x00009b023000ffff
    .quad 0x00009b010000ffff
    .word beyond - low_start - 1, 0x0140, 0x9b01, 0
    .quad 0x004093040000ffff
    .word TSS_SIZE - 1, TSS, 0x8900, 0
gdtr:
    .word 15 * 8 - 1
    .long gdt
    .align 8
idt:
    .rept 12
    .word bad - low_start, CODE16, 0x8600, 0
    .endr
    .word protected_ss - low_start, CODE16, 0x8600, 0
    .word protected_gp - low_start, CODE16, 0x8600, 0
    .rept 18
    .word bad - low_start, CODE16, 0x8600, 0
    .endr
    .word 0, CODE, 0xee00, 0
idtr:
    .word 33 * 8 - 1
    .long idt

#define AT(label) ((label) - low_start)
    .set number, 0
    /* What was compared must be so. */
    .macro must cc
    .set number, number + 1
    j\cc 99f
    mov $number, %bp
    jmp fail
99:
    .endm
    .macro is value, register
    cmp $\value, \register
    must e
    .endm
    .macro isw value, memory
    cmpw $\value, \memory
    must e
    .endm
    .macro isl value, memory
    cmpl $\value, \memory
    must e
    .endm
    /* insn faults by the vector, at its own beginning, with SP as it was. */
    .macro faults vector, insn:vararg
    .set number, number + 1
    mov $AT(98f), %di
    mov %sp, SAVED_SP
97: \insn
    mov $number, %bp
    jmp fail
98: cmp %sp, SAVED_SP
    must e
    is \vector, %dl
    is AT(97b), %si
    .endm

    .code16
low_start:
main:
    mov $DATA16, %ax
    mov %ax, %ds
    mov $STACK16, %ax
    mov %ax, %ss
    mov $SP0, %esp
    jmp protected_round

again:                          /* from real mode */
    lgdtl %cs:AT(gdtr16)
    lidtl %cs:AT(idtr16)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmp $CODE16, $AT(protected_round)
protected_round:
    mov $DATA16, %ax
    mov %ax, %ds
    mov $STACK16, %ax
    mov %ax, %ss
    mov $EXTRA16, %ax
    mov %ax, %es
    movw $PATCHED16, TO_PATCHED + 2
    movw $PATCHED16, TO_PATCHED + 6
    mov $SP0, %sp
    call common
    call outside_v86
    call protected
    ljmpl $CODE, $v86
v86_done:
    mov $FLAT, %ax              /* GS keeps 4 GiB in real mode, ES has nothing to keep */
    mov %ax, %gs
    xor %ax, %ax
    mov %ax, %es
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $SEG, $AT(real_round)
real_round:
    mov $(DATA >> 4), %ax
    mov %ax, %ds
    mov $(STACK >> 4), %ax
    mov %ax, %ss
    mov $(EXTRA >> 4), %ax
    mov %ax, %es
    movw $(PATCHED >> 4), TO_PATCHED + 2
    movw $(PATCHED >> 4), TO_PATCHED + 6
    mov $SP0, %sp
    lidtl %cs:AT(ivt)
    call common
    call outside_v86
    call selectors
    call real
    incw ROUND
    cmpw $ROUNDS, ROUND
    jb again
    mov $AT(pass), %si
    xor %bl, %bl
    jmp end
bad:
    mov $0xeeee, %bp
fail:
    mov $4, %cl                 /* the check's number, in the text */
    mov %bp, %bx
    mov $AT(failed), %si
    call print
1:  rol $4, %bx
    mov %bl, %al
    and $15, %al
    add $'0', %al
    cmp $'9', %al
    jbe 2f
    add $'a' - '9' - 1, %al
2:  call putc
    dec %cl
    jnz 1b
    mov $AT(newline), %si
    mov $1, %bl
end:
    call print
    mov %bl, %al
    out %al, $0xf4
    hlt
print:
    lodsb %cs:(%si), %al
    test %al, %al
    jz 1f
    call putc
    jmp print
1:  ret
putc:
    mov %al, %ah
    mov $0x3fd, %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    mov $0x3f8, %dx
    mov %ah, %al
    out %al, %dx
    ret
pass:   .asciz "real16: PASS\n"
failed: .asciz "real16: FAIL at check "
newline: .asciz "\n"
ivt:
    .word 0x3ff
    .long 0
gdtr16:
    .word 15 * 8 - 1
    .long gdt
idtr16:
    .word 33 * 8 - 1
    .long idt

protected_ss:
    pop %cx
real_ss:
    mov $12, %dl
    jmp 1f
protected_gp:
    pop %cx
real_gp:
    mov $13, %dl
1:  push %bp
    mov %sp, %bp
    mov 2(%bp), %si
    mov %di, 2(%bp)
    mov %cs, 4(%bp)
    pop %bp
    iret

/* ---- all modes ------------------------------------------------------------- */

common:
    /* Widths of operands: what is not written stays. */
    mov $0x12345678, %eax
    add $0xffff, %ax
    must c
    is 0x12345677, %eax
    add $0xedcb0000, %eax
    is 0xffff5677, %eax
    mov $0x1234ff80, %eax
    cbw
    is 0x1234ff80, %eax
    mov $0x12340080, %eax
    cbw
    is 0x1234ff80, %eax
    cwde
    is 0xffffff80, %eax
    mov $0x77778888, %edx
    mov $0x11118000, %eax
    cwd
    is 0x7777ffff, %edx
    mov $0x11118000, %eax
    cltd
    is 0, %edx
    mov $0x9abcdef0, %ebx
    mov $0x11111111, %ecx
    movzx %bl, %cx
    is 0x111100f0, %ecx
    movzx %bh, %ecx
    is 0xde, %ecx
    movsx %bl, %cx
    is 0xfff0, %cx
    movsx %bx, %ecx
    is 0xffffdef0, %ecx
    mov $0x22220003, %ecx
    imul $0x7fff, %cx, %cx
    must o
    is 0x22227ffd, %ecx
    imul $0x10001, %ecx, %ecx
    is 0xa21f7ffd, %ecx
    mov $0x12345678, %eax
    mov $0x9abcdef0, %ebx
    xchg %ax, %bx
    is 0x1234def0, %eax
    is 0x9abc5678, %ebx
    xchg %eax, %ebx
    is 0x9abc5678, %eax
    bswap %eax
    is 0x7856bc9a, %eax
    mov $0x0000ffff, %eax
    inc %ax
    must z
    is 0, %eax
    dec %eax
    is 0xffffffff, %eax
    dec %ax
    is 0xfffffffe, %eax
    test $0x8000, %ax
    must s
    test $0x00010000, %eax
    must nz
    mov $0x4321fedc, %edx
    stc
    mov $0xaaaa5555, %eax
    cmovc %dx, %ax
    is 0xaaaafedc, %eax
    clc
    cmovc %edx, %eax
    is 0xaaaafedc, %eax
    mov $0x8001, %bx
    shld $4, %bx, %ax
    is 0xaaaaedc8, %eax
    shrd $8, %edx, %eax
    is 0xdcaaaaed, %eax
    mov $0x20, %cx              /* bit 0 of a word, of a dword */
    mov $0x00010001, %eax
    btr %cx, %ax
    must c
    is 0x00010000, %eax
    mov $0x10, %ecx
    btr %ecx, %eax
    must c
    is 0, %eax
    mov $0x00ff8000, %ebx
    bsf %bx, %cx
    is 15, %cx
    bsr %ebx, %ecx
    is 23, %ecx
    mov $0x00010001, %eax       /* to the accumulator's 16 bits, DX:AX */
    mov $0xffff0000, %edx
    mov $0xffff, %bx
    mul %bx
    is 0x0001ffff, %eax
    is 0xffff0000, %edx
    mov $0x00050001, %edx
    mov $2, %bx
    div %bx
    is 0x0001ffff, %eax
    is 0x00050001, %edx
    mov $-7, %ax
    mov $2, %bl
    idiv %bl
    is 0xfffd, %ax
    clc
    rcr $1, %ax
    rcl $1, %eax
    is 0x2fffd, %eax
    stc
    sbb %ax, %ax
    is 0x2ffff, %eax
    setnc %al
    is 0x2ff01, %eax            /* the comparison cleared CF */

    stc                         /* no prefix makes them others */
    mfence
    lfence
    sfence
    must c
    mov $0x80, %al
    .byte 0x82, 0xd0, 0x7f      /* ADC $7Fh, %al by the opcode that 64-bit mode has not */
    must z
    must c

    /* Memory operands, and their addresses. */
    movl $0x01020304, 0x100
    mov $0x5566, %ax
    mov %ax, 0x102              /* moffs */
    mov 0x100, %eax
    is 0x55660304, %eax
    mov 0x101, %al
    is 0x55660303, %eax
    mov %al, 0x100
    addr32 mov 0x100, %ax
    is 0x55660303, %eax
    addr32 mov %eax, 0x104
    mov $0x77770100, %ebx
    mov $0x88880004, %esi
    mov (%bx,%si), %ecx
    is 0x55660303, %ecx
    mov $0x0100, %ebx
    mov $4, %esi
    mov -4(%ebx,%esi,2), %ecx
    is 0x55660303, %ecx
    mov $0xffff0002, %ebx
    lea -4(%bx), %ecx
    is 0xfffe, %ecx
    lea -4(%ebx), %cx
    is 0xfffe, %cx
    lea -4(%ebx), %ecx
    is 0xfffefffe, %ecx
    movw $0xfedc, 0
    mov $0xfffe, %bx
    mov $0x8001, %si
    mov $0x7fff, %di
    mov 2(%bx), %ax             /* 10000 is 0 */
    is 0xfedc, %ax
    mov $0x8001, %bx
    mov (%bx,%di), %dx
    is 0xfedc, %dx
    movb $0x5a, 0xffff
    mov 0xffff, %al
    is 0x5a, %al
    addw $0x1111, 0x106
    negl 0x104
    isl 0x9988fcfd, 0x104       /* 66770303, negated */
    mov $0x3333, %cx
    xadd %cx, 0x104
    is 0xfcfd, %cx
    isw 0x3030, 0x104
    mov $0x3030, %ax
    mov $0x7e7e, %dx
    lock cmpxchg %dx, 0x104
    must e
    isl 0x99887e7e, 0x104
    mov $0x0102, %dx
    xchg %dh, 0x104
    is 0x7e, %dh
    btsw $15, 0x106             /* was set: 9988 */
    must c
    imul $-2, 0x104, %dx
    is 0x03fe, %dx              /* 7E01 * -2 */

    /* Flags over accesses, which they are not to notice. */
    mov $0x7fff, %ax
    add $1, %ax                 /* O S A P, no C, no Z */
    mov 0x100, %bx
    mov %bx, %es:0x200
    push %bx
    pop %cx
    mov %ds, 0x110
    mov %ds, %dx
    push %ds
    pop %es:0x202
    movsw
    must o
    must s
    must nc
    must p
    pushf
    pop %ax
    and $0x8d5, %ax
    is 0x894, %ax
    cmp %dx, %es:0x202
    must e

    /* Counters. */
    mov $0x10003, %ecx
    xor %ax, %ax
1:  inc %ax
    loop 1b
    is 3, %ax
    is 0x10000, %ecx
    jcxz 1f
    must a                      /* never here: 0 is not above 0 */
1:  jecxz 1f
    jmp 2f
1:  cmp %ax, %ax
    must ne
2:  mov $5, %cx
    xor %ax, %ax
3:  inc %ax
    cmp $3, %ax
    loopne 3b
    must e
    is 0x10002, %ecx
    mov $0x10001, %ecx
    cmp %ecx, %ecx
    addr32 loop 4f              /* ECX, not CX */
    must ne
4:  is 0x10000, %ecx

    /* Strings: 16-bit pointers wrap, their upper halves stay. */
    movw $0xbeef, 0xfffe
    mov $0xaaaafffe, %esi
    mov $0xbbbbfffe, %edi
    lodsw
    is 0xbeef, %ax
    is 0xaaaa0000, %esi
    stosw
    is 0xbbbb0000, %edi
    isw 0xbeef, %es:0xfffe
    mov $0xfffe, %si
    mov $0x300, %di
    movsw
    isw 0xbeef, %es:0x300
    mov $0x300, %si
    es lodsw
    is 0xbeef, %ax
    mov $0x300, %di
    scasw
    must e
    mov $0xfffe, %si
    mov $0x300, %di
    cmpsb
    must e
    std
    lodsb
    cld
    is 0xfffe, %si
    is 0xbe, %al

    /* The stack pointer is SP. */
    mov $0x55550000, %esp
    mov $0x1234, %ax
    push %ax
    is 0x5555fffe, %esp
    pop %bx
    is 0x55550000, %esp
    is 0x1234, %bx
    push %sp
    pop %ax
    is 0, %ax
    pushl $-2
    is 0x5555fffc, %esp
    popl %eax
    is 0xfffffffe, %eax
    pushw $0x4444
    pop %sp
    is 0x55554444, %esp
    mov $0x55550000, %esp
    call 1f
1:  is 0x5555fffe, %esp
    pop %ax
    is AT(1b), %ax
    mov $AT(1f), %ax
    pushw %ax
    ret
1:  mov $AT(1f), %ax
    pushw $0x7777
    pushw %ax
    ret $2
1:  is 0x55550000, %esp
    mov $0x66660000, %ebp
    enter $8, $0
    is 0x5555fff6, %esp
    is 0x6666fffe, %ebp
    leave
    is 0x55550000, %esp
    is 0x66660000, %ebp
    push $AT(1f)
    mov %sp, %bp
    call *(%bp)
    cli
1:  pop %ax
    is AT(1b)-1, %ax
    pop %ax
    push $AT(1f)
    mov %sp, %bx
    mov %ss:(%bx), %bx
    call *%bx
    cli
1:  pop %ax
    pop %bx
    is 0x55550000, %esp
    call 3f
    is 0x55550000, %esp
    callw *%cs:AT(pointer)
    is 0x55550000, %esp
    calll 4f
    is 0x55550000, %esp
    jmp 5f
pointer: .word AT(3f)
3:  mov $7, %cx                 /* calls within calls, to be returned from in order */
    call 6f
    ret
6:  dec %cx
    jz 7f
    call 6b
7:  ret
4:  retl
5:  pushal
    mov %esp, %eax
    is 0x5555ffe0, %eax
    popal

    mov $SP0 - 2, %esp          /* the call of this */
    ret

/* ---- protected and real mode ----------------------------------------------- */

outside_v86:
    /* Flags. NT, IOPL, DF and what is fixed; the upper half stays. */
    pushfl
    pop %dx
    pop %dx
    pushw $0x7cd7
    popf
    pushf
    pop %ax
    is 0x7cd7, %ax
    pushw $0xfdff - 0x100
    popf
    pushf
    pop %ax
    is 0x7cd7, %ax
    pushw $2
    popf
    pushf
    pop %ax
    is 2, %ax
    pushfl
    pop %ax
    pop %ax
    is 0, %ax
    cmp %dx, %ax
    must e
    sti
    pushf
    cli
    pop %ax
    is 0x246, %ax
    pushf
    pop %ax
    is 0x046, %ax

    /* Code that is written to, in a page of its own: the rest stays translated. */
    mov ROUND, %cx
    mov %cx, PATCHED - DATA + 0x11
    lcall *TO_PATCHED
    cmp %cx, %ax
    must e
    not %cl
    lcall *TO_PATCHED + 4
    cmp %cl, %al
    must e

    /* The host's unit in 16-bit code. */
    movl $1000, 0x120
    fildl 0x120
    filds 0x120
    faddp
    fistpl 0x124
    isl 2000, 0x124
    mov ROUND, %eax
    movd %eax, %xmm1
    movd %eax, %mm1
    paddd %xmm1, %xmm1
    mov %cr0, %ebx
    or $8, %bl                  /* TS: the guest has no vectors for a while, and is to find them as it left them */
    mov %ebx, %cr0
    mov $50, %cx
1:  addw $1, 0x130
    loop 1b
    in $0x61, %al
    clts
    movd %xmm1, %ebx
    mov ROUND, %eax
    add %eax, %eax
    cmp %ebx, %eax
    must e
    movd %mm1, %ebx
    add %ebx, %ebx
    cmp %ebx, %eax
    must e
    emms
    pxor %xmm2, %xmm2
    pinsrw $1, %eax, %xmm2
    movups %xmm2, 0x140
    cmp %ax, 0x142
    must e

#ifndef NO_LIMITS
    /* Where offsets end. */
    mov $0xffff, %bx
    faults 13, mov (%bx), %ax
    faults 13, mov %ax, (%bx)
    faults 13, mov 0xffff, %ax
    faults 13, mov 0xfffd, %eax
    faults 13, addw $1, (%bx)
    faults 13, call *(%bx)
    faults 13, jmp *(%bx)
    faults 13, mov %ds, (%bx)
    mov $0x10000, %ebx
    faults 13, mov (%ebx), %al
    faults 13, mov %al, -1(%ebx,%ebx)
    mov $0xffff, %bp
    faults 12, mov (%bp), %ax
    faults 12, leave
    is 0xffff, %bp
    mov $0xffff, %si
    faults 13, lodsw
    mov $0xffff, %si
    faults 13, cmpsw
    mov $0x5555ffff, %esp
    faults 12, pop %ax
    faults 12, ret
    faults 12, popf
    faults 12, pop %es
    mov $0x55550002, %esp
    faults 12, pushl %eax
    faults 12, pushl $1
    mov $SP0 - 2, %esp          /* the call of this */
#endif
    ret

/* ---- protected mode ---------------------------------------------------------- */

protected:
    push %es
    mov %esp, %eax
    mov $WIDE_STACK, %bx        /* 16-bit code with a stack of 32 bits */
    mov %bx, %ss
    mov $0x7000, %esp
    mov $0x1111, %bx
    push %bx
    call 1f
1:  pop %cx
    is AT(1b), %cx
    pop %cx
    is 0x1111, %cx
    is 0x7000, %esp
    mov $FLAT, %bx
    mov %bx, %ss
    mov $0x7fffe, %esp
    movw $0x4444, %ss:(%esp)
    pop %sp                     /* ESP moves first */
    is 0x84444, %esp
    mov $STACK16, %bx
    mov %bx, %ss
    mov %eax, %esp

    /* The same code at another offset. */
    lcall $CODE16_OTHER, $AT(where) + 0x140
    is AT(here)+0x140, %ax
    is CODE16_OTHER, %cx
    lcall $CODE16, $AT(where)
    is AT(here), %ax
    is CODE16, %cx
    lcall $CODE16_LIMITED, $AT(where)
    is AT(here), %ax
    is CODE16_LIMITED, %cx

    mov $LIMITED, %ax
    mov %ax, %es
    movl $0x33334444, %es:0x1ffc
    mov %es:0x1ffc, %eax
    is 0x33334444, %eax
    mov $DOWN, %ax
    mov %ax, %es
    mov %es:0xfffc, %eax
    is 0x55556666, %eax
    mov %eax, %es:0xfffc
    mov %es:0x1000, %al
    mov $READONLY, %ax
    mov %ax, %es
    mov %es:0, %eax
    is 0x11112222, %eax
    mov $FLAT, %ax
    mov %ax, %es
    mov $FAR, %ebx
    mov %es:(%ebx), %eax
    is 0x600df00d, %eax
    mov %cs:AT(gdtr16), %ax
    is 15*8-1, %ax
#ifndef NO_LIMITS
    mov $LIMITED, %ax
    mov %ax, %es
    mov $0x1fff, %bx
    faults 13, mov %es:(%bx), %ax
    is 0, %cx
    faults 13, mov %ax, %es:(%bx)
    faults 13, mov %es:0x1ffd, %eax
    faults 13, mov %es:0x2000, %al
    faults 13, addl $1, %es:0x1ffd
    mov $0x1fff, %si
    faults 13, es lodsw
    mov $DOWN, %ax
    mov %ax, %es
    faults 13, mov %es:0xfff, %al
    faults 13, mov %al, %es:0xfff
    faults 13, mov %es:0xffff, %ax
    mov $READONLY, %ax
    mov %ax, %es
    faults 13, mov %al, %es:0
    faults 13, mov %al, %cs:0
    xor %ax, %ax
    mov %ax, %es
    faults 13, mov %es:0, %al
    faults 13, stosb
    mov %sp, 0x14
    mov $LIMITED, %ax
    mov %ax, %ss
    mov $0x2000, %sp            /* its end: what is delivered has room below */
    faults 12, pop %ax
    is 0, %cx
    faults 12, ret
    faults 12, popf
    mov $0x1fff, %bp
    faults 12, leave
    faults 12, mov (%bp), %ax
    faults 12, pop %bp
    mov $STACK16, %ax
    mov %ax, %ss
    mov 0x14, %sp

    /* Targets beyond CS, which are told from what is there only by the limit. */
    .macro faults_in_limited at
    .set number, number + 1
    mov $AT(98f), %di
    mov %sp, SAVED_SP
    mov $AT(beyond), %ax
    mov $3, %cx
    mov %sp, %bp
    mov %ax, -2(%bp)
    cmp %ax, %ax
    ljmp $CODE16_LIMITED, $AT(\at)
98: cmp %sp, SAVED_SP
    must e
    is 13, %dl
    is AT(\at), %si
    .endm
    faults_in_limited limited_jmp
    faults_in_limited limited_jmp_near
    faults_in_limited limited_call
    faults_in_limited limited_jmp_ind
    faults_in_limited limited_call_ind
    faults_in_limited limited_call_mem
    faults_in_limited limited_jz
    faults_in_limited limited_loop
    .set number, number + 1
    mov $AT(1f), %di            /* RET: its own operand is still on the stack */
    mov %sp, SAVED_SP
    push $AT(beyond)
    ljmp $CODE16_LIMITED, $AT(limited_ret)
1:  pop %ax
    is AT(beyond), %ax
    cmp %sp, SAVED_SP
    must e
    is AT(limited_ret), %si
    mov $AT(1f), %di            /* on past the last byte: the fault is the next instruction's */
    xor %ax, %ax
    ljmp $CODE16_LIMITED, $AT(limited_end)
1:  is 1, %ax
    is AT(beyond), %si
    is 13, %dl
    mov $AT(1f), %di            /* the same, come to by RET */
    xor %ax, %ax
    push $AT(limited_end)
    ljmp $CODE16_LIMITED, $AT(limited_ret)
1:  is 1, %ax
    is AT(beyond), %si
    cmp %sp, SAVED_SP
    must e
#endif
    pop %es
    ret

/* AX where this is, CX in which segment. */
where:
    call 1f
here:
    lret
1:  mov %sp, %bx
    mov %ss:(%bx), %ax
    mov %cs, %cx
    mov $3, %dx
2:  dec %dx
    jnz 2b
    jmp 3f
    hlt
3:  ret

/* ---- real and virtual-8086 mode ------------------------------------------------ */

v86_round:
    movw $(PATCHED >> 4), TO_PATCHED + 2
    movw $(PATCHED >> 4), TO_PATCHED + 6
    call common
    call selectors
    int $0x20

selectors:
    /* Several names of one place, in turn. */
    lcall $SEG, $AT(where)
    is AT(here), %ax
    is SEG, %cx
    lcall $(SEG - 4), $AT(where) + 0x40
    is AT(here)+0x40, %ax
    is SEG-4, %cx
    lcall $(SEG - 0x114), $AT(where) + 0x1140
    is AT(here)+0x1140, %ax
    is SEG-0x114, %cx

    /* Selectors give bases. */
    movw $0x1111, %es:0x10      /* ES may have been null in protected mode */
    mov %es:0x10, %ax
    is 0x1111, %ax
    mov $(EXTRA >> 4) - 1, %ax
    mov %ax, %es
    mov %es:0x20, %ax
    is 0x1111, %ax
    movw $0x20, 0x150
    movw $(EXTRA >> 4) - 2, 0x152
    mov $0x99990000, %ebx
    les 0x150, %bx
    is 0x99990020, %ebx
    mov %es:0x10(%bx), %ax
    is 0x1111, %ax
    mov %es, %eax
    is (EXTRA>>4)-2, %eax
    push $(EXTRA >> 4) - 3
    stc
    pop %es
    must c
    mov %es:0x40, %ax
    is 0x1111, %ax
    push %cs
    push %ss
    pop %es
    pop %ax
    is SEG, %ax
    mov $0x10, %bx
    pushw $0x7a7a
    mov %sp, %bx
    mov %es:(%bx), %ax
    is 0x7a7a, %ax
    pop %ax
    lfs 0x150, %bx
    mov %fs:0x30, %ax
    is 0x1111, %ax
    mov $(EXTRA >> 4), %ax
    mov %ax, %es

    ret

/* ---- real mode ---------------------------------------------------------------- */

real:
    /* GS: the base is new, the limit protected mode's. */
    mov $0x1000, %ax
    mov %ax, %gs
    mov $FAR - 0x10000, %ebx
    mov %gs:(%ebx), %eax
    is 0x600df00d, %eax
    movw $0x1110, 0x154
    lgs 0x152, %ax
    mov $FAR - 0x11100, %ebx
    cmpl $0x600df00d, %gs:(%ebx)
    must e

    /* IP wraps where it is a jump's operand of 16 bits. */
    mov $1, %ax
    lcall $(WRAP >> 4), $0xfff0
    is 2, %ax
    lcall $(WRAP >> 4), $0xfff4
    is 3, %ax
    /* A software interrupt and its end. */
    movw $AT(interrupt), %ax
    push %ds
    xor %bx, %bx
    mov %bx, %ds
    movw %ax, 0x60 * 4
    movw $SEG, 0x60 * 4 + 2
    pop %ds
    xor %ax, %ax
    stc
    int $0x60
    must c
    is 0x60, %ax
#ifndef NO_LIMITS
    /* Otherwise it passes the limit: the instruction ends there, the fault is the next one's. What it did it did once,
       even if it was come to by a RET and wrote to code. */
    mov %sp, SAVED_SP
    lcall $(PATCHED >> 4), $0
    mov PATCHED - DATA + 8, %al
    mov $AT(1f), %di
    lcall $(WRAP >> 4), $0x20
1:  is 13, %dl
    is 0, %si
    is 0, %cx
    inc %al
    cmp PATCHED - DATA + 8, %al
    must e
    mov SAVED_SP, %sp
#endif
    ret
interrupt:
    mov $0x60, %ax
    iret

/* ---- the end of CODE16_LIMITED ------------------------------------------------- */

limited_jmp:
    jmp beyond
limited_jmp_near:
    jmp beyond + 0x100
limited_call:
    call beyond
limited_jmp_ind:
    jmp *%ax
limited_call_ind:
    call *%ax
limited_call_mem:
    call *-2(%bp)               /* its operand is where it would push */
limited_jz:
    jz beyond
limited_loop:
    loop beyond
limited_ret:
    ret
limited_end:
    inc %ax
beyond:
    hlt
    .skip 0x101
low_end:
    .section .note.GNU-stack, "", @progbits
