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

/* ACPI 6.5 ch. 5: RSDP, XSDT, FADT, FACS, MADT, DSDT for that many processors. *rsdp: where the root pointer is. */
int must_check acpi_write_tables(struct memory *m, u32 cpus, u64 *rsdp, struct error *err);
/* MultiProcessor Specification 1.4 ch. 4, for systems without ACPI. */
int must_check mp_write_table(struct memory *m, u32 cpus, struct error *err);
/* BIOS data area: COM port addresses, memory size, where the EBDA is. */
int must_check bda_write(struct memory *m, struct error *err);

#endif
