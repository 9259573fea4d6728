/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_options.c - the options of "lodge run". Those of the machine come from the table of its configuration
 * (config/fields.h). Here are the other options, and the code that connects an error of the configuration with what the
 * user wrote.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/patience.h"
#include "cli/run_options.h"
#include "config/fields.h"
#include "config/json.h"
#include "store/store.h"

/* ---- options of the run ---- */

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

static int set_image(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (o->image)
        return error_set(err, EINVAL, "\"%s\": only one image can be run, and it is %s", value, o->image);
    if (!image_name_valid(value))
        return error_set(err, EINVAL, "\"%s\" is no image's name; \"lodge image ls\" lists them, %s", value,
                         access(value, F_OK) ? "options begin with --" : "a file is a --disk, a --cdrom or a --kernel");
    o->image = value;
    return 0;
}

static int set_keep(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!image_name_valid(value))
        return error_set(err, EINVAL, "--keep %s: a name is 1 to %d small letters, digits and \"-\"", value, IMAGE_NAME_MAX);
    o->keep = value;
    return 0;
}

static int set_ssh_port(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    u64 n;

    if (parse_number(value, 1, 65535, &n))
        return error_set(err, EINVAL, "--ssh-port %s: a number from 1 to 65535", value);
    o->ssh_port = (u16)n;
    return 0;
}

static int set_disk_size(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (parse_size(value, &o->disk_size) || !o->disk_size)
        return error_set(err, EINVAL, "--disk-size %s: a size is a number with K, M, G or T, for example 10G", value);
    return 0;
}

static int set_timing(void *to, const char *value, struct error *err)
{
    ((struct run_options *)to)->run.timing = true;
    return 0;
}

static int set_trace(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = {
        [TRACE_EXEC] = "exec", [TRACE_EXCEPTIONS] = "exceptions", [TRACE_IO] = "io", [TRACE_MMIO] = "mmio",
        [TRACE_JIT] = "jit", [TRACE_FIRMWARE] = "firmware", NULL
    };
    struct vm_run *r = &((struct run_options *)to)->run;
    size_t n = strcspn(value, ":");
    char what[32];

    if (value[n] == ':' && !value[n + 1])
        return error_set(err, EINVAL, "--trace %s names no file", value);
    snprintf(what, sizeof(what), "%.*s", (int)MIN(n, sizeof(what) - 1), value);
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(what, choices[i]))
            continue;
        if (r->ntrace == VM_MAX_TRACE)
            return error_set(err, EINVAL, "--trace can be given %d times", VM_MAX_TRACE);
        r->trace[r->ntrace++] = (struct vm_trace){ (enum vm_trace_what)i, value[n] ? value + n + 1 : NULL };
        return 0;
    }
    return bad_choice(err, "trace", what, choices);
}

static int set_stats(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { [STATS_TEXT - 1] = "text", [STATS_JSON - 1] = "json", NULL };
    struct vm_run *r = &((struct run_options *)to)->run;
    char what[32];

    r->stats = STATS_TEXT;
    if (!value)
        return 0;
    size_t n = strcspn(value, ":");
    if (value[n] == ':' && !value[n + 1])
        return error_set(err, EINVAL, "--stats=%s names no file", value);
    snprintf(what, sizeof(what), "%.*s", (int)MIN(n, sizeof(what) - 1), value);
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(what, choices[i]))
            continue;
        r->stats = (enum vm_stats)(i + 1);
        r->stats_file = value[n] ? value + n + 1 : NULL;
        return 0;
    }
    return bad_choice(err, "stats", what, choices);
}

static int set_perf_map(void *to, const char *value, struct error *err)
{
    struct vm_run *r = &((struct run_options *)to)->run;

    if (value && !*value)
        return error_set(err, EINVAL, "--perf-map= names no file; it is the System.map of the guest's kernel");
    r->perf_map = true;
    r->system_map = value;
    return 0;
}

static int set_quiet(void *to, const char *value, struct error *err)
{
    ((struct run_options *)to)->run.quiet = true;
    return 0;
}

static int set_print_config(void *to, const char *value, struct error *err)
{
    ((struct run_options *)to)->print_config = true;
    return 0;
}

/* ---- a file ---- */

/* --config is read before all other options, wherever it stands among them. The other options replace its values. */
static int set_config(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    char folder[PATH_MAX], *text;
    size_t size;
    int r;

    if (o->config_file)
        return strcmp(o->config_file, value) ? error_set(err, EINVAL, "--config can be given once") : 0;
    if ((r = patience_read(OPENER_CONFIG, value, false, MiB(1), "--config ", &text, &size, err)))
        return r;
    o->config_file = value;
    r = config_from_yaml(&o->config, value, text, size, err);
    free(text);
    const char *slash = strrchr(value, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - value) + (slash == value) : 1, slash ? value : ".");
    if (!r && config_rebase(&o->config, folder))
        r = error_set(err, ENOMEM, "out of memory");
    return r;
}

static int find_config(struct run_options *o, int argc, char **argv, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        const bool joined = !strncmp(argv[i], "--config=", 9);
        int r = 0;
        if (joined || (!strcmp(argv[i], "--config") && i + 1 < argc))
            r = set_config(o, joined ? argv[i] + 9 : argv[i + 1], err);
        if (r)
            return r;
    }
    return 0;
}

/* ---- all together ---- */

static const struct option_def own[] = {
    { "", NULL, NULL, set_image, NULL },
    { "config", "FILE", "the machine as a file describes it (vm.yaml); other options\ncount over it", set_config, NULL },
    { "print-config", NULL, "print the machine as such a file, and end", set_print_config, NULL },
    { "keep", "NAME", "an image: the machine and its disk stay, under this name;\nwithout it all goes with the run", set_keep, NULL },
    { "disk-size", "SIZE", "an image: its disk grows to this", set_disk_size, NULL },
    { "ssh-port", "PORT", "an image: its ssh is at this port of 127.0.0.1", set_ssh_port, NULL },
    { "timing", NULL, "at the end, how long each phase of the start took", set_timing, NULL },
    { "trace", "WHAT[:FILE]", "exec, exceptions, io, mmio, jit (translations) or firmware (its\nmessages), to standard error or a file; may be repeated",
      set_trace, NULL },
    { "stats", "[=FORMAT[:FILE]]", "at the end, figures of where the time went: text (the\ndefault) or json, to standard error or a file",
      set_stats, NULL },
    { "perf-map", "[=SYSTEM.MAP]", "software engine: /tmp/perf-PID.map, for perf to name\ntranslated code; with the guest kernel's symbols",
      set_perf_map, NULL },
    { "quiet", NULL, "say nothing but errors", set_quiet, NULL },
};

struct table {
    struct option_def def[RUN_MAX_OPTIONS];
    char arg[RUN_MAX_OPTIONS][48], help[RUN_MAX_OPTIONS][512];
};

static void make_table(struct table *t)
{
    u32 n = 0;

    memset(t, 0, sizeof *t);
    t->def[n++] = own[0];
    for (const struct config_field *f = config_fields; f->type; f++) {
        if (!*config_option_name(f))
            continue;
        config_option_arg(f, t->arg[n], sizeof t->arg[n]);
        config_option_help(f, t->help[n], sizeof t->help[n]);
        t->def[n] = (struct option_def){ config_option_name(f), *t->arg[n] ? t->arg[n] : NULL, t->help[n], NULL, f };
        n++;
    }
    for (u32 i = 1; i < ARRAY_SIZE(own); i++)
        t->def[n++] = own[i];
}

static int set_field(void *to, const struct config_field *f, const char *value, struct error *err)
{
    struct run_options *o = to;
    const u32 item = f->type == CONFIG_LIST ? *(u32 *)(void *)((u8 *)&o->config + f->count) : 0;
    const bool first = !run_option_given(o, f->name);

    if (o->norigins == RUN_MAX_ORIGINS)
        return error_set(err, EINVAL, "--%s: there are more than %d options", config_option_name(f), RUN_MAX_ORIGINS);
    o->origin[o->norigins++] = (struct run_origin){ f, first && f->def ? 0 : item, value };
    const int r = config_option_set(&o->config, f, first, value, err);
    if (r)
        run_explain(o, err);
    return r;
}

int run_options_parse(struct run_options *o, int argc, char **argv, struct error *err)
{
    struct table t;
    int r = find_config(o, argc, argv, err);

    make_table(&t);
    return r ? r : options_parse(t.def, set_field, argc, argv, o, err);
}

void run_options_help(void)
{
    struct table t;

    make_table(&t);
    options_help(t.def);
}

bool run_option_given(const struct run_options *o, const char *field)
{
    for (u32 i = 0; i < o->norigins; i++)
        if (!strcmp(o->origin[i].field->name, field))
            return true;
    return false;
}

/* Puts "--disk b.img: " before the sentence. If the sentence begins with the same words, they are not repeated. */
static void put_option(struct error *err, const char *option, const char *between, const char *value, const char *key, const char *rest)
{
    const size_t n = value ? strlen(value) : 0;

    if (n && !strncmp(rest, value, n) && !strncmp(rest + n, ": ", 2))
        rest += n + 2;
    error_set(err, err->code, "--%s%s%.200s: %s%s", option, value ? between : "", value ? value : "", key, rest);
}

void run_explain(const struct run_options *o, struct error *err)
{
    const struct config_field *key, *f;
    const struct run_origin *from = NULL;
    char rest[sizeof err->text], inner[48] = "";
    size_t len;
    u32 item;

    snprintf(rest, sizeof rest, "%s", err->text);
    if (!strncmp(rest, "perf_map: ", 10)) { /* the only error of a run that appears as late as those of the machine */
        put_option(err, "perf-map", "=", o->run.system_map, "", rest + 10);
        return;
    }
    if (!(f = config_path_field(rest, &item, &key, &len)) || !*config_option_name(f))
        return;
    for (u32 i = 0; i < o->norigins; i++)
        if (o->origin[i].field == f && (f->type != CONFIG_LIST || (o->origin[i].item == item && memchr(rest, '[', len))))
            from = &o->origin[i];
    if (key && *config_option_name(key) && key != f->fields)
        snprintf(inner, sizeof inner, "%s: ", config_option_name(key));
    if (!from && o->config_file)
        error_about(err, "%s", o->config_file);
    else
        put_option(err, config_option_name(f), f->arg && *f->arg == '[' ? "=" : " ", from ? from->value : NULL, inner, rest + len + 2);
}
