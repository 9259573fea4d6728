/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base_loop.c - timers fire in order and never early, posted calls keep their order and wake the loop,
 * descriptors may vanish while they are dispatched.  Nothing here depends on how fast the machine is.
 */
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/listener.h"
#include "base/loop.h"
#include "base/spin.h"

static struct loop *loop;
static u64 order[4096];
static unsigned fired, early;
static unsigned expected;

static void on_fire(struct timer *t)
{
    early += clock_ns() < t->deadline;
    if (fired < ARRAY_SIZE(order))
        order[fired] = t->deadline;
    if (++fired == expected)
        loop_stop(t->loop);
}

static void start(unsigned n)
{
    loop = loop_new();
    fired = early = 0;
    expected = n;
}

TEST(timers_fire_in_order)
{
    enum { N = 1000 };
    struct timer *t = calloc(N, sizeof(*t));

    start(N - N / 4);
    u64 now = clock_ns();
    srand(1);
    for (int i = 0; i < N; i++) {
        timer_init(&t[i], loop, on_fire);
        timer_arm(&t[i], now + 1000ull * (u64)(rand() % 20000));
    }
    for (int i = 0; i < N; i += 2) /* moved */
        timer_arm(&t[i], now + 1000ull * (u64)(rand() % 20000));
    for (int i = 0; i < N; i += 4) /* taken away */
        timer_disarm(&t[i]);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(fired, N - N / 4);
    CHECK_EQ(early, 0);
    for (unsigned i = 1; i < fired; i++)
        CHECK(order[i - 1] <= order[i]);
    loop_free(loop);
    free(t);
}

TEST(deadlines_of_all_sizes)
{
    struct timer past, zero, never;

    start(2);
    timer_init(&past, loop, on_fire);
    timer_init(&zero, loop, on_fire);
    timer_init(&never, loop, on_fire);
    timer_arm(&never, UINT64_MAX);
    timer_arm(&past, 1);
    timer_arm(&zero, 0);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(order[0], 0);
    CHECK(never.armed && !past.armed && !zero.armed);
    loop_free(loop);
}

static struct timer periodic;

static void rearm(struct timer *t)
{
    if (++fired == 100)
        loop_stop(t->loop);
    else
        timer_arm(t, clock_ns() + 1000);
}

TEST(a_timer_arms_itself)
{
    start(0);
    timer_init(&periodic, loop, rearm);
    timer_arm(&periodic, 0);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(fired, 100);
    loop_free(loop);
}

static void *arm_from_outside(void *arg)
{
    struct timer *t = arg;

    for (int i = 0; i < 20000; i++) { /* far away, nearer, off: the loop sleeps through it */
        timer_arm(t, clock_ns() + 1000000000000ull - (u64)i);
        if (i % 3 == 0)
            timer_disarm(t);
    }
    timer_arm(t, clock_ns() + 100000);
    return NULL;
}

TEST(threads_arm_timers)
{
    struct timer t[2];
    pthread_t thread[2];

    start(2);
    for (int i = 0; i < 2; i++) {
        timer_init(&t[i], loop, on_fire);
        pthread_create(&thread[i], NULL, arm_from_outside, &t[i]);
    }
    CHECK_EQ(loop_run(loop), 0); /* a lost deadline hangs here, and the test times out */
    CHECK_EQ(fired, 2);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    loop_free(loop);
}

static u64 posted[2];
static unsigned disorder;

static void on_post(void *arg)
{
    u64 v = (u64)(uintptr_t)arg, who = v & 1;

    disorder += posted[who] != v >> 1;
    posted[who]++;
    if (++fired == expected)
        loop_stop(loop);
}

static void *post_many(void *arg)
{
    for (u64 i = 0; i < 10000; i++)
        if (loop_post(loop, on_post, (void *)(uintptr_t)(i << 1 | (u64)(uintptr_t)arg)))
            abort();
    return NULL;
}

TEST(posts_keep_their_order)
{
    pthread_t thread[2];

    start(20000);
    posted[0] = posted[1] = disorder = 0;
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, post_many, (void *)(uintptr_t)i);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(disorder, 0);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    loop_free(loop);
}

static struct loop_fd watched[2];

static void remove_both(struct loop_fd *w, u32 events)
{
    (void)w;
    (void)events;
    fired++;
    for (int i = 0; i < 2; i++)
        loop_fd_remove(loop, &watched[i]);
    loop_stop(loop);
}

TEST(a_descriptor_removed_is_not_called)
{
    int p[2][2];

    start(0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pipe(p[i]), 0);
        CHECK_EQ(write(p[i][1], "x", 1), 1);
        watched[i] = (struct loop_fd){ p[i][0], EPOLLIN, remove_both };
        CHECK_EQ(loop_fd_add(loop, &watched[i]), 0);
    }
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(fired, 1);
    loop_free(loop);
    for (int i = 0; i < 2; i++) {
        close(p[i][0]);
        close(p[i][1]);
    }
}

static struct timer late;
static unsigned reads;

static void read_null(struct loop_fd *w, u32 events)
{
    char c;

    (void)events;
    CHECK_EQ(read(w->fd, &c, 1), 0);
    if (++reads == 3) {
        CHECK_EQ(loop_fd_set(loop, w, 0), 0); /* from here the loop sleeps until the timer */
        timer_arm(&late, clock_ns() + 1000000);
    }
}

TEST(files_are_always_ready)
{
    struct loop_fd w = { open("/dev/null", O_RDONLY), EPOLLIN, read_null };

    start(1);
    timer_init(&late, loop, on_fire);
    CHECK_EQ(loop_fd_add(loop, &w), 0);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(reads, 3);
    loop_fd_remove(loop, &w);
    loop_free(loop);
    close(w.fd);
}

/* ---- kicks ---- */

static struct loop_kick kicks[2];
static u64 work[2], work_seen[2];
static unsigned served;

static void serve(struct loop_kick *k)
{
    u64 i = (u64)(k - kicks);

    served++;
    work_seen[i] = __atomic_load_n(&work[i], __ATOMIC_RELAXED);
    if (work_seen[0] == 300000 && work_seen[1] == 300000)
        loop_stop(loop);
}

static void *kick_often(void *arg)
{
    u64 i = (u64)(uintptr_t)arg & 1;

    for (int n = 0; n < 100000; n++) {
        __atomic_fetch_add(&work[i], 1, __ATOMIC_RELAXED);
        loop_kick(&kicks[i]);
        if (n % 1000 == 0)
            usleep(1); /* so that the loop sleeps, too */
    }
    return NULL;
}

TEST(no_kick_is_lost)
{
    pthread_t thread[6];

    start(0);
    served = 0;
    for (int i = 0; i < 2; i++) {
        work[i] = work_seen[i] = 0;
        loop_kick_init(&kicks[i], loop, serve);
    }
    for (int i = 0; i < 6; i++)
        pthread_create(&thread[i], NULL, kick_often, (void *)(uintptr_t)i);
    CHECK_EQ(loop_run(loop), 0); /* one that is lost hangs here */
    CHECK(served <= 600000);
    for (int i = 0; i < 6; i++)
        pthread_join(thread[i], NULL);
    loop_free(loop);
}

static void kick_again(struct loop_kick *k)
{
    if (k == &kicks[1]) {
        fired++; /* was removed before its turn */
    } else if (++served == 1) {
        loop_kick_remove(&kicks[1]);
        loop_kick(k);
        timer_arm(&late, 0);
    } else if (served < 1000) {
        loop_kick(k); /* the timer has its turn all the same */
    }
}

TEST(kicks_leave_room_for_others)
{
    start(1);
    served = 0;
    timer_init(&late, loop, on_fire);
    for (int i = 0; i < 2; i++)
        loop_kick_init(&kicks[i], loop, kick_again);
    loop_kick(&kicks[1]);
    loop_kick(&kicks[0]); /* runs first or second: removed while waiting for its turn, or while listed */
    CHECK_EQ(loop_run(loop), 0);
    CHECK(served < 1000);
    CHECK_EQ(fired, 1);
    loop_free(loop);
}

/* ---- those who wait for the loop's thread ---- */

static bool finished;
static unsigned waiting, released;

static void *wait_for_it(void *arg)
{
    __atomic_fetch_add(&waiting, 1, __ATOMIC_SEQ_CST);
    loop_wait(loop, &finished);
    __atomic_fetch_add(&released, 1, __ATOMIC_SEQ_CST);
    if (arg) { /* what was begun is still to be waited for */
        loop_hold(loop);
        loop_wait_again(loop);
        CHECK(finished);
        __atomic_fetch_add(&released, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

TEST(waiting_for_the_loop)
{
    pthread_t thread[2];

    start(0);
    for (int round = 0; round < 2; round++) {
        finished = false;
        waiting = released = 0;
        for (int i = 0; i < 2; i++)
            pthread_create(&thread[i], NULL, wait_for_it, NULL);
        while (__atomic_load_n(&waiting, __ATOMIC_SEQ_CST) < 2)
            usleep(10);
        CHECK_EQ(__atomic_load_n(&released, __ATOMIC_SEQ_CST), 0);
        if (round)
            loop_let_go(loop);
        else
            loop_done(loop, &finished);
        for (int i = 0; i < 2; i++)
            pthread_join(thread[i], NULL);
        CHECK_EQ(finished, !round);
    }
    loop_wait(loop, &finished); /* nobody waits before loop_hold */
    released = 0;
    pthread_create(&thread[0], NULL, wait_for_it, loop);
    while (__atomic_load_n(&released, __ATOMIC_SEQ_CST) < 1)
        usleep(10);
    usleep(1000);
    CHECK_EQ(__atomic_load_n(&released, __ATOMIC_SEQ_CST), 1);
    loop_done(loop, &finished);
    pthread_join(thread[0], NULL);
    CHECK_EQ(released, 2);
    loop_wait_again(loop); /* nothing is owed: it is done */
    loop_hold(loop);
    loop_done(loop, &finished);
    loop_wait(loop, &finished);
    loop_free(loop);
}

static struct listener listener;
static unsigned knocks;
static int accepted;

static void knock(struct loop_fd *w, u32 events)
{
    struct rlimit r;

    if (++knocks == 3) { /* there are descriptors again */
        CHECK(!getrlimit(RLIMIT_NOFILE, &r));
        r.rlim_cur = r.rlim_max;
        CHECK(!setrlimit(RLIMIT_NOFILE, &r));
    }
    accepted = listener_accept(&listener, 0);
    if (accepted >= 0)
        loop_stop(loop);
}

TEST(a_listener_without_descriptors_rests)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    socklen_t len = sizeof(sa_family_t); /* the kernel chooses a name */
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    struct rlimit r;
    const u64 t0 = clock_ns();

    start(0);
    CHECK(!bind(fd, (struct sockaddr *)&a, len) && !listen(fd, 4));
    len = sizeof(a);
    CHECK(!getsockname(fd, (struct sockaddr *)&a, &len) && !connect(client, (struct sockaddr *)&a, len));
    CHECK_EQ(listener_add(&listener, loop, fd, knock), 0);
    CHECK(!getrlimit(RLIMIT_NOFILE, &r));
    r.rlim_cur = 3; /* 0 to 2 are taken */
    CHECK(!setrlimit(RLIMIT_NOFILE, &r));
    CHECK_EQ(loop_run(loop), 0);
    CHECK(accepted >= 0);
    CHECK_EQ(knocks, 3);
    CHECK(clock_ns() - t0 >= 150000000); /* it rests, and does not look as often as the processor can */
    close(accepted);
    listener_remove(&listener);
    close(client);
    close(fd);
    loop_free(loop);
}

/* What is expected is looked for in memory: no descriptor tells of it. */
struct looked {
    struct loop_poller poller;
    unsigned polls, there; /* there: how much of it comes, one every few looks */
};

static bool poll_memory(struct loop_poller *p)
{
    struct looked *k = container_of(p, struct looked, poller);

    if (++k->polls % 8 || !k->there)
        return false;
    if (--k->there)
        loop_expect(loop);
    else
        loop_stop(loop);
    return true;
}

static void expect_again(struct timer *t)
{
    loop_expect(loop);
    timer_arm(t, clock_ns() + 20000);
}

TEST(looking_for_what_is_expected)
{
    struct looked k = { { poll_memory }, 0, 3 }, other = { { poll_memory }, 0, 0 };
    struct timer t;

    start(0);
    loop_poller_add(loop, &other.poller);
    loop_poller_add(loop, &k.poller);
    loop_poller_remove(loop, &other.poller);
    timer_init(&t, loop, expect_again); /* short waits, from which it learns that looking pays (given two CPUs) */
    timer_arm(&t, 1);
    if (!spin_for(2).never) {
        CHECK_EQ(loop_run(loop), 0);
        CHECK_EQ(k.there, 0);
    }
    CHECK_EQ(other.polls, 0);
    timer_disarm(&t);
    loop_free(loop);
}

TEST(stop_before_run)
{
    start(0);
    loop_stop(loop);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(loop_post(loop, on_post, NULL), 0); /* freed with the loop */
    loop_free(loop);
}
