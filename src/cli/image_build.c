/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_build.c - "lodge image build": runs the script that makes the image, follows it and, on a signal, ends it.
 */
#include "cli/image_verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lodge_config.h"

void meter_show(struct meter *m, int percent, const char *text)
{
    bool same = !strcmp(m->text, text);

    if (same && m->percent == percent)
        return;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K[%3d%%] %s", percent, text), m->drawn = true;
    else if (!same)
        fprintf(stderr, "%s\n", text);
    snprintf(m->text, sizeof(m->text), "%s", text);
    m->percent = percent;
}

void meter_end(const struct meter *m)
{
    if (m->drawn)
        fputs("\r\033[K", stderr);
}

static volatile sig_atomic_t interrupted; /* the signal that asked for the end */

static void on_signal(int sig)
{
    interrupted = sig;
}

void image_hold_signals(sigset_t *before)
{
    struct sigaction sa = { .sa_handler = on_signal };
    sigset_t set;

    sigemptyset(&set);
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        sigaddset(&set, signals[i]);
        sigaction(signals[i], &sa, NULL);
    }
    sigprocmask(SIG_BLOCK, &set, before);
}

int image_script(const char *script, char path[PATH_MAX], struct error *err)
{
    char exe[PATH_MAX], probe[PATH_MAX + 16];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    exe[n > 0 ? n : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    snprintf(probe, sizeof(probe), "%s/build.ninja", exe);
    if (!access(probe, F_OK))
        n = snprintf(path, PATH_MAX, "%s/tools/image/%s", LODGE_SOURCE_DIR, script);
    else
        n = snprintf(path, PATH_MAX, "%s/../share/lodge/image/%s", exe, script);
    if (n < PATH_MAX && !access(path, R_OK))
        return 0;
    snprintf(path, PATH_MAX, "%s/image/%s", LODGE_DATADIR, script);
    return access(path, R_OK) ? error_set(err, ENOENT, "%s is missing; is Lodge installed (make install)?", path) : 0;
}

static void __attribute__((noreturn)) run_script(const char *script, const char *dir, int progress, int errors, const sigset_t *mask)
{
    setpgid(0, 0); /* so a Ctrl-C reaches only us, and we end all these processes */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGTERM, SIG_DFL); /* our handler would catch it until sh runs, and no process would end */
    sigprocmask(SIG_SETMASK, mask, NULL);
    int null = open("/dev/null", O_RDWR);
    /* First move them far from 0 to 3, so that none is overwritten before it is moved. */
    int p = fcntl(progress, F_DUPFD, 10), e = fcntl(errors, F_DUPFD, 10);
    if (null >= 0 && p >= 0 && e >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(e, 2) >= 0 && dup2(p, 3) >= 0) {
        close(p);
        close(e);
        execlp("sh", "sh", script, dir, NULL);
    }
    _exit(127);
}

struct script {
    pid_t pid;
    int progress, errors;
    char line[256];   /* the part of a line of progress that has come */
    char last[400];   /* the last line of standard error */
    char partial[400];
};

static int spawn_script(struct script *s, const char *script, const char *dir, const sigset_t *mask, struct error *err)
{
    int progress[2], errors[2];

    if (pipe2(progress, O_CLOEXEC) || pipe2(errors, O_CLOEXEC))
        return error_set(err, errno, "no pipe: %s", strerror(errno));
    s->pid = fork();
    if (s->pid < 0)
        return error_set(err, errno, "no process can be started: %s", strerror(errno));
    if (!s->pid)
        run_script(script, dir, progress[1], errors[1], mask);
    setpgid(s->pid, s->pid);
    close(progress[1]);
    close(errors[1]);
    s->progress = progress[0];
    s->errors = errors[0];
    return 0;
}

/* Appends the bytes that can be read and hands over whole lines. False: the end of the input. */
static bool read_lines(int fd, char *line, size_t size, void (*each)(void *to, const char *line), void *to)
{
    char data[512];
    ssize_t n = read(fd, data, sizeof(data));

    for (ssize_t i = 0; i < n; i++) {
        size_t len = strlen(line);
        if (data[i] == '\n') {
            each(to, line);
            line[0] = 0;
        } else if (len + 1 < size) {
            line[len] = data[i];
            line[len + 1] = 0;
        }
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

static void on_progress(void *to, const char *line)
{
    char *text;
    long percent = strtol(line, &text, 10);

    if (text != line)
        meter_show(to, (int)MIN(MAX(percent, 0), 100), text + strspn(text, " "));
}

static void on_error(void *to, const char *line)
{
    if (*line)
        snprintf(to, 400, "%s", line);
}

/* Runs the script to its end, or ends it. 0, -EINTR, or its failure with err set. */
static int follow_script(struct script *s, struct meter *meter, const sigset_t *mask, struct error *err)
{
    struct timespec grace = { 10, 0 };
    struct pollfd fds[2] = { { s->progress, POLLIN, 0 }, { s->errors, POLLIN, 0 } };
    bool told = false;
    int status;

    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        int n = ppoll(fds, 2, told ? &grace : NULL, mask);
        if (n < 0 && errno != EINTR)
            break;
        if (interrupted && !told) {
            kill(-s->pid, SIGTERM); /* mmdebstrap removes what it made */
            kill(-s->pid, SIGCONT);
            told = true;
        } else if (told && n == 0) {
            kill(-s->pid, SIGKILL);
        }
        if (n > 0 && fds[0].revents && !read_lines(s->progress, s->line, sizeof(s->line), on_progress, meter))
            fds[0].fd = -1;
        if (n > 0 && fds[1].revents && !read_lines(s->errors, s->partial, sizeof(s->partial), on_error, s->last))
            fds[1].fd = -1;
    }
    while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(s->progress);
    close(s->errors);
    on_error(s->last, s->partial);
    if (interrupted)
        return error_set(err, EINTR, "interrupted; nothing is left of it");
    if (!status)
        return 0;
    return error_set(err, EIO, "%s", s->last[0] ? s->last : "the build failed and does not say why");
}

static void keep_log(const struct image_draft *d, struct error *err)
{
    char from[PATH_MAX + 8], to[PATH_MAX + IMAGE_NAME_MAX + 16], home[PATH_MAX];
    struct error what = *err;
    struct stat st;

    if (image_home(home, NULL))
        return;
    snprintf(from, sizeof(from), "%s/log", d->dir);
    snprintf(to, sizeof(to), "%s/build-%.63s.log", home, d->name);
    if (!stat(from, &st) && st.st_size && !rename(from, to))
        error_set(err, EIO, "%.300s (%.180s has all)", what.text, to);
}

int image_build(const struct image_options *o)
{
    const char *name = o->name ? o->name : "debian";
    struct image image;
    struct image_draft draft;
    struct script script = { 0 };
    struct meter meter = { "", -1, false };
    struct error err = { "" };
    char path[PATH_MAX];
    sigset_t mask;

    if (!o->force && !image_find(name, &image, &err)) {
        printf("The image %s is there (%s); --force builds it anew.\n", name, image.system);
        return STATUS_OK;
    }
    err.text[0] = 0;
    image_hold_signals(&mask);
    int r = image_begin(&draft, name, o->force, &err);
    if (!r)
        r = image_script("debian/build", path, &err);
    if (o->size) { /* in lodge a size without a suffix counts MiB, and MiB is a known suffix; not so in numfmt */
        char bytes[24];
        u64 v = 0;
        (void)!parse_size(o->size, &v);
        snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)v);
        setenv("IMAGE_SIZE", bytes, 1);
    }
    if (o->packages)
        setenv("IMAGE_PACKAGES", o->packages, 1);
    if (!r)
        r = spawn_script(&script, path, draft.dir, &mask, &err);
    if (!r)
        r = follow_script(&script, &meter, &mask, &err);
    meter_end(&meter);
    if (r && r != -EINTR && draft.lock_fd >= 0)
        keep_log(&draft, &err);
    if (!r)
        r = image_commit(&draft, &err);
    image_draft_end(&draft);
    if (!r)
        r = image_find(name, &image, &err);
    if (r)
        return cli_failed(r, &err);
    printf("The image %s is ready: %s, %llu MiB.\n", name, image.system, (unsigned long long)(image.allocated >> 20));
    return STATUS_OK;
}
