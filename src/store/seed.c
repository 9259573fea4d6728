/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seed.c - the seed of the first boot, which cloud-init reads from a disk labelled CIDATA. It is a FAT12 file system
 * (Microsoft, "FAT: General Overview of On-Disk Format" 1.03) that is small enough for one sector of FAT.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

enum {
    SECTOR = 512,
    SECTORS = 128,
    PLAIN_AT = 1, /* sector numbers: reserved sectors, which a file system does not touch */
    FAT_AT = 32,
    ROOT_AT,      /* one sector of 16 entries: a label, and two files with the parts of their long names */
    DATA_AT,      /* clusters of one sector; the first is number 2 */
    ENTRY = 32,
    ATTR_READ_ONLY = 1,
    ATTR_LABEL = 8,
    ATTR_LONG = 15,
};

struct fat {
    u8 image[SECTORS * SECTOR];
    u32 plain; /* bytes used of the reserved sectors */
    u32 entries, next; /* used entries of the root; next free cluster */
};

static void put16(u8 *p, u32 v)
{
    p[0] = (u8)v;
    p[1] = (u8)(v >> 8);
}

static void put32(u8 *p, u32 v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}

static void fat_init(struct fat *f)
{
    u8 *b = f->image;

    memset(f, 0, sizeof(*f));
    memcpy(b, "\xeb\x3c\x90LODGE   ", 11);
    put16(b + 11, SECTOR);
    b[13] = 1; /* sectors a cluster */
    put16(b + 14, FAT_AT);
    b[16] = 1;                  /* FATs */
    put16(b + 17, SECTOR / ENTRY); /* entries of the root */
    put16(b + 19, SECTORS);
    b[21] = 0xf8;        /* media: fixed */
    put16(b + 22, 1);    /* sectors of the FAT */
    put16(b + 24, 32);   /* sectors a track */
    put16(b + 26, 2);    /* heads */
    b[36] = 0x80;        /* drive */
    b[38] = 0x29;        /* says that the next three fields exist */
    memcpy(b + 39, "\1\0\1\0CIDATA     FAT12   ", 23);
    b[510] = 0x55;
    b[511] = 0xaa;
    memcpy(b + FAT_AT * SECTOR, "\xf8\xff\xff", 3);
    u8 *label = b + ROOT_AT * SECTOR;
    memcpy(label, "CIDATA     ", 11);
    label[11] = ATTR_LABEL;
    f->entries = 1;
    f->next = 2;
}

/* Writes the files a second time as plain lines, for our own image. Its first boot then needs neither drivers nor
   mount(8). The lines are "#lodge-seed", "#file NAME", the lines of the file, ..., "#end"
   (tools/image/debian/files/usr/lib/lodge/seed). The boot sector contains no newline, so it is the beginning of the
   first line. */
static bool plain_add(struct fat *f, const char *line, const char *text)
{
    u8 *to = f->image + PLAIN_AT * SECTOR;
    size_t size = (FAT_AT - PLAIN_AT) * SECTOR - f->plain;
    int n = snprintf((char *)to + f->plain, size, "%s\n%s", line, text);

    if (n < 0 || (size_t)n >= size)
        return false;
    f->plain += (u32)n;
    return true;
}

static void fat_set(struct fat *f, u32 cluster, u32 value)
{
    u8 *p = f->image + FAT_AT * SECTOR + cluster * 3 / 2;

    if (cluster & 1) {
        p[0] = (u8)((p[0] & 0x0f) | value << 4);
        p[1] = (u8)(value >> 4);
    } else {
        p[0] = (u8)value;
        p[1] = (u8)((p[1] & 0xf0) | value >> 8);
    }
}

static u8 *fat_entry(struct fat *f)
{
    return f->image + ROOT_AT * SECTOR + ENTRY * f->entries++;
}

/* name: lower case, used as the long name; alias: its 8.3 form, 11 characters. False: the image is full. */
static bool fat_add(struct fat *f, const char *name, const char *alias, const char *text)
{
    static const u8 places[13] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
    u32 len = (u32)strlen(text), clusters = (len + SECTOR - 1) / SECTOR;
    u32 chars = (u32)strlen(name), parts = (chars + 12) / 13;
    char heading[32];
    u8 sum = 0;

    snprintf(heading, sizeof(heading), "#file %s", name);
    if (f->next + clusters > SECTORS - DATA_AT + 2 || f->entries + parts + 1 > SECTOR / ENTRY ||
        !plain_add(f, heading, text))
        return false;
    for (int i = 0; i < 11; i++)
        sum = (u8)((sum >> 1 | sum << 7) + (u8)alias[i]);
    for (u32 part = parts; part-- > 0;) {
        u8 *e = fat_entry(f);
        e[0] = (u8)((part + 1) | (part + 1 == parts ? 0x40 : 0));
        e[11] = ATTR_LONG;
        e[13] = sum;
        for (u32 i = 0; i < 13; i++) {
            u32 at = part * 13 + i;
            put16(e + places[i], at < chars ? (u8)name[at] : at == chars ? 0 : 0xffff);
        }
    }
    u8 *e = fat_entry(f);
    memcpy(e, alias, 11);
    e[11] = ATTR_READ_ONLY;
    put16(e + 24, 1 << 5 | 1); /* written on the 1st of January 1980 */
    put16(e + 26, clusters ? f->next : 0);
    put32(e + 28, len);
    memcpy(f->image + (DATA_AT + f->next - 2) * SECTOR, text, len);
    for (u32 i = 1; i <= clusters; i++, f->next++)
        fat_set(f, f->next, i == clusters ? 0xfff : f->next + 1);
    return true;
}

struct text {
    char s[16384];
    size_t len;
};

static void printf_like(2, 3) add(struct text *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(t->s + t->len, sizeof(t->s) - t->len, fmt, ap);
    va_end(ap);
    t->len = n < 0 ? t->len : MIN(t->len + (size_t)n, sizeof(t->s) - 1);
}

/* The serial line belongs to the person who runs the machine: cloud images get a login there (our own image has its
   own). */
static const char console[] =
    "write_files:\n"
    "  - path: /etc/systemd/system/serial-getty@ttyS0.service.d/lodge.conf\n"
    "    content: |\n"
    "      [Service]\n"
    "      ExecStart=\n"
    "      ExecStart=-/sbin/agetty --autologin %s --keep-baud 115200,57600,38400,9600 %%I $TERM\n"
    "runcmd:\n"
    "  - [systemctl, daemon-reload]\n"
    "  - [systemctl, restart, --no-block, serial-getty@ttyS0.service]\n";

static void user_data(struct text *t, const struct seed *s)
{
    add(t, "#cloud-config\nusers:\n  - name: %s\n", s->user);
    if (strcmp(s->user, "root"))
        add(t, "    shell: /bin/bash\n    lock_passwd: true\n    sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n");
    add(t, "    ssh_authorized_keys:\n      - %s\n", s->authorized_key);
    add(t, "disable_root: %s\nssh_pwauth: false\nmanage_etc_hosts: localhost\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n",
        strcmp(s->user, "root") ? "true" : "false");
    for (const char *line = s->host_key; *line;) {
        size_t n = strcspn(line, "\n");
        add(t, "    %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    add(t, "  ed25519_public: %s\n", s->host_key_public);
    add(t, console, s->user);
}

int seed_write(const char *path, const struct seed *s, struct error *err)
{
    struct fat *f = malloc(sizeof(*f));
    struct text *t = calloc(1, sizeof(*t));
    int r = -ENOMEM;

    if (f && t) {
        fat_init(f);
        add(t, "instance-id: %s\nlocal-hostname: %s\n", s->instance_id, s->hostname);
        bool fits = plain_add(f, "#lodge-seed", "") && fat_add(f, "meta-data", "META-D~1   ", t->s);
        t->len = 0;
        user_data(t, s);
        fits = fits && fat_add(f, "user-data", "USER-D~1   ", t->s);
        /* There is no network-config. Without one, cloud-init asks for an address by DHCP on the first card, in any
           of the ways in which a system configures its network. With one that matches names, some of these ways do
           not work. */
        fits = fits && plain_add(f, "#end", "");
        r = fits ? write_file(path, f->image, sizeof(f->image), 0600, false, err)
                 : error_set(err, E2BIG, "the seed %s would be too large", path);
    }
    free(f);
    free(t);
    return r;
}
