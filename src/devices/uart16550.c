/* SPDX-License-Identifier: Apache-2.0 */
/* uart16550.c - see uart16550.h.  Register and bit names are the PC16550D data sheet's. */
#include "devices/uart16550.h"

#include <errno.h>
#include <string.h>

enum { RBR_THR_DLL, IER_DLM, IIR_FCR, LCR, MCR, LSR, MSR, SCR };
enum { IER_ERBFI = 1, IER_ETBEI = 2, IER_ELSI = 4, IER_EDSSI = 8 };
enum { IIR_MODEM = 0x0, IIR_NONE = 0x1, IIR_THRE = 0x2, IIR_RDA = 0x4, IIR_LINE = 0x6, IIR_TIMEOUT = 0xc, IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_RX_RESET = 2, FCR_TX_RESET = 4, FCR_TRIGGER_SHIFT = 6 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_PE = 4, LSR_FE = 8, LSR_BI = 16, LSR_THRE = 32, LSR_TEMT = 64, LSR_FIFO_ERROR = 128,
       LSR_ERRORS = LSR_OE | LSR_PE | LSR_FE | LSR_BI };
enum { MSR_DCTS = 1, MSR_DDSR = 2, MSR_TERI = 4, MSR_DDCD = 8, MSR_CTS = 16, MSR_DSR = 32, MSR_RI = 64, MSR_DCD = 128 };

static unsigned fifo_size(const struct uart *u)
{
    return u->fcr & FCR_ENABLE ? UART_FIFO : 1;
}

static unsigned trigger(const struct uart *u)
{
    static const u8 level[4] = { 1, 4, 8, 14 };

    return u->fcr & FCR_ENABLE ? level[u->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The highest-priority condition that is enabled (data sheet table IV). */
static u8 iir(const struct uart *u)
{
    if ((u->ier & IER_ELSI) && (u->lsr & LSR_ERRORS))
        return IIR_LINE;
    if ((u->ier & IER_ERBFI) && u->rx_count >= trigger(u))
        return IIR_RDA;
    /* The timeout comes at once: a sender that paused is all there ever is here. */
    if ((u->ier & IER_ERBFI) && u->rx_count)
        return IIR_TIMEOUT;
    if ((u->ier & IER_ETBEI) && u->thre_pending)
        return IIR_THRE;
    if ((u->ier & IER_EDSSI) && (u->msr & 0xf))
        return IIR_MODEM;
    return IIR_NONE;
}

static void update_irq(struct uart *u)
{
    const bool level = iir(u) != IIR_NONE;

    if (level != u->irq_level) {
        u->irq_level = level;
        irq_set(&u->irq, level);
    }
}

/* The modem inputs: a null modem with everything asserted, or in loopback our own outputs. */
static void update_modem(struct uart *u)
{
    u8 was = u->msr, now = MSR_CTS | MSR_DSR | MSR_DCD, changed;

    if (u->mcr & MCR_LOOP)
        now = (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) | (u->mcr & MCR_OUT1 ? MSR_RI : 0) |
              (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
    changed = (was ^ now) & 0xf0;
    if (!(was & MSR_RI) || (now & MSR_RI))
        changed &= (u8)~MSR_RI; /* only the trailing edge of RI is flagged */
    u->msr = now | (was & 0xf) | changed >> 4;
}

/* ---- receiver ---- */

/* Errors of the byte now on top show in LSR. */
static void top_changed(struct uart *u)
{
    if (u->rx_count) {
        u->lsr |= u->fifo_errors[u->rx_head];
        u->fifo_errors[u->rx_head] = 0;
    }
}

static void receive(struct uart *u, u8 byte, u8 errors)
{
    u8 tail = (u->rx_head + u->rx_count) % UART_FIFO;

    if (u->rx_count >= fifo_size(u)) {
        u->lsr |= LSR_OE;
        if (u->fcr & FCR_ENABLE)
            return; /* the byte in the shift register is lost */
        tail = u->rx_head; /* 16450: the one in RBR is */
        u->rx_count = 0;
    }
    u->fifo[tail] = byte;
    u->fifo_errors[tail] = errors;
    if (++u->rx_count == 1)
        top_changed(u);
}

static u8 read_rbr(struct uart *u)
{
    if (u->rx_count) {
        u->rbr = u->fifo[u->rx_head];
        u->rx_head = (u->rx_head + 1) % UART_FIFO;
        u->rx_count--;
        top_changed(u);
    }
    return u->rbr;
}

static u8 read_lsr(struct uart *u)
{
    u8 v = u->lsr | LSR_THRE | LSR_TEMT | (u->rx_count ? LSR_DR : 0);

    for (unsigned i = 0; (u->fcr & FCR_ENABLE) && i < u->rx_count; i++)
        if (u->fifo_errors[(u->rx_head + i) % UART_FIFO])
            v |= LSR_FIFO_ERROR;
    if ((u->fcr & FCR_ENABLE) && (u->lsr & (LSR_PE | LSR_FE | LSR_BI)))
        v |= LSR_FIFO_ERROR;
    u->lsr &= (u8)~LSR_ERRORS;
    return v;
}

/* ---- transmitter ---- */

void uart_flush(struct uart *u)
{
    u8 data[sizeof u->tx_buffer];
    u32 n;

    pthread_mutex_lock(&u->tx_lock);
    pthread_mutex_lock(&u->lock);
    u->flush_posted = false;
    n = u->tx_count;
    memcpy(data, u->tx_buffer, n);
    u->tx_count = 0;
    pthread_mutex_unlock(&u->lock);
    if (n >= UART_TX_BUFFER && u->vcpus)
        loop_done(u->vcpus, &u->room);
    if (n && u->tx)
        u->tx(u->ctx, data, n);
    pthread_mutex_unlock(&u->tx_lock);
}

static void flush_posted(void *arg)
{
    uart_flush(arg);
}

/* The buffer is full, and to be handed on. Called with the lock held, drops it. False: the machine pauses. */
static bool wait_for_room(struct uart *u)
{
    __atomic_store_n(&u->room, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&u->lock);
    if (u->vcpus)
        loop_wait(u->vcpus, &u->room);
    else
        uart_flush(u);
    pthread_mutex_lock(&u->lock);
    return !u->vcpus || __atomic_load_n(&u->room, __ATOMIC_RELAXED);
}

/* Called with the lock held; drops it while the buffer is full. */
static void transmit(struct uart *u, u8 byte)
{
    while (u->tx_count >= UART_TX_BUFFER && wait_for_room(u))
        ;
    if (u->tx_count == sizeof u->tx_buffer) /* by a string instruction that the pause did not interrupt */
        return;
    u->tx_buffer[u->tx_count++] = byte;
    if (u->loop && !u->flush_posted && loop_post(u->loop, flush_posted, u) == 0)
        u->flush_posted = true;
    if (!u->flush_posted) {
        pthread_mutex_unlock(&u->lock);
        uart_flush(u);
        pthread_mutex_lock(&u->lock);
    }
}

static void write_thr(struct uart *u, u8 byte)
{
    u->thre_pending = false;
    update_irq(u);
    if (u->mcr & MCR_LOOP)
        receive(u, byte, 0);
    else
        transmit(u, byte);
    u->thre_pending = true; /* already on the wire */
}

/* ---- registers ---- */

static void write_fcr(struct uart *u, u8 v)
{
    /* A change of the enable bit clears both FIFOs; without it the other bits are not programmed. */
    bool clear = ((v ^ u->fcr) & FCR_ENABLE) || ((v & FCR_ENABLE) && (v & FCR_RX_RESET));

    if (clear) {
        u->rx_count = 0;
        memset(u->fifo_errors, 0, sizeof(u->fifo_errors));
    }
    u->fcr = v & FCR_ENABLE ? v & 0xc9 : 0;
}

/* Has the sender that was refused a reason to try again? */
static bool room_again(struct uart *u)
{
    if (!u->refused || u->rx_count >= fifo_size(u) || (u->mcr & MCR_LOOP))
        return false;
    u->refused = false;
    return true;
}

static u64 uart_read(void *dev, u64 offset, unsigned size)
{
    struct uart *u = dev;
    bool dlab, resume;
    u8 v;

    pthread_mutex_lock(&u->lock);
    dlab = u->lcr & LCR_DLAB;
    switch (offset & 7) {
    case RBR_THR_DLL:
        v = dlab ? u->dll : read_rbr(u);
        break;
    case IER_DLM:
        v = dlab ? u->dlm : u->ier;
        break;
    case IIR_FCR:
        v = iir(u);
        if (v == IIR_THRE)
            u->thre_pending = false;
        v |= u->fcr & FCR_ENABLE ? IIR_FIFO : 0;
        break;
    case LCR:
        v = u->lcr;
        break;
    case MCR:
        v = u->mcr;
        break;
    case LSR:
        v = read_lsr(u);
        break;
    case MSR:
        v = u->msr;
        u->msr &= 0xf0;
        break;
    default:
        v = u->scr;
        break;
    }
    update_irq(u);
    resume = room_again(u);
    pthread_mutex_unlock(&u->lock);
    if (resume && u->can_receive)
        u->can_receive(u->ctx);
    return v;
}

static void uart_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct uart *u = dev;
    u8 v = (u8)value;
    bool dlab, resume;

    pthread_mutex_lock(&u->lock);
    dlab = u->lcr & LCR_DLAB;
    switch (offset & 7) {
    case RBR_THR_DLL:
        if (dlab)
            u->dll = v;
        else
            write_thr(u, v);
        break;
    case IER_DLM:
        if (dlab) {
            u->dlm = v;
            break;
        }
        /* Enabling the THRE interrupt while THR is empty raises it: drivers probe for this. */
        if ((v & IER_ETBEI) && !(u->ier & IER_ETBEI))
            u->thre_pending = true;
        u->ier = v & 0xf;
        break;
    case IIR_FCR:
        write_fcr(u, v);
        break;
    case LCR:
        u->lcr = v;
        break;
    case MCR:
        u->mcr = v & 0x1f;
        update_modem(u);
        break;
    case SCR:
        u->scr = v;
        break;
    default: /* LSR and MSR: factory tests only */
        break;
    }
    update_irq(u);
    resume = room_again(u);
    pthread_mutex_unlock(&u->lock);
    if (resume && u->can_receive)
        u->can_receive(u->ctx);
}

const struct bus_ops uart_ops = { .read = uart_read, .write = uart_write, .min_size = 1, .max_size = 1 };

/* ---- outside ---- */

size_t uart_receive(struct uart *u, const u8 *data, size_t len)
{
    size_t n = 0;

    pthread_mutex_lock(&u->lock);
    /* In loopback the serial input is disconnected: hold the sender until it is back. */
    while (n < len && !(u->mcr & MCR_LOOP) && u->rx_count < fifo_size(u))
        receive(u, data[n++], 0);
    if (n < len)
        u->refused = true;
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
    return n;
}

void uart_receive_break(struct uart *u)
{
    pthread_mutex_lock(&u->lock);
    if (!(u->mcr & MCR_LOOP))
        receive(u, 0, LSR_BI);
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

void uart_reset(struct uart *u)
{
    pthread_mutex_lock(&u->lock);
    u->ier = u->lcr = u->mcr = u->lsr = u->fcr = u->scr = u->rbr = 0;
    u->dll = 12; /* 9600 baud; the data sheet leaves it undefined */
    u->dlm = 0;
    u->rx_head = u->rx_count = 0;
    memset(u->fifo_errors, 0, sizeof(u->fifo_errors));
    u->thre_pending = false;
    update_modem(u);
    u->msr &= 0xf0;
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

void uart_init(struct uart *u, const struct uart_config *c)
{
    memset(u, 0, sizeof(*u));
    pthread_mutex_init(&u->lock, NULL);
    pthread_mutex_init(&u->tx_lock, NULL);
    u->irq = c->irq;
    u->loop = c->loop;
    u->vcpus = c->vcpus;
    u->tx = c->tx;
    u->can_receive = c->can_receive;
    u->ctx = c->ctx;
    uart_reset(u);
}

void uart_destroy(struct uart *u)
{
    uart_flush(u);
    pthread_mutex_destroy(&u->tx_lock);
    pthread_mutex_destroy(&u->lock);
}

static int saving(void *obj)
{
    uart_flush(obj);
    return 0;
}

static int loaded(void *obj, struct error *err)
{
    struct uart *u = obj;

    if (u->rx_head >= UART_FIFO || u->rx_count > fifo_size(u))
        return error_set(err, EINVAL, "the saved state of a serial port (16550) is not possible");
    pthread_mutex_lock(&u->lock);
    u->ier &= 0xf;
    u->mcr &= 0x1f;
    u->lsr &= LSR_ERRORS;
    u->refused = false;
    u->irq_level = iir(u) != IIR_NONE;
    if (u->irq_level) /* low it is until somebody says otherwise, and another port may have */
        irq_set(&u->irq, true);
    pthread_mutex_unlock(&u->lock);
    return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct uart, rbr, 1),     STATE_FIELD(struct uart, ier, 1),
    STATE_FIELD(struct uart, lcr, 1),     STATE_FIELD(struct uart, mcr, 1),
    STATE_FIELD(struct uart, lsr, 1),     STATE_FIELD(struct uart, msr, 1),
    STATE_FIELD(struct uart, scr, 1),     STATE_FIELD(struct uart, fcr, 1),
    STATE_FIELD(struct uart, dll, 1),     STATE_FIELD(struct uart, dlm, 1),
    STATE_ARRAY(struct uart, fifo, 1),    STATE_ARRAY(struct uart, fifo_errors, 1),
    STATE_FIELD(struct uart, rx_head, 1), STATE_FIELD(struct uart, rx_count, 1),
    STATE_FIELD(struct uart, thre_pending, 1),
    STATE_END,
};
const struct state_desc uart_state = { "uart16550", 1, fields, saving, loaded };
