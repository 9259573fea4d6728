/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_map.h - /tmp/perf-PID.map: perf's convention for the names of generated code (linux,
 * tools/perf/Documentation/jit-interface.txt): a line "START SIZE NAME" each, in hexadecimal but for the name.
 *
 * A name is the guest's symbol and offset where its kernel's System.map is given and has it (the guest must not
 * randomize its addresses: nokaslr), else the guest's address. One thread at a time.
 */
#ifndef LODGE_VM_PERF_MAP_H
#define LODGE_VM_PERF_MAP_H

#include "base/error.h"
#include "engine/engine.h"

struct perf_map;

/* system_map: a path, or NULL. */
int must_check perf_map_open(struct perf_map **out, const char *system_map, struct error *err);
void perf_map_close(struct perf_map *p); /* p may be NULL; the file stays, for perf to read */
void perf_map_add(struct perf_map *p, const struct engine_translation *t);
void perf_map_stub(struct perf_map *p, const struct engine_stub *s);

#endif
