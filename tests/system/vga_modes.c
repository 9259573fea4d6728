/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_modes.c - the guest of the test vga_modes: 16-bit code that SeaBIOS boots from a disk.  It writes the fonts of the ROM to COM2
 * (8x8, 8x14, 8x16; as they are), then draws vga_cases.h; for each picture it says "show NAME PICTURES" and waits for a byte.  "end".
 */
#include "vga_cases.h"

__asm__(".section .boot, \"ax\"\n"
        "    ljmp $0, $1f\n"
        "1:  xorw %ax, %ax\n"
        "    movw %ax, %ds\n"
        "    movw %ax, %es\n"
        "    movw %ax, %ss\n"
        "    movl $0x7c00, %esp\n"
        "    cld\n"
        "    sti\n"
        "    movw $2f, %si\n" /* the rest, by the disk address packet */
        "    movb $0x42, %ah\n"
        "    int $0x13\n"
        "    jc 1b\n"
        "    calll guest\n"
        "1:  hlt\n"
        "    jmp 1b\n"
        "2:  .byte 16, 0\n"
        "    .word 48, 0x7e00, 0\n"
        "    .quad 1\n"
        "gdt: .quad 0, 0x00cf93000000ffff\n" /* flat data */
        "gdtr: .word 15\n"
        "    .long gdt\n"
        "    .org 510\n"
        "    .word 0xaa55\n"
        ".text\n");

static void out(u16 port, u8 v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static u8 in(u16 port)
{
    u8 v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
struct registers { u32 ax, bx, cx, dx, di, bp, es; };
static void int10(struct registers *r)
{
    __asm__ volatile("pushl %%ebp\n\tpushw %%es\n\tpushl %%esi\n\t"
                     "movw 24(%%esi), %%es\n\tmovl 20(%%esi), %%ebp\n\t"
                     "int $0x10\n\t"
                     "popl %%esi\n\tmovl %%ebp, 20(%%esi)\n\tmovw %%es, 24(%%esi)\n\t"
                     "popw %%es\n\tpopl %%ebp"
                     : "+a"(r->ax), "+b"(r->bx), "+c"(r->cx), "+d"(r->dx), "+D"(r->di) : "S"(r) : "memory", "cc");
}
static u16 bios(u32 ax, u32 bx, u32 cx, u32 dx)
{
    struct registers r = { ax, bx, cx, dx, 0, 0, 0 };
    int10(&r);
    return (u16)r.ax;
}

static void say(u8 c)
{
    while (!(in(0x2fd) & 0x20))
        ;
    out(0x2f8, c);
}
static void say_text(const char *s)
{
    while (*s)
        say((u8)*s++);
}

static void show(const char *name, u32 pictures)
{
    say_text("show ");
    say_text(name);
    say(' ');
    say((u8)('0' + pictures));
    say('\n');
    while (!(in(0x2fd) & 1))
        ;
    in(0x2f8);
}

/* ---- memory ---- */

static void segment(u32 offset) { __asm__ volatile("movw %w0, %%fs" ::"r"(offset & 0x10000 ? 0xb000 : 0xa000)); }
static void poke(u32 offset, u8 value)
{
    segment(offset);
    __asm__ volatile("movb %0, %%fs:(%1)" ::"q"(value), "r"(offset & 0xffff) : "memory");
}
static u8 peek(u32 offset)
{
    u8 v;
    segment(offset);
    __asm__ volatile("movb %%fs:(%1), %0" : "=q"(v) : "r"(offset & 0xffff) : "memory");
    return v;
}

static u32 linear, bank;
static void pixels(u32 offset, u32 value)
{
    if (linear) {
        __asm__ volatile("movl %0, %%fs:(%1)" ::"r"(value), "r"(linear + offset) : "memory");
        return;
    }
    if (bank != offset >> 16)
        bios(0x4f05, 0, 0, bank = offset >> 16);
    segment(0);
    __asm__ volatile("movl %0, %%fs:(%1)" ::"r"(value), "r"(offset & 0xffff) : "memory");
}

/* FS reaches all 4 GiB from 0 on ("unreal mode"); interrupts stay off while it must. */
static void flat(void)
{
    __asm__ volatile("cli\n\tlgdtl gdtr\n\tmovl %%cr0, %%eax\n\torb $1, %%al\n\tmovl %%eax, %%cr0\n\t"
                     "movw $8, %%bx\n\tmovw %%bx, %%fs\n\tandb $0xfe, %%al\n\tmovl %%eax, %%cr0\n\t"
                     "xorw %%bx, %%bx\n\tmovw %%bx, %%fs" ::: "eax", "ebx", "memory");
}

/* ---- registers ---- */

static u16 crtc_port(void) { return in(0x3cc) & 1 ? 0x3d4 : 0x3b4; }
static void crtc(u8 i, u8 clear, u8 set)
{
    u16 port = crtc_port();
    out(port, i);
    out(port + 1, (u8)((in(port + 1) & ~clear) | set));
}
static void seq(u8 i, u8 v) { out(0x3c4, i), out(0x3c5, v); }
static void gc(u8 i, u8 v) /* how the shift registers are loaded stays the mode's */
{
    out(0x3ce, i);
    out(0x3cf, i == GC_MODE ? (u8)(v | (in(0x3cf) & 0x60)) : v);
}
static u8 att_get(u8 i)
{
    in(crtc_port() + 6);
    out(0x3c0, i | 0x20);
    return in(0x3c1);
}
static void att(u8 i, u8 v)
{
    in(crtc_port() + 6);
    out(0x3c0, i | 0x20);
    out(0x3c0, v);
}
static void att_bit(u8 i, u8 bit, u32 on) { att(i, (u8)((att_get(i) & ~bit) | (on ? bit : 0))); }

/* ---- the words of vga_cases.h ---- */

/* The BIOS resets the attribute controller's flip-flop at 3DAh where it is at 3BAh in these modes. */
static void mono_attributes(u8 number)
{
    static const u8 text[] = { 0, 8, 8, 8, 8, 8, 8, 8, 0x10, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x0e, 0, 15, 8, 0 };
    static const u8 graphics[] = { 0, 8, 0, 0, 0x18, 0x18, 0, 0, 0, 8, 0, 0, 0, 0x18, 0, 0, 0x0b, 0, 5, 0, 0 };
    for (u8 i = 0; i < sizeof text; i++)
        att(i, (number == 7 ? text : graphics)[i]);
}

static void mode(u16 number)
{
    static struct { u16 attributes; u8 a[38]; u32 base; u8 b[212]; } info; /* ModeInfoBlock */

    linear = bank = 0;
    if (number < 0x100) { /* twice: SeaBIOS writes the CRT controller's registers before they are at the mode's ports */
        bios(number, 0, 0, 0);
        bios(number, 0, 0, 0);
        if (number == 7 || number == 15)
            mono_attributes((u8)number);
        if (number == 7)
            underline(13); /* where IBM's BIOS has it */
        crtc(0x0a, 0, 0x20);
        return;
    }
    struct registers r = { 0x4f01, 0, number, 0, (u32)&info, 0, 0 };
    int10(&r);
    if ((u16)r.ax != 0x4f || bios(0x4f02, number, 0, 0) != 0x4f)
        say_text("no such mode\n");
    if (number & LINEAR) {
        linear = info.base;
        flat();
    } else {
        __asm__ volatile("sti");
    }
}

static void mode_x(void)
{
    static const u8 c[][2] = { { 0x06, 0x0d }, { 0x07, 0x3e }, { 0x09, 0x41 }, { 0x10, 0xea }, { 0x11, 0xac }, { 0x12, 0xdf },
                               { 0x14, 0 }, { 0x15, 0xe7 }, { 0x16, 6 }, { 0x17, 0xe3 } };
    seq(4, 6);
    out(0x3c2, 0xe3);
    crtc(0x11, 0x80, 0);
    for (u32 i = 0; i < sizeof c / sizeof c[0]; i++)
        crtc(c[i][0], 0xff, c[i][1]);
}
static void double_scan(void) { crtc(9, 0, 0x80); }

static void blinking(u32 on) { bios(0x1003, on, 0, 0); }
static void line_graphics(u32 on) { att_bit(0x10, 4, on); }
static void underline(u32 line) { crtc(0x14, 0x1f, (u8)line); }
static void eight_dots(void) { seq(1, 1), att(0x13, 0); }
static void rom_font(u32 height)
{
    bios(height == 8 ? 0x1112 : 0x1111, 0, 0, 0);
    crtc(0x12, 0xff, (u8)(400 / height * height - 1)); /* IBM's BIOS does, SeaBIOS leaves it at 400 */
    crtc(0x0a, 0, 0x20);
}
static void own_font(u32 block)
{
    static u8 font[4096];
    for (u32 i = 0; i < sizeof font; i++)
        font[i] = glyph(i / 16, i % 16);
    struct registers r = { 0x1100, 0x1000 | block, 256, 0, 0, (u32)font, 0 };
    int10(&r);
}
static void font_blocks(u32 b, u32 a) { bios(0x1103, (b & 3) | (a & 3) << 2 | (b & 4) << 2 | (a & 4) << 3, 0, 0); }
static void cursor(u32 first, u32 last, u32 cell, u32 skew)
{
    crtc(0x0a, 0xff, (u8)first);
    crtc(0x0b, 0xff, (u8)(last | skew << 5));
    crtc(0x0e, 0xff, (u8)(cell >> 8));
    crtc(0x0f, 0xff, (u8)cell);
}

static void start(u32 at) { crtc(0x0c, 0xff, (u8)(at >> 8)), crtc(0x0d, 0xff, (u8)at); }
static void row_length(u32 half) { crtc(0x13, 0xff, (u8)half); }
static void row_pan(u32 lines, u32 bytes) { crtc(8, 0xff, (u8)(lines | bytes << 5)); }
static void pan(u32 dots)
{
    u8 graphics, eight, wide;
    out(0x3ce, 6), graphics = in(0x3cf) & 1;
    out(0x3c4, 1), eight = in(0x3c5) & 1;
    out(0x3ce, 5), wide = in(0x3cf) & 0x40;
    att(0x13, (u8)(wide ? dots * 2 : graphics || eight ? dots : dots ? dots - 1 : 8));
}
static void split(u32 line, u32 below_unpanned)
{
    crtc(0x18, 0xff, (u8)line);
    crtc(7, 0x10, line >> 4 & 0x10);
    crtc(9, 0x40, line >> 3 & 0x40);
    att_bit(0x10, 0x20, below_unpanned);
}

static void palette(u32 i, u32 color) { att((u8)i, (u8)color); }
static void planes_shown(u32 mask) { att(0x12, (u8)mask); }
static void color_select(u32 value, u32 p54) { att_bit(0x10, 0x80, p54), att(0x14, (u8)value); }
static void dac(u32 i, u8 r, u8 g, u8 b) { out(0x3c8, (u8)i), out(0x3c9, r), out(0x3c9, g), out(0x3c9, b); }
static void dac_mask(u8 mask) { out(0x3c6, mask); }
static void dac_8bit(void)
{
    if (bios(0x4f08, 0x800, 0, 0) != 0x4f)
        say_text("no 8-bit DAC\n");
}

static void line_width(u32 width)
{
    if (bios(0x4f06, 0, width, 0) != 0x4f)
        say_text("no such width\n");
    if (linear)
        flat();
}
static void display_start(u32 x, u32 y)
{
    if (bios(0x4f07, 0, x, y) != 0x4f)
        say_text("no such start\n");
    if (linear)
        flat();
}

/* ---- */

static void font(u32 which, u32 bytes)
{
    struct registers r = { 0x1130, which << 8, 0, 0, 0, 0, 0 };
    int10(&r);
    for (u32 i = 0; i < bytes; i++) {
        u8 v;
        __asm__ volatile("movw %w1, %%fs\n\tmovb %%fs:(%2), %0" : "=q"(v) : "r"(r.es), "r"((r.bp & 0xffff) + i));
        say(v);
    }
}

__attribute__((used)) void guest(void)
{
    font(3, 128 * 8), font(4, 128 * 8); /* 8x8, both halves */
    font(2, 256 * 14);
    font(6, 256 * 16);
    cases();
    say_text("end\n");
}
