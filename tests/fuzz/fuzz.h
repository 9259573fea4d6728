/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - what a fuzz target gives.  fuzz.c drives it with any compiler; the same target links with
 * clang's -fsanitize=fuzzer instead.
 */
#ifndef LODGE_FUZZ_H
#define LODGE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Well-formed input number i to begin from: its length (at most cap), or 0 when there are no more. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

#endif
