/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.c - the Linux/x86 boot protocol. A bzImage is entered at its 64-bit entry if it has one, else at its 32-bit
 * entry. Offsets are those of the setup header in linux/Documentation/arch/x86/boot.rst and of struct boot_params in
 * zero-page.rst. memtest86+ uses the same protocol.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "boot/internal.h"

enum { /* setup header */
    HDR_SETUP_SECTS = 0x1f1, HDR_SYSSIZE = 0x1f4, HDR_VID_MODE = 0x1fa, HDR_BOOT_FLAG = 0x1fe, HDR_JUMP_LEN = 0x201,
    HDR_MAGIC = 0x202, HDR_VERSION = 0x206, HDR_TYPE_OF_LOADER = 0x210, HDR_LOADFLAGS = 0x211, HDR_CODE32_START = 0x214,
    HDR_RAMDISK_IMAGE = 0x218, HDR_RAMDISK_SIZE = 0x21c, HDR_CMD_LINE_PTR = 0x228, HDR_INITRD_ADDR_MAX = 0x22c,
    HDR_KERNEL_ALIGNMENT = 0x230, HDR_RELOCATABLE = 0x234, HDR_XLOADFLAGS = 0x236, HDR_CMDLINE_SIZE = 0x238,
    HDR_SETUP_DATA = 0x250, HDR_PREF_ADDRESS = 0x258, HDR_INIT_SIZE = 0x260, HDR_LIMIT = 0x290,
};
enum { /* the rest of the zero page */
       BP_EXT_MEM_K = 0x002,
       BP_ORIG_VIDEO_MODE = 0x006,
       BP_ORIG_VIDEO_COLS = 0x007,
       BP_ORIG_VIDEO_EGA_BX = 0x00a,
       BP_ORIG_VIDEO_LINES = 0x00e,
       BP_ORIG_VIDEO_ISVGA = 0x00f,
       BP_ORIG_VIDEO_POINTS = 0x010,
       BP_ACPI_RSDP_ADDR = 0x070,
       BP_ALT_MEM_K = 0x1e0,
       BP_E820_ENTRIES = 0x1e8,
       BP_E820_TABLE = 0x2d0,
       BP_SIZE = 4096,
       BP_E820_MAX = 128,
};
enum { LOADED_HIGH = 1 << 0, XLF_KERNEL_64 = 1 << 0, SETUP_RNG_SEED = 9, SEED_SIZE = 32, LOADER_UNDEFINED = 0xff };

bool linux_recognize(const struct load *l)
{
    return l->nhead >= HDR_LIMIT && get16(l->head + HDR_BOOT_FLAG) == 0xaa55 && !memcmp(l->head + HDR_MAGIC, "HdrS", 4);
}

/* The kernel takes [start, start + size). The sentence says how much memory it needs, and how much with the initrd,
   which may be below the kernel. */
static int too_little(struct load *l, u64 start, u64 size)
{
    int rc = load_modules(l, false);
    u64 initrd = rc || !l->boot->nmodules ? 0 : align_up(l->boot->module[0].file.size, GUEST_PAGE_SIZE);
    u64 end = start + size + (initrd > start - MiB(1) ? initrd : 0);

    if (rc)
        return rc;
    return error_set(l->err, E2BIG, "%s%s needs at least %llu MiB, and more to work with; give it more memory",
                     l->boot->kernel.path, initrd ? " with its initrd" : "", (unsigned long long)((end + MiB(1) - 1) >> 20));
}

/*
 * Chooses the place of the protected-mode part. It claims the memory that the kernel needs until it has its own map.
 * That is init_size bytes from its runtime start, which is never below pref_address (boot.rst, pref_address and
 * init_size). If the kernel is loaded lower, it moves there.
 */
static int place_kernel(struct load *l, u64 size, u64 *addr, u64 *need)
{
    const u8 *h = l->head;
    u16 version = get16(h + HDR_VERSION);
    u64 align = get32(h + HDR_KERNEL_ALIGNMENT), pref = get64(h + HDR_PREF_ADDRESS);

    *need = version >= 0x20a ? MAX(size, get32(h + HDR_INIT_SIZE)) : size;
    if (version >= 0x20a && h[HDR_RELOCATABLE]) {
        if (!align || (align & (align - 1)))
            return error_set(l->err, EINVAL, "%s is damaged: kernel_alignment 0x%llx is no power of two",
                             l->boot->kernel.path, (unsigned long long)align);
        /* If pref makes no sense, load it anywhere. */
        const u64 start = pref < GiB(4) ? align_up(MAX(pref, MiB(1)), align) : align_up(MiB(1), align);
        return load_find(l, *need, align, start, GiB(4), false, "kernel", addr) ? too_little(l, start, *need) : 0;
    }
    *addr = h[HDR_LOADFLAGS] & LOADED_HIGH ? 0x100000 : 0x10000;
    if (version >= 0x20a && pref > *addr && pref < GiB(4)) /* the kernel moves up */
        *need += pref - *addr;
    return load_claim(l, *addr, *need, "kernel") ? too_little(l, *addr, *need) : 0;
}

/* The kernel takes [kernel, kernel + need). */
static int place_initrd(struct load *l, u8 *bp, u64 kernel, u64 need)
{
    int rc = load_modules(l, false);
    if (rc || !l->boot->nmodules)
        return rc;

    const struct boot_file *f = &l->boot->module[0].file;
    u64 max = get16(bp + HDR_VERSION) >= 0x203 ? (u64)get32(bp + HDR_INITRD_ADDR_MAX) + 1 : 0x38000000, addr;
    const u64 size = align_up(f->size, GUEST_PAGE_SIZE);
    rc = load_find(l, size, GUEST_PAGE_SIZE, MiB(1), max, true, "initrd", &addr);
    if (rc == -E2BIG && kernel + need + size <= max) /* it would fit with more memory */
        rc = too_little(l, kernel, need);
    if (!rc)
        rc = load_file(l, f, 0, addr, f->size);
    if (!rc) {
        put32(bp + HDR_RAMDISK_IMAGE, (u32)addr);
        put32(bp + HDR_RAMDISK_SIZE, (u32)f->size);
    }
    return rc;
}

static int place_cmdline(struct load *l, u8 *bp)
{
    u64 len = strlen(l->boot->append), addr;
    u64 max = get16(bp + HDR_VERSION) >= 0x206 ? get32(bp + HDR_CMDLINE_SIZE) : 255;

    if (len > max)
        return error_set(l->err, E2BIG, "the command line has %llu characters; this kernel takes %llu",
                         (unsigned long long)len, (unsigned long long)max);
    int rc = load_find(l, len + 1, 16, 0x1000, 0xa0000, false, "command line", &addr);
    if (!rc)
        rc = load_bytes(l, addr, l->boot->append, len + 1);
    put32(bp + HDR_CMD_LINE_PTR, (u32)addr);
    return rc;
}

/* struct setup_data { u64 next; u32 type, len; u8 data[]; }: a kernel skips types that it does not know. */
static int place_seed(struct load *l, u8 *bp)
{
    u8 data[16 + SEED_SIZE] = { 0 };
    u64 addr;

    if (get16(bp + HDR_VERSION) < 0x209 || l->env->no_random)
        return 0;
    put32(data + 8, SETUP_RNG_SEED);
    put32(data + 12, SEED_SIZE);
    if (getrandom(data + 16, SEED_SIZE, GRND_NONBLOCK) != SEED_SIZE)
        return 0; /* the guest runs without a seed */
    int rc = load_find(l, sizeof data, 16, 0x1000, 0xa0000, false, "random seed", &addr);
    if (!rc)
        rc = load_bytes(l, addr, data, sizeof data);
    put64(bp + HDR_SETUP_DATA, addr);
    return rc;
}

static void fill_map(struct load *l, u8 *bp)
{
    u8 n = 0;
    for (u32 i = 0; i < l->env->nmap && n < BP_E820_MAX; i++, n++) {
        const struct boot_map_entry *e = &l->env->map[i];
        u8 *to = bp + BP_E820_TABLE + n * 20;
        put64(to, e->addr), put64(to + 8, e->size), put32(to + 16, e->type);
        if (e->type == BOOT_MAP_RAM && e->addr == MiB(1)) { /* for kernels that do not read the table */
            put32(bp + BP_ALT_MEM_K, (u32)(e->size >> 10));
            put16(bp + BP_EXT_MEM_K, (u16)MIN(e->size >> 10, 0xfc00));
        }
    }
    bp[BP_E820_ENTRIES] = n;
}

int linux_load(struct load *l)
{
    const u8 *h = l->head;
    struct boot *b = l->boot;
    u16 version = get16(h + HDR_VERSION);
    u64 setup = ((h[HDR_SETUP_SECTS] ? h[HDR_SETUP_SECTS] : 4) + 1) * 512ull, addr = 0, need = 0, zero_page, gdt, tables;
    u8 bp[BP_SIZE] = { 0 };
    int rc;

    if (version < 0x202)
        return error_set(l->err, EINVAL, "%s speaks boot protocol %u.%02u; Lodge needs 2.02 (Linux 2.4) or later",
                         b->kernel.path, version >> 8, version & 0xff);
    if (!get32(h + HDR_CODE32_START)) /* ipxe.lkrn */
        return error_set(l->err, EINVAL, "%s has no 32-bit entry, only one that calls a BIOS; have GRUB (linux16) or SYSLINUX load it",
                         b->kernel.path);
    u64 code = (u64)get32(h + HDR_SYSSIZE) * 16;
    if (setup >= b->kernel.size || (code && code - 15 > b->kernel.size - setup))
        return error_set(l->err, EINVAL, "%s is truncated: it has %llu bytes, its header says %llu", b->kernel.path,
                         (unsigned long long)b->kernel.size, (unsigned long long)(setup + code));
    /* Loads the whole file. Bytes after syssize (a signature) do no harm, and old images give too small a size. */
    u64 size = b->kernel.size - setup;

    rc = place_kernel(l, size, &addr, &need);
    if (!rc)
        rc = load_file(l, &b->kernel, setup, addr, size);
    if (rc)
        return rc;

    u32 end = MIN(HDR_MAGIC + h[HDR_JUMP_LEN], HDR_LIMIT);
    memcpy(bp + HDR_SETUP_SECTS, h + HDR_SETUP_SECTS, end - HDR_SETUP_SECTS);
    bp[HDR_TYPE_OF_LOADER] = LOADER_UNDEFINED;
    put16(bp + HDR_VID_MODE, 0xffff); /* normal */
    put32(bp + HDR_CODE32_START, (u32)addr);
    put32(bp + HDR_RAMDISK_IMAGE, 0), put32(bp + HDR_RAMDISK_SIZE, 0);
    put64(bp + BP_ACPI_RSDP_ADDR, l->env->rsdp);
    fill_map(l, bp);
    if (l->env->text_mode) {
        bp[BP_ORIG_VIDEO_MODE] = 3;
        bp[BP_ORIG_VIDEO_COLS] = 80;
        bp[BP_ORIG_VIDEO_LINES] = 25;
        bp[BP_ORIG_VIDEO_EGA_BX] = 3; /* 256 KiB, colour */
        bp[BP_ORIG_VIDEO_ISVGA] = 1;
        bp[BP_ORIG_VIDEO_POINTS] = 16;
    }

    bool is64 = version >= 0x20c && (get16(h + HDR_XLOADFLAGS) & XLF_KERNEL_64) && !l->env->no_long_mode;
    if ((rc = load_find(l, BP_SIZE, 4096, 0x1000, 0xa0000, false, "zero page", &zero_page)) ||
        (rc = load_find(l, BOOT_GDT_SIZE, 16, 0x1000, 0xa0000, false, "GDT", &gdt)) || (rc = place_cmdline(l, bp)) ||
        (rc = place_seed(l, bp)) || (rc = place_initrd(l, bp, addr, need)))
        return rc;
    if (is64) {
        if ((rc = load_find(l, BOOT_TABLES_SIZE, 4096, 0x1000, 0xa0000, false, "page tables", &tables)) ||
            (rc = enter_long(l, gdt, tables, addr + 0x200)))
            return rc;
    } else {
        rc = enter_protected(l, gdt, (u32)addr);
    }
    l->bsp->gpr[RSI] = zero_page;
    b->protocol = is64 ? "Linux bzImage, 64-bit entry" : "Linux bzImage, 32-bit entry";
    return rc ? rc : load_bytes(l, zero_page, bp, BP_SIZE);
}
