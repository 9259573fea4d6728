/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drive.c - a person at a terminal, for tests: runs a command on a new pseudo-terminal and follows a script.
 *
 *   drive SCRIPT SECONDS COMMAND...        the terminal has 33 rows of 101
 *
 *   expect TEXT    waits until the output since the last match holds TEXT
 *   send TEXT      types; \r \n \\ \xNN as in C
 *   signal N       sends the command a signal
 *   hangup         closes the terminal's window: the command is all that still has it
 *   # comment
 *
 * Then the command must end by itself.  What it printed goes to standard output, the time of each match to
 * standard error.  Ends with the command's status (128 + N for a signal); 124: the time was up, or it ended
 * before the script; 125: it did not leave the terminal as it was.
 */
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

enum { OUTPUT_MAX = 16 * 1024 * 1024, STATUS_TIME = 124, STATUS_TERMINAL = 125 };

static char *output; /* all of it, NUL-terminated */
static size_t filled, matched;
static int master, slave = -1;
static double end;
static pid_t pid;
static bool ended; /* the command, with status */
static int status;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Reads a little; false at the end of the output or of the time.  The terminal's other side stays open here (its
   settings are looked at in the end), so it is the end of the command that tells the end of the output. */
static bool more(void)
{
    struct pollfd p = { master, POLLIN, 0 };

    for (;;) {
        double left = end - now();
        if (left <= 0 || filled >= OUTPUT_MAX - 4096)
            return false;
        bool last = ended;
        if (master < 0)
            usleep(20000);
        else if (poll(&p, 1, left > 0.02 ? 20 : 1) > 0)
            break;
        if (last)
            return false;
        if (waitpid(pid, &status, WNOHANG) == pid)
            ended = true;
    }
    ssize_t n = read(master, output + filled, 4096);
    if (n <= 0)
        return false;
    fwrite(output + filled, 1, (size_t)n, stdout);
    fflush(stdout);
    for (ssize_t i = 0; i < n; i++)
        if (!output[filled + (size_t)i])
            output[filled + (size_t)i] = ' ';
    filled += (size_t)n;
    output[filled] = 0;
    return true;
}

static bool expect(const char *text)
{
    for (;;) {
        char *at = strstr(output + matched, text);
        if (at) {
            matched = (size_t)(at - output) + strlen(text);
            return true;
        }
        if (!more())
            return false;
    }
}

static size_t unescape(char *text)
{
    char *to = text;

    for (char *p = text; *p; p++) {
        if (*p != '\\') {
            *to++ = *p;
            continue;
        }
        switch (*++p) {
        case 'n':
            *to++ = '\n';
            break;
        case 'r':
            *to++ = '\r';
            break;
        case 'x':
            *to++ = (char)strtol((char[]){ p[1], p[1] ? p[2] : 0, 0 }, NULL, 16);
            p += p[1] && p[2] ? 2 : 0;
            break;
        case 0:
            p--;
            break;
        default:
            *to++ = *p;
        }
    }
    return (size_t)(to - text);
}

static bool follow(FILE *script, double start)
{
    char line[1024];

    while (fgets(line, sizeof(line), script)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "expect ", 7)) {
            if (!expect(line + 7)) {
                fprintf(stderr, "drive: did not see \"%s\" within %.1f s%s\n", line + 7, now() - start,
                        ended ? ": the command ended" : "");
                return false;
            }
            fprintf(stderr, "drive: %.3f s: %s\n", now() - start, line + 7);
        } else if (!strncmp(line, "send ", 5)) {
            size_t n = unescape(line + 5);
            if (write(master, line + 5, n) != (ssize_t)n)
                return false;
        } else if (!strncmp(line, "signal ", 7)) {
            kill(pid, atoi(line + 7));
        } else if (!strcmp(line, "hangup")) {
            close(slave);
            close(master);
            master = slave = -1;
        } else if (line[0] && line[0] != '#') {
            fprintf(stderr, "drive: not understood: %s\n", line);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct termios before, after;

    if (argc < 4) {
        fprintf(stderr, "usage: drive SCRIPT SECONDS COMMAND...\n");
        return 2;
    }
    FILE *script = fopen(argv[1], "r");
    output = calloc(1, OUTPUT_MAX);
    if (!script || !output || openpty(&master, &slave, NULL, NULL, &(struct winsize){ .ws_row = 33, .ws_col = 101 })) {
        perror("drive");
        return 2;
    }
    tcgetattr(slave, &before);
    double start = now();
    end = start + atof(argv[2]);
    pid = fork();
    if (!pid) {
        close(master);
        int fd = dup(slave);
        close(slave);
        for (int n = 1; n < NSIG; n++) /* a terminal of its own: whatever nohup or a shell's "&" did to ours */
            signal(n, SIG_DFL);
        login_tty(fd);
        execvp(argv[3], argv + 3);
        perror(argv[3]);
        _exit(127);
    }
    bool ok = follow(script, start);

    while (ok && more())
        ;
    if (!ended) {
        if (ok)
            fprintf(stderr, "drive: still running after %s s\n", argv[2]);
        ok = false;
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    if (!ok)
        return STATUS_TIME;
    if (slave >= 0 && tcgetattr(slave, &after))
        return STATUS_TERMINAL;
    if (slave >= 0 && (before.c_lflag != after.c_lflag || before.c_iflag != after.c_iflag || before.c_oflag != after.c_oflag)) {
        fprintf(stderr, "drive: the terminal was not restored\n");
        return STATUS_TERMINAL;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
