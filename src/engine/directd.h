/* SPDX-License-Identifier: Apache-2.0 */
/* directd.h - "lodge directd": the process that makes the processes in which a guest's programs run (runner.h). It has two
   descriptors, a socket of the machine's engine and the guest's memory, and ends when the machine closes the socket. */
#ifndef LODGE_ENGINE_DIRECTD_H
#define LODGE_ENGINE_DIRECTD_H

int directd_main(int argc, char **argv); /* the exit status */

#endif
