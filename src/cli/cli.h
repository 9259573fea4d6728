/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - shared by the verbs of the command line. Each verb has its own file. It gets argv from its own name on and
 * returns the exit status.
 */
#ifndef LODGE_CLI_CLI_H
#define LODGE_CLI_CLI_H

#include "base/base.h"
#include "base/error.h"
#include "base/parse.h"

/* The exit status of the process. That of the guest itself (debug exit) may be any odd number. */
enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

struct verb {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
    void (*help)(void); /* on standard output */
};
extern const struct verb verbs[]; /* ends with a NULL name */
const struct verb *verb_find(const char *name);

int cli_run(int argc, char **argv);
int cli_disk(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_help(int argc, char **argv);
int cli_version(int argc, char **argv);
int cli_netd(int argc, char **argv); /* in no list, because lodge itself starts it */
int cli_displayd(int argc, char **argv); /* the same */
int cli_folderd(int argc, char **argv);  /* the same */
int cli_directd(int argc, char **argv);  /* the same */

/* Closes the descriptors beyond 2, except those that an argument names as /dev/fd/N or similar. Programs that we
   start do not inherit those. */
void close_unnamed_descriptors(int argc, char **argv);
int cli_screenshot(int argc, char **argv);
int cli_screen(int argc, char **argv);
int cli_sendkey(int argc, char **argv);
int cli_nmi(int argc, char **argv);
int cli_type(int argc, char **argv);
int cli_media(int argc, char **argv);
int cli_image(int argc, char **argv);
int cli_ssh(int argc, char **argv);
int cli_cp(int argc, char **argv);
void help_image(void);
void help_ssh(void);
void help_cp(void);
void help_screenshot(void);
void help_screen(void);
void help_sendkey(void);
void help_nmi(void);
void help_type(void);
void help_media(void);
void help_run(void);
void help_disk(void);
void help_doctor(void);
void help_help(void);
void help_version(void);

/* Prints "lodge: text" as one line on standard error and returns STATUS_USAGE. */
int usage_error(const char *fmt, ...) printf_like(1, 2);
/* Prints err, or the meaning of -errno if err is empty; returns STATUS_USAGE for -EINVAL, else STATUS_FAILED. */
int cli_failed(int r, struct error *err);

/* ---- options.c ---- */

struct config_field;
/* One option of a verb. The option with the name "" gets the words that are not options. arg is NULL if the option
   takes no value; then value is NULL. "[=...]": only "--name=value" gives a value; without it value is NULL. */
struct option_def {
    const char *name; /* without the dashes */
    const char *arg;
    const char *help; /* may contain newlines */
    int (*set)(void *to, const char *value, struct error *err);
    const struct config_field *field; /* if set is NULL, options_parse calls set_field with this field */
};

/* For an option that is a field of the configuration (config/fields.h). */
typedef int option_field_set(void *to, const struct config_field *field, const char *value, struct error *err);
/* Reads "--name value" and "--name=value". 0, or -EINVAL with the one line for the user. The table ends with a NULL
   name. set_field: NULL if no option of the table is a field. */
int must_check options_parse(const struct option_def *table, option_field_set *set_field, int argc, char **argv, void *to,
                             struct error *err);
void options_help(const struct option_def *table);

/* Checks the value of an option that says which backing files are followed: any, none or a folder. */
int must_check parse_backing(const char *option, const char *value, struct error *err);

/* ---- print.c ---- */

/* Writes a size in three digits, "1.5 GiB"; returns out. */
const char *size_text(u64 bytes, char out[32]);
void json_quoted(const char *s); /* in quotes */
/* Prints text that an image or a guest gave. It may contain anything, also commands for a terminal: those become
   "?". */
void print_plain(const char *s);

#endif
