/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_vbe.c - the DISPI registers (Bochs VBE extensions), and the adapter as a PCI function (QEMU, docs/specs/standard-vga).
 *
 * Any width will do; a virtual width below the real one is raised to it, one too wide for the height cut.  Offsets beyond the end of video memory wrap.
 */
#include <string.h>

#include "devices/vga_private.h"

enum { BAR_VRAM = 0, BAR_MMIO = 2 };
enum { MMIO_PORTS = 0x400, MMIO_PORTS_END = 0x420, MMIO_VBE = 0x500, MMIO_VBE_END = MMIO_VBE + 2 * VBE_DISPI_COUNT,
       MMIO_EXTENDED = 0x600, MMIO_EXTENDED_SIZE = 8 };

static bool planar(const struct vga_registers *r) { return vbe_bpp(r) == 4; }

u32 vbe_pitch(const struct vga_registers *r)
{
    u32 width = r->vbe[VBE_DISPI_INDEX_VIRT_WIDTH];
    return planar(r) ? (width + 7) / 8 : width * ((vbe_bpp(r) + 7) / 8);
}

/* Of an enabled mode: what cannot be becomes what can. */
static void fix(struct vga *v)
{
    u16 *d = v->r.vbe;
    u32 pitch;

    switch (d[VBE_DISPI_INDEX_BPP]) {
    case 4: case 8: case 15: case 16: case 24: case 32:
        break;
    default:
        d[VBE_DISPI_INDEX_BPP] = 8;
    }
    d[VBE_DISPI_INDEX_XRES] = (u16)MIN(MAX(d[VBE_DISPI_INDEX_XRES], 1), DISPLAY_MAX_WIDTH);
    d[VBE_DISPI_INDEX_YRES] = (u16)MIN(MAX(d[VBE_DISPI_INDEX_YRES], 1), DISPLAY_MAX_HEIGHT);
    /* All of the lines shown fit into video memory. */
    u32 plane = planar(&v->r) ? v->vram_size / 4 : v->vram_size, line = plane / d[VBE_DISPI_INDEX_YRES];
    u32 widest = planar(&v->r) ? line * 8 : line / ((vbe_bpp(&v->r) + 7) / 8);
    d[VBE_DISPI_INDEX_VIRT_WIDTH] = (u16)MIN(d[VBE_DISPI_INDEX_VIRT_WIDTH], widest);
    d[VBE_DISPI_INDEX_VIRT_WIDTH] = MAX(d[VBE_DISPI_INDEX_VIRT_WIDTH], d[VBE_DISPI_INDEX_XRES]);
    pitch = vbe_pitch(&v->r);
    d[VBE_DISPI_INDEX_VIRT_HEIGHT] = (u16)MIN(plane / pitch, 0xffff);
}

static void enable(struct vga *v, u16 value)
{
    u16 *d = v->r.vbe;

    value &= VBE_DISPI_ENABLED | VBE_DISPI_GETCAPS | VBE_DISPI_8BIT_DAC | VBE_DISPI_LFB_ENABLED | VBE_DISPI_NOCLEARMEM;
    if ((value & VBE_DISPI_ENABLED) && !vbe_enabled(&v->r)) {
        d[VBE_DISPI_INDEX_VIRT_WIDTH] = d[VBE_DISPI_INDEX_X_OFFSET] = d[VBE_DISPI_INDEX_Y_OFFSET] = 0;
        fix(v);
        if (!(value & VBE_DISPI_NOCLEARMEM)) {
            u64 shown = (u64)vbe_pitch(&v->r) * d[VBE_DISPI_INDEX_YRES] * (planar(&v->r) ? 4 : 1);
            memset(v->vram, 0, MIN(shown, v->vram_size));
        }
    }
    if (!(value & VBE_DISPI_ENABLED))
        d[VBE_DISPI_INDEX_BANK] = 0;
    d[VBE_DISPI_INDEX_ENABLE] = value;
}

static u16 vbe_read(const struct vga *v, u32 index)
{
    if (v->r.vbe[VBE_DISPI_INDEX_ENABLE] & VBE_DISPI_GETCAPS) {
        switch (index) {
        case VBE_DISPI_INDEX_XRES:
            return DISPLAY_MAX_WIDTH;
        case VBE_DISPI_INDEX_YRES:
            return DISPLAY_MAX_HEIGHT;
        case VBE_DISPI_INDEX_BPP:
            return 32;
        default:
            break;
        }
    }
    return index < VBE_DISPI_COUNT ? v->r.vbe[index] : 0xffff;
}

static void vbe_write(struct vga *v, u32 index, u16 value)
{
    switch (index) {
    case VBE_DISPI_INDEX_ID:
        if (value >= 0xb0c0 && value <= VBE_DISPI_ID5)
            v->r.vbe[index] = value;
        break;
    case VBE_DISPI_INDEX_ENABLE:
        enable(v, value);
        break;
    case VBE_DISPI_INDEX_BANK:
        v->r.vbe[index] = value & (u16)((v->vram_size >> 16) - 1);
        break;
    case VBE_DISPI_INDEX_XRES:
    case VBE_DISPI_INDEX_YRES:
    case VBE_DISPI_INDEX_BPP:
    case VBE_DISPI_INDEX_VIRT_WIDTH:
    case VBE_DISPI_INDEX_X_OFFSET:
    case VBE_DISPI_INDEX_Y_OFFSET:
        v->r.vbe[index] = value;
        if (vbe_enabled(&v->r))
            fix(v);
        break;
    default: /* VIRT_HEIGHT and the memory's size follow */
        break;
    }
    vga_window_map(v);
}

void vbe_reset(struct vga *v)
{
    memset(v->r.vbe, 0, sizeof v->r.vbe);
    v->r.vbe[VBE_DISPI_INDEX_ID] = VBE_DISPI_ID5;
    v->r.vbe[VBE_DISPI_INDEX_VIDEO_MEMORY_64K] = (u16)(v->vram_size >> 16);
    v->vbe_index = 0;
}

void vbe_sanitize(struct vga *v)
{
    v->r.vbe[VBE_DISPI_INDEX_VIDEO_MEMORY_64K] = (u16)(v->vram_size >> 16);
    if (vbe_enabled(&v->r))
        fix(v);
}

/* ---- ports: 1CEh the index, 1CFh (and 1D0h, for those that want it aligned) the data, 16 bits each ---- */

static u64 vbe_ports_read(void *dev, u64 offset, unsigned size)
{
    struct vga *v = dev;

    pthread_mutex_lock(&v->lock);
    u64 value = offset ? vbe_read(v, v->vbe_index) : v->vbe_index;
    pthread_mutex_unlock(&v->lock);
    return value;
}

static void vbe_ports_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct vga *v = dev;

    pthread_mutex_lock(&v->lock);
    if (offset)
        vbe_write(v, v->vbe_index, (u16)value);
    else
        v->vbe_index = (u16)value;
    pthread_mutex_unlock(&v->lock);
}

const struct bus_ops vbe_ports_ops = { .read = vbe_ports_read, .write = vbe_ports_write, .min_size = 1, .max_size = 2 };

/* ---- BAR 2 ---- */

static u64 mmio_read(void *dev, u64 offset, unsigned size)
{
    struct vga *v = dev;
    u64 value = UINT64_MAX;

    pthread_mutex_lock(&v->lock);
    if (offset >= MMIO_PORTS && offset + size <= MMIO_PORTS_END) {
        value = 0;
        for (unsigned i = 0; i < size; i++)
            value |= (u64)vga_port_read(v, (u32)(offset - MMIO_PORTS) + 0x3c0 + i) << i * 8;
    } else if (offset >= MMIO_VBE && offset + size <= MMIO_VBE_END) {
        value = (u64)vbe_read(v, (u32)(offset - MMIO_VBE) / 2) >> (offset & 1) * 8;
    } else if (offset >= MMIO_EXTENDED && offset + size <= MMIO_EXTENDED + MMIO_EXTENDED_SIZE) {
        static const u8 extended[MMIO_EXTENDED_SIZE] = { MMIO_EXTENDED_SIZE, 0, 0, 0, 0x1e, 0x1e, 0x1e, 0x1e }; /* little-endian, for good */
        value = 0;
        memcpy(&value, extended + (offset - MMIO_EXTENDED), size);
    }
    pthread_mutex_unlock(&v->lock);
    return value;
}

static void mmio_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct vga *v = dev;

    pthread_mutex_lock(&v->lock);
    if (offset >= MMIO_PORTS && offset + size <= MMIO_PORTS_END) {
        for (unsigned i = 0; i < size; i++)
            vga_port_write(v, (u32)(offset - MMIO_PORTS) + 0x3c0 + i, (u8)(value >> i * 8));
    } else if (offset >= MMIO_VBE && offset < MMIO_VBE_END && size == 2 && !(offset & 1)) {
        vbe_write(v, (u32)(offset - MMIO_VBE) / 2, (u16)value);
    }
    pthread_mutex_unlock(&v->lock);
}

static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write, .min_size = 1, .max_size = 2 };

/* ---- */

void vga_pci_init(struct vga *v, const struct vga_config *c)
{
    struct pci_function *f = &v->pci;

    pci_function_init(f, "vga", 0x1234, 0x1111, 2, 0x030000, 0x1af4, 0x1100);
    pci_bar_init(f, BAR_VRAM, &(struct pci_bar){ .size = v->vram_size, .flags = PCI_BAR_PREFETCH, .memory = c->vram,
                                                 .name = "vga-vram" });
    pci_bar_init(f, BAR_MMIO, &(struct pci_bar){ .size = VGA_MMIO_SIZE, .ops = &mmio_ops, .dev = v, .name = "vga-mmio" });
    if (c->rom)
        pci_bar_init(f, PCI_ROM, &(struct pci_bar){ .size = c->rom->size, .memory = c->rom, .name = "vga-rom" });
    f->wmask[4] |= 1; /* the legacy ports, which answer all the same */
}
