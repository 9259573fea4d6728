/* SPDX-License-Identifier: Apache-2.0 */
/* share_fuse.c - the server of shared folders, asked without a device. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse_rig.h"

static char dir[64];

static struct fuse_server *start(bool readonly)
{
    struct error err = { "" };
    strcpy(dir, "/tmp/lodge-fuse-XXXXXX");
    if (!mkdtemp(dir))
        abort();
    struct fuse_server *s = fuse_server_new(open(dir, O_PATH | O_DIRECTORY), "/proc/self/fd", readonly, &err);
    if (!s) {
        fprintf(stderr, "%s\n", err.text);
        exit(TEST_SKIP);
    }
    return s;
}

static void stop(struct fuse_server *s)
{
    char command[96];
    fuse_server_free(s);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK_EQ(system(command), 0);
}

static void put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f))
        abort();
}

TEST(a_file_is_made_written_read_renamed_and_removed)
{
    struct fuse_server *s = start(false);
    const struct fuse_init_in init = { .major = 7, .minor = 38, .flags = ~0u };
    CHECK_EQ(ask(s, FUSE_INIT, 0, &init, sizeof init, "", 0), 0);
    CHECK_EQ(ANSWER(struct fuse_init_out)->major, 7);

    const struct fuse_create_in create = { .flags = O_RDWR, .mode = 0644 };
    REQUIRE(!ask(s, FUSE_CREATE, 1, &create, sizeof create, "a", 2));
    const u64 node = ANSWER(struct fuse_entry_out)->nodeid;
    const u64 fh = ((const struct fuse_open_out *)(ANSWER(struct fuse_entry_out) + 1))->fh;

    u8 data[20000];
    for (u32 i = 0; i < sizeof data; i++)
        data[i] = (u8)(i * 7);
    const struct fuse_write_in w = { .fh = fh, .offset = 100, .size = sizeof data };
    CHECK_EQ(ask(s, FUSE_WRITE, node, &w, sizeof w, data, sizeof data), 0);
    CHECK_EQ(ANSWER(struct fuse_write_out)->size, sizeof data);
    const struct fuse_read_in r = { .fh = fh, .offset = 100, .size = sizeof data + 5 };
    CHECK_EQ(ask(s, FUSE_READ, node, &r, sizeof r, "", 0), 0);
    CHECK_EQ(body, sizeof data);
    CHECK(!memcmp(out + sizeof(struct fuse_out_header), data, sizeof data));

    const struct fuse_setattr_in cut = { .valid = FATTR_SIZE | FATTR_MODE, .size = 50, .mode = 0600 };
    CHECK_EQ(ask(s, FUSE_SETATTR, node, &cut, sizeof cut, "", 0), 0);
    CHECK_EQ(ANSWER(struct fuse_attr_out)->attr.size, 50);
    CHECK_EQ(ANSWER(struct fuse_attr_out)->attr.mode & 07777, 0600);

    const struct fuse_mkdir_in mk = { .mode = 0755 };
    CHECK_EQ(ask(s, FUSE_MKDIR, 1, &mk, sizeof mk, "d", 2), 0);
    const u64 d = ANSWER(struct fuse_entry_out)->nodeid;
    const struct fuse_rename2_in mv = { .newdir = d };
    CHECK_EQ(ask(s, FUSE_RENAME2, 1, &mv, sizeof mv, "a\0b", 4), 0);
    CHECK_EQ(lookup(s, d, "b"), node);
    CHECK_EQ(lookup(s, 1, "a"), 0);
    const struct fuse_release_in rel = { .fh = fh };
    CHECK_EQ(ask(s, FUSE_RELEASE, node, &rel, sizeof rel, "", 0), 0);
    CHECK_EQ(ask(s, FUSE_RELEASE, node, &rel, sizeof rel, "", 0), -EBADF);
    CHECK_EQ(ask_name(s, FUSE_RMDIR, 1, "d"), -ENOTEMPTY);
    CHECK_EQ(ask_name(s, FUSE_UNLINK, d, "b"), 0);
    CHECK_EQ(ask_name(s, FUSE_RMDIR, 1, "d"), 0);

    const struct fuse_forget_in f = { .nlookup = 2 };
    CHECK_EQ(ask(s, FUSE_FORGET, node, &f, sizeof f, "", 0), 1);
    CHECK_EQ(ask(s, FUSE_GETATTR, node, "", 0, "", 0), -ESTALE);
    stop(s);
}

TEST(nothing_outside_the_folder_is_reached)
{
    struct fuse_server *s = start(false);
    char path[128];
    int rc;
    snprintf(path, sizeof path, "%s/out", dir);
    CHECK_EQ(symlink("/etc", path), 0);
    snprintf(path, sizeof path, "%s/fifo", dir);
    CHECK_EQ(mkfifo(path, 0600), 0);
    static const char *const names[] = { "..", ".", "", "/etc/passwd", "out/passwd", "../x" };
    for (u32 i = 0; i < ARRAY_SIZE(names); i++)
        CHECK_EQ(ask_name(s, FUSE_LOOKUP, 1, names[i]), -EINVAL);
    const u64 out_node = lookup(s, 1, "out"), fifo = lookup(s, 1, "fifo");
    CHECK(out_node && fifo);
    CHECK_EQ(ask_name(s, FUSE_LOOKUP, out_node, "passwd"), -ENOTDIR);
    open_node(s, FUSE_OPEN, out_node, O_RDONLY, &rc);
    CHECK_EQ(rc, -ELOOP);
    open_node(s, FUSE_OPENDIR, out_node, O_RDONLY, &rc);
    CHECK_EQ(rc, -ENOTDIR);
    open_node(s, FUSE_OPEN, fifo, O_RDONLY, &rc);
    CHECK_EQ(rc, -ENXIO);
    const struct fuse_create_in create = { .flags = O_RDWR | O_TRUNC, .mode = 0644 };
    CHECK_EQ(ask(s, FUSE_CREATE, 1, &create, sizeof create, "out", 4), -ELOOP);
    CHECK_EQ(ask(s, FUSE_CREATE, 1, &create, sizeof create, "fifo", 5), -ENXIO);
    const struct fuse_rename2_in whiteout = { .newdir = 1, .flags = RENAME_WHITEOUT };
    CHECK_EQ(ask(s, FUSE_RENAME2, 1, &whiteout, sizeof whiteout, "fifo\0f", 7), -EINVAL);
    const struct fuse_mknod_in dev = { .mode = S_IFCHR | 0600, .rdev = 0x101 };
    CHECK_EQ(ask(s, FUSE_MKNOD, 1, &dev, sizeof dev, "mem", 4), -EPERM);
    /* numbers of no node and no handle, names without an end */
    CHECK_EQ(ask_name(s, FUSE_LOOKUP, 0, "x"), -ESTALE);
    CHECK_EQ(ask_name(s, FUSE_LOOKUP, ~0ull, "x"), -ESTALE);
    const struct fuse_read_in r = { .fh = ~0ull, .size = 10 };
    CHECK_EQ(ask(s, FUSE_READ, 1, &r, sizeof r, "", 0), -EBADF);
    CHECK_EQ(ask(s, FUSE_LOOKUP, 1, "", 0, "abc", 3), -EINVAL);
    CHECK_EQ(ask(s, FUSE_RENAME2, 1, "", 0, "", 0), -EINVAL);
    CHECK_EQ(ask(s, 4000, 1, "", 0, "", 0), -ENOSYS);
    stop(s);
}

TEST(a_folder_is_listed_whole_in_any_portions)
{
    struct fuse_server *s = start(false);
    bool seen[40] = { false };
    int rc;
    for (u32 i = 0; i < ARRAY_SIZE(seen); i++) {
        char name[16];
        snprintf(name, sizeof name, "file%u", i);
        put(name, "x");
    }
    for (u32 plus = 0; plus < 2; plus++) {
        memset(seen, 0, sizeof seen);
        const u64 fh = open_node(s, FUSE_OPENDIR, 1, O_RDONLY, &rc);
        REQUIRE(!rc);
        u64 offset = 0;
        for (u32 rounds = 0; rounds < 100; rounds++) {
            const struct fuse_read_in r = { .fh = fh, .offset = offset, .size = 900 };
            REQUIRE(!ask(s, plus ? FUSE_READDIRPLUS : FUSE_READDIR, 1, &r, sizeof r, "", 0));
            if (!body)
                break;
            CHECK(body <= 900);
            for (u32 at = 0; at < body;) {
                const u8 *p = out + sizeof(struct fuse_out_header) + at;
                const struct fuse_dirent *e = plus ? &((const struct fuse_direntplus *)(const void *)p)->dirent : (const void *)p;
                unsigned n;
                char name[64];
                snprintf(name, sizeof name, "%.*s", (int)e->namelen, e->name);
                if (sscanf(name, "file%u", &n) == 1 && n < ARRAY_SIZE(seen)) {
                    CHECK(!seen[n]);
                    seen[n] = true;
                    if (plus)
                        CHECK(((const struct fuse_direntplus *)(const void *)p)->entry_out.attr.size == 1);
                }
                offset = e->off;
                at += (u32)(plus ? FUSE_DIRENTPLUS_SIZE((const struct fuse_direntplus *)(const void *)p) : FUSE_DIRENT_SIZE(e));
            }
        }
        for (u32 i = 0; i < ARRAY_SIZE(seen); i++)
            CHECK(seen[i]);
    }
    stop(s);
}

TEST(no_file_of_the_guests_runs_as_somebody_on_the_host)
{
    struct fuse_server *s = start(false);
    const struct fuse_create_in create = { .flags = O_RDWR, .mode = S_IFREG | 06755 };
    CHECK_EQ(ask(s, FUSE_CREATE, 1, &create, sizeof create, "a", 2), 0);
    CHECK_EQ(ANSWER(struct fuse_entry_out)->attr.mode & 07777, 0755);
    const u64 a = ANSWER(struct fuse_entry_out)->nodeid;
    const struct fuse_setattr_in mode = { .valid = FATTR_MODE, .mode = 06711 };
    CHECK_EQ(ask(s, FUSE_SETATTR, a, &mode, sizeof mode, "", 0), 0);
    CHECK_EQ(ANSWER(struct fuse_attr_out)->attr.mode & 07777, 0711);
    struct fuse_mknod_in mk = { .mode = S_IFREG | 06755 };
    CHECK_EQ(ask(s, FUSE_MKNOD, 1, &mk, sizeof mk, "b", 2), 0);
    CHECK_EQ(ANSWER(struct fuse_entry_out)->attr.mode & 07777, 0755);
    mk.mode = S_IFCHR | 0666;
    CHECK_EQ(ask(s, FUSE_MKNOD, 1, &mk, sizeof mk, "c", 2), -EPERM);
    const struct fuse_mkdir_in dir_mode = { .mode = 0755 }; /* a folder's setgid is about its files' group */
    CHECK_EQ(ask(s, FUSE_MKDIR, 1, &dir_mode, sizeof dir_mode, "d", 2), 0);
    const u64 d = ANSWER(struct fuse_entry_out)->nodeid;
    const struct fuse_setattr_in shared = { .valid = FATTR_MODE, .mode = 02775 };
    CHECK_EQ(ask(s, FUSE_SETATTR, d, &shared, sizeof shared, "", 0), 0);
    CHECK_EQ(ANSWER(struct fuse_attr_out)->attr.mode & 07777, 02775);
    stop(s);
}

TEST(a_read_only_folder_stays_as_it_is)
{
    struct fuse_server *s = start(true);
    int rc;
    put("a", "text");
    const u64 node = lookup(s, 1, "a");
    open_node(s, FUSE_OPEN, node, O_RDWR, &rc);
    CHECK_EQ(rc, -EROFS);
    open_node(s, FUSE_OPEN, node, O_RDONLY | O_TRUNC, &rc);
    CHECK_EQ(rc, -EROFS);
    CHECK_EQ(ask_name(s, FUSE_UNLINK, 1, "a"), -EROFS);
    const struct fuse_create_in create = { .flags = O_RDWR, .mode = 0644 };
    CHECK_EQ(ask(s, FUSE_CREATE, 1, &create, sizeof create, "b", 2), -EROFS);
    const struct fuse_setattr_in cut = { .valid = FATTR_SIZE };
    CHECK_EQ(ask(s, FUSE_SETATTR, node, &cut, sizeof cut, "", 0), -EROFS);
    open_node(s, FUSE_OPEN, node, O_RDONLY, &rc);
    CHECK_EQ(rc, 0);
    stop(s);
}

TEST(an_unmount_leaves_nothing_behind)
{
    struct fuse_server *s = start(false);
    int rc;
    put("a", "text");
    const u64 node = lookup(s, 1, "a"), fh = open_node(s, FUSE_OPEN, node, O_RDONLY, &rc);
    CHECK_EQ(rc, 0);
    CHECK_EQ(ask(s, FUSE_DESTROY, 0, "", 0, "", 0), 0);
    const struct fuse_read_in r = { .fh = fh, .size = 10 };
    CHECK_EQ(ask(s, FUSE_READ, 1, &r, sizeof r, "", 0), -EBADF);
    CHECK_EQ(ask(s, FUSE_GETATTR, node, "", 0, "", 0), -ESTALE);
    CHECK(lookup(s, 1, "a") != 0); /* old numbers are not those of new files, in the next session or process */
    open_node(s, FUSE_OPEN, lookup(s, 1, "a"), O_RDONLY, &rc);
    CHECK_EQ(rc, 0);
    CHECK_EQ(ask(s, FUSE_READ, 1, &r, sizeof r, "", 0), -EBADF);
    CHECK_EQ(ask(s, FUSE_GETATTR, node, "", 0, "", 0), -ESTALE);
    stop(s);
}

TEST(a_guest_does_not_take_all_descriptors)
{
    struct rlimit old, few = { 64, 64 };
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    few.rlim_max = old.rlim_max;
    struct fuse_server *s;
    int rc = 0, last = 0;
    u32 opened = 0;
    if (fork()) {
        int status = 0;
        CHECK(wait(&status) > 0);
        CHECK_EQ(status, 0);
        return;
    }
    few.rlim_max = 64;
    if (setrlimit(RLIMIT_NOFILE, &few))
        _exit(1);
    s = start(false);
    put("a", "text");
    const u64 node = lookup(s, 1, "a");
    u64 fh = 0;
    for (; opened < 100 && !rc; opened++) {
        const u64 opens = open_node(s, FUSE_OPEN, node, O_RDONLY, &rc);
        fh = rc ? fh : opens;
    }
    last = open("/dev/null", O_RDONLY);
    /* What cannot be told of is not made; and it is when the guest gave something back. */
    const struct fuse_mkdir_in mk = { .mode = 0755 };
    const struct fuse_create_in create = { .flags = O_RDWR, .mode = 0644 };
    const struct fuse_release_in rel = { .fh = fh };
    CHECK_EQ(ask(s, FUSE_MKDIR, 1, &mk, sizeof mk, "d", 2), -ENFILE);
    CHECK_EQ(ask(s, FUSE_CREATE, 1, &create, sizeof create, "c", 2), -ENFILE);
    CHECK_EQ(ask_name(s, FUSE_LOOKUP, 1, "a"), 0);
    for (u32 i = 0; i < 4; i++)
        CHECK_EQ(ask(s, FUSE_RELEASE, node, &(struct fuse_release_in){ .fh = rel.fh - i }, sizeof rel, "", 0), 0);
    CHECK_EQ(ask(s, FUSE_CREATE, 1, &create, sizeof create, "d", 2), 0); /* no folder of this name was made */
    fuse_server_free(s);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    const int cleaned = system(command);
    _exit(rc == -ENFILE && opened > 8 && last >= 0 && !cleaned && !test_status() ? 0 : 2);
}
