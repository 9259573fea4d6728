/* SPDX-License-Identifier: Apache-2.0 */
/*
 * e1000_nvm.c - the 82540EM's EEPROM, by its microwire lines in EECD and by EERD (5.2 to 5.6), and the PHY behind MDIC: an
 * M88E1011 that has found a partner of 1000 Mbit/s, full duplex, if the cable leads anywhere.
 *
 * Words that a driver writes to the EEPROM stay until the machine is switched off.
 */
#include <string.h>

#include "devices/e1000_internal.h"

/* ---- EEPROM ----------------------------------------------------------------- */

enum { EECD_SK = 1, EECD_CS = 2, EECD_DI = 4, EECD_DO = 8, EECD_REQ = 1 << 6, EECD_GNT = 1 << 7, EECD_PRES = 1 << 8,
       EECD_WRITABLE = 0x77 };
enum { EERD_START = 1, EERD_DONE = 1 << 4 };
enum { OP_SPECIAL, OP_WRITE, OP_READ, OP_ERASE, SPECIAL_EWDS = 0, SPECIAL_EWEN = 3 };
enum { OPCODE_BITS = 9, WRITE_BITS = 25 }; /* start, 2 of the opcode, 6 of the address; and 16 of data */
enum { EEPROM_SUM = 0xbaba };

void e1000_eeprom_init(struct e1000 *e)
{
    u16 sum = 0;

    memset(e->eeprom, 0, sizeof(e->eeprom));
    for (u32 i = 0; i < 3; i++)
        e->eeprom[i] = (u16)(e->mac[2 * i] | e->mac[2 * i + 1] << 8);
    e->eeprom[0x03] = 0x0420;                           /* compatibility: LOM off, as cards have it */
    e->eeprom[0x08] = e->eeprom[0x09] = 0xffff;         /* PBA number: none */
    e->eeprom[0x0a] = 0x640b;                           /* initialization control 1: subsystem and device IDs are here */
    e->eeprom[0x0b] = 0x001e, e->eeprom[0x0c] = 0x8086; /* subsystem */
    e->eeprom[0x0d] = 0x100e, e->eeprom[0x0e] = 0x8086; /* device */
    e->eeprom[0x0f] = 0x3040;                           /* initialization control 2 */
    for (u32 i = 0; i < 0x3f; i++)
        sum = (u16)(sum + e->eeprom[i]);
    e->eeprom[0x3f] = (u16)(EEPROM_SUM - sum);
}

/* One bit has come in. */
static void wire_in(struct e1000 *e)
{
    u32 op, at;

    if (e->wire.nin == OPCODE_BITS) {
        op = e->wire.in >> 6 & 3;
        at = e->wire.in & 63;
        if (op == OP_READ) { /* a zero comes before the data */
            e->wire.out = e->eeprom[at];
            e->wire.nout = 16;
            e->wire.line = false;
        } else if (op == OP_ERASE && e->wire.writable) {
            e->eeprom[at] = 0xffff;
        } else if (op == OP_SPECIAL && at >> 4 == SPECIAL_EWEN) {
            e->wire.writable = true;
        } else if (op == OP_SPECIAL && at >> 4 == SPECIAL_EWDS) {
            e->wire.writable = false;
        }
    } else if (e->wire.nin == WRITE_BITS && (e->wire.in >> 22 & 3) == OP_WRITE && e->wire.writable) {
        e->eeprom[e->wire.in >> 16 & 63] = (u16)e->wire.in;
    }
}

static void wire_clock(struct e1000 *e, bool di)
{
    bool reading = e->wire.nin == OPCODE_BITS && (e->wire.in >> 6 & 3) == OP_READ;

    if (reading) {
        if (!e->wire.nout) { /* whoever goes on reads the next word */
            e->wire.in = (e->wire.in & ~63u) | ((e->wire.in + 1) & 63);
            e->wire.out = e->eeprom[e->wire.in & 63];
            e->wire.nout = 16;
        }
        e->wire.line = e->wire.out >> --e->wire.nout & 1;
    } else if ((e->wire.nin || di) && e->wire.nin < WRITE_BITS) { /* it begins with a one */
        e->wire.in = e->wire.in << 1 | di;
        e->wire.nin++;
        wire_in(e);
    }
}

void e1000_eeprom_write(struct e1000 *e, u32 value)
{
    u32 old = REG(EECD);

    REG(EECD) = value & EECD_WRITABLE;
    if (!(value & EECD_CS)) {
        e->wire.in = e->wire.nin = e->wire.nout = 0;
        e->wire.line = true; /* ready: nothing takes time here */
    } else if ((value & EECD_SK) && !(old & EECD_SK)) {
        wire_clock(e, value & EECD_DI);
    }
}

u32 e1000_eeprom_lines(const struct e1000 *e)
{
    u32 v = e->reg[EECD / 4];

    return v | EECD_PRES | (v & EECD_REQ ? EECD_GNT : 0) | (e->wire.line ? EECD_DO : 0);
}

void e1000_eeprom_read(struct e1000 *e, u32 value)
{
    u32 at = value >> 8 & 0xff;

    REG(EERD) = at << 8;
    if (value & EERD_START)
        REG(EERD) |= EERD_DONE | (u32)(at < ARRAY_SIZE(e->eeprom) ? e->eeprom[at] : 0) << 16;
}

/* ---- PHY -------------------------------------------------------------------- */

enum { MDIC_READY = 1 << 28, MDIC_INTERRUPT = 1 << 29, MDIC_ERROR = 1 << 30, MDIC_WRITE = 1, MDIC_READ = 2, PHY_ADDRESS = 1 };
enum { PHY_STATUS = 1, PHY_ID1 = 2, PHY_ID2 = 3, PHY_ADVERTISE = 4, PHY_PARTNER = 5, PHY_EXPANSION = 6, PHY_1000T_CTRL = 9,
       PHY_1000T_STATUS = 10, PHY_EXT_STATUS = 15, M88_CONTROL = 16, M88_STATUS = 17, M88_INT_STATUS = 19, M88_ERRORS = 21 };
enum { PHY_CTRL_RESET = 1 << 15, PHY_CTRL_RESTART_AN = 1 << 9 };

void e1000_phy_reset(struct e1000 *e)
{
    memset(e->phy, 0, sizeof(e->phy));
    e->phy[PHY_CTRL] = 0x1140; /* negotiates; 1000 Mbit/s, full duplex */
    e->phy[PHY_ADVERTISE] = 0x01e1;
    e->phy[PHY_1000T_CTRL] = 0x0300;
    e->phy[M88_CONTROL] = 0x0068;
}

static u16 phy_read(const struct e1000 *e, u32 r)
{
    bool up = e->cable && !(e->phy[PHY_CTRL] & PHY_CTRL_POWER_DOWN);

    switch (r) {
    case PHY_STATUS: return (u16)(0x7949 | (up ? 0x24 : 0)); /* link, negotiation complete */
    case PHY_ID1: return 0x0141;
    case PHY_ID2: return 0x0c20;
    case PHY_PARTNER: return up ? 0x45e1 : 0;
    case PHY_EXPANSION: return up ? 0x000d : 0x0004;
    case PHY_1000T_STATUS: return up ? 0x3c00 : 0;
    case PHY_EXT_STATUS: return 0x3000;
    case M88_STATUS: return up ? 0xac08 : 0x8000; /* 1000 Mbit/s, full duplex, resolved, link */
    default: return e->phy[r];
    }
}

static void phy_write(struct e1000 *e, u32 r, u16 value)
{
    bool link = e1000_link(e);

    if (r == PHY_STATUS || r == PHY_ID1 || r == PHY_ID2 || r == PHY_PARTNER || r == PHY_EXPANSION || r == PHY_1000T_STATUS ||
        r == PHY_EXT_STATUS || r == M88_STATUS || r == M88_INT_STATUS || r == M88_ERRORS)
        return;
    if (r != PHY_CTRL) {
        e->phy[r] = value;
        return;
    }
    if (value & PHY_CTRL_RESET) /* of this register alone; the others keep what was written */
        value = 0x1140 | (value & PHY_CTRL_RESTART_AN);
    e->phy[PHY_CTRL] = value & (u16)~PHY_CTRL_RESTART_AN;
    if (link != e1000_link(e) || ((value & PHY_CTRL_RESTART_AN) && link)) /* negotiated at once */
        e1000_link_changed(e);
}

void e1000_mdic(struct e1000 *e, u32 value)
{
    u32 op = value >> 26 & 3, r = value >> 16 & 31;

    REG(MDIC) = (value & ~(u32)MDIC_ERROR) | MDIC_READY;
    if ((value >> 21 & 31) != PHY_ADDRESS || (op != MDIC_READ && op != MDIC_WRITE))
        REG(MDIC) |= MDIC_ERROR;
    else if (op == MDIC_READ)
        REG(MDIC) = (REG(MDIC) & ~0xffffu) | phy_read(e, r);
    else
        phy_write(e, r, (u16)value);
    if (value & MDIC_INTERRUPT)
        e1000_cause(e, MDAC);
}
