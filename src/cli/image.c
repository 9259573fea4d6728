/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.c - "lodge image build|import|ls|rm".
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "block/tools.h"
#include "cli/cli.h"
#include "image/image.h"
#include "lodge_config.h"

struct image_options {
    const char *name, *size, *packages;
    bool force, json, kept;
};

static int set_name(void *to, const char *value, struct error *err)
{
    ((struct image_options *)to)->name = value;
    return image_name_valid(value)
               ? 0
               : error_set(err, EINVAL, "--name %s: a name has small letters, digits and \"-\"", value);
}

static int set_size(void *to, const char *value, struct error *err)
{
    u64 bytes;

    if (parse_size(value, &bytes) || bytes < GiB(2) || bytes > GiB(16384) || bytes % MiB(1))
        return error_set(err, EINVAL, "--size %s: from 2G to 16T, in whole M", value);
    ((struct image_options *)to)->size = value;
    return 0;
}

static int set_packages(void *to, const char *value, struct error *err)
{
    ((struct image_options *)to)->packages = value;
    return *value && strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789+-.,") == strlen(value)
               ? 0
               : error_set(err, EINVAL, "--packages %s: names of Debian packages, with commas between them", value);
}

static int set_force(void *to, const char *value, struct error *err)
{
    ((struct image_options *)to)->force = true;
    return 0;
}

static int set_json(void *to, const char *value, struct error *err)
{
    ((struct image_options *)to)->json = true;
    return 0;
}

static int set_kept(void *to, const char *value, struct error *err)
{
    ((struct image_options *)to)->kept = true;
    return 0;
}

static const struct option_def build_options[] = {
    { "name", "NAME", "what to call the image (debian)", set_name },
    { "size", "SIZE", "of its disk as the guest sees it (10G)", set_size },
    { "packages", "A,B,...", "more packages to install", set_packages },
    { "force", NULL, "build it anew though it is there", set_force },
    { NULL, NULL, NULL, NULL },
};
static const struct option_def import_options[] = {
    { "name", "NAME", "what to call the image (else as the file)", set_name },
    { NULL, NULL, NULL, NULL },
};
static const struct option_def ls_options[] = {
    { "json", NULL, "for programs", set_json },
    { NULL, NULL, NULL, NULL },
};
static const struct option_def rm_options[] = {
    { "force", NULL, "also an image that kept machines lie over: they are lost", set_force },
    { "kept", NULL, "NAME is a machine made by \"lodge run --keep\"", set_kept },
    { NULL, NULL, NULL, NULL },
};

void help_image(void)
{
    puts("Usage: lodge image build debian [OPTIONS]\n"
         "       lodge image import FILE [--name NAME]\n"
         "       lodge image ls [--json]\n"
         "       lodge image rm NAME [OPTIONS]\n\n"
         "Images are disks with an installed system; \"lodge run NAME\" runs one.\n\n"
         "build: Debian 12 from the archive this host uses, without root; once.");
    options_help(build_options);
    puts("\nimport: a raw or qcow2 disk, for example a cloud image with cloud-init.");
    options_help(import_options);
    puts("\nls: images, and the machines over them.");
    options_help(ls_options);
    puts("\nrm:");
    options_help(rm_options);
}

static int failed(int r, struct error *err)
{
    if (!err->text[0])
        error_set(err, -r, "%s", strerror(-r));
    log_error("%s", err->text);
    return r == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
}

/* ---- progress: one line that changes on a terminal, else a line whenever the text does ---- */

struct meter {
    char text[80];
    int percent;
    bool drawn;
};

static void meter_show(struct meter *m, int percent, const char *text)
{
    bool same = !strcmp(m->text, text);

    if (same && m->percent == percent)
        return;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K[%3d%%] %s", percent, text), m->drawn = true;
    else if (!same)
        fprintf(stderr, "%s\n", text);
    snprintf(m->text, sizeof(m->text), "%s", text);
    m->percent = percent;
}

static void meter_end(const struct meter *m)
{
    if (m->drawn)
        fputs("\r\033[K", stderr);
}

static volatile sig_atomic_t interrupted; /* the signal that asked for the end */

static void on_signal(int sig)
{
    interrupted = sig;
}

static void catch_signals(sigset_t *before)
{
    struct sigaction sa = { .sa_handler = on_signal };
    sigset_t set;

    sigemptyset(&set);
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        sigaddset(&set, signals[i]);
        sigaction(signals[i], &sa, NULL);
    }
    sigprocmask(SIG_BLOCK, &set, before);
}

/* ---- build ---- */

/* The script: beside the sources for the lodge of a build folder, else where it was installed. */
static int find_script(const char *script, char path[PATH_MAX], struct error *err)
{
    char exe[PATH_MAX], probe[PATH_MAX + 16];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    exe[n > 0 ? n : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    snprintf(probe, sizeof(probe), "%s/build.ninja", exe);
    if (!access(probe, F_OK))
        n = snprintf(path, PATH_MAX, "%s/tools/image/%s", LODGE_SOURCE_DIR, script);
    else
        n = snprintf(path, PATH_MAX, "%s/../share/lodge/image/%s", exe, script);
    if (n < PATH_MAX && !access(path, R_OK))
        return 0;
    snprintf(path, PATH_MAX, "%s/image/%s", LODGE_DATADIR, script);
    return access(path, R_OK) ? error_set(err, ENOENT, "%s is missing; is Lodge installed (make install)?", path) : 0;
}

static void __attribute__((noreturn)) run_script(const char *script, const char *dir, int progress, int errors, const sigset_t *mask)
{
    setpgid(0, 0); /* a Ctrl-C comes to us alone, and we end them all */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, mask, NULL);
    int null = open("/dev/null", O_RDWR);
    /* Far from 0 to 3 first, so that none is overwritten before it is moved. */
    int p = fcntl(progress, F_DUPFD, 10), e = fcntl(errors, F_DUPFD, 10);
    if (null >= 0 && p >= 0 && e >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(e, 2) >= 0 && dup2(p, 3) >= 0) {
        close(p);
        close(e);
        execlp("sh", "sh", script, dir, NULL);
    }
    _exit(127);
}

struct script {
    pid_t pid;
    int progress, errors;
    char line[256];   /* of progress, as far as it came */
    char last[400];   /* line of standard error */
    char partial[400];
};

static int spawn_script(struct script *s, const char *script, const char *dir, const sigset_t *mask, struct error *err)
{
    int progress[2], errors[2];

    if (pipe2(progress, O_CLOEXEC) || pipe2(errors, O_CLOEXEC))
        return error_set(err, errno, "no pipe: %s", strerror(errno));
    s->pid = fork();
    if (s->pid < 0)
        return error_set(err, errno, "no process can be started: %s", strerror(errno));
    if (!s->pid)
        run_script(script, dir, progress[1], errors[1], mask);
    setpgid(s->pid, s->pid);
    close(progress[1]);
    close(errors[1]);
    s->progress = progress[0];
    s->errors = errors[0];
    return 0;
}

/* Appends what can be read and hands over whole lines. False: the end. */
static bool read_lines(int fd, char *line, size_t size, void (*each)(void *to, const char *line), void *to)
{
    char data[512];
    ssize_t n = read(fd, data, sizeof(data));

    for (ssize_t i = 0; i < n; i++) {
        size_t len = strlen(line);
        if (data[i] == '\n') {
            each(to, line);
            line[0] = 0;
        } else if (len + 1 < size) {
            line[len] = data[i];
            line[len + 1] = 0;
        }
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

static void on_progress(void *to, const char *line)
{
    char *text;
    long percent = strtol(line, &text, 10);

    if (text != line)
        meter_show(to, (int)MIN(MAX(percent, 0), 100), text + strspn(text, " "));
}

static void on_error(void *to, const char *line)
{
    if (*line)
        snprintf(to, 400, "%s", line);
}

/* Runs the script to its end, or ends it. 0, -EINTR, or its failure in err. */
static int follow_script(struct script *s, struct meter *meter, const sigset_t *mask, struct error *err)
{
    struct timespec grace = { 10, 0 };
    struct pollfd fds[2] = { { s->progress, POLLIN, 0 }, { s->errors, POLLIN, 0 } };
    bool told = false;
    int status;

    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        int n = ppoll(fds, 2, told ? &grace : NULL, mask);
        if (n < 0 && errno != EINTR)
            break;
        if (interrupted && !told) {
            kill(-s->pid, SIGTERM); /* mmdebstrap removes what it made */
            kill(-s->pid, SIGCONT);
            told = true;
        } else if (told && n == 0) {
            kill(-s->pid, SIGKILL);
        }
        if (n > 0 && fds[0].revents && !read_lines(s->progress, s->line, sizeof(s->line), on_progress, meter))
            fds[0].fd = -1;
        if (n > 0 && fds[1].revents && !read_lines(s->errors, s->partial, sizeof(s->partial), on_error, s->last))
            fds[1].fd = -1;
    }
    while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(s->progress);
    close(s->errors);
    on_error(s->last, s->partial);
    if (interrupted)
        return error_set(err, EINTR, "interrupted; nothing is left of it");
    if (!status)
        return 0;
    return error_set(err, EIO, "%s", s->last[0] ? s->last : "the build failed and does not say why");
}

static void keep_log(const struct image_draft *d, struct error *err)
{
    char from[PATH_MAX + 8], to[PATH_MAX + IMAGE_NAME_MAX + 16], home[PATH_MAX];
    struct error what = *err;
    struct stat st;

    if (image_home(home, NULL))
        return;
    snprintf(from, sizeof(from), "%s/log", d->dir);
    snprintf(to, sizeof(to), "%s/build-%.63s.log", home, d->name);
    if (!stat(from, &st) && st.st_size && !rename(from, to))
        error_set(err, EIO, "%.300s (%.180s has all)", what.text, to);
}

static int build(const struct image_options *o)
{
    const char *name = o->name ? o->name : "debian";
    struct image image;
    struct image_draft draft;
    struct script script = { 0 };
    struct meter meter = { "", -1, false };
    struct error err = { "" };
    char path[PATH_MAX];
    sigset_t mask;

    if (!o->force && !image_find(name, &image, &err)) {
        printf("The image %s is there (%s); --force builds it anew.\n", name, image.system);
        return STATUS_OK;
    }
    err.text[0] = 0;
    catch_signals(&mask);
    int r = image_begin(&draft, name, o->force, &err);
    if (!r)
        r = find_script("debian/build", path, &err);
    if (o->size) { /* lodge's sizes count MiB without a suffix, and know MiB; numfmt does not */
        char bytes[24];
        u64 v = 0;
        (void)!parse_size(o->size, &v);
        snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)v);
        setenv("IMAGE_SIZE", bytes, 1);
    }
    if (o->packages)
        setenv("IMAGE_PACKAGES", o->packages, 1);
    if (!r)
        r = spawn_script(&script, path, draft.dir, &mask, &err);
    if (!r)
        r = follow_script(&script, &meter, &mask, &err);
    meter_end(&meter);
    if (r && r != -EINTR && draft.lock_fd >= 0)
        keep_log(&draft, &err);
    if (!r)
        r = image_commit(&draft, &err);
    image_draft_end(&draft);
    if (!r)
        r = image_find(name, &image, &err);
    if (r)
        return failed(r, &err);
    printf("The image %s is ready: %s, %llu MiB.\n", name, image.system, (unsigned long long)(image.allocated >> 20));
    return STATUS_OK;
}

/* ---- import ---- */

struct import_progress {
    struct block_progress progress;
    struct meter meter;
};

static bool tell(struct block_progress *p, u64 done, u64 total)
{
    struct import_progress *i = container_of(p, struct import_progress, progress);
    sigset_t pending;

    meter_show(&i->meter, total ? (int)(done * 100 / total) : 0, "Copying the disk");
    return !sigpending(&pending) && (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) ||
                                     sigismember(&pending, SIGHUP));
}

/* debian-12-genericcloud-amd64.qcow2 is debian-12-genericcloud-amd64; empty if nothing of it can be a name. */
static void name_of_file(const char *file, char name[IMAGE_NAME_MAX + 1])
{
    const char *base = strrchr(file, '/');
    size_t n = 0;

    base = base ? base + 1 : file;
    size_t len = strrchr(base, '.') ? (size_t)(strrchr(base, '.') - base) : strlen(base);
    for (size_t i = 0; i < len && n < IMAGE_NAME_MAX; i++) {
        char c = base[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            c = '-';
        if (c != '-' || (n && name[n - 1] != '-'))
            name[n++] = c;
    }
    while (n && name[n - 1] == '-')
        n--;
    name[n] = 0;
}

static int import(const struct image_options *o, const char *file)
{
    struct import_progress p = { .progress.tell = tell, .meter.percent = -1 };
    struct image image;
    struct error err = { "" };
    char name[IMAGE_NAME_MAX + 1], finder[PATH_MAX];
    sigset_t mask;

    name_of_file(file, name);
    if (!o->name && !name[0])
        return usage_error("image import: no name can be made of %s; give one with --name", file);
    int r = find_script("kernel", finder, &err);
    catch_signals(&mask);
    if (!r)
        r = image_import(file, o->name ? o->name : name, finder, &p.progress, &image, &err);
    meter_end(&p.meter);
    if (r == -EINTR)
        error_set(&err, EINTR, "interrupted; nothing is left of it");
    if (r)
        return failed(r, &err);
    printf("The image %s is ready: %llu MiB%s.\n", image.name, (unsigned long long)(image.allocated >> 20),
           image.kernel[0] ? "" : "; no kernel was found in it: \"lodge run\" starts it by its boot loader");
    return STATUS_OK;
}

/* ---- ls ---- */

struct listing {
    bool json;
    u32 count;
};

static void human(char text[16], u64 bytes)
{
    if (bytes >= GiB(10))
        snprintf(text, 16, "%lluG", (unsigned long long)((bytes + GiB(1) / 2) >> 30));
    else
        snprintf(text, 16, "%lluM", (unsigned long long)((bytes + MiB(1) / 2) >> 20));
}

static void json_string(const char *key, const char *value)
{
    printf("\"%s\": \"", key);
    for (; *value; value++)
        printf((u8)*value < ' ' ? "\\u%04x" : *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
    putchar('"');
}

static int list_image(void *to, const struct image *i)
{
    struct listing *l = to;
    char size[16], disk[16];

    if (l->json) {
        printf("%s\n    {", l->count ? "," : "");
        json_string("name", i->name);
        printf(", \"size\": %llu, \"allocated\": %llu, ", (unsigned long long)i->size,
               (unsigned long long)i->allocated);
        json_string("system", i->system);
        printf(", ");
        json_string("disk", i->disk);
        putchar('}');
    } else {
        if (!l->count)
            printf("%-24s %8s %8s  %s\n", "IMAGE", "DISK", "ON HOST", "SYSTEM");
        human(size, i->size);
        human(disk, i->allocated);
        printf("%-24s %8s %8s  %s\n", i->name, size, disk, i->size ? i->system : "damaged");
    }
    l->count++;
    return 0;
}

static int list_machine(void *to, const struct image_machine *m)
{
    struct listing *l = to;
    char state[48] = "off";
    struct stat st = { 0 };

    (void)!stat(m->disk, &st);
    if (l->json) {
        printf("%s\n    {", l->count ? "," : "");
        json_string("name", m->name);
        printf(", ");
        json_string("image", m->image);
        printf(", \"kept\": %s, \"pid\": %d, \"ssh_port\": %d, \"allocated\": %llu}", m->keep ? "true" : "false",
               m->pid, m->ssh_port, (unsigned long long)st.st_blocks * 512);
    } else {
        char disk[16];
        if (!l->count)
            printf("%-24s %8s %8s  %s\n", "MACHINE", "STATE", "ON HOST", "IMAGE");
        human(disk, (u64)st.st_blocks * 512);
        if (m->pid)
            snprintf(state, sizeof(state), "ssh %d", m->ssh_port);
        printf("%-24s %8s %8s  %s%s\n", m->name, state, disk, m->image, m->keep ? "" : ", thrown away at the end");
    }
    l->count++;
    return 0;
}

static int ls(const struct image_options *o)
{
    struct listing images = { o->json, 0 }, machines = { o->json, 0 };
    struct error err = { "" };

    if (o->json)
        printf("{\n  \"images\": [");
    int r = image_each(list_image, &images, &err);
    if (o->json)
        printf("],\n  \"machines\": [");
    else if (!r && !images.count)
        puts("There are no images; \"lodge image build debian\" makes one.");
    if (!r)
        r = image_machine_each(list_machine, &machines, &err);
    if (o->json)
        puts("]\n}");
    return r ? failed(r, &err) : STATUS_OK;
}

/* ---- the verb ---- */

/* Moves the words that are no options before the others; returns how many. */
static int words_first(const struct option_def *table, int argc, char **argv)
{
    int words = 0;

    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--", 2)) {
            for (const struct option_def *o = table; o->name; o++)
                if (!strcmp(o->name, argv[i] + 2) && o->arg && o->arg[0] != '[')
                    i++;
            continue;
        }
        char *word = argv[i];
        memmove(argv + words + 2, argv + words + 1, (size_t)(i - words - 1) * sizeof(*argv));
        argv[++words] = word;
    }
    return words;
}

int cli_image(int argc, char **argv)
{
    static const char *const verbs_of_image[] = { "build", "import", "ls", "rm", NULL };
    static const struct option_def *const tables[] = { build_options, import_options, ls_options, rm_options };
    static const int wanted[] = { 1, 1, 0, 1 };
    static const char *const usage[] = { "build debian", "import FILE", "ls", "rm NAME" };
    struct image_options o = { 0 };
    struct error err = { "" };
    int v = 0;

    if (argc < 2)
        return usage_error("image build, import, ls or rm; see \"lodge help image\"");
    while (verbs_of_image[v] && strcmp(verbs_of_image[v], argv[1]))
        v++;
    if (!verbs_of_image[v]) {
        const char *best = suggest(argv[1], verbs_of_image);
        return best ? usage_error("unknown command \"image %s\"; did you mean \"lodge image %s\"?", argv[1], best)
                    : usage_error("unknown command \"image %s\"; it is build, import, ls or rm", argv[1]);
    }
    argc--;
    argv++;
    int words = words_first(tables[v], argc, argv);
    if (options_parse(tables[v], argc - words, argv + words, &o, &err))
        return usage_error("image %s: %s", verbs_of_image[v], err.text);
    if (words != wanted[v])
        return usage_error("it is \"lodge image %s\"; see \"lodge help image\"", usage[v]);
    switch (v) {
    case 0:
        if (strcmp(argv[1], "debian"))
            return usage_error("image build %s: only debian can be built; \"lodge image import FILE\" takes others",
                               argv[1]);
        return build(&o);
    case 1:
        return import(&o, argv[1]);
    case 2:
        return ls(&o);
    default: {
        int r = o.kept ? image_machine_remove(argv[1], &err) : image_remove(argv[1], o.force, &err);
        return r ? failed(r, &err) : STATUS_OK;
    }
    }
}
