/* SPDX-License-Identifier: Apache-2.0 */
/* i8237.c - see i8237.h. */
#include "devices/i8237.h"

#include <string.h>

enum { /* registers */
    REG_COMMAND = 8, REG_REQUEST, REG_SINGLE_MASK, REG_MODE, REG_CLEAR_POINTER, REG_MASTER_CLEAR, REG_CLEAR_MASK,
    REG_ALL_MASKS,
};
enum { COMMAND_DISABLE = 4 };
enum { MODE_WRITE = 1 << 2, MODE_READ = 2 << 2, MODE_TRANSFER = 3 << 2, MODE_AUTOINIT = 1 << 4, MODE_DECREMENT = 1 << 5,
       MODE_CASCADE = 3 << 6 };

/* The page register of a channel, counted from port 80h. */
static const u8 page_of[I8237_CHANNELS] = { 7, 3, 1, 2, 15, 11, 9, 10 };

/* ---- transfers ---- */

static void terminal_count(struct i8237_controller *c, u32 i)
{
    struct i8237_channel *ch = &c->channel[i];

    c->status |= (u8)(1u << i);
    c->request &= (u8)~(1u << i);
    if (ch->mode & MODE_AUTOINIT) {
        ch->address = ch->base_address;
        ch->count = ch->base_count;
    } else {
        c->mask |= (u8)(1u << i);
    }
}

/* One piece, of units that lie side by side. Memory that is not there reads as FFh. */
static void move(struct i8237 *d, u64 gpa, u8 *data, u32 len, bool to_memory)
{
    if (to_memory)
        (void)!memory_write(d->memory, gpa, data, len);
    else if (memory_read(d->memory, gpa, data, len))
        memset(data, 0xff, len);
}

u32 i8237_transfer(struct i8237 *d, u32 channel, bool to_memory, u8 *data, u32 len, bool *tc)
{
    struct i8237_controller *c = &d->controller[channel > 3], *first = &d->controller[0], *second = &d->controller[1];
    struct i8237_channel *ch = &c->channel[channel & 3];
    u32 shift = channel > 3, units = len >> shift, done = 0;

    *tc = false;
    pthread_mutex_lock(&d->lock);
    /* The first controller asks through the second's channel 0. */
    bool open = !(c->mask & 1u << (channel & 3)) && !(c->command & COMMAND_DISABLE) &&
                (ch->mode & MODE_CASCADE) != MODE_CASCADE &&
                (c != first || (!(second->mask & 1) && !(second->command & COMMAND_DISABLE)));
    bool moves = (ch->mode & MODE_TRANSFER) == (to_memory ? MODE_WRITE : MODE_READ);

    if (open && !to_memory && !moves)
        memset(data, 0xff, len);
    while (open && done < units && !*tc) {
        bool down = ch->mode & MODE_DECREMENT;
        u32 n = MIN(units - done, (u32)ch->count + 1);
        n = MIN(n, down ? 1 : 0x10000u - ch->address);
        u64 page = (u64)(d->page[page_of[channel]] & (shift ? 0xfe : 0xff)) << 16;
        if (moves)
            move(d, page | (u64)ch->address << shift, data + (done << shift), n << shift, to_memory);
        done += n;
        ch->address = (u16)(down ? ch->address - n : ch->address + n);
        *tc = n == (u32)ch->count + 1;
        ch->count = (u16)(ch->count - n);
        if (*tc)
            terminal_count(c, channel & 3);
    }
    pthread_mutex_unlock(&d->lock);
    return done << shift;
}

/* ---- registers ---- */

static u8 read_word(struct i8237_controller *c, u16 v)
{
    c->high = !c->high;
    return (u8)(c->high ? v : v >> 8);
}

static void write_word(struct i8237_controller *c, u16 *base, u16 *current, u8 v)
{
    *base = (u16)(c->high ? (*base & 0x00ff) | v << 8 : (*base & 0xff00) | v);
    *current = *base;
    c->high = !c->high;
}

static u8 read_register(struct i8237_controller *c, u32 reg)
{
    struct i8237_channel *ch = &c->channel[reg >> 1 & 3];
    u8 v;

    if (reg < 8)
        return read_word(c, reg & 1 ? ch->count : ch->address);
    switch (reg) {
    case REG_COMMAND: /* status; reading clears the terminal counts */
        v = (u8)(c->status | c->request << 4);
        c->status = 0;
        return v;
    case REG_MASTER_CLEAR: /* the temporary register, of memory-to-memory transfers alone */
        return 0;
    case REG_ALL_MASKS:
        return c->mask | 0xf0;
    default:
        return 0xff;
    }
}

/* A request by program has no device to speak to: the channel runs to its terminal count, and nothing moves. */
static void request(struct i8237_controller *c, u8 v)
{
    c->request = v & 4 ? c->request | (u8)(1u << (v & 3)) : c->request & (u8)~(1u << (v & 3));
    if (v & 4 && !(c->command & COMMAND_DISABLE) && (c->channel[v & 3].mode & MODE_CASCADE) != MODE_CASCADE) {
        struct i8237_channel *ch = &c->channel[v & 3];
        ch->address = (u16)(ch->mode & MODE_DECREMENT ? ch->address - ch->count - 1 : ch->address + ch->count + 1);
        ch->count = 0xffff;
        terminal_count(c, v & 3);
    }
}

static void master_clear(struct i8237_controller *c)
{
    c->command = c->status = c->request = 0;
    c->high = false;
    c->mask = 0xf;
}

static void write_register(struct i8237_controller *c, u32 reg, u8 v)
{
    struct i8237_channel *ch = &c->channel[reg >> 1 & 3];

    if (reg < 8) {
        if (reg & 1)
            write_word(c, &ch->base_count, &ch->count, v);
        else
            write_word(c, &ch->base_address, &ch->address, v);
        return;
    }
    switch (reg) {
    case REG_COMMAND: /* PIIX4: no memory-to-memory transfers; their bits are kept and say nothing */
        c->command = v;
        break;
    case REG_REQUEST:
        request(c, v);
        break;
    case REG_SINGLE_MASK:
        c->mask = v & 4 ? c->mask | (u8)(1u << (v & 3)) : c->mask & (u8)~(1u << (v & 3));
        break;
    case REG_MODE:
        c->channel[v & 3].mode = v & 0xfc;
        break;
    case REG_CLEAR_POINTER:
        c->high = false;
        break;
    case REG_MASTER_CLEAR:
        master_clear(c);
        break;
    case REG_CLEAR_MASK:
        c->mask = 0;
        break;
    default:
        c->mask = v & 0xf;
        break;
    }
}

static u64 dma_read(struct i8237_controller *c, u32 reg)
{
    pthread_mutex_lock(&c->dma->lock);
    u8 v = read_register(c, reg);
    pthread_mutex_unlock(&c->dma->lock);
    return v;
}

static void dma_write(struct i8237_controller *c, u32 reg, u8 v)
{
    struct i8237 *d = c->dma;

    pthread_mutex_lock(&d->lock);
    write_register(c, reg, v);
    pthread_mutex_unlock(&d->lock);
    for (u32 i = 0; i < I8237_CHANNELS && reg >= REG_COMMAND; i++)
        if (d->device[i].ready)
            d->device[i].ready(d->device[i].ctx);
}

static u64 read1(void *dev, u64 offset, unsigned size) { return dma_read(dev, (u32)offset); }
static void write1(void *dev, u64 offset, unsigned size, u64 value) { dma_write(dev, (u32)offset, (u8)value); }
const struct bus_ops i8237_ops = { .read = read1, .write = write1, .min_size = 1, .max_size = 1 };

static u64 read2(void *dev, u64 offset, unsigned size) { return dma_read(dev, (u32)offset >> 1); }
static void write2(void *dev, u64 offset, unsigned size, u64 value) { dma_write(dev, (u32)offset >> 1, (u8)value); }
const struct bus_ops i8237_ops2 = { .read = read2, .write = write2, .min_size = 1, .max_size = 1 };

static u64 page_read(void *dev, u64 offset, unsigned size)
{
    struct i8237 *d = dev;

    pthread_mutex_lock(&d->lock);
    u8 v = d->page[offset];
    pthread_mutex_unlock(&d->lock);
    return v;
}

static void page_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct i8237 *d = dev;

    pthread_mutex_lock(&d->lock);
    d->page[offset] = (u8)value;
    pthread_mutex_unlock(&d->lock);
}

const struct bus_ops i8237_page_ops = { .read = page_read, .write = page_write, .min_size = 1, .max_size = 1 };

/* ---- life ---- */

void i8237_reset(struct i8237 *d)
{
    pthread_mutex_lock(&d->lock);
    for (u32 i = 0; i < 2; i++) {
        memset(d->controller[i].channel, 0, sizeof d->controller[i].channel);
        master_clear(&d->controller[i]);
    }
    /* As firmware leaves it: the cascade is open. */
    d->controller[1].channel[0].mode = MODE_CASCADE;
    d->controller[1].mask = 0xe;
    memset(d->page, 0, sizeof d->page);
    pthread_mutex_unlock(&d->lock);
}

void i8237_attach(struct i8237 *d, u32 channel, void (*ready)(void *ctx), void *ctx)
{
    d->device[channel].ready = ready;
    d->device[channel].ctx = ctx;
}

void i8237_init(struct i8237 *d, struct memory *memory)
{
    memset(d, 0, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    d->memory = memory;
    d->controller[0].dma = d->controller[1].dma = d;
    i8237_reset(d);
}

void i8237_destroy(struct i8237 *d)
{
    pthread_mutex_destroy(&d->lock);
}

static int loaded(void *obj, struct error *err)
{
    struct i8237 *d = obj;

    for (u32 i = 0; i < 2; i++) {
        d->controller[i].mask &= 0xf;
        d->controller[i].status &= 0xf;
        d->controller[i].request &= 0xf;
    }
    return 0;
}

static const struct state_field channel_fields[] = {
    STATE_FIELD(struct i8237_channel, address, 1),      STATE_FIELD(struct i8237_channel, count, 1),
    STATE_FIELD(struct i8237_channel, base_address, 1), STATE_FIELD(struct i8237_channel, base_count, 1),
    STATE_FIELD(struct i8237_channel, mode, 1),         STATE_END,
};
static const struct state_field controller_fields[] = {
    STATE_STRUCTS(struct i8237_controller, channel, 1, channel_fields),
    STATE_FIELD(struct i8237_controller, command, 1),
    STATE_FIELD(struct i8237_controller, status, 1),
    STATE_FIELD(struct i8237_controller, request, 1),
    STATE_FIELD(struct i8237_controller, mask, 1),
    STATE_FIELD(struct i8237_controller, high, 1),
    STATE_END,
};
static const struct state_field fields[] = {
    STATE_STRUCTS(struct i8237, controller, 1, controller_fields),
    STATE_ARRAY(struct i8237, page, 1),
    STATE_END,
};
const struct state_desc i8237_state = { "i8237", 1, fields, NULL, loaded };
