/* SPDX-License-Identifier: Apache-2.0 */
/* type.c - "lodge type": types text on the machine's keyboard. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/api_client.h"
#include "cli/cli.h"

void help_type(void)
{
    puts("Usage: lodge type NAME|SOCKET [--enter] [--] TEXT...\n\n"
         "Types the words, with blanks between them, on the machine's US keyboard, as fast as the guest takes the\n"
         "keys.  NAME is that of \"lodge run\", SOCKET the path given to --api-socket, with a slash in it.  TEXT - is\n"
         "read from standard input.\n\n"
         "  --enter  the return key after it");
}

/* Returns the words, or all of standard input. */
static char *gather(char **word, int n, bool enter)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return NULL;
    if (n == 1 && !strcmp(word[0], "-"))
        for (int c; (c = getchar()) != EOF;)
            putc(c, f);
    else
        for (int i = 0; i < n; i++)
            fprintf(f, "%s%s", i ? " " : "", word[i]);
    if (enter)
        putc('\n', f);
    return fclose(f) ? NULL : text;
}

int cli_type(int argc, char **argv)
{
    struct http_answer a = { 0 };
    struct error err;
    bool enter = false;
    int i = 2;

    if (argc < 2 || argv[1][0] == '-')
        return usage_error("it is \"lodge type NAME|SOCKET [--enter] TEXT...\"");
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        if (!strcmp(argv[i], "--")) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--enter"))
            return usage_error("type: unknown option %s; text that begins with - comes after --", argv[i]);
        enter = true;
    }
    if (i == argc && !enter)
        return usage_error("type: what? \"lodge type NAME|SOCKET [--enter] TEXT...\"");
    char *text = gather(argv + i, argc - i, enter);
    json_t *in = text ? json_pack("{s:s}", "text", text) : NULL;
    if (text && !in) {
        free(text);
        return usage_error("type: the text is no UTF-8");
    }
    const int r = text ? api_call(argv[1], "PUT", "vm.type", in, 0, &a, &err) : error_set(&err, ENOMEM, "out of memory");
    free(text);
    if (r) {
        log_error("%s", err.text);
        return api_exit(r, &a);
    }
    free(a.body);
    return STATUS_OK;
}
