/* SPDX-License-Identifier: Apache-2.0 */
/* pflash.c - see pflash.h. */
#include "devices/pflash.h"

#include <errno.h>
#include <string.h>

enum { /* commands */
    ARRAY = 0xff, PROGRAM = 0x10, PROGRAM_2 = 0x40, ERASE = 0x20, CLEAR_STATUS = 0x50, LOCK = 0x60, READ_STATUS = 0x70,
    READ_ID = 0x90, CFI_QUERY = 0x98, SUSPEND = 0xb0, CONFIRM = 0xd0, WRITE_BUFFER = 0xe8,
};
enum { READY = 0x80, ERASE_ERROR = 0x20, PROGRAM_ERROR = 0x10 }; /* status */
enum { INTEL = 0x89, DEVICE = 0x18 };

/* Contents are seen as memory in read array mode, and nowhere in any other. The lock is held, or no vCPU runs. */
static void show(struct pflash *p)
{
    struct memory_region r;
    const bool shown = memory_lookup(p->memory, p->gpa, &r) && r.place == p->piece->place;

    if (p->command == ARRAY && !shown)
        (void)!memory_map(p->memory, p->gpa, p->size, p->piece, 0, true); /* if that fails, reads come here */
    else if (p->command != ARRAY && shown)
        memory_unmap(p->memory, p->gpa);
}

/* ---- the array ------------------------------------------------------------ */

static void changed(struct pflash *p, u32 at, u32 len, u8 error)
{
    memory_place_written(p->memory, p->piece->place + at, len);
    p->status |= READY;
    if (p->store && p->store(p->ctx, at, p->piece->host + at, len))
        p->status |= error;
}

/* Programming makes ones to zeroes, and never the reverse. */
static void program(struct pflash *p, u32 at, const u8 *data, u32 len)
{
    len = MIN(len, p->size - at);
    for (u32 i = 0; i < len; i++)
        p->piece->host[at + i] &= data[i];
    changed(p, at, len, PROGRAM_ERROR);
}

static void erase(struct pflash *p, u32 at)
{
    at = (u32)align_down(at, PFLASH_BLOCK);
    memset(p->piece->host + at, 0xff, PFLASH_BLOCK);
    changed(p, at, PFLASH_BLOCK, ERASE_ERROR);
}

/* ---- what it reads as ------------------------------------------------------- */

/* CFI query (JESD68.01 ch. 4): what there is at a word's address. One region of blocks. */
static u8 query(const struct pflash *p, u32 at)
{
    const u32 blocks = p->size / PFLASH_BLOCK - 1;
    const u8 table[] = { /* from 10h on */
        'Q', 'R', 'Y', 1, 0, 0x31, 0, 0, 0, 0, 0,          /* command set 1, its own table at 31h; no alternative */
        0x45, 0x55, 0, 0, 7, 7, 10, 0, 4, 4, 4, 0,         /* 4.5 to 5.5 V; 128 us a byte and a buffer, 1 ms an erase; limits */
        (u8)(31 - __builtin_clz(p->size | 1)), 0, 0, 6, 0, /* size, 8 bits wide, 64 bytes a buffer */
        1, (u8)blocks, (u8)(blocks >> 8), PFLASH_BLOCK >> 8 & 0xff, PFLASH_BLOCK >> 16,
        'P', 'R', 'I', '1', '0', 0, 0, 0, 0, 0, 0, 0, 0, 0,
    };
    return at >= 0x10 && at - 0x10 < sizeof table ? table[at - 0x10] : 0;
}

static u8 read_byte(const struct pflash *p, u32 at)
{
    switch (p->command) {
    case ARRAY:
        return p->piece->host[at];
    case READ_ID:
        return at % PFLASH_BLOCK == 0 ? INTEL : at % PFLASH_BLOCK == 1 ? DEVICE : 0; /* no block is locked */
    case CFI_QUERY:
        return query(p, at & 0xff);
    default:
        return p->status;
    }
}

static u64 pflash_read(void *dev, u64 offset, unsigned size)
{
    struct pflash *p = dev;
    u64 v = 0;

    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < size; i++)
        v |= (u64)read_byte(p, (u32)offset + i) << i * 8;
    pthread_mutex_unlock(&p->lock);
    return v;
}

/* ---- commands --------------------------------------------------------------- */

static void first_cycle(struct pflash *p, u8 command)
{
    switch (command) {
    case PROGRAM: case PROGRAM_2: case ERASE: case LOCK:
        p->command = command;
        p->confirming = true;
        break;
    case WRITE_BUFFER:
        p->command = command;
        p->confirming = true;
        p->left = p->count = 0;
        p->status |= READY;
        break;
    case CLEAR_STATUS:
        p->status = 0;
        p->command = ARRAY;
        break;
    case READ_STATUS: case READ_ID: case CFI_QUERY:
        p->command = command;
        break;
    case SUSPEND: case CONFIRM: /* nothing is ever under way */
        p->command = READ_STATUS;
        break;
    default:
        p->command = ARRAY;
        break;
    }
}

/* Write to buffer: after the command a count less one, then so many bytes near one address, then CONFIRM. */
static void buffer_cycle(struct pflash *p, u32 at, const u8 *data, u32 len)
{
    if (!p->count) {
        p->count = MIN(data[0] + 1u, (u32)PFLASH_BUFFER);
        p->left = p->count;
        p->start = p->size;
        memset(p->buffer, 0xff, sizeof p->buffer);
        return;
    }
    if (!p->left) {
        if (data[0] == CONFIRM && p->start < p->size)
            program(p, p->start, p->buffer, PFLASH_BUFFER);
        p->command = data[0] == CONFIRM ? READ_STATUS : ARRAY;
        p->confirming = false;
        return;
    }
    if (p->start == p->size)
        p->start = (u32)align_down(at, PFLASH_BUFFER); /* a buffer is a line of the array: bytes outside wrap in it */
    for (u32 i = 0; i < len && p->left; i++, p->left--)
        p->buffer[(at + i) % PFLASH_BUFFER] = data[i];
}

static void second_cycle(struct pflash *p, u32 at, const u8 *data, u32 len)
{
    if (p->command == WRITE_BUFFER) {
        buffer_cycle(p, at, data, len);
        return;
    }
    p->confirming = false;
    if (p->command == PROGRAM || p->command == PROGRAM_2)
        program(p, at, data, len);
    else if (p->command == ERASE && data[0] == CONFIRM)
        erase(p, at);
    else if (p->command == ERASE)
        p->status |= READY | ERASE_ERROR | PROGRAM_ERROR; /* a wrong sequence sets both */
    else
        p->status |= READY; /* LOCK: blocks are never locked */
    p->command = READ_STATUS;
}

static void pflash_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct pflash *p = dev;
    u8 data[8];

    memcpy(data, &value, sizeof data);
    pthread_mutex_lock(&p->lock);
    if (p->confirming)
        second_cycle(p, (u32)offset, data, size);
    else
        first_cycle(p, data[0]);
    show(p);
    pthread_mutex_unlock(&p->lock);
}

const struct bus_ops pflash_ops = { .read = pflash_read, .write = pflash_write, .min_size = 1, .max_size = 8 };

/* ---- life -------------------------------------------------------------------- */

void pflash_reset(struct pflash *p)
{
    pthread_mutex_lock(&p->lock);
    p->command = ARRAY;
    p->status = READY;
    p->confirming = false;
    p->left = p->count = p->start = 0;
    show(p);
    pthread_mutex_unlock(&p->lock);
}

int pflash_init(struct pflash *p, struct memory *m, u64 gpa, const void *contents, u32 size,
                int (*store)(void *ctx, u32 offset, const void *data, u32 len), void *ctx, struct error *err)
{
    memset(p, 0, sizeof *p);
    int rc = memory_piece(m, &p->piece, "flash", size, true, err);
    if (rc)
        return rc;
    memcpy(p->piece->host, contents, size);
    pthread_mutex_init(&p->lock, NULL);
    p->memory = m;
    p->gpa = gpa;
    p->size = size;
    p->store = store;
    p->ctx = ctx;
    pflash_reset(p);
    return 0;
}

void pflash_destroy(struct pflash *p)
{
    pthread_mutex_destroy(&p->lock);
}

/* From now on the file holds what the snapshot held. */
static int loaded(void *obj, struct error *err)
{
    struct pflash *p = obj;

    p->count = MIN(p->count, (u32)PFLASH_BUFFER);
    p->left = MIN(p->left, p->count);
    p->start = p->start > p->size ? p->size : (u32)align_down(p->start, PFLASH_BUFFER);
    show(p);
    return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct pflash, command, 1), STATE_FIELD(struct pflash, status, 1),
    STATE_FIELD(struct pflash, confirming, 1), STATE_FIELD(struct pflash, left, 1),
    STATE_FIELD(struct pflash, start, 1), STATE_FIELD(struct pflash, count, 1),
    STATE_ARRAY(struct pflash, buffer, 1),
    STATE_END,
};
const struct state_desc pflash_state = { "pflash", 1, fields, NULL, loaded };
