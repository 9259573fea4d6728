/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - a configuration as JSON (jansson), and as the YAML of vm.yaml, both by the table of fields. Any thread. */
#ifndef LODGE_CONFIG_JSON_H
#define LODGE_CONFIG_JSON_H

#include <jansson.h>
#include <stdio.h>

#include "config/config.h"

/* Whether a value may be written as text where JSON has a type for it: all of YAML is text. */
enum config_values { CONFIG_TYPED, CONFIG_AS_TEXT };

/* What doc says goes into c, over what is there: a list as a whole. Unknown keys and wrong types are refused, with the
   path of what is wrong. -EINVAL, -ENOMEM. */
int must_check config_from_json(struct vm_config *c, const json_t *doc, enum config_values values, struct error *err);

/* A new reference: all fields but texts that were not given. NULL: out of memory. Bytes that are no UTF-8 become "?". */
json_t *config_to_json(const struct vm_config *c);
/* The same in the form of Cloud Hypervisor's VmConfig, as far as that knows the fields. */
json_t *config_to_api(const struct vm_config *c);

/* vm.yaml, of at most 1 MiB, from what was read of it. Errors begin "FILE:LINE:COLUMN: PATH: " and end with the line. */
int must_check config_from_yaml(struct vm_config *c, const char *file, const char *text, size_t size, struct error *err);
/* Only what differs from the defaults. -EIO: writing failed. */
int must_check config_to_yaml(const struct vm_config *c, FILE *to);

#endif
