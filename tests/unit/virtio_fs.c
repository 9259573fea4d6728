/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_fs.c - the file system device with all its threads: the driver's, the loop's, its own.  No answer is lost, a
 * reset or a save comes at any moment, and nothing is written to guest memory after a reset.
 */
#include "virtio/virtio_fs.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "virtio_driver.h"

#define BASE 0x10000000ull
enum { SIZE = 64, ROUNDS = 60, AT = 0x90000, SLOT = 512, IN = 256 };

static struct loop *loop;
static struct memory *m;
static struct virtio_fs *fs;
static struct virtio_transport *t;
static struct drv v[2];
static char dir[64];

/* A host's file system that does not answer: these are what the server calls, instead of libc's. */
enum { ANSWERS, HANGS, CAME_BACK };
static int statfs_state, close_state, stalled; /* stalled: threads that wait in one; all atomic */

static void maybe_hang(int *state)
{
    if (__atomic_load_n(state, __ATOMIC_SEQ_CST) == ANSWERS)
        return;
    __atomic_add_fetch(&stalled, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(state, __ATOMIC_SEQ_CST) == HANGS)
        usleep(1000);
    __atomic_sub_fetch(&stalled, 1, __ATOMIC_SEQ_CST);
}

int fstatvfs(int fd, struct statvfs *s)
{
    maybe_hang(&statfs_state);
    *s = (struct statvfs){ .f_bsize = 4096, .f_frsize = 4096 };
    return 0;
}

static __thread bool is_main; /* its own descriptors are none of the folder's */

int close(int fd)
{
    if (!is_main)
        maybe_hang(&close_state);
    return (int)syscall(SYS_close, fd);
}

static void set_line(void *chip, u32 pin, bool level) {}

static void ask(u32 slot, u32 opcode, u64 node, const char *name)
{
    const u64 at = AT + slot * SLOT;
    const u32 len = (u32)sizeof(struct fuse_in_header) + (name ? (u32)strlen(name) + 1 : 8);
    const struct fuse_in_header h = { .len = len, .opcode = opcode, .nodeid = node, .unique = 1000 + slot };
    u8 *p = memory_ptr(m, at, SLOT, true);
    memset(p, 0, SLOT);
    memcpy(p, &h, sizeof h);
    if (name)
        strcpy((char *)p + sizeof h, name);
    CHECK(drv_add(&v[1], (struct drv_piece[]){ { at, len, false }, { at + IN, SLOT - IN, true } }, 2, slot & 1, slot));
}

static u32 collect(void)
{
    u64 slot;
    u32 len, n = 0;
    for (; drv_used(&v[1], &slot, &len); n++) {
        const volatile struct fuse_out_header *o = memory_ptr(m, AT + slot * SLOT + IN, sizeof *o, true);
        CHECK_EQ(o->unique, 1000 + slot);
        CHECK_EQ(o->len, len);
        CHECK_EQ(o->error, 0);
    }
    return n;
}

/* The loop's thread: as a save that goes on. */
static void save(void *arg)
{
    virtio_transport_settle(t);
    virtio_transport_resume(t);
}

static void *drive(void *arg)
{
    for (u32 round = 0; round < ROUNDS; round++) {
        const u64 features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (round & 1 ? VIRTIO_F_RING_PACKED : 0);
        CHECK(drv_negotiate(&v[0], features));
        v[1].agreed = features;
        drv_queue(&v[1], 1, SIZE, drv_queue(&v[0], 0, SIZE, 0x1000));
        drv_ok(&v[0]);
        for (u32 k = 0; k < 20; k++) {
            for (u32 i = 0; i < 16; i++)
                ask(i, i & 3 ? FUSE_LOOKUP : FUSE_STATFS, 1, i & 3 ? (i & 1 ? "a" : "b") : NULL);
            drv_kick(&v[1]);
            if (k % 5 == 2)
                CHECK_EQ(loop_post(loop, save, NULL), 0);
            if (k == 19 && round % 3)
                break; /* all under way */
            for (u32 n = 0; n < 16; sched_yield())
                n += collect();
        }
        drv_set(&v[0], 0x70, 0);
        CHECK_EQ(drv_reg(&v[0], 0x70), 0);
        u8 *all = memory_ptr(m, AT, 16 * SLOT, true);
        memset(all, 0x77, 16 * SLOT);
        for (u32 k = 0; k < 20; k++)
            sched_yield();
        for (u32 k = 0; k < 16 * SLOT; k++)
            if (all[k] != 0x77)
                CHECK(!"written after a reset");
    }
    loop_stop(loop);
    return NULL;
}

TEST(answers_resets_and_saves)
{
    const struct irq_line irq = { set_line, NULL, 0 };
    struct error err = { "" };
    char path[80];
    pthread_t thread;

    strcpy(dir, "/tmp/lodge-fs-XXXXXX");
    if (!mkdtemp(dir))
        abort();
    for (const char *n = "ab"; *n; n++) {
        snprintf(path, sizeof path, "%s/%c", dir, *n);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    loop = loop_new();
    m = memory_new(NULL);
    CHECK_EQ(memory_add(m, "ram", 0, MiB(1), false, NULL), 0);
    const struct virtio_fs_config c = { .memory = m, .loop = loop, .path = dir, .tag = "tag" };
    if (!(fs = virtio_fs_new(&c, &err))) {
        fprintf(stderr, "%s\n", err.text);
        exit(TEST_SKIP);
    }
    for (u32 i = 0; i < 2; i++)
        v[i] = (struct drv){ .m = m, .bus = i ? v[0].bus : bus_new(1ull << 40), .base = BASE };
    t = virtio_mmio_new(virtio_fs_device(fs), v[0].bus, BASE, &irq, NULL, 0, NULL);
    pthread_create(&thread, NULL, drive, NULL);
    CHECK_EQ(loop_run(loop), 0);
    pthread_join(thread, NULL);
    virtio_transport_free(t);
    virtio_fs_free(fs);
    bus_free(v[0].bus);
    memory_free(m);
    loop_free(loop);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK_EQ(system(command), 0);
}

/* ---- a host's file system that does not answer any more ---- */

static void set_up(void)
{
    static const struct irq_line irq = { set_line, NULL, 0 };
    struct error err = { "" };
    char path[80];

    is_main = true;
    strcpy(dir, "/tmp/lodge-fs-XXXXXX");
    if (!mkdtemp(dir))
        abort();
    snprintf(path, sizeof path, "%s/a", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    loop = loop_new();
    m = memory_new(NULL);
    CHECK_EQ(memory_add(m, "ram", 0, MiB(1), false, NULL), 0);
    const struct virtio_fs_config c = { .memory = m, .loop = loop, .path = dir, .tag = "tag" };
    if (!(fs = virtio_fs_new(&c, &err))) {
        fprintf(stderr, "%s\n", err.text);
        exit(TEST_SKIP);
    }
    for (u32 i = 0; i < 2; i++)
        v[i] = (struct drv){ .m = m, .bus = i ? v[0].bus : bus_new(1ull << 40), .base = BASE };
    t = virtio_mmio_new(virtio_fs_device(fs), v[0].bus, BASE, &irq, NULL, 0, NULL);
}

static void tear_down(void)
{
    char command[96];

    virtio_transport_free(t);
    memory_free(m); /* in the order of vm_take_down */
    virtio_fs_free(fs);
    bus_free(v[0].bus);
    loop_free(loop);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK_EQ(system(command), 0);
}

static void set_up_driver(void)
{
    const u64 features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC;

    CHECK(drv_negotiate(&v[0], features));
    v[1].agreed = features;
    drv_queue(&v[1], 1, SIZE, drv_queue(&v[0], 0, SIZE, 0x1000));
    drv_ok(&v[0]);
}

/* Another thread is the guest, since the loop is this one's. */
static void *ask_what_hangs(void *arg)
{
    set_up_driver();
    ask(0, FUSE_STATFS, 1, NULL);
    ask(1, FUSE_STATFS, 1, NULL);
    drv_kick(&v[1]);
    while (!__atomic_load_n(&stalled, __ATOMIC_SEQ_CST))
        usleep(1000);
    loop_stop(loop);
    return NULL;
}

static void *open_a_folder(void *arg)
{
    set_up_driver();
    ask(0, FUSE_OPENDIR, 1, NULL);
    drv_kick(&v[1]);
    while (!collect())
        sched_yield();
    loop_stop(loop);
    return NULL;
}

static void run_with(void *(*guest)(void *))
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, guest, NULL), 0);
    CHECK_EQ(loop_run(loop), 0);
    pthread_join(thread, NULL);
}

/* It comes back when everything is gone: nothing is touched that is not there. */
static void let_it_come_back(int *state)
{
    CHECK_EQ(__atomic_load_n(&stalled, __ATOMIC_SEQ_CST), 1); /* the machine went while it hung */
    __atomic_store_n(state, CAME_BACK, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&stalled, __ATOMIC_SEQ_CST))
        usleep(1000);
    usleep(100000); /* what it does then, it does here */
    __atomic_store_n(state, ANSWERS, __ATOMIC_SEQ_CST);
}

TEST(the_end_waits_for_no_request_for_ever)
{
    set_up();
    statfs_state = HANGS;
    run_with(ask_what_hangs);
    tear_down();
    let_it_come_back(&statfs_state);
}

TEST(the_end_waits_for_no_close_for_ever)
{
    set_up();
    run_with(open_a_folder);
    close_state = HANGS;
    tear_down();
    let_it_come_back(&close_state);
}
