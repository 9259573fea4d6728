/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest.h - the one thing of the KVM engine that is not behind engine.h: is
 * this host's KVM fast enough to be chosen?
 */
#ifndef LODGE_ENGINE_KVM_SELFTEST_H
#define LODGE_ENGINE_KVM_SELFTEST_H

#include "base/error.h"

/* 0, or -errno; why: one sentence either way. Takes some milliseconds. */
int kvm_selftest(struct error *why);

#endif
