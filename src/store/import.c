/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import.c - makes an image of a disk from elsewhere. Any file can be taken for a raw disk. Here the file must look
 * like a disk. Otherwise a wrong name, or a download that is something else, would be noticed only when a machine does
 * not start.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/tools.h"
#include "store/internal.h"

/* ---- the beginnings of raw disks ---- */

struct mark {
    u32 at; /* byte */
    u32 len;
    const char *bytes, *what;
};

static const struct mark disks[] = {
    { 510, 2, "\x55\xaa", "a boot sector: partitions of a PC, FAT, NTFS" },
    { 512, 8, "EFI PART", "GPT" },
    { 4096, 8, "EFI PART", "GPT with sectors of 4 KiB" },
    { 32769, 5, "CD001", "ISO 9660" },
    { 32769, 5, "BEA01", "UDF" },
    { 1080, 2, "\x53\xef", "ext2 to ext4" },
    { 0, 4, "XFSB", "XFS" },
    { 65600, 8, "_BHRfS_M", "btrfs" },
    { 1024, 4, "\x10\x20\xf5\xf2", "F2FS" },
    { 65588, 8, "ReIsEr2F", "ReiserFS" },
    { 65588, 8, "ReIsErFs", "ReiserFS 3.5" },
    { 32768, 4, "JFS1", "JFS" },
    { 9564, 4, "\x54\x19\x01\x00", "UFS1" },
    { 66908, 4, "\x19\x01\x54\x19", "UFS2" },
    { 512, 4, "\x57\x45\x56\x82", "a BSD label" },
    { 64, 4, "\x57\x45\x56\x82", "a BSD label, Alpha's place" },
    { 508, 2, "\xda\xbe", "a Sun label" },
    { 512, 2, "PM", "Apple's partition map" },
    { 1024, 2, "H+", "HFS+" },
    { 1024, 2, "BD", "HFS" },
    { 32, 4, "NXSB", "APFS" },
    { 0, 4, "hsqs", "squashfs" },
    { 512, 8, "LABELONE", "a physical volume of LVM" },
    { 0, 6, "LUKS\xba\xbe", "LUKS" },
    { 1040, 2, "\x7f\x13", "Minix, names of 14" },
    { 1040, 2, "\x8f\x13", "Minix, names of 30" },
    { 1040, 2, "\x68\x24", "Minix 2, names of 14" },
    { 1040, 2, "\x78\x24", "Minix 2, names of 30" },
    { 1048, 2, "\x5a\x4d", "Minix 3" },
    { 4086, 10, "SWAPSPACE2", "swap" },
};

static const struct mark others[] = {
    { 0, 4, "KDMV", "a VMDK image; \"qemu-img convert -O qcow2\" makes one that lodge reads" },
    { 0, 4, "COWD", "a VMDK image; \"qemu-img convert -O qcow2\" makes one that lodge reads" },
    { 0, 10, "# Disk Des", "the description of a VMDK image; \"qemu-img convert -O qcow2\" makes one that lodge reads" },
    { 0, 8, "vhdxfile", "a VHDX image; \"qemu-img convert -O qcow2\" makes one that lodge reads" },
    { 0, 8, "conectix", "a VHD image; \"qemu-img convert -O qcow2\" makes one that lodge reads" },
    { 64, 4, "\x7f\x10\xda\xbe", "a VDI image; \"qemu-img convert -O qcow2\" makes one that lodge reads" },
    { 0, 4, "QED", "a QED image; \"qemu-img convert -O qcow2\" makes one that lodge reads" },
    { 514, 4, "HdrS", "a Linux kernel, which a machine starts without a disk" },
    { 0, 6, "\xfd" "7zXZ", "packed; unpack it with xz -d" },
    { 0, 3, "\x1f\x8b\x08", "packed; unpack it with gzip -d" },
    { 0, 4, "\x28\xb5\x2f\xfd", "packed; unpack it with zstd -d" },
    { 0, 3, "BZh", "packed; unpack it with bzip2 -d" },
    { 0, 4, "PK\x03\x04", "packed; unpack it with unzip" },
    { 0, 6, "7z\xbc\xaf\x27\x1c", "packed; unpack it with 7z x" },
    { 257, 5, "ustar", "a tar archive; the disk may be in it (an OVA is one)" },
};

enum { LOOK = 68 * 1024 };

static const struct mark *find(const struct mark *m, size_t n, const u8 *data, u64 len)
{
    for (size_t i = 0; i < n; i++)
        if (m[i].at + m[i].len <= len && !memcmp(data + m[i].at, m[i].bytes, m[i].len))
            return &m[i];
    return NULL;
}

static int must_be_disk(struct block *b, const char *file, struct error *err)
{
    u64 len = MIN(block_size(b), LOOK);
    u8 *data = calloc(1, LOOK);
    struct stat st;
    int r = data ? block_sync(b, BLOCK_READ, 0, data, len) : -ENOMEM;

    if (r)
        error_set(err, -r, "%s cannot be read: %s", file, strerror(-r));
    const struct mark *other = r ? NULL : find(others, ARRAY_SIZE(others), data, len);
    if (other)
        r = error_set(err, EINVAL, "%.200s is %s", file, other->what);
    else if (!r && !stat(file, &st) && S_ISREG(st.st_mode) && st.st_size % BLOCK_SECTOR)
        r = error_set(err, EMEDIUMTYPE, "%.200s is no image of a disk: it is no multiple of 512 bytes long", file);
    else if (!r && !find(disks, ARRAY_SIZE(disks), data, len))
        r = error_set(err, EMEDIUMTYPE, "%.200s does not look like a disk: it has no partitions, no boot sector and no file "
                      "system that is known here", file);
    free(data);
    return r;
}

/* ---- import ---- */

int image_import(const struct image_import *i, struct image *image, struct error *err)
{
    const char *file = i->file;
    struct image_draft d;
    struct block_info info = { 0 };
    char disk[PATH_MAX], conf[PATH_MAX], found[PATH_MAX], text[256];
    int r = image_begin(&d, i->name, false, err);
    struct block *src = NULL;

    if (!r)
        r = path_join(disk, d.dir, "disk.raw", err);
    if (!r)
        r = path_join(conf, d.dir, "image.conf", err);
    if (!r)
        r = path_join(found, d.dir, "found.conf", err);
    if (!r) {
        /* ALONE: a file from elsewhere must not name other files of this host as its backing file. */
        struct block_options o = { .path = file, .readonly = true };
        r = block_format_named(i->format, &o.format, err);
        if (!r)
            src = block_open_tool(&o, BLOCK_ALONE, err);
        if (!r)
            r = src ? block_info(src, &info, err) : -EINVAL;
    }
    if (!r && info.backing[0])
        r = error_set(err, EINVAL, "%s lies over another image (%.64s): make one of them first, \"lodge disk convert\"",
                      file, info.backing);
    if (!r && !i->format && !strcmp(info.format, "raw"))
        r = must_be_disk(src, file, err);
    if (!r)
        r = block_convert(src, &(struct block_create){ .path = disk, .format = "raw" }, i->progress, err);
    if (!r && i->finder && run_program((const char *const[]){ "sh", i->finder, disk, d.dir, NULL }, NULL))
        unlink(found); /* the image boots by firmware, or with a kernel that the user gives */
    snprintf(text, sizeof(text), "system=imported from %.128s\nformat=raw\n",
             strrchr(file, '/') ? strrchr(file, '/') + 1 : file);
    for (char *c = text; *c; c++)
        if ((u8)*c < ' ' && !(*c == '\n' && (c[1] == 0 || !strncmp(c, "\nformat=", 8))))
            *c = '?';
    if (!r && (!i->finder || rename(found, conf)))
        r = write_file(conf, text, strlen(text), 0600, false, err);
    if (!r)
        r = image_draft_find(&d, image, err); /* before the commit: nothing may fail after it */
    if (!r)
        r = image_commit(&d, err);
    block_info_free(&info);
    if (src)
        (void)block_close(src, NULL);
    image_draft_end(&d);
    return r;
}
