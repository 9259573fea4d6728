/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mp.c - the MP configuration table (MultiProcessor Specification 1.4 ch. 4), and the few words of the BIOS data
 * area that kernels read; and what is at the BIOS's entry: Linux reboots a machine of hardware-reduced ACPI without EFI
 * by jumping there.
 */
#include <errno.h>
#include <string.h>

#include "devices/acpi_pm.h"
#include "irq/ioapic.h"
#include "irq/lapic.h"
#include "machine/tables.h"
#include "pci/pci.h"

enum { FLOATING_SIZE = 16, HEADER_SIZE = 44, INT = 0, NMI = 1, EXTINT = 3, ALL_APICS = 0xff };
enum { PCI_BUS, ISA_BUS }; /* a PCI bus has its number */
enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IOINT, ENTRY_LINT };

static u8 *interrupt(u8 *p, u8 entry, u8 type, u16 flags, u8 bus, u8 irq, u8 apic, u8 pin)
{
    p[0] = entry, p[1] = type;
    put(p + 2, flags, 2);
    p[4] = bus, p[5] = irq;
    p[6] = apic, p[7] = pin;
    return p + 8;
}

int mp_write_table(struct memory *m, u32 cpus, struct error *err)
{
    u8 table[FLOATING_SIZE + HEADER_SIZE + 64 * 20 + 2048] = { 0 }, *h = table + FLOATING_SIZE, *p = h + HEADER_SIZE;
    u16 entries = 0;

    if (cpus > 64)
        return error_set(err, EINVAL, "the MP table has room for 64 processors");
    for (u32 i = 0; i < cpus; i++, p += 20, entries++) {
        p[0] = ENTRY_CPU, p[1] = (u8)i, p[2] = 0x14;
        p[3] = (u8)(1 | (i == 0) << 1); /* enabled, boot processor */
        put(p + 4, 0x600, 4);
        put(p + 8, 0x201, 4); /* FPU, APIC */
    }
    p[0] = ENTRY_BUS, p[1] = PCI_BUS, memcpy(p + 2, "PCI   ", 6), p += 8, entries++;
    p[0] = ENTRY_BUS, p[1] = ISA_BUS, memcpy(p + 2, "ISA   ", 6), p += 8, entries++;
    p[0] = ENTRY_IOAPIC, p[1] = 0, p[2] = 0x11, p[3] = 1;
    put(p + 4, IOAPIC_DEFAULT_BASE, 4), p += 8, entries++;
    for (u8 irq = 0; irq < 16; irq++) {
        if (irq == 2)
            continue; /* the cascade */
        u16 flags = irq == ACPI_SCI_IRQ ? 0xd : 0; /* level, active high; others as the bus does */
        p = interrupt(p, ENTRY_IOINT, INT, flags, ISA_BUS, irq, 0, irq == 0 ? 2 : irq), entries++;
    }
    for (u8 source = 1 << 2; source < PCI_SLOTS << 2; source++, entries++) /* slot << 2 | pin; level, active low */
        p = interrupt(p, ENTRY_IOINT, INT, 0xf, PCI_BUS, source, 0, 16 + ((source >> 2) + (source & 3)) % PCI_INTX_LINES);
    p = interrupt(p, ENTRY_LINT, EXTINT, 0, ISA_BUS, 0, ALL_APICS, 0), entries++;
    p = interrupt(p, ENTRY_LINT, NMI, 0, ISA_BUS, 0, ALL_APICS, 1), entries++;

    u32 len = (u32)(p - h);
    memcpy(h, "PCMP", 4);
    put(h + 4, len, 2);
    h[6] = 4;
    memcpy(h + 8, "LODGE   PC          ", 20);
    put(h + 34, entries, 2);
    put(h + 36, LAPIC_DEFAULT_BASE, 4);
    h[7] = checksum(h, len);

    memcpy(table, "_MP_", 4);
    put(table + 4, MP_BASE + FLOATING_SIZE, 4);
    table[8] = 1, table[9] = 4; /* length in 16 bytes, specification 1.4 */
    table[10] = checksum(table, FLOATING_SIZE);
    return memory_load(m, MP_BASE, table, FLOATING_SIZE + len)
               ? error_set(err, E2BIG, "the guest's memory has no room for the MP table")
               : 0;
}

int bda_write(struct memory *m, u32 nserial, struct error *err)
{
    static const u16 com[4] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
    u8 bda[256] = { 0 };

    nserial = MIN(nserial, 4);
    memcpy(bda, com, nserial * sizeof com[0]);
    put(bda + 0x0e, EBDA_BASE >> 4, 2);
    put(bda + 0x10, nserial << 9, 2); /* equipment: serial ports */
    put(bda + 0x13, EBDA_BASE >> 10, 2);
    return memory_load(m, 0x400, bda, sizeof bda) ? error_set(err, ENOMEM, "the guest has no memory at address 0") : 0;
}

int entry_write(struct memory *m, u16 port, u8 value, struct error *err)
{
    u8 code[] = { 0xba, (u8)port, (u8)(port >> 8), 0xb0, value, 0xee, 0xf4, 0xeb, 0xfd }; /* mov dx; mov al; out; hlt; jmp */
    return memory_load(m, 0xffff0, code, sizeof code) ? error_set(err, ENOMEM, "the guest has no memory below 1 MiB") : 0;
}
