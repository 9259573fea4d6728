/* SPDX-License-Identifier: Apache-2.0 */
/* host_without.h - the hosts that host_without.c makes of this one, and what each lacks. */
#ifndef LODGE_TESTS_HOST_WITHOUT_H
#define LODGE_TESTS_HOST_WITHOUT_H

#include <string.h>

#include "base/base.h"

enum { HOST_NO_LANDLOCK = 1, HOST_NO_NAMESPACES = 2, HOST_CONTAINER = 4 /* its other calls and capabilities */ };

/* False: there is no such host. */
static inline bool host_lacks(const char *name, u32 *lacks)
{
    static const struct {
        const char *name;
        u32 lacks;
    } hosts[] = {
        { "this", 0 },
        { "landlock", HOST_NO_LANDLOCK },
        { "namespaces", HOST_NO_NAMESPACES },
        { "container", HOST_NO_NAMESPACES | HOST_CONTAINER },
        { "bare", HOST_NO_LANDLOCK | HOST_NO_NAMESPACES | HOST_CONTAINER },
    };

    for (u32 i = 0; i < ARRAY_SIZE(hosts); i++)
        if (!strcmp(hosts[i].name, name)) {
            *lacks = hosts[i].lacks;
            return true;
        }
    return false;
}

#endif
