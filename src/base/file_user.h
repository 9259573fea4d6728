/* SPDX-License-Identifier: Apache-2.0 */
/* file_user.h - whose file is it: for the sentence that says why it cannot be had. */
#ifndef LODGE_BASE_FILE_USER_H
#define LODGE_BASE_FILE_USER_H

#include "base/base.h"

enum { FILE_USER = 128 };

/*
 * A process that has the file of descriptor fd open, too: "name (process 12)", "this machine itself: ..." if it is this
 * one, by another descriptor, or "" if there is none but such as are just ending.  Locks of open file descriptions have no owner to ask for, so it is
 * what /proc shows, which is only this user's processes (all of them for root).
 */
void file_user(int fd, char who[FILE_USER]);

#endif
