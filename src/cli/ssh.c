/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ssh.c - "lodge ssh" and "lodge cp": run ssh and scp with the machine's port and keys, when the guest answers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/pass.h"
#include "cli/cli.h"
#include "store/store.h"

enum { WAIT_SECONDS = 600, NAP_MS = 100, PATIENCE_MIN_MS = 500, PATIENCE_MAX_MS = 10000 };

void help_ssh(void)
{
    puts("Usage: lodge ssh NAME [COMMAND...]\n\n"
         "A shell in a machine that runs (\"lodge image ls\" lists them), or one command there; waits until it has\n"
         "started. The exit status is the command's.");
}

void help_cp(void)
{
    puts("Usage: lodge cp FILE... NAME:PATH\n"
         "       lodge cp NAME:PATH... FILE\n\n"
         "Copies files and folders into a machine that runs, or out of it. A PATH that does not begin with / is in\n"
         "the home folder there.");
}

/* How long to wait for a greeting. If a connection was made before the guest had its address, the forwarder tries
   again only seconds later. So we give up such a connection and make a new one. But we must not give up a connection
   for which an sshd is just starting. Both times grow with the time that the machine needs to start. The machine's
   lock was written when it started. */
static int patience_ms(const struct image_machine *m)
{
    char lock[PATH_MAX + 8];
    struct stat st;
    struct timespec now;

    snprintf(lock, sizeof(lock), "%s/lock", m->dir);
    if (stat(lock, &st) || clock_gettime(CLOCK_REALTIME, &now))
        return PATIENCE_MAX_MS;
    s64 age = (s64)(now.tv_sec - st.st_mtim.tv_sec) * 1000 + (now.tv_nsec - st.st_mtim.tv_nsec) / 1000000;
    return (int)MIN(MAX(age / 5, PATIENCE_MIN_MS), PATIENCE_MAX_MS);
}

/* Returns a connection on which a server of ssh greets (RFC 4253, 4.2), with its greeting still to be read; or -1. A
   forwarded port accepts connections before the guest does. */
static int connect_greeted(const struct image_machine *m)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(m->ssh_port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[4];

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)) &&
        poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, patience_ms(m)) == 1 && recv(fd, text, 4, MSG_PEEK) == 4 &&
        !memcmp(text, "SSH-", 4))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int find_running(const char *name, struct image_machine *m, struct error *err)
{
    int r = image_machine_find(name, m, err);

    if (!r && !m->pid)
        r = error_set(err, ENOTCONN, "the machine %s does not run; \"lodge run --keep %s\" starts it", name, name);
    return r;
}

/* Waits until the machine's ssh answers. Returns the connection, or -errno. */
static int reach(const char *name, struct error *err)
{
    u64 begin = clock_ns(), told = 0;
    struct image_machine m;
    int r;

    while (!(r = find_running(name, &m, err)) && (r = connect_greeted(&m)) < 0) {
        u64 seconds = (clock_ns() - begin) / 1000000000;
        if (seconds >= WAIT_SECONDS) {
            r = error_set(err, ETIMEDOUT, "the machine %s runs, but no ssh answers in it after %d s", name,
                          WAIT_SECONDS);
            break;
        }
        if (seconds != told && isatty(STDERR_FILENO))
            fprintf(stderr, "\r\033[KWaiting for %s to start: %llu s", name, (unsigned long long)seconds);
        else if (!told && seconds)
            fprintf(stderr, "Waiting for %s to start\n", name);
        told = seconds;
        poll(NULL, 0, NAP_MS);
    }
    if (told && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    return r;
}

/* "lodge ssh --connect NAME", ssh's ProxyCommand: waits, and hands the connection to ssh over standard output. It
   hands over the connection on which it has seen the greeting, so the guest starts no sshd just for a test. */
static int connect_for_ssh(const char *name)
{
    struct error err = { "" };
    int fd = reach(name, &err);

    if (fd < 0) {
        log_error("%s", err.text);
        return STATUS_FAILED;
    }
    if (!pass_send(STDOUT_FILENO, "", 1, &fd, 1, 0))
        return STATUS_OK;
    log_error("ssh --connect is for ssh: -o ProxyUseFdpass=yes -o ProxyCommand=\"lodge ssh --connect %s\"", name);
    return STATUS_USAGE;
}

enum { COMMON = 32 };

/* Writes the arguments that ssh and scp have in common, from `args` on; returns their number. The strings are
   static. */
static int common(char **args, const struct image_machine *m)
{
    static char hosts[PATH_MAX + 32], alias[IMAGE_NAME_MAX + 16], proxy[PATH_MAX + 128], control[128];
    char exe[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    int n = 0;
    /* The user's own configuration is for other hosts. Among the algorithms that all sides know, those that cost a
       slow guest least come first. Nobody listens on the way through this host's memory. */
    static const char *const fixed[] = { "-F", "/dev/null", "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=accept-new",
                                         "-oGlobalKnownHostsFile=/dev/null", "-oCheckHostIP=no", "-oLogLevel=ERROR",
                                         "-oPasswordAuthentication=no", "-oKbdInteractiveAuthentication=no",
                                         "-oProxyUseFdpass=yes", "-oControlMaster=auto", "-oControlPersist=60",
                                         "-oKexAlgorithms=^curve25519-sha256", "-oCiphers=^aes128-gcm@openssh.com" };

    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
        args[n++] = (char *)fixed[i];
    snprintf(hosts, sizeof(hosts), "-oUserKnownHostsFile=\"%s\"", m->known_hosts);
    snprintf(alias, sizeof(alias), "-oHostKeyAlias=%s", m->name);
    exe[MAX(len, 0)] = 0;
    if (strpbrk(exe, "'%")) /* special characters of the shell and of ssh */
        snprintf(exe, sizeof(exe), "lodge");
    snprintf(proxy, sizeof(proxy), "-oProxyCommand='%s' ssh --connect %s", exe, m->name);
    /* Another ssh within a minute shares the connection. On a slow guest that takes half a second instead of
       several. ssh needs room for ".RANDOM" in the name of a socket, which has 107 characters. */
    if (snprintf(control, sizeof(control), "-oControlPath=\"%s/ssh\"", m->dir) > 100 || strchr(m->dir, '%'))
        snprintf(control, sizeof(control), "-oControlPath=none");
    args[n++] = hosts;
    args[n++] = alias;
    args[n++] = proxy;
    args[n++] = control;
    args[n++] = (char *)"-i";
    args[n++] = (char *)m->key;
    return n;
}

static int execute(char **args)
{
    fflush(stdout);
    execvp(args[0], args);
    if (errno == ENOENT)
        log_error("%s is needed; it is in the package openssh-client", args[0]);
    else
        log_error("%s cannot be run: %s", args[0], strerror(errno));
    return STATUS_FAILED;
}

int cli_ssh(int argc, char **argv)
{
    struct image_machine m;
    struct error err = { "" };
    char login[64];

    if (argc == 3 && !strcmp(argv[1], "--connect"))
        return connect_for_ssh(argv[2]);
    if (argc < 2 || argv[1][0] == '-')
        return usage_error("it is \"lodge ssh NAME [COMMAND...]\"; \"lodge image ls\" lists the machines");
    int r = find_running(argv[1], &m, &err);
    if (r)
        return cli_failed(r, &err);
    char **args = calloc((size_t)argc + COMMON, sizeof(*args));
    if (!args)
        return cli_failed(-ENOMEM, &err);
    snprintf(login, sizeof(login), "%s@127.0.0.1", m.user);
    args[0] = (char *)"ssh";
    int n = 1 + common(args + 1, &m);
    args[n++] = login;
    const int command = argc > 2 && !strcmp(argv[2], "--") ? 3 : 2;
    if (argc > command)
        args[n++] = (char *)"--";
    for (int i = command; i < argc; i++)
        args[n++] = argv[i];
    r = execute(args);
    free(args);
    return r;
}

/* The length of NAME in "NAME:PATH"; 0: the word is a file of this host. */
static size_t machine_part(const char *word)
{
    size_t n = strcspn(word, ":/");

    return word[n] == ':' && n <= IMAGE_NAME_MAX ? n : 0;
}

int cli_cp(int argc, char **argv)
{
    struct image_machine m;
    struct error err = { "" };
    char name[IMAGE_NAME_MAX + 1] = "";
    size_t all = 0;

    for (int i = 1; i < argc; i++) {
        size_t n = machine_part(argv[i]);
        if (argv[i][0] == '-')
            return usage_error("cp: it has no options; a file %s is ./%s", argv[i], argv[i]);
        if (n && name[0] && (strlen(name) != n || strncmp(name, argv[i], n)))
            return usage_error("cp: only one machine at a time");
        if (n)
            snprintf(name, sizeof(name), "%.*s", (int)n, argv[i]);
        if (i > 1 && i < argc - 1 && !n != !machine_part(argv[1]))
            return usage_error("cp: all but the last are on one side");
        all += strlen(argv[i]) + 64;
    }
    if (argc < 3 || !name[0] || !machine_part(argv[1]) == !machine_part(argv[argc - 1]))
        return usage_error("it is \"lodge cp FILE... NAME:PATH\" or \"lodge cp NAME:PATH... FILE\"");
    int r = find_running(name, &m, &err);
    char **args = r ? NULL : calloc((size_t)argc + COMMON, sizeof(*args));
    char *text = args ? malloc(all) : NULL;
    if (!text) {
        free(args);
        return cli_failed(r ? r : -ENOMEM, &err);
    }
    args[0] = (char *)"scp";
    int n = 1 + common(args + 1, &m);
    args[n++] = (char *)"-rp";
    args[n++] = (char *)"--";
    char *at = text;
    for (int i = 1; i < argc; i++) {
        size_t host = machine_part(argv[i]);
        args[n++] = at;
        /* "./": otherwise scp would take a colon later in a file's name for the end of a host's name. */
        at += host ? sprintf(at, "%s@127.0.0.1:%s", m.user, argv[i] + host + 1)
                   : sprintf(at, "%s%s", argv[i][0] == '/' ? "" : "./", argv[i]);
        at++;
    }
    r = execute(args);
    free(text);
    free(args);
    return r;
}
