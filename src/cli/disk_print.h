/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_print.h - prints what "lodge disk" says about an image on standard output, in the forms of qemu-img.
 */
#ifndef LODGE_CLI_DISK_PRINT_H
#define LODGE_CLI_DISK_PRINT_H

#include "block/tools.h"

void disk_print_info_text(struct block *b, const struct block_info *i);
void disk_print_info_json(struct block *b, const struct block_info *i); /* without a newline */
void disk_print_snapshots_text(const struct block_info *i);
void disk_print_snapshots_json(const struct block_info *i); /* without a newline */
void disk_print_check_text(const struct block_check *c);
void disk_print_check_json(const char *file, const struct block_check *c);

#endif
