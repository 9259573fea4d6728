/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confined.h - what the kernel says of a process in its sandbox: what it may do, and what it has open.
 */
#ifndef LODGE_TESTS_CONFINED_H
#define LODGE_TESTS_CONFINED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "test.h"

/* A line of /proc/PID/status: its value, or -1. */
static __attribute__((unused)) long long proc_status(pid_t pid, const char *name, int base)
{
    char path[32], line[256];
    long long value = -1;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
            value = (long long)strtoull(line + strlen(name) + 1, NULL, base);
    if (f)
        fclose(f);
    return value;
}

static __attribute__((unused)) void check_powerless(pid_t pid)
{
    CHECK_EQ(proc_status(pid, "NoNewPrivs", 10), 1);
    CHECK_EQ(proc_status(pid, "CapPrm", 16), 0);
    CHECK_EQ(proc_status(pid, "CapEff", 16), 0);
    CHECK_EQ(proc_status(pid, "CapInh", 16), 0);
    if (!geteuid()) /* nobody else can shrink it, or use what is in it */
        CHECK_EQ(proc_status(pid, "CapBnd", 16), 0);
}

/* Descriptors 0 to 2 lead nowhere, or the last to whoever logs what is said: not to what this test was started with. */
static __attribute__((unused)) void check_no_terminal(pid_t pid)
{
    char path[32], to[256], ours[256];

    for (int fd = 0; fd < 3; fd++) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
        ssize_t n = readlink(path, to, sizeof(to) - 1);
        CHECK(n > 0);
        to[MAX(n, 0)] = 0;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, ours, sizeof(ours) - 1);
        ours[MAX(n, 0)] = 0;
        if (strcmp(to, "/dev/null") && (fd < 2 || strncmp(to, "pipe:", 5) || !strcmp(to, ours)))
            test_fail(__FILE__, __LINE__, "descriptor %d of process %d is %s", fd, pid, to);
    }
}

static __attribute__((unused)) void check_confined(pid_t pid)
{
    check_powerless(pid);
    CHECK_EQ(proc_status(pid, "Seccomp", 10), 2);
    check_no_terminal(pid);
}

#endif
