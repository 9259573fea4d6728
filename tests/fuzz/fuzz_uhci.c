/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_uhci.c - the USB controller and its tablet against a hostile driver: 32 operations of 4 bytes, then memory.
 *
 *   0-2 a register is written; 3 read; 4 time passes; 5 the pointer moves; 6 saved and loaded; 7 memory changes
 */
#include "../unit/card_rig.h"
#include "devices/uhci.h"
#include "fuzz.h"

void test_fail(const char *file, int line, const char *fmt, ...) { abort(); }

enum { MEMORY = 0x1000, OPERATIONS = 32 };

static struct uhci u;

/* What it is plugged into. */
static const struct chardev_user *source;
void chardev_attach(struct chardev *c, const struct chardev_user *user, void *dev) { source = user; }
void input_plug(struct input *in, struct input_sink *s) {}
void input_unplug(struct input *in, struct input_sink *s) {}

static void again(void)
{
    struct state_buf one = { 0 };

    if (state_save(rig.state, &one, NULL))
        abort();
    rig_close();
    uhci_destroy(&u);
    rig_open();
    if (uhci_init(&u, rig.m, NULL, NULL, (struct chardev *)&rig, rig.pci, 1, 2, rig.state, NULL) ||
        state_load(rig.state, one.data, one.len, NULL))
        abort();
    pci_remap(rig.pci);
    state_buf_free(&one);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t first = MIN(size, (size_t)OPERATIONS * 4);

    rig_open();
    memset(rig_at(0, MEMORY), 0, MEMORY);
    memcpy(rig_at(0, MEMORY), data + first, MIN(size - first, (size_t)MEMORY));
    if (uhci_init(&u, rig.m, NULL, NULL, (struct chardev *)&rig, rig.pci, 1, 2, rig.state, NULL))
        abort();
    rig_start(&u.f);
    const u64 io = u.f.bar[4].at;
    bus_write(rig.ports, io + 16, 2, 0x200), bus_write(rig.ports, io + 16, 2, 4);
    bus_write(rig.ports, io + 4, 2, 15);
    bus_write(rig.ports, io, 2, 1);
    for (size_t i = 0; i + 4 <= first; i += 4) {
        const u8 *o = data + i;
        const u32 half = (u32)o[2] | (u32)o[3] << 8;
        switch (o[0] & 7) {
        case 3: bus_read(rig.ports, io + o[1] % 32, 1u << (o[2] & 1)); break;
        case 4: fake_advance(half * 2000ull); break;
        case 5:
            uhci_event(&u, half, o[1], (s8)o[1], o[0] >> 3);
            source->receive(&u, o, MIN(o[1], size - i));
            break;
        case 6: again(); break;
        case 7: *(u8 *)rig_at(half % MEMORY, 1) = o[1]; break;
        default: bus_write(rig.ports, io + (o[0] & 7 ? o[1] % 20 : 0), 2, o[0] & 7 ? half : 1); break;
        }
    }
    fake_advance(10000000);
    rig_close();
    uhci_destroy(&u);
    return 0;
}

/* All of the frame list is zero: frame 0's TD at 0. Beginning with a SETUP for the tablet, and what comes after it. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const u64 request[] = { 0x12000001000680, 0x70500, 0x10900, 0xc8000022000681, 0x60000010001a1 };
    struct { u32 link, control, token, buffer; } td[4];

    if (i >= ARRAY_SIZE(request) || cap < OPERATIONS * 4 + MEMORY)
        return 0;
    memset(buf, 0, OPERATIONS * 4 + MEMORY);
    for (u32 k = 0; k < OPERATIONS; k++)
        buf[4 * k] = (u8)(k % 3 ? 4 : 5), buf[4 * k + 3] = 4, buf[4 * k + 1] = (u8)k;
    for (u32 k = 0; k < 4; k++)
        td[k].link = 0x810 + 16 * k, td[k].control = 0x1f800000 | (k & 1 ? 1u << 29 : 0), td[k].buffer = 0xc00 + 64 * k,
        td[k].token = 7u << 21 | (k ? 0x69 : 0x2d) | (k == 3 ? 1u << 15 : 0);
    td[3].link = 1;
    u8 *memory = buf + OPERATIONS * 4;
    for (u32 k = 0; k < 512; k++)
        memory[4 * k + 1] = 8; /* 800h */
    memcpy(memory + 0x800, td, sizeof(td));
    memcpy(memory + 0xc00, &request[i], 8);
    return OPERATIONS * 4 + MEMORY;
}
