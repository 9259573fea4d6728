/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_compress.c - reads compressed clusters; nothing here writes them.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

void compressed_extent(const struct qcow2 *q, u64 entry, u64 *offset, u64 *len)
{
    u32 x = 62 - (q->cluster_bits - 8);
    u64 at = entry & (BIT(x) - 1) & (BIT(56) - 1), sectors = ((entry & (BIT(62) - 1)) >> x) + 1;

    *offset = at;
    *len = sectors * 512 - (at & 511);
}

/* The input is a raw deflate stream with a window of 4 KiB; the stream may end before the input does. */
static int unpack_zlib(const u8 *in, u64 len, u8 *out, u32 size)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)len, .next_out = out, .avail_out = size };

    if (inflateInit2(&z, -12) != Z_OK)
        return -ENOMEM;
    int r = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (r == Z_STREAM_END || r == Z_BUF_ERROR) && !z.avail_out ? 0 : -EIO;
}

static int unpack_zstd(const u8 *in, u64 len, u8 *out, u32 size)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    ZSTD_inBuffer from = { in, len, 0 };
    ZSTD_outBuffer to = { out, size, 0 };
    size_t r = 1, before;

    if (!z)
        return -ENOMEM;
    do {
        before = from.pos + to.pos;
        r = ZSTD_decompressStream(z, &to, &from);
    } while (r && !ZSTD_isError(r) && to.pos < size && from.pos + to.pos > before);
    ZSTD_freeDCtx(z);
    return !ZSTD_isError(r) && to.pos == size ? 0 : -EIO;
}

int qcow2_unpack(struct qcow2 *q, u64 entry, u8 *out)
{
    u64 offset, len;

    compressed_extent(q, entry, &offset, &len);
    u8 *in = malloc(len); /* two clusters and a sector at most */
    if (!in)
        return -ENOMEM;
    int r = file_pread(q->file, offset, in, len);
    if (!r)
        r = (q->compression ? unpack_zstd : unpack_zlib)(in, len, out, q->cluster_size);
    free(in);
    return r;
}
