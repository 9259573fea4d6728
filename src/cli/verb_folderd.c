/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_folderd.c - "lodge folderd": the process that "lodge run --share" starts. It is in no list, because nobody types
 * it.
 */
#include <unistd.h>

#include "cli/cli.h"
#include "share/folderd.h"

int cli_folderd(int argc, char **argv)
{
    _exit(folderd_main(argc, argv)); /* there is nothing to flush, and an exit handler could do little in its sandbox */
}
