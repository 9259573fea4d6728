/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folderd.h - "lodge folderd": the process that serves one shared folder to one machine. It reads what the guest asks in
 * the guest's memory, and can reach nothing but that memory and the folder. It ends when the machine's socket ends.
 */
#ifndef LODGE_SHARE_FOLDERD_H
#define LODGE_SHARE_FOLDERD_H

int folderd_main(int argc, char **argv); /* the exit status */

#endif
