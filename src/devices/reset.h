/* SPDX-License-Identifier: Apache-2.0 */
/* reset.h - what a guest's reset request asks for. */
#ifndef LODGE_DEVICES_RESET_H
#define LODGE_DEVICES_RESET_H

enum reset_kind {
    RESET_INIT, /* INIT# to the processors: memory and devices keep their state (i8042 FEh, port 92h, CF9h = 4) */
    RESET_HARD, /* the whole machine (CF9h = 6 or Eh) */
};

#endif
