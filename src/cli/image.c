/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.c - "lodge image import|ls|rm", and the choice among the commands of "lodge image"; build is in image_build.c.
 */
#include "cli/image_verbs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "block/tools.h"

static int set_name(void *to, const char *value, struct error *err)
{
    ((struct image_options *)to)->name = value;
    return image_name_valid(value)
               ? 0
               : error_set(err, EINVAL, "--name %s: a name has small letters, digits and \"-\"", value);
}

static int set_format(void *to, const char *value, struct error *err)
{
    enum block_format unused;

    ((struct image_options *)to)->format = value;
    return block_format_named(value, &unused, err);
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
    { "format", "raw|qcow2", "what the file is; raw: also if it does not look like a disk", set_format },
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
         "       lodge image import FILE [--name NAME] [--format FORMAT]\n"
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

/* Makes a name from a file's name: debian-12-genericcloud-amd64.qcow2 gives debian-12-genericcloud-amd64. It is
   empty if no part of the file's name can be a name. */
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
    int r = image_script("kernel", finder, &err);
    image_hold_signals(&mask);
    if (!r)
        r = image_import(&(struct image_import){ file, o->name ? o->name : name, o->format, finder, &p.progress }, &image,
                         &err);
    meter_end(&p.meter);
    if (r == -EINTR)
        error_set(&err, EINTR, "interrupted; nothing is left of it");
    if (r == -EMEDIUMTYPE) /* it is only a guess, and the user may know better */
        return cli_failed(error_add(&err, EINVAL, "; if it is one, say --format raw"), &err);
    if (r)
        return cli_failed(r, &err);
    printf("The image %s is ready: %llu MiB%s.\n", image.name, (unsigned long long)(image.allocated >> 20),
           image.kernel[0] ? "" : "; no kernel was found in it: \"lodge run\" starts it by its boot loader");
    return STATUS_OK;
}

/* ---- ls ---- */

struct listing {
    bool json;
    u32 count;
};

static void json_pair(const char *key, const char *value)
{
    printf("\"%s\": ", key);
    json_quoted(value);
}

static int list_image(void *to, const struct image *i)
{
    struct listing *l = to;
    char size[32], disk[32];

    if (l->json) {
        printf("%s\n    {", l->count ? "," : "");
        json_pair("name", i->name);
        printf(", \"size\": %llu, \"allocated\": %llu, ", (unsigned long long)i->size,
               (unsigned long long)i->allocated);
        json_pair("system", i->system);
        printf(", ");
        json_pair("disk", i->disk);
        putchar('}');
    } else {
        if (!l->count)
            printf("%-24s %8s %8s  %s\n", "IMAGE", "DISK", "ON HOST", "SYSTEM");
        printf("%-24s %8s %8s  ", i->name, size_text(i->size, size), size_text(i->allocated, disk));
        print_plain(i->size ? i->system : "damaged");
        putchar('\n');
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
        json_pair("name", m->name);
        printf(", ");
        json_pair("image", m->image);
        printf(", \"kept\": %s, \"pid\": %d, \"ssh_port\": %d, \"allocated\": %llu}", m->keep ? "true" : "false",
               m->pid, m->ssh_port, (unsigned long long)st.st_blocks * 512);
    } else {
        char disk[32];
        if (!l->count)
            printf("%-24s %8s %8s  %s\n", "MACHINE", "STATE", "ON HOST", "IMAGE");
        if (m->pid)
            snprintf(state, sizeof(state), "ssh %d", m->ssh_port);
        printf("%-24s %8s %8s  %s%s\n", m->name, state, size_text((u64)st.st_blocks * 512, disk), m->image,
               m->keep ? "" : ", thrown away at the end");
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
    return r ? cli_failed(r, &err) : STATUS_OK;
}

/* ---- the verb ---- */

/* Moves the words that are not options before the options; returns their number. */
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
    if (options_parse(tables[v], NULL, argc - words, argv + words, &o, &err))
        return usage_error("image %s: %s", verbs_of_image[v], err.text);
    if (words != wanted[v])
        return usage_error("it is \"lodge image %s\"; see \"lodge help image\"", usage[v]);
    switch (v) {
    case 0:
        if (strcmp(argv[1], "debian"))
            return usage_error("image build %s: only debian can be built; \"lodge image import FILE\" takes others",
                               argv[1]);
        return image_build(&o);
    case 1:
        return import(&o, argv[1]);
    case 2:
        return ls(&o);
    default: {
        int r = o.kept ? image_machine_remove(argv[1], &err) : image_remove(argv[1], o.force, &err);
        if (r == -ENOTEMPTY)
            error_add(&err, ENOTEMPTY, " (\"lodge image rm --kept\")");
        return r ? cli_failed(r, &err) : STATUS_OK;
    }
    }
}
