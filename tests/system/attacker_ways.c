/* SPDX-License-Identifier: Apache-2.0 */
/* attacker_ways.c - ways out that take several calls, or more than plain arguments. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "attacker.h"

#define ONE(k) (1u << (k))

enum { FAMILIES = 46 }; /* AF_MAX of Linux 6.18 */

static void shut(struct attack *a, long fd)
{
    if (fd >= 0)
        CALL(a->puppet, SYS_close, (u64)fd);
    puppet_forget(a->puppet);
}

/* ---- sockets ------------------------------------------------------------------ */

static void try_families(struct attack *a)
{
    static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET };
    char name[40];

    for (int family = 0; family < FAMILIES; family++) {
        for (u32 i = 0; i < ARRAY_SIZE(types); i++) {
            const bool may = a->kind == NET && (family == AF_INET || family == AF_INET6) && i < 2;
            snprintf(name, sizeof name, "socket family %d type %d", family, types[i]);
            const struct outcome o = CALL(a->puppet, SYS_socket, (u64)family, (u64)types[i], 0);
            tried_call(a, name, o, may ? ALLOWED : ESCAPED, may ? "the guest's connections" : NULL);
            shut(a, o.result);
        }
    }
}

struct target {
    const char *name;
    int family, type;
    struct sockaddr_storage address;
    socklen_t length;
};

static struct target unix_target(const char *name, int type, const char *path, bool abstract)
{
    struct target t = { name, AF_UNIX, type, { 0 }, 0 };
    struct sockaddr_un *u = (struct sockaddr_un *)&t.address;

    u->sun_family = AF_UNIX;
    snprintf(u->sun_path + abstract, sizeof u->sun_path - abstract, "%s", path);
    t.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(path) + !abstract);
    return t;
}

static struct target port_target(const char *name, int type, int port)
{
    struct target t = { name, AF_INET, type, { 0 }, sizeof(struct sockaddr_in) };
    struct sockaddr_in *in = (struct sockaddr_in *)&t.address;

    *in = (struct sockaddr_in){ .sin_family = AF_INET,
                                .sin_port = htons((u16)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    return t;
}

/* With a new socket. What is connected or sent counts wherever it is seen first. */
static void try_target(struct attack *a, const struct target *t)
{
    const bool may = a->kind == NET && t->family == AF_INET;
    const u64 address = puppet_put(a->puppet, &t->address, sizeof t->address);
    const struct outcome s = CALL(a->puppet, SYS_socket, (u64)t->family, (u64)t->type, 0);

    if (s.result < 0) {
        tried(a, t->name, REFUSED, say(s));
        puppet_forget(a->puppet);
        return;
    }
    const struct outcome o = t->type == SOCK_STREAM
                                 ? CALL(a->puppet, SYS_connect, (u64)s.result, address, t->length)
                                 : CALL(a->puppet, SYS_sendto, (u64)s.result, address, 4, 0, address, t->length);
    if (may)
        outside_harmed(a->outside); /* is not harmed by it */
    tried_call(a, t->name, o, may ? ALLOWED : ESCAPED, may ? "the guest's connections" : NULL);
    shut(a, s.result);
}

/* A pair of datagram sockets sends to whatever has a name. */
static void try_pair(struct attack *a, const struct target *t)
{
    struct puppet *p = a->puppet;
    const u64 pair = puppet_put(p, (int[2]){ -1, -1 }, 2 * sizeof(int));
    const u64 address = puppet_put(p, &t->address, sizeof t->address);
    int fd[2] = { -1, -1 };
    struct outcome o = CALL(p, SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, pair);

    if (!o.result && !puppet_read(p, pair, fd, sizeof fd)) {
        o = CALL(p, SYS_sendto, (u64)fd[0], address, 4, 0, address, t->length);
        if (o.result == -EISCONN) {
            CALL(p, SYS_connect, (u64)fd[0], puppet_put(p, (u64[2]){ 0 }, 16), 2);
            o = CALL(p, SYS_sendto, (u64)fd[0], address, 4, 0, address, t->length);
        }
    }
    tried_call(a, "a pair's datagram to a unix socket", o, ESCAPED, NULL);
    for (u32 i = 0; i < 2; i++)
        if (fd[i] >= 0)
            CALL(p, SYS_close, (u64)fd[i]);
    puppet_forget(p);
}

/* Its own sockets, turned elsewhere. One that is connected stays so. */
static void try_own_sockets(struct attack *a, const struct target *targets, u32 n)
{
    char name[100];

    for (int fd = own_descriptor(a, "socket:", 0, NULL); fd >= 0; fd = own_descriptor(a, "socket:", fd + 1, NULL)) {
        for (u32 i = 0; i < n; i++) {
            const u64 address = puppet_put(a->puppet, &targets[i].address, sizeof targets[i].address);
            snprintf(name, sizeof name, "descriptor %d, %s", fd, targets[i].name);
            tried_call(a, name, CALL(a->puppet, SYS_connect, (u64)fd, address, targets[i].length), ESCAPED, NULL);
            puppet_forget(a->puppet);
        }
    }
}

static void try_servers(struct attack *a)
{
    const struct target targets[] = {
        unix_target("connect to a unix socket", SOCK_STREAM, outside_socket(a->outside, false), false),
        unix_target("connect to an abstract socket", SOCK_STREAM, outside_abstract(a->outside), true),
        unix_target("send to a unix socket", SOCK_DGRAM, outside_socket(a->outside, true), false),
        port_target("connect by TCP", SOCK_STREAM, outside_port(a->outside)),
        port_target("send by UDP", SOCK_DGRAM, outside_port(a->outside)),
    };

    for (u32 i = 0; i < ARRAY_SIZE(targets) && !a->puppet->dead; i++)
        try_target(a, &targets[i]);
    try_pair(a, &targets[2]);
    if (a->kind != NET)
        try_own_sockets(a, targets, ARRAY_SIZE(targets));
}

/* ---- another process ------------------------------------------------------------- */

static void try_victim_memory(struct attack *a)
{
    struct puppet *p = a->puppet;
    const u64 word = puppet_put(p, "attacked, though", 16);
    const struct iovec mine = { (void *)(uintptr_t)word, 16 }, its = { (void *)(uintptr_t)outside_address(a->outside), 16 };
    const u64 here = puppet_put(p, &mine, sizeof mine), there = puppet_put(p, &its, sizeof its);
    const u64 victim = (u64)outside_victim(a->outside);

    tried_call(a, "process_vm_writev", CALL(p, SYS_process_vm_writev, victim, here, 1, there, 1, 0), ESCAPED, NULL);
    tried_call(a, "process_vm_readv", CALL(p, SYS_process_vm_readv, (u64)outside_victim(a->outside), here, 1, there, 1, 0),
               ESCAPED, NULL);
    puppet_forget(p);
}

static void try_queued_signals(struct attack *a)
{
    struct puppet *p = a->puppet;
    siginfo_t info;

    memset(&info, 0, sizeof info);
    info.si_signo = SIGURG;
    info.si_code = SI_QUEUE;
    const u64 at = puppet_put(p, &info, sizeof info);
    tried_call(a, "rt_sigqueueinfo", CALL(p, SYS_rt_sigqueueinfo, (u64)outside_victim(a->outside), SIGURG, at), ESCAPED,
               NULL);
    const u64 victim = (u64)outside_victim(a->outside);
    tried_call(a, "rt_tgsigqueueinfo", CALL(p, SYS_rt_tgsigqueueinfo, victim, victim, SIGURG, at), ESCAPED, NULL);
    const struct outcome fd = CALL(p, SYS_pidfd_open, (u64)outside_victim(a->outside), 0);
    const struct outcome o = fd.result < 0 ? fd : CALL(p, SYS_pidfd_send_signal, (u64)fd.result, SIGURG, 0, 0);
    tried_call(a, "pidfd_send_signal", o, ESCAPED, NULL);
    const struct outcome got = fd.result < 0 ? fd : CALL(p, SYS_pidfd_getfd, (u64)fd.result, 0, 0);
    tried_call(a, "pidfd_getfd", got, ESCAPED, NULL);
    shut(a, got.result);
    shut(a, fd.result);
    const int sock = own_descriptor(a, "socket:", 0, NULL);
    if (sock >= 0) {
        const u64 owner = puppet_put(p, (int[2]){ 1 /* F_OWNER_PID */, outside_victim(a->outside) }, 8);
        tried_call(a, "F_SETOWN_EX", CALL(p, SYS_fcntl, (u64)sock, F_SETOWN_EX, owner), ESCAPED, NULL);
        CALL(p, SYS_fcntl, (u64)sock, F_SETOWN, 0);
    }
    puppet_forget(p);
}

/* What is not confined, and has what the machine must not have. */
static void try_broker_process(struct attack *a)
{
    struct puppet *p = a->puppet;
    const struct iovec mine = { (void *)(uintptr_t)puppet_page(p), 16 };
    const u64 broker = (u64)a->broker, here = puppet_put(p, &mine, sizeof mine);

    tried_call(a, "kill 0 of the broker", CALL(p, SYS_kill, broker, 0), ESCAPED, NULL);
    tried_call(a, "tgkill 0 of the broker", CALL(p, SYS_tgkill, broker, broker, 0), ESCAPED, NULL);
    /* Its program is where this one's is, since the one is a fork of the other. */
    const struct iovec its = { (void *)(uintptr_t)(p->syscall_at & ~4095ull), 16 };
    const u64 there = puppet_put(p, &its, sizeof its);
    tried_call(a, "the broker's memory", CALL(p, SYS_process_vm_readv, broker, here, 1, there, 1, 0), ESCAPED, NULL);
    const struct outcome o = CALL(p, SYS_pidfd_open, broker, 0);
    tried_call(a, "pidfd_open of the broker", o, ESCAPED, NULL);
    shut(a, o.result);
}

/* ---- processes and programs ---------------------------------------------------------- */

static void try_clone3(struct attack *a, const char *name, u64 flags)
{
    struct clone_args c;

    memset(&c, 0, sizeof c);
    c.flags = flags;
    c.exit_signal = SIGCHLD;
    tried_call(a, name, CALL(a->puppet, SYS_clone3, puppet_put(a->puppet, &c, sizeof c), sizeof c), ESCAPED, NULL);
    puppet_forget(a->puppet);
}

/* A thread is no way out: it has its maker's filter. */
static void try_thread(struct attack *a)
{
    const u64 flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    const char *why = may_call(a->kind, SYS_clone3);

    tried_call(a, "clone, a thread", CALL(a->puppet, SYS_clone, flags, puppet_page(a->puppet) + 4096),
               why ? ALLOWED : UNLISTED, why);
}

static void try_program(struct attack *a)
{
    struct puppet *p = a->puppet;
    const u64 text = puppet_string(p, "no program that a kernel knows\n"), empty = puppet_string(p, "");
    struct outcome o = CALL(p, SYS_memfd_create, empty, 0);
    const long fd = o.result;

    if (fd >= 0) {
        CALL(p, SYS_write, (u64)fd, text, 31);
        o = CALL(p, SYS_execveat, (u64)fd, empty, 0, 0, AT_EMPTY_PATH);
    }
    tried_call(a, "a program in memory", o, ESCAPED, NULL);
    shut(a, fd);
}

/* ---- memory ---------------------------------------------------------------------------- */

/* Its descriptors, mapped to be executed; memory that others have mapped too, made to end. */
static void try_memory_files(struct attack *a)
{
    struct puppet *p = a->puppet;
    char name[320], link[256], path[60];

    for (int fd = own_descriptor(a, "/memfd:", 0, link); fd >= 0; fd = own_descriptor(a, "/memfd:", fd + 1, link)) {
        struct outcome o = CALL(p, SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, (u64)fd, 0);
        snprintf(name, sizeof name, "execute %s", link);
        tried_call(a, name, o, ESCAPED, NULL);
        if (o.result > 0 || o.result < -4095)
            CALL(p, SYS_munmap, (u64)o.result, 4096);
        /* Not by the call: where it is not refused, the machine would be gone. */
        snprintf(path, sizeof path, "/proc/%d/fd/%d", p->pid, fd);
        const int mine = open(path, O_RDONLY | O_CLOEXEC);
        const int seals = mine < 0 ? 0 : fcntl(mine, F_GET_SEALS);
        snprintf(name, sizeof name, "shrink %s", link);
        tried(a, name, seals >= 0 && seals & F_SEAL_SHRINK ? REFUSED : ESCAPED,
              seals & F_SEAL_SHRINK ? "sealed" : "not sealed");
        if (mine >= 0)
            close(mine);
        puppet_forget(p);
    }
}

/* Memory that may be executed and is shared must not become writable in place. */
static void try_code(struct attack *a)
{
    char path[40], line[512], rights[8];
    unsigned long from, to;
    struct puppet *p = a->puppet;

    snprintf(path, sizeof path, "/proc/%d/maps", p->pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f) && !p->dead) {
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 || rights[2] != 'x' || (long)from < 0)
            continue;
        tried(a, "executable memory is not writable", rights[1] == 'w' ? ESCAPED : REFUSED, rights);
        if (rights[3] == 's' || strstr(line, "memfd:")) {
            const struct outcome o = CALL(p, SYS_mprotect, from, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
            tried_call(a, "code made writable", o, ESCAPED, NULL);
            if (!o.result)
                CALL(p, SYS_mprotect, from, 4096, PROT_READ | PROT_EXEC);
        }
    }
    if (f)
        fclose(f);
}

/* ---- the kernel -------------------------------------------------------------------------- */

static void try_kernel(struct attack *a)
{
    struct puppet *p = a->puppet;
    struct perf_event_attr perf = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof perf, .config = PERF_COUNT_SW_DUMMY, .exclude_kernel = 1, .exclude_hv = 1
    };
    const struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct caps[2] = { { 1u << CAP_SYS_PTRACE, 1u << CAP_SYS_PTRACE, 0 } };
    union bpf_attr bpf;
    u32 handle[2 + 32] = { 128 };

    u64 at = puppet_put(p, &perf, sizeof perf);
    struct outcome o = CALL(p, SYS_perf_event_open, at, 0, (u64)-1, (u64)-1, 0);
    tried_call(a, "perf_event_open, itself", o, ESCAPED, NULL);
    shut(a, o.result);
    at = puppet_put(p, &perf, sizeof perf);
    o = CALL(p, SYS_perf_event_open, at, (u64)outside_victim(a->outside), (u64)-1, (u64)-1, 0);
    tried_call(a, "perf_event_open, another process", o, ESCAPED, NULL);
    shut(a, o.result);
    memset(&bpf, 0, sizeof bpf);
    bpf.map_type = BPF_MAP_TYPE_ARRAY, bpf.key_size = 4, bpf.value_size = 8, bpf.max_entries = 1;
    o = CALL(p, SYS_bpf, BPF_MAP_CREATE, puppet_put(p, &bpf, sizeof bpf), sizeof bpf);
    tried_call(a, "bpf, a map", o, ESCAPED, NULL);
    shut(a, o.result);
    at = puppet_put(p, &head, sizeof head);
    tried_call(a, "capset", CALL(p, SYS_capset, at, puppet_put(p, caps, sizeof caps)), ESCAPED, NULL);
    puppet_forget(p);
    at = puppet_put(p, handle, sizeof handle);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/secret", a->folder);
    const u64 name = puppet_string(p, path), mount = puppet_put(p, (u64[1]){ 0 }, 8);
    tried_call(a, "name_to_handle_at", CALL(p, SYS_name_to_handle_at, (u64)AT_FDCWD, name, at, mount, 0), ESCAPED, NULL);
    puppet_forget(p);
}

/* Out of a shared folder by the way up. Where the folder is its root, that leads to the folder again. */
static void try_way_up(struct attack *a)
{
    struct puppet *p = a->puppet;
    const int folder = own_descriptor(a, "folder", 0, NULL);
    struct stat from, to;
    char path[60];

    if (folder < 0)
        return;
    const struct outcome o = CALL(p, SYS_openat, (u64)folder, puppet_string(p, ".."), O_PATH);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", p->pid, folder);
    const bool known = !stat(path, &from);
    snprintf(path, sizeof path, "/proc/%d/fd/%ld", p->pid, o.result);
    const bool same = o.result >= 0 && known && !stat(path, &to) && from.st_dev == to.st_dev && from.st_ino == to.st_ino;
    tried_call(a, "the way up from a folder", o, same ? ALLOWED : ESCAPED, same ? "it is the same folder" : NULL);
    shut(a, o.result);
}

void try_ways(struct attack *a)
{
    try_families(a);
    try_servers(a);
    try_victim_memory(a);
    try_queued_signals(a);
    try_broker_process(a);
    try_clone3(a, "clone3", 0);
    try_clone3(a, "clone3, a new user", CLONE_NEWUSER);
    try_thread(a);
    try_program(a);
    try_memory_files(a);
    try_code(a);
    try_kernel(a);
    try_way_up(a);
}
