/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.h - what firmware would leave in memory below 1 MiB: ACPI tables, the MP table, the BIOS data area.
 * Written anew at every reset.
 */
#ifndef LODGE_MACHINE_TABLES_H
#define LODGE_MACHINE_TABLES_H

#include <string.h>

#include "base/base.h"
#include "base/error.h"
#include "memory/memory.h"

enum { ACPI_BASE = 0xe0000, ACPI_LIMIT = 0xf0000, MP_BASE = 0xf0000, MP_LIMIT = 0x100000, EBDA_BASE = 0x9fc00 };

static inline void put(u8 *p, u64 v, unsigned n) /* little-endian, as the host is */
{
    memcpy(p, &v, n);
}

/* The byte that makes the sum of all of them zero. */
static inline u8 checksum(const u8 *p, u32 len)
{
    u8 sum = 0;
    for (u32 i = 0; i < len; i++)
        sum = (u8)(sum + p[i]);
    return (u8)-sum;
}

/* The parts of the ACPI tables that differ from machine to machine. */
struct acpi_config {
    u32 cpus;
    bool reduced;            /* hardware-reduced ACPI, the board "micro": no fixed hardware, no 8259As */
    u32 pm_base;             /* of the fixed hardware; 0: ACPI_PM_BASE */
    u64 ecam;                /* of the board "pc", as are the window's: MCFG */
    u64 mmio32;              /* where the window below 4 GiB begins: above RAM */
    u64 mmio64, mmio64_size; /* window above RAM, whole GiB; size 0: none */
    u32 isa;                 /* devices that are not always there: bit 0 floppy drives, bit 1 the printer */
    bool vga;                /* a graphics adapter: systems may look for it where VGA always was */
    u32 hpet;                /* its GCAP_ID, bits 31-0; 0: none */
    u32 ndevices;            /* plugged in; whose class has AML is described */
    struct device *const *device;
    u32 virtio_mmio;         /* devices, of MICRO_VIRTIO_SIZE each from MICRO_VIRTIO_BASE on, GSIs from MICRO_VIRTIO_GSI on */
};

/* All tables but the RSDP, one after the other, before they have an address: pointers are offsets, and sums missing. */
enum { ACPI_TABLES_MAX = 65536, ACPI_RSDP_SIZE = 36 };
struct acpi_tables {
    u32 len, npointers, nsums;
    struct acpi_pointer { u32 at, target; u8 size; } pointer[24]; /* at: where it is, target: where it points */
    struct acpi_sum { u32 start, len, at; } sum[12];              /* at: the byte that makes the others' sum zero */
    u32 rsdt, xsdt;
    u8 data[ACPI_TABLES_MAX];
};
int must_check acpi_build(struct acpi_tables *b, const struct acpi_config *c, struct error *err);
void acpi_rsdp(u8 r[ACPI_RSDP_SIZE], u32 rsdt, u64 xsdt);

/* ACPI 6.5 ch. 5: RSDP, XSDT, FADT, FACS, MADT, MCFG, DSDT and SSDT. *rsdp: where the root pointer is. */
int must_check acpi_write_tables(struct memory *m, const struct acpi_config *c, u64 *rsdp, struct error *err);
/* The SSDT's body: processors, virtio-mmio devices and what is plugged in, in AML. Returns its length, at most cap; 0: there are none. */
u32 acpi_ssdt(u8 *to, u32 cap, const struct acpi_config *c);
/* MultiProcessor Specification 1.4 ch. 4, for systems without ACPI. */
int must_check mp_write_table(struct memory *m, u32 cpus, struct error *err);
/* SMBIOS 2.8 (DMTF DSP0134): the structures, and the entry point of 2.1 that leads to them. */
enum { SMBIOS_BASE = 0xf8000, SMBIOS_ANCHOR_SIZE = 31, SMBIOS_MAX = 16384 };
struct smbios_config {
    u32 cpus, cpu_signature, cpu_features; /* CPUID 1: EAX, EDX */
    u32 mhz;
    u64 low_ram, high_ram; /* bytes, below and above 4 GiB */
};
struct smbios {
    u16 len, count, largest;
    u8 data[SMBIOS_MAX];
};
void smbios_build(struct smbios *s, const struct smbios_config *c);
void smbios_anchor(u8 a[SMBIOS_ANCHOR_SIZE], const struct smbios *s, u32 address);
/* At SMBIOS_BASE, for a direct kernel boot. */
int must_check smbios_write(struct memory *m, const struct smbios_config *c, struct error *err);
/* Writes code to the BIOS's entry, FFFF:0, that resets the machine by this port. */
int must_check entry_write(struct memory *m, u16 port, u8 value, struct error *err);
/* BIOS data area: addresses of the first nserial COM ports, memory size, where the EBDA is. */
int must_check bda_write(struct memory *m, u32 nserial, struct error *err);

#endif
