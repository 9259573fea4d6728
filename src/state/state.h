/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - the state of a device. A table declares it once, and saving, loading, dumping, comparing and fuzzing use it.
 *
 *   static const struct state_field uart_fields[] = {
 *       STATE_FIELD(struct uart, ier, 1), STATE_FIELD(struct uart, fifo, 1), ... STATE_END };
 *   const struct state_desc uart_state = { "uart16550", 1, uart_fields, .post_load = uart_loaded };
 *
 * STATE_FIELD takes one scalar (bool, u8 to u64, s32, s64), STATE_ARRAY an array of scalars. The size of an element comes
 * from its type. STATE_STRUCT and STATE_STRUCTS nest structs that have fields of their own.
 *
 * The stream begins with a header (magic number, version of the format, number of records). Then come the records (tag,
 * instance, version, length), and in each record its fields (name, element size, count, little-endian data). A record or
 * field that the reader does not know is an error, unless it is marked optional. A field that is missing because its `since`
 * is newer than the record's version keeps its reset value. All lengths are checked, because a stream may be hostile.
 */
#ifndef LODGE_STATE_STATE_H
#define LODGE_STATE_STATE_H

#include <stdio.h>

#include "base/base.h"
#include "base/error.h"

struct state_field {
    const char *name;
    u32 offset;
    u16 elem;  /* element size in bytes: 1, 2, 4, 8; for a nested struct its size */
    u16 since; /* the record version that introduced it */
    u32 count; /* elements */
    const struct state_field *nested; /* the fields of the nested struct; NULL: scalars */
    bool boolean; /* the elements are bool: a loaded one must be 0 or 1 */
};

struct state_desc {
    const char *name; /* at most 31 characters */
    u16 version;
    const struct state_field *fields;
    /* pre_save is called before saving: it fetches state from KVM, makes deadlines relative to now, and so on. post_load is
       called after loading: it checks the state (-EINVAL with a sentence), starts timers, and computes what is derived from
       it. Both are called while no vCPU runs. They may be NULL. */
    int (*pre_save)(void *obj);
    int (*post_load)(void *obj, struct error *err);
    /* pre_save is called after that of the others. Interrupt controllers set this, since the pre_save of a device may find
       that an interrupt is due, and raise it. */
    bool pre_save_last;
};

#define STATE_BOOLEAN_(x) _Generic((x), bool: true, default: false)
#define STATE_FIELD(type, f, since_) \
    { #f, offsetof(type, f), sizeof(((type *)0)->f), since_, 1, NULL, STATE_BOOLEAN_(((type *)0)->f) }
#define STATE_ARRAY(type, f, since_) \
    { #f, offsetof(type, f), sizeof(((type *)0)->f[0]), since_, ARRAY_SIZE(((type *)0)->f), NULL, \
      STATE_BOOLEAN_(((type *)0)->f[0]) }
#define STATE_STRUCTS(type, f, since_, fields_) \
    { #f, offsetof(type, f), sizeof(((type *)0)->f[0]), since_, ARRAY_SIZE(((type *)0)->f), fields_, false }
#define STATE_STRUCT(type, f, since_, fields_) \
    { #f, offsetof(type, f), sizeof(((type *)0)->f), since_, 1, fields_, false }
#define STATE_END { NULL, 0, 0, 0, 0, NULL, false }

/* The list of all objects of a VM that have state, in the order in which they were added. */
struct state_list;
struct state_list *state_list_new(void);
void state_list_free(struct state_list *l);
int must_check state_add(struct state_list *l, const struct state_desc *d, u32 instance, void *obj);

/* A growing buffer that holds a stream. */
struct state_buf {
    u8 *data;
    size_t len, cap;
};
void state_buf_free(struct state_buf *b);

int must_check state_save(const struct state_list *l, struct state_buf *out, struct error *err);
/* Loads all objects, or returns an error. After an error some may be loaded and others not: reset or discard them. */
int must_check state_load(const struct state_list *l, const void *data, size_t len, struct error *err);
/* Text: "uart16550.0.ier = 0x5", one field a line. */
void state_dump(const struct state_list *l, FILE *out);

#endif
