/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal.h - the raw mode of the process's terminal, undone on every way out.
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

#endif
