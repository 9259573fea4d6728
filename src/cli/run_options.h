/* SPDX-License-Identifier: Apache-2.0 */
/* run_options.h - what the user asks "lodge run" for, and its options: those of the configuration, and those of the
   run only. */
#ifndef LODGE_CLI_RUN_OPTIONS_H
#define LODGE_CLI_RUN_OPTIONS_H

#include "base/error.h"
#include "cli/cli.h"
#include "config/config.h"
#include "vm/run.h"

enum { RUN_MAX_OPTIONS = 80, RUN_MAX_ORIGINS = 128 };

struct run_options {
    struct vm_config config; /* call config_init before, config_free after */
    struct vm_run run;       /* its texts belong to argv */
    const char *config_file; /* --config, or NULL */
    const char *image;       /* the word that is not an option: an image's name, or NULL */
    const char *keep;        /* name of a kept machine; NULL: a throw-away machine */
    u16 ssh_port;            /* 0: any port */
    u64 disk_size;           /* 0: unchanged */
    char terminal_size[32];  /* for the kernel's command line; "": none */
    bool print_config;
    /* How the user wrote the values of the configuration, for messages about them. */
    u32 norigins;
    struct run_origin {
        const struct config_field *field;
        u32 item;
        const char *value; /* belongs to argv; NULL: the option stood alone */
    } origin[RUN_MAX_ORIGINS];
};

/* argv[0] is ignored. --config is read first; the other options replace its values. -errno with err set, in the
   words of the user. */
int must_check run_options_parse(struct run_options *o, int argc, char **argv, struct error *err);
void run_options_help(void);
/* Was the option of this name given? */
bool run_option_given(const struct run_options *o, const char *field);
/* Replaces a field's path ("disks[1].queues: ...") in err with the option that set the field. */
void run_explain(const struct run_options *o, struct error *err);

#endif
