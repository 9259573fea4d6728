/* SPDX-License-Identifier: Apache-2.0 */
/* file_user.h - finds out who uses a file, for the sentence that says why we cannot have the file. */
#ifndef LODGE_BASE_FILE_USER_H
#define LODGE_BASE_FILE_USER_H

#include <sys/types.h>

#include "base/base.h"

enum { FILE_USER = 128 };

/*
 * Names a process that also has the file of descriptor fd open: "name (process 12)". If it is this process, by another
 * descriptor, the text is "this machine itself: ...". The text is "" if there is no such process, or if all such
 * processes are just ending. Locks of open file descriptions have no owner that we could ask for, so the answer comes
 * from /proc. /proc shows only this user's processes (all of them for root).
 */
void file_user(int fd, char who[FILE_USER]);
/* The same for another process, self, in which this file's descriptor has the number own; we ourselves do not count. */
void file_user_for(pid_t self, int own, int fd, char who[FILE_USER]);

#endif
