/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pc_vga.c - the graphics adapter on the board "pc": slot 2, the legacy ports and the window at A0000h, and its BIOS, which
 * SeaBIOS runs, from its expansion ROM.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/internal.h"

#include "base/opener.h"

enum { COMMAND = 4, COMMAND_IO = 1, COMMAND_MEMORY = 2 };
enum { VGA_SLOT = 2, ROM_MIN = 4096, ROM_MAX = 256 * 1024, ROM_BLOCK = 512 };

static int read_rom(struct machine *m, const char *path, const struct memory_piece **rom, struct error *err)
{
    struct memory_piece *piece;
    struct stat st;
    u64 size = ROM_MIN;
    int rc = 0, fd = opener_file(OPENER_ROM, path, O_RDONLY, 0);

    if (fd < 0 || opener_fstat(fd, &st)) {
        rc = error_set(err, errno, "cannot read the graphics adapter's BIOS %s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode) || st.st_size < ROM_BLOCK || st.st_size > ROM_MAX) {
        rc = error_set(err, EINVAL, "%s is no BIOS of a graphics adapter: it must have %d to %d bytes", path, ROM_BLOCK, ROM_MAX);
    } else {
        while (size < (u64)st.st_size)
            size *= 2;
        rc = memory_piece(m->memory, &piece, "vga-rom", size, true, err);
        if (!rc && pread(fd, piece->host, (size_t)st.st_size, 0) != st.st_size)
            rc = error_set(err, EIO, "cannot read all of the graphics adapter's BIOS %s", path);
        else if (!rc && (piece->host[0] != 0x55 || piece->host[1] != 0xaa))
            rc = error_set(err, EINVAL, "%s is no BIOS of a graphics adapter: it does not begin with 55 AA", path);
        if (!rc)
            *rom = piece;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

/* The font of 8x16 dots in the BIOS, known by its first two characters: none, and a face. NULL: it has none. */
static const u8 *find_font(const struct memory_piece *rom)
{
    static const u8 first[2 * VGA_FONT_HEIGHT] = { [18] = 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e };
    const u8 *at = rom ? memmem(rom->host, rom->size, first, sizeof first) : NULL;
    return at && (u64)(at - rom->host) + 256 * VGA_FONT_HEIGHT <= rom->size ? at : NULL;
}

int pc_vga_build(struct machine *m, struct error *err)
{
    struct memory_piece *vram;
    struct vga_config c = { .memory = m->memory, .display = m->c.display };
    struct vga *v;
    int rc;

    if (!m->c.vga)
        return 0;
    if ((rc = memory_piece(m->memory, &vram, "vga", VGA_VRAM_SIZE, false, err)) ||
        (m->c.vga_rom && (rc = read_rom(m, m->c.vga_rom, &c.rom, err))))
        return rc;
    if (!(m->vga = v = calloc(1, sizeof *v)))
        return error_set(err, ENOMEM, "no memory for the graphics adapter");
    c.vram = vram;
    m->vga_font = m->c.firmware ? NULL : find_font(c.rom);
    vga_init(v, &c);
    if ((rc = machine_ports(m, VGA_PORTS_BASE, VGA_PORTS, &vga_ports_ops, v, "vga")) ||
        (rc = machine_ports(m, VBE_PORTS_BASE, VBE_PORTS, &vbe_ports_ops, v, "vga-vbe")) ||
        (rc = bus_add(m->mmio, &(struct bus_range){ VGA_WINDOW_BASE, VGA_WINDOW_SIZE, &vga_window_ops, v, NULL, "vga" })) ||
        (rc = pci_add(m->i440fx.bus, &v->pci, VGA_SLOT, 0, m->state, err)))
        return rc;
    return state_add(m->state, &vga_state, 0, v);
}

void pc_vga_destroy(struct machine *m)
{
    if (m->vga)
        vga_destroy(m->vga);
    free(m->vga);
}

void pc_vga_reset(struct machine *m)
{
    if (!m->vga)
        return;
    vga_reset(m->vga);
    if (m->vga->pci.config[COMMAND] & COMMAND_MEMORY)
        m->vga->pci.config[COMMAND] |= COMMAND_IO; /* who gave the BARs addresses did this, too: the one with the legacy ports */
    if (m->vga_font)
        vga_text_mode(m->vga, m->vga_font);
}
