/* SPDX-License-Identifier: Apache-2.0 */
/* e1000_internal.h - registers of the 82540EM, and what e1000.c, _irq.c, _nvm.c (EEPROM, PHY), _tx.c and _rx.c share. */
#ifndef LODGE_DEVICES_E1000_INTERNAL_H
#define LODGE_DEVICES_E1000_INTERNAL_H

#include <pthread.h>

#include "devices/e1000.h"

enum { /* offsets (13.3) */
    CTRL = 0x0000, CTRL_DUP = 0x0004, STATUS = 0x0008, EECD = 0x0010, EERD = 0x0014, CTRL_EXT = 0x0018, FLA = 0x001c,
    MDIC = 0x0020, FCAL = 0x0028, FCAH = 0x002c, FCT = 0x0030, VET = 0x0038, ICR = 0x00c0, ITR = 0x00c4, ICS = 0x00c8,
    IMS = 0x00d0, IMC = 0x00d8, RCTL = 0x0100, FCTTV = 0x0170, TXCW = 0x0178, RXCW = 0x0180, TCTL = 0x0400, TIPG = 0x0410,
    AIT = 0x0458, LEDCTL = 0x0e00, PBA = 0x1000, FCRTL = 0x2160, FCRTH = 0x2168, RDFH = 0x2410, RDFPC = 0x2430,
    RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808, RDH = 0x2810, RDT = 0x2818, RDTR = 0x2820, RXDCTL = 0x2828,
    RADV = 0x282c, RSRPD = 0x2c00, TXDMAC = 0x3000, TDFH = 0x3410, TDFPC = 0x3430, TDBAL = 0x3800, TDBAH = 0x3804,
    TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, TIDV = 0x3820, TXDCTL = 0x3828, TADV = 0x382c, TSPMT = 0x3830,
    STATS = 0x4000, RXERRC = 0x400c, MPC = 0x4010, PRC64 = 0x405c, GPRC = 0x4074, BPRC = 0x4078, MPRC = 0x407c, GPTC = 0x4080,
    GORCL = 0x4088, GORCH = 0x408c, GOTCL = 0x4090, GOTCH = 0x4094, ROC = 0x40ac, TORL = 0x40c0, TORH = 0x40c4,
    TOTL = 0x40c8, TOTH = 0x40cc, TPR = 0x40d0, TPT = 0x40d4, PTC64 = 0x40d8, MPTC = 0x40f0, BPTC = 0x40f4,
    TSCTC = 0x40f8, STATS_END = 0x4100, RXCSUM = 0x5000, MTA = 0x5200, MTA_END = 0x5400, RA = 0x5400, RA_END = 0x5480,
    VFTA = 0x5600, VFTA_END = 0x5800, WUC = 0x5800, WUFC = 0x5808, WUS = 0x5810, MANC = 0x5820, IPAV = 0x5838,
    REGISTERS_END = 0x5840, SWSM = 0x5b50,
};
enum {
    CTRL_FD = 1 << 0, CTRL_SLU = 1 << 6, CTRL_SPEED_1000 = 2 << 8, CTRL_RST = 1 << 26, CTRL_VME = 1 << 30,
};
#define CTRL_PHY_RST BIT(31)
enum { STATUS_FD = 1 << 0, STATUS_LU = 1 << 1, STATUS_SPEED_1000 = 2 << 6, STATUS_ASDV_1000 = 2 << 8 };
enum { /* interrupt causes: ICR, ICS, IMS, IMC */
    TXDW = 1 << 0, TXQE = 1 << 1, LSC = 1 << 2, RXDMT0 = 1 << 4, RXO = 1 << 6, RXT0 = 1 << 7, MDAC = 1 << 9,
    TXD_LOW = 1 << 15, SRPD = 1 << 16, CAUSES = 0x1ffff,
};
enum {
    RCTL_EN = 1 << 1, RCTL_SBP = 1 << 2, RCTL_UPE = 1 << 3, RCTL_MPE = 1 << 4, RCTL_LPE = 1 << 5, RCTL_LBM = 3 << 6,
    RCTL_RDMTS_SHIFT = 8, RCTL_MO_SHIFT = 12, RCTL_BAM = 1 << 15, RCTL_BSIZE_SHIFT = 16, RCTL_VFE = 1 << 18,
    RCTL_CFIEN = 1 << 19, RCTL_CFI = 1 << 20, RCTL_BSEX = 1 << 25, RCTL_SECRC = 1 << 26,
};
enum { TCTL_EN = 1 << 1, TCTL_PSP = 1 << 3 };
enum { PHY_CTRL = 0, PHY_CTRL_LOOPBACK = 1 << 14, PHY_CTRL_POWER_DOWN = 1 << 11 };
#define DELAY_FPD BIT(31) /* RDTR, TIDV */
#define RAH_AV BIT(31)

/* Of descriptors: TDESC.DEXT's context (3.3.6). */
struct e1000_context {
    u8 ipcss, ipcso, tucss, tucso;
    u16 ipcse, tucse, mss;
    u8 tucmd, hdrlen;
};

/* RDTR and RADV, or TIDV and TADV: an interrupt that waits for more, but not for ever. */
struct e1000_delay {
    struct timer timer;
    u64 at, limit; /* clock_ns(); 0: not running, no limit yet */
    u64 left;      /* what is saved of `at` */
};

enum { E1000_PACKET = NET_HDR + NET_MAX_FRAME };

struct e1000 {
    struct pci_function f;
    struct memory *memory;
    struct net *net;
    pthread_mutex_t lock; /* recursive: the backend delivers from within net_resume. Guards the rest */
    struct loop_kick kick; /* what a vCPU thread wants of the backend */
    bool cable;            /* its link */
    bool rx_refused;       /* the backend keeps a frame: it is to come again when there are descriptors */
    bool rx_some;          /* frames since the last interrupt was asked for */
    bool tx_waits;         /* net_send said no */

    u32 reg[REGISTERS_END / 4];
    u32 swsm; /* a semaphore of later chips: U-Boot takes it before it reads any chip's EEPROM */
    u32 io_addr;
    u16 phy[32], eeprom[64];
    struct { /* what the microwire EEPROM is in the middle of (5.3) */
        u32 in;       /* bits shifted in since CS rose */
        u8 nin, nout; /* how many; how many of out are still to come */
        u16 out;
        bool writable; /* EWEN */
        bool line;     /* DO */
    } wire;
    struct e1000_context context[2]; /* for checksums, for segmentation */
    u32 cut;                         /* segments of the packet at TDH that the cable has taken already */

    struct e1000_delay rx_delay, tx_delay;
    struct timer itr;
    u64 next_interrupt, next_left; /* clock_ns() before which ITR allows none; what is saved of it */
    bool line;

    u8 mac[6]; /* as the EEPROM is made */
    u8 packet[E1000_PACKET + 4], segment[E1000_PACKET + 4], rx[NET_MAX_FRAME];
};

static inline u32 *e1000_reg(struct e1000 *e, u32 at) { return &e->reg[at / 4]; }
#define REG(name) (*e1000_reg(e, name))

/* A descriptor ring: TDBAL..TDT or RDBAL..RDT. */
struct e1000_ring {
    u64 base;
    u32 n, head, tail;
};
/* False: not one that can be worked on: empty, or head or tail outside of it. */
bool e1000_ring(struct e1000 *e, u32 bal, struct e1000_ring *r);

enum { E1000_ITR_UNIT_NS = 256, E1000_DELAY_UNIT_NS = 1024 };

/* e1000_irq.c */
void e1000_timers_init(struct e1000 *e, struct loop *loop);
void e1000_interrupts(struct e1000 *e); /* after ICR or IMS changed */
void e1000_delay_stop(struct e1000_delay *d);
void e1000_delay_over(struct e1000 *e, struct e1000_delay *d, u32 cause); /* if it runs */
void e1000_cause(struct e1000 *e, u32 causes);
void e1000_delay(struct e1000_delay *d, u32 wait, u32 limit); /* in units of 1.024 us */
void e1000_count(struct e1000 *e, u32 stat, u64 n);           /* saturates; GORC, GOTC, TOR and TOT are of 64 bits */
bool e1000_link(const struct e1000 *e);
void e1000_link_changed(struct e1000 *e);

/* e1000_nvm.c */
void e1000_eeprom_init(struct e1000 *e);
void e1000_eeprom_write(struct e1000 *e, u32 value); /* EECD */
u32 e1000_eeprom_lines(const struct e1000 *e);       /* EECD's DO */
void e1000_eeprom_read(struct e1000 *e, u32 value);  /* EERD */
void e1000_phy_reset(struct e1000 *e);
void e1000_mdic(struct e1000 *e, u32 value);

/* e1000_tx.c, e1000_rx.c; the loop's thread */
void e1000_transmit(struct e1000 *e);
/* False: no room now. checked: its TCP or UDP checksum is known to be right. */
bool e1000_receive(struct e1000 *e, u32 len, bool checked); /* e->rx[0..len) */
void e1000_received(struct e1000 *e);                       /* no more for now */

#endif
