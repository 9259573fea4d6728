/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_fs.c - the file system device with all that has a part in it: the driver's thread, the loop's, the process that
 * serves the folder (this program is that process, too).  No answer is lost, a reset or a save comes at any moment,
 * nothing is written to guest memory after a reset, and the engine knows of what is written.
 */
#include "virtio/virtio_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "confined.h"
#include "share/folder_message.h"
#include "share/folderd.h"
#include "virtio_driver.h"

#define BASE 0x10000000ull
enum { SIZE = 64, ROUNDS = 60, AT = 0x90000, SLOT = 512, IN = 256 };

static struct loop *loop;
static struct memory *m;
static struct virtio_fs *fs;
static struct virtio_transport *t;
static struct drv v[2];
static char dir[64];

/* ---- the process ---- */

/* One that a guest has taken over: its answers to two requests of the same kind. */
static const struct lie {
    u32 id, length; /* more than was asked for */
    size_t size;    /* of the message */
} lies[] = { { 1, 0, sizeof(struct folder_done) }, { 0, 1000, sizeof(struct folder_done) }, { 0, 16, 4 }, { 0, 16, 64 } };

static int lie(const struct lie *l)
{
    static const struct folder_answer yes = { .magic = FOLDER_MAGIC };
    static struct folder_request q;
    union {
        struct folder_done done;
        char room[64];
    } a = { { 0, 0 } };

    if (recv(FOLDER_FD_MACHINE, &q, sizeof q, 0) <= 0 || send(FOLDER_FD_MACHINE, &yes, sizeof yes, 0) < 0)
        return 1;
    while (recv(FOLDER_FD_MACHINE, &q, sizeof q, 0) > 0) {
        a.done = (struct folder_done){ q.id + l->id, l->length };
        send(FOLDER_FD_MACHINE, &a, l->size, MSG_NOSIGNAL);
    }
    for (;;) /* it does not end by itself, either */
        pause();
}

static void __attribute__((constructor)) be_folderd(int argc, char **argv)
{
    const char *which = getenv("LODGE_TEST_LIE");

    if (argc > 1 && !strcmp(argv[1], "folderd"))
        _exit(which ? lie(&lies[atoi(which)]) : folderd_main(argc - 1, argv + 1));
}

/* Of our child of this kind; 0: there is none. */
static pid_t server(void)
{
    DIR *proc = opendir("/proc");
    pid_t found = 0;

    for (struct dirent *e; proc && !found && (e = readdir(proc));) {
        const pid_t pid = atoi(e->d_name);
        if (pid && proc_status(pid, "PPid", 10) == getpid())
            found = pid;
    }
    if (proc)
        closedir(proc);
    return found;
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

static u32 collect_with(int error)
{
    u64 slot;
    u32 len, n = 0;
    for (; drv_used(&v[1], &slot, &len); n++) {
        const volatile struct fuse_out_header *o = memory_ptr(m, AT + slot * SLOT + IN, sizeof *o, true);
        CHECK_EQ(o->unique, 1000 + slot);
        CHECK_EQ(o->len, len);
        CHECK_EQ(o->error, error);
    }
    return n;
}

static u32 collect(void) { return collect_with(0); }

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

static void set_up(void)
{
    static const struct irq_line irq = { set_line, NULL, 0 };
    struct error err = { "" };
    char path[80];

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
}

static void tear_down(void)
{
    char command[96];

    virtio_transport_free(t);
    memory_free(m); /* in the order of vm_take_down */
    virtio_fs_free(fs);
    bus_free(v[0].bus);
    loop_free(loop);
    CHECK_EQ(server(), 0);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK_EQ(system(command), 0);
}

/* Another thread is the guest, since the loop is this one's. */
static void run_with(void *(*guest)(void *))
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, guest, NULL), 0);
    CHECK_EQ(loop_run(loop), 0);
    pthread_join(thread, NULL);
}

static void set_up_driver(void)
{
    const u64 features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC;

    CHECK(drv_negotiate(&v[0], features));
    v[1].agreed = features;
    drv_queue(&v[1], 1, SIZE, drv_queue(&v[0], 0, SIZE, 0x1000));
    drv_ok(&v[0]);
}

TEST(answers_resets_and_saves)
{
    set_up();
    run_with(drive);
    tear_down();
}

/* ---- a host's file system that does not answer any more: its process is stopped ---- */

static void *ask_what_hangs(void *arg)
{
    set_up_driver();
    CHECK(!kill(server(), SIGSTOP));
    ask(0, FUSE_STATFS, 1, NULL);
    ask(1, FUSE_STATFS, 1, NULL);
    drv_kick(&v[1]);
    usleep(100000);
    CHECK_EQ(collect(), 0);
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
    CHECK(!kill(server(), SIGSTOP));
    loop_stop(loop);
    return NULL;
}

static void ends_in_time(void *(*guest)(void *))
{
    set_up();
    run_with(guest);
    const u64 from = clock_ns();
    virtio_fs_device(fs)->ending = true;
    tear_down();
    const u64 took = (clock_ns() - from) / 1000000;
    CHECK(took >= 1900 && took < 60000); /* 2 s; a busy host takes longer */
}

TEST(the_end_waits_for_no_request_for_ever) { ends_in_time(ask_what_hangs); }
TEST(the_end_waits_for_no_close_for_ever) { ends_in_time(open_a_folder); }

/* ---- a process that ends, or lies ---- */

/* Requests fail from now on, but each has its answer; resets still work. */
static void *ask_after_its_end(void *arg)
{
    set_up_driver();
    if (!getenv("LODGE_TEST_LIE"))
        CHECK(!kill(server(), SIGSTOP));
    for (u32 i = 0; i < 8; i++)
        ask(i, FUSE_STATFS, 1, NULL);
    drv_kick(&v[1]);
    usleep(50000);
    if (!getenv("LODGE_TEST_LIE"))
        CHECK(!kill(server(), SIGKILL));
    for (u32 n = 0; n < 8; sched_yield())
        n += collect_with(-EIO);
    for (u32 i = 0; server() && i < 1000; i++)
        usleep(10000);
    CHECK_EQ(server(), 0);
    ask(9, FUSE_LOOKUP, 1, "a");
    drv_kick(&v[1]);
    while (!collect_with(-EIO))
        sched_yield();
    drv_set(&v[0], 0x70, 0);
    CHECK_EQ(drv_reg(&v[0], 0x70), 0);
    loop_stop(loop);
    return NULL;
}

TEST(its_end_is_an_error_for_the_guest)
{
    set_up();
    run_with(ask_after_its_end);
    tear_down();
}

TEST(its_lies_are_its_end)
{
    for (u32 i = 0; i < ARRAY_SIZE(lies); i++) {
        char which[12];
        snprintf(which, sizeof which, "%u", i);
        setenv("LODGE_TEST_LIE", which, 1);
        set_up();
        run_with(ask_after_its_end);
        tear_down();
    }
    unsetenv("LODGE_TEST_LIE");
}

/* ---- what the process writes, the engine and the dirty log know before the guest does ---- */

enum { DATA = 0x40000, PAGES = 8 };
static u64 told[2 * PAGES + 2];
static u32 ntold, used_then;

static void written(void *ctx, u64 place, u64 len)
{
    if (place < DATA || place >= DATA + PAGES * GUEST_PAGE_SIZE || ntold + 2 > ARRAY_SIZE(told))
        return;
    told[ntold++] = place;
    told[ntold++] = len;
    used_then |= DRV_AT(&v[1], u16, v[1].device + 2) != v[1].used; /* the used ring's idx: 2.7.8 */
}

static void *read_a_file(void *arg)
{
    struct fuse_in_header h = { .opcode = FUSE_READ };
    struct fuse_read_in r = { .size = PAGES * GUEST_PAGE_SIZE };
    u64 dirty[MiB(1) / GUEST_PAGE_SIZE / 64], node, slot;
    u32 len;

    set_up_driver();
    ask(0, FUSE_LOOKUP, 1, "a");
    drv_kick(&v[1]);
    while (!collect())
        sched_yield();
    node = *(u64 *)memory_ptr(m, AT + IN + sizeof(struct fuse_out_header), 8, false);
    ask(0, FUSE_OPEN, node, NULL);
    drv_kick(&v[1]);
    while (!collect())
        sched_yield();
    r.fh = *(u64 *)memory_ptr(m, AT + IN + sizeof(struct fuse_out_header), 8, false);
    h.nodeid = node;
    h.len = sizeof h + sizeof r;
    memcpy(memory_ptr(m, AT, sizeof h, true), &h, sizeof h);
    memcpy(memory_ptr(m, AT + sizeof h, sizeof r, true), &r, sizeof r);
    memory_dirty_take(m, &m->piece[0], dirty);
    m->written = written;
    /* Every other page of it, so that the pieces do not lie together. */
    struct drv_piece p[2 + PAGES / 2] = { { AT, h.len, false }, { AT + IN, sizeof(struct fuse_out_header), true } };
    for (u32 i = 0; i < PAGES / 2; i++)
        p[2 + i] = (struct drv_piece){ DATA + 2 * i * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE, true };
    CHECK(drv_add(&v[1], p, ARRAY_SIZE(p), false, 0));
    drv_kick(&v[1]);
    while (!drv_used(&v[1], &slot, &len))
        sched_yield();
    m->written = NULL;
    CHECK_EQ(len, sizeof(struct fuse_out_header) + 3 * GUEST_PAGE_SIZE + 100);
    memory_dirty_take(m, &m->piece[0], dirty);
    for (u32 i = 0; i < PAGES; i++) {
        const u64 page = DATA / GUEST_PAGE_SIZE + i;
        CHECK_EQ(dirty[page / 64] >> page % 64 & 1, !(i & 1));
        CHECK_EQ(*(u8 *)memory_ptr(m, page * GUEST_PAGE_SIZE, 1, false), i & 1 ? 0 : 'x');
    }
    CHECK_EQ(ntold, PAGES);
    for (u32 i = 0; i < ntold; i += 2) {
        CHECK_EQ(told[i], DATA + i * GUEST_PAGE_SIZE);
        CHECK_EQ(told[i + 1], i == PAGES - 2 ? 100 : GUEST_PAGE_SIZE);
    }
    CHECK_EQ(used_then, 0);
    loop_stop(loop);
    return NULL;
}

TEST(the_engine_knows_what_is_written)
{
    char path[80], text[3 * GUEST_PAGE_SIZE + 100];

    set_up();
    snprintf(path, sizeof path, "%s/a", dir);
    memset(text, 'x', sizeof text);
    const int fd = open(path, O_WRONLY);
    CHECK(write(fd, text, sizeof text) == sizeof text);
    close(fd);
    run_with(read_a_file);
    tear_down();
}
