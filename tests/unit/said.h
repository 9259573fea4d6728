/* SPDX-License-Identifier: Apache-2.0 */
/* said.h - configurations and networks from what a user would write after an option. */
#ifndef LODGE_TESTS_UNIT_SAID_H
#define LODGE_TESTS_UNIT_SAID_H

#include <errno.h>
#include <string.h>

#include "config/fields.h"

/* "--option value" of "lodge run" into c, which config_init made. 0, or -errno with err set. */
static inline int said(struct vm_config *c, const char *option, const char *value, struct error *err)
{
    const struct config_field *f = config_find_option(config_fields, option, strlen(option));
    return f ? config_option_set(c, f, false, value, err) : error_set(err, ENOENT, "no option %s", option);
}

#ifdef LODGE_NET_NET_H
/* "--net spec", checked and opened. */
static inline struct net *net_said(const char *spec, struct loop *loop, struct error *err)
{
    static const char kernel[] = "k";
    struct vm_config c;
    struct net *n = NULL;

    if (!config_init(&c) && !config_text(&c.kernel, "%s", kernel) && !said(&c, "net", spec, err) && !config_check(&c, err))
        n = net_open(&c.net[0], NULL, loop, err);
    config_free(&c);
    return n;
}
#endif

#endif
