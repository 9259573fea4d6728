/* SPDX-License-Identifier: Apache-2.0 */
/* option.h - a machine's configuration as a user would write it, for programs that end with `broken` where that is refused. */
#ifndef LODGE_TESTS_STATE_OPTION_H
#define LODGE_TESTS_STATE_OPTION_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../unit/said.h"

/* "--name value" of "lodge run" into c, which config_init made. */
static inline void option(struct vm_config *c, int broken, const char *name, const char *fmt, ...)
{
    char value[4400];
    struct error err;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(value, sizeof value, fmt, ap);
    va_end(ap);
    if (said(c, name, value, &err)) {
        fprintf(stderr, "--%s %s: %s\n", name, value, err.text);
        exit(broken);
    }
}

/* The serial ports that there are by default go. */
static inline void no_serial(struct vm_config *c) { config_value_free(config_find(config_fields, "serial"), c); }

#endif
