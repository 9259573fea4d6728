/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal.h - the raw mode of the process's terminal, undone on every way out.
 */
#ifndef LODGE_CHARDEV_TERMINAL_H
#define LODGE_CHARDEV_TERMINAL_H

#include "base/base.h"

/*
 * Puts the terminal on fd into raw mode until terminal_restore(), exit() or a deadly signal.  A stop (SIGTSTP)
 * restores it, SIGCONT sets it again.  False if fd is no terminal (or not ours to change): nothing is done.
 */
bool terminal_raw(int fd);
void terminal_restore(void);

#endif
