/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_boot.c - the kernel loaders against hostile files: whatever the bytes, a kernel within the guest's RAM or one
 * sentence.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"

#include "../unit/boot_images.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct boot_map_entry map[] = {
        { 0, 0x9fc00, BOOT_MAP_RAM }, { 0xe0000, 0x20000, BOOT_MAP_RESERVED }, { MiB(1), MiB(19), BOOT_MAP_RAM },
    };
    struct error err = { "" };
    struct memory *m = memory_new(&err);
    struct cpu_state *cpu = aligned_alloc(64, sizeof *cpu);
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    char path[32];

    if (!m || !cpu || fd < 0 || memory_add(m, "ram", 0, 0xa0000, false, &err) ||
        memory_add(m, "ram", 0xc0000, MiB(20) - 0xc0000, false, &err) || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    /* The kernel is its own initrd. */
    struct boot_params p = { path, path, "console=ttyS0" };
    struct boot_env env = { m, map, ARRAY_SIZE(map), 0xe0000, false, true };
    struct boot *b = boot_open(&p, &err);
    int rc = b ? boot_load(b, &env, cpu, &err) : -1;
    if (!rc != !err.text[0] || strchr(err.text, '\n'))
        abort(); /* no sentence, or one without a failure */
    if (!rc && (cpu->rip >= GiB(4) || cpu_state_check(cpu, &err)))
        abort();
    boot_close(b);
    close(fd);
    free(cpu);
    memory_free(m);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    if (cap < 4096 || i > 8)
        return 0;
    switch (i) {
    case 0: return bzimage(buf, true);
    case 1: return bzimage(buf, false);
    case 2: return kludge(buf);
    case 3: return elf(buf, true, true, false);
    case 4: return elf(buf, false, true, false);
    case 5: return elf(buf, true, false, true);
    case 6: return elf(buf, false, false, true);
    default: return i == 7 ? elf(buf, true, true, true) : elf(buf, false, true, true);
    }
}
