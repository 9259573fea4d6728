/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c - fault.so, for LD_PRELOAD: counts the calls by which a program asks the host for memory, descriptors and tasks, and
 * lets one of them, or all from one on, fail as they do on a host that has no more.
 *
 * Which, and in which process, the page says that inject shares with it (fault.h).  It is mapped, so that it can be written
 * from inside any sandbox, and is complete however the process ends.  Calls that the C library makes of its own functions
 * inside are not seen, but for malloc and its kin: what is counted is what Lodge and its libraries call.
 */
#undef _FILE_OFFSET_BITS /* open() is to be open() here, and open64() another */
#include "fault.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One process, one page: a preloaded object has no other place to keep them. */
static struct fault_page *page;
static bool elsewhere; /* forked from the process that is meant */
static __thread bool inside;

static void remember(const char *what)
{
    void *pc[FAULT_FRAMES + 2];
    const int n = backtrace(pc, FAULT_FRAMES + 2);

    snprintf(page->what, sizeof page->what, "%s", what);
    for (int i = 2; i < n; i++) {
        Dl_info in = { 0 };
        if (!dladdr(pc[i], &in) || !in.dli_fname)
            continue;
        const char *slash = strrchr(in.dli_fname, '/');
        snprintf(page->frame[i - 2].file, sizeof page->frame[0].file, "%s", slash ? slash + 1 : in.dli_fname);
        page->frame[i - 2].offset = (uint64_t)((char *)pc[i] - (char *)in.dli_fbase);
    }
    page->frames = n > 2 ? (uint32_t)n - 2 : 0;
}

static bool fails(uint32_t kind, const char *what, int code)
{
    if (!page || elsewhere || inside || !__atomic_load_n(&page->armed, __ATOMIC_ACQUIRE) || !(page->kinds & kind))
        return false;
    const uint64_t n = __atomic_add_fetch(&page->calls, 1, __ATOMIC_RELAXED);
    if (!page->at || n < page->at || (n > page->at && !page->for_good))
        return false;
    if (__atomic_fetch_add(&page->failed, 1, __ATOMIC_RELAXED) == 0) {
        inside = true;
        remember(what);
        inside = false;
    }
    errno = code;
    return true;
}

static void in_child(void)
{
    elsewhere = !page->forked;
}

/* Lodge's helpers are nobody's business but its own: that one of them crashed would not be seen. */
static void on_crash(int sig)
{
    page->signal = (uint32_t)sig;
    signal(sig, SIG_DFL);
    raise(sig);
}

__attribute__((constructor)) static void start(int argc, char **argv)
{
    static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
    const char *file = getenv("LODGE_FAULT");
    void *pc[4];
    const int fd = file ? (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    struct fault_page *p = (void *)syscall(SYS_mmap, NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (p == MAP_FAILED || argc < 2 || strncmp(p->verb, argv[1], sizeof p->verb))
        return;
    backtrace(pc, 4); /* it loads a library at the first call */
    page = p;
    pthread_atfork(NULL, NULL, in_child);
    if (!strcmp(argv[1], "netd") || !strcmp(argv[1], "displayd") || !strcmp(argv[1], "folderd"))
        for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
            signal(crashes[i], on_crash);
}

/* ---- memory --------------------------------------------------------------- */

/*
 * The C library's own by their other names: dlsym() allocates itself.  Under AddressSanitizer the program's malloc is its
 * runtime's, which is asked for; what comes before that is found gets a piece of this and is never freed.
 */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);
extern void __asan_init(void) __attribute__((weak));

static char early[65536] __attribute__((aligned(16)));
static size_t early_used;
static struct {
    void *(*malloc)(size_t n);
    void *(*calloc)(size_t n, size_t size);
    void *(*realloc)(void *old, size_t n);
    void *(*memalign)(size_t align, size_t n);
    void (*free)(void *p);
    int state; /* 0 not yet, 1 being looked for, 2 there */
} next;

static void *early_alloc(size_t n)
{
    void *p = early + early_used;

    early_used += (n + 15) & ~(size_t)15;
    if (early_used > sizeof early)
        abort();
    return p;
}

static bool ready(void)
{
    if (next.state == 2)
        return true;
    if (next.state == 1)
        return false;
    next.state = 1;
    if (__asan_init) {
        next.malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
        next.calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
        next.realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
        next.memalign = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "memalign");
        next.free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    } else {
        next.malloc = __libc_malloc;
        next.calloc = __libc_calloc;
        next.realloc = __libc_realloc;
        next.memalign = __libc_memalign;
        next.free = __libc_free;
    }
    next.state = 2;
    return true;
}

void *malloc(size_t n)
{
    if (!ready())
        return early_alloc(n);
    return fails(FAULT_MEMORY, "malloc", ENOMEM) ? NULL : next.malloc(n);
}

void *calloc(size_t n, size_t size)
{
    if (!ready())
        return early_alloc(n * size);
    return fails(FAULT_MEMORY, "calloc", ENOMEM) ? NULL : next.calloc(n, size);
}

void *realloc(void *old, size_t n)
{
    if (!ready())
        return early_alloc(n);
    return fails(FAULT_MEMORY, "realloc", ENOMEM) ? NULL : next.realloc(old, n);
}

void *reallocarray(void *old, size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes) || fails(FAULT_MEMORY, "reallocarray", ENOMEM)) {
        errno = ENOMEM;
        return NULL;
    }
    return ready() ? next.realloc(old, bytes) : NULL;
}

static void *aligned(size_t align, size_t n, const char *what)
{
    return !ready() || fails(FAULT_MEMORY, what, ENOMEM) ? NULL : next.memalign(align, n);
}

void *memalign(size_t align, size_t n)
{
    return aligned(align, n, "memalign");
}

void *aligned_alloc(size_t align, size_t n)
{
    return aligned(align, n, "aligned_alloc");
}

int posix_memalign(void **to, size_t align, size_t n)
{
    void *p = aligned(align, n, "posix_memalign");

    if (!p)
        return ENOMEM;
    *to = p;
    return 0;
}

void free(void *p)
{
    if ((char *)p >= early && (char *)p < early + sizeof early)
        return;
    if (ready())
        next.free(p);
}

/* The function that would have been called.  Found at each call: none of these is made often. */
#define NEXT(f) ((__typeof__(&f))dlsym(RTLD_NEXT, #f))

/* What is not wrapped below ends here, so that the object is of use where a kernel refuses to map more. */
void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    if (fails(FAULT_MEMORY, "mmap", ENOMEM))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}

void *mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    return mmap(at, n, prot, flags, fd, offset);
}

int mprotect(void *at, size_t n, int prot)
{
    return fails(FAULT_MEMORY, "mprotect", ENOMEM) ? -1 : (int)syscall(SYS_mprotect, at, n, prot);
}

/* ---- descriptors ---------------------------------------------------------- */

#define REFUSED(f) fails(FAULT_DESCRIPTOR, #f, EMFILE)

static mode_t mode_of(int flags, va_list ap)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

#define OPEN(name)                                                 \
    int name(const char *path, int flags, ...)                     \
    {                                                              \
        va_list ap;                                                \
        va_start(ap, flags);                                       \
        const mode_t mode = mode_of(flags, ap);                    \
        va_end(ap);                                                \
        return REFUSED(name) ? -1 : NEXT(name)(path, flags, mode); \
    }
#define OPENAT(name)                                                    \
    int name(int dir, const char *path, int flags, ...)                 \
    {                                                                   \
        va_list ap;                                                     \
        va_start(ap, flags);                                            \
        const mode_t mode = mode_of(flags, ap);                         \
        va_end(ap);                                                     \
        return REFUSED(name) ? -1 : NEXT(name)(dir, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* What _FORTIFY_SOURCE makes of an open() without a mode. */
int __open_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);

#define PASS(type, bad, name, parameters, ...)                  \
    type name parameters                                        \
    {                                                           \
        return REFUSED(name) ? (bad) : NEXT(name)(__VA_ARGS__); \
    }
PASS(int, -1, __open_2, (const char *path, int flags), path, flags)
PASS(int, -1, __openat_2, (int dir, const char *path, int flags), dir, path, flags)
PASS(FILE *, NULL, fopen, (const char *path, const char *mode), path, mode)
PASS(FILE *, NULL, fopen64, (const char *path, const char *mode), path, mode)
PASS(DIR *, NULL, opendir, (const char *path), path)
PASS(int, -1, mkstemp, (char *path), path)
PASS(int, -1, mkostemp, (char *path, int flags), path, flags)
PASS(int, -1, socket, (int domain, int type, int protocol), domain, type, protocol)
PASS(int, -1, socketpair, (int domain, int type, int protocol, int fd[2]), domain, type, protocol, fd)
PASS(int, -1, accept, (int fd, __SOCKADDR_ARG a, socklen_t *n), fd, a, n)
PASS(int, -1, accept4, (int fd, __SOCKADDR_ARG a, socklen_t *n, int flags), fd, a, n, flags)
PASS(int, -1, pipe, (int fd[2]), fd)
PASS(int, -1, pipe2, (int fd[2], int flags), fd, flags)
PASS(int, -1, dup, (int fd), fd)
PASS(int, -1, memfd_create, (const char *name, unsigned flags), name, flags)
int eventfd(unsigned value, int flags);
int timerfd_create(int clock, int flags);
int epoll_create1(int flags);
int inotify_init1(int flags);
int signalfd(int fd, const sigset_t *set, int flags);
PASS(int, -1, eventfd, (unsigned value, int flags), value, flags)
PASS(int, -1, timerfd_create, (int clock, int flags), clock, flags)
PASS(int, -1, epoll_create1, (int flags), flags)
PASS(int, -1, inotify_init1, (int flags), flags)
PASS(int, -1, signalfd, (int fd, const sigset_t *set, int flags), fd, set, flags)

int fcntl(int fd, int what, ...)
{
    va_list ap;

    va_start(ap, what);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if ((what == F_DUPFD || what == F_DUPFD_CLOEXEC) && REFUSED(fcntl))
        return -1;
    return NEXT(fcntl)(fd, what, arg);
}

int fcntl64(int fd, int what, ...)
{
    va_list ap;

    va_start(ap, what);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if ((what == F_DUPFD || what == F_DUPFD_CLOEXEC) && REFUSED(fcntl))
        return -1;
    return NEXT(fcntl64)(fd, what, arg);
}

struct epoll_event;
int epoll_ctl(int fd, int what, int watched, struct epoll_event *e);
int epoll_ctl(int fd, int what, int watched, struct epoll_event *e)
{
    if (what == 1 /* EPOLL_CTL_ADD */ && fails(FAULT_DESCRIPTOR, "epoll_ctl", ENOSPC))
        return -1;
    return NEXT(epoll_ctl)(fd, what, watched, e);
}

/* Of liburing, which says -errno. */
struct io_uring;
struct io_uring_params;
int io_uring_queue_init(unsigned n, struct io_uring *ring, unsigned flags);
int io_uring_queue_init_params(unsigned n, struct io_uring *ring, struct io_uring_params *p);
PASS(int, -ENOMEM, io_uring_queue_init, (unsigned n, struct io_uring *ring, unsigned flags), n, ring, flags)
PASS(int, -ENOMEM, io_uring_queue_init_params, (unsigned n, struct io_uring *ring, struct io_uring_params *p), n, ring,
     p)

/* ---- tasks ---------------------------------------------------------------- */

pid_t fork(void)
{
    return fails(FAULT_TASK, "fork", EAGAIN) ? -1 : NEXT(fork)();
}

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    return fails(FAULT_TASK, "pthread_create", EAGAIN) ? EAGAIN : NEXT(pthread_create)(t, attr, run, arg);
}

#define SPAWN(name)                                                                                                  \
    int name(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, \
             char *const argv[], char *const env[])                                                                  \
    {                                                                                                                \
        return fails(FAULT_TASK, #name, EAGAIN) ? EAGAIN : NEXT(name)(pid, file, actions, attr, argv, env);          \
    }
SPAWN(posix_spawn)
SPAWN(posix_spawnp)
