/* SPDX-License-Identifier: Apache-2.0 */
/* firmware_files.c - see firmware_files.h. */
#include "boot/firmware_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/opener.h"

enum { PAGE = 4096, VOLUME_SIGNATURE = 40, ROM_MAX = 1 << 20 };

/* The places where Debian's packages install these files. */
#define BIOS_CODE "/usr/share/seabios/bios-256k.bin"
#define UEFI_CODE "/usr/share/OVMF/OVMF_CODE_4M.fd"
#define UEFI_VARS "/usr/share/OVMF/OVMF_VARS_4M.fd"
static const char *const rom_dirs[] = { "/usr/lib/ipxe/qemu", "/usr/share/seabios" };

/* Reads a whole file of min to max bytes. fd NULL: the file is closed again; else *fd is its descriptor. */
static u8 *read_file(const char *path, const char *what, u32 min, u32 max, int flags, int *fd, u32 *size, struct error *err)
{
    struct stat st;
    u8 *data = NULL;
    u64 done = 0;
    /* O_NONBLOCK: a FIFO without a writer must not block us before fstat tells what the file is. */
    int in = opener_file(OPENER_FIRMWARE, path, flags | O_NONBLOCK, 0600);

    if (in < 0 || opener_fstat(in, &st) < 0) {
        error_set(err, errno, "cannot open the %s %s: %s", what, path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        error_set(err, EINVAL, "the %s %s is not a regular file", what, path);
    } else if ((u64)st.st_size < min || (u64)st.st_size > max || st.st_size % PAGE) {
        error_set(err, EINVAL, "the %s %s has %lld bytes; it must have %u to %u KiB, and whole 4 KiB", what, path,
                  (long long)st.st_size, min >> 10, max >> 10);
    } else if (!(data = malloc((size_t)st.st_size))) {
        error_set(err, ENOMEM, "out of memory");
    } else {
        ssize_t n = 1;
        for (; done < (u64)st.st_size && n > 0; done += n > 0 ? (u64)n : 0)
            n = pread(in, data + done, (size_t)st.st_size - done, (off_t)done);
        if (done < (u64)st.st_size) {
            error_set(err, n < 0 ? errno : EIO, "cannot read the %s %s: %s", what, path, n < 0 ? strerror(errno) : "it got shorter");
            free(data);
            data = NULL;
        }
        *size = (u32)done;
    }
    if (in >= 0 && (!data || !fd))
        close(in);
    else if (fd)
        *fd = in;
    return data;
}

static bool write_all(int fd, const u8 *p, u64 len, u64 offset)
{
    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : EIO;
            return false;
        }
        p += n, offset += (u64)n, len -= (u64)n;
    }
    return true;
}

/* The processor's first instruction is in the last 16 bytes. */
static int check_code(const struct firmware *f, const char *path, struct error *err)
{
    const u8 *entry = f->code + f->code_size - 16;
    if (!memcmp(entry, entry + 1, 15))
        return error_set(err, EINVAL, "%s is no firmware: there is no code at its end, where a processor starts", path);
    return 0;
}

static int make_vars(const char *path, struct error *err)
{
    u32 size;
    u8 *data = read_file(UEFI_VARS, "empty store of UEFI variables", PAGE, FIRMWARE_MAX, O_RDONLY, NULL, &size, err);
    int rc = data ? 0 : -EINVAL;
    int fd = data ? opener_file(OPENER_FIRMWARE, path, O_WRONLY | O_CREAT | O_EXCL, 0600) : -1;

    if (data && (fd < 0 || !write_all(fd, data, size, 0) || fsync(fd))) {
        rc = error_set(err, errno, "cannot make %s for UEFI's variables: %s", path, strerror(errno));
        if (fd >= 0)
            opener_remove(OPENER_FIRMWARE, path);
    }
    if (fd >= 0)
        close(fd);
    free(data);
    return rc;
}

static int open_vars(struct firmware *f, const char *path, struct error *err)
{
    const char *what = "file of UEFI variables";
    const u32 max = FIRMWARE_MAX - MIN(f->code_size, (u32)FIRMWARE_MAX);
    struct stat st;
    int rc = 0;

    if (path && opener_stat(OPENER_FIRMWARE, path, 0, &st) && errno == ENOENT && (rc = make_vars(path, err)))
        return rc;
    if (path && !(f->vars_path = strdup(path)))
        return error_set(err, ENOMEM, "out of memory");
    if (!(f->vars = read_file(path ? path : UEFI_VARS, what, PAGE, max, path ? O_RDWR : O_RDONLY, path ? &f->vars_fd : NULL,
                              &f->vars_size, err)))
        return -EINVAL;
    path = path ? path : UEFI_VARS;
    if (memcmp(f->vars + VOLUME_SIGNATURE, "_FVH", 4))
        return error_set(err, EINVAL, "%s holds no UEFI variables (no firmware volume begins there)", path);
    if (f->vars_fd >= 0 && flock(f->vars_fd, LOCK_EX | LOCK_NB))
        return error_set(err, EBUSY, "the UEFI variables in %s are another machine's that runs now", path);
    return 0;
}

struct firmware *firmware_open(const struct firmware_params *p, struct error *err)
{
    const bool bios = !strcmp(p->what, "bios"), uefi = !strcmp(p->what, "uefi");
    const char *path = bios ? BIOS_CODE : uefi ? UEFI_CODE : p->what;
    struct firmware *f = calloc(1, sizeof *f);
    struct stat st;
    int rc = 0;

    if (!f) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    f->vars_fd = -1;
    if ((bios || uefi) && opener_stat(OPENER_FIRMWARE, path, 0, &st))
        rc = error_set(err, errno, "the firmware %s needs %s; on Debian: apt-get install %s", p->what, path,
                       bios ? "seabios" : "ovmf");
    else if (!(f->code = read_file(path, "firmware", FIRMWARE_MIN, FIRMWARE_MAX, O_RDONLY, NULL, &f->code_size, err)))
        rc = -EINVAL;
    if (rc || (rc = check_code(f, path, err)) || ((uefi || p->vars) && (rc = open_vars(f, p->vars, err)))) {
        firmware_close(f);
        errno = -rc;
        return NULL;
    }
    return f;
}

void firmware_close(struct firmware *f)
{
    if (!f)
        return;
    if (f->vars_fd >= 0) {
        (void)fsync(f->vars_fd);
        close(f->vars_fd);
    }
    free(f->vars_path);
    free(f->vars);
    free(f->code);
    free(f);
}

int firmware_vars_write(const struct firmware *f, u32 offset, const void *data, u32 len)
{
    if (f->vars_fd < 0)
        return 0;
    return write_all(f->vars_fd, data, len, offset) ? 0 : -errno;
}

u8 *firmware_rom(const char *file, u32 *size)
{
    u8 *rom = NULL;
    char path[128];
    struct stat st;

    for (u32 i = 0; i < ARRAY_SIZE(rom_dirs) && !rom; i++) {
        snprintf(path, sizeof path, "%s/%s", rom_dirs[i], file);
        int fd = opener_file(OPENER_ROM, path, O_RDONLY, 0);
        if (fd >= 0 && !opener_fstat(fd, &st) && st.st_size > 0 && st.st_size <= ROM_MAX && (rom = malloc((size_t)st.st_size)) &&
            read(fd, rom, (size_t)st.st_size) != st.st_size) {
            free(rom);
            rom = NULL;
        }
        *size = rom ? (u32)st.st_size : 0;
        if (fd >= 0)
            close(fd);
    }
    return rom;
}
