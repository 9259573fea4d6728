/* SPDX-License-Identifier: Apache-2.0 */
/* media.c - "lodge media": puts another disc into a CD or floppy drive of a running machine. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/api_client.h"
#include "cli/cli.h"

void help_media(void)
{
    puts("Usage: lodge media NAME|SOCKET DRIVE FILE|none [--force] [--readonly]\n\n"
         "Puts another disc into a drive of a running machine, or takes it out.  DRIVE is cdrom0 to cdrom3, floppy0\n"
         "or floppy1, in the order of --cdrom and --floppy.  NAME is that of \"lodge run\", SOCKET the path given to\n"
         "--api-socket, with a slash in it.\n\n"
         "  --force     also if the guest has locked the drive\n"
         "  --readonly  a floppy disk that is write-protected");
}

int cli_media(int argc, char **argv)
{
    const char *word[3] = { NULL };
    bool force = false, readonly = false;
    struct http_answer a;
    struct error err;
    int n = 0;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--force"))
            force = true;
        else if (!strcmp(argv[i], "--readonly"))
            readonly = true;
        else if (argv[i][0] == '-' || n == 3)
            return usage_error("media: \"%s\" is too much; see \"lodge help media\"", argv[i]);
        else
            word[n++] = argv[i];
    }
    if (n < 3)
        return usage_error("it is \"lodge media NAME|SOCKET DRIVE FILE|none\"");
    /* The machine's process has its own working directory, so the path must be absolute. */
    char *path = strcmp(word[2], "none") ? realpath(word[2], NULL) : NULL;
    if (!path && strcmp(word[2], "none")) {
        log_error("%s: %s", word[2], strerror(errno));
        return STATUS_USAGE;
    }
    json_t *in =
        json_pack("{s:s, s:s?, s:b, s:b}", "device", word[1], "path", path, "readonly", readonly, "force", force);
    free(path);
    if (!in)
        return usage_error("media: %s is no UTF-8", word[2]);
    const int r = api_call(word[0], "PUT", "vm.change-media", in, API_PATIENCE_S, &a, &err);
    if (r) {
        log_error("%s", err.text);
        return api_exit(r, &a);
    }
    free(a.body);
    return STATUS_OK;
}
