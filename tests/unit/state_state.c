/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state_state.c - what is saved comes back; what is damaged, foreign or newer is refused with a sentence.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "state/state.h"

struct channel {
    u16 count;
    bool gate;
};

struct chip {
    u8 a;
    u16 b;
    u32 c;
    u64 d;
    s32 e;
    s64 f;
    bool on;
    u8 not_saved;
    u32 regs[5];
    bool flags[3];
    struct channel channel[3];
    struct channel one;
    u32 young; /* since version 2 */
    int loads;
};

static const struct state_field channel_fields[] = { STATE_FIELD(struct channel, count, 1),
                                                     STATE_FIELD(struct channel, gate, 1), STATE_END };
#define CHIP_FIELDS                                                                                            \
    STATE_FIELD(struct chip, a, 1), STATE_FIELD(struct chip, b, 1), STATE_FIELD(struct chip, c, 1),            \
        STATE_FIELD(struct chip, d, 1), STATE_FIELD(struct chip, e, 1), STATE_FIELD(struct chip, f, 1),        \
        STATE_FIELD(struct chip, on, 1), STATE_ARRAY(struct chip, regs, 1), STATE_ARRAY(struct chip, flags, 1), \
        STATE_STRUCTS(struct chip, channel, 1, channel_fields), STATE_STRUCT(struct chip, one, 1, channel_fields)

static const struct state_field fields_v1[] = { CHIP_FIELDS, STATE_END };
static const struct state_field fields_v2[] = { CHIP_FIELDS, STATE_FIELD(struct chip, young, 2), STATE_END };

static int loaded(void *obj, struct error *err)
{
    struct chip *c = obj;

    c->loads++;
    return c->a == 0xff ? error_set(err, EINVAL, "a cannot be 0xff") : 0;
}

static const struct state_desc chip_v1 = { "chip", 1, fields_v1, NULL, loaded };
static const struct state_desc chip_v2 = { "chip", 2, fields_v2, NULL, loaded };
static const struct state_desc other = { "other", 1, channel_fields, NULL, NULL };

static struct chip sample(void)
{
    return (struct chip){ .a = 1, .b = 0x1234, .c = 0xdeadbeef, .d = 0x0123456789abcdef, .e = -2, .f = INT64_MIN,
                          .on = true, .not_saved = 9, .regs = { 1, 2, 3, 4, 0xffffffff }, .flags = { true, false, true },
                          .channel = { { 1, true }, { 2, false }, { 65535, true } }, .one = { 7, true }, .young = 77 };
}

static struct state_list *list(const struct state_desc *d, struct chip *c)
{
    struct state_list *l = state_list_new();

    CHECK_EQ(state_add(l, d, 0, c), 0);
    return l;
}

static struct state_buf saved(const struct state_desc *d)
{
    struct chip c = sample();
    struct state_list *l = list(d, &c);
    struct state_buf b = { 0 };

    CHECK_EQ(state_save(l, &b, NULL), 0);
    state_list_free(l);
    return b;
}

static int load(const struct state_desc *d, const void *data, size_t len, struct chip *c, struct error *err)
{
    struct state_list *l = list(d, c);
    int r = state_load(l, data, len, err);

    state_list_free(l);
    return r;
}

TEST(round_trip)
{
    struct state_buf b = saved(&chip_v2), again = { 0 };
    struct chip c = { .not_saved = 3 }, want = sample();
    struct error err;

    CHECK_EQ(load(&chip_v2, b.data, b.len, &c, &err), 0);
    CHECK_EQ(c.not_saved, 3);
    CHECK_EQ(c.loads, 1);
    CHECK(c.a == want.a && c.b == want.b && c.c == want.c && c.d == want.d && c.e == want.e && c.f == want.f);
    CHECK(c.on && c.young == 77 && !memcmp(c.regs, want.regs, sizeof(c.regs)));
    CHECK(c.flags[0] && !c.flags[1] && c.flags[2]);
    CHECK(c.channel[2].count == 65535 && !c.channel[1].gate && c.one.count == 7);

    struct state_list *l = list(&chip_v2, &c);
    CHECK_EQ(state_save(l, &again, NULL), 0);
    CHECK(again.len == b.len && !memcmp(again.data, b.data, b.len));
    state_list_free(l);
    state_buf_free(&again);
    state_buf_free(&b);
}

TEST(versions)
{
    struct state_buf old = saved(&chip_v1), new = saved(&chip_v2);
    struct chip c = { .young = 5 };
    struct error err;

    CHECK_EQ(load(&chip_v2, old.data, old.len, &c, &err), 0);
    CHECK_EQ(c.young, 5); /* not in the old stream: keeps its reset value */
    CHECK_EQ(load(&chip_v1, new.data, new.len, &c, &err), -EINVAL);
    CHECK(strstr(err.text, "newer"));
    state_buf_free(&old);
    state_buf_free(&new);
}

TEST(another_machine)
{
    struct state_buf b = saved(&chip_v1);
    struct chip c = { 0 };
    struct channel ch;
    struct state_list *l = list(&chip_v1, &c);
    struct error err;

    CHECK_EQ(state_add(l, &other, 3, &ch), 0);
    CHECK_EQ(state_add(l, &other, 3, &ch), -EEXIST);
    CHECK_EQ(state_load(l, b.data, b.len, &err), -EINVAL);
    CHECK(strstr(err.text, "lacks other.3"));
    state_list_free(l);

    l = state_list_new();
    CHECK_EQ(state_load(l, b.data, b.len, &err), -EINVAL);
    CHECK(strstr(err.text, "chip.0"));
    state_list_free(l);
    state_buf_free(&b);
}

TEST(bad_tables)
{
    static const struct state_field odd[] = { { "x", 0, 3, 1, 1, NULL, false }, STATE_END };
    static const struct state_desc odd_desc = { "odd", 1, odd, NULL, NULL };
    static const struct state_desc long_name = { "a-name-of-more-than-31-characters", 1, channel_fields, NULL, NULL };
    struct state_list *l = state_list_new();
    u8 obj[8];

    CHECK_EQ(state_add(l, &odd_desc, 0, obj), -EINVAL);
    CHECK_EQ(state_add(l, &long_name, 0, obj), -EINVAL);
    state_list_free(l);
}

/* From a copy of exactly this length, so that a sanitizer sees a read past the end. */
static int load_copy(const u8 *data, size_t len, struct error *err)
{
    struct chip c = { 0 };
    u8 *copy = malloc(len + !len);

    memcpy(copy, data, len);
    int r = load(&chip_v2, copy, len, &c, err);
    free(copy);
    return r;
}

TEST(every_truncation_is_refused)
{
    struct state_buf b = saved(&chip_v2);

    for (size_t n = 0; n < b.len; n++) {
        struct error err = { "" };
        CHECK_EQ(load_copy(b.data, n, &err), -EINVAL);
        CHECK(err.text[0]);
    }
    state_buf_free(&b);
}

TEST(every_flipped_bit_is_survived)
{
    struct state_buf b = saved(&chip_v2);

    for (size_t i = 0; i < b.len * 8; i++) {
        struct error err = { "" };
        b.data[i / 8] ^= (u8)(1 << i % 8);
        int r = load_copy(b.data, b.len, &err);
        CHECK(r == 0 || (r == -EINVAL && err.text[0])); /* a flipped value is a value */
        b.data[i / 8] ^= (u8)(1 << i % 8);
    }
    state_buf_free(&b);
}

TEST(booleans_are_checked)
{
    struct state_buf b = saved(&chip_v2);
    struct error err;
    u8 *at = memmem(b.data, b.len, "\2on", 3);

    REQUIRE(at);
    at[3 + 12] = 2; /* behind kind, flags, size, count, length */
    CHECK_EQ(load_copy(b.data, b.len, &err), -EINVAL);
    CHECK(strstr(err.text, "chip.0.on"));
    state_buf_free(&b);
}

TEST(post_load_may_refuse)
{
    struct state_buf b = saved(&chip_v2);
    struct error err;
    u8 *at = memmem(b.data, b.len, "\1a", 2);

    REQUIRE(at);
    at[2 + 12] = 0xff;
    CHECK_EQ(load_copy(b.data, b.len, &err), -EINVAL);
    CHECK_STR(err.text, "a cannot be 0xff");
    state_buf_free(&b);
}

/* A device that finds an interrupt due as it is saved; the controller, wherever it is in the list, must have it. */
static struct channel raised, latched;

static int raises(void *obj)
{
    raised.count = 7;
    return 0;
}

static int latches(void *obj)
{
    latched.count = raised.count;
    return 0;
}

TEST(controllers_are_saved_last)
{
    static const struct state_desc device = { "device", 1, channel_fields, raises, NULL };
    static const struct state_desc controller = { "controller", 1, channel_fields, latches, NULL, true };
    static struct channel dev;

    for (int first = 0; first < 2; first++) {
        struct state_list *l = state_list_new();
        struct state_buf buf = { 0 };
        struct error err;
        raised.count = latched.count = 0;
        CHECK_EQ(state_add(l, first ? &controller : &device, 0, first ? &latched : &dev), 0);
        CHECK_EQ(state_add(l, first ? &device : &controller, 0, first ? &dev : &latched), 0);
        CHECK_EQ(state_save(l, &buf, &err), 0);
        latched.count = 0;
        CHECK_EQ(state_load(l, buf.data, buf.len, &err), 0);
        CHECK_EQ(latched.count, 7);
        state_buf_free(&buf);
        state_list_free(l);
    }
}

TEST(optional_records_are_skipped)
{
    struct state_buf b = saved(&chip_v2);
    struct error err;
    static const u8 extra[] = "\3new\0\0\0\0\1\0\1\2\0\0\0zz"; /* name, instance, version, flags, length, data */

    b.data = realloc(b.data, b.len + sizeof(extra));
    memcpy(b.data + b.len, extra, sizeof(extra) - 1);
    b.len += sizeof(extra) - 1;
    b.data[12] = 2; /* records */
    CHECK_EQ(load_copy(b.data, b.len, &err), 0);
    b.data[b.len - 7] = 0; /* its flags */
    CHECK_EQ(load_copy(b.data, b.len, &err), -EINVAL);
    CHECK(strstr(err.text, "new.0"));
    state_buf_free(&b);
}

TEST(dump_names_everything)
{
    struct chip c = sample();
    struct state_list *l = list(&chip_v2, &c);
    char *text;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    state_dump(l, f);
    fclose(f);
    CHECK(strstr(text, "chip.0.b = 0x1234\n"));
    CHECK(strstr(text, "chip.0.regs = 0x1 0x2 0x3 0x4 0xffffffff\n"));
    CHECK(strstr(text, "chip.0.channel[2].count = 0xffff\n"));
    CHECK(strstr(text, "chip.0.one.gate = 0x1\n"));
    free(text);
    state_list_free(l);
}
