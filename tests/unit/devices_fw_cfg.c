/* SPDX-License-Identifier: Apache-2.0 */
/* devices_fw_cfg.c - fw_cfg as qemu/docs/specs/fw_cfg.rst has it: by its ports, and by DMA. */
#include "devices/fw_cfg.h"
#include "test.h"

static struct memory *m;
static struct fw_cfg f;

static void start(bool dma)
{
    m = memory_new(NULL);
    CHECK_EQ(memory_add(m, "ram", 0, MiB(1), false, NULL), 0);
    CHECK_EQ(memory_add(m, "rom", MiB(2), 4096, true, NULL), 0);
    fw_cfg_init(&f, dma ? m : NULL);
    CHECK_EQ(fw_cfg_add_int(&f, FW_CFG_NB_CPUS, 3, 2), 0);
}

static void end(void)
{
    fw_cfg_destroy(&f);
    memory_free(m);
}

static void out(u32 port, unsigned size, u64 v) { fw_cfg_ops.write(&f, port - FW_CFG_PORT, size, v); }
static u64 in(u32 port, unsigned size) { return fw_cfg_ops.read(&f, port - FW_CFG_PORT, size); }

static u64 item(u16 key, unsigned n)
{
    u64 v = 0;
    out(0x510, 2, key);
    for (unsigned i = 0; i < n; i++)
        v |= in(0x511, 1) << i * 8;
    return v;
}

/* Runs a command at 1000h, returns its control word afterwards. */
static u32 dma(u32 control, u32 len, u64 address)
{
    u32 word[2] = { __builtin_bswap32(control), __builtin_bswap32(len) }, after;
    address = __builtin_bswap64(address);
    CHECK_EQ(memory_write(m, 0x1000, word, 8), 0);
    CHECK_EQ(memory_write(m, 0x1008, &address, 8), 0);
    out(0x514, 4, 0);
    out(0x518, 4, __builtin_bswap32(0x1000));
    CHECK_EQ(memory_read(m, 0x1000, &after, 4), 0);
    return __builtin_bswap32(after);
}

static u64 at(u64 gpa)
{
    u64 v = 0;
    CHECK_EQ(memory_read(m, gpa, &v, 8), 0);
    return v;
}

TEST(ports)
{
    start(false);
    CHECK_EQ(item(FW_CFG_SIGNATURE, 4), 0x554d4551); /* "QEMU" */
    CHECK_EQ(item(FW_CFG_ID, 4), 1);
    CHECK_EQ(item(FW_CFG_NB_CPUS, 8), 3); /* zeroes after the end */
    CHECK_EQ(item(0x3000, 4), 0);
    CHECK_EQ(item(0x8000, 4), 0); /* the architecture's: none */
    CHECK_EQ(in(0x514, 4), 0);    /* no DMA */
    out(0x518, 4, 0);
    end();
}

TEST(files)
{
    char name[57];
    start(true);
    CHECK_EQ(fw_cfg_add_file(&f, "etc/a", "abc", 3), 0x20);
    CHECK_EQ(fw_cfg_add_file(&f, "etc/b", "12345678", 8), 0x21);
    CHECK_EQ(fw_cfg_add_file(&f, "etc/a", "xyzw", 4), 0x20); /* new contents */
    CHECK_EQ(item(FW_CFG_FILE_DIR, 4), 0x02000000);
    CHECK_EQ(in(0x511, 1) << 24 | in(0x511, 1) << 16 | in(0x511, 1) << 8 | in(0x511, 1), 4); /* size, most significant first */
    CHECK_EQ(in(0x511, 1) << 8 | in(0x511, 1), 0x20);
    CHECK_EQ(item(0x20, 4), 0x777a7978);
    memset(name, 'n', 56), name[56] = 0;
    CHECK_EQ(fw_cfg_add_file(&f, name, "", 0), -28);
    for (u32 i = 2; i < FW_CFG_FILES; i++) {
        snprintf(name, sizeof name, "f%u", i);
        CHECK_EQ(fw_cfg_add_file(&f, name, "", 0), 0x20 + i);
    }
    CHECK_EQ(fw_cfg_add_file(&f, "one more", "", 0), -28);
    end();
}

static u32 selections;
static void selected(void *ctx, u16 key) { selections += key == 0x20; }

TEST(dma)
{
    enum { ERROR = 1, READ = 2, SKIP = 4, SELECT = 8, WRITE = 16 };
    start(true);
    f.selected = selected;
    CHECK_EQ(item(FW_CFG_ID, 4), 3);
    CHECK_EQ(in(0x514, 4), 0x554d4551);
    CHECK_EQ(in(0x518, 4), 0x47464320); /* " CFG" */
    CHECK_EQ(fw_cfg_add_file(&f, "etc/b", "12345678", 8), 0x20);
    CHECK_EQ(memory_write(m, 0x2000, "................", 16), 0);
    CHECK_EQ(dma(0x20 << 16 | SELECT | READ, 4, 0x2000), 0);
    CHECK_EQ(selections, 1);
    CHECK_EQ(at(0x2000), 0x2e2e2e2e34333231);
    CHECK_EQ(dma(SKIP, 2, 0), 0);
    CHECK_EQ(dma(READ, 6, 0x2000), 0); /* two, and zeroes */
    CHECK_EQ(at(0x2000), 0x2e2e000000003837);
    CHECK_EQ(dma(SKIP, UINT32_MAX, 0), 0);
    CHECK_EQ(dma(0x20 << 16 | SELECT | WRITE, 4, 0x2000), ERROR); /* nothing is writable */
    CHECK_EQ(dma(SELECT | 0x20 << 16, 0, 0), 0);
    CHECK_EQ(in(0x511, 1), '1');
    end();
}

TEST(hostile_dma)
{
    enum { ERROR = 1, READ = 2, SELECT = 8 };
    start(true);
    CHECK_EQ(dma(SELECT | READ, UINT32_MAX, 0x2000), ERROR); /* past the end of memory */
    CHECK_EQ(dma(SELECT | READ, 4, UINT64_MAX - 1), ERROR);
    CHECK_EQ(dma(SELECT | READ, 4, MiB(2)), ERROR); /* a ROM */
    CHECK_EQ(dma(SELECT | READ, 0, MiB(64)), 0);
    out(0x514, 4, UINT32_MAX), out(0x518, 4, UINT32_MAX); /* the command itself is nowhere */
    out(0x518, 4, __builtin_bswap32(MiB(2))); /* or in a ROM */
    CHECK_EQ(dma(SELECT | READ, 16, 0x1000), 0); /* over itself */
    /* Zeroes without end would take seconds, in one access. */
    CHECK_EQ(memory_add(m, "more", GiB(1), MiB(32), false, NULL), 0);
    CHECK_EQ(memory_write(m, GiB(1), "xxxx", 4), 0);
    CHECK_EQ(dma(FW_CFG_NB_CPUS << 16 | SELECT | READ, MiB(32), GiB(1)), ERROR);
    CHECK_EQ(at(GiB(1)), 0x78787878);
    CHECK_EQ(dma(FW_CFG_NB_CPUS << 16 | SELECT | READ, MiB(16), GiB(1)), 0);
    CHECK_EQ(at(GiB(1)), 3);
    f.offset = UINT32_MAX; /* as a stream may say */
    CHECK_EQ(in(0x511, 1), 0);
    CHECK_EQ(dma(READ, 4, 0x2000), 0);
    end();
}
