/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker.h - what the parts of the attacker share. attacker.c finds a machine's threads and counts; attacker_effects.c has
 * what outside could be harmed, and sees whether it was; attacker_calls.c and attacker_ways.c are what is tried;
 * attacker_lists.c says what a thread may do.
 */
#ifndef LODGE_TESTS_ATTACKER_H
#define LODGE_TESTS_ATTACKER_H

#include "host_without.h"
#include "puppet.h"

enum kind { /* of thread; the helpers have one thread each */
    LOOP, VCPU, BLOCK, SERIAL, OUTPUT, FOLDER, OTHER, /* of lodge-vm */
    SHARE, NET, SWITCH, SCREEN, VIEWER, KINDS,
};

enum {
    WORKER = 1 << LOOP | 1 << VCPU | 1 << BLOCK | 1 << SERIAL | 1 << OUTPUT | 1 << FOLDER | 1 << OTHER,
    EVERYONE = (1 << KINDS) - 1,
};

enum verdict {
    REFUSED,
    ALLOWED,  /* it is on the list of what this kind of thread may do */
    UNLISTED, /* the kernel carried it out, or looked at its arguments, and it is not on the list; nothing was gained */
    KNOWN, /* an escape that this host's lacks account for, and docs/security.md says so */
    ESCAPED,
    UNTRIED,
    VERDICTS,
};

struct outside; /* attacker_effects.c */

struct attack {
    enum kind kind;
    struct puppet *puppet;
    struct outside *outside;
    const char *folder; /* where the test has its secrets */
    pid_t broker;       /* the machine's */
    u32 lacks;          /* what this host has not got (host_without.h) */
    bool verbose;
    u32 count[VERDICTS];
};

const char *kind_name(enum kind k);

/* Counts a try. text: what came of it, or NULL. What was harmed outside makes it an escape whatever the caller found. */
void tried(struct attack *a, const char *name, enum verdict v, const char *text);
/* The same for one call, whose success is the verdict v. */
void tried_call(struct attack *a, const char *name, struct outcome o, enum verdict v, const char *why);
/* An error's name, or what else came of a call; static. */
const char *say(struct outcome o);

/* What may be done without harm by this kind of thread: why, or NULL. */
const char *may_call(enum kind k, long nr);

/* What this kind of thread can reach by this try on a host that lacks these: why, or NULL. */
const char *reachable(enum kind k, const char *name, u32 lacks);

/* attacker_calls.c: every number, with arguments that mean nothing; single calls that would be of use. */
void try_all_numbers(struct attack *a);
void try_x32(struct attack *a);
void try_int80(struct attack *a);
void try_calls(struct attack *a);
/* attacker_ways.c: what takes several calls. */
void try_ways(struct attack *a);
/* attacker_broker.c: what the broker is asked for. */
void try_broker(struct attack *a);
/* attacker_ring.c: files and sockets by an io_uring that the process has. It spoils the ring. */
void try_ring(struct attack *a);

/* The first descriptor of the puppet's whose name, as in /proc/PID/fd, begins with this, from the n-th on; -1. The name goes
   to link if that is not NULL. */
int own_descriptor(const struct attack *a, const char *begins, int from, char link[256]);
bool is_descriptor_made(const struct attack *a, long fd);

/* ---- outside ---- */

struct outside *outside_new(const char *folder);
void outside_free(struct outside *o);
/* What was done since the last time, in words, or NULL; then it is put in order again. */
const char *outside_harmed(struct outside *o);
pid_t outside_victim(const struct outside *o);
u64 outside_address(const struct outside *o); /* in the victim's memory, of 16 bytes that it keeps */
const char *outside_socket(const struct outside *o, bool datagrams); /* a path */
int outside_port(const struct outside *o);                       /* TCP and UDP at 127.0.0.1 */
const char *outside_abstract(const struct outside *o);               /* the name of an abstract socket */

#endif
