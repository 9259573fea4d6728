/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - finds the verb and runs it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/signals.h"
#include "cli/cli.h"

const struct verb verbs[] = {
    { "run", "run a virtual machine on this terminal", cli_run, help_run },
    { "image", "build, import, list and remove images of installed systems", cli_image, help_image },
    { "ssh", "a shell or a command in a machine that runs", cli_ssh, help_ssh },
    { "cp", "copy files into such a machine and out of it", cli_cp, help_cp },
    { "disk", "make, look at and change disk images", cli_disk, help_disk },
    { "doctor", "say what this host offers and which engine would be used", cli_doctor, help_doctor },
    { "screenshot", "the screen of a running machine, as a picture", cli_screenshot, help_screenshot },
    { "screen", "what it says in a text mode; wait for words", cli_screen, help_screen },
    { "sendkey", "press keys on its keyboard", cli_sendkey, help_sendkey },
    { "type", "type text on it", cli_type, help_type },
    { "media", "change its CD or floppy disk", cli_media, help_media },
    { "nmi", "press its NMI button", cli_nmi, help_nmi },
    { "help", "explain a command", cli_help, help_help },
    { "version", "print the version", cli_version, help_version },
    { NULL, NULL, NULL, NULL },
};

const struct verb *verb_find(const char *name)
{
    for (const struct verb *v = verbs; v->name; v++)
        if (!strcmp(v->name, name))
            return v;
    return NULL;
}

int usage_error(const char *fmt, ...)
{
    struct error e;
    char text[sizeof(e.text)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    error_set(&e, 0, "%s", text); /* one line, whatever is quoted in it */
    fprintf(stderr, "lodge: %s\n", e.text);
    return STATUS_USAGE;
}

int cli_failed(int r, struct error *err)
{
    if (!err->text[0])
        error_set(err, -r, "%s", strerror(-r));
    log_error("%s", err->text);
    return r == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
}

static int unknown_verb(const char *name)
{
    const char *names[ARRAY_SIZE(verbs)] = { NULL };

    for (size_t i = 0; verbs[i].name; i++)
        names[i] = verbs[i].name;
    const char *best = suggest(name, names);
    if (best)
        return usage_error("unknown command \"%s\"; did you mean \"lodge %s\"?", name, best);
    return usage_error("unknown command \"%s\"; \"lodge help\" lists them", name);
}

/* Descriptors 0 to 2 must be in use. Otherwise the next file that is opened becomes the standard output of some
   code. */
static void hold_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    const struct verb *v;
    int status;

    hold_standard_descriptors();
    signals_as_error(SIGXFSZ);
    if (argc < 2)
        return usage_error("a command is needed, for example \"lodge run --kernel FILE\"; see \"lodge help\"");
    if (!strcmp(argv[1], "netd"))
        return cli_netd(argc - 1, argv + 1);
    if (!strcmp(argv[1], "displayd"))
        return cli_displayd(argc - 1, argv + 1);
    if (!strcmp(argv[1], "folderd"))
        return cli_folderd(argc - 1, argv + 1);
    if (!strcmp(argv[1], "directd"))
        return cli_directd(argc - 1, argv + 1);
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
        v = verb_find("version");
    else if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        v = verb_find("help");
    else
        v = verb_find(argv[1]);
    if (!v)
        return unknown_verb(argv[1]);
    if (v->run != cli_ssh && v->run != cli_cp) /* ssh and cp become the user's own ssh */
        close_unnamed_descriptors(argc, argv);
    if (argc > 2 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"))) {
        v->help();
        status = STATUS_OK;
    } else {
        status = v->run(argc - 1, argv + 1);
    }
    if ((fflush(stdout) || ferror(stdout)) && status == STATUS_OK) {
        fprintf(stderr, "lodge: cannot write to standard output\n");
        status = STATUS_FAILED;
    }
    return status;
}
