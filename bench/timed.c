/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timed.c - runs a program and says how long it took:  timed NAME RUNS PROGRAM [ARG...]
 *
 * For each run a line "PROGRAM NAME RUN SECONDS CPU STATUS HASH": from fork to the end by the clock; processor time of it
 * and its children; how it ended; FNV-1a of what it printed, in hexadecimal. Standard input is empty. A static program, so
 * that the same one runs on the host and in a guest (bench/programs).
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_of_children(void)
{
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* What the file holds from its start on. */
static uint64_t hash(int fd)
{
    static unsigned char buf[65536];
    uint64_t h = 0xcbf29ce484222325ull;
    ssize_t n;
    lseek(fd, 0, SEEK_SET);
    while ((n = read(fd, buf, sizeof buf)) > 0)
        for (ssize_t k = 0; k < n; k++)
            h = (h ^ buf[k]) * 0x100000001b3ull;
    return h;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return fprintf(stderr, "usage: timed NAME RUNS PROGRAM [ARG...]\n"), 2;
    for (int run = 1; run <= atoi(argv[2]); run++) {
        char out[] = "timed-XXXXXX";
        const int fd = mkstemp(out), null = open("/dev/null", O_RDWR);
        if (fd < 0 || null < 0)
            return perror("timed"), 1;
        unlink(out);
        fflush(stdout);
        const double start = now(), cpu = cpu_of_children();
        const pid_t pid = fork();
        if (!pid) {
            dup2(null, 0);
            dup2(fd, 1);
            dup2(null, 2);
            execv(argv[3], argv + 3);
            perror(argv[3]);
            _exit(127);
        }
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
            return perror("timed"), 1;
        const double end = now();
        printf("PROGRAM %s %d %.4f %.4f %d %016llx\n", argv[1], run, end - start, cpu_of_children() - cpu,
               WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), (unsigned long long)hash(fd));
        close(fd);
        close(null);
    }
    return 0;
}
