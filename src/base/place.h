/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h - where a file lies, for the question whether an image may name it as its backing file (block/backing.c). `file` is a
 * name without links (opener_real). Names that lead nowhere lie nowhere. Any thread.
 */
#ifndef LODGE_BASE_PLACE_H
#define LODGE_BASE_PLACE_H

#include "base/base.h"

/* True if file is below the folder that this name leads to. folder may be NULL: nothing is below it. */
bool place_is_in(const char *file, const char *folder);
/* True if file is below the folder of this image's name, or below the folder of the file that the name leads to, and no part of
   its name below that is hidden. */
bool place_is_beside(const char *file, const char *image);

#endif
