/* SPDX-License-Identifier: Apache-2.0 */
/* ahci_private.h - between ahci.c (registers, life) and ahci_port.c (commands). The HBA's lock is held. */
#ifndef LODGE_DEVICES_AHCI_PRIVATE_H
#define LODGE_DEVICES_AHCI_PRIVATE_H

#include "devices/ahci.h"

enum { /* PxIS, PxIE */
    IS_DHRS = 1 << 0, IS_PSS = 1 << 1, IS_SDBS = 1 << 3, IS_OFS = 1 << 24, IS_HBFS = 1 << 29, IS_TFES = 1 << 30,
    IS_WRITABLE = 0x7dc000bf, /* RW1C; the others follow from registers that stay 0 */
};
enum { /* PxCMD */
    CMD_ST = 1 << 0, CMD_SUD = 1 << 1, CMD_POD = 1 << 2, CMD_CLO = 1 << 3, CMD_FRE = 1 << 4, CMD_FR = 1 << 14, CMD_CR = 1 << 15,
    CMD_ATAPI = 1 << 24, CMD_DLAE = 1 << 25,
};
enum { SSTS_UP = 0x123, TFD_NONE = 0x7f }; /* active, 3 Gbit/s, established; before any frame */

extern const struct ata_host_ops ahci_port_ops;

void ahci_raise(struct ahci_port *p, u32 bits);
void ahci_port_run(struct ahci_port *p);   /* carries out what CI says, as far as it can be now */
void ahci_port_start(struct ahci_port *p); /* PxCMD.ST was set, */
void ahci_port_stop(struct ahci_port *p);  /* cleared */
void ahci_port_receive(struct ahci_port *p); /* PxCMD.FRE was set, or a signature has come */
void ahci_port_comreset(struct ahci_port *p);

#endif
