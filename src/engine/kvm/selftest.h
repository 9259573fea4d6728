/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest.h - says whether this host's KVM is fast enough to be chosen. It is the only function of the KVM engine that is
 * not behind engine.h.
 */
#ifndef LODGE_ENGINE_KVM_SELFTEST_H
#define LODGE_ENGINE_KVM_SELFTEST_H

#include "base/error.h"

/* Returns 0 or -errno. In both cases why is one sentence that says so. Takes some milliseconds. */
int kvm_selftest(struct error *why);

#endif
