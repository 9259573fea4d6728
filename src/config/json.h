/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - a configuration as JSON (jansson), and as the YAML of vm.yaml. Both use the table of fields. Any thread. */
#ifndef LODGE_CONFIG_JSON_H
#define LODGE_CONFIG_JSON_H

#include <jansson.h>
#include <stdio.h>

#include "config/config.h"

/* Says whether a value may be written as text where JSON has a type for it. In YAML, every value is text. */
enum config_values { CONFIG_TYPED, CONFIG_AS_TEXT };

/* Writes the values of doc over those of c; a list is replaced as a whole. Unknown keys and wrong types are refused,
   and the error has the path of what is wrong. -EINVAL, -ENOMEM. */
int must_check config_from_json(struct vm_config *c, const json_t *doc, enum config_values values, struct error *err);

/* Returns a new reference with all fields except texts that were not given. NULL: out of memory. Bytes that are not
   UTF-8 become "?". */
json_t *config_to_json(const struct vm_config *c);
/* The same in the form of Cloud Hypervisor's VmConfig, for the fields that it has. */
json_t *config_to_api(const struct vm_config *c);

/* Reads vm.yaml from its text, which has at most 1 MiB. Errors begin with "FILE:LINE:COLUMN: PATH: " and end with
   the line. */
int must_check config_from_yaml(struct vm_config *c, const char *file, const char *text, size_t size, struct error *err);
/* Writes only what differs from the defaults. -EIO: writing failed. */
int must_check config_to_yaml(const struct vm_config *c, FILE *to);

#endif
