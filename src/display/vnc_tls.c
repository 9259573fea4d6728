/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc_tls.c - TLS for viewers. libvncserver supports TLS only for WebSockets, so TLS ends here, before libvncserver.
 * The viewer's process becomes two: this one is between the stranger and the one that serves. With a viewer we speak
 * RFB 3.8 up to VeNCrypt's choice (security type 19; the rfbproto specification, "VeNCrypt"). With libvncserver we
 * speak it up to the choice of None or VNC Authentication. After that we only carry bytes. If a stranger begins with a
 * TLS record instead, it wants a WebSocket: everything that it then says is for libvncserver.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "display/displayd.h"

enum { SECURITY_NONE = 1, SECURITY_VNC = 2, SECURITY_VENCRYPT = 19, X509_NONE = 260, X509_VNC = 261 };
enum { TLS_HANDSHAKE = 22, TLS_WAIT_MS = 300, BUFFER = 32768 };

struct vnc_tls {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
};

struct vnc_tls *vnc_tls_load(const char *dir, struct error *err)
{
    struct vnc_tls *t = calloc(1, sizeof *t);
    char cert[PATH_MAX + 32], key[PATH_MAX + 32];

    snprintf(cert, sizeof cert, "%s/server-cert.pem", dir);
    snprintf(key, sizeof key, "%s/server-key.pem", dir);
    for (int i = 0; i < 2; i++) {
        const char *file = i ? key : cert;
        if (access(file, R_OK)) {
            error_set(err, errno, "tls-creds=%s: %s: %s", dir, file, strerror(errno));
            free(t);
            return NULL;
        }
    }
    int r = t ? gnutls_certificate_allocate_credentials(&t->credentials) : GNUTLS_E_MEMORY_ERROR;
    if (!r)
        r = gnutls_priority_init(&t->priority, NULL, NULL);
    if (!r)
        r = gnutls_certificate_set_x509_key_file(t->credentials, cert, key, GNUTLS_X509_FMT_PEM);
    if (!r)
        return t;
    error_set(err, EINVAL, "tls-creds=%s: server-cert.pem and server-key.pem there cannot be used: %s", dir,
              gnutls_strerror(r));
    free(t);
    return NULL;
}

/* These are for the time before the stranger has logged in. What it sends then is short, and alarm() ends what takes
   too long. */
static void put(int fd, const void *data, size_t len)
{
    if (send(fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
        _exit(0);
}

static void get(int fd, void *data, size_t len)
{
    if (recv(fd, data, len, MSG_WAITALL) != (ssize_t)len)
        _exit(0);
}

static void choose_vencrypt(int fd, u32 subtype)
{
    u8 in[12], chosen[2];
    const u32 offered = htonl(subtype);
    u32 wanted;

    put(fd, "RFB 003.008\n", 12);
    get(fd, in, 12);
    if (memcmp(in, "RFB 003.", 8) || memcmp(in + 8, "007", 3) < 0) /* version 3.3 has no choice of security types */
        _exit(0);
    put(fd, (const u8[]){ 1, SECURITY_VENCRYPT }, 2);
    get(fd, in, 1);
    if (in[0] != SECURITY_VENCRYPT)
        _exit(0);
    put(fd, (const u8[]){ 0, 2 }, 2); /* version 0.2 */
    get(fd, chosen, 2);
    const bool known = chosen[0] == 0 && chosen[1] == 2;
    put(fd, (const u8[]){ !known }, 1);
    if (!known)
        _exit(0);
    put(fd, (const u8[]){ 1 }, 1);
    put(fd, &offered, 4);
    get(fd, &wanted, 4);
    put(fd, (const u8[]){ wanted == offered }, 1);
    if (wanted != offered)
        _exit(0);
}

/* Does the same with the process that serves, as its viewer. */
static void choose_plain(int fd, u8 type)
{
    u8 in[12], n, types[255];

    put(fd, "RFB 003.008\n", 12);
    get(fd, in, 12);
    get(fd, &n, 1);
    get(fd, types, n);
    if (!memchr(types, type, n))
        _exit(0);
    put(fd, &type, 1);
}

struct flow {
    u8 data[BUFFER];
    size_t n, at;
};

/* Carries bytes until either end is closed. Neither side waits for the other, except when buffers are full. */
static void carry(gnutls_session_t session, int outer, int inner)
{
    static struct flow in, out;

    fcntl(outer, F_SETFL, O_NONBLOCK);
    fcntl(inner, F_SETFL, O_NONBLOCK);
    for (;;) {
        ssize_t r = 0;
        bool moved = false;
        if (in.at == in.n) {
            in.at = in.n = 0;
            r = gnutls_record_recv(session, in.data, BUFFER);
            if (r > 0)
                in.n = (size_t)r, moved = true;
            else if (!r || (gnutls_error_is_fatal((int)r)) || r == GNUTLS_E_REHANDSHAKE)
                _exit(0);
        }
        if (in.at < in.n && (r = send(inner, in.data + in.at, in.n - in.at, MSG_NOSIGNAL)) > 0)
            in.at += (size_t)r, moved = true;
        else if (in.at < in.n && errno != EAGAIN && errno != EINTR)
            _exit(0);
        if (out.at == out.n) {
            out.at = out.n = 0;
            r = recv(inner, out.data, BUFFER, 0);
            if (r > 0)
                out.n = (size_t)r, moved = true;
            else if (!r || (errno != EAGAIN && errno != EINTR))
                _exit(0);
        }
        if (out.at < out.n) {
            r = gnutls_record_send(session, out.data + out.at, out.n - out.at);
            if (r > 0)
                out.at += (size_t)r, moved = true;
            else if (gnutls_error_is_fatal((int)r))
                _exit(0);
        }
        if (moved)
            continue;
        /* An empty direction waits for its source, a full one for its sink. */
        struct pollfd p[2] = { { outer, (short)((in.n ? 0 : POLLIN) | (out.n ? POLLOUT : 0)), 0 },
                               { inner, (short)((out.n ? 0 : POLLIN) | (in.n ? POLLOUT : 0)), 0 } };
        if ((poll(p, 2, -1) < 0 && errno != EINTR) || p[0].revents & (POLLHUP | POLLERR))
            _exit(0);
    }
}

void vnc_tls_serve(struct vnc_tls *t, struct viewer *v)
{
    struct error err;
    gnutls_session_t session;
    int pair[2], r;
    u8 first = 0;

    signal(SIGPIPE, SIG_IGN);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        _exit(1);
    const pid_t pid = fork();
    if (pid < 0)
        _exit(1);
    if (!pid) {
        struct pollfd p = { pair[0], POLLIN, 0 };
        close(v->client);
        close(pair[1]);
        v->client = pair[0];
        alarm(VIEWER_LOGIN_S);
        poll(&p, 1, -1); /* wait until the other process knows what this one shall be */
        viewer_serve(v);
    }
    close(pair[0]);
    close(v->displayd);
    close(v->machine);
    alarm(VIEWER_LOGIN_S);
    if (sandbox_enter(SANDBOX_VIEWER, NULL, NULL, &err))
        _exit(1);

    struct pollfd p = { v->client, POLLIN, 0 };
    const bool websocket = /* without a password we accept no WebSocket */
        *v->password && poll(&p, 1, TLS_WAIT_MS) == 1 && recv(v->client, &first, 1, MSG_PEEK) == 1 && first == TLS_HANDSHAKE;
    if (!websocket)
        choose_vencrypt(v->client, *v->password ? X509_VNC : X509_NONE);
    if (gnutls_init(&session, GNUTLS_SERVER) || gnutls_priority_set(session, t->priority) ||
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, t->credentials))
        _exit(1);
    gnutls_transport_set_int(session, v->client);
    do
        r = gnutls_handshake(session);
    while (r < 0 && !gnutls_error_is_fatal(r));
    if (r < 0)
        _exit(0);
    if (!websocket)
        choose_plain(pair[1], *v->password ? SECURITY_VNC : SECURITY_NONE);
    alarm(0); /* from here on the process that serves limits the time */
    carry(session, v->client, pair[1]);
    _exit(0);
}
