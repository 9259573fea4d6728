/* SPDX-License-Identifier: Apache-2.0 */
/*
 * board.h - what one board has and another has not, as operations: machine.c, reset.c and isa.c ask a board and do not know
 * which it is. Inside machine/ only.
 */
#ifndef LODGE_MACHINE_BOARD_H
#define LODGE_MACHINE_BOARD_H

#include "base/base.h"
#include "base/error.h"

struct machine;
struct acpi_config;
struct virtio_device;

struct board {
    u32 serial_ports;
    bool screen;      /* it can have a graphics adapter, and with it keyboard and mouse */
    bool legacy_irqs; /* 8259As and an 8254, which a BIOS sets up */
    u64 reserved;     /* a MiB of the address space that is no memory, for the map that a kernel gets; 0: none */
    u16 reset_port;   /* what is written where for a reset */
    u8 reset_value;

    void (*begin)(struct machine *m);                        /* before its interrupt controllers; or NULL */
    int (*build)(struct machine *m, struct error *err);      /* chips, ports, lines; -errno, err may be left empty */
    void (*reset)(struct machine *m);                        /* or NULL, as all that follow */
    void (*settle)(struct machine *m);                       /* nothing is under way afterwards */
    void (*after_load)(struct machine *m);
    int (*plug_virtio)(struct machine *m, struct virtio_device *d, u32 n, struct error *err); /* makes m->virtio[n]; never NULL */
    void (*describe)(const struct machine *m, struct acpi_config *c);
    int (*tables)(struct machine *m, struct error *err);     /* beside ACPI's, for a kernel without firmware */
    bool (*power_button)(struct machine *m);
    bool (*nmi)(struct machine *m);                          /* NULL: a pulse at LINT1 */
};

extern const struct board board_pc, board_micro;

#endif
