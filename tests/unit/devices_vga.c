/* SPDX-License-Identifier: Apache-2.0 */
/* devices_vga.c - the graphics adapter against the model: every mode, memory, what is told of changes, hostile states. */
#include "vga_model.h"

TEST(modes)
{
    struct rig *g = rig_new();

    for (u32 i = 0; i < ARRAY_SIZE(vga_mode); i++) {
        const struct vga_mode *m = &vga_mode[i];
        vga_reset(&g->v);
        memset(g->plane, 0, sizeof g->plane);
        memset(g->latch, 0, sizeof g->latch);
        set_mode(g, m);
        random_colors(g);
        random_memory(g, 3000);
        compare_picture(g, m, "as the BIOS sets it");
        random_planes(g, m);
        compare_picture(g, m, "random memory");
        for (u32 n = 0; n < 12; n++) {
            set_mode(g, m);
            random_picture(g, m);
            compare_picture(g, m, "random registers");
            for (u32 k = 0; k < 10; k++) {
                random_graphics_controller(g, m);
                random_memory(g, 100);
            }
            set_misc(g, m->misc);
            set_seq(g, 4, m->seq[4]), set_gfx(g, 5, m->gfx[5]), set_gfx(g, 6, m->gfx[6]);
            compare_picture(g, m, "random accesses");
        }
    }
    rig_free(g);
}

/* ---- sequences in the middle, and what survives them ---- */

static void move_to_another(struct rig *g)
{
    struct state_list *l = state_list_new(), *k = state_list_new();
    struct state_buf b = { 0 };
    struct error err;
    static struct vga other;

    u8 *vram = malloc(VGA_VRAM_SIZE);
    memcpy(vram, g->vram, VGA_VRAM_SIZE); /* a reset clears it */
    vga_init(&other, &(struct vga_config){ .vram = g->piece });
    CHECK_EQ(state_add(l, &vga_state, 0, &g->v) | state_add(k, &vga_state, 0, &other), 0);
    CHECK_EQ(state_save(l, &b, &err), 0);
    CHECK_EQ(state_load(k, b.data, b.len, &err), 0);
    vga_reset(&g->v);
    state_buf_free(&b);
    CHECK_EQ(state_save(k, &b, &err), 0);
    CHECK_EQ(state_load(l, b.data, b.len, &err), 0);
    state_buf_free(&b);
    state_list_free(l);
    state_list_free(k);
    memcpy(g->vram, vram, VGA_VRAM_SIZE);
    free(vram);
    vga_destroy(&other);
}

TEST(flip_flops)
{
    struct rig *g = rig_new();

    set_misc(g, 0x67);
    inport(g, 0x3da);
    port(g, 0x3c0, 0x31);
    move_to_another(g);
    port(g, 0x3c0, 0x2a); /* data, still */
    CHECK_EQ(inport(g, 0x3c0), 0x31);
    CHECK_EQ(inport(g, 0x3c1), 0x2a);
    port(g, 0x3c0, 0x12);
    inport(g, 0x3ba); /* not there in colour */
    port(g, 0x3c0, 5);
    CHECK_EQ(inport(g, 0x3c1), 5);

    port(g, 0x3c8, 254);
    for (u8 i = 0; i < 8; i++) { /* across the end; a colour takes effect as a whole */
        port(g, 0x3c9, i | 0xc0);
        move_to_another(g);
    }
    CHECK_EQ(inport(g, 0x3c7), 0);
    CHECK_EQ(inport(g, 0x3c8), 0);
    port(g, 0x3c7, 254);
    CHECK_EQ(inport(g, 0x3c7), 3);
    CHECK_EQ(inport(g, 0x3c8), 255); /* the next one */
    for (u8 i = 0; i < 9; i++) {
        CHECK_EQ(inport(g, 0x3c9), i < 6 ? i : 0);
        move_to_another(g);
    }
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_8BIT_DAC);
    port(g, 0x3c8, 7);
    port(g, 0x3c9, 0xff), port(g, 0x3c9, 0x80), port(g, 0x3c9, 0x7f);
    port(g, 0x3c7, 7);
    CHECK_EQ(inport(g, 0x3c9), 0xff);
    vbe(g, VBE_DISPI_INDEX_ENABLE, 0); /* of which 6 bits are left */
    port(g, 0x3c7, 7);
    CHECK_EQ(inport(g, 0x3c9), 0x3f);

    port(g, 0x3d4, 0x11), port(g, 0x3d5, 0x80); /* protects 0 to 7, but for line compare's bit */
    port(g, 0x3d4, 0), port(g, 0x3d5, 0x55);
    CHECK_EQ(inport(g, 0x3d5), 0);
    port(g, 0x3d4, 7), port(g, 0x3d5, 0xff);
    CHECK_EQ(inport(g, 0x3d5), 0x10);
    CHECK_EQ(inport(g, 0x3b5), 0xff);
    port(g, 0x3da, 3);
    CHECK_EQ(inport(g, 0x3ca), 3);

    set_seq(g, 2, 15), set_seq(g, 4, 6), set_gfx(g, 6, 5), set_gfx(g, 8, 0xff);
    *(u32 *)(void *)g->vram = 0x44332211;
    vga_window_ops.read(&g->v, 0, 1);
    move_to_another(g); /* the latches, too */
    set_gfx(g, 5, 1);
    vga_window_ops.write(&g->v, 1, 1, 0);
    CHECK_EQ(((u32 *)(void *)g->vram)[1], 0x44332211);
    port(g, 0x3c3, 0);
    CHECK_EQ(inport(g, 0x3cc), 0xff);
    CHECK_EQ(vga_window_ops.read(&g->v, 1, 1), 0xff);
    port(g, 0x3c3, 1);
    CHECK_EQ(inport(g, 0x3cc), 0x67);
    rig_free(g);
}

/* What the DAC holds of 8 bits a colour shows as 6 once it has no more. */
TEST(dac_bits)
{
    struct rig *g = rig_new();

    set_mode(g, &vga_mode[11]);
    vbe(g, VBE_DISPI_INDEX_ENABLE, VBE_DISPI_8BIT_DAC);
    port(g, 0x3c8, 0);
    port(g, 0x3c9, 0xff), port(g, 0x3c9, 0x80), port(g, 0x3c9, 0x7f);
    display_refresh(g->d);
    CHECK_EQ(display_pixels(g->d)[0] & 0xffffff, 0xff807f);
    vbe(g, VBE_DISPI_INDEX_ENABLE, 0);
    display_refresh(g->d);
    CHECK_EQ(display_pixels(g->d)[0] & 0xffffff, 0xff00ff);
    rig_free(g);
}

/* Whoever waits for an edge gets it, however often he looks. */
TEST(retrace)
{
    struct rig *g = rig_new();

    for (u32 i = 0; i < ARRAY_SIZE(vga_mode); i++) {
        set_mode(g, &vga_mode[i]);
        for (u64 step = 500; step < 1000000000; step *= 3)
            for (u32 edge = 0; edge < 4; edge++) {
                u32 looks = 0;
                for (; !(inport(g, crtc_port(g) + 6) & 8) == !(edge & 1) && looks < 100000; looks++)
                    fake_now += step;
                CHECK(looks < 100000);
            }
    }
    rig_free(g);
}

TEST(text)
{
    struct rig *g = rig_new();
    static struct display_text t;

    CHECK(!display_text(g->d, &t));
    set_mode(g, &vga_mode[1]);
    for (u32 i = 0; i < 80 * 25; i++)
        mem_write(g, 0x18000 + i * 2, 2, (i & 0xff) | 0x1e00);
    set_crtc(g, 0x0d, 80); /* one line up */
    set_crtc(g, 0x0e, (80 * 3 + 7) >> 8), set_crtc(g, 0x0f, (80 * 3 + 7) & 0xff);
    set_crtc(g, 0x18, 47), set_crtc(g, 7, 0x0f), set_crtc(g, 9, 15); /* after three rows, the first ones again */
    CHECK(display_text(g->d, &t));
    CHECK(t.columns == 80 && t.rows == 25);
    CHECK(t.cursor && t.cursor_column == 7 && (t.cursor_row == 2 || t.cursor_row == 6));
    for (u32 i = 0; i < 80 * 3; i++)
        CHECK(t.cell[i].character == ((i + 80) & 0xff) && t.cell[i].attribute == 0x1e);
    for (u32 i = 0; i < 80 * 20; i++)
        CHECK_EQ(t.cell[80 * 3 + i].character, i & 0xff);
    set_mode(g, &vga_mode[0]);
    CHECK(display_text(g->d, &t) && t.columns == 40 && t.rows == 25);
    set_crtc(g, 9, 0x47); /* 8 lines a character */
    CHECK(display_text(g->d, &t) && t.rows == 50);
    set_mode(g, &vga_mode[2]);
    CHECK(!display_text(g->d, &t));
    rig_free(g);
}

/* A change is told, and only what changed. */
static struct display_rect seen;
static u32 nseen;
static void changed(struct display_viewer *v, const struct display_rect *r, u32 n, bool resized)
{
    nseen = n;
    seen = r[0];
}

TEST(changes)
{
    struct rig *g = rig_new();
    struct display_viewer v = { .changed = changed };

    display_look(g->d, &v);
    set_mode(g, &vga_mode[11]);
    random_colors(g);
    display_refresh(g->d);
    CHECK(nseen == 1 && seen.w == 640 && seen.h == 400);
    nseen = 0;
    display_refresh(g->d);
    CHECK_EQ(nseen, 0);
    mem_write(g, 320 * 10 + 7, 1, 1);
    display_refresh(g->d);
    CHECK(nseen == 1 && seen.x == 14 && seen.w == 2 && seen.y == 20 && seen.h == 2);
    display_look_away(g->d, &v);
    rig_free(g);
}

/* ---- anything at all, while it is drawn ---- */

/* A state with a bit turned over loads or is refused, and what loads is drawn. */
static void hostile_state(struct rig *g)
{
    struct state_list *l = state_list_new();
    struct state_buf b = { 0 };
    struct error err;

    CHECK_EQ(state_add(l, &vga_state, 0, &g->v), 0);
    CHECK_EQ(state_save(l, &b, &err), 0);
    b.data[rnd() % b.len] ^= (u8)(1 << rnd() % 8);
    if (state_load(l, b.data, b.len, &err))
        vga_reset(&g->v);
    state_buf_free(&b);
    state_list_free(l);
}

static bool hammering;
static void *hammer(void *arg)
{
    struct rig *g = arg;
    struct { const struct bus_ops *ops; void *dev; u64 size; } t[] = {
        { &vga_ports_ops, &g->v, VGA_PORTS }, { &vbe_ports_ops, &g->v, VBE_PORTS }, { &vga_window_ops, &g->v, VGA_WINDOW_SIZE },
        { bar(g, 2)->ops, bar(g, 2)->dev, VGA_MMIO_SIZE },
    };
    u32 steps = getenv("HAMMER_STEPS") ? (u32)atoi(getenv("HAMMER_STEPS")) : 1000000;

    for (u32 i = 0; i < steps; i++) {
        u32 n = rnd() % 8, k = n < ARRAY_SIZE(t) ? n : 0, size = MIN(1u << rnd() % 4, t[k].ops->max_size);
        u64 at = rnd() % (t[k].size - size + 1), value = (u64)rnd() << 32 | rnd();
        if (rnd() % 8 == 0)
            value = rnd() & 1 ? 0 : UINT64_MAX;
        if (k == 0 && rnd() % 2) /* an index and its data */
            t[0].ops->write(&g->v, at & ~1ull, 1, rnd() % 32), at |= 1;
        if (k == 1 && rnd() % 2) {
            vbe(g, rnd() % 12, rnd() % 2 ? rnd() & 0xff : rnd() & 0xffff);
        } else if (rnd() % 4) {
            t[k].ops->write(t[k].dev, at, size, value);
        } else {
            t[k].ops->read(t[k].dev, at, size);
        }
        if (i % 5000 == 0)
            hostile_state(g);
        if (i % 50000 == 0)
            set_misc(g, 0x67), port(g, 0x3c3, 1), vbe(g, VBE_DISPI_INDEX_ENABLE, 0), set_mode(g, &vga_mode[rnd() % ARRAY_SIZE(vga_mode)]);
    }
    __atomic_store_n(&hammering, false, __ATOMIC_RELEASE);
    return NULL;
}

TEST(hammer)
{
    struct rig *g = rig_new();
    static struct display_text t;
    pthread_t thread;
    u32 drawn = 0;

    seed = test_seed(seed);
    hammering = true;
    if (pthread_create(&thread, NULL, hammer, g))
        return;
    do {
        display_refresh(g->d);
        display_text(g->d, &t);
        __atomic_fetch_add(&fake_now, 10000000, __ATOMIC_RELAXED);
        drawn++;
    } while (__atomic_load_n(&hammering, __ATOMIC_ACQUIRE));
    pthread_join(thread, NULL);
    printf("%u pictures\n", drawn);
    rig_free(g);
}
