/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga.c - see vga.h.  The ports, the beam's place as Input Status 1 tells it, and the state.
 *
 * As on most cards, and unlike IBM's, palette registers can be written while Palette Address Source is set.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/loop.h"
#include "devices/vga_private.h"

enum { PORT_ATT = 0x3c0, PORT_ATT_READ = 0x3c1, PORT_MISC = 0x3c2, PORT_ENABLE = 0x3c3, PORT_SEQ = 0x3c4,
       PORT_SEQ_DATA = 0x3c5, PORT_PEL_MASK = 0x3c6, PORT_DAC_STATE = 0x3c7, PORT_DAC_INDEX = 0x3c8, PORT_DAC_DATA = 0x3c9,
       PORT_FEATURE_READ = 0x3ca, PORT_MISC_READ = 0x3cc, PORT_GFX = 0x3ce, PORT_GFX_DATA = 0x3cf };
enum { PORT_CRTC = 0x3d4, PORT_CRTC_DATA = 0x3d5, PORT_STATUS_1 = 0x3da, MONO_PORTS = 0x20 }; /* 3B4h, 3B5h, 3BAh */
enum { STATUS_0_SWITCH = 0x10, STATUS_1_DISPLAY_DISABLED = 1, STATUS_1_VERTICAL_RETRACE = 8 };
enum { DAC_WRITE = 0, DAC_READ = 3 };
enum { CRTC_PROTECT = 0x80, OVERFLOW_LINE_COMPARE = 0x10 };

/* Bits that there are. */
static const u8 seq_mask[VGA_SEQ_COUNT] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const u8 gfx_mask[VGA_GFX_COUNT] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };
static const u8 att_mask[VGA_ATT_COUNT] = { 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                            0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f };

/* ---- the beam ---- */

struct beam {
    u64 line_ns, shown_ns, lines, shown, retrace, retrace_lines;
};

/* 640x400 at 70 Hz where registers are no picture: whoever waits for a retrace gets one. */
static struct beam beam(const struct vga_registers *r)
{
    const u8 *c = r->crtc, o = c[CRTC_OVERFLOW];
    u64 dot_ps = (r->misc & OUTPUT_CLOCK) == 4 ? 35308 : 39722; /* 28.322 and 25.175 MHz */
    u64 dots = (r->seq[SEQ_CLOCKING_MODE] & CLOCKING_8_DOTS ? 8 : 9) << !!(r->seq[SEQ_CLOCKING_MODE] & CLOCKING_DOT_CLOCK_2);
    struct beam b = {
        .line_ns = (c[CRTC_HORIZONTAL_TOTAL] + 5u) * dots * dot_ps / 1000,
        .shown_ns = (c[CRTC_HORIZONTAL_DISPLAY_END] + 1u) * dots * dot_ps / 1000,
        .lines = (c[CRTC_VERTICAL_TOTAL] | (o & 1u) << 8 | (o & 0x20u) << 4) + 2,
        .shown = vga_vertical_display_end(r) + 1,
        .retrace = c[CRTC_VERTICAL_RETRACE_START] | (o & 4u) << 6 | (o & 0x80u) << 2,
    };

    b.retrace_lines = ((c[CRTC_VERTICAL_RETRACE_END] - b.retrace - 1) & 15) + 1;
    if (b.shown_ns >= b.line_ns || b.line_ns < 10000 || b.shown > b.retrace || b.retrace + b.retrace_lines > b.lines ||
        vbe_enabled(r))
        b = (struct beam){ 31778, 25422, 449, 400, 412, 2 };
    return b;
}

static u8 status_1(struct vga *v)
{
    struct beam b = beam(&v->r);
    u64 now = clock_ns(), frame = b.line_ns * b.lines, at = now % frame, line = at / b.line_ns;
    u64 since = b.retrace * b.line_ns; /* frames are counted from their retrace */
    bool missed = (now + frame - since) / frame != (v->retrace_seen + frame - since) / frame && !v->retrace_told;
    u8 s = 0;

    v->retrace_seen = now;
    v->retrace_told = false;
    if (line >= b.shown || at % b.line_ns >= b.shown_ns)
        s |= STATUS_1_DISPLAY_DISABLED;
    if (line >= b.retrace && line < b.retrace + b.retrace_lines) {
        s |= STATUS_1_VERTICAL_RETRACE | STATUS_1_DISPLAY_DISABLED;
    } else if (missed) { /* one that asks too seldom is told late, but told */
        s |= STATUS_1_VERTICAL_RETRACE | STATUS_1_DISPLAY_DISABLED;
        v->retrace_told = true;
    }
    return s;
}

/* ---- the DAC ---- */

static u8 dac_bits(const struct vga *v)
{
    return v->r.vbe[VBE_DISPI_INDEX_ENABLE] & VBE_DISPI_8BIT_DAC ? 0xff : 0x3f;
}

static u8 dac_read(struct vga *v)
{
    u8 value = v->r.dac[v->dac_index * 3 + v->dac_component] & dac_bits(v);

    if (++v->dac_component == 3) {
        v->dac_component = 0;
        v->dac_index++;
    }
    return value;
}

/* A colour takes effect with its third component. */
static void dac_write(struct vga *v, u8 value)
{
    v->dac_value[v->dac_component] = value & dac_bits(v);
    if (++v->dac_component == 3) {
        v->dac_component = 0;
        memcpy(&v->r.dac[v->dac_index++ * 3], v->dac_value, 3);
    }
}

/* ---- registers ---- */

static void crtc_write(struct vga *v, u8 value)
{
    u8 i = v->crtc_index, *c = v->r.crtc;

    if (i >= VGA_CRTC_COUNT)
        return;
    if (i <= CRTC_OVERFLOW && (c[CRTC_VERTICAL_RETRACE_END] & CRTC_PROTECT)) {
        if (i == CRTC_OVERFLOW)
            c[i] = (u8)((c[i] & ~OVERFLOW_LINE_COMPARE) | (value & OVERFLOW_LINE_COMPARE));
        return;
    }
    c[i] = value;
}

static u8 att_read(const struct vga *v)
{
    u8 i = v->r.att_index & 0x1f;
    return i < VGA_ATT_COUNT ? v->r.att[i] : 0;
}

static void att_write(struct vga *v, u8 value)
{
    u8 i = v->r.att_index & 0x1f;

    if (!v->att_data)
        v->r.att_index = value & 0x3f;
    else if (i < VGA_ATT_COUNT)
        v->r.att[i] = value & att_mask[i];
    v->att_data = !v->att_data;
}

/* CRTC, Input Status 1 and Feature Control are at 3Dxh or at 3Bxh; returned as of 3Dxh, or 0: nobody's. */
static u32 canonical(const struct vga *v, u32 port)
{
    u32 p = port >= 0x3d0 ? port : port < 0x3c0 ? port + MONO_PORTS : 0;

    if (!p)
        return port;
    return (p == port) == !!(v->r.misc & OUTPUT_COLOR_PORTS) ? p : 0;
}

u8 vga_port_read(struct vga *v, u32 port)
{
    if (port != PORT_ENABLE && !(v->enable & 1))
        return 0xff;
    switch (canonical(v, port)) {
    case PORT_ATT:
        return v->r.att_index;
    case PORT_ATT_READ:
        return att_read(v);
    case PORT_MISC: /* Input Status 0: a monitor is there; no interrupt */
        return STATUS_0_SWITCH;
    case PORT_ENABLE:
        return v->enable;
    case PORT_SEQ:
        return v->seq_index;
    case PORT_SEQ_DATA:
        return v->seq_index < VGA_SEQ_COUNT ? v->r.seq[v->seq_index] : 0;
    case PORT_PEL_MASK:
        return v->r.pel_mask;
    case PORT_DAC_STATE:
        return v->dac_state;
    case PORT_DAC_INDEX: /* a colour to be read is fetched ahead (Inmos G171) */
        return (u8)(v->dac_index + (v->dac_state == DAC_READ));
    case PORT_DAC_DATA:
        return dac_read(v);
    case PORT_FEATURE_READ:
        return v->feature;
    case PORT_MISC_READ:
        return v->r.misc;
    case PORT_GFX:
        return v->gfx_index;
    case PORT_GFX_DATA:
        return v->gfx_index < VGA_GFX_COUNT ? v->r.gfx[v->gfx_index] : 0;
    case PORT_CRTC:
        return v->crtc_index;
    case PORT_CRTC_DATA:
        return v->crtc_index < VGA_CRTC_COUNT ? v->r.crtc[v->crtc_index] : 0;
    case PORT_STATUS_1:
        v->att_data = false;
        return status_1(v);
    default:
        return 0xff;
    }
}

void vga_port_write(struct vga *v, u32 port, u8 value)
{
    if (port != PORT_ENABLE && !(v->enable & 1))
        return;
    switch (canonical(v, port)) {
    case PORT_ATT:
        att_write(v, value);
        break;
    case PORT_MISC:
        v->r.misc = value & 0xef;
        break;
    case PORT_ENABLE:
        v->enable = value & 1;
        break;
    case PORT_SEQ:
        v->seq_index = value & 7;
        break;
    case PORT_SEQ_DATA:
        if (v->seq_index < VGA_SEQ_COUNT)
            v->r.seq[v->seq_index] = value & seq_mask[v->seq_index];
        break;
    case PORT_PEL_MASK:
        v->r.pel_mask = value;
        break;
    case PORT_DAC_STATE:
    case PORT_DAC_INDEX:
        v->dac_state = port == PORT_DAC_STATE ? DAC_READ : DAC_WRITE;
        v->dac_index = value;
        v->dac_component = 0;
        break;
    case PORT_DAC_DATA:
        dac_write(v, value);
        break;
    case PORT_GFX:
        v->gfx_index = value & 15;
        break;
    case PORT_GFX_DATA:
        if (v->gfx_index < VGA_GFX_COUNT)
            v->r.gfx[v->gfx_index] = value & gfx_mask[v->gfx_index];
        break;
    case PORT_CRTC:
        v->crtc_index = value & 0x3f;
        break;
    case PORT_CRTC_DATA:
        crtc_write(v, value);
        break;
    case PORT_STATUS_1: /* Feature Control */
        v->feature = value & 0x0b;
        break;
    default:
        break;
    }
    if (port >= PORT_MISC && port <= PORT_GFX_DATA)
        vga_window_map(v);
}

/* Words, of which most are an index and its data: two ports, one after the other. */
static u64 ports_read(void *dev, u64 offset, unsigned size)
{
    struct vga *v = dev;

    pthread_mutex_lock(&v->lock);
    u64 value = vga_port_read(v, VGA_PORTS_BASE + (u32)offset);
    if (size == 2)
        value |= (u64)vga_port_read(v, VGA_PORTS_BASE + (u32)offset + 1) << 8;
    pthread_mutex_unlock(&v->lock);
    return value;
}

static void ports_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct vga *v = dev;

    pthread_mutex_lock(&v->lock);
    vga_port_write(v, VGA_PORTS_BASE + (u32)offset, (u8)value);
    if (size == 2)
        vga_port_write(v, VGA_PORTS_BASE + (u32)offset + 1, (u8)(value >> 8));
    pthread_mutex_unlock(&v->lock);
}

const struct bus_ops vga_ports_ops = { .read = ports_read, .write = ports_write, .min_size = 1, .max_size = 2 };

/* ---- life ---- */

void vga_reset(struct vga *v)
{
    pthread_mutex_lock(&v->lock);
    /* Guest memory gives its pages back; a test has other memory. */
    if (madvise(v->vram, v->vram_size, MADV_REMOVE))
        memset(v->vram, 0, v->vram_size);
    memset(&v->r, 0, sizeof v->r);
    v->r.pel_mask = 0xff;
    v->feature = v->seq_index = v->crtc_index = v->gfx_index = 0;
    v->enable = 1;
    v->att_data = v->retrace_told = false;
    v->dac_index = v->dac_state = v->dac_component = 0;
    memset(v->dac_value, 0, sizeof v->dac_value);
    v->latch = 0;
    v->retrace_seen = clock_ns();
    vbe_reset(v);
    vga_window_map(v);
    pthread_mutex_unlock(&v->lock);
}

void vga_init(struct vga *v, const struct vga_config *c)
{
    memset(v, 0, sizeof *v);
    pthread_mutex_init(&v->lock, NULL);
    v->vram = c->vram->host;
    v->vram_size = (u32)c->vram->size;
    v->memory = c->memory;
    v->vram_piece = c->vram;
    v->display = c->display;
    vga_pci_init(v, c);
    vga_reset(v);
    if (v->display)
        display_plug(v->display, &vga_display_ops, v);
}

void vga_destroy(struct vga *v)
{
    if (v->display)
        display_plug(v->display, NULL, NULL);
    pthread_mutex_destroy(&v->lock);
}

static int loaded(void *obj, struct error *err)
{
    struct vga *v = obj;

    if (v->dac_component > 2 || (v->dac_state != DAC_READ && v->dac_state != DAC_WRITE))
        return error_set(err, EINVAL, "the saved state of the graphics adapter is not possible");
    pthread_mutex_lock(&v->lock);
    for (u32 i = 0; i < VGA_SEQ_COUNT; i++)
        v->r.seq[i] &= seq_mask[i];
    for (u32 i = 0; i < VGA_GFX_COUNT; i++)
        v->r.gfx[i] &= gfx_mask[i];
    for (u32 i = 0; i < VGA_ATT_COUNT; i++)
        v->r.att[i] &= att_mask[i];
    v->r.att_index &= 0x3f;
    v->seq_index &= 7;
    v->gfx_index &= 15;
    v->crtc_index &= 0x3f;
    v->retrace_seen = clock_ns();
    vbe_sanitize(v);
    vga_window_map(v);
    pthread_mutex_unlock(&v->lock);
    return 0;
}

#define REGISTERS(f) STATE_ARRAY(struct vga_registers, f, 1)
static const struct state_field register_fields[] = {
    STATE_FIELD(struct vga_registers, misc, 1),      REGISTERS(seq), REGISTERS(crtc), REGISTERS(gfx), REGISTERS(att),
    STATE_FIELD(struct vga_registers, att_index, 1), STATE_FIELD(struct vga_registers, pel_mask, 1),
    REGISTERS(dac),                                  REGISTERS(vbe),
    STATE_END,
};
static const struct state_field fields[] = {
    STATE_STRUCT(struct vga, r, 1, register_fields),
    STATE_FIELD(struct vga, feature, 1),       STATE_FIELD(struct vga, enable, 1),
    STATE_FIELD(struct vga, seq_index, 1),     STATE_FIELD(struct vga, crtc_index, 1),
    STATE_FIELD(struct vga, gfx_index, 1),     STATE_FIELD(struct vga, att_data, 1),
    STATE_FIELD(struct vga, dac_index, 1),     STATE_FIELD(struct vga, dac_state, 1),
    STATE_FIELD(struct vga, dac_component, 1), STATE_ARRAY(struct vga, dac_value, 1),
    STATE_FIELD(struct vga, vbe_index, 1),     STATE_FIELD(struct vga, latch, 1),
    STATE_FIELD(struct vga, retrace_told, 1),
    STATE_END,
};
const struct state_desc vga_state = { "vga", 1, fields, NULL, loaded };
