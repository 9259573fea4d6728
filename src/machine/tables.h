/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.h - what firmware would leave in memory below 1 MiB: ACPI tables, the MP table, the BIOS data area.
 * Written anew at every reset.
 */
#ifndef LODGE_MACHINE_TABLES_H
#define LODGE_MACHINE_TABLES_H

#include "base/base.h"
#include "base/error.h"
#include "memory/memory.h"

enum { ACPI_BASE = 0xe0000, ACPI_LIMIT = 0xf0000, MP_BASE = 0xf0000, MP_LIMIT = 0x100000, EBDA_BASE = 0x9fc00 };

/* What of the board is not the same each time. */
struct acpi_config {
    u32 cpus;
    bool reduced;            /* hardware-reduced ACPI, the board "micro": no fixed hardware, no 8259As */
    u64 ecam;                /* of the board "pc", as are the window's: MCFG */
    u64 mmio64, mmio64_size; /* window above RAM; size 0: none */
    u32 virtio_mmio;         /* devices, of MICRO_VIRTIO_SIZE each from MICRO_VIRTIO_BASE on, GSIs from MICRO_VIRTIO_GSI on */
};

/* ACPI 6.5 ch. 5: RSDP, XSDT, FADT, FACS, MADT, MCFG, DSDT and SSDT. *rsdp: where the root pointer is. */
int must_check acpi_write_tables(struct memory *m, const struct acpi_config *c, u64 *rsdp, struct error *err);
/* The SSDT's body: processors and virtio-mmio devices, in AML. Returns its length, at most cap; 0: there are none. */
u32 acpi_ssdt(u8 *to, u32 cap, const struct acpi_config *c);
/* MultiProcessor Specification 1.4 ch. 4, for systems without ACPI. */
int must_check mp_write_table(struct memory *m, u32 cpus, struct error *err);
/* What a jump to the BIOS's entry, FFFF:0, finds: code that resets the machine by this port. */
int must_check entry_write(struct memory *m, u16 port, u8 value, struct error *err);
/* BIOS data area: addresses of the first nserial COM ports, memory size, where the EBDA is. */
int must_check bda_write(struct memory *m, u32 nserial, struct error *err);

#endif
