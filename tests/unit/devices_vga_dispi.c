/* SPDX-License-Identifier: Apache-2.0 */
/* devices_vga_dispi.c - the graphics adapter's linear modes, their window and their limits (Bochs's DISPI). */
#include "vga_model.h"

/* Pixel x, y as a person would compute it. */
static u32 vbe_dot(const struct rig *g, u32 bpp, u32 virt, u32 x, u32 y)
{
    const u64 n = (u64)y * virt + x;
    const u8 *p = g->vram + n * ((bpp + 7) / 8) % VGA_VRAM_SIZE;
    u32 v = 0, color = 0;

    switch (bpp) {
    case 4:
        for (u32 i = 0; i < 4; i++)
            color |= (g->vram[((u64)y * ((virt + 7) / 8) + x / 8) * 4 % VGA_VRAM_SIZE + i] >> (7 - x % 8) & 1u) << i;
        return rgb(g, dac_of(g, color & g->att[0x12]));
    case 8:
        return rgb(g, *p);
    case 15:
    case 16:
        v = p[0] | p[1] << 8;
        for (u32 i = 0, bits; i < 3; i++, v >>= bits) { /* blue first */
            bits = i == 1 && bpp == 16 ? 6 : 5;
            u32 c = v & ((1u << bits) - 1);
            color |= (bits == 5 ? c * 8 + c / 4 : c * 4 + c / 16) << i * 8;
        }
        return color;
    default:
        return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16;
    }
}

TEST(vbe_modes)
{
    static const u16 size[][2] = { { 640, 480 }, { 800, 600 }, { 1024, 768 }, { 1366, 768 }, { 1920, 1200 }, { 2560, 1600 } };
    static const u16 depth[] = { 4, 8, 15, 16, 24, 32 };
    struct rig *g = rig_new();

    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_ID), 0xb0c5);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIDEO_MEMORY_64K), 256);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_GETCAPS);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_XRES), 2560);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_YRES), 1600);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_BPP), 32);
    set_mode(g, &vga_mode[10]); /* 12h: planes as 4-bit modes want them */
    random_colors(g);
    for (u32 i = 0; i < ARRAY_SIZE(size); i++)
        for (u32 k = 0; k < ARRAY_SIZE(depth); k++) {
            u32 w, h, wrong = 0, virt = size[i][0] + (rnd() % 3 ? 0 : rnd() % 500), x0 = rnd() % 100, y0 = rnd() % 50;
            for (u64 n = 0; n < VGA_VRAM_SIZE; n += 4096)
                memset(g->vram + n, 0xee, 64);
            vbe(g, VBE_DISPI_INDEX_ENABLE, 0);
            vbe(g, VBE_DISPI_INDEX_XRES, size[i][0]);
            vbe(g, VBE_DISPI_INDEX_YRES, size[i][1]);
            vbe(g, VBE_DISPI_INDEX_BPP, depth[k]);
            vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_ENABLED | VBE_DISPI_LFB_ENABLED | (i ? 0 : VBE_DISPI_NOCLEARMEM));
            CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_WIDTH), size[i][0]);
            CHECK_EQ(g->vram[0], i ? 0 : 0xee);
            if ((u64)virt * size[i][1] * ((depth[k] + 7) / 8) > VGA_VRAM_SIZE) /* would be refused */
                virt = size[i][0];
            vbe(g, VBE_DISPI_INDEX_VIRT_WIDTH, (u16)virt);
            vbe(g, VBE_DISPI_INDEX_X_OFFSET, (u16)x0);
            vbe(g, VBE_DISPI_INDEX_Y_OFFSET, (u16)y0);
            for (u64 n = 0; n < VGA_VRAM_SIZE; n += 8)
                *(u64 *)(void *)(g->vram + n) = (u64)rnd() << 32 | rnd();
            display_refresh(g->d);
            display_size(g->d, &w, &h);
            CHECK(w == size[i][0] && h == size[i][1]);
            for (u32 y = 0; y < h; y++)
                for (u32 x = rnd() % 64; x < w && wrong < 3; x += 1 + rnd() % 64) {
                    u32 got = display_pixels(g->d)[y * w + x] & 0xffffff, want = vbe_dot(g, depth[k], virt, x0 + x, y0 + y);
                    if (got != want) {
                        test_fail(__FILE__, __LINE__, "%ux%u, %u bits: %u, %u is %06x, not %06x", w, h, depth[k], x, y, got, want);
                        wrong++;
                    }
                }
        }
    rig_free(g);
}

TEST(vbe_window)
{
    struct rig *g = rig_new();

    set_misc(g, 0x63);
    vbe(g, VBE_DISPI_INDEX_XRES, 1024);
    vbe(g, VBE_DISPI_INDEX_YRES, 768);
    vbe(g, VBE_DISPI_INDEX_BPP, 32);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_ENABLED);
    for (u32 bank = 0; bank < 256; bank += 51) {
        vbe(g, VBE_DISPI_INDEX_BANK, (u16)bank);
        vga_window_ops.write(&g->v, 0xfff8, 8, 0x1122334455667788 + bank);
        CHECK_EQ(*(u64 *)(void *)(g->vram + bank * 0x10000 + 0xfff8), 0x1122334455667788 + bank);
        CHECK_EQ(vga_window_ops.read(&g->v, 0xfffc, 4), 0x11223344);
        CHECK_EQ(vga_window_ops.read(&g->v, 0x10000, 4), 0xffffffff);
    }
    vbe(g, VBE_DISPI_INDEX_BANK, 0x1234); /* there are 256 */
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_BANK), 0x34);
    /* What a BAR access does is what a port does. */
    const struct pci_bar *b = bar(g, 2);
    CHECK_EQ(b->ops->read(b->dev, 0x500, 2), 0xb0c5);
    b->ops->write(b->dev, 0x500 + 2 * VBE_DISPI_INDEX_X_OFFSET, 2, 77);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_X_OFFSET), 77);
    b->ops->write(b->dev, 0x40e, 2, 0x0508); /* 3CEh, 3CFh: bit mask 5 */
    CHECK_EQ(inport(g, 0x3cf), 5);
    CHECK_EQ(b->ops->read(b->dev, 0x600, 2), 8); /* QEMU's: how many bytes, and the byte order */
    CHECK_EQ(b->ops->read(b->dev, 0x604, 2), 0x1e1e);
    CHECK_EQ(b->ops->read(b->dev, 0x608, 2) & 0xffff, 0xffff);
    rig_free(g);
}

/* Where a guest sees it in the window as it is: offset in video memory, or -1. */
static s64 shown(const struct rig *g)
{
    struct memory_region r;
    return !memory_lookup(g->memory, VGA_WINDOW_BASE, &r) ? -1 : r.size == 0x10000 && !r.readonly ? r.host - g->vram : -2;
}

TEST(window_is_memory)
{
    struct rig *g = rig_new();
    const struct vga_mode *m = &vga_mode[11]; /* 13h */

    CHECK_EQ(shown(g), -1);
    set_mode(g, &vga_mode[10]);
    CHECK_EQ(shown(g), -1);
    set_mode(g, m);
    CHECK_EQ(shown(g), 0);
    static const u8 spoil[][3] = { { 0, 2, 7 }, { 0, 4, 6 }, { 1, 1, 1 }, { 1, 3, 1 }, { 1, 5, 0x41 }, { 1, 5, 0x48 }, { 1, 6, 1 }, { 1, 8, 0xfe } };
    for (u32 i = 0; i < ARRAY_SIZE(spoil); i++) {
        (spoil[i][0] ? set_gfx : set_seq)(g, spoil[i][1], spoil[i][2]);
        CHECK_EQ(shown(g), -1);
        set_mode(g, m);
        CHECK_EQ(shown(g), 0);
    }
    set_misc(g, 0x61);
    CHECK_EQ(shown(g), -1);
    set_misc(g, 0x63);
    vbe(g, VBE_DISPI_INDEX_XRES, 1024);
    vbe(g, VBE_DISPI_INDEX_YRES, 768);
    vbe(g, VBE_DISPI_INDEX_BPP, 16);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_ENABLED);
    vbe(g, VBE_DISPI_INDEX_BANK, 3);
    CHECK_EQ(shown(g), 0x30000);
    set_seq(g, 2, 1);
    CHECK_EQ(shown(g), 0x30000);
    vbe(g, VBE_DISPI_INDEX_BPP, 4);
    CHECK_EQ(shown(g), -1);
    vbe(g, VBE_DISPI_INDEX_ENABLE, 0);
    set_seq(g, 2, 15);
    CHECK_EQ(shown(g), 0);
    vga_reset(&g->v);
    CHECK_EQ(shown(g), -1);
    rig_free(g);
}

/* A virtual line may be as long as video memory has room for the lines shown. */
TEST(vbe_limits)
{
    struct rig *g = rig_new();

    vbe(g, VBE_DISPI_INDEX_XRES, 1024), vbe(g, VBE_DISPI_INDEX_YRES, 768), vbe(g, VBE_DISPI_INDEX_BPP, 32);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_ENABLED);
    vbe(g, VBE_DISPI_INDEX_VIRT_WIDTH, 1100);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_WIDTH), 1100);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_HEIGHT), VGA_VRAM_SIZE / 4400);
    vbe(g, VBE_DISPI_INDEX_VIRT_WIDTH, 0xffff);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_WIDTH), VGA_VRAM_SIZE / 768 / 4);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_HEIGHT), 768);
    vbe(g, VBE_DISPI_INDEX_VIRT_WIDTH, 5);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIRT_WIDTH), 1024);
    vbe(g, VBE_DISPI_INDEX_XRES, 0xffff), vbe(g, VBE_DISPI_INDEX_YRES, 0xffff);
    vbe(g, VBE_DISPI_INDEX_X_OFFSET, 0xffff), vbe(g, VBE_DISPI_INDEX_Y_OFFSET, 0xffff);
    display_refresh(g->d);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_XRES), DISPLAY_MAX_WIDTH);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_YRES), DISPLAY_MAX_HEIGHT);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_GETCAPS);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_BPP), 32);
    CHECK_EQ(vbe_get(g, VBE_DISPI_INDEX_VIDEO_MEMORY_64K), VGA_VRAM_SIZE >> 16);
    rig_free(g);
}
