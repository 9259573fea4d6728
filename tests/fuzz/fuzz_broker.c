/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_broker.c - a worker that a guest has taken over, and its broker: messages, each with its length in two bytes before it.
 * Nothing is opened: what the broker asks for is looked at, and gets no file.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"
#include "worker/broker.h"
#include "worker/broker_message.h"

/* As base/opener.h promises whoever opens. */
static int look(void *ctx, const struct opener_request *r)
{
    const bool socket = r->kind == OPENER_LISTEN || r->kind == OPENER_CONNECT;

    if (r->kind > OPENER_RUNTIME || r->purpose > OPENER_CONFIG || !r->path || strlen(r->path) >= PATH_MAX || socket != (r->address != NULL) ||
        r->length > sizeof(struct sockaddr_storage))
        abort();
    if (r->kind == OPENER_REAL || r->kind == OPENER_RUNTIME)
        strcpy(r->real, "/nowhere/at/all");
    return r->kind == OPENER_REMOVE || r->kind == OPENER_FOLDER || r->kind >= OPENER_REAL ? 0 : r->flags & 1 ? -2 : dup(STDERR_FILENO);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct opener opener = { look, NULL };
    int pair[2];

    struct vm_config c;
    if (config_init(&c) || config_disks_insert(&c, 1) || config_text(&c.disk[0].path, "/nowhere/at/all") || config_text(&c.api_socket, "/nowhere/at/all") ||
        config_text(&c.kernel, "/nowhere/at/all"))
        abort();
    struct policy *p = policy_new(&c, "/nowhere");
    opener_use(&opener);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
        abort();
    struct broker *b = broker_new(pair[0], p);
    while (b && size > 2) {
        const size_t n = MIN((size_t)data[0] | (size_t)data[1] << 8, size - 2);
        if (n && send(pair[1], data + 2, n, MSG_DONTWAIT) == (ssize_t)n) {
            struct broker_answer a;
            if (!broker_serve(b) || recv(pair[1], &a, sizeof a, MSG_DONTWAIT) <= 0) /* each gets its answer */
                abort();
        }
        data += 2 + n;
        size -= 2 + n;
    }
    close(pair[1]);
    if (b && broker_serve(b))
        abort();
    broker_free(b);
    policy_free(p);
    config_free(&c);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    struct broker_request q = { .purpose = OPENER_DISK, .kind = i };
    const struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/nowhere/at/all" };
    const size_t n = offsetof(struct broker_request, path) + sizeof "/nowhere/at/all";

    if (i >= BROKER_KINDS || cap < n + 2)
        return 0;
    strcpy(q.path, "/nowhere/at/all");
    if (i == OPENER_LISTEN || i == OPENER_CONNECT) {
        q.length = sizeof sa;
        memcpy(&q.address, &sa, sizeof sa);
    }
    buf[0] = (uint8_t)n;
    buf[1] = (uint8_t)(n >> 8);
    memcpy(buf + 2, &q, n);
    return n + 2;
}
