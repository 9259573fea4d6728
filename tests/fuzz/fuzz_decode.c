/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_decode.c - the decoder against any bytes: it reads no byte that was not given, and what it says does not depend
 * on bytes behind the instruction. The first byte of the input chooses the mode.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "engine/soft/decode.h"

static void must(bool x)
{
    if (!x)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned modes[4] = {16, 32, 64, 16};
    if (size < 2)
        return 0;
    unsigned bits = modes[data[0] & 3], avail = size - 1 > 20 ? 20 : (unsigned)size - 1;
    bool protected_mode = (data[0] & 3) != 3;
    struct decoded d, e;

    u8 *exact = malloc(avail); /* for the sanitizers: nothing behind it */
    must(exact != NULL);
    memcpy(exact, data + 1, avail);
    enum decode_result r = decode(&d, exact, avail, bits, protected_mode);
    free(exact);

    must(r == DECODE_OK || r == DECODE_MORE || r == DECODE_UD || r == DECODE_TOO_LONG);
    must(d.len <= 15 && d.len <= avail);
    if (r == DECODE_MORE)
        must(avail < 15);
    if (r != DECODE_OK)
        return 0;
    must(d.len > 0 && d.desc && d.desc->mnemonic && d.desc->mnemonic < MNEMONIC_COUNT && d.desc->feature < ISA_COUNT);
    must(memcmp(d.bytes, data + 1, d.len) == 0);
    must(d.osize == 2 || d.osize == 4 || d.osize == 8);
    must(d.asize == 2 || d.asize == 4 || d.asize == 8);
    must(d.reg < 32 && d.rm < 32 && d.seg < 6 && (d.base < 16 || d.base == 0xff) && (d.index < 32 || d.index == 0xff));
    must(!d.lock || d.has_mem);
    must(d.opcode_off < d.len && d.modrm_off < d.len && d.disp_off < d.len && d.imm_off < d.len);

    u8 other[32];
    memset(other, 0xcc, sizeof(other));
    memcpy(other, data + 1, d.len);
    must(decode(&e, other, sizeof(other), bits, protected_mode) == DECODE_OK && memcmp(&d, &e, sizeof(d)) == 0);
    must(decode(&e, other, d.len, bits, protected_mode) == DECODE_OK && memcmp(&d, &e, sizeof(d)) == 0);
    for (unsigned n = 0; n < d.len; n++)
        must(decode(&e, other, n, bits, protected_mode) == DECODE_MORE);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const uint8_t seeds[][16] = {
        {2, 0x48, 0x8b, 0x44, 0x24, 0x08}, {2, 0xc4, 0xe2, 0x7d, 0x92, 0x04, 0x0d, 1, 2, 3, 4},
        {2, 0x62, 0xf1, 0x7c, 0x59, 0x58, 0x40, 0x01}, {1, 0x67, 0x66, 0x81, 0x46, 0x10, 1, 2}, {0, 0x9a, 1, 2, 3, 4},
        {1, 0xc8, 1, 2, 3}, {2, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, {2, 0xf0, 0x48, 0x0f, 0xc7, 0x0e}, {3, 0xf3, 0xa5},
        {2, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8}, {2, 0x66, 0x0f, 0x3a, 0x0f, 0x05, 1, 2, 3, 4, 5}, {2, 0xdd, 0x06},
    };
    if (i >= sizeof(seeds) / sizeof(seeds[0]) || cap < 16)
        return 0;
    memcpy(buf, seeds[i], 16);
    return 16;
}
