/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel - the tests that go into the kernel at every operation, and (smp) those of two threads.
 *
 * A call that fails ends the process: a test that does something else than it says is worse than none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

enum { PAGE = 4096 };

#define MUST(condition)                                                      \
    do {                                                                     \
        if (!(condition)) {                                                  \
            fprintf(stderr, "guest: %s: %s\n", #condition, strerror(errno)); \
            exit(1);                                                         \
        }                                                                    \
    } while (0)

/* ---- entry and exit ------------------------------------------------------ */

static uint64_t system_call(long n)
{
    for (long i = 0; i < n; i++)
        syscall(SYS_getppid);
    return 0;
}

/* the clock, in the vDSO where the guest's clock source allows it */
static uint64_t clock_time(long n)
{
    struct timespec t;
    for (long i = 0; i < n; i++)
        MUST(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return 0;
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    signals += number == SIGUSR1;
}

/* a signal to oneself: delivery, handler, return */
static uint64_t signal_self(long n)
{
    struct sigaction action = { .sa_handler = on_signal };
    MUST(sigaction(SIGUSR1, &action, NULL) == 0);
    for (long i = 0; i < n; i++)
        MUST(raise(SIGUSR1) == 0);
    return 0;
}

static sigjmp_buf escape;

static void on_fault(int number)
{
    siglongjmp(escape, number);
}

/* a write to where nothing is, caught: a fault that the kernel cannot mend */
static uint64_t segv(long n)
{
    static char *nowhere;
    if (!nowhere)
        MUST((nowhere = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
    struct sigaction action = { .sa_handler = on_fault }, old;
    MUST(sigaction(SIGSEGV, &action, &old) == 0);
    for (volatile long i = 0; i < n; i++)
        if (!sigsetjmp(escape, 1))
            *(volatile char *)nowhere = 1;
    MUST(sigaction(SIGSEGV, &old, NULL) == 0);
    return 0;
}

/* ---- memory -------------------------------------------------------------- */

enum { CHUNK = 256 };

/* the first touch of a page, with its share of mapping and unmapping 256 */
static uint64_t page_fault(long n)
{
    for (long done = 0; done < n; done += CHUNK) {
        char *p = mmap(NULL, CHUNK * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(p != MAP_FAILED);
        for (long i = 0; i < CHUNK && done + i < n; i++)
            p[i * PAGE] = 1;
        MUST(munmap(p, CHUNK * PAGE) == 0);
    }
    return 0;
}

/* Where files are in memory: TMPDIR, else /tmp. */
static const char *temporary_folder(void)
{
    const char *folder = getenv("TMPDIR");
    return folder ? folder : "/tmp";
}

static int temporary_file(size_t size)
{
    char name[128], block[PAGE] = "x";
    snprintf(name, sizeof name, "%s/bench-XXXXXX", temporary_folder());
    int fd = mkstemp(name);
    MUST(fd >= 0 && unlink(name) == 0);
    for (size_t at = 0; at < size; at += PAGE)
        MUST(pwrite(fd, block, PAGE, (off_t)at) == PAGE);
    return fd;
}

/* the same for a page of a file that is in memory */
static uint64_t file_fault(long n)
{
    static int fd = -1;
    if (fd < 0)
        fd = temporary_file(CHUNK * PAGE);
    uint64_t sum = 0;
    for (long done = 0; done < n; done += CHUNK) {
        volatile char *p = mmap(NULL, CHUNK * PAGE, PROT_READ, MAP_SHARED, fd, 0);
        MUST(p != MAP_FAILED);
        MUST(madvise((void *)p, CHUNK * PAGE, MADV_RANDOM) == 0);
        for (long i = 0; i < CHUNK && done + i < n; i++)
            sum += (uint64_t)p[i * PAGE];
        MUST(munmap((void *)p, CHUNK * PAGE) == 0);
    }
    return sum;
}

/* a page made read-only and writable again, and written */
static uint64_t protect(long n)
{
    static char *p;
    if (!p)
        MUST((p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
    for (long i = 0; i < n; i++) {
        MUST(mprotect(p, PAGE, PROT_READ) == 0 && mprotect(p, PAGE, PROT_READ | PROT_WRITE) == 0);
        *(volatile char *)p = 1;
    }
    return 0;
}

/* ---- files --------------------------------------------------------------- */

/* 4 KiB written to a file in memory, and read back */
static uint64_t file_io(long n)
{
    enum { BLOCKS = 64 };
    static int fd = -1;
    static char out[PAGE], in[PAGE];
    if (fd < 0)
        fd = temporary_file(BLOCKS * PAGE);
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        out[i % PAGE]++;
        MUST(pwrite(fd, out, PAGE, i % BLOCKS * PAGE) == PAGE && pread(fd, in, PAGE, i % BLOCKS * PAGE) == PAGE);
        sum += memcmp(in, out, PAGE) == 0;
    }
    return sum;
}

/* open, fstat and close by a path of several parts */
static uint64_t file_open(long n)
{
    char name[128];
    snprintf(name, sizeof name, "%s/././.", temporary_folder());
    for (long i = 0; i < n; i++) {
        struct stat st;
        int fd = open(name, O_RDONLY | O_DIRECTORY);
        MUST(fd >= 0 && fstat(fd, &st) == 0 && close(fd) == 0);
    }
    return 0;
}

/* a file made, renamed and removed */
static uint64_t file_names(long n)
{
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/bench-%d", temporary_folder(), (int)getpid());
    snprintf(to, sizeof to, "%s/bench-%d-renamed", temporary_folder(), (int)getpid());
    for (long i = 0; i < n; i++) {
        int fd = open(from, O_CREAT | O_EXCL | O_WRONLY, 0600);
        MUST(fd >= 0 && close(fd) == 0 && rename(from, to) == 0 && unlink(to) == 0);
    }
    return 0;
}

/* ---- between processes and threads --------------------------------------- */

/* a pipe's two ends in one process: no switch */
static uint64_t pipe_alone(long n)
{
    int fds[2];
    char block[512] = { 0 };
    MUST(pipe(fds) == 0);
    for (long i = 0; i < n; i++)
        MUST(write(fds[1], block, sizeof block) == sizeof block && read(fds[0], block, sizeof block) == sizeof block);
    MUST(close(fds[0]) == 0 && close(fds[1]) == 0);
    return 0;
}

static void send_byte(int fd)
{
    char c = 1;
    MUST(write(fd, &c, 1) == 1);
}

static void receive_byte(int fd)
{
    char c;
    MUST(read(fd, &c, 1) == 1);
}

/* A byte there and back between two processes. */
static void ping_pong(long n, int here_in, int here_out, int there_in, int there_out)
{
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        for (long i = 0; i < n; i++) {
            receive_byte(there_in);
            send_byte(there_out);
        }
        _exit(0);
    }
    for (long i = 0; i < n; i++) {
        send_byte(here_out);
        receive_byte(here_in);
    }
    int status;
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

static uint64_t pipe_switch(long n)
{
    int there[2], back[2];
    MUST(pipe(there) == 0 && pipe(back) == 0);
    ping_pong(n, back[0], there[1], there[0], back[1]);
    MUST(close(there[0]) == 0 && close(there[1]) == 0 && close(back[0]) == 0 && close(back[1]) == 0);
    return 0;
}

static uint64_t socket_switch(long n)
{
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    ping_pong(n, ends[0], ends[0], ends[1], ends[1]);
    MUST(close(ends[0]) == 0 && close(ends[1]) == 0);
    return 0;
}

/* an event awaited by epoll, then taken */
static uint64_t event_poll(long n)
{
    int fds[2], poll = epoll_create1(0);
    MUST(poll >= 0 && pipe(fds) == 0);
    struct epoll_event event = { .events = EPOLLIN };
    MUST(epoll_ctl(poll, EPOLL_CTL_ADD, fds[0], &event) == 0);
    for (long i = 0; i < n; i++) {
        send_byte(fds[1]);
        MUST(epoll_wait(poll, &event, 1, -1) == 1);
        receive_byte(fds[0]);
    }
    MUST(close(poll) == 0 && close(fds[0]) == 0 && close(fds[1]) == 0);
    return 0;
}

struct baton {
    _Atomic uint32_t turn;
    long n;
};

static void await_turn(struct baton *b, uint32_t mine)
{
    while (b->turn != mine)
        syscall(SYS_futex, &b->turn, FUTEX_WAIT_PRIVATE, !mine, NULL, NULL, 0);
}

static void pass_turn(struct baton *b, uint32_t to)
{
    b->turn = to;
    syscall(SYS_futex, &b->turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *baton_thread(void *opaque)
{
    struct baton *b = opaque;
    for (long i = 0; i < b->n; i++) {
        await_turn(b, 1);
        pass_turn(b, 0);
    }
    return NULL;
}

/* there and back between two threads by futexes */
static uint64_t futex_switch(long n)
{
    struct baton b = { 0, n };
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, baton_thread, &b) == 0);
    for (long i = 0; i < n; i++) {
        pass_turn(&b, 1);
        await_turn(&b, 0);
    }
    MUST(pthread_join(thread, NULL) == 0);
    return 0;
}

static void *yield_thread(void *opaque)
{
    for (long i = *(long *)opaque; i > 0; i--)
        sched_yield();
    return NULL;
}

enum { YIELDERS = 8 };

/* eight threads that yield to each other: an operation is a yield of each */
static uint64_t yield(long n)
{
    pthread_t threads[YIELDERS];
    for (int i = 0; i < YIELDERS; i++)
        MUST(pthread_create(&threads[i], NULL, yield_thread, &n) == 0);
    for (int i = 0; i < YIELDERS; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    return 0;
}

static uint64_t thread_start(long n)
{
    long none = 0;
    for (long i = 0; i < n; i++) {
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, yield_thread, &none) == 0 && pthread_join(thread, NULL) == 0);
    }
    return 0;
}

static void fork_once(bool exec)
{
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        if (exec)
            execl("/proc/self/exe", "guest", "--exit", (char *)NULL);
        _exit(exec);
    }
    int status;
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

static uint64_t fork_exit(long n)
{
    for (long i = 0; i < n; i++)
        fork_once(false);
    return 0;
}

/* a fork by one who has 8 MiB of his own, and writes a page in eight of it before he waits */
static uint64_t fork_large(long n)
{
    enum { PAGES = 2048 };
    static char *memory;
    if (!memory)
        MUST((memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
                            0)) != MAP_FAILED);
    for (long i = 0; i < n; i++) {
        pid_t pid = fork();
        MUST(pid >= 0);
        if (pid == 0)
            _exit(0);
        for (int p = 0; p < PAGES; p += 8)
            memory[p * PAGE]++;
        int status;
        MUST(waitpid(pid, &status, 0) == pid && status == 0);
    }
    return 0;
}

static uint64_t fork_exec(long n)
{
    for (long i = 0; i < n; i++)
        fork_once(true);
    return 0;
}

const struct bench kernel_benches[] = {
    { "syscall", system_call, NULL },
    { "clock", clock_time, NULL },
    { "signal", signal_self, NULL },
    { "segv", segv, NULL },
    { "pagefault", page_fault, NULL },
    { "filefault", file_fault, NULL },
    { "protect", protect, NULL },
    { "fileio", file_io, NULL },
    { "open", file_open, NULL },
    { "names", file_names, NULL },
    { "pipe", pipe_alone, NULL },
    { "pipeswitch", pipe_switch, NULL },
    { "socket", socket_switch, NULL },
    { "epoll", event_poll, NULL },
    { "futex", futex_switch, NULL },
    { "yield", yield, NULL },
    { "thread", thread_start, NULL },
    { "fork", fork_exit, NULL },
    { "exec", fork_exec, NULL },
    { "forklarge", fork_large, NULL }, /* last: its memory would make the other forks slower */
    { NULL, NULL, NULL },
};

/* ---- two threads --------------------------------------------------------- */

struct pair {
    void (*work)(struct pair *p, int which, long n);
    long n;
    uint64_t result[2];
    pthread_mutex_t mutex;
    uint64_t guarded;
    _Alignas(64) uint64_t shared;
};

struct half {
    struct pair *pair;
    int which;
};

static void *half_thread(void *opaque)
{
    struct half *h = opaque;
    h->pair->work(h->pair, h->which, h->pair->n);
    return NULL;
}

/* The same work in two threads: an operation is one of each. */
static uint64_t run_pair(void (*work)(struct pair *p, int which, long n), long n)
{
    struct pair p = { .work = work, .n = n, .mutex = PTHREAD_MUTEX_INITIALIZER };
    struct half halves[2] = { { &p, 0 }, { &p, 1 } };
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, half_thread, &halves[1]) == 0);
    half_thread(&halves[0]);
    MUST(pthread_join(thread, NULL) == 0);
    return p.result[0] + p.result[1] + p.guarded + p.shared;
}

static void compute_work(struct pair *p, int which, long n)
{
    uint64_t seed = (uint64_t)which + 1, sum = 0;
    for (long i = 0; i < n * 1000; i++)
        sum += bench_random(&seed) % 1021;
    p->result[which] = sum;
}

static void memory_work(struct pair *p, int which, long n)
{
    enum { SIZE = 32768 };
    static char memory[2][2][SIZE];
    for (long i = 0; i < n; i++) {
        memset(memory[which][0], (int)i & 0xff, SIZE);
        bench_barrier();
        memcpy(memory[which][1], memory[which][0], SIZE);
        bench_barrier();
        p->result[which] += (uint8_t)memory[which][1][i & (SIZE - 1)];
    }
}

static void fault_work(struct pair *p, int which, long n)
{
    (void)p, (void)which;
    page_fault(n);
}

static void atomic_work(struct pair *p, int which, long n)
{
    (void)which;
    for (long i = 0; i < n; i++)
        __atomic_fetch_add(&p->shared, 1, __ATOMIC_SEQ_CST);
}

static void mutex_work(struct pair *p, int which, long n)
{
    (void)which;
    for (long i = 0; i < n; i++) {
        pthread_mutex_lock(&p->mutex);
        p->guarded++;
        pthread_mutex_unlock(&p->mutex);
    }
}

static uint64_t pair_compute(long n)
{
    return run_pair(compute_work, n);
}
static uint64_t pair_memory(long n)
{
    return run_pair(memory_work, n);
}
static uint64_t pair_fault(long n)
{
    return run_pair(fault_work, n);
}
static uint64_t pair_atomic(long n)
{
    return run_pair(atomic_work, n);
}
static uint64_t pair_mutex(long n)
{
    return run_pair(mutex_work, n);
}

const struct bench smp_benches[] = {
    { "compute", pair_compute, NULL }, { "memory", pair_memory, NULL },
    { "fault", pair_fault, NULL },     { "atomic", pair_atomic, NULL },
    { "mutex", pair_mutex, NULL },     { "pipeswitch", pipe_switch, NULL },
    { "futex", futex_switch, NULL },   { NULL, NULL, NULL },
};
