/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trial.h - a sequence on both sides: where it is run, what came of it, and what of that differs. trial.c runs it,
 * compare.c compares, latitude.c knows where processors are free and excuse.c where no processor promises anything,
 * listing.c prints; oracle.c goes from one sequence to the next.
 */
#ifndef LODGE_TESTS_INSN_TRIAL_H
#define LODGE_TESTS_INSN_TRIAL_H

#include "oracle.h"

#include "engine/engine.h"

/*
 * An address sanitizer's shadow lies where random pointers of a sequence hit it: then the engine runs alone, for what
 * the sanitizers find in it.
 */
#ifdef __SANITIZE_ADDRESS__
enum { ENGINE_ALONE = true };
#else
enum { ENGINE_ALONE = false };
#endif

/* What a trace of a program saw (excuse.c). */
struct watch {
    struct engine_trace trace;
    struct guest *guest;
    u32 undefined;
    bool read; /* a flag without a value */
    struct { u64 lin; u8 code[16]; unsigned len; } string; /* the last REP string instruction; len 0: the last was none */
    bool overwrote; /* such an instruction wrote over itself */
};

struct trial {
    bool translated;
    bool flow;        /* programs instead of sequences */
    bool real;        /* the same in real mode: no host */
    bool other_order; /* the host's operands are touched in the other order */
    struct guest *guests[3]; /* one: the interpreter; or translators, by how soon they begin; none: the host against itself */
    unsigned n_guests;
    struct real_guest *reals[4]; /* the interpreter, and translators as above */

    /* The last run. */
    const char *run_name;
    struct outcome host, engine;
    struct real_outcome real_want, real_got;
    u8 code[CODE_SIZE + 64];
    unsigned offsets[SEQ_MAX + 1];

    u64 endless; /* programs left out since they do not end */
    u64 others;  /* ends at which other_order made a difference */
    u64 excused;
    struct watch watch;
};

/* Differences, in words. */
struct diff {
    char text[4096];
    unsigned len, count;
};

/* ---- trial.c ---- */
/* Guests for the trial's options; model: as guest_new takes it. 0, or -errno: -ENOENT if this host has less than the model. */
int trial_open(struct trial *t, bool against_itself, const char *model);
void trial_close(struct trial *t);
u64 trial_cuts(const struct trial *t); /* how often runs were interrupted */
/* Runs q on both. True: they agree, or need not. alone: each time from a fresh guest. */
bool trial_run(struct trial *t, const struct sequence *q, struct diff *d, bool alone);
/* How many of q's instructions stand before rip. */
unsigned trial_instructions(const struct trial *t, const struct sequence *q, u64 rip);

/* ---- compare.c ---- */
extern const char *const reg_names[16];
void __attribute__((format(printf, 2, 3))) diff_note(struct diff *d, const char *fmt, ...);
/* Of t->host and t->engine; some of what need not agree is made the same in them. */
void compare(struct trial *t, const struct sequence *q, struct diff *d);
void compare_real(struct trial *t, struct diff *d); /* t->real_want, t->real_got */

/* ---- latitude.c ---- */
struct latitude {
    bool nothing, cr2_page, no_vectors, aligned, ten_bytes, no_align, masked, no_arith, no_opmask, no_data;
    unsigned below; /* bytes below the stack pointer that may have been written before the fault */
};
/* For the instruction at which o ended. */
struct latitude latitude_at(const struct trial *t, const struct sequence *q, const struct outcome *o);
/* However t->host and t->engine differ, either will do. l: for t->host. */
bool latitude_covers(const struct trial *t, const struct sequence *q, const struct latitude *l);

/* ---- excuse.c ---- */
/* The two differ, but no processor promises what this program does. cut: the run that differed was interrupted. */
bool is_excused(struct trial *t, const struct sequence *q, unsigned len, bool cut);

/* ---- listing.c ---- */
void print_initial(const struct sequence *q);
void print_listing(struct trial *t, const struct sequence *q); /* marks where the host ended (>) and where the engine (}) */
/* ran: by mnemonic, how many were executed. */
void print_coverage(const struct gen *g, const u64 ran[MNEMONIC_COUNT]);

#endif
