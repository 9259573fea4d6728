/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_model_image.c - the image of a case and its backing file: made by us or by qemu-img, opened, read. */
#include "qcow2_model.h"

#include <errno.h>
#include <stdlib.h>

enum { BASE_TAG = 0x40000000 };

struct block top;
struct file *disk;
u8 *scratch;
u32 cluster;
bool v2;
u32 *base_tags;
u64 base_size;

static struct block base;
static char base_name[64];

static int base_read(struct block *b, u64 offset, void *buf, u64 len)
{
    for (u64 done = 0, n; done < len; done += n) {
        u8 sector[SECTOR];
        u64 at = offset + done;
        n = MIN(SECTOR - at % SECTOR, len - done);
        pattern(sector, base_tags[at / SECTOR], at / SECTOR);
        memcpy((u8 *)buf + done, sector + at % SECTOR, n);
    }
    return 0;
}

static const struct block_driver base_driver = { .name = "raw", .read = base_read };

int block_open_backing(struct block *b, const char *name, const char *format, struct error *err)
{
    base = (struct block){ .driver = &base_driver, .size = base_size, .overlay = b, .readonly = true };
    base.path = base_name;
    if (!strstr(name, "base.raw"))
        die("the backing file's name is \"%s\"", name);
    b->backing = &base;
    return 0;
}

int open_top(struct error *err)
{
    top = (struct block){ .driver = &block_qcow2, .file = disk, .discard = true };
    top.path = (char *)(uintptr_t)"simulated";
    snprintf(err->text, sizeof(err->text), "?");
    return block_qcow2.open(&top, err);
}

void read_sectors(struct block *b, u64 sector, u64 n, u8 *buf)
{
    int r = b->driver->read(b, sector * SECTOR, buf, n * SECTOR);
    if (r && !disk->cut)
        die("reading sector %llu: %s", (unsigned long long)sector, strerror(-r));
}

static const u32 cluster_sizes[] = { 512, 512, 1024, 2048, 4096, 4096, 16384, 65536 };

static void make_base(void)
{
    base_size = 0;
    memset(base_tags, 0, SECTORS * sizeof(*base_tags));
    base_name[0] = 0;
    if (one_in(2))
        return;
    base_size = (1 + below(SECTORS / 4)) * SECTOR;
    snprintf(base_name, sizeof(base_name), "base.raw");
    for (u64 i = 0; i < base_size / SECTOR; i++)
        base_tags[i] = one_in(4) ? 0 : BASE_TAG + 1;
    for (u64 i = 0; i < base_size / SECTOR; i++)
        pattern(scratch + i * SECTOR, base_tags[i], i);
    save_file("base.raw", scratch, base_size);
}

/* Content of its own for the new image, in tags; scratch holds it. */
static void fill_image(u64 size)
{
    for (u64 i = 0; i < size / SECTOR; i++) {
        u32 tag = one_in(8) ? BASE_TAG + 2 : 0;
        if (i % (cluster / SECTOR) && one_in(4) == 0)
            tag = tag_of(scratch + (i - 1) * SECTOR, i - 1); /* runs */
        pattern(scratch + i * SECTOR, tag, i);
        set_sector(i, tag);
    }
}

static void snapshot_by_qemu(const char *image, u64 size)
{
    snprintf(snapshot_names[0], sizeof(snapshot_names[0]), "q");
    if (run_program((const char *[]){ "qemu-img", "snapshot", "-c", "q", image, NULL }, false))
        die("qemu-img snapshot fails");
    tags[0] = calloc(SECTORS, 4);
    for (u64 i = 0; i < SECTORS; i++)
        tags[0][i] = model[i].w[0].tag;
    tags_size[0] = size;
    nsnapshots = 1;
}

/* What qemu-img converts. */
static void make_image_by_qemu(u64 size)
{
    char raw[128], out[128], options[128], backing[128];
    static const u32 bits[] = { 1, 2, 4, 8, 16, 32, 64 };
    u32 refcount_bits = v2 ? 16 : bits[below(7)];
    bool compress = one_in(3), zstd = compress && !v2 && cluster >= 4096 && one_in(2);
    const char *args[20] = { "qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-o", options };
    u32 n = 9;

    fill_image(size);
    save_file("new.raw", scratch, size);
    snprintf(options, sizeof(options), "cluster_size=%u,compat=%s%s%s", cluster, v2 ? "0.10" : "1.1",
             v2 ? "" : one_in(4) ? ",lazy_refcounts=on" : "", zstd ? ",compression_type=zstd" : "");
    if (!v2)
        snprintf(options + strlen(options), sizeof(options) - strlen(options), ",refcount_bits=%u", refcount_bits);
    if (compress)
        args[n++] = "-c";
    else if (one_in(4) && !base_size)
        snprintf(options + strlen(options), sizeof(options) - strlen(options), ",preallocation=metadata");
    if (base_size) {
        args[n++] = "-B";
        args[n++] = in_dir("base.raw", backing);
        args[n++] = "-F";
        args[n++] = "raw";
    }
    args[n++] = in_dir("new.raw", raw);
    args[n++] = in_dir("new.qcow2", out);
    if (run_program(args, false))
        die("qemu-img convert -o %s fails", options);
    if (refcount_bits >= (compress ? 16 : 2) && one_in(2))
        snapshot_by_qemu(out, size);
    disk_load(disk, scratch, load_file("new.qcow2", scratch));
}

static u64 number(u64 at, u32 bytes)
{
    u64 v = 0;
    while (bytes--)
        v = v << 8 | disk->now[at++];
    return v;
}

/* Our images count in 16 bits; others' need not. Wide counts make many refcount blocks and tables that grow. */
static void change_width(u32 order)
{
    u64 used = disk->size / cluster, block = number(number(48, 8), 8), per_block = (u64)cluster * 8 >> order;

    if (used > MIN(per_block, cluster / 2))
        return; /* more than one block */
    memset(disk->now + block, 0, cluster);
    for (u64 i = 0; i < used; i++)
        disk->now[block + (order > 3 ? ((i + 1) << (order - 3)) - 1 : i << order >> 3)] |=
            order > 2 ? 1 : (u8)(1 << (i % (8u >> order) << order));
    disk->now[99] = (u8)order;
}

void make_image(void)
{
    u64 size = (1 + below(one_in(4) ? SECTORS : SECTORS / 8)) * SECTOR;
    struct error err;

    cluster = cluster_sizes[below(ARRAY_SIZE(cluster_sizes))];
    v2 = one_in(4);
    live = size / SECTOR;
    nsnapshots = 0;
    now = 1;
    forgotten = 0;
    next_tag = 1;
    make_base();
    for (u64 i = 0; i < SECTORS; i++)
        set_sector(i, i < size / SECTOR && i < base_size / SECTOR ? base_tags[i] : 0);
    disk_load(disk, scratch, 0);
    if (one_in(20) && have_qemu) {
        make_image_by_qemu(size);
        return;
    }
    struct block_create t = { .format = "qcow2", .size = size, .backing = base_size ? "base.raw" : NULL,
                              .backing_format = "raw", .cluster_size = cluster, .v2 = v2,
                              .preallocate = !base_size && one_in(10) };
    if (block_qcow2.create(disk, &t, &err))
        die("create: %s", err.text);
    if (!v2 && one_in(2))
        change_width(one_in(2) ? 6 : (u32)below(7));
    disk_load(disk, memcpy(scratch, disk->now, disk->size), disk->size);
}

void make_dirty(void)
{
    if (v2 || memcmp(disk->now, "QFI", 3))
        return;
    u64 block = number(number(48, 8), 8);
    memset(disk->now + block, one_in(2) ? 0 : 0xff, cluster);
    disk->now[79] |= 1;
    disk_load(disk, memcpy(scratch, disk->now, disk->size), disk->size);
}
