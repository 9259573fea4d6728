/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_media.c - vm.change-media.  A disc may be on a server that takes its time, or says nothing any more: a thread opens
 * the new one and closes the old one, while the machine runs on.  The loop's thread puts the one in the other's place.
 *
 * A later request for the same drive takes the place of one whose disc is still being opened.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/patience.h"
#include "base/signals.h"
#include "block/block.h"
#include "vm/api_internal.h"
#include "vm/devices.h"

enum { MOST = 16 };

struct media {
    struct media *next; /* vm->media; the loop's thread */
    struct http_call *call;
    struct vm *vm;
    struct devices_drive drive;
    bool readonly, force, closing, ended;
    bool given_up; /* atomic: nobody wants it any more */
    char *path;    /* NULL: nothing is put in */
    pthread_t thread;
    struct loop_kick done; /* from the thread: needs no memory */
    struct block *block; /* opened, or to be closed: the thread's while there is one */
    int result;
    struct error err;
};

static void finish(struct media *m)
{
    struct media **p = &m->vm->media;

    while (*p != m)
        p = &(*p)->next;
    *p = m->next;
    if (m->ended && m->result)
        http_fail(m->call, HTTP_UNAVAILABLE, "the machine has ended");
    else if (__atomic_load_n(&m->given_up, __ATOMIC_RELAXED) && m->result)
        http_fail(m->call, HTTP_CONFLICT, "another disc, or none, was put there meanwhile");
    else if (m->result)
        http_fail_errno(m->call, m->result == -EBUSY ? -EBUSY : -EINVAL, "%s",
                        m->err.text[0] ? m->err.text : strerror(-m->result));
    else
        http_done(m->call, HTTP_NO_CONTENT);
    loop_kick_remove(&m->done);
    free(m->path);
    free(m);
}

/* On its thread, or where none can be had on the loop's. The first failure is the one that is said. */
static void work(struct media *m)
{
    struct error err = { "" };

    if (m->closing) {
        const int r = block_close(m->block, &err);
        m->block = NULL;
        if (r && !m->result) {
            m->result = r;
            m->err = err;
        }
        return;
    }
    patience_until(&m->given_up);
    m->block = devices_open_medium(m->drive, m->path, m->readonly, &m->err);
    m->result = m->block ? 0 : -EINVAL;
    patience_until(NULL);
}

static void *thread(void *arg)
{
    struct media *m = arg;

    work(m);
    loop_kick(&m->done);
    return NULL;
}

static int start(struct media *m)
{
    sigset_t old;

    signals_block(&old);
    const int r = pthread_create(&m->thread, NULL, thread, m);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}

/* Closes the old medium, which may first have to be written to its server: in a thread of its own, if one can be made. */
static void close_block(struct media *m)
{
    m->closing = true;
    if (m->block && !start(m))
        return;
    if (m->block)
        work(m);
    finish(m);
}

static void swap(struct media *m)
{
    struct block *was = NULL;

    if (__atomic_load_n(&m->given_up, __ATOMIC_RELAXED))
        m->result = -ECANCELED;
    else
        m->result = devices_swap_medium(m->vm->devices, m->vm->machine, m->drive, m->block, m->force, &was, &m->err);
    if (!m->result)
        m->block = was;
    close_block(m);
}

static void on_thread_end(struct loop_kick *k)
{
    struct media *m = container_of(k, struct media, done);

    pthread_join(m->thread, NULL);
    if (m->closing || m->result)
        finish(m);
    else
        swap(m);
}

void api_media_close(struct vm *v)
{
    for (struct media *m = v->media; m; m = m->next)
        __atomic_store_n(&m->given_up, true, __ATOMIC_RELEASE);
    while (v->media) { /* their threads' kicks are never heard */
        struct media *m = v->media;
        struct error err = { "" };
        pthread_join(m->thread, NULL);
        if (m->block && block_close(m->block, &err)) /* opened in vain */
            log_error("%s", err.text);
        if (!m->closing && !m->result)
            m->result = -ECANCELED;
        m->ended = !m->closing;
        finish(m);
    }
}

static void begin(struct media *m)
{
    u32 n = 0;

    for (struct media *other = m->vm->media; other; other = other->next, n++)
        if (other->drive.cdrom == m->drive.cdrom && other->drive.n == m->drive.n && !other->closing)
            __atomic_store_n(&other->given_up, true, __ATOMIC_RELEASE);
    m->next = m->vm->media;
    m->vm->media = m;
    const int r = n >= MOST ? -EAGAIN : m->path ? start(m) : 0;
    if (r) {
        m->result = r; /* the thread's, where there is one */
        error_set(&m->err, -m->result, "too many discs are being changed at once");
        finish(m);
    } else if (!m->path) {
        swap(m);
    }
}

void api_change_media(struct http_call *c)
{
    const char *device = json_string_value(json_object_get(c->in, "device")), *path = NULL;
    const json_t *p = json_object_get(c->in, "path");
    const bool readonly = json_is_true(json_object_get(c->in, "readonly")),
               force = json_is_true(json_object_get(c->in, "force"));
    const struct vm_config *k = vm_of(c)->config;
    const bool cdrom = device && !strncmp(device, "cdrom", 5), floppy = device && !strncmp(device, "floppy", 6);
    const char *number = cdrom ? device + 5 : floppy ? device + 6 : "";
    const u32 n = *number ? (u32)(*number - '0') : 0;

    if (!device || (!json_is_null(p) && !(path = json_string_value(p)))) {
        http_fail(c, HTTP_BAD_REQUEST,
                  "it is { \"device\": \"cdrom0\", \"path\": FILE }, with null to take the disc out");
        return;
    }
    if ((!cdrom && !floppy) || n > 9 || (*number && number[1])) {
        http_fail(c, HTTP_BAD_REQUEST, "%.40s is no drive for discs: those are cdrom0 to cdrom3, floppy0 and floppy1",
                  device);
        return;
    }
    if (n >= (cdrom ? k->ncdroms : k->nfloppies)) {
        http_fail(c, HTTP_NOT_FOUND, "the machine has no %s%u; a drive must be there from the start, if only an empty one",
                  cdrom ? "cdrom" : "floppy", n);
        return;
    }
    struct media *m = calloc(1, sizeof *m);
    if (!m || (path && !(m->path = strdup(path)))) {
        free(m);
        http_fail(c, HTTP_INTERNAL_ERROR, "out of memory");
        return;
    }
    m->call = c;
    m->vm = vm_of(c);
    loop_kick_init(&m->done, m->vm->loop, on_thread_end);
    m->drive = (struct devices_drive){ cdrom, n };
    m->readonly = readonly;
    m->force = force;
    begin(m);
}
