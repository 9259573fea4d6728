/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal.h - the process's terminal: its raw mode, which is undone however the process ends.
 */
#ifndef LODGE_CHARDEV_TERMINAL_H
#define LODGE_CHARDEV_TERMINAL_H

#include "base/base.h"

/* Marks the terminal on fd to become raw when terminal_begin() is called. False if fd is no terminal: nothing is
   done. */
bool terminal_claim(int fd);
/*
 * Puts the claimed terminal, if there is one, into raw mode until terminal_restore(), exit() or a deadly signal. A stop
 * (SIGTSTP) restores the terminal, SIGCONT makes it raw again.
 */
void terminal_begin(void);
void terminal_restore(void);
/* fn is called when a stop (SIGTSTP) is about to happen, and again after it. It must be async-signal-safe. It is
   called with or without a terminal. */
void terminal_on_stop(void (*fn)(bool stop));

/* True if a person types on standard input. It is then a terminal, or a socket to which another process copies a
   terminal. In the second case terminal_is_elsewhere() says so before there are threads. */
bool terminal_typed_at(void);
void terminal_is_elsewhere(void);

#endif
