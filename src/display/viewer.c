/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viewer.c - the process of one viewer: libvncserver on a connected socket; the picture is read where the machine draws
 * it.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <rfb/rfb.h>
#include <rfb/rfbregion.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "display/displayd.h"
#include "display/input.h"
#include "display/keys.h"

enum { WHEEL_UP = 8, WHEEL_DOWN = 16 }; /* RFC 6143, 7.5.5: buttons 4 and 5 */

static struct viewer *self;
static int buttons;

/* Waits while the machine has no time for more messages: only this viewer waits. */
static void to_machine(const struct vnc_message *m)
{
    while (send(self->machine, m, sizeof *m, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            _exit(0);
}

static void key(u16 code, bool down)
{
    if (code)
        to_machine(&(struct vnc_message){ .type = VNC_KEY, .x = code, .y = down });
}

/* A character can change while its key is down. A German shift+7 goes down as /, and comes up as 7 if shift was
   released first. So if a key comes up that is not down, we take it for the key that went down last. */
static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr cl)
{
    static bool held[INPUT_KEYS];
    static u16 last;
    const bool character = keysym < 0xfd00 || keysym > 0xffff; /* it is not a shift, function or dead key */
    u16 code = keys_keysym(keysym);

    if (!down && character && (!code || !held[code]))
        code = last;
    if (!code)
        return;
    if (down && character)
        last = code;
    else if (!down && code == last)
        last = 0;
    held[code] = down;
    key(code, down);
}

static void on_pointer(int mask, int x, int y, rfbClientPtr cl)
{
    const int pressed = mask & ~buttons;
    struct vnc_message m = {
        .type = VNC_POINTER, .x = (u32)MAX(x, 0), .y = (u32)MAX(y, 0), .w = self->width, .h = self->height
    };

    m.buttons = (u16)((mask & 1 ? INPUT_LEFT : 0) | (mask & 2 ? INPUT_MIDDLE : 0) | (mask & 4 ? INPUT_RIGHT : 0));
    m.wheel = (s16)((pressed & WHEEL_UP ? 1 : 0) - (pressed & WHEEL_DOWN ? 1 : 0));
    buttons = mask;
    to_machine(&m);
}

/* Allows one guess a second. */
static rfbBool check_password(rfbClientPtr cl, const char *response, int len)
{
    u8 expected[CHALLENGESIZE];
    char password[9];
    u8 differ = 0;

    strcpy(password, self->password);
    memcpy(expected, cl->authChallenge, CHALLENGESIZE);
    rfbEncryptBytes(expected, password);
    for (int i = 0; i < CHALLENGESIZE; i++)
        differ |= (u8)(expected[i] ^ (i < len ? (u8)response[i] : 0));
    if (differ || len != CHALLENGESIZE)
        sleep(1);
    return !differ && len == CHALLENGESIZE;
}

/* ---- QEMU's extended key events: they give the key's place, not the character on it ---- */

static int extended_key[] = { (int)rfbEncodingQemuExtendedKeyEvent, 0 };

/* With a rectangle of this encoding the server says that it understands them. */
static rfbBool offered(rfbClientPtr cl, void **data, int encoding)
{
    const struct __attribute__((packed)) {
        u8 type, pad;
        u16 nrects;
        u16 x, y, w, h;
        u32 encoding;
    } update = { rfbFramebufferUpdate, 0, htons(1), 0, 0, 0, 0, htonl(rfbEncodingQemuExtendedKeyEvent) };

    return encoding == extended_key[0] && rfbWriteExact(cl, (const char *)&update, sizeof update) > 0;
}

static rfbBool on_extended(rfbClientPtr cl, void *data, const rfbClientToServerMsg *msg)
{
    struct __attribute__((packed)) {
        u8 subtype;
        u16 down;
        u32 keysym, xt;
    } m;

    if (msg->type != 255)
        return FALSE;
    if (rfbReadExact(cl, (char *)&m, sizeof m) <= 0 || m.subtype) {
        rfbCloseClient(cl);
        return TRUE;
    }
    const u16 code = keys_xt(ntohl(m.xt));
    key(code ? code : keys_keysym(ntohl(m.keysym)), ntohs(m.down) != 0);
    return TRUE;
}

static rfbProtocolExtension extension = {
    .pseudoEncodings = extended_key, .enablePseudoEncoding = offered, .handleMessage = on_extended,
};

/* ---- the picture ---- */

/* libvncserver's own format is 0x00BBGGRR. */
static void set_format(rfbScreenInfoPtr s)
{
    s->serverFormat.redShift = 16;
    s->serverFormat.greenShift = 8;
    s->serverFormat.blueShift = 0;
}

static u32 new_width, new_height;

static void set_size(rfbScreenInfoPtr s, rfbClientPtr cl)
{
    if (new_width == self->width && new_height == self->height)
        return;
    /* A viewer that does not support a change of size must connect again; it then finds the new size. But the viewer
       may not have said yet what it supports: SetEncodings comes after ServerInit, and before the viewer asks for
       the first picture. */
    if (cl->state == RFB_NORMAL && !cl->useNewFBSize) {
        if (cl->preferredEncoding == -1 && sraRgnEmpty(cl->requestedRegion))
            return;
        _exit(0);
    }
    self->width = new_width;
    self->height = new_height;
    rfbNewFramebuffer(s, s->frameBuffer, (int)new_width, (int)new_height, 8, 3, 4);
    set_format(s);
    s->setTranslateFunction(cl);
}

static void read_messages(rfbScreenInfoPtr s, rfbClientPtr cl)
{
    struct vnc_message m;
    ssize_t n;

    while ((n = recv(self->displayd, &m, sizeof m, MSG_DONTWAIT)) == sizeof m) {
        if (m.type == VNC_SIZE)
            new_width = m.w, new_height = m.h;
        set_size(s, cl);
        if (m.type == VNC_SIZE || m.type == VNC_CHANGED)
            rfbMarkRectAsModified(s, (int)m.x, (int)m.y, (int)(m.x + m.w), (int)(m.y + m.h));
    }
    if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
        _exit(0);
    set_size(s, cl);
}

static void gone(rfbClientPtr cl)
{
    _exit(0);
}

static enum rfbNewClientAction came(rfbClientPtr cl)
{
    cl->clientGoneHook = gone;
    return RFB_CLIENT_ACCEPT;
}

/* libvncserver gives every viewer 100 ms to begin as a WebSocket, while a plain viewer waits for the server to speak
   first. Where no WebSocket is accepted, we show libvncserver the beginning of a plain viewer on a socket pair. Then
   the stranger's socket takes the place of that one. */
static rfbClientPtr new_plain(rfbScreenInfoPtr s, int stranger, const int pair[2])
{
    static const char version[] = "RFB 003.008\n";
    char said[sizeof version - 1];
    const int one = 1;
    rfbClientPtr cl = NULL;

    if (send(pair[1], version, sizeof said, MSG_NOSIGNAL) == sizeof said)
        cl = rfbNewClient(s, pair[0]);
    if (!cl || cl->sock != pair[0] || recv(pair[1], said, sizeof said, MSG_WAITALL) != sizeof said)
        _exit(1);
    close(pair[1]);
    close(pair[0]);
    setsockopt(stranger, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* this fails on a unix socket */
    if (fcntl(stranger, F_DUPFD_CLOEXEC, pair[0]) != pair[0] || fcntl(pair[0], F_SETFL, O_NONBLOCK))
        _exit(1);
    close(stranger);
    if (send(pair[0], said, sizeof said, MSG_NOSIGNAL) != sizeof said)
        _exit(0);
    return cl;
}

void viewer_serve(struct viewer *v)
{
    struct error err;
    char *no_password = NULL;
    bool ready = false;
    int pair[2];

    self = v;
    new_width = v->width, new_height = v->height;
    signal(SIGPIPE, SIG_IGN);
    alarm(VIEWER_LOGIN_S);
    if (!*v->password && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        _exit(1);
    if (sandbox_enter(SANDBOX_VIEWER, NULL, NULL, &err))
        _exit(1);
    rfbLogEnable(FALSE);
    rfbRegisterProtocolExtension(&extension);
    rfbScreenInfoPtr s = rfbGetScreen(NULL, NULL, (int)v->width, (int)v->height, 8, 3, 4);
    if (!s)
        _exit(1);
    s->frameBuffer = (char *)(uintptr_t)v->picture;
    set_format(s);
    s->desktopName = v->title;
    s->alwaysShared = TRUE;
    s->cursor = NULL; /* the guest draws its own cursor */
    s->deferUpdateTime = 0;
    s->maxClientWait = VIEWER_WAIT_MS;
    s->kbdAddEvent = on_key;
    s->ptrAddEvent = on_pointer;
    s->newClientHook = came;
    if (*v->password) {
        s->authPasswdData = &no_password;
        s->passwordCheck = check_password;
    }
    /* Any web page in a browser on this host can open a WebSocket to loopback, so none is accepted without a
       password. */
    rfbClientPtr cl = *v->password ? rfbNewClient(s, v->client) : new_plain(s, v->client, pair);
    if (!cl || cl->sock < 0)
        _exit(0);
    /* libvncserver waits for the descriptors in allFds. */
    FD_SET(v->displayd, &s->allFds);
    s->maxFd = MAX(s->maxFd, v->displayd);
    for (;;) {
        rfbProcessEvents(s, 999999);
        if (!ready && cl->state == RFB_NORMAL) {
            const struct vnc_message m = { .type = VNC_READY };
            ready = true;
            alarm(0);
            if (send(v->displayd, &m, sizeof m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                _exit(0);
        }
        read_messages(s, cl);
        rfbUpdateClient(cl); /* send it now, not after the next wait */
    }
}
