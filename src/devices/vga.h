/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga.h - the graphics adapter: a VGA (IBM Personal System/2 Hardware Interface Technical Reference, "Video Subsystem";
 * register names are its own) with the Bochs VBE extensions ("DISPI", version B0C5), as PCI 1234:1111 that QEMU calls
 * stdvga: BAR 0 is video memory, BAR 2 registers (400h ports 3C0h-3DFh, 500h DISPI registers).
 *
 * Video memory is 4 planes, interleaved: byte o of plane p is vram[4 * o + p].  Chain 4 is packed as on other cards with a
 * linear frame buffer: byte a of the window is vram[a].  VGA modes see the first 256 KiB, DISPI modes all.
 *
 *   vga.c         registers, state          vga_memory.c  the window at A0000h: latches, write and read modes
 *   vga_vbe.c     DISPI, PCI                vga_draw.c    the picture       vga_text.c  of text modes
 *   vga_mode3.c   what firmware leaves
 *
 * Locks itself.  Register and window handlers run on vCPU threads.  Drawing (display.h) runs on the loop's thread: it copies
 * the registers under the lock, then reads video memory without it, as a monitor would: what is being drawn may be seen half.
 */
#ifndef LODGE_DEVICES_VGA_H
#define LODGE_DEVICES_VGA_H

#include <pthread.h>

#include "base/base.h"
#include "display/display.h"
#include "memory/bus.h"
#include "memory/memory.h"
#include "pci/pci.h"
#include "state/state.h"

enum {
    VGA_PORTS_BASE = 0x3b0, VGA_PORTS = 0x30,
    VBE_PORTS_BASE = 0x1ce, VBE_PORTS = 4,
    VGA_MMIO_SIZE = 0x1000,
    VGA_SEQ_COUNT = 5, VGA_CRTC_COUNT = 25, VGA_GFX_COUNT = 9, VGA_ATT_COUNT = 21,
};
#define VGA_WINDOW_BASE 0xa0000ull
#define VGA_WINDOW_SIZE 0x20000ull
#define VGA_VRAM_SIZE MiB(16)

enum { /* DISPI registers */
    VBE_DISPI_INDEX_ID, VBE_DISPI_INDEX_XRES, VBE_DISPI_INDEX_YRES, VBE_DISPI_INDEX_BPP, VBE_DISPI_INDEX_ENABLE,
    VBE_DISPI_INDEX_BANK, VBE_DISPI_INDEX_VIRT_WIDTH, VBE_DISPI_INDEX_VIRT_HEIGHT, VBE_DISPI_INDEX_X_OFFSET,
    VBE_DISPI_INDEX_Y_OFFSET, VBE_DISPI_INDEX_VIDEO_MEMORY_64K, VBE_DISPI_COUNT
};
enum { VBE_DISPI_ID5 = 0xb0c5 };
enum { VBE_DISPI_ENABLED = 1, VBE_DISPI_GETCAPS = 2, VBE_DISPI_8BIT_DAC = 0x20, VBE_DISPI_LFB_ENABLED = 0x40,
       VBE_DISPI_NOCLEARMEM = 0x80 };

/* What the picture is made of, beside video memory. */
struct vga_registers {
    u8 misc;             /* Miscellaneous Output */
    u8 seq[VGA_SEQ_COUNT];
    u8 crtc[VGA_CRTC_COUNT];
    u8 gfx[VGA_GFX_COUNT];
    u8 att[VGA_ATT_COUNT];
    u8 att_index;        /* with Palette Address Source, bit 5 */
    u8 pel_mask;
    u8 dac[256 * 3];     /* red, green, blue; 6 bits each, or 8 */
    u16 vbe[VBE_DISPI_COUNT];
};

struct vga {
    pthread_mutex_t lock;
    u8 *vram;
    u32 vram_size;
    struct memory *memory;
    const struct memory_piece *vram_piece;
    bool mapped;         /* the window is a region of memory ... */
    u32 mapped_from;     /* ... that shows video memory from here on */
    struct vga_registers r;
    u8 feature;          /* Feature Control */
    u8 enable;           /* Video Subsystem Enable, 3C3h */
    u8 seq_index, crtc_index, gfx_index;
    bool att_data;       /* the flip-flop: the next write to 3C0h is data */
    u8 dac_index;        /* entry the next colour goes to, or comes from */
    u8 dac_state;        /* as 3C7h reads: 0 to write, 3 to read */
    u8 dac_component;    /* of the three, which is next */
    u8 dac_value[3];
    u16 vbe_index;
    u32 latch;           /* plane p in bits 8p+7:8p */
    u64 retrace_seen;    /* clock_ns() of the last look at Input Status 1 ... */
    bool retrace_told;   /* ... which said so of a retrace already over */
    struct display *display; /* or NULL */
    struct pci_function pci;
};

struct vga_config { /* all borrowed */
    struct memory *memory;           /* where the window is; or NULL: nowhere but in the handlers */
    const struct memory_piece *vram; /* a power of two, at least 256 KiB */
    const struct memory_piece *rom;  /* a power of two; or NULL */
    struct display *display;         /* where it draws, or NULL */
};
void vga_init(struct vga *v, const struct vga_config *c);
void vga_destroy(struct vga *v); /* after it has left the PCI bus */
/* Power-on. Video memory becomes zero. */
void vga_reset(struct vga *v);

/* After a reset: 80x25 characters, blank. font: of 8x16 dots, 256 characters. */
enum { VGA_FONT_HEIGHT = 16 };
void vga_text_mode(struct vga *v, const u8 *font);

extern const struct bus_ops vga_ports_ops, vbe_ports_ops, vga_window_ops; /* dev: struct vga; no lock */
extern const struct state_desc vga_state; /* the registers; video memory is its owner's to save */

#endif
