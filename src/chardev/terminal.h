/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal.h - the process's terminal: its raw mode, undone on every way out.
 */
#ifndef LODGE_CHARDEV_TERMINAL_H
#define LODGE_CHARDEV_TERMINAL_H

#include "base/base.h"

/* The terminal on fd is to be raw once terminal_begin() says so. False if fd is no terminal: nothing is done. */
bool terminal_claim(int fd);
/*
 * Puts it, if there is one, into raw mode until terminal_restore(), exit() or a deadly signal.  A stop (SIGTSTP) restores
 * it, SIGCONT sets it again.
 */
void terminal_begin(void);
void terminal_restore(void);
/* Called when a stop (SIGTSTP) is about to happen, and after it; async-signal-safe. With or without a terminal. */
void terminal_on_stop(void (*fn)(bool stop));

/* Standard input is what a person types: a terminal, or a socket that another process copies one to, which it says with
   terminal_is_elsewhere() before there are threads. */
bool terminal_typed_at(void);
void terminal_is_elsewhere(void);

#endif
