/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_uri.c - see nbd_uri.h. RFC 3986 has the grammar: scheme://[user@]host[:port]/export?name=value&... */
#include "block/nbd_uri.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Copies n bytes with their %XX replaced. A %00 is refused, since no name has it. */
static int decode(const char *from, size_t n, char *to, size_t room)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        char c = from[i];
        if (c == '%') {
            const char hex[3] = { i + 2 < n ? from[i + 1] : 0, i + 2 < n ? from[i + 2] : 0, 0 };
            if (!isxdigit((unsigned char)hex[0]) || !isxdigit((unsigned char)hex[1]))
                return -EINVAL;
            c = (char)strtoul(hex, NULL, 16);
            i += 2;
        }
        if (!c || k + 1 >= room)
            return -EINVAL;
        to[k++] = c;
    }
    to[k] = 0;
    return 0;
}

/* "[user@]host[:port]" */
static int authority(const char *at, size_t n, struct nbd_uri *u)
{
    const char *user = memchr(at, '@', n);

    if (user) {
        if (decode(at, (size_t)(user - at), u->user, sizeof u->user))
            return -EINVAL;
        n -= (size_t)(user + 1 - at);
        at = user + 1;
    }
    const bool literal = n && *at == '[';
    const char *end = literal ? memchr(at, ']', n) : memchr(at, ':', n);
    if (literal && !end)
        return -EINVAL;
    const size_t host = end ? (size_t)(end - at) - literal : n;
    if (decode(at + literal, host, u->host, sizeof u->host))
        return -EINVAL;
    const char *port = at + host + 2 * literal;
    const size_t rest = n - (size_t)(port - at);
    if (!rest || (rest == 1 && *port == ':')) {
        strcpy(u->port, "10809");
        return 0;
    }
    if (*port != ':' || rest - 1 >= sizeof u->port || strspn(port + 1, "0123456789") < rest - 1)
        return -EINVAL;
    memcpy(u->port, port + 1, rest - 1);
    u->port[rest - 1] = 0;
    return 0;
}

static int parameter(const char *at, size_t n, struct nbd_uri *u)
{
    const struct {
        const char *name;
        char *to;
        size_t room;
    } known[] = {
        { "socket=", u->socket, sizeof u->socket },
        { "tls-psk-file=", u->psk, sizeof u->psk },
        { "tls-certificates=", u->certificates, sizeof u->certificates },
    };

    for (u32 i = 0; i < ARRAY_SIZE(known); i++) {
        const size_t name = strlen(known[i].name);
        if (n >= name && !memcmp(at, known[i].name, name))
            return decode(at + name, n - name, known[i].to, known[i].room);
    }
    return n ? -ENOTSUP : 0;
}

int nbd_uri_parse(const char *text, struct nbd_uri *u)
{
    static const struct {
        const char *scheme;
        bool tls, local;
    } schemes[] = { { "nbd://", false, false }, { "nbds://", true, false }, { "nbd+unix://", false, true }, { "nbds+unix://", true, true } };
    const char *at = NULL;
    bool local = false;
    int r;

    memset(u, 0, sizeof *u);
    for (u32 i = 0; i < ARRAY_SIZE(schemes) && !at; i++) {
        if (strncmp(text, schemes[i].scheme, strlen(schemes[i].scheme)))
            continue;
        at = text + strlen(schemes[i].scheme);
        u->tls = schemes[i].tls;
        local = schemes[i].local;
    }
    if (!at)
        return -ENOTSUP;
    size_t n = strcspn(at, "/?#");
    if ((r = authority(at, n, u)))
        return r;
    at += n;
    n = strcspn(at, "?#");
    if (n && (r = decode(at + 1, n - 1, u->export, sizeof u->export)))
        return r;
    for (at += n; *at && *at != '#'; at += n) {
        at++;
        n = strcspn(at, "&;#");
        if ((r = parameter(at, n, u)))
            return r;
    }
    return local ? (u->socket[0] ? 0 : -EINVAL) : u->socket[0] || !u->host[0] ? -EINVAL : 0;
}
