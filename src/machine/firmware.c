/* SPDX-License-Identifier: Apache-2.0 */
/*
 * firmware.c - the board "pc" with a firmware in it: where its code and variables are, what fw_cfg tells it (QEMU's items
 * and file names, which SeaBIOS and OVMF know), and the debug port.
 *
 *   SeaBIOS: src/fw/paravirt.c, src/fw/romfile_loader.c, src/boot.c; OVMF: OvmfPkg/Library/QemuFwCfgLib,
 *   OvmfPkg/AcpiPlatformDxe, OvmfPkg/Library/QemuBootOrderLib; qemu/docs/specs/fw_cfg.rst
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/internal.h"
#include "machine/tables.h"

enum { DEBUG_PORT = 0x402, DEBUG_READBACK = 0xe9 };
enum { CMOS_SHUTDOWN = 0xf, CMOS_BOOT_2 = 0x38, CMOS_BOOT_1 = 0x3d };

/* ---- ACPI: the tables as files, and the commands that put them in memory and link them ------------------------ */

#define TABLES_FILE "etc/acpi/tables"
#define RSDP_FILE "etc/acpi/rsdp"

struct loader_entry { /* qemu/hw/acpi/bios-linker-loader.c; little-endian */
    u32 command;
    union {
        struct { char file[56]; u32 align; u8 zone; } allocate;
        struct { char dest[56], src[56]; u32 offset; u8 size; } pointer;
        struct { char file[56]; u32 offset, start, length; } checksum;
        u8 pad[124];
    };
} __attribute__((packed));
enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3, ZONE_HIGH = 1, ZONE_FSEG = 2 };

static void copy(char to[56], const char *name)
{
    strcpy(to, name);
}

static struct loader_entry allocate(const char *file, u32 align, u8 zone)
{
    struct loader_entry e = { .command = ALLOCATE, .allocate = { .align = align, .zone = zone } };
    copy(e.allocate.file, file);
    return e;
}

static struct loader_entry add_pointer(const char *dest, u32 offset, u8 size)
{
    struct loader_entry e = { .command = ADD_POINTER, .pointer = { .offset = offset, .size = size } };
    copy(e.pointer.dest, dest);
    copy(e.pointer.src, TABLES_FILE);
    return e;
}

static struct loader_entry add_checksum(const char *file, u32 offset, u32 start, u32 length)
{
    struct loader_entry e = { .command = ADD_CHECKSUM, .checksum = { .offset = offset, .start = start, .length = length } };
    copy(e.checksum.file, file);
    return e;
}

/* A firmware gives BARs their addresses, and reads the tables when it has: they say what windows those are in. */
static int acpi_files(struct machine *m, struct error *err)
{
    struct acpi_tables *t = malloc(sizeof *t);
    struct loader_entry e[2 + ARRAY_SIZE(t->pointer) + ARRAY_SIZE(t->sum) + 4];
    struct acpi_config c = machine_acpi_config(m);
    u8 rsdp[ACPI_RSDP_SIZE];
    u32 n = 0;
    int rc;

    if (!t)
        return error_set(err, ENOMEM, "out of memory");
    c.mmio32 = MAX(align_up(m->low_ram, MiB(1)), GiB(2)); /* where both firmwares think it begins */
    pci_bars64(m->i440fx.bus, &c.mmio64, &c.mmio64_size);
    rc = acpi_build(t, &c, err);
    if (!rc) {
        e[n++] = allocate(RSDP_FILE, 16, ZONE_FSEG);
        e[n++] = allocate(TABLES_FILE, 64, ZONE_HIGH);
        for (u32 i = 0; i < t->npointers; i++)
            e[n++] = add_pointer(TABLES_FILE, t->pointer[i].at, t->pointer[i].size);
        for (u32 i = 0; i < t->nsums; i++)
            e[n++] = add_checksum(TABLES_FILE, t->sum[i].at, t->sum[i].start, t->sum[i].len);
        acpi_rsdp(rsdp, t->rsdt, t->xsdt);
        rsdp[8] = rsdp[32] = 0;
        e[n++] = add_pointer(RSDP_FILE, 16, 4);
        e[n++] = add_pointer(RSDP_FILE, 24, 8);
        e[n++] = add_checksum(RSDP_FILE, 8, 0, 20);
        e[n++] = add_checksum(RSDP_FILE, 32, 0, ACPI_RSDP_SIZE);
        rc = fw_cfg_add_file(&m->fw_cfg, TABLES_FILE, t->data, t->len);
        m->acpi_key = (u16)rc;
        if (rc > 0)
            rc = fw_cfg_add_file(&m->fw_cfg, RSDP_FILE, rsdp, sizeof rsdp);
        if (rc > 0)
            rc = fw_cfg_add_file(&m->fw_cfg, "etc/table-loader", e, n * sizeof e[0]);
        if (rc < 0)
            error_set(err, -rc, "the firmware's ACPI tables find no room: %s", strerror(-rc));
    }
    free(t);
    return MIN(rc, 0);
}

static void selected(void *p, u16 key)
{
    struct machine *m = p;
    if (key == m->acpi_key)
        (void)!acpi_files(m, NULL); /* for want of memory: as they were */
}

/* ---- the other files ---------------------------------------------------------------------------------------------- */

static int e820_file(struct machine *m)
{
    struct { u64 addr, size; u32 type; } __attribute__((packed)) e[4];
    u32 n = 0;

    e[n].addr = 0, e[n].size = m->low_ram, e[n++].type = BOOT_MAP_RAM;
    if (m->c.ram > m->low_ram)
        e[n].addr = GiB(4), e[n].size = m->c.ram - m->low_ram, e[n++].type = BOOT_MAP_RAM;
    e[n].addr = PC_ECAM, e[n].size = MiB(1), e[n++].type = BOOT_MAP_RESERVED;
    return fw_cfg_add_file(&m->fw_cfg, "etc/e820", e, n * (u32)sizeof e[0]);
}

static int smbios_files(struct machine *m)
{
    struct smbios_config c = machine_smbios_config(m);
    u8 anchor[SMBIOS_ANCHOR_SIZE];
    struct smbios *s = malloc(sizeof *s);

    if (!s)
        return -ENOMEM;
    smbios_build(s, &c);
    smbios_anchor(anchor, s, 0); /* the firmware puts the address in, and mends the sums */
    int rc = fw_cfg_add_file(&m->fw_cfg, "etc/smbios/smbios-tables", s->data, s->len);
    free(s);
    return rc < 0 ? rc : fw_cfg_add_file(&m->fw_cfg, "etc/smbios/smbios-anchor", anchor, sizeof anchor);
}

/* Lines of OpenFirmware device paths, the first to be tried first. What was not asked for comes last: OVMF connects no
   other disks, so that a boot loader would not find them. */
static int boot_files(struct machine *m)
{
    static const u8 nibble[] = { [MACHINE_BOOT_FLOPPY] = 1, [MACHINE_BOOT_DISK] = 2, [MACHINE_BOOT_CDROM] = 3, [MACHINE_BOOT_NET] = 4 };
    const struct machine_boot_order *o = &m->c.boot;
    char text[MACHINE_MAX_BOOT * (MACHINE_BOOT_PATH + 1)];
    u32 len = 0, cmos = 0, rest = ~0u;
    int rc;

    for (u32 i = 0; i < o->n; i++) {
        cmos |= (u32)nibble[o->what[i]] << i * 4;
        rest &= ~(1u << o->what[i]);
        for (u32 k = 0; k < m->nboot; k++)
            if (m->boot[k].what == o->what[i])
                len += (u32)sprintf(text + len, "%s%s", len ? "\n" : "", m->boot[k].path);
    }
    for (u32 k = 0; k < m->nboot; k++)
        if (rest & 1u << m->boot[k].what)
            len += (u32)sprintf(text + len, "%s%s", len ? "\n" : "", m->boot[k].path);
    mc146818_set(&m->rtc, CMOS_BOOT_1, (u8)cmos);
    mc146818_set(&m->rtc, CMOS_BOOT_2, (u8)(cmos >> 8 << 4));
    if (len && (rc = fw_cfg_add_file(&m->fw_cfg, "bootorder", text, len + 1)) < 0) /* with the zero at its end */
        return rc;
    if ((rc = fw_cfg_add_int(&m->fw_cfg, FW_CFG_BOOT_MENU, o->menu_ms != 0, 2)))
        return rc;
    const u16 ms = o->menu_ms;
    return ms ? fw_cfg_add_file(&m->fw_cfg, "etc/boot-menu-wait", &ms, sizeof ms) : 0;
}

int machine_add_boot(struct machine *m, enum machine_boot what, const char *path, struct error *err)
{
    if (m->nboot == MACHINE_MAX_BOOT || strlen(path) >= MACHINE_BOOT_PATH)
        return error_set(err, E2BIG, "a machine has room for %d things to boot from", MACHINE_MAX_BOOT);
    m->boot[m->nboot].what = what;
    strcpy(m->boot[m->nboot++].path, path);
    return 0;
}

int machine_add_pci_boot(struct machine *m, enum machine_boot what, const struct pci_function *f, const char *format,
                         struct error *err)
{
    char at[16], path[MACHINE_BOOT_PATH];
    const u32 slot = f->devfn >> 3, function = f->devfn & 7;

    snprintf(at, sizeof at, function ? "%x,%x" : "%x", slot, function);
    const char *mark = strchr(format, '@');
    snprintf(path, sizeof path, "/pci@i0cf8/%.*s@%s%s", (int)(mark - format), format, at, mark + 1);
    return machine_add_boot(m, what, path, err);
}

int machine_add_net_boot(struct machine *m, struct pci_function *f, const char *file, struct error *err)
{
    struct pci_bar bar = { .size = 4096, .name = "option-rom" };
    struct memory_piece *piece;
    bool wanted = false;
    u32 size;
    int rc;

    for (u32 i = 0; i < m->c.boot.n; i++)
        wanted |= m->c.boot.what[i] == MACHINE_BOOT_NET;
    if (!m->c.firmware || !wanted)
        return 0;
    u8 *rom = firmware_rom(file, &size);
    if (!rom)
        return error_set(err, ENOENT, "booting from the network needs the option ROM %s; on Debian: apt-get install ipxe-qemu", file);
    while (bar.size < size)
        bar.size *= 2;
    if (!(rc = memory_piece(m->memory, &piece, "option-rom", bar.size, true, err))) {
        memcpy(piece->host, rom, size);
        bar.memory = piece;
        pci_bar_init(f, PCI_ROM, &bar);
        rc = machine_add_pci_boot(m, MACHINE_BOOT_NET, f, "ethernet@/ethernet-phy@0", err);
    }
    free(rom);
    return rc;
}

int firmware_describe(struct machine *m, struct error *err)
{
    const u16 com1 = 0x3f8;
    const u8 one = 1;
    int rc;

    if ((rc = fw_cfg_add_int(&m->fw_cfg, FW_CFG_NOGRAPHIC, m->c.boot_console, 2)) ||
        (m->c.boot_console && (rc = fw_cfg_add_file(&m->fw_cfg, "etc/sercon-port", &com1, sizeof com1)) < 0))
        return error_set(err, -rc, "the firmware's configuration finds no room: %s", strerror(-rc));
    m->fw_cfg.selected = selected;
    m->fw_cfg.ctx = m;
    if ((rc = acpi_files(m, err)))
        return rc;
    if ((rc = e820_file(m)) < 0 || (rc = smbios_files(m)) < 0 || (rc = boot_files(m)) < 0 ||
        (rc = fw_cfg_add_file(&m->fw_cfg, "etc/irq0-override", &one, 1)) < 0) /* IRQ 0 is input 2 of the I/O APIC */
        return error_set(err, -rc, "the firmware's configuration finds no room: %s", strerror(-rc));
    return 0;
}

/* ---- the debug port ------------------------------------------------------------------------------------------------ */

static u64 debug_read(void *p, u64 offset, unsigned size)
{
    return DEBUG_READBACK; /* what firmware looks for before it writes there */
}

static void debug_write(void *p, u64 offset, unsigned size, u64 value)
{
    struct machine *m = p;
    m->trace.firmware(m->trace.ctx, (u8)value);
}

static const struct bus_ops debug_ops = { debug_read, debug_write, 1, 1 };

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static int store(void *p, u32 offset, const void *data, u32 len)
{
    const struct firmware *f = p;
    int rc = firmware_vars_write(f, offset, data, len);
    if (rc)
        log_guest("UEFI variables cannot be written to %s: %s", f->vars_path, strerror(-rc));
    return rc;
}

/* Below 4 GiB: variables, and behind them the code. */
int firmware_build(struct machine *m, struct error *err)
{
    struct firmware *f = m->c.firmware;
    const u64 code = GiB(4) - f->code_size, vars = code - f->vars_size;
    struct bus_range r = { vars, f->vars_size, &pflash_ops, &m->flash, NULL, "flash" };
    int rc = 0;

    if (m->trace.firmware && (rc = machine_ports(m, DEBUG_PORT, 1, &debug_ops, m, "debug")))
        return rc;
    if ((rc = memory_piece(m->memory, &m->bios, "bios", f->code_size, true, err)) ||
        (rc = memory_map(m->memory, code, f->code_size, m->bios, 0, true)))
        return rc;
    memcpy(m->bios->host, f->code, f->code_size);
    if (!f->vars)
        return 0;
    if ((rc = pflash_init(&m->flash, m->memory, vars, f->vars, f->vars_size, store, f, err)) || (rc = bus_add(m->mmio, &r)))
        return rc;
    return state_add(m->state, &pflash_state, 0, &m->flash);
}

void firmware_destroy(struct machine *m)
{
    if (m->flash.piece)
        pflash_destroy(&m->flash);
}

void firmware_reset(struct machine *m)
{
    if (m->flash.piece)
        pflash_reset(&m->flash);
    for (u32 i = 0; i < m->cpus; i++) {
        cpu_reset(&m->cpu[i], i == 0);
        m->cpu[i].gpr[RDX] = machine_signature(m);
    }
}

void firmware_after_load(struct machine *m)
{
    if (m->flash.piece)
        (void)!store(m->c.firmware, 0, m->flash.piece->host, m->flash.size);
}

bool firmware_wants_init(struct machine *m)
{
    return m->c.firmware && mc146818_get(&m->rtc, CMOS_SHUTDOWN);
}
