/* SPDX-License-Identifier: Apache-2.0 */
/*
 * a20.S - the A20 gate by all its ways: the keyboard controller's output port (D1h) and its commands DDh and DFh, port
 * 92h, which says how it is; who spoke last decides. Closed, 1 MiB and what follows shows what is at 0, for loads, stores and fetches.
 */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .set LOW, 0x8000            /* what runs while the gate is closed runs from here */
    .set HERE, 0x9000           /* and what is seen twice is here */
    .set MIB, 0x100000
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
    mov $LOW, %eax
    call *%eax
    mov $pass, %esi
    cmp $0, %ebx
    je 1f
    mov $failed, %esi
1:  lodsb
    test %al, %al
    jz 3f
    mov %al, %ah
    mov $0x3fd, %dx
2:  in %dx, %al
    test $0x20, %al
    jz 2b
    mov $0x3f8, %dx
    mov %ah, %al
    out %al, %dx
    jmp 1b
3:  mov %bl, %al
    out %al, $0xf4
    hlt
pass:   .asciz "a20: PASS\n"
failed: .asciz "a20: FAIL\n"

    .align 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
gdtr:
    .word 23
    .long gdt

    /* Position independent. EBX: the step that failed, 0: none. */
low_start:
    mov $1, %ebx
    call is_open                /* at the start */
    jne 9f
    inc %ebx                    /* 2: the output port */
    mov $0xdd, %ah
    call output_port
    call is_closed
    jne 9f
    inc %ebx                    /* 3 */
    mov $0xdf, %ah
    call output_port
    call is_open
    jne 9f
    inc %ebx                    /* 4: commands */
    mov $0xdd, %al
    out %al, $0x64
    call is_closed
    jne 9f
    inc %ebx                    /* 5 */
    mov $0xdf, %al
    out %al, $0x64
    call is_open
    jne 9f
    mov $0xdd, %al
    out %al, $0x64
    mov $20, %ebp               /* 6: port 92h */
1:  mov $6, %ebx
    in $0x92, %al
    or $2, %al
    out %al, $0x92
    call is_open
    jne 9f
    inc %ebx                    /* 7 */
    in $0x92, %al
    and $0xfc, %al
    out %al, $0x92
    call is_closed
    jne 9f
    dec %ebp
    jnz 1b
    mov $8, %ebx                /* 8: the other closes what one has opened */
    in $0x92, %al
    test $2, %al
    jnz 9f
    or $2, %al
    out %al, $0x92
    mov $0xdd, %al
    out %al, $0x64
    call is_closed
    jne 9f
    inc %ebx                    /* 9 */
    mov $0xdf, %al
    out %al, $0x64
    in $0x92, %al
    test $2, %al
    jz 9f
    and $0xfc, %al
    out %al, $0x92
    call is_closed
    jne 9f
    xor %ebx, %ebx
9:  in $0x92, %al
    or $2, %al
    and $0xfe, %al
    out %al, $0x92
    ret

output_port:
    mov $0xd1, %al
    out %al, $0x64
    mov %ah, %al
    out %al, $0x60
    ret

    /* ZF: it is so. mov $imm, %eax; ret at both, if there are two. */
is_open:
    movl $0x0002b8, HERE
    movw $0xc300, HERE + 4
    movl $0x0003b8, HERE + MIB
    movw $0xc300, HERE + MIB + 4
    mov $3, %ecx
    jmp 1f
is_closed:
    movl $0x0003b8, HERE + MIB
    movw $0xc300, HERE + MIB + 4
    movl $0x0002b8, HERE
    movw $0xc300, HERE + 4
    mov $2, %ecx
1:  mov HERE + MIB + 1, %al
    cmp %cl, %al
    jne 2f
    mov $(HERE + MIB), %eax
    call *%eax
    cmp %ecx, %eax
    jne 2f
    cmpb $2, HERE + 1
2:  ret
low_end:
    .section .note.GNU-stack, "", @progbits
