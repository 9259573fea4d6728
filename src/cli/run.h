/* SPDX-License-Identifier: Apache-2.0 */
/* run.h - what "lodge run" parses into, and the setters of its devices. */
#ifndef LODGE_CLI_RUN_H
#define LODGE_CLI_RUN_H

#include "base/error.h"
#include "vm/config.h"

struct run_options {
    struct vm_config config;
    struct option_text *texts; /* that config points to, besides argv's */
    bool serial_given; /* the first one replaces the default */
    bool memory_given, cpus_given, append_given;
    const char *image; /* the plain word: an image's name, or NULL */
    const char *keep;  /* or NULL: a throw-away */
    u16 ssh_port;      /* 0: any */
    u64 disk_size;     /* 0: as it is */
};

/* struct option_def.set; to: struct run_options */
int run_set_disk(void *to, const char *value, struct error *err);
int run_set_floppy(void *to, const char *value, struct error *err);
int run_set_parallel(void *to, const char *value, struct error *err);
int run_set_cdrom(void *to, const char *value, struct error *err);
int run_set_net(void *to, const char *value, struct error *err);
int run_set_share(void *to, const char *value, struct error *err);
int run_set_console(void *to, const char *value, struct error *err);
int run_set_rng(void *to, const char *value, struct error *err);
int run_set_balloon(void *to, const char *value, struct error *err);
int run_set_input(void *to, const char *value, struct error *err);
int run_set_display(void *to, const char *value, struct error *err);
int run_set_api_socket(void *to, const char *value, struct error *err);
int run_set_usb(void *to, const char *value, struct error *err);
int run_set_vsock(void *to, const char *value, struct error *err);

#endif
