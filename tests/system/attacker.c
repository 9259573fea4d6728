/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker.c - whoever has taken over a thread of a machine's makes system calls with it (puppet.h), and must not get out.
 *
 *   attacker FRONT processes             the machine's processes: numbers and names. FRONT is the command's number.
 *   attacker FRONT attack FOLDER [KIND]  tries everything in each thread, or in those of this kind. FOLDER is the test's.
 *   attacker FRONT x32|int80|ring FOLDER KIND
 *                                        the same by x32's numbers, by int 80h, by an io_uring that is there, in one such
 *                                        thread. A filter may end the process, and the ring is spoilt.
 *   attacker FRONT plant KIND HOW        a bug in a thread of this kind: jump (to no memory), data (to memory that is
 *                                        not code), registers (that have garbage in them)
 *
 * LODGE_TEST_SWITCH=NAME: the switch of this name is the machine's, too. LODGE_TEST_SCREEN=PATH: somebody looks at the
 * screen there meanwhile. LODGE_TEST_VERBOSE=1: each try is listed.
 * Status 0: nothing got out. 77: this user may not trace them.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "attacker.h"

enum { MOST_PROCESSES = 64, SKIPPED = 77 };

static const char *const kinds[KINDS] = {
    [LOOP] = "loop",     [VCPU] = "vcpu",           [BLOCK] = "block",         [SERIAL] = "serial",
    [OUTPUT] = "output", [FOLDER] = "virtio-fs",    [OTHER] = "other",         [SHARE] = "lodge-share",
    [NET] = "lodge-net", [SWITCH] = "lodge-switch", [SCREEN] = "lodge-screen", [VIEWER] = "viewer",
};

struct process {
    pid_t pid, parent;
    char name[20];
};

struct machine {
    u32 n;
    struct process p[MOST_PROCESSES];
};

const char *kind_name(enum kind k)
{
    return kinds[k];
}

/* ---- its processes ------------------------------------------------------------- */

static bool read_text(const char *path, char *text, size_t room)
{
    FILE *f = fopen(path, "re");
    const size_t n = f ? fread(text, 1, room - 1, f) : 0;

    text[n] = 0;
    if (f)
        fclose(f);
    return n > 0;
}

static bool read_process(pid_t pid, struct process *p)
{
    char path[40], text[512];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (!read_text(path, text, sizeof text))
        return false;
    char *end = strrchr(text, ')'), *begin = strchr(text, '(');
    char state;
    if (!begin || !end || sscanf(end + 1, " %c %d", &state, &p->parent) != 2 || state == 'Z')
        return false;
    *end = 0;
    p->pid = pid;
    snprintf(p->name, sizeof p->name, "%s", begin + 1);
    return true;
}

/* "lodge netd switch NAME": it is nobody's child. */
static bool is_its_switch(pid_t pid)
{
    const char *name = getenv("LODGE_TEST_SWITCH");
    char path[40], text[512];

    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    if (!name || !read_text(path, text, sizeof text))
        return false;
    const char *at = text;
    for (u32 i = 0; i < 3; i++)
        at += strlen(at) + 1;
    return !strcmp(text, "lodge") && !strcmp(text + 6, "netd") && !strcmp(text + 11, "switch") && !strcmp(at, name);
}

static bool has(const struct machine *m, pid_t pid)
{
    for (u32 i = 0; i < m->n; i++)
        if (m->p[i].pid == pid)
            return true;
    return false;
}

/* The command and all that descends from it. */
static void find_machine(pid_t front, struct machine *m)
{
    struct process p;
    u32 before = 0;

    m->n = 0;
    if (read_process(front, &p))
        m->p[m->n++] = p;
    do {
        before = m->n;
        DIR *d = opendir("/proc");
        for (const struct dirent *e; d && (e = readdir(d)) && m->n < MOST_PROCESSES;) {
            const pid_t pid = isdigit((unsigned char)e->d_name[0]) ? atoi(e->d_name) : 0;
            if (pid && !has(m, pid) && read_process(pid, &p) && (has(m, p.parent) || is_its_switch(pid)))
                m->p[m->n++] = p;
        }
        if (d)
            closedir(d);
    } while (m->n != before);
}

static const char *parent_name(const struct machine *m, const struct process *p)
{
    for (u32 i = 0; i < m->n; i++)
        if (m->p[i].pid == p->parent)
            return m->p[i].name;
    return "";
}

/* false: it is trusted, as it hears nothing of what a guest or a stranger says. */
static bool kind_of(const struct machine *m, const struct process *p, pid_t tid, const char *thread, enum kind *k)
{
    const bool first = tid == p->pid;

    if (!strcmp(p->name, "lodge-vm"))
        *k = first                                                           ? LOOP
             : !strncmp(thread, "vcpu", 4)                                   ? VCPU
             : !strcmp(thread, kinds[BLOCK])                                 ? BLOCK
             : !strcmp(thread, kinds[SERIAL])                                ? SERIAL
             : !strcmp(thread, kinds[FOLDER])                                ? FOLDER
             : !strcmp(thread, "lodge-vm") || !strcmp(thread, kinds[OUTPUT]) ? OUTPUT
                                                                             : OTHER;
    else if (!strcmp(p->name, kinds[SCREEN]))
        *k = strcmp(parent_name(m, p), kinds[SCREEN]) ? SCREEN : VIEWER;
    else if (!strcmp(p->name, kinds[NET]))
        *k = NET;
    else if (!strcmp(p->name, kinds[SWITCH]))
        *k = SWITCH;
    else if (!strcmp(p->name, kinds[SHARE]))
        *k = SHARE;
    else
        return false;
    return true;
}

/* ---- what was tried ---------------------------------------------------------------- */

const char *say(struct outcome o)
{
    static char text[64];

    if (o.blocked)
        return "it waited";
    if (o.faulted)
        return "there is no such instruction here";
    if (o.result < 0 && o.result > -4096)
        return strerrorname_np((int)-o.result) ? strerrorname_np((int)-o.result) : "an error";
    snprintf(text, sizeof text, "%s%ld", o.made ? "made " : "result ", o.result);
    return text;
}

void tried(struct attack *a, const char *name, enum verdict v, const char *text)
{
    static const char *const words[] = { "refused", "allowed", "UNLISTED", "known", "ESCAPE", "not tried" };
    const char *harm = outside_harmed(a->outside);

    if (harm) {
        v = ESCAPED;
        text = harm;
    }
    if (v == ESCAPED && reachable(a->kind, name, a->lacks)) {
        v = KNOWN;
        text = reachable(a->kind, name, a->lacks);
    }
    a->count[v]++;
    if (a->verbose || v == ESCAPED || v == UNLISTED)
        printf("  %-12s %-9s %s: %s\n", kinds[a->kind], words[v], name, text ? text : "");
}

void tried_call(struct attack *a, const char *name, struct outcome o, enum verdict v, const char *why)
{
    /* A program was read before it was found to be none. */
    const bool done = o.result == -ENOEXEC || o.result >= 0 || o.result < -4095;

    if (a->puppet->dead)
        tried(a, name, o.result ? REFUSED : ESCAPED, o.result ? "its process has ended" : "another program runs");
    else if (done && o.made && o.thread && v == ESCAPED)
        tried(a, name, UNLISTED, "it made a thread");
    else if (done || o.made)
        tried(a, name, v, why ? why : say(o));
    else
        tried(a, name, REFUSED, say(o));
}

int own_descriptor(const struct attack *a, const char *begins, int from, char link[256])
{
    char path[60], text[256];
    struct stat st;
    const bool folder = !strcmp(begins, "folder");

    for (int fd = from; fd < 1024; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", a->puppet->pid, fd);
        const ssize_t n = readlink(path, text, sizeof text - 1);
        if (n < 0)
            continue;
        text[n] = 0;
        if (folder ? !stat(path, &st) && S_ISDIR(st.st_mode) : !strncmp(text, begins, strlen(begins))) {
            if (link)
                memcpy(link, text, sizeof text);
            return fd;
        }
    }
    return -1;
}

bool is_descriptor_made(const struct attack *a, long fd)
{
    char path[60];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/fd/%ld", a->puppet->pid, fd);
    return fd > 2 && !lstat(path, &st);
}

/* ---- the threads -------------------------------------------------------------------- */

struct job {
    const char *how, *folder, *kind; /* kind NULL: all */
    struct outside *outside;
    pid_t broker;
    bool verbose;
    u32 lacks, threads, failed;
    u64 escapes, unlisted;
};

static void plant(struct puppet *p, const char *how)
{
    struct user_regs_struct *r = &p->regs;
    const u64 garbage = 0xdead0000dead0000;

    r->orig_rax = (u64)-1;
    if (!strcmp(how, "jump"))
        r->rip = 0x10;
    else if (!strcmp(how, "data"))
        r->rip = puppet_page(p);
    else
        r->rsp = r->rbp = r->rbx = r->rcx = r->rdi = r->rsi = r->r12 = r->r13 = r->r14 = r->r15 = garbage;
}

static void attack(struct job *j, struct puppet *p, enum kind k, const char *thread)
{
    struct attack a = {
        .kind = k, .puppet = p, .outside = j->outside, .folder = j->folder, .broker = j->broker, .verbose = j->verbose,
        .lacks = j->lacks,
    };
    u32 tries = 0;

    if (!strcmp(j->how, "attack")) {
        try_all_numbers(&a);
        try_calls(&a);
        try_ways(&a);
        try_broker(&a);
        j->failed += p->dead;
    } else {
        if (!strcmp(j->how, "ring"))
            try_ring(&a);
        else if (!strcmp(j->how, "x32"))
            try_x32(&a);
        else
            try_int80(&a);
        j->failed += p->dead && p->ended_by != SIGSYS; /* a filter's answer to such calls */
    }
    for (u32 i = 0; i < UNTRIED; i++)
        tries += a.count[i];
    printf("%-15s %6u %8u %8u %9u %8u %8u", thread, tries, a.count[REFUSED], a.count[ALLOWED], a.count[UNLISTED], a.count[KNOWN],
           a.count[ESCAPED]);
    if (p->dead)
        printf("   then signal %d ended it", p->ended_by);
    printf("\n");
    fflush(stdout);
    j->escapes += a.count[ESCAPED];
    j->unlisted += a.count[UNLISTED];
}

/* A worker of io_uring's or KVM's, which the kernel has put among the process's threads, never runs the program. */
static bool is_kernels(const struct process *p, pid_t tid)
{
    enum { PF_IO_WORKER = 0x10, PF_USER_WORKER = 0x4000 }; /* linux/sched.h; proc_pid_stat(5), "flags" */
    char path[60], text[512];
    unsigned flags = 0;

    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", p->pid, tid);
    const char *end = read_text(path, text, sizeof text) ? strrchr(text, ')') : NULL;
    return end && sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && flags & (PF_IO_WORKER | PF_USER_WORKER);
}

/* -errno */
static int take_thread(struct job *j, const struct process *of, pid_t tid, enum kind k, const char *name)
{
    struct puppet *p = malloc(sizeof *p);
    const int r = p ? puppet_take(p, of->pid, tid) : -ENOMEM;

    if (!r) {
        j->threads++;
        if (j->folder)
            attack(j, p, k, name);
        else
            plant(p, j->how);
        puppet_release(p);
    }
    free(p);
    return r;
}

static int each_thread(struct job *j, const struct machine *m, const struct process *p)
{
    char path[300], name[20];
    enum kind k;
    int r = 0;

    snprintf(path, sizeof path, "/proc/%d/task", p->pid);
    DIR *d = opendir(path);
    for (const struct dirent *e; d && !r && (e = readdir(d));) {
        const pid_t tid = atoi(e->d_name);
        snprintf(path, sizeof path, "/proc/%d/task/%s/comm", p->pid, e->d_name);
        if (!tid || is_kernels(p, tid) || !read_text(path, name, sizeof name) || !kind_of(m, p, tid, strtok(name, "\n"), &k))
            continue;
        if (j->kind && (strcmp(j->kind, kinds[k]) || (j->threads && strcmp(j->how, "attack"))))
            continue;
        r = take_thread(j, p, tid, k, k == OUTPUT || k == LOOP || k == VIEWER ? kinds[k] : name);
        if (r)
            fprintf(stderr, "attacker: cannot take %s, thread %d of %s: %s\n", name, tid, p->name, strerror(-r));
    }
    if (d)
        closedir(d);
    return r;
}

static int all_threads(struct job *j, const struct machine *m)
{
    int r = 0;

    if (j->folder)
        j->outside = outside_new(j->folder);
    if (!strcmp(j->how, "attack"))
        printf("%-15s %6s %8s %8s %9s %8s %8s\n", "thread", "tries", "refused", "allowed", "unlisted", "known", "escapes");
    for (u32 i = 0; i < m->n; i++)
        if (!strcmp(m->p[i].name, "lodge-broker"))
            j->broker = m->p[i].pid;
    for (u32 i = 0; i < m->n && !r; i++)
        r = each_thread(j, m, &m->p[i]);
    outside_free(j->outside);
    if (r == -EPERM)
        return SKIPPED;
    if (!r && !j->threads)
        fprintf(stderr, "attacker: there is no such thread\n");
    return r || !j->threads || j->failed || j->escapes || j->unlisted;
}

/* A viewer that waits for the rest of the handshake, as long as this program runs; its process has spoken first. */
static void view(const char *path)
{
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char hello[12];

    snprintf(u.sun_path, sizeof u.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&u, sizeof u) || read(fd, hello, sizeof hello) <= 0)
        fprintf(stderr, "attacker: %s: %s\n", path, strerror(errno));
}

int main(int argc, char **argv)
{
    static struct machine m;
    const char *verbose = getenv("LODGE_TEST_VERBOSE");
    const char *host = getenv("LODGE_TEST_HOST");
    struct job j = { .verbose = verbose && *verbose };

    if (argc < 3 || (host && !host_lacks(host, &j.lacks)))
        return 2;
    if (strcmp(argv[2], "processes") && getenv("LODGE_TEST_SCREEN"))
        view(getenv("LODGE_TEST_SCREEN"));
    find_machine(atoi(argv[1]), &m);
    if (!strcmp(argv[2], "processes")) {
        for (u32 i = 0; i < m.n; i++)
            printf("%d %s\n", m.p[i].pid, m.p[i].name);
        return 0;
    }
    if (!strcmp(argv[2], "plant") && argc == 5) {
        j.kind = argv[3];
        j.how = argv[4];
    } else if (argc >= 4) {
        j.how = argv[2];
        j.folder = argv[3];
        j.kind = argv[4];
    } else {
        return 2;
    }
    return all_threads(&j, &m);
}
