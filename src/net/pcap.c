/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pcap.c - the capture file.
 */
#include "net/pcap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opener.h"

enum { BUFFER = 256 * 1024, FILE_HEADER = 24, RECORD_HEADER = 16, SNAPLEN = 262144, LINKTYPE_ETHERNET = 1 };

struct pcap {
    int fd; /* -1 after a failure */
    size_t used;
    u8 frame[NET_MAX_FRAME], buffer[BUFFER];
    char path[];
};

static void put(struct pcap *p, const void *data, size_t len)
{
    memcpy(p->buffer + p->used, data, len);
    p->used += len;
}

static void put_frame(struct pcap *p, const u8 *data, u32 len, u64 ns)
{
    const u32 header[4] = { (u32)(ns / 1000000000), (u32)(ns % 1000000000), len, len };

    if (p->used + RECORD_HEADER + len > BUFFER)
        pcap_flush(p);
    put(p, header, sizeof(header));
    put(p, data, len);
}

struct pcap *pcap_open(const char *path, struct error *err)
{
    const u32 header[6] = { 0xa1b23c4d, 4 << 16 | 2, 0, 0, SNAPLEN, LINKTYPE_ETHERNET };
    struct pcap *p = calloc(1, sizeof(*p) + strlen(path) + 1);

    _Static_assert(sizeof(header) == FILE_HEADER, "as the format has it");
    if (!p) {
        error_set(err, ENOMEM, "no memory");
        return NULL;
    }
    strcpy(p->path, path);
    /* It does not block: a reader of a FIFO must not stop the machine. */
    p->fd = opener_file(OPENER_CAPTURE, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_NONBLOCK, 0600);
    if (p->fd < 0) {
        error_set(err, errno, "pcap=%s: %s", path, strerror(errno));
        free(p);
        return NULL;
    }
    put(p, header, sizeof(header));
    pcap_flush(p);
    return p;
}

void pcap_flush(struct pcap *p)
{
    size_t done = 0;

    while (p->fd >= 0 && done < p->used) {
        ssize_t n = write(p->fd, p->buffer + done, p->used - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            log_warn("pcap=%s: %s; the capture ends here", p->path, n ? strerror(errno) : "no space");
            close(p->fd);
            p->fd = -1;
        }
    }
    p->used = 0;
}

void pcap_frame(struct pcap *p, const struct frame *f, const u8 *data, u64 ns)
{
    if (p->fd < 0)
        return;
    if (f->gso) {
        for (u32 i = 0; i < frame_cuts(f); i++)
            put_frame(p, p->frame, frame_cut(f, data, i, p->frame), ns);
    } else if (f->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        memcpy(p->frame, data, f->len);
        frame_complete(f, p->frame);
        put_frame(p, p->frame, f->len, ns);
    } else {
        put_frame(p, data, f->len, ns);
    }
}

void pcap_close(struct pcap *p)
{
    if (!p)
        return;
    pcap_flush(p);
    if (p->fd >= 0)
        close(p->fd);
    free(p);
}
