/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - see policy.h. Whatever is not allowed below is refused. */
#include "worker/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/place.h"
#include "base/unix_socket.h"
#include "block/nbd_uri.h"

enum { MOST_EXTRA = 24, MOST_GRANTS = 32 };

struct policy {
    const struct vm_config *c;
    const char *store;
    char switches[RUNTIME_DIR]; /* the folder of the user's switches; "": there is none */
    u32 nextra, ngrants;
    struct {
        enum opener_purpose purpose;
        char *path;
    } extra[MOST_EXTRA];
    char *grant[MOST_GRANTS]; /* [n % MOST_GRANTS] */
};

struct policy *policy_new(const struct vm_config *c, const char *store)
{
    struct policy *p = calloc(1, sizeof *p);
    struct error err;

    if (!p)
        return NULL;
    p->c = c;
    p->store = store;
    for (u32 i = 0; i < c->nnets; i++)
        if (!strncmp(c->net[i].backend, "switch:", 7) && runtime_dir("the switch", p->switches, &err))
            p->switches[0] = 0; /* the worker finds the same, and says so */
    return p;
}

void policy_free(struct policy *p)
{
    for (u32 i = 0; p && i < MOST_EXTRA; i++)
        free(p->extra[i].path);
    for (u32 i = 0; p && i < MOST_GRANTS; i++)
        free(p->grant[i]);
    free(p);
}

int policy_allow(struct policy *p, enum opener_purpose purpose, const char *path)
{
    char *copy = p->nextra < MOST_EXTRA ? strdup(path) : NULL;

    if (!copy)
        return -ENOMEM;
    p->extra[p->nextra].purpose = purpose;
    p->extra[p->nextra++].path = copy;
    return 0;
}

void policy_grant(struct policy *p, const char *path)
{
    char **at = &p->grant[p->ngrants % MOST_GRANTS];
    char *copy = strdup(path);

    if (!copy)
        return;
    free(*at);
    *at = copy;
    p->ngrants++;
}

/* ---- names ---------------------------------------------------------------- */

static bool is(const char *text, const char *path)
{
    return text && !strcmp(text, path);
}

/* Is path what follows the kind in "KIND:PATH"? */
static bool is_behind(const char *text, const char *kind, const char *path)
{
    const size_t n = strlen(kind);

    return text && !strncmp(text, kind, n) && !strcmp(text + n, path);
}

/* Is path one of the files of "file args,file2 args"? */
static bool is_one_of(const char *text, const char *path)
{
    const size_t n = strlen(path);

    for (const char *at = text; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, path, n) && (!at[n] || at[n] == ' ' || at[n] == ','))
            return true;
    return is(text, path);
}

/* Below a folder, and not up again. */
static bool is_below(const char *folder, const char *path)
{
    size_t n = folder ? strlen(folder) : 0;

    while (n > 1 && folder[n - 1] == '/')
        n--;
    return n && !strncmp(path, folder, n) && (path[n] == '/' || folder[n - 1] == '/') && !strstr(path + n, "/../");
}

static bool reads(const struct opener_request *r)
{
    return (r->flags & O_ACCMODE) == O_RDONLY && !(r->flags & (O_CREAT | O_TRUNC)) && (r->flags & O_TMPFILE) != O_TMPFILE;
}

/* ---- disks ----------------------------------------------------------------- */

/* writes: the worker is to write it */
static bool is_disk(const struct policy *p, const char *path, bool writes)
{
    const struct vm_config *c = p->c;

    for (u32 i = 0; i < c->ndisks; i++)
        if (is(c->disk[i].path, path) && !(writes && (c->disk[i].readonly || c->disk[i].snapshot)))
            return true;
    for (u32 i = 0; i < c->nfloppies; i++)
        if (is(c->floppy[i].path, path) && !(writes && c->floppy[i].readonly))
            return true;
    for (u32 i = 0; i < c->ncdroms; i++)
        if (is(c->cdrom[i].path, path) && !writes)
            return true;
    for (u32 i = 0; i < MOST_GRANTS; i++)
        if (is(p->grant[i], path))
            return true;
    return false;
}

/* Everything that is named leads somewhere, where a worker may look, too. */
static bool is_named(const char *image, const char *real)
{
    char resolved[PATH_MAX];

    if (!image || !realpath(image, resolved))
        return false;
    if (!strcmp(resolved, real))
        return true;
    char *slash = strrchr(resolved, '/');
    slash[slash == resolved] = 0;
    return !strcmp(resolved, real);
}

/* The i-th name of a medium that the user gave: of the configuration, or by the control socket. NULL: it has none. */
enum { MEDIA = CONFIG_MAX_DISKS + CONFIG_MAX_CDROMS + CONFIG_MAX_FLOPPIES + MOST_GRANTS };
static const char *medium(const struct policy *p, u32 i)
{
    const struct vm_config *c = p->c;

    if (i < CONFIG_MAX_DISKS)
        return i < c->ndisks ? c->disk[i].path : NULL;
    if ((i -= CONFIG_MAX_DISKS) < CONFIG_MAX_CDROMS)
        return i < c->ncdroms ? c->cdrom[i].path : NULL;
    if ((i -= CONFIG_MAX_CDROMS) < CONFIG_MAX_FLOPPIES)
        return i < c->nfloppies ? c->floppy[i].path : NULL;
    return p->grant[i - CONFIG_MAX_FLOPPIES];
}

/* May images name files beside them as their backing files? */
static bool follows(const struct policy *p, u32 i)
{
    return i >= p->c->ndisks || !is(p->c->disk[i].backing, "none");
}

static bool follows_all(const struct vm_config *c)
{
    for (u32 i = 0; i < c->ndisks; i++)
        if (is(c->disk[i].backing, "any"))
            return true;
    return false;
}

/* real: the name without links of a backing file, or of the folder of one */
static bool may_back(const struct policy *p, const char *real)
{
    const struct vm_config *c = p->c;

    if (follows_all(c) || place_is_in(real, p->store) || is_named(p->store, real))
        return true;
    for (u32 i = 0; i < c->ndisks; i++)
        if (place_is_in(real, c->disk[i].backing) || is_named(c->disk[i].backing, real))
            return true;
    for (u32 i = 0; i < MEDIA; i++) {
        const char *image = medium(p, i);
        if (image && ((follows(p, i) && place_is_beside(real, image)) || is_named(image, real)))
            return true;
    }
    return false;
}

/* Before it is opened, because to open a device is to use it. */
static bool is_backing(const struct policy *p, const char *path)
{
    char real[PATH_MAX];
    struct stat st;

    return path[0] == '/' && realpath(path, real) && !stat(real, &st) && S_ISREG(st.st_mode) && may_back(p, real);
}

/* A temporary file, in the place where one belongs and under the name that ours have (block/file_open.c). */
static bool is_overlay(const struct opener_request *r)
{
    const char *const folders[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };

    for (u32 i = 0; i < ARRAY_SIZE(folders); i++) {
        const size_t n = folders[i] ? strlen(folders[i]) : 0;
        if (!n || strncmp(r->path, folders[i], n))
            continue;
        if (!r->path[n])
            return (r->flags & O_TMPFILE) == O_TMPFILE;
        const char *name = r->path + n;
        if (!strncmp(name, "/lodge-", 7) && strlen(name) == 23 && strspn(name + 7, "0123456789abcdef") == 16)
            return r->kind == OPENER_REMOVE || (r->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
    }
    return false;
}

/* ---- sockets --------------------------------------------------------------- */

static const char *socket_path(const struct opener_request *r)
{
    const struct sockaddr_un *sa = (const void *)r->address;

    return sa && sa->sun_family == AF_UNIX && r->length == sizeof *sa && sa->sun_path[0] && memchr(sa->sun_path, 0, sizeof sa->sun_path)
               ? sa->sun_path : NULL;
}

/* The i-th of what ports, consoles and inputs are plugged into: "unix:PATH", "file:PATH" and others. NULL: nothing. */
enum { PLUGS = CONFIG_MAX_SERIAL + CONFIG_MAX_CONSOLES + CONFIG_MAX_INPUTS + CONFIG_MAX_USB + 1 };
static const char *plug(const struct vm_config *c, u32 i)
{
    if (i < CONFIG_MAX_SERIAL)
        return i < c->nserial ? c->serial[i] : NULL;
    if ((i -= CONFIG_MAX_SERIAL) < CONFIG_MAX_CONSOLES)
        return i < c->nconsoles ? c->console[i] : NULL;
    if ((i -= CONFIG_MAX_CONSOLES) < CONFIG_MAX_INPUTS)
        return i < c->ninputs ? c->input[i].from : NULL;
    if ((i -= CONFIG_MAX_INPUTS) < CONFIG_MAX_USB)
        return i < c->nusb ? c->usb[i].from : NULL;
    return c->parallel;
}

static bool is_plugged(const struct vm_config *c, const char *kind, const char *path)
{
    for (u32 i = 0; i < PLUGS; i++)
        if (is_behind(plug(c, i), kind, path))
            return true;
    return false;
}

static void sweep(enum opener_purpose purpose, const char *text, const char *kind)
{
    const size_t n = strlen(kind);

    if (text && !strncmp(text, kind, n))
        unix_socket_sweep(purpose, text + n);
}

void policy_sweep(const struct vm_config *c)
{
    for (u32 i = 0; i < PLUGS; i++)
        sweep(OPENER_CHARDEV, plug(c, i), "unix:");
    sweep(OPENER_SCREEN, c->display, "vnc:unix:");
    sweep(OPENER_VSOCK, c->vsock, "");
    sweep(OPENER_API, c->api_socket, "");
}

/* The sockets that the machine listens on. */
static bool is_own_socket(const struct policy *p, enum opener_purpose purpose, const char *path)
{
    const struct vm_config *c = p->c;

    switch (purpose) {
    case OPENER_CHARDEV: return is_plugged(c, "unix:", path);
    case OPENER_SCREEN: return is_behind(c->display, "vnc:unix:", path);
    case OPENER_VSOCK: return is(c->vsock, path);
    case OPENER_API: return is(c->api_socket, path);
    default: return false;
    }
}

/* "PATH_PORT": a program that waits for the guest. */
static bool is_vsock_port(const struct vm_config *c, const char *path)
{
    const size_t n = c->vsock ? strlen(c->vsock) : 0;

    return n && !strncmp(path, c->vsock, n) && path[n] == '_' && path[n + 1] && strspn(path + n + 1, "0123456789") == strlen(path + n + 1);
}

static bool is_switch(const struct policy *p, const char *path)
{
    const size_t n = strlen(p->switches);

    if (!n || strncmp(path, p->switches, n) || strncmp(path + n, "/switch-", 8))
        return false;
    for (u32 i = 0; i < p->c->nnets; i++)
        if (is_behind(p->c->net[i].backend, "switch:", path + n + 8))
            return true;
    return false;
}

/* Is this the server of an NBD disk? */
static bool is_server(const struct policy *p, const char *host, const char *port, const char *socket)
{
    struct nbd_uri u;

    if (follows_all(p->c))
        return true;
    for (u32 i = 0; i < MEDIA; i++) {
        const char *uri = medium(p, i);
        if (uri && !strncmp(uri, "nbd", 3) && !nbd_uri_parse(uri, &u) &&
            (socket ? !strcmp(u.socket, socket) : !u.socket[0] && !strcmp(u.host, host) && !strcmp(u.port, port)))
            return true;
    }
    return false;
}

static bool may_connect(const struct policy *p, const struct opener_request *r)
{
    const char *path = socket_path(r);

    if (!path)
        return false;
    if (is_own_socket(p, r->purpose, path)) /* to see whether somebody listens there */
        return true;
    return (r->purpose == OPENER_VSOCK && is_vsock_port(p->c, path)) || (r->purpose == OPENER_NET && is_switch(p, path)) ||
           (r->purpose == OPENER_DISK && is_server(p, NULL, NULL, path));
}

/* "vnc:HOST:PORT", "vnc:[HOST]:PORT" */
static bool is_display(const char *display, const char *host, const char *port)
{
    char there[NI_MAXHOST + NI_MAXSERV + 8];

    snprintf(there, sizeof there, "vnc:%s:%s", host, port);
    if (is(display, there))
        return true;
    snprintf(there, sizeof there, "vnc:[%s]:%s", host, port);
    return is(display, there);
}

static bool may_use_host(const struct policy *p, const struct opener_request *r)
{
    const char *port = strchr(r->path, ' ');
    char host[NI_MAXHOST];

    if (!port || (size_t)(port - r->path) >= sizeof host)
        return false;
    snprintf(host, sizeof host, "%.*s", (int)(port - r->path), r->path);
    if (r->kind == OPENER_CONNECT_HOST)
        return r->purpose == OPENER_DISK && is_server(p, host, port + 1, NULL);
    return r->purpose == OPENER_SCREEN && is_display(p->c->display, host, port + 1);
}

/* ---- the judgement ---------------------------------------------------------- */

static bool is_report(const struct policy *p, enum opener_purpose purpose, const char *path)
{
    for (u32 i = 0; i < p->nextra; i++)
        if (p->extra[i].purpose == purpose && !strcmp(p->extra[i].path, path))
            return true;
    return false;
}

static bool is_share(const struct vm_config *c, const char *path)
{
    for (u32 i = 0; i < c->nshares; i++)
        if (is(c->share[i].path, path))
            return true;
    return false;
}

static bool is_capture(const struct vm_config *c, const char *path)
{
    for (u32 i = 0; i < c->nnets; i++)
        if (is(c->net[i].pcap, path))
            return true;
    return false;
}

static bool may_open(const struct policy *p, const struct opener_request *r)
{
    const struct vm_config *c = p->c;

    if (is_report(p, r->purpose, r->path))
        return true;
    switch (r->purpose) {
    case OPENER_DISK: /* a backing file is judged again when it is open: policy_judge_opened */
        return is_disk(p, r->path, !reads(r)) ? !(r->flags & (O_CREAT | O_TRUNC)) : reads(r) && is_backing(p, r->path);
    case OPENER_OVERLAY: return is_overlay(r);
    case OPENER_KERNEL: return reads(r) && (is_one_of(c->kernel, r->path) || is_one_of(c->initrd, r->path));
    case OPENER_FIRMWARE:
        return is(c->firmware_vars, r->path) || (reads(r) && (is(c->firmware, r->path) || is_below("/usr/share", r->path)));
    case OPENER_ROM: return reads(r) && (is_below("/usr/share", r->path) || is_below("/usr/lib", r->path));
    case OPENER_SHARE: return (r->flags & O_PATH) && is_share(c, r->path);
    case OPENER_CHARDEV: return is_plugged(c, "file:", r->path);
    case OPENER_CAPTURE: return is_capture(c, r->path);
    case OPENER_SCREEN: return reads(r) && is(c->display_password, r->path);
    case OPENER_ENGINE:
        return !strcmp(r->path, "/proc/cpuinfo") ? reads(r) : c->engine != CONFIG_ENGINE_SOFT && !strcmp(r->path, "/dev/kvm");
    default: return false;
    }
}

static bool is_tap(const struct vm_config *c, const char *name)
{
    for (u32 i = 0; i < c->nnets; i++)
        if (is_behind(c->net[i].backend, "tap:", name))
            return true;
    return false;
}

/* A stale socket at the place of one of ours, or an old map for perf; what the worker made since, the broker knows. */
static bool may_remove(const struct policy *p, const struct opener_request *r)
{
    struct stat st;

    if (is_own_socket(p, r->purpose, r->path))
        return !lstat(r->path, &st) && S_ISSOCK(st.st_mode);
    return r->purpose == OPENER_REPORT && is_report(p, OPENER_REPORT, r->path) && !strncmp(r->path, "/tmp/perf-", 10);
}

/* The same file with no more rights, and nothing else that an open could do. */
static bool may_open_again(const struct opener_request *r)
{
    const int has = fcntl(r->fd, F_GETFL), wants = r->flags & O_ACCMODE;

    if (has < 0 || (has & O_PATH) || (r->flags & ~(O_ACCMODE | O_DIRECT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)))
        return false;
    return (has & O_ACCMODE) == O_RDWR || wants == (has & O_ACCMODE);
}

static bool is_tftp(const struct vm_config *c, const char *path)
{
    for (u32 i = 0; i < c->nnets; i++)
        if (is(c->net[i].tftp, path))
            return true;
    return false;
}

/* What it may open, and where it listens; of backing files the name is judged. */
static bool may_stat(const struct policy *p, const struct opener_request *r)
{
    const struct opener_request read = { .purpose = r->purpose, .kind = OPENER_FILE, .path = r->path, .flags = O_RDONLY };
    char real[PATH_MAX];

    if (is_own_socket(p, r->purpose, r->path) || (r->purpose == OPENER_NET && is_tftp(p->c, r->path)))
        return true;
    if (r->purpose == OPENER_DISK && !is_disk(p, r->path, false))
        return realpath(r->path, real) && may_back(p, real);
    return may_open(p, &read);
}

/* The answer is judged, too. */
static bool may_resolve(const struct policy *p, const struct opener_request *r)
{
    return r->purpose == OPENER_DISK || (r->purpose == OPENER_NET && is_tftp(p->c, r->path));
}

int policy_judge(const struct policy *p, const struct opener_request *r)
{
    const char *path = r->address ? socket_path(r) : r->path;
    bool may = false;

    switch (r->kind) {
    case OPENER_FILE: may = may_open(p, r); break;
    case OPENER_LISTEN: may = path && is_own_socket(p, r->purpose, path); break;
    case OPENER_CONNECT: may = may_connect(p, r); break;
    case OPENER_REMOVE: may = may_remove(p, r); break;
    case OPENER_TAP: may = is_tap(p->c, r->path); break;
    case OPENER_FOLDER: break;
    case OPENER_LISTEN_HOST:
    case OPENER_CONNECT_HOST: may = may_use_host(p, r); break;
    case OPENER_AGAIN: may = may_open_again(r); break;
    case OPENER_REAL: may = may_resolve(p, r); break;
    case OPENER_STAT: may = may_stat(p, r); break;
    case OPENER_USER: break; /* the broker's own: it says who has open what the worker has open */
    case OPENER_RUNTIME: may = p->switches[0]; break;
    }
    return may ? 0 : -EACCES;
}

int policy_judge_opened(const struct policy *p, const struct opener_request *r, int fd)
{
    char link[32], real[PATH_MAX];
    struct stat st;

    if (r->kind != OPENER_FILE || r->purpose != OPENER_DISK || is_disk(p, r->path, !reads(r)))
        return 0;
    /* By the name that it has now, since a name on the way may have become a link. */
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, real, sizeof real - 1);
    if (n < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
        return -EACCES;
    real[n] = 0;
    return may_back(p, real) ? 0 : -EACCES;
}

int policy_judge_real(const struct policy *p, const struct opener_request *r, const char *real)
{
    return r->kind != OPENER_REAL || r->purpose != OPENER_DISK || may_back(p, real) ? 0 : -EACCES;
}

/* ---- helpers ---------------------------------------------------------------- */

/* tftp: the folder that a network process may read, without links; the worker says it, and the process keeps to it */
static bool is_user_net(const struct config_net *n, const char *tftp)
{
    char real[PATH_MAX];

    if (strcmp(n->backend, "user") || !tftp || !n->tftp)
        return !strcmp(n->backend, "user") && !tftp;
    return realpath(n->tftp, real) && !strcmp(real, tftp);
}

int policy_judge_child(const struct policy *p, char *const argv[])
{
    const struct vm_config *c = p->c;
    u32 n = 0;

    while (argv[n])
        n++;
    if (n < 2)
        return -EACCES;
    if (n <= 3 && !strcmp(argv[1], "displayd"))
        return c->display && (n == 2 || is(c->display_tls_creds, argv[2])) ? 0 : -EACCES;
    for (u32 i = 0; i < c->nnets && !strcmp(argv[1], "netd"); i++)
        if ((n >= 3 && n <= 4 && !strcmp(argv[2], "user") && is_user_net(&c->net[i], argv[3])) ||
            (n == 4 && !strcmp(argv[2], "switch") && is_behind(c->net[i].backend, "switch:", argv[3])))
            return 0;
    if (n == 2 && !strcmp(argv[1], "directd"))
        return c->direct != CONFIG_DIRECT_OFF ? 0 : -EACCES;
    return n == 2 && !strcmp(argv[1], "folderd") && c->nshares ? 0 : -EACCES;
}
