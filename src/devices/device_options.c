/* SPDX-License-Identifier: Apache-2.0 */
/* device_options.c - the options of a device that is plugged in by its name; see device.h. */
#include "devices/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void values_text(const struct device_option *o, char *to, size_t size)
{
    size_t n = 0;

    to[0] = 0;
    for (u32 i = 0; o->values[i] && n < size; i++)
        n += (size_t)snprintf(to + n, size - n, "%s%s", i ? ", " : "", o->values[i]);
}

static int set_option(struct device *d, const char *name, size_t len, const char *value, size_t value_len, struct error *err)
{
    const struct device_class *c = d->class;
    char values[160];

    for (u32 i = 0; c->options && c->options[i].name; i++) {
        const struct device_option *o = &c->options[i];
        if (strlen(o->name) != len || strncmp(o->name, name, len))
            continue;
        for (u32 k = 0; o->values[k]; k++)
            if (strlen(o->values[k]) == value_len && !strncmp(o->values[k], value, value_len)) {
                d->option[i] = k;
                return 0;
            }
        values_text(o, values, sizeof values);
        return error_set(err, EINVAL, "%s of %s is one of %s, not \"%.*s\"", o->name, c->name, values, (int)value_len, value);
    }
    return error_set(err, EINVAL, "%s has no option \"%.*s\"", c->name, (int)len, name);
}

int device_options(struct device *d, const char *text, struct error *err)
{
    for (const char *p = text ? text : ""; *p;) {
        const size_t all = strcspn(p, ","), len = strcspn(p, ",=");
        const size_t value = len < all ? len + 1 : len;
        const int rc = set_option(d, p, len, p + value, all - value, err);
        if (rc)
            return rc;
        p += all + (p[all] == ',');
    }
    return 0;
}
