/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch.c - forwarding. Every port has a queue of bounded size, which is its ring. A packet that does not fit is lost
 * for that port and delays no other port.
 */
#include "net/switch.h"

#include <string.h>

#include "net/frame.h"

bool switch_has(const struct switch_ *s, const u8 mac[6])
{
    for (u32 i = 0; i < SWITCH_PORTS; i++)
        if (s->port[i].used && !memcmp(s->port[i].mac, mac, 6))
            return true;
    return false;
}

struct packet {
    struct virtio_net_hdr_v1 hdr;
    u8 head[FRAME_HEAD]; /* checked; the memory that holds the packet may have changed since */
    const u8 *frame;
    u32 len; /* length of the frame */
};

static bool put(struct switch_port *to, const struct packet *p)
{
    u8 *at = link_room(&to->link, NET_HDR + p->len);
    const u32 head = MIN(p->len, (u32)FRAME_HEAD);

    if (!at)
        return false;
    memcpy(at, &p->hdr, NET_HDR);
    memcpy(at + NET_HDR, p->head, head);
    memcpy(at + NET_HDR + head, p->frame + head, p->len - head);
    link_put(&to->link, NET_HDR + p->len);
    return true;
}

static u32 forward_one(struct switch_ *s, struct switch_port *from, const struct packet *p)
{
    const u8 *dst = p->head;
    u32 lost = 0;

    if (!(dst[0] & 1)) {
        for (u32 i = 0; i < SWITCH_PORTS; i++)
            if (s->port[i].used && !memcmp(s->port[i].mac, dst, 6))
                return &s->port[i] != from && !put(&s->port[i], p);
    }
    for (u32 i = 0; i < SWITCH_PORTS; i++)
        if (s->port[i].used && &s->port[i] != from)
            lost += !put(&s->port[i], p);
    return lost;
}

bool switch_forward(struct switch_ *s, struct switch_port *from)
{
    struct packet p;
    struct frame f;
    const u8 *packet;
    u32 len, n, lost = 0;

    for (n = 0; n < SWITCH_BATCH && (packet = link_next(&from->link, &len)); n++) {
        p.len = len - NET_HDR;
        p.frame = packet + NET_HDR;
        memcpy(&p.hdr, packet, NET_HDR);
        memcpy(p.head, p.frame, MIN(p.len, (u32)FRAME_HEAD));
        if (frame_check(&f, &p.hdr, p.head, p.len) || memcmp(p.head + 6, from->mac, 6))
            lost++;
        else
            lost += forward_one(s, from, &p);
        link_pop(&from->link);
    }
    if (lost)
        __atomic_add_fetch(&from->link.shared->dropped, lost, __ATOMIC_RELAXED);
    for (u32 i = 0; i < SWITCH_PORTS; i++)
        if (s->port[i].used && (s->port[i].link.news || &s->port[i] == from))
            link_kick(&s->port[i].link);
    return n == SWITCH_BATCH;
}
