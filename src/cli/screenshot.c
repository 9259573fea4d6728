/* SPDX-License-Identifier: Apache-2.0 */
/* screenshot.c - "lodge screenshot": saves what a machine's screen shows as a PNG file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/api_client.h"
#include "cli/cli.h"

void help_screenshot(void)
{
    puts("Usage: lodge screenshot NAME|SOCKET FILE.png\n\n"
         "Writes what the machine's screen shows as a PNG picture.  NAME is that of \"lodge run\", SOCKET the path\n"
         "given to --api-socket, with a slash in it.  FILE.png - is standard output.");
}

int cli_screenshot(int argc, char **argv)
{
    struct http_answer a;
    struct error err;

    if (argc != 3 || (argv[1][0] == '-' && argv[1][1]) || (argv[2][0] == '-' && argv[2][1]))
        return usage_error("it is \"lodge screenshot NAME|SOCKET FILE.png\"");
    const int r = api_call(argv[1], "GET", "vm.screenshot", NULL, API_PATIENCE_S, &a, &err);
    if (r) {
        log_error("%s", err.text);
        return api_exit(r, &a);
    }
    const bool out = !strcmp(argv[2], "-");
    FILE *f = out ? stdout : fopen(argv[2], "we");
    bool ok = f && fwrite(a.body, 1, a.size, f) == a.size;
    struct stat st;
    const bool file = f && !fstat(fileno(f), &st) && S_ISREG(st.st_mode);
    ok = f && !(out ? fflush(f) : fclose(f)) && ok;
    if (!ok)
        log_error("%s: %s", argv[2], strerror(errno));
    if (!ok && file && !out)
        unlink(argv[2]); /* half a picture is of no use */
    free(a.body);
    return ok ? STATUS_OK : STATUS_FAILED;
}
