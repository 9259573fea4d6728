/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choose.c - chooses the engine of a VM, and says why. "auto" takes KVM only after a test guest has shown that it runs
 * kernel code at full speed. That /dev/kvm exists says little.
 */
#include "engine/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kvm/selftest.h"

static int probe(const struct engine_ops *e, struct error *err)
{
    struct engine_caps *caps = calloc(1, sizeof(*caps));
    if (!caps)
        return error_set(err, ENOMEM, "out of memory");
    int r = e->probe(caps, err);
    free(caps);
    return r;
}

const struct engine_ops *engine_choose(const char *name, struct error *why, struct error *err)
{
    struct error reason = { "" };

    if (!strcmp(name, "kvm")) {
        if (probe(&engine_kvm, err) < 0)
            return NULL;
        error_set(why, 1, "asked for");
        return &engine_kvm;
    }
    if (!strcmp(name, "soft")) {
        if (probe(&engine_soft, err) < 0)
            return NULL;
        error_set(why, 1, "asked for");
        return &engine_soft;
    }
    if (strcmp(name, "auto")) {
        error_set(err, EINVAL, "there is no engine '%s'; there are auto, kvm, soft", name);
        return NULL;
    }
    if (probe(&engine_kvm, &reason) >= 0 && kvm_selftest(&reason) >= 0) {
        if (why)
            *why = reason;
        return &engine_kvm;
    }
    if (probe(&engine_soft, err) < 0)
        return NULL;
    if (why)
        *why = reason;
    return &engine_soft;
}
