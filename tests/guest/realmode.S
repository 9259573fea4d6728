/* SPDX-License-Identifier: Apache-2.0 */
/*
 * realmode.S - a system of 16 bits on a floppy disk of 1.44 MB: a boot sector, and a program that works the BIOS's disk,
 * screen and keyboard services (IBM PC/AT Technical Reference, ROM BIOS). It ends with "passed" or "failed", and by the debug
 * exit, if there is one.
 *
 * Linked to a flat file at 7C00h it is the disk's beginning.
 */
	.code16
	.set	SECTORS, 4		/* of the program, which follows the boot sector on the disk and in memory */
	.set	BUFFER, 0x1000		/* segments, of two tracks each, neither over a 64 KiB boundary */
	.set	OTHER, 0x2000
	.globl	_start
	.text
_start:
	jmp	1f
	nop
	.ascii	"LODGE   "		/* what systems look for to tell the disk's kind: BIOS parameter block */
	.word	512
	.byte	1
	.word	1
	.byte	2
	.word	224, 2880
	.byte	0xf0
	.word	9, 18, 2
	.long	0, 0
	.byte	0, 0, 0x29
	.long	0x16161616
	.ascii	"LODGE      FAT12   "
1:	cli
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x7c00, %sp
	sti
	cld
	mov	%dl, drive
	mov	$3, %di			/* the first read after a change of disks may fail */
2:	xor	%ax, %ax
	mov	drive, %dl
	int	$0x13
	mov	$0x0200 + SECTORS, %ax
	mov	$0x0002, %cx
	xor	%dh, %dh
	mov	drive, %dl
	mov	$program, %bx
	int	$0x13
	jnc	3f
	dec	%di
	jnz	2b
	mov	$boot_failed, %si
4:	lodsb
	test	%al, %al
	jz	5f
	mov	$0x0e, %ah
	mov	$7, %bx
	int	$0x10
	jmp	4b
5:	hlt
	jmp	5b
3:	jmp	program

boot_failed:
	.asciz	"boot sector: the disk cannot be read\r\n"
drive:	.byte	0
	.org	510
	.word	0xaa55

program:
	.macro	say text
	mov	$9f, %si
	call	print
	.subsection 1
9:	.asciz	"\text"
	.subsection 0
	.endm
	mov	$0x0003, %ax
	int	$0x10
	say	"Lodge's 16-bit system\r\n"

	/* The drive's geometry. */
	mov	$0x08, %ah
	mov	drive, %dl
	xor	%di, %di
	int	$0x13
	jc	failed
	push	%dx
	push	%cx
	push	%bx
	push	%ds
	pop	%es
	say	"type "
	pop	%ax
	xor	%ah, %ah
	call	number
	say	" cylinders "
	pop	%cx
	push	%cx
	mov	%ch, %al
	xor	%ah, %ah
	call	number
	say	" sectors "
	pop	%ax
	and	$63, %ax
	call	number
	say	" heads "
	pop	%ax
	push	%ax
	mov	%ah, %al
	xor	%ah, %ah
	call	number
	say	" drives "
	pop	%ax
	xor	%ah, %ah
	call	number
	say	"\r\n"

	/* A pattern onto both sides of cylinder 70, a sector, a part of a track and a track at a time, and back. */
	call	fill
	mov	$BUFFER, %ax
	mov	%ax, %es
	xor	%bx, %bx
	mov	$0x0301, %ax
	mov	$0x4601, %cx
	mov	$0, %dh
	call	disk
	mov	$0x0311, %ax
	mov	$512, %bx
	mov	$0x4602, %cx
	mov	$0, %dh
	call	disk
	mov	$0x0312, %ax
	mov	$18 * 512, %bx
	mov	$0x4601, %cx
	mov	$1, %dh
	call	disk
	mov	$OTHER, %ax
	mov	%ax, %es
	mov	$0x0212, %ax
	xor	%bx, %bx
	mov	$0x4601, %cx
	mov	$0, %dh
	call	disk
	mov	$0x0212, %ax
	mov	$18 * 512, %bx
	mov	$0x4601, %cx
	mov	$1, %dh
	call	disk
	mov	$2 * 18 * 512, %cx
	call	compare
	jne	failed
	say	"written and read\r\n"

	/* Both sides at a time, and twelve sectors over the end of one: the end of track that SeaBIOS tells lies beyond it. */
	call	clear
	mov	$0x0224, %ax
	xor	%bx, %bx
	mov	$0x4601, %cx
	mov	$0, %dh
	call	disk
	mov	$2 * 18 * 512, %cx
	call	compare
	jne	failed
	call	clear
	mov	$0x020c, %ax
	mov	$12 * 512, %bx
	mov	$0x460d, %cx
	mov	$0, %dh
	call	disk
	mov	$12 * 512, %si
	mov	%si, %di
	mov	%si, %cx
	call	compare_at
	jne	failed
	say	"over a side's end\r\n"
	mov	$0x0412, %ax
	mov	$0x4601, %cx
	mov	$0, %dh
	call	disk
	say	"verified\r\n"

	/* Formats track 79, side 1. */
	push	%ds
	pop	%es
	mov	$ids, %di
	mov	$1, %al
1:	movb	$79, (%di)
	movb	$1, 1(%di)
	mov	%al, 2(%di)
	movb	$2, 3(%di)
	add	$4, %di
	inc	%al
	cmp	$18, %al
	jbe	1b
	mov	$0x18, %ah		/* the kind of disk to be; not every BIOS has it */
	mov	$0x4f12, %cx
	mov	drive, %dl
	int	$0x13
	push	%ds
	pop	%es
	mov	$ids, %bx
	mov	$0x0512, %ax
	mov	$0x4f01, %cx
	mov	$1, %dh
	call	disk
	mov	$OTHER, %ax
	mov	%ax, %es
	xor	%bx, %bx
	mov	$0x0212, %ax
	mov	$0x4f01, %cx
	mov	$1, %dh
	call	disk
	xor	%di, %di
	mov	$18 * 512, %cx
	mov	$0xf6, %al
	repe scasb
	jne	failed
	say	"formatted\r\n"

	/* What is not there. */
	mov	$0x0201, %ax
	xor	%bx, %bx
	mov	$0x0013, %cx		/* sector 19 */
	xor	%dh, %dh
	mov	drive, %dl
	int	$0x13
	jnc	failed
	mov	%ah, %al
	xor	%ah, %ah
	push	%ax
	say	"no such sector: error "
	pop	%ax
	call	number
	say	"\r\n"
	xor	%ax, %ax
	mov	drive, %dl
	int	$0x13

	/* The keyboard, until the return key. */
	say	"type: "
1:	xor	%ax, %ax
	int	$0x16
	cmp	$13, %al
	je	2f
	call	put
	jmp	1b
2:	say	"\r\npassed\r\n"
	xor	%al, %al
	jmp	end

failed:	push	%ds
	pop	%es
	say	"failed\r\n"
	mov	$1, %al
end:	mov	$0xf4, %dx
	outb	%al, %dx
3:	hlt
	jmp	3b

/* INT 13h, which must succeed: up to three tries, as every system does. */
disk:	mov	$3, %di
1:	push	%ax
	push	%bx
	push	%cx
	push	%dx
	push	%di
	mov	drive, %dl
	int	$0x13
	pop	%di
	pop	%dx
	pop	%cx
	pop	%bx
	jnc	2f
	pop	%ax
	push	%ax
	xor	%ax, %ax
	push	%dx
	mov	drive, %dl
	int	$0x13
	pop	%dx
	pop	%ax
	dec	%di
	jnz	1b
	jmp	failed
2:	pop	%ax
	ret

/* 36 sectors of something that differs from sector to sector, at BUFFER. */
fill:	mov	$BUFFER, %ax
	mov	%ax, %es
	xor	%di, %di
	mov	$2 * 18 * 512 / 2, %cx
	mov	$0x1234, %ax
1:	imul	$25173, %ax, %ax
	add	$13849, %ax
	stosw
	loop	1b
	ret

/* OTHER is to hold nothing of before. */
clear:	mov	$OTHER, %ax
	mov	%ax, %es
	xor	%di, %di
	mov	$2 * 18 * 512 / 2, %cx
	xor	%ax, %ax
	rep stosw
	ret

/* CX bytes at BUFFER and OTHER. */
compare:
	xor	%si, %si
	xor	%di, %di
compare_at:
	push	%ds
	mov	$BUFFER, %ax
	mov	%ax, %ds
	mov	$OTHER, %ax
	mov	%ax, %es
	repe cmpsb
	pop	%ds
	ret

/* AX in decimal. */
number:	mov	$10, %bx
	xor	%cx, %cx
1:	xor	%dx, %dx
	div	%bx
	push	%dx
	inc	%cx
	test	%ax, %ax
	jnz	1b
2:	pop	%ax
	add	$'0', %al
	push	%cx
	call	put
	pop	%cx
	loop	2b
	ret

/* The string at SI. */
print:	lodsb
	test	%al, %al
	jz	1f
	push	%si
	call	put
	pop	%si
	jmp	print
1:	ret

/* AL to the screen. */
put:	mov	$0x0e, %ah
	mov	$7, %bx
	int	$0x10
	ret
	.subsection 2
ids:	.skip	72
	.org	512 * (1 + SECTORS)
