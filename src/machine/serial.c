/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serial.c - between devices/uart16550 and chardev.
 */
#include "machine/serial.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/sandbox.h"
#include "base/signals.h"

/* Waits for writable(), or a moment: after the end of the I/O loop nobody calls that any more. */
static void wait_for_room(struct serial *s)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 20000000;
    if (t.tv_nsec >= 1000000000)
        t.tv_nsec -= 1000000000, t.tv_sec++;
    pthread_mutex_lock(&s->lock);
    pthread_cond_timedwait(&s->room, &s->lock, &t);
    pthread_mutex_unlock(&s->lock);
}

static void tx(void *ctx, const u8 *data, size_t len)
{
    struct serial *s = ctx;
    u64 last = clock_ns();
    while (len) {
        size_t n = chardev_write(s->chardev, data, len);
        data += n, len -= n;
        if (!len)
            break;
        if (n)
            last = clock_ns();
        else if (clock_ns() - last >= __atomic_load_n(&s->patience, __ATOMIC_RELAXED))
            break;
        wait_for_room(s);
    }
}

static void can_receive(void *ctx)
{
    struct serial *s = ctx;
    chardev_resume(s->chardev);
}

static size_t receive(void *dev, const u8 *buf, size_t len)
{
    struct serial *s = dev;
    return uart_receive(&s->uart, buf, len);
}

static void writable(void *dev)
{
    struct serial *s = dev;
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->room);
    pthread_mutex_unlock(&s->lock);
}

static void *output_thread(void *arg)
{
    struct serial *s = arg;
    pthread_setname_np(pthread_self(), "serial");
    sandbox_thread(SANDBOX_OUTPUT);
    (void)!loop_run(s->loop); /* if it fails, a full buffer is still handed on by the vCPU */
    return NULL;
}

int serial_init(struct serial *s, struct chardev *c, const struct irq_line *irq, struct loop *vcpus)
{
    static const struct chardev_user user = { receive, writable };
    struct uart_config u = { .irq = *irq };
    sigset_t old;

    s->chardev = c;
    s->patience = UINT64_MAX;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->room, NULL);
    if (c) {
        s->loop = loop_new();
        if (!s->loop)
            return -ENOMEM;
        signals_block(&old); /* they are for the I/O loop */
        s->started = pthread_create(&s->thread, NULL, output_thread, s) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (!s->started)
            return -EAGAIN;
        u = (struct uart_config){ .irq = *irq, .loop = s->loop, .vcpus = vcpus, .tx = tx, .can_receive = can_receive, .ctx = s };
    }
    uart_init(&s->uart, &u);
    if (c)
        chardev_attach(c, &user, s);
    return 0;
}

void serial_destroy(struct serial *s)
{
    if (s->started) {
        loop_stop(s->loop);
        pthread_join(s->thread, NULL);
    }
    if (s->started || !s->chardev)
        uart_destroy(&s->uart);
    loop_free(s->loop);
    pthread_cond_destroy(&s->room);
    pthread_mutex_destroy(&s->lock);
}

void serial_patience(struct serial *s, u64 ns)
{
    __atomic_store_n(&s->patience, ns, __ATOMIC_RELAXED);
    if (s->chardev)
        writable(s);
}
