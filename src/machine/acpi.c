/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.c - the ACPI tables of both boards.  Offsets: ACPI specification 6.5, ch. 5.2 (tables) and 4.8 (fixed hardware,
 * which is devices/acpi_pm; sleep registers of hardware-reduced ACPI); PCI Firmware Specification 3.0, 4.1.2 (MCFG).  The
 * DSDTs are dsdt.asl and micro.asl, compiled while building; ssdt.c has the rest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/acpi_pm.h"
#include "devices/hpet.h"
#include "irq/ioapic.h"
#include "irq/lapic.h"
#include "machine/micro.h"
#include "machine/tables.h"

#include "dsdt.hex"  /* dsdt_aml_code, by iasl */
#include "micro.hex" /* micro_aml_code */

enum { HEADER = 36, RSDP_SIZE = ACPI_RSDP_SIZE, FADT_SIZE = 268, FACS_SIZE = 64, MCFG_SIZE = 60, HPET_TABLE_SIZE = 56, GAS_IO = 1 };

struct table {
    u8 *data; /* in the blob */
    u32 len;
};

/* Begins a table at the next free place. The blob is all zeroes from there on. */
static struct table header(struct acpi_tables *b, const char *signature, u8 revision, u32 len)
{
    struct table t = { b->data + b->len, len };
    memcpy(t.data, signature, 4);
    t.data[8] = revision;
    memcpy(t.data + 10, "LODGE LODGEPC ", 14);
    put(t.data + 24, 1, 4);
    memcpy(t.data + 28, "LODG", 4);
    put(t.data + 32, 1, 4);
    return t;
}

/* The table is complete but for its checksum. Where it is in the blob. */
static u32 emit(struct acpi_tables *b, const struct table *t)
{
    const u32 at = b->len;
    put(t->data + 4, t->len, 4);
    t->data[9] = 0;
    b->sum[b->nsums++] = (struct acpi_sum){ at, t->len, at + 9 };
    b->len = (u32)align_up(at + t->len, 64);
    return at;
}

/* At p, in the blob, stands the address of what is at offset target of it. */
static void pointer(struct acpi_tables *b, u8 *p, u32 target, u8 size)
{
    b->pointer[b->npointers++] = (struct acpi_pointer){ (u32)(p - b->data), target, size };
    put(p, target, size);
}

/* Generic address structure: an I/O port of so many bytes. */
static void gas(u8 *p, u64 port, unsigned bytes)
{
    p[0] = GAS_IO;
    p[1] = (u8)(bytes * 8);
    p[3] = bytes <= 4 ? (u8)(bytes == 4 ? 3 : bytes) : 0; /* access size */
    put(p + 4, port, 8);
}

static u32 build_fadt(struct acpi_tables *b, const struct acpi_config *c, u32 facs, u32 dsdt)
{
    enum { LEGACY_DEVICES = 1 << 0, I8042 = 1 << 1, NO_VGA = 1 << 2 };
    enum { WBINVD = 1 << 0, PROC_C1 = 1 << 2, SLP_BUTTON = 1 << 5, TMR_VAL_EXT = 1 << 8, RESET_REG_SUP = 1 << 10 };
    struct table t = header(b, "FACP", 5, FADT_SIZE);
    const u32 pm = c->pm_base ? c->pm_base : ACPI_PM_BASE;
    u8 *p = t.data;

    pointer(b, p + 36, facs, 4);
    pointer(b, p + 40, dsdt, 4);
    p[45] = 1; /* desktop */
    put(p + 46, ACPI_SCI_IRQ, 2);
    put(p + 48, ACPI_SMI_CMD, 4);
    p[52] = ACPI_ENABLE, p[53] = ACPI_DISABLE;
    put(p + 56, pm + ACPI_PM1A_EVT, 4);
    put(p + 64, pm + ACPI_PM1A_CNT, 4);
    put(p + 76, pm + ACPI_PM_TMR, 4);
    put(p + 80, pm + ACPI_GPE0, 4);
    p[88] = 4, p[89] = 2, p[91] = 4, p[92] = ACPI_GPE0_LEN;
    put(p + 96, 0xfff, 2), put(p + 98, 0xfff, 2); /* no C2, no C3 */
    p[108] = 0x32; /* century in CMOS */
    put(p + 109, LEGACY_DEVICES | I8042 | (c->vga ? 0 : NO_VGA), 2);
    put(p + 112, WBINVD | PROC_C1 | SLP_BUTTON | TMR_VAL_EXT | RESET_REG_SUP, 4); /* the power button is a fixed one */
    gas(p + 116, ACPI_RESET_PORT, 1);
    p[128] = ACPI_RESET_VALUE;
    pointer(b, p + 140, dsdt, 8); /* X_FIRMWARE_CTRL stays 0: only one of the two may be set */
    gas(p + 148, pm + ACPI_PM1A_EVT, 4);
    gas(p + 172, pm + ACPI_PM1A_CNT, 2);
    gas(p + 208, pm + ACPI_PM_TMR, 4);
    gas(p + 220, pm + ACPI_GPE0, ACPI_GPE0_LEN);
    return emit(b, &t);
}

static u32 build_reduced_fadt(struct acpi_tables *b, u32 dsdt)
{
    enum { NO_VGA = 1 << 2, NO_CMOS_RTC = 1 << 5 };
    enum { WBINVD = 1 << 0, PROC_C1 = 1 << 2, PWR_BUTTON = 1 << 4, SLP_BUTTON = 1 << 5, RESET_REG_SUP = 1 << 10,
           HW_REDUCED_ACPI = 1 << 20 };
    struct table t = header(b, "FACP", 5, FADT_SIZE);
    u8 *p = t.data;

    pointer(b, p + 40, dsdt, 4);
    put(p + 109, NO_VGA | NO_CMOS_RTC, 2);
    put(p + 112, WBINVD | PROC_C1 | PWR_BUTTON | SLP_BUTTON | RESET_REG_SUP | HW_REDUCED_ACPI, 4);
    gas(p + 116, MICRO_RESET, 1);
    p[128] = MICRO_RESET_VALUE;
    pointer(b, p + 140, dsdt, 8);
    gas(p + 244, MICRO_SLEEP_CONTROL, 1);
    gas(p + 256, MICRO_SLEEP_STATUS, 1);
    return emit(b, &t);
}

static u32 build_madt(struct acpi_tables *b, const struct acpi_config *c)
{
    struct table t = header(b, "APIC", 3, HEADER + 8);
    put(t.data + 36, LAPIC_DEFAULT_BASE, 4);
    put(t.data + 40, !c->reduced, 4); /* PCAT_COMPAT: there are 8259s, mask them */
    u8 *p = t.data + t.len;

    for (u32 i = 0; i < c->cpus; i++, p += 8) { /* local APIC: UID, id, enabled */
        p[0] = 0, p[1] = 8, p[2] = (u8)i, p[3] = (u8)i;
        put(p + 4, 1, 4);
    }
    p[0] = 1, p[1] = 12; /* I/O APIC 0, interrupts from 0 */
    put(p + 4, IOAPIC_DEFAULT_BASE, 4);
    p += 12;
    if (!c->reduced) {
        p[0] = 2, p[1] = 10; /* IRQ 0 is input 2; as ISA does: edge, high */
        put(p + 4, 2, 4);
        p += 10;
        p[0] = 2, p[1] = 10, p[3] = ACPI_SCI_IRQ; /* SCI: level, active high */
        put(p + 4, ACPI_SCI_IRQ, 4), put(p + 8, 0xd, 2);
        p += 10;
    }
    p[0] = 4, p[1] = 6, p[2] = 0xff, p[5] = 1; /* LINT1 of all is NMI */
    p += 6;
    t.len = (u32)(p - t.data);
    return emit(b, &t);
}

static u32 build_mcfg(struct acpi_tables *b, u64 ecam)
{
    struct table t = header(b, "MCFG", 1, MCFG_SIZE);
    put(t.data + 44, ecam, 8);
    /* Bus 0 to bus 0. Linux looks for devices on each bus there may be: 8,192 reads, were it 256. */
    return emit(b, &t);
}

/* IA-PC HPET 1.0a, 3.2.4 */
static u32 build_hpet(struct acpi_tables *b, u32 id)
{
    struct table t = header(b, "HPET", 1, HPET_TABLE_SIZE);
    put(t.data + 36, id, 4);
    t.data[41] = 64; /* in memory */
    put(t.data + 44, HPET_BASE, 8);
    put(t.data + 53, HPET_MIN_INTERVAL_NS / HPET_TICK_NS, 2);
    return emit(b, &t);
}

/* Fills in Name (WHAT, 0x11223344). */
static int patch(struct table *t, const char *what, u64 v, struct error *err)
{
    u8 op[10] = { 0x08, 0, 0, 0, 0, 0x0c, 0x44, 0x33, 0x22, 0x11 }, *at;

    memcpy(op + 1, what, 4);
    if (!(at = memmem(t->data, t->len, op, sizeof op)))
        return error_set(err, EINVAL, "the built-in DSDT has no %s: Lodge was built wrongly", what);
    put(at + 6, v, 4);
    return 0;
}

static int build_dsdt(struct acpi_tables *b, const struct acpi_config *c, u32 *at, struct error *err)
{
    struct table t = { b->data + b->len, c->reduced ? sizeof micro_aml_code : sizeof dsdt_aml_code };
    int rc;

    _Static_assert(sizeof dsdt_aml_code + sizeof micro_aml_code < ACPI_TABLES_MAX - 16384, "a larger blob");
    memcpy(t.data, c->reduced ? micro_aml_code : dsdt_aml_code, t.len);
    if (!c->reduced && ((rc = patch(&t, "W32B", c->mmio32, err)) || (rc = patch(&t, "ISAD", c->isa, err)) ||
                        (rc = patch(&t, "W64B", c->mmio64 >> 30, err)) ||
                        (rc = patch(&t, "W64S", c->mmio64_size >> 30, err))))
        return rc;
    *at = emit(b, &t);
    return 0;
}

/* The root table, of 8 or 4 bytes an entry: systems of ACPI 1.0's time, and small test programs, read only the latter. */
static u32 build_root(struct acpi_tables *b, const u32 *tables, u32 n, u8 entry)
{
    struct table t = header(b, entry == 8 ? "XSDT" : "RSDT", 1, HEADER + n * entry);
    for (u32 i = 0; i < n; i++)
        pointer(b, t.data + HEADER + i * entry, tables[i], entry);
    return emit(b, &t);
}

int acpi_build(struct acpi_tables *b, const struct acpi_config *c, struct error *err)
{
    u32 facs = 0, dsdt, tables[5], n = 0;
    int rc;

    memset(b, 0, sizeof *b);
    if (!c->reduced) {
        memcpy(b->data, "FACS", 4);
        put(b->data + 4, FACS_SIZE, 4);
        b->data[32] = 2; /* version */
        b->len = FACS_SIZE;
    }
    if ((rc = build_dsdt(b, c, &dsdt, err)))
        return rc;
    tables[n++] = c->reduced ? build_reduced_fadt(b, dsdt) : build_fadt(b, c, facs, dsdt);
    tables[n++] = build_madt(b, c);
    struct table t = header(b, "SSDT", 2, HEADER);
    t.len += acpi_ssdt(t.data + HEADER, 8192, c);
    if (t.len > HEADER)
        tables[n++] = emit(b, &t);
    else
        memset(t.data, 0, HEADER);
    if (c->ecam)
        tables[n++] = build_mcfg(b, c->ecam);
    if (c->hpet)
        tables[n++] = build_hpet(b, c->hpet);
    b->xsdt = build_root(b, tables, n, 8);
    b->rsdt = build_root(b, tables, n, 4);
    return 0;
}

void acpi_rsdp(u8 r[ACPI_RSDP_SIZE], u32 rsdt, u64 xsdt)
{
    memset(r, 0, RSDP_SIZE);
    memcpy(r, "RSD PTR ", 8);
    memcpy(r + 9, "LODGE ", 6);
    r[15] = 2;
    put(r + 16, rsdt, 4);
    put(r + 20, RSDP_SIZE, 4);
    put(r + 24, xsdt, 8);
    r[8] = checksum(r, 20);
    r[32] = checksum(r, RSDP_SIZE);
}

int acpi_write_tables(struct memory *m, const struct acpi_config *c, u64 *rsdp, struct error *err)
{
    const u64 base = ACPI_BASE + 64;
    struct acpi_tables *b = malloc(sizeof *b);
    u8 r[RSDP_SIZE];

    if (!b)
        return error_set(err, ENOMEM, "out of memory");
    int rc = acpi_build(b, c, err);
    for (u32 i = 0; i < b->npointers && !rc; i++)
        put(b->data + b->pointer[i].at, base + b->pointer[i].target, b->pointer[i].size);
    for (u32 i = 0; i < b->nsums && !rc; i++)
        b->data[b->sum[i].at] = checksum(b->data + b->sum[i].start, b->sum[i].len);
    if (!rc) {
        acpi_rsdp(r, (u32)base + b->rsdt, base + b->xsdt);
        *rsdp = ACPI_BASE;
        if (base + b->len > ACPI_LIMIT || memory_load(m, base, b->data, b->len) || memory_load(m, ACPI_BASE, r, sizeof r))
            rc = error_set(err, E2BIG, "the guest's memory has no room for ACPI tables");
    }
    free(b);
    return rc;
}
