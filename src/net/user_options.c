/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_options.c - reads the options of "user" from the configuration into a struct user_config.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/opener.h"
#include "net/peer.h"

enum { HOST = 2, DNS = 3, DHCP = 15 };

static int parse_net(struct user_config *c, const char *text, struct error *err)
{
    char buf[32];
    char *slash, *end = buf;
    struct in_addr a;
    unsigned long bits = 0;

    snprintf(buf, sizeof(buf), "%s", text);
    slash = strchr(buf, '/');
    if (slash) {
        *slash++ = 0;
        bits = strtoul(slash, &end, 10);
    }
    if (!slash || !isdigit((unsigned char)*slash) || *end || bits < 8 || bits > 27 || inet_pton(AF_INET, buf, &a) != 1)
        return error_set(err, EINVAL,
                         "net=%s: it is a network ADDRESS/BITS of 8 to 27 bits, for example net=10.0.2.0/24", text);
    const u32 mask = ~(u32)0 << (32 - bits), net = ntohl(a.s_addr) & mask;
    c->mask.s_addr = htonl(mask);
    c->net.s_addr = htonl(net);
    c->gateway.s_addr = htonl(net | HOST);
    c->dns.s_addr = htonl(net | DNS);
    c->dhcp.s_addr = htonl(net | DHCP);
    return 0;
}

/* Parses "[ADDR]:PORT"; an IPv6 address is in brackets. Leaves *p behind the port. */
static bool parse_end(const char **p, struct sockaddr_in6 *to, bool *given)
{
    char addr[INET6_ADDRSTRLEN];
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)to;
    const char *s = *p, *colon;
    const bool v6 = *s == '[';
    char *end;

    s += v6;
    colon = v6 ? strchr(s, ']') : strchr(s, ':');
    if (!colon || (size_t)(colon - s) >= sizeof(addr))
        return false;
    memcpy(addr, s, (size_t)(colon - s));
    addr[colon - s] = 0;
    colon += v6;
    if (*colon++ != ':' || !isdigit((unsigned char)*colon))
        return false;
    const unsigned long port = strtoul(colon, &end, 10);
    if (port > 65535)
        return false;
    *given = *addr != 0;
    if (v6) {
        to->sin6_family = AF_INET6;
        to->sin6_port = htons((u16)port);
        if (inet_pton(AF_INET6, addr, &to->sin6_addr) != 1)
            return false;
    } else {
        in->sin_family = AF_INET;
        in->sin_port = htons((u16)port);
        if (*given && inet_pton(AF_INET, addr, &in->sin_addr) != 1)
            return false;
    }
    *p = end;
    return true;
}

static int parse_forward(struct user_config *c, const char *text, struct error *err)
{
    struct user_forward *f = &c->forward[c->nforwards];
    const char *p = text + 4;
    bool host, guest;

    if (c->nforwards == NET_MAX_FORWARDS)
        return error_set(err, E2BIG, "hostfwd=%s: there are %d already", text, NET_MAX_FORWARDS);
    f->udp = !strncmp(text, "udp:", 4);
    if ((!f->udp && strncmp(text, "tcp:", 4)) || !parse_end(&p, &f->host.in6, &host) || *p++ != '-' ||
        !parse_end(&p, &f->guest.in6, &guest) || *p || !f->guest.in.sin_port)
        return error_set(err, EINVAL,
                         "hostfwd=%s: it is tcp|udp:[HOSTADDR]:PORT-[GUESTADDR]:PORT, for example "
                         "hostfwd=tcp::2222-:22; IPv6 addresses are in brackets",
                         text);
    if (f->host.any.sa_family == AF_INET6 && !guest)
        return error_set(err, EINVAL,
                         "hostfwd=%s: with an IPv6 host address the guest's must be given, for example "
                         "[fec0::5054:ff:fe12:3456]",
                         text);
    if (f->host.any.sa_family != f->guest.any.sa_family)
        return error_set(err, EINVAL, "hostfwd=%s: both addresses must be IPv4 or both IPv6", text);
    if (f->host.any.sa_family == AF_INET && !host)
        f->host.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->nforwards++;
    return 0;
}

static int parse_hostname(struct user_config *c, const char *text, struct error *err)
{
    size_t n = 0;

    while (isalnum((unsigned char)text[n]) || text[n] == '-' || text[n] == '.')
        n++;
    if (text[n] || n >= sizeof(c->hostname))
        return error_set(err, EINVAL, "hostname=%s: at most %zu letters, digits, \"-\" and \".\"", text,
                         sizeof(c->hostname) - 1);
    strcpy(c->hostname, text);
    return 0;
}

/* Stores a folder by its absolute name, because the process that reads it may have another working directory. */
static int parse_tftp(struct user_config *c, const char *text, struct error *err)
{
    char path[PATH_MAX];
    struct stat st;

    if (!opener_real(OPENER_NET, text, path) || opener_stat(OPENER_NET, text, 0, &st))
        return error_set(err, errno, "tftp=%s: %s", text, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return error_set(err, ENOTDIR, "tftp=%s: it is the folder that the files are in", text);
    if (strlen(path) >= sizeof(c->tftp))
        return error_set(err, ENAMETOOLONG, "tftp=%s: at most %zu bytes from the root", text, sizeof(c->tftp) - 1);
    strcpy(c->tftp, path);
    return 0;
}

static int parse_bootfile(struct user_config *c, const char *text, struct error *err)
{
    if (!*text || strlen(text) >= sizeof(c->bootfile))
        return error_set(err, EINVAL, "bootfile=%s: the name of a file of tftp='s, at most %zu bytes", text,
                         sizeof(c->bootfile) - 1);
    strcpy(c->bootfile, text);
    return 0;
}

int user_options(struct user_config *c, const struct config_net *n, struct error *err)
{
    int r;

    memset(c, 0, sizeof(*c));
    c->mtu = n->mtu;
    c->ipv6 = n->ipv6;
    c->restricted = n->restricted;
    r = parse_net(c, n->net ? n->net : "10.0.2.0/24", err);
    for (u32 i = 0; i < n->nhostfwd && !r; i++)
        r = parse_forward(c, n->hostfwd[i], err);
    if (n->hostname && !r)
        r = parse_hostname(c, n->hostname, err);
    if (n->tftp && !r)
        r = parse_tftp(c, n->tftp, err);
    if (n->bootfile && !r)
        r = parse_bootfile(c, n->bootfile, err);
    return r;
}
