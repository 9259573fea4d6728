/* SPDX-License-Identifier: Apache-2.0 */
/* uhci.c - see uhci.h. */
#include "devices/uhci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { IO_BAR = 4, IO_SIZE = 32 };
enum { USBCMD = 0, USBSTS = 2, USBINTR = 4, FRNUM = 6, FRBASEADD = 8, SOFMOD = 12, PORTSC = 16 };
enum { CMD_RS = 1, CMD_HCRESET = 2, CMD_GRESET = 4, CMD_EGSM = 8, CMD_FGR = 16, CMD_BITS = 0xff };
enum { STS_USBINT = 1, STS_ERROR = 2, STS_RD = 4, STS_HSE = 8, STS_HCPE = 16, STS_HALTED = 32, STS_W1C = 0x1f };
enum { INTR_TIMEOUT = 1, INTR_RESUME = 2, INTR_IOC = 4, INTR_SP = 8 };
enum { WHY_IOC = 1, WHY_SP = 2 };
enum { PORT_CCS = 1, PORT_CSC = 2, PORT_PED = 4, PORT_PEDC = 8, PORT_LINE = 0x10, PORT_RD = 0x40, PORT_ONE = 0x80,
       PORT_PR = 0x200, PORT_SUSP = 0x1000, PORT_W1C = PORT_CSC | PORT_PEDC, PORT_WRITABLE = PORT_PED | PORT_RD | PORT_PR | PORT_SUSP };

/* Schedule (3.1 to 3.3). A link: T, Q, and in a TD Vf. */
enum { LINK_T = 1, LINK_Q = 2, LINK_VF = 4 };
#define LINK_AT(link) ((link) & 0xfffffff0u)
enum { /* a TD's control and status */
    TD_ACTLEN = 0x7ff, TD_TIMEOUT = 1 << 18, TD_NAK = 1 << 19, TD_STALLED = 1 << 22, TD_ACTIVE = 1 << 23, TD_IOC = 1 << 24,
    TD_CERR_SHIFT = 27, TD_CERR = 3 << TD_CERR_SHIFT, TD_SPD = 1 << 29, TD_ERRORS = 0x7e0000,
};
enum { PACKET_MAX = 1280, BYTES_MAX = 1280, STEPS_MAX = 128, FRAMES_MAX = 64, IDLE_MS = 32, PATIENCE = 64 };
#define FRAME_NS 1000000ull

struct td {
    u32 link, control, token, buffer;
};

/* ---- registers' doings -------------------------------------------------------- */

static void interrupts(struct uhci *u)
{
    bool level = ((u->sts & STS_USBINT) && (((u->why & WHY_IOC) && (u->intr & INTR_IOC)) ||
                                            ((u->why & WHY_SP) && (u->intr & INTR_SP)))) ||
                 ((u->sts & STS_ERROR) && (u->intr & INTR_TIMEOUT)) || ((u->sts & STS_RD) && (u->intr & INTR_RESUME)) ||
                 (u->sts & (STS_HSE | STS_HCPE));

    pci_set_intx(&u->f, level);
}

static bool running(const struct uhci *u)
{
    return u->cmd & CMD_RS;
}

static u16 frame_number(const struct uhci *u)
{
    return (u16)((u->frnum + (running(u) ? (clock_ns() - u->started) / FRAME_NS : 0)) & 0x7ff);
}

static void halt(struct uhci *u, u16 why)
{
    u->frnum = frame_number(u);
    u->cmd &= (u16)~CMD_RS;
    u->sts |= why;
    timer_disarm(&u->timer);
}

/* Something happens, or is about to. */
static void busy(struct uhci *u)
{
    u->quiet = 0;
    if (running(u))
        timer_arm(&u->timer, clock_ns());
}

/* ---- a frame ------------------------------------------------------------------ */

enum outcome { NEXT_QH, NEXT_TD, BAD };

struct frame {
    u32 bytes, why; /* moved; interrupts for its end */
    bool error, progress;
};

static struct usb_device *addressed(struct uhci *u, u32 address)
{
    return (u->port[0] & (PORT_PED | PORT_SUSP | PORT_PR)) == PORT_PED && u->tablet.usb.address == address ? &u->tablet.usb
                                                                                                         : NULL;
}

static bool put32(struct uhci *u, u32 at, u32 value)
{
    return !memory_write(u->memory, at, &value, 4);
}

/* Tries the transaction that an active TD wants; its new control and status. */
static enum outcome transact(struct uhci *u, struct td *t, struct frame *f)
{
    const u32 pid = t->token & 0xff, endpoint = t->token >> 15 & 15, max = ((t->token >> 21) + 1) & 0x7ff;
    struct usb_device *d = addressed(u, t->token >> 8 & 0x7f);
    u8 data[PACKET_MAX];
    int n;

    if (max > PACKET_MAX || (pid != USB_IN && pid != USB_OUT && pid != USB_SETUP))
        return BAD;
    if (!d) { /* nobody answers */
        const u32 left = t->control & TD_CERR;
        f->bytes += max;
        t->control |= TD_TIMEOUT;
        if (left)
            t->control -= 1u << TD_CERR_SHIFT;
        if (left >> TD_CERR_SHIFT == 1) {
            t->control = (t->control & ~(u32)TD_ACTIVE) | TD_STALLED;
            f->error = true;
            f->why |= t->control & TD_IOC ? WHY_IOC : 0;
        }
        return NEXT_QH;
    }
    if (pid != USB_IN && max && memory_read(u->memory, t->buffer, data, max))
        return BAD;
    n = usb_transaction(d, (enum usb_pid)pid, endpoint, data, max);
    if (n == USB_NAK) {
        t->control |= TD_NAK;
        return NEXT_QH;
    }
    f->progress = true;
    t->control &= ~(u32)(TD_ACTIVE | TD_ERRORS);
    if (n == USB_STALL) {
        t->control |= TD_STALLED;
        f->error = true;
        f->why |= t->control & TD_IOC ? WHY_IOC : 0;
        return NEXT_QH;
    }
    if (pid == USB_IN && n && memory_write(u->memory, t->buffer, data, (u32)n))
        return BAD;
    t->control = (t->control & ~(u32)TD_ACTLEN) | ((u32)(n - 1) & TD_ACTLEN);
    f->bytes += (u32)n;
    f->why |= t->control & TD_IOC ? WHY_IOC : 0;
    if (pid == USB_IN && (u32)n < max && (t->control & TD_SPD)) {
        f->why |= WHY_SP;
        return NEXT_QH; /* the queue waits for software */
    }
    return NEXT_TD;
}

/* The TD at `at`; *link: what follows it. */
static enum outcome run_td(struct uhci *u, u32 at, u32 *link, struct frame *f)
{
    struct td t;

    if (memory_read(u->memory, at, &t, sizeof(t)))
        return BAD;
    *link = t.link;
    if (!(t.control & TD_ACTIVE)) {
        f->why |= t.control & TD_IOC ? WHY_IOC : 0;
        return NEXT_QH;
    }
    const u32 before = t.control;
    const enum outcome r = transact(u, &t, f);
    if (t.control != before && !put32(u, at + 4, t.control))
        return BAD;
    return r;
}

/* 3.4: breadth first, or down a queue as far as Vf says. False: the controller cannot go on. */
static bool run_frame(struct uhci *u, struct frame *f)
{
    u32 link, seen[STEPS_MAX], nseen = 0;
    bool moved = true; /* since the first of seen */

    if (memory_read(u->memory, u->frbase + (u->frnum & 1023) * 4, &link, 4))
        return false;
    for (u32 step = 0; !(link & LINK_T) && step < STEPS_MAX && f->bytes < BYTES_MAX; step++) {
        const u32 at = LINK_AT(link);
        u32 qh[2], next; /* head (horizontal), element */

        if (!(link & LINK_Q)) { /* isochronous: whatever becomes of it, the next one follows */
            if (run_td(u, at, &link, f) == BAD)
                return false;
            continue;
        }
        for (u32 i = 0; i < nseen; i++)
            if (seen[i] == at) { /* bandwidth reclamation: round once more, if there was anything to do */
                if (!moved)
                    return true;
                nseen = 0, moved = false;
            }
        seen[nseen++] = at;
        if (memory_read(u->memory, at, qh, sizeof(qh)))
            return false;
        link = qh[0];
        while (!(qh[1] & LINK_T) && step < STEPS_MAX && f->bytes < BYTES_MAX) {
            if (qh[1] & LINK_Q) { /* a queue in place of a TD */
                link = qh[1];
                break;
            }
            const enum outcome r = run_td(u, LINK_AT(qh[1]), &next, f);
            if (r == BAD)
                return false;
            if (r != NEXT_TD)
                break;
            moved = true;
            step++;
            qh[1] = next;
            if (!put32(u, at + 4, next))
                return false;
            if (!(next & LINK_VF))
                break;
        }
    }
    return true;
}

static void run_frames(struct uhci *u)
{
    u64 now = clock_ns(), due = (now - u->started) / FRAME_NS;

    if (due > FRAMES_MAX) { /* a late host: those frames were lost */
        u->frnum = (u16)((u->frnum + due - FRAMES_MAX) & 0x7ff);
        u->started += (due - FRAMES_MAX) * FRAME_NS;
        due = FRAMES_MAX;
    }
    for (; due; due--) {
        struct frame f = { 0 };
        if (!pci_bus_master(&u->f) || !run_frame(u, &f)) {
            halt(u, pci_bus_master(&u->f) ? STS_HCPE : STS_HSE);
            break;
        }
        u->quiet = f.progress ? 0 : u->quiet + 1;
        u->frnum = (u16)((u->frnum + 1) & 0x7ff);
        u->started += FRAME_NS;
        if (f.why)
            u->sts |= STS_USBINT, u->why |= (u8)f.why;
        if (f.error)
            u->sts |= STS_ERROR;
    }
    interrupts(u);
}

static void tick(struct timer *t)
{
    struct uhci *u = container_of(t, struct uhci, timer);

    pthread_mutex_lock(&u->lock);
    if (running(u)) {
        run_frames(u);
        /* Of frame PATIENCE on, half of the quiet time. */
        const u32 ms = u->quiet < PATIENCE ? 1 : MIN((u->quiet - PATIENCE) / 2 + 1, (u32)IDLE_MS);
        if (running(u))
            timer_arm(&u->timer, u->started + ms * FRAME_NS);
    }
    pthread_mutex_unlock(&u->lock);
}

/* ---- registers ------------------------------------------------------------------ */

static void reset_ports(struct uhci *u)
{
    u->port[0] = PORT_ONE | PORT_CCS | PORT_CSC;
    u->port[1] = PORT_ONE;
    usb_reset(&u->tablet.usb);
}

static void host_reset(struct uhci *u)
{
    timer_disarm(&u->timer);
    u->cmd = u->sts = u->intr = u->frnum = u->why = 0;
    u->frbase = 0;
    u->sofmod = 64;
    u->quiet = 0;
    reset_ports(u);
    interrupts(u);
}

static void write_command(struct uhci *u, u16 value)
{
    if (value & CMD_HCRESET) {
        host_reset(u);
        return;
    }
    if ((value & CMD_GRESET) && !(u->cmd & CMD_GRESET))
        reset_ports(u);
    const bool run = value & CMD_RS;
    if (run && !running(u)) {
        u->cmd = value & CMD_BITS;
        u->started = clock_ns();
        busy(u);
    } else if (!run && running(u)) {
        run_frames(u);
        halt(u, 0);
    }
    if (run == running(u)) /* else it came to its end just now */
        u->cmd = value & CMD_BITS;
}

static void write_port(struct uhci *u, u32 n, u16 value)
{
    u16 *p = &u->port[n];
    const u16 old = *p;

    *p = (u16)((old & ~(PORT_WRITABLE | (value & PORT_W1C))) | (value & PORT_WRITABLE));
    if (!(*p & PORT_CCS))
        *p &= (u16)~PORT_PED;
    if (value & PORT_PR) {
        *p &= (u16)~(PORT_PED | PORT_SUSP);
        if (!(old & PORT_PR) && (old & PORT_CCS))
            usb_reset(&u->tablet.usb);
    }
    busy(u);
}

static u16 read_port(const struct uhci *u, u32 n)
{
    const u16 p = u->port[n];
    return (u16)(p | (p & PORT_CCS && !(p & PORT_PR) ? PORT_LINE : 0)); /* D+ high: full speed, idle */
}

static u64 io_read(void *dev, u64 offset, unsigned size)
{
    struct uhci *u = dev;
    u64 v;

    pthread_mutex_lock(&u->lock);
    switch (offset & ~1ull) {
    case USBCMD: v = u->cmd; break;
    case USBSTS: v = u->sts | (running(u) ? 0 : STS_HALTED); break;
    case USBINTR: v = u->intr; break;
    case FRNUM: v = frame_number(u); break;
    case FRBASEADD: v = u->frbase & 0xffff; break;
    case FRBASEADD + 2: v = u->frbase >> 16; break;
    case SOFMOD: v = u->sofmod; break;
    case PORTSC:
    case PORTSC + 2: v = read_port(u, (u32)(offset - PORTSC) / 2); break;
    default: v = 0; break; /* by which drivers find the number of ports */
    }
    pthread_mutex_unlock(&u->lock);
    return size == 1 ? v >> (offset & 1) * 8 & 0xff : v;
}

static void io_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct uhci *u = dev;
    const u16 v = (u16)value;

    pthread_mutex_lock(&u->lock);
    switch (offset) {
    case USBCMD: write_command(u, v); break;
    case USBSTS:
        u->sts &= (u16)~(v & STS_W1C);
        if (v & STS_USBINT)
            u->why = 0;
        interrupts(u);
        break;
    case USBINTR:
        u->intr = v & 0xf;
        interrupts(u);
        break;
    case FRNUM:
        if (!running(u))
            u->frnum = v & 0x7ff;
        break;
    case FRBASEADD:
        u->frbase = (u->frbase & 0xffff0000) | (v & 0xf000);
        break;
    case FRBASEADD + 2:
        u->frbase = (u->frbase & 0xffff) | (u32)v << 16;
        break;
    case SOFMOD: u->sofmod = v & 0x7f; break;
    case PORTSC:
    case PORTSC + 2: write_port(u, (u32)(offset - PORTSC) / 2, v); break;
    default: break;
    }
    pthread_mutex_unlock(&u->lock);
}

static const struct bus_ops io_ops = { io_read, io_write, 1, 2 };

/* ---- events ----------------------------------------------------------------------- */

void uhci_event(struct uhci *u, u32 x, u32 y, s32 wheel, u8 buttons)
{
    pthread_mutex_lock(&u->lock);
    usb_tablet_event(&u->tablet, x, y, wheel, buttons);
    if ((u->port[0] & PORT_SUSP || u->cmd & CMD_EGSM) && u->tablet.usb.remote_wakeup && u->tablet.n) { /* 2.1.7, 4.2 */
        if (u->port[0] & PORT_SUSP)
            u->port[0] |= PORT_RD;
        u->sts |= STS_RD;
        interrupts(u);
    }
    busy(u);
    pthread_mutex_unlock(&u->lock);
}

static void absolute(void *dev, u32 x, u32 y, s32 wheel, u8 buttons)
{
    uhci_event(dev, x, y, wheel, buttons);
}

static bool active(void *dev)
{
    struct uhci *u = dev;

    pthread_mutex_lock(&u->lock);
    const bool r = usb_tablet_active(&u->tablet) && ((running(u) && !(u->port[0] & PORT_SUSP)) || u->tablet.usb.remote_wakeup);
    pthread_mutex_unlock(&u->lock);
    return r;
}

static const struct input_sink_ops sink_ops = { .absolute = absolute, .active = active };

/* ---- life --------------------------------------------------------------------------- */

void uhci_reset(void *dev)
{
    struct uhci *u = dev;

    pthread_mutex_lock(&u->lock);
    host_reset(u);
    pthread_mutex_unlock(&u->lock);
}

/* Nothing is done now: interrupt controllers and memory may be saved already. */
static int saving(void *obj)
{
    struct uhci *u = obj;

    pthread_mutex_lock(&u->lock);
    u->elapsed = running(u) ? clock_ns() - u->started : 0;
    pthread_mutex_unlock(&u->lock);
    return 0;
}

static int loaded(void *obj, struct error *err)
{
    struct uhci *u = obj;

    pthread_mutex_lock(&u->lock);
    u->cmd &= CMD_BITS & ~CMD_HCRESET;
    u->sts &= STS_W1C;
    u->intr &= 0xf;
    u->frnum &= 0x7ff;
    u->frbase &= 0xfffff000;
    u->sofmod &= 0x7f;
    u->why &= WHY_IOC | WHY_SP;
    for (u32 i = 0; i < UHCI_PORTS; i++)
        u->port[i] = (u16)((u->port[i] & (PORT_WRITABLE | PORT_W1C)) | PORT_ONE | (i ? 0 : PORT_CCS));
    usb_tablet_sanitize(&u->tablet);
    u->started = clock_ns() - MIN(u->elapsed, FRAMES_MAX * FRAME_NS);
    timer_disarm(&u->timer);
    busy(u);
    pthread_mutex_unlock(&u->lock);
    return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct uhci, cmd, 1),    STATE_FIELD(struct uhci, sts, 1),  STATE_FIELD(struct uhci, intr, 1),
    STATE_FIELD(struct uhci, frnum, 1),  STATE_FIELD(struct uhci, frbase, 1), STATE_FIELD(struct uhci, sofmod, 1),
    STATE_ARRAY(struct uhci, port, 1),   STATE_FIELD(struct uhci, why, 1),  STATE_FIELD(struct uhci, elapsed, 1),
    STATE_STRUCT(struct uhci, tablet, 1, usb_tablet_fields), STATE_END,
};
static const struct state_desc state = { "uhci", 1, fields, saving, loaded };

int uhci_init(struct uhci *u, struct memory *m, struct loop *loop, struct input *input, struct chardev *source,
              struct pci_bus *bus, u32 slot, u32 function, struct state_list *l, struct error *err)
{
    enum { PIN = 0x3d, SBRN = 0x60, LEGSUP = 0xc0, PIN_D = 4 };
    struct pci_bar io = { .size = IO_SIZE, .flags = PCI_BAR_IO, .ops = &io_ops, .dev = u, .name = "uhci" };
    int rc;

    memset(u, 0, sizeof(*u));
    u->memory = m;
    pthread_mutex_init(&u->lock, NULL);
    timer_init(&u->timer, loop, tick);
    usb_tablet_init(&u->tablet);
    pci_function_init(&u->f, "uhci", 0x8086, 0x7020, 1, 0x0c0300, 0, 0);
    pci_use_intx(&u->f);
    u->f.config[PIN] = PIN_D;
    u->f.config[SBRN] = 0x10; /* USB 1.0 and 1.1 */
    pci_put16(u->f.config + LEGSUP, 0x2000);
    pci_put16(u->f.wmask + LEGSUP, 0x00bf | 0x2000);
    pci_bar_init(&u->f, IO_BAR, &io);
    if ((rc = pci_add(bus, &u->f, slot, function, l, err)))
        return rc;
    uhci_reset(u);
    if (l && (rc = state_add(l, &state, 0, u)))
        return error_set(err, -rc, "out of memory");
    u->input = input;
    u->sink = (struct input_sink){ .ops = &sink_ops, .dev = u, .rank = INPUT_USB };
    if (input)
        input_plug(input, &u->sink);
    if (source)
        uhci_attach(u, source);
    return 0;
}

void uhci_destroy(struct uhci *u)
{
    if (u->input)
        input_unplug(u->input, &u->sink);
    timer_disarm(&u->timer);
    pthread_mutex_destroy(&u->lock);
}

/* ---- the class: function 2 of the south bridge, as the PIIX3 has it ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    struct uhci *u = d->dev = calloc(1, sizeof *u);
    return u ? uhci_init(u, env->memory, env->loop, env->input, d->chardev[0], env->pci, env->isa_slot, 2, env->state, err)
             : error_set(err, ENOMEM, "out of memory");
}

static void unplug(struct device *d)
{
    uhci_destroy(d->dev);
    free(d->dev);
}

static void reset(struct device *d) { uhci_reset(d->dev); }

const struct device_class uhci_class = {
    .kind = DEVICE_USB, .create = create, .unplug = unplug, .reset = reset,
};
