/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker_effects.c - what an attacker would harm: another process of the same user, files, and servers that wait for
 * connections. Each of them can tell whether it was touched.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attacker.h"

static const char secret[] = "a secret of the user's\n", kept[] = "the victim's own";

struct seen { /* in memory of the victim's and ours */
    volatile sig_atomic_t ready;
    char word[16];
};

struct outside {
    char folder[PATH_MAX];
    char path[2][108], abstract[40]; /* a stream's, datagrams' */
    int listener[3], datagrams[2];   /* unix, abstract, TCP; unix, UDP */
    int port;
    pid_t victim;
    struct seen *seen;
};

static void died(const char *what)
{
    fprintf(stderr, "attacker: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the victim --------------------------------------------------------------- */

/* Signals stay pending, where proc(5) shows them at once, and for good. */
static void be_victim(struct seen *s)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "attack-victim");
    s->ready = 1;
    for (;;)
        pause();
}

static void victim_start(struct outside *o)
{
    memset(o->seen, 0, sizeof *o->seen);
    memcpy(o->seen->word, kept, sizeof o->seen->word);
    fflush(NULL);
    o->victim = fork();
    if (o->victim < 0)
        died("a victim");
    if (!o->victim)
        be_victim(o->seen);
    while (!o->seen->ready)
        usleep(100);
}

static void read_state(const struct outside *o, char *state, int *tracer, unsigned long *pending)
{
    char path[40], line[128];
    unsigned long shared = 0;

    *state = 0, *tracer = 0, *pending = 0;
    snprintf(path, sizeof path, "/proc/%d/status", o->victim);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "State: %c", state) != 1 && sscanf(line, "TracerPid: %d", tracer) != 1 &&
            sscanf(line, "SigPnd: %lx", pending) != 1)
            (void)!sscanf(line, "ShdPnd: %lx", &shared);
    if (f)
        fclose(f);
    *pending |= shared;
}

/* One that is traced stays a zombie until its tracer ends. */
static void victim_end(struct outside *o)
{
    char state = 0;
    int tracer = 0;
    unsigned long pending;

    kill(o->victim, SIGKILL);
    while (!waitpid(o->victim, NULL, WNOHANG) && (state != 'Z' || !tracer)) {
        usleep(100);
        read_state(o, &state, &tracer, &pending);
    }
}

static const char *victim_harmed(const struct outside *o)
{
    unsigned long pending;
    int tracer;
    char state;

    if (waitpid(o->victim, NULL, WNOHANG) || memcmp(o->seen->word, kept, sizeof o->seen->word))
        return "another process was changed";
    read_state(o, &state, &tracer, &pending);
    return tracer         ? "another process is traced"
           : pending      ? "another process got a signal"
           : state == 'T' ? "another process was stopped"
                          : NULL;
}

/* ---- files -------------------------------------------------------------------- */

static const char *const names[] = { "secret", "program", "below" };

static void plant(const struct outside *o, const char *name, const char *text, mode_t mode)
{
    char path[PATH_MAX + 300];

    snprintf(path, sizeof path, "%s/%s", o->folder, name);
    unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || fchmod(fd, mode))
        died(path);
    close(fd);
}

static void files_plant(const struct outside *o)
{
    char path[PATH_MAX + 10];

    plant(o, names[0], secret, 0600);
    plant(o, names[1], "no program that a kernel knows\n", 0755); /* execve(2) fails, when it has read it */
    snprintf(path, sizeof path, "%s/%s", o->folder, names[2]);
    mkdir(path, 0755);
}

static bool is_planted(const char *name)
{
    for (u32 i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(name, names[i]))
            return true;
    return name[0] == '.';
}

static const char *files_harmed(const struct outside *o)
{
    char path[PATH_MAX + 300], text[64] = "";
    const char *harm = NULL;
    struct stat st;
    u32 n = 0;
    DIR *d = opendir(o->folder);

    if (!d)
        died(o->folder);
    for (const struct dirent *e; (e = readdir(d));) {
        n += is_planted(e->d_name) && e->d_name[0] != '.';
        if (is_planted(e->d_name))
            continue;
        harm = "a file was made";
        snprintf(path, sizeof path, "%s/%s", o->folder, e->d_name);
        if (unlink(path))
            rmdir(path);
    }
    closedir(d);
    if (n != ARRAY_SIZE(names))
        harm = "a file is gone";
    snprintf(path, sizeof path, "%s/%s", o->folder, names[0]);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0 || strcmp(text, secret) || fstat(fd, &st) ||
        (st.st_mode & 07777) != 0600 || st.st_nlink != 1)
        harm = harm ? harm : "a file was changed";
    if (fd >= 0)
        close(fd);
    if (harm)
        files_plant(o);
    return harm;
}

/* ---- servers ------------------------------------------------------------------- */

static socklen_t unix_address(struct sockaddr_un *a, const char *path, bool abstract)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    snprintf(a->sun_path + abstract, sizeof a->sun_path - abstract, "%s", path);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(path) + !abstract);
}

static int serve_unix(const char *path, int type, bool abstract)
{
    struct sockaddr_un a;
    const socklen_t n = unix_address(&a, path, abstract);
    const int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) || (type == SOCK_STREAM && listen(fd, 8)))
        died(path);
    return fd;
}

static int serve_port(int type, int *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((u16)*port) };
    socklen_t n = sizeof a;
    const int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) || (type == SOCK_STREAM && listen(fd, 8)) ||
        getsockname(fd, (struct sockaddr *)&a, &n))
        died("a port at 127.0.0.1");
    *port = ntohs(a.sin_port);
    return fd;
}

static const char *servers_harmed(const struct outside *o)
{
    static const char *const connected[] = { "connected to a unix socket", "connected to an abstract socket",
                                             "connected by TCP" };
    const char *harm = NULL;
    char text[64];
    int fd;

    for (u32 i = 0; i < ARRAY_SIZE(o->listener); i++) {
        while ((fd = accept4(o->listener[i], NULL, NULL, SOCK_CLOEXEC)) >= 0) {
            harm = connected[i];
            close(fd);
        }
    }
    for (u32 i = 0; i < ARRAY_SIZE(o->datagrams); i++)
        while (recv(o->datagrams[i], text, sizeof text, MSG_DONTWAIT) >= 0)
            harm = i ? "sent by UDP" : "sent to a unix socket";
    return harm;
}

/* ---- all of it ------------------------------------------------------------------ */

struct outside *outside_new(const char *folder)
{
    struct outside *o = calloc(1, sizeof *o);

    if (!o)
        died("memory");
    snprintf(o->folder, sizeof o->folder, "%s", folder);
    o->seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (o->seen == MAP_FAILED)
        died("memory");
    files_plant(o);
    for (u32 i = 0; i < 2; i++) {
        snprintf(o->path[i], sizeof o->path[i], "/tmp/lodge-attack-%d-%u", getpid(), i);
        unlink(o->path[i]);
    }
    snprintf(o->abstract, sizeof o->abstract, "lodge-attack-%d", getpid());
    o->listener[0] = serve_unix(o->path[0], SOCK_STREAM, false);
    o->listener[1] = serve_unix(o->abstract, SOCK_STREAM, true);
    o->listener[2] = serve_port(SOCK_STREAM, &o->port);
    o->datagrams[0] = serve_unix(o->path[1], SOCK_DGRAM, false);
    o->datagrams[1] = serve_port(SOCK_DGRAM, &o->port);
    victim_start(o);
    return o;
}

void outside_free(struct outside *o)
{
    if (!o)
        return;
    victim_end(o);
    for (u32 i = 0; i < 2; i++)
        unlink(o->path[i]);
    free(o); /* and what it has open, with the program */
}

const char *outside_harmed(struct outside *o)
{
    const char *victim = victim_harmed(o), *files = files_harmed(o), *servers = servers_harmed(o);

    if (victim) { /* for the next try it is one that nobody has touched */
        victim_end(o);
        victim_start(o);
        return victim;
    }
    return files ? files : servers;
}

pid_t outside_victim(const struct outside *o)
{
    return o->victim;
}

u64 outside_address(const struct outside *o)
{
    return (u64)(uintptr_t)o->seen->word;
}

const char *outside_socket(const struct outside *o, bool datagrams)
{
    return o->path[datagrams];
}

int outside_port(const struct outside *o)
{
    return o->port;
}

const char *outside_abstract(const struct outside *o)
{
    return o->abstract;
}
