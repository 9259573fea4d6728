/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_boot.c - kernels made by hand, good and bad, through every protocol: the good ones leave memory and the
 * processor as the protocol says, each bad one ends in one sentence.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"
#include "boot_images.h"
#include "test.h"

struct rig {
    struct memory *memory;
    struct boot_map_entry map[3];
    struct boot_env env;
    struct cpu_state *cpu;
    struct error err;
    char path[64], initrd[64];
    int fd, initrd_fd;
};

static struct rig rig_new(void)
{
    struct rig r = { .fd = -1, .initrd_fd = -1 };
    r.memory = memory_new(NULL);
    CHECK_EQ(memory_add(r.memory, "ram", 0, 0xa0000, false, NULL), 0);
    CHECK_EQ(memory_add(r.memory, "ram", 0xc0000, MiB(32) - 0xc0000, false, NULL), 0);
    r.map[0] = (struct boot_map_entry){ 0, 0x9fc00, BOOT_MAP_RAM };
    r.map[1] = (struct boot_map_entry){ 0xe0000, 0x20000, BOOT_MAP_RESERVED };
    r.map[2] = (struct boot_map_entry){ MiB(1), MiB(31), BOOT_MAP_RAM };
    r.cpu = aligned_alloc(64, sizeof *r.cpu);
    return r;
}

static void rig_free(struct rig *r)
{
    memory_free(r->memory);
    free(r->cpu);
    if (r->fd >= 0)
        close(r->fd);
    if (r->initrd_fd >= 0)
        close(r->initrd_fd);
}

static int file(int *fd, char path[64], const void *data, size_t len)
{
    if (*fd >= 0)
        close(*fd);
    *fd = memfd_create("file", 0);
    snprintf(path, 64, "/proc/self/fd/%d", *fd);
    return write(*fd, data, len) == (ssize_t)len ? 0 : -1;
}

/* Boots the bytes; with_initrd: "INITRD" as one. The protocol, or NULL with r->err set. */
static const char *boot(struct rig *r, const void *data, size_t len, bool with_initrd, const char *append)
{
    static const char *const protocols[] = { "Linux bzImage, 64-bit entry", "Linux bzImage, 32-bit entry",
                                             "Multiboot, ELF", "Multiboot", "ELF, PVH entry" };
    const char *result = NULL;
    r->err.text[0] = 0;
    r->env = (struct boot_env){ r->memory, r->map, 3, 0xe0000, false, true };
    CHECK_EQ(file(&r->fd, r->path, data, len), 0);
    if (with_initrd)
        CHECK_EQ(file(&r->initrd_fd, r->initrd, "INITRD", 6), 0);
    struct boot *b = boot_open(&(struct boot_params){ r->path, with_initrd ? r->initrd : NULL, append }, &r->err);
    if (!b)
        return NULL;
    if (!boot_load(b, &r->env, r->cpu, &r->err))
        for (unsigned i = 0; i < ARRAY_SIZE(protocols); i++)
            if (!strcmp(boot_protocol(b), protocols[i]))
                result = protocols[i];
    CHECK((result == NULL) == (r->err.text[0] != 0));
    CHECK(!strchr(r->err.text, '\n'));
    boot_close(b);
    return result;
}

static u64 guest(struct rig *r, u64 gpa, unsigned n)
{
    u64 v = 0;
    CHECK_EQ(memory_read(r->memory, gpa, &v, n), 0);
    return v;
}

TEST(linux_64)
{
    struct rig r = rig_new();
    u8 k[4096];
    size_t n = bzimage(k, true);
    CHECK_STR(boot(&r, k, n, true, "console=ttyS0"), "Linux bzImage, 64-bit entry");
    CHECK_EQ(r.cpu->rip, MiB(16) + 0x200);
    CHECK_EQ(guest(&r, MiB(16), 8), 0xcdcdcdcdcdcdcdcd);
    CHECK(r.cpu->efer & EFER_LMA && r.cpu->cr0 & CR0_PG && r.cpu->cr4 & CR4_PAE && r.cpu->seg[CS].attr & SEG_L);
    u64 bp = r.cpu->gpr[RSI], pml4 = r.cpu->cr3;
    CHECK_EQ(guest(&r, bp + 0x202, 4), 0x53726448);
    CHECK_EQ(guest(&r, bp + 0x70, 8), 0xe0000);
    CHECK_EQ(guest(&r, bp + 0x1e8, 1), 3);
    CHECK_EQ(guest(&r, bp + 0x2d0 + 40, 8), MiB(1));
    CHECK_EQ(guest(&r, guest(&r, bp + 0x228, 4), 8), 0x3d656c6f736e6f63); /* "console=" */
    CHECK_EQ(guest(&r, bp + 0x21c, 4), 6);
    CHECK_EQ(guest(&r, guest(&r, bp + 0x218, 4), 6), 0x445254494e49);
    u64 pdpt = guest(&r, pml4, 8) & ~0xfffull, pd3 = guest(&r, pdpt + 24, 8) & ~0xfffull;
    CHECK_EQ(guest(&r, pd3 + 511 * 8, 8), 0xffe00083);
    rig_free(&r);
}

TEST(linux_32)
{
    struct rig r = rig_new();
    u8 k[4096];
    size_t n = bzimage(k, false);
    CHECK_STR(boot(&r, k, n, false, NULL), "Linux bzImage, 32-bit entry");
    CHECK_EQ(r.cpu->rip, MiB(16));
    CHECK_EQ(r.cpu->cr0, CR0_PE | CR0_ET);
    CHECK(r.cpu->seg[CS].attr & SEG_DB);
    k[0x234] = 0;
    CHECK(boot(&r, k, n, false, NULL));
    CHECK_EQ(r.cpu->rip, MiB(1));
    rig_free(&r);
}

TEST(linux_64_without_long_mode)
{
    struct rig r = rig_new();
    struct boot_params p = { r.path, NULL, NULL };
    u8 k[4096];
    CHECK_EQ(file(&r.fd, r.path, k, bzimage(k, true)), 0);
    r.env = (struct boot_env){ r.memory, r.map, 3, 0, true, true };
    struct boot *b = boot_open(&p, &r.err);
    CHECK(b && boot_load(b, &r.env, r.cpu, &r.err) == 0 && !(r.cpu->efer & EFER_LMA));
    boot_close(b);
    rig_free(&r);
}

/* boot.rst, pref_address: a kernel that is loaded lower moves there, and has init_size bytes from there on. */
TEST(linux_needs_memory)
{
    struct rig r = rig_new();
    u8 k[4096];
    size_t n = bzimage(k, true);
    p32(k + 0x260, MiB(16)); /* to the last byte of these 32 MiB; the initrd goes below */
    CHECK_STR(boot(&r, k, n, true, NULL), "Linux bzImage, 64-bit entry");
    CHECK_EQ(r.cpu->rip, MiB(16) + 0x200);
    CHECK(guest(&r, guest(&r, r.cpu->gpr[RSI] + 0x218, 4), 6) == 0x445254494e49);
    CHECK(guest(&r, r.cpu->gpr[RSI] + 0x218, 4) < MiB(16));
    p32(k + 0x260, MiB(16) + 1); /* there is room for that from 2 MiB on, which is of no use */
    CHECK(!boot(&r, k, n, false, NULL) && strstr(r.err.text, "needs at least 33 MiB"));
    k[0x234] = 0; /* not relocatable: it is loaded at 1 MiB and moves to 16 */
    CHECK(!boot(&r, k, n, false, NULL) && strstr(r.err.text, "needs at least 33 MiB"));
    bzimage(k, true);
    p64(k + 0x258, MiB(1));
    p32(k + 0x230, MiB(1));
    p32(k + 0x260, MiB(31)); /* no room for the initrd */
    CHECK(boot(&r, k, n, false, NULL));
    CHECK(!boot(&r, k, n, true, NULL) && strstr(r.err.text, "with its initrd needs at least 33 MiB"));
    rig_free(&r);
}

TEST(linux_bad)
{
    struct rig r = rig_new();
    u8 k[4096];
    size_t n = bzimage(k, true);
    char line[200];
    CHECK(!boot(&r, k, n - 64, false, NULL) && strstr(r.err.text, "truncated"));
    CHECK(!boot(&r, k, 1024, false, NULL) && strstr(r.err.text, "truncated"));
    memset(line, 'a', sizeof line);
    line[199] = 0;
    CHECK(!boot(&r, k, n, false, line) && strstr(r.err.text, "command line"));
    p32(k + 0x260, 0xffffffff);
    CHECK(!boot(&r, k, n, false, NULL) && strstr(r.err.text, "memory"));
    bzimage(k, true);
    p32(k + 0x230, 3);
    CHECK(!boot(&r, k, n, false, NULL) && strstr(r.err.text, "kernel_alignment"));
    p32(k + 0x230, 0x80000000);
    CHECK(!boot(&r, k, n, false, NULL));
    bzimage(k, true);
    p64(k + 0x258, UINT64_MAX);
    CHECK(boot(&r, k, n, false, NULL)); /* only a preference */
    p16(k + 0x206, 0x100);
    CHECK(!boot(&r, k, n, false, NULL) && strstr(r.err.text, "protocol"));
    bzimage(k, true);
    p32(k + 0x22c, 0x1000);
    CHECK(!boot(&r, k, n, true, NULL) && strstr(r.err.text, "initrd"));
    bzimage(k, true);
    p32(k + 0x214, 0);
    CHECK(!boot(&r, k, n, false, NULL) && strstr(r.err.text, "32-bit entry"));
    memcpy(k, "\x1f\x8b\x08", 3), k[0x202] = 0;
    CHECK(!boot(&r, k, n, false, NULL) && strstr(r.err.text, "gunzip"));
    rig_free(&r);
}

TEST(pvh)
{
    struct rig r = rig_new();
    u8 k[4096];
    for (int is64 = 0; is64 < 2; is64++) {
        size_t n = elf(k, is64, true, false);
        CHECK_EQ(memory_write(r.memory, MiB(2) + 4096, "dirt", 4), 0);
        CHECK_STR(boot(&r, k, n, true, "hello"), "ELF, PVH entry");
        CHECK_EQ(r.cpu->rip, 0x200400);
        CHECK_EQ(guest(&r, MiB(2) + 4096, 4), 0); /* bss is cleared */
        CHECK_EQ(guest(&r, MiB(2), 4), 0x464c457f);
        u64 si = r.cpu->gpr[RBX];
        CHECK_EQ(guest(&r, si, 4), 0x336ec578);
        CHECK_EQ(guest(&r, si + 12, 4), 1);
        CHECK_EQ(guest(&r, guest(&r, guest(&r, si + 16, 8), 8), 6), 0x445254494e49);
        CHECK_EQ(guest(&r, guest(&r, si + 24, 8), 5), 0x6f6c6c6568);
        CHECK_EQ(guest(&r, si + 32, 8), 0xe0000);
        CHECK_EQ(guest(&r, si + 48, 4), 3);
    }
    CHECK(!boot(&r, k, elf(k, true, false, false), false, NULL) && strstr(r.err.text, "PVH"));
    rig_free(&r);
}

TEST(multiboot)
{
    struct rig r = rig_new();
    u8 k[4096];
    for (int is64 = 0; is64 < 2; is64++) {
        size_t n = elf(k, is64, false, true);
        CHECK_STR(boot(&r, k, n, true, "a b"), "Multiboot, ELF");
        CHECK_EQ(r.cpu->rip, 0x200300); /* the virtual entry, translated */
        CHECK_EQ(r.cpu->gpr[RAX], 0x2badb002);
        u64 mbi = r.cpu->gpr[RBX], mods = guest(&r, mbi + 24, 4);
        CHECK_EQ(guest(&r, mbi, 4), 0x24d);
        CHECK_EQ(guest(&r, mbi + 8, 4), 31 * 1024);
        CHECK_EQ(guest(&r, mbi + 20, 4), 1);
        CHECK_EQ(guest(&r, guest(&r, mods, 4), 6), 0x445254494e49);
        CHECK_EQ(guest(&r, mods + 4, 4) - guest(&r, mods, 4), 6);
        CHECK_EQ(guest(&r, mbi + 44, 4), 72);
        CHECK_EQ(guest(&r, guest(&r, mbi + 48, 4), 4), 20);
        char line[80] = "";
        CHECK_EQ(memory_read(r.memory, guest(&r, mbi + 16, 4), line, sizeof line - 1), 0);
        CHECK_STR(strchr(line, ' '), " a b");
    }
    /* the a.out kludge: loaded from its header on, entry as given, bss cleared */
    kludge(k);
    CHECK_STR(boot(&r, k, 1024, false, NULL), "Multiboot");
    CHECK_EQ(r.cpu->rip, MiB(1) + 512);
    CHECK_EQ(guest(&r, MiB(1) + 512, 4), 0x11111111);
    CHECK_EQ(guest(&r, MiB(1) + 1024, 4), 0);
    p32(k + 84, MiB(1) + 2048);
    CHECK(!boot(&r, k, 1024, false, NULL) && strstr(r.err.text, "truncated"));
    p32(k + 84, 0), p32(k + 76, MiB(1) + 4096);
    CHECK(!boot(&r, k, 1024, false, NULL) && strstr(r.err.text, "contradict"));
    p32(k + 76, MiB(1) + 64), p32(k + 88, 0xfffff000);
    CHECK(!boot(&r, k, 1024, false, NULL) && strstr(r.err.text, "memory"));
    rig_free(&r);
}

TEST(elf_bad)
{
    struct rig r = rig_new();
    u8 k[4096];
    size_t n = elf(k, true, true, false);
    CHECK(!boot(&r, k, 1023, false, NULL) && strstr(r.err.text, "truncated"));
    p64(k + 64 + 40, UINT64_MAX); /* memsz */
    CHECK(!boot(&r, k, n, false, NULL));
    elf(k, true, true, false), p64(k + 64 + 24, UINT64_MAX - 100); /* paddr */
    CHECK(!boot(&r, k, n, false, NULL));
    elf(k, true, true, false), p64(k + 64 + 8, UINT64_MAX - 100); /* offset */
    CHECK(!boot(&r, k, n, false, NULL));
    elf(k, true, true, false), p64(k + 32, UINT64_MAX - 8); /* phoff */
    CHECK(!boot(&r, k, n, false, NULL));
    elf(k, true, true, false), p16(k + 56, 0xffff); /* phnum: garbage headers, then the file ends */
    CHECK(!boot(&r, k, n, false, NULL));
    elf(k, true, true, false), p32(k + 512, 0xffffffff); /* namesz */
    CHECK(!boot(&r, k, n, false, NULL));
    elf(k, true, true, false), k[5] = 2;
    CHECK(!boot(&r, k, n, false, NULL));
    elf(k, true, true, false), p64(k + 64 + 24, 0x9f000); /* into the hole */
    CHECK(!boot(&r, k, n, false, NULL) && strstr(r.err.text, "memory"));
    rig_free(&r);
}

TEST(files)
{
    struct rig r = rig_new();
    struct boot_params p = { "/nonexistent", NULL, NULL };
    u8 k[4096];
    CHECK(!boot_open(&p, &r.err) && strstr(r.err.text, "/nonexistent"));
    p.kernel = "/tmp";
    CHECK(!boot_open(&p, &r.err) && strstr(r.err.text, "regular"));
    p.kernel = "/dev/zero";
    CHECK(!boot_open(&p, &r.err) && strstr(r.err.text, "regular"));
    p.kernel = NULL;
    CHECK(!boot_open(&p, &r.err));
    CHECK(!boot(&r, "", 0, false, NULL) && strstr(r.err.text, "empty"));
    CHECK(!boot(&r, "MZ", 2, false, NULL) && strstr(r.err.text, "no kernel"));
    p.initrd = "/nonexistent";
    CHECK_EQ(file(&r.fd, r.path, k, bzimage(k, true)), 0);
    p.kernel = r.path;
    r.env = (struct boot_env){ r.memory, r.map, 3, 0, false, true };
    struct boot *b = boot_open(&p, &r.err);
    CHECK(b && boot_load(b, &r.env, r.cpu, &r.err) == -ENOENT && strstr(r.err.text, "initrd"));
    boot_close(b);
    rig_free(&r);
}
