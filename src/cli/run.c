/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - "lodge run": the options into a struct vm_config, their form checked; the rest is vm_run's.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/log.h"
#include "chardev/chardev.h"
#include "cli/cli.h"
#include "vm/config.h"
#include "vm/vm.h"

/* What is parsed into: the configuration, and whether --serial was given yet (the first one replaces the default). */
struct run_options {
    struct vm_config config;
    bool serial_given;
};

static int bad_choice(struct error *err, const char *option, const char *value, const char *const *choices)
{
    char list[160] = "";
    const char *best = suggest(value, choices);

    if (best)
        return error_set(err, EINVAL, "--%s %s: did you mean %s?", option, value, best);
    for (size_t i = 0; choices[i]; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", choices[i]);
    }
    return error_set(err, EINVAL, "--%s %s: it is one of %s", option, value, list);
}

static int set_engine(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { "auto", "kvm", "soft", NULL };
    struct run_options *o = to;

    for (size_t i = 0; choices[i]; i++) {
        if (!strcmp(value, choices[i])) {
            o->config.engine = choices[i];
            return 0;
        }
    }
    return bad_choice(err, "engine", value, choices);
}

static int set_cpu(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!*value)
        return error_set(err, EINVAL, "--cpu needs a model, for example --cpu host");
    o->config.cpu = value;
    return 0;
}

static int set_cpus(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    u64 n;

    if (parse_number(value, 1, CONFIG_MAX_CPUS, &n))
        return error_set(err, EINVAL, "--cpus %s: it is a number from 1 to %d", value, CONFIG_MAX_CPUS);
    o->config.cpus = (u32)n;
    return 0;
}

static int set_memory(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    struct sysinfo host = { 0 };
    u64 bytes, most = UINT64_MAX;
    int r = parse_size(value, &bytes);

    if (!sysinfo(&host))
        most = (u64)host.totalram * host.mem_unit;
    if (r == -EINVAL)
        return error_set(err, EINVAL, "--memory %s: a size is a number with K, M, G or T, for example 512M", value);
    if (r == -ERANGE || bytes > most)
        return error_set(err, EINVAL, "--memory %s: more than this host has (%lluM)", value,
                         (unsigned long long)(most >> 20));
    if (bytes < CONFIG_MIN_MEMORY)
        return error_set(err, EINVAL, "--memory %s: too little; a machine has at least 1M", value);
    if (bytes % 4096)
        return error_set(err, EINVAL, "--memory %s: it must be a multiple of 4K", value);
    o->config.memory = bytes;
    return 0;
}

static int set_code_cache(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    u64 bytes;
    char size[32];
    const char *comma = strchrnul(value, ',');

    snprintf(size, sizeof size, "%.*s", (int)(comma - value), value);
    if (parse_size(size, &bytes) || (bytes && bytes < CONFIG_MIN_CODE_CACHE) || bytes > CONFIG_MAX_CODE_CACHE)
        return error_set(err, EINVAL, "--code-cache %s: 0, or a size from 1M to 2G, for example 64M", value);
    o->config.code_cache = bytes;
    if (*comma) {
        char *end;
        const unsigned long n = strtoul(comma + 7, &end, 10);
        if (strncmp(comma, ",after=", 7) || !isdigit((unsigned char)comma[7]) || *end || n > 1000)
            return error_set(err, EINVAL, "--code-cache %s: after=N wants a number from 0 to 1000", value);
        o->config.translate_after = (u32)n;
    }
    return 0;
}

static int set_kernel(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!*value)
        return error_set(err, EINVAL, "--kernel needs the name of a file");
    o->config.kernel = value;
    return 0;
}

static int set_initrd(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!*value)
        return error_set(err, EINVAL, "--initrd needs the name of a file");
    o->config.initrd = value;
    return 0;
}

static int set_append(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    o->config.append = value;
    return 0;
}

static int set_serial(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    struct vm_config *c = &o->config;

    if (!o->serial_given)
        c->nserial = 0;
    o->serial_given = true;
    if (!chardev_spec_valid(value))
        return error_set(err, EINVAL, "--serial %s: it is one of stdio, null, file:PATH, unix:PATH", value);
    if (c->nserial == CONFIG_MAX_SERIAL)
        return error_set(err, EINVAL, "--serial %s: the machine has %d serial ports", value, CONFIG_MAX_SERIAL);
    for (u32 i = 0; i < c->nserial; i++)
        if (!strcmp(value, "stdio") && !strcmp(c->serial[i], "stdio"))
            return error_set(err, EINVAL, "--serial stdio: only one port can have the terminal");
    c->serial[c->nserial++] = value;
    return 0;
}

static int set_device(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { "testdev", NULL };
    struct run_options *o = to;

    if (strcmp(value, "testdev"))
        return bad_choice(err, "device", value, choices);
    o->config.testdev = true;
    return 0;
}

static int set_no_reboot(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    o->config.no_reboot = true;
    return 0;
}

static int set_trace(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = {
        [TRACE_EXEC] = "exec", [TRACE_EXCEPTIONS] = "exceptions", [TRACE_IO] = "io", [TRACE_MMIO] = "mmio",
        [TRACE_JIT] = "jit", NULL
    };
    struct run_options *o = to;
    struct vm_config *c = &o->config;
    size_t n = strcspn(value, ":");
    char what[32];

    if (value[n] == ':' && !value[n + 1])
        return error_set(err, EINVAL, "--trace %s names no file", value);
    snprintf(what, sizeof(what), "%.*s", (int)MIN(n, sizeof(what) - 1), value);
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(what, choices[i]))
            continue;
        if (c->ntrace == CONFIG_MAX_TRACE)
            return error_set(err, EINVAL, "--trace can be given %d times", CONFIG_MAX_TRACE);
        c->trace[c->ntrace++] = (struct config_trace){ (enum config_trace_what)i, value[n] ? value + n + 1 : NULL };
        return 0;
    }
    return bad_choice(err, "trace", what, choices);
}

static int set_stats(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { [STATS_TEXT - 1] = "text", [STATS_JSON - 1] = "json", NULL };
    struct run_options *o = to;
    char what[32];

    o->config.stats = STATS_TEXT;
    if (!value)
        return 0;
    size_t n = strcspn(value, ":");
    if (value[n] == ':' && !value[n + 1])
        return error_set(err, EINVAL, "--stats=%s names no file", value);
    snprintf(what, sizeof(what), "%.*s", (int)MIN(n, sizeof(what) - 1), value);
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(what, choices[i]))
            continue;
        o->config.stats = (enum config_stats)(i + 1);
        o->config.stats_file = value[n] ? value + n + 1 : NULL;
        return 0;
    }
    return bad_choice(err, "stats", what, choices);
}

static int set_perf_map(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (value && !*value)
        return error_set(err, EINVAL, "--perf-map= names no file; it is the System.map of the guest's kernel");
    o->config.perf_map = true;
    o->config.system_map = value;
    return 0;
}

static int set_quiet(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    o->config.quiet = true;
    return 0;
}

static const struct option_def options[] = {
    { "kernel", "FILE", "the kernel: bzImage, ELF with a PVH note, or Multiboot 1", set_kernel },
    { "initrd", "FILE", "initial ramdisk; for a Multiboot kernel its modules:\n\"FILE ARGS,FILE2 ARGS\"", set_initrd },
    { "append", "STRING", "the kernel's command line", set_append },
    { "memory", "SIZE", "512M (the default), 2G; a plain number counts MiB", set_memory },
    { "cpus", "N", "number of CPUs (1)", set_cpus },
    { "cpu", "MODEL[,+FEATURE,-FEATURE]", "CPU model (host) with features added and taken away", set_cpu },
    { "engine", "ENGINE", "auto (the default), kvm or soft", set_engine },
    { "code-cache", "SIZE[,after=N]", "software engine: memory for translated code (64M);\n0: interpret all; after N runs of a block (12)",
      set_code_cache },
    { "serial", "WHERE", "stdio (the default), null, file:PATH, unix:PATH; the\nfirst is COM1, up to four",
      set_serial },
    { "device", "testdev", "debug exit at port 0xf4 and the devices that\nkvm-unit-tests expects", set_device },
    { "no-reboot", NULL, "a reboot of the guest ends the run", set_no_reboot },
    { "trace", "WHAT[:FILE]", "exec, exceptions, io, mmio or jit (translations), to\nstandard error or a file; may be repeated",
      set_trace },
    { "stats", "[=FORMAT[:FILE]]", "at the end, figures of where the time went: text (the\ndefault) or json, to standard error or a file",
      set_stats },
    { "perf-map", "[=SYSTEM.MAP]", "software engine: /tmp/perf-PID.map, for perf to name\ntranslated code; with the guest kernel's symbols",
      set_perf_map },
    { "quiet", NULL, "say nothing but errors", set_quiet },
    { NULL, NULL, NULL, NULL },
};

void help_run(void)
{
    puts("Usage: lodge run --kernel FILE [OPTIONS]\n\n"
         "Runs a virtual machine; its first serial port is this terminal.\n");
    options_help(options);
    puts("\nOn the terminal: Ctrl-] then q ends the machine, Ctrl-] ? helps, Ctrl-] Ctrl-] sends one.\n\n"
         "Exit status: 0 the guest powered off; (value << 1) | 1 it wrote value to the debug exit;\n"
         "2 an option or a file cannot be used; 1 any other failure, said in one line.");
}

/* A failure before the guest's start: the request cannot be met, unless the host is short of something just now. */
static int status_of(int code)
{
    return code == EAGAIN || code == EMFILE || code == ENFILE ? STATUS_FAILED : STATUS_USAGE;
}

int cli_run(int argc, char **argv)
{
    struct run_options o = { 0 };
    struct error err = { "" };

    config_defaults(&o.config);
    if (options_parse(options, argc, argv, &o, &err))
        return usage_error("%s", err.text);
    if (!o.config.kernel)
        return usage_error("--kernel FILE is needed; see \"lodge help run\"");
    for (u32 i = 0; i < o.config.ntrace; i++)
        if (o.config.trace[i].what == TRACE_JIT && !o.config.code_cache)
            return usage_error("--trace jit: with --code-cache 0 nothing is translated");
    if (o.config.perf_map && !o.config.code_cache)
        return usage_error("--perf-map: with --code-cache 0 nothing is translated");
    if (o.config.quiet)
        log_set_level(LOG_ERROR);

    int r = vm_run(&o.config, &err);
    if (r >= 0)
        return r;
    if (!err.text[0])
        error_set(&err, -r, "the machine could not be started: %s", strerror(-r));
    log_error("%s", err.text);
    return status_of(-r);
}
