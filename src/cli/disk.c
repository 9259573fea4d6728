/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.c - "lodge disk": makes, looks at and changes disk images. If qemu-img has the same option, output for programs
 * or exit status, "lodge disk" uses that of qemu-img.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/loop.h"
#include "block/tools.h"
#include "cli/cli.h"
#include "cli/disk_print.h"
#include "store/store.h"

/* Exit statuses of "check": those of qemu-img. */
enum { CHECK_FAILED = 1, CHECK_ERRORS = 2, CHECK_LEAKS = 3, CHECK_NOTHING = 63 };

struct given {
    const char *format, *to_format, *backing, *backing_format, *repair, *name;
    char mode; /* snapshot: l c a d */
    bool json, chain, shrink, unsafe, force, quiet, progress, share;
    struct block_create create; /* -o */
    struct block_follow follow;
    const char *args[2];
    int nargs;
};

struct command {
    const char *name;
    const char *letters; /* getopt's letters; long options are looked up by their letter */
    int min, max;        /* number of arguments */
    const char *usage, *text;
    int (*run)(struct given *g);
};
extern const struct command disk_commands[];

static volatile sig_atomic_t interrupted;

static void interrupt(int sig)
{
    interrupted = sig;
}

static int fail(const struct error *err)
{
    /* An operation is refused until the user allows it: the message names the option for that. */
    fprintf(stderr, "lodge: %s%s\n", err->text, err->code == EXDEV ? " (--backing any)" : err->code == ENOTEMPTY ? " (--shrink)" : "");
    return STATUS_FAILED;
}

/* As in qemu-img: bytes, or a number with k, M, G, T, P, E; also 1.5G. */
static int read_size(const char *text, u64 *bytes, struct error *err)
{
    static const char units[] = "bkMGTPE";
    char *end;
    const char *unit;

    errno = 0;
    long double v = strtold(text, &end);
    unit = *end ? strchr(units, *end == 'K' ? 'k' : *end == 'B' ? 'b' : *end) : units;
    if (end == text || text[0] < '0' || text[0] > '9' || !unit || (*end && end[1] && strcasecmp(end + 1, "iB") &&
                                                                   strcasecmp(end + 1, "B")))
        return error_set(err, EINVAL, "\"%s\" is no size: a number of bytes, or one with k, M, G or T, as 20G", text);
    for (; unit > units; unit--)
        v *= 1024;
    if (errno || !(v < 9.2e18L))
        return error_set(err, ERANGE, "%s is larger than any image can be", text);
    *bytes = (u64)v;
    return 0;
}

/* ---- progress ---- */

struct meter {
    struct block_progress progress;
    const char *what;
    u64 began, said;
    bool on, forced, drawn;
};

static bool tell(struct block_progress *p, u64 done, u64 total)
{
    struct meter *m = container_of(p, struct meter, progress);
    u64 now = clock_ns();
    char a[32];

    /* It prints on a terminal only, and only for work that takes a while. */
    if (m->on && total && now - m->said > 200000000 && (m->forced || now - m->began > 1000000000)) {
        fprintf(stderr, "\r%s: %5.1f%% of %s ", m->what, 100.0 * (double)done / (double)total, size_text(total, a));
        m->said = now;
        m->drawn = true;
    }
    return interrupted;
}

static struct block_progress *meter_begin(struct meter *m, const struct given *g, const char *what)
{
    /* the second signal ends the process at once */
    struct sigaction sa = { .sa_handler = interrupt, .sa_flags = SA_RESETHAND };

    *m = (struct meter){ { tell }, what, clock_ns(), 0, !g->quiet && (g->progress || isatty(STDERR_FILENO)), g->progress, 0 };
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    return &m->progress;
}

static int meter_end(struct meter *m, int r, const struct error *err)
{
    if (m->drawn)
        fprintf(stderr, r ? "\n" : "\r%s: 100%%%20s\n", m->what, "");
    if (!r)
        return STATUS_OK;
    if (!interrupted)
        return fail(err);
    fprintf(stderr, "lodge: %s was interrupted\n", m->what);
    return 128 + (int)interrupted;
}

/* ---- commands ---- */

static struct block *open_image(const struct given *g, bool write, u32 how, struct error *err)
{
    struct block_options o = { .path = g->args[0], .readonly = !write, .discard = true, .no_lock = g->share,
                               .follow = g->follow };

    if (block_format_named(g->format, &o.format, err))
        return NULL;
    return block_open_tool(&o, how, err);
}

static int close_image(struct block *b, int status)
{
    struct error err;

    if (block_close(b, &err) && status == STATUS_OK)
        return fail(&err);
    return status;
}

static int run_create(struct given *g)
{
    struct block_create t = g->create;
    struct error err;

    t.path = g->args[0];
    t.format = g->format ? g->format : "raw";
    t.backing = g->backing;
    t.backing_format = g->backing_format;
    t.overwrite = g->force;
    t.unchecked = g->unsafe;
    t.follow = g->follow;
    if (g->nargs == 2) {
        if (read_size(g->args[1], &t.size, &err))
            return usage_error("%s", err.text);
    } else if (!g->backing || g->unsafe) {
        return usage_error("a size is needed: lodge disk create %s SIZE", g->args[0]);
    }
    return block_create(&t, &err) ? fail(&err) : STATUS_OK;
}

static int run_info(struct given *g)
{
    struct error err;
    struct block_info *i = calloc(1, sizeof(*i));
    int status = STATUS_OK;

    g->share = true; /* it only looks */
    struct block *b = i ? open_image(g, false, BLOCK_DAMAGED | (g->chain ? 0 : BLOCK_ALONE), &err) : NULL;
    if (!b) {
        free(i);
        return fail(&err);
    }
    if (g->json && g->chain)
        printf("[");
    for (struct block *at = b; at && status == STATUS_OK; at = g->chain ? block_backing(at) : NULL) {
        if (block_info(at, i, &err)) {
            status = fail(&err);
            break;
        }
        if (at != b)
            fputs(g->json ? ",\n " : "\n", stdout);
        if (g->json)
            disk_print_info_json(at, i);
        else
            disk_print_info_text(at, i);
        block_info_free(i);
    }
    if (g->json)
        puts(g->chain ? "]" : "");
    free(i);
    return close_image(b, status);
}

static void say(struct block_check *c, const char *text)
{
    fprintf(stderr, "%s\n", text);
}

static int run_check(struct given *g)
{
    struct block_check c = { .say = g->quiet || g->json ? NULL : say };
    enum block_repair repair = !g->repair ? BLOCK_REPAIR_NONE : !strcmp(g->repair, "leaks") ? BLOCK_REPAIR_LEAKS
                                                                                            : BLOCK_REPAIR_ALL;
    struct error err;

    if (g->repair && strcmp(g->repair, "leaks") && strcmp(g->repair, "all")) {
        usage_error("-r is leaks or all, not \"%s\"", g->repair);
        return CHECK_FAILED;
    }
    struct block *b = open_image(g, repair != BLOCK_REPAIR_NONE, BLOCK_DAMAGED | BLOCK_ALONE, &err);
    if (!b)
        return fail(&err);
    int r = block_check(b, repair, &c, &err), status = c.errors ? CHECK_ERRORS : c.leaks ? CHECK_LEAKS : STATUS_OK;
    if (r) {
        fail(&err);
        status = r == -EOPNOTSUPP ? CHECK_NOTHING : CHECK_FAILED;
    } else if (g->json) {
        disk_print_check_json(g->args[0], &c);
    } else if (!g->quiet) {
        disk_print_check_text(&c);
    }
    return close_image(b, status);
}

static int run_convert(struct given *g)
{
    struct block_create to = g->create;
    struct meter m;
    struct error err;
    struct block *b = open_image(g, false, 0, &err);

    if (!b)
        return fail(&err);
    to.path = g->args[1];
    to.format = g->to_format ? g->to_format : "raw";
    to.overwrite = g->force;
    int r = block_convert(b, &to, meter_begin(&m, g, "convert"), &err);
    return close_image(b, meter_end(&m, r, &err));
}

static int run_resize(struct given *g)
{
    const char *size = g->args[1];
    char sign = *size == '+' || *size == '-' ? *size++ : 0;
    struct error err;
    u64 n;

    if (read_size(size, &n, &err))
        return usage_error("%s", err.text);
    struct block *b = open_image(g, true, 0, &err);
    if (!b)
        return fail(&err);
    int r = 0;
    if (sign == '-' && n > block_size(b))
        r = error_set(&err, EINVAL, "%s is not that large", g->args[0]);
    if (sign == '+')
        n = block_size(b) + n; /* both are below 2^63 */
    else if (sign == '-' && !r)
        n = block_size(b) - n;
    if (!r)
        r = block_resize(b, n, g->shrink, &err);
    return close_image(b, r ? fail(&err) : STATUS_OK);
}

static int run_commit(struct given *g)
{
    struct meter m;
    struct error err;
    struct block *b = open_image(g, true, 0, &err);

    if (!b)
        return fail(&err);
    int r = block_commit(b, meter_begin(&m, g, "commit"), &err);
    return close_image(b, meter_end(&m, r, &err));
}

static int run_rebase(struct given *g)
{
    struct meter m;
    struct error err;

    if (!g->backing)
        return usage_error("-b FILE names the new backing file (-b \"\": none)");
    struct block *b = open_image(g, true, g->unsafe ? BLOCK_ALONE : 0, &err);
    if (!b)
        return fail(&err);
    int r = block_rebase(b, *g->backing ? g->backing : NULL, g->backing_format, g->unsafe, meter_begin(&m, g, "rebase"), &err);
    return close_image(b, meter_end(&m, r, &err));
}

static int run_snapshot(struct given *g)
{
    struct error err;
    bool list = !g->mode || g->mode == 'l';
    enum block_snapshot_op op = g->mode == 'c' ? BLOCK_SNAPSHOT_CREATE : g->mode == 'a' ? BLOCK_SNAPSHOT_APPLY
                                                                                        : BLOCK_SNAPSHOT_DELETE;
    g->share |= list;
    struct block *b = open_image(g, !list, list ? BLOCK_DAMAGED | BLOCK_ALONE : 0, &err);

    if (!b)
        return fail(&err);
    if (!list)
        return close_image(b, block_snapshot(b, op, g->name, &err) ? fail(&err) : STATUS_OK);
    struct block_info *i = calloc(1, sizeof(*i));
    int r = i ? block_info(b, i, &err) : error_set(&err, ENOMEM, "no memory");
    if (!r && g->json) {
        disk_print_snapshots_json(i);
        putchar('\n');
    } else if (!r) {
        disk_print_snapshots_text(i);
    }
    if (!r)
        block_info_free(i);
    free(i);
    return close_image(b, r ? fail(&err) : STATUS_OK);
}

const struct command disk_commands[] = {
    { "create", "f:b:F:o:uq", 1, 2, "[-f FORMAT] [-b BACKING [-F FORMAT]] [-u] [-o OPTIONS] [--force] FILE [SIZE]",
      "makes an empty image, or with -b one over another", run_create },
    { "info", "f:jCU", 1, 1, "[-f FORMAT] [--json] [--backing-chain] FILE", "says what an image is", run_info },
    { "check", "f:r:jqU", 1, 1, "[-f FORMAT] [-r leaks|all] [--json] FILE",
      "looks whether an image is consistent, repairs it; exit status 2: errors, 3: leaks", run_check },
    { "convert", "f:O:o:pqU", 2, 2, "[-f FORMAT] [-O FORMAT] [-o OPTIONS] [-p] [--force] FILE NEWFILE",
      "copies what an image and those below it hold into a new one", run_convert },
    { "resize", "f:q", 2, 2, "[-f FORMAT] [--shrink] FILE [+|-]SIZE", "changes the size that the guest sees", run_resize },
    { "commit", "f:pq", 1, 1, "[-f FORMAT] [-p] FILE", "writes what an image holds into its backing file", run_commit },
    { "rebase", "f:b:F:upq", 1, 1, "[-f FORMAT] [-u] [-p] -b BACKING [-F FORMAT] FILE", "gives it another backing file",
      run_rebase },
    { "snapshot", "f:lc:a:d:jqU", 1, 1, "[-l | -c NAME | -a NAME | -d NAME] [--json] FILE",
      "lists, creates, applies, deletes the snapshots inside an image", run_snapshot },
    { 0 },
};

/* ---- the command line ---- */

static int read_creation(struct given *g, char *text, struct error *err)
{
    enum { CLUSTER, COMPAT, PREALLOC };
    char *const names[] = { (char[]){ "cluster_size" }, (char[]){ "compat" }, (char[]){ "preallocation" }, NULL };
    char *value;
    u64 n;

    while (*text) {
        char *word = text;
        int which = getsubopt(&text, names, &value);
        if (which >= 0 && !value)
            return error_set(err, EINVAL, "-o %s needs a value", names[which]);
        switch (which) {
        case CLUSTER:
            if (read_size(value, &n, err))
                return -EINVAL;
            if (n < 512 || n > MiB(2) || (n & (n - 1)))
                return error_set(err, EINVAL, "-o cluster_size=%s: it is a power of two from 512 to 2M", value);
            g->create.cluster_size = (u32)n;
            break;
        case COMPAT:
            g->create.v2 = !strcmp(value, "0.10") || !strcmp(value, "v2");
            if (!g->create.v2 && strcmp(value, "1.1") && strcmp(value, "v3"))
                return error_set(err, EINVAL, "-o compat=%s: it is 0.10 or 1.1", value);
            break;
        case PREALLOC:
            g->create.preallocate = strcmp(value, "off");
            if (strcmp(value, "off") && strcmp(value, "metadata") && strcmp(value, "falloc"))
                return error_set(err, EINVAL, "-o preallocation=%s: it is off, metadata or falloc", value);
            break;
        default:
            return error_set(err, EINVAL, "-o %s: the options are cluster_size, compat and preallocation", word);
        }
    }
    return 0;
}

static const struct option longs[] = {
    { "json", no_argument, NULL, 'j' },          { "output", required_argument, NULL, 'J' },
    { "backing-chain", no_argument, NULL, 'C' }, { "shrink", no_argument, NULL, 'S' },
    { "force", no_argument, NULL, 'X' },         { "force-share", no_argument, NULL, 'U' },
    { "quiet", no_argument, NULL, 'q' },         { "progress", no_argument, NULL, 'p' },
    { "format", required_argument, NULL, 'f' },  { "backing", required_argument, NULL, 'B' },
    { NULL, 0, NULL, 0 },
};

/* Says for each command which of the long options without a letter it has. */
static bool knows(const struct command *c, int letter)
{
    if (letter == 'S')
        return !strcmp(c->name, "resize");
    if (letter == 'X')
        return !strcmp(c->name, "create") || !strcmp(c->name, "convert");
    if (letter == 'B') /* all commands except check, which opens the image without its backing file */
        return strcmp(c->name, "check");
    return strchr(c->letters, letter == 'J' ? 'j' : letter);
}

static int read_options(const struct command *c, struct given *g, int argc, char **argv, struct error *err)
{
    char letters[40];
    int o, at;

    snprintf(letters, sizeof(letters), ":%s", c->letters);
    optind = 0;
    opterr = 0;
    while (at = optind ? optind : 1, (o = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (o == ':')
            return error_set(err, EINVAL, "%s needs a value; usage: lodge disk %s %s", argv[optind - 1], c->name, c->usage);
        if (o == '?' || !knows(c, o))
            return error_set(err, EINVAL, "unknown option %s; usage: lodge disk %s %s", argv[MIN(at, argc - 1)], c->name,
                             c->usage);
        switch (o) {
        case 'f': g->format = optarg; break;
        case 'O': g->to_format = optarg; break;
        case 'b': g->backing = optarg; break;
        case 'F': g->backing_format = optarg; break;
        case 'r': g->repair = optarg; break;
        case 'u': g->unsafe = true; break;
        case 'j': g->json = true; break;
        case 'C': g->chain = true; break;
        case 'S': g->shrink = true; break;
        case 'X': g->force = true; break;
        case 'U': g->share = true; break;
        case 'q': g->quiet = true; break;
        case 'p': g->progress = true; break;
        case 'B':
            if (parse_backing("--backing", optarg, err))
                return -EINVAL;
            g->follow.more = optarg;
            break;
        case 'J':
            if (strcmp(optarg, "json") && strcmp(optarg, "human"))
                return error_set(err, EINVAL, "--output is human or json, not \"%s\"", optarg);
            g->json = !strcmp(optarg, "json");
            break;
        case 'o':
            if (read_creation(g, optarg, err))
                return -EINVAL;
            break;
        default: /* l c a d */
            if (g->mode)
                return error_set(err, EINVAL, "one of -l, -c, -a and -d at a time");
            g->mode = (char)o;
            g->name = optarg;
            break;
        }
    }
    g->nargs = argc - optind;
    if (g->nargs < c->min || g->nargs > c->max)
        return error_set(err, EINVAL, "usage: lodge disk %s %s", c->name, c->usage);
    for (int i = 0; i < g->nargs; i++)
        g->args[i] = argv[optind + i];
    return 0;
}

int cli_disk(int argc, char **argv)
{
    const char *names[ARRAY_SIZE(disk_commands)] = { NULL };
    struct given g = { 0 };
    struct error err = { "" };
    const struct command *c = disk_commands;
    char store[PATH_MAX];

    g.follow.store = image_store(store) ? NULL : store;
    if (argc < 2)
        return usage_error("lodge disk needs a command: create, info, check, convert, resize, commit, rebase or snapshot");
    for (; c->name && strcmp(c->name, argv[1]); c++)
        names[c - disk_commands] = c->name;
    if (!c->name) {
        const char *best = suggest(argv[1], names);
        if (best)
            return usage_error("unknown command \"disk %s\"; did you mean \"lodge disk %s\"?", argv[1], best);
        return usage_error("unknown command \"disk %s\"; \"lodge help disk\" lists them", argv[1]);
    }
    if (read_options(c, &g, argc - 1, argv + 1, &err)) {
        usage_error("%s", err.text);
        return c->run == run_check ? CHECK_FAILED : STATUS_USAGE; /* 2 would mean errors in the image */
    }
    return c->run(&g);
}

void help_disk(void)
{
    puts("Usage: lodge disk COMMAND [OPTIONS] FILE ...\n\n"
         "Makes, looks at and changes disk images: raw files, block devices, qcow2, nbd://HOST/EXPORT.\n"
         "Options are those of qemu-img.  The format is found out where none is given.\n");
    for (const struct command *c = disk_commands; c->name; c++)
        printf("  %s %s\n      %s\n", c->name, c->usage, c->text);
    puts("\n-o: cluster_size=SIZE, compat=0.10|1.1, preallocation=off|metadata|falloc.\n"
         "SIZE: bytes, or with k, M, G, T.  --json: for programs.  -U: also while a VM uses the image.\n"
         "--force: an existing file is overwritten.\n"
         "--backing any|none|FOLDER: which backing files are followed, but for those beside the image and the images of\n"
         "\"lodge image\".  More in \"man lodge-disk\".");
}
