/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal.h - the raw mode of the process's terminal. It is undone however the process ends.
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

#endif
