/* SPDX-License-Identifier: Apache-2.0 */
/* run_options.h - what "lodge run" is asked for, and its options: those of the configuration, and those about the run alone. */
#ifndef LODGE_CLI_RUN_OPTIONS_H
#define LODGE_CLI_RUN_OPTIONS_H

#include "base/error.h"
#include "cli/cli.h"
#include "config/config.h"
#include "vm/run.h"

enum { RUN_MAX_OPTIONS = 80, RUN_MAX_ORIGINS = 128 };

struct run_options {
    struct vm_config config; /* config_init before, config_free after */
    struct vm_run run;       /* its texts are argv's */
    const char *config_file; /* --config, or NULL */
    const char *image;       /* the plain word: an image's name, or NULL */
    const char *keep;        /* or NULL: a throw-away */
    u16 ssh_port;            /* 0: any */
    u64 disk_size;           /* 0: as it is */
    char terminal_size[32];  /* for the kernel's command line; "": none */
    bool print_config;
    /* How the user wrote what is in the configuration, for what is said of it. */
    u32 norigins;
    struct run_origin {
        const struct config_field *field;
        u32 item;
        const char *value; /* argv's; NULL: the option stood alone */
    } origin[RUN_MAX_ORIGINS];
};

/* argv[0] is not looked at. --config first, then the rest over it. -errno with err set, as the user wrote it. */
int must_check run_options_parse(struct run_options *o, int argc, char **argv, struct error *err);
void run_options_help(void);
/* Was the option of this name given? */
bool run_option_given(const struct run_options *o, const char *field);
/* Puts the option that it is about in the place of a field's path ("disks[1].queues: ..."). */
void run_explain(const struct run_options *o, struct error *err);

#endif
