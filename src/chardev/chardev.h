/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chardev.h - the other end of a serial port, where its bytes go to and come from: the terminal, a file, a socket, or
 * nothing. It knows no guest.
 *
 *   stdio      standard input and output; where a person types (terminal.h) there is an escape key, Ctrl-]
 *   null       swallows output, has no input
 *   file:PATH  output to a file, emptied first; no input
 *   unix:PATH  a listening socket, one client at a time; without a client output is lost
 *
 * Output waits in a buffer of bounded size, and a thread of its own empties the buffer. So no write ever blocks a vCPU
 * or the loop. A full buffer takes fewer bytes. The device then keeps the transmitter busy until it is told that there
 * is room. So nothing is lost on stdio and file, however slow the reader is. Input works the same way in reverse.
 */
#ifndef LODGE_CHARDEV_CHARDEV_H
#define LODGE_CHARDEV_CHARDEV_H

#include "base/base.h"
#include "base/error.h"
#include "base/loop.h"

struct chardev;

/* The device at this end. All its functions are called on the loop thread, with no lock of ours held. */
struct chardev_user {
    /* Gives bytes from outside to the device. It takes those that fit and returns their number. The rest comes again
       after chardev_resume(). */
    size_t (*receive)(void *dev, const u8 *buf, size_t len);
    /* There is room again after a chardev_write() that took less than all. May be NULL. */
    void (*writable)(void *dev);
};

/*
 * Opens what spec names. NULL with err set (and errno: EINVAL if spec is not understood). At most one chardev can be
 * "stdio". Call it before loop_run or on its thread.
 */
struct chardev *chardev_open(const char *spec, struct loop *loop, struct error *err);

/* True if spec has one of the forms above. It opens nothing. */
bool chardev_spec_valid(const char *spec);

/* The user of the terminal typed Ctrl-] q (stdio only); called on the loop thread. */
void chardev_on_quit(struct chardev *c, void (*quit)(void *ctx), void *ctx);

/* Connects a device; input flows from now on. Call it before loop_run or on its thread. */
void chardev_attach(struct chardev *c, const struct chardev_user *user, void *dev);

/* Any thread. It never blocks, and may be called under the device's lock. Returns how many of the bytes were taken. */
size_t chardev_write(struct chardev *c, const u8 *buf, size_t len);

/* Any thread. The device says that receive() has room again. It costs little when no input waits. */
void chardev_resume(struct chardev *c);

/*
 * Writes out what is buffered (it gives up on a reader that takes nothing for two seconds), and frees c. Call it when
 * no vCPU runs and loop_run has returned.
 */
void chardev_close(struct chardev *c);

#endif
