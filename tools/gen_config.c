/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_config - what is made of the table of fields (src/config/fields.h) when Lodge is built:
 *
 *   gen_config man IN OUT       the manual page IN, with the options in place of its line "@options@"
 *   gen_config completion IN OUT   the completion IN, with a case for each option in place of "@options@"
 *   gen_config schema - OUT     the JSON Schema of vm.yaml
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/fields.h"

/* "cpus - a b" becomes a case of the script. */
static void completion(FILE *to)
{
    char *text = NULL, *line;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);

    if (!lines)
        exit(1);
    config_describe_completion(lines);
    fclose(lines);
    for (char *rest = text; (line = strsep(&rest, "\n")) && *line;) {
        char *words = line, *option = strsep(&words, " "), *kind = strsep(&words, " ");
        const bool files = !strcmp(kind, "file"), open = words && strchr(words, ':');
        fprintf(to, "        --%s)%s", option, open ? " compopt -o nospace 2>/dev/null;" : "");
        if (words)
            fprintf(to, " _lodge_offer %s%s", words, files ? " &&" : "");
        fprintf(to, "%s ;;\n", files ? " _lodge_files" : "");
    }
    free(text);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return fprintf(stderr, "usage: gen_config man|completion|schema IN OUT\n"), 2;
    FILE *in = strcmp(argv[2], "-") ? fopen(argv[2], "r") : NULL, *out = fopen(argv[3], "w");
    char line[1024];

    if (!out || (strcmp(argv[2], "-") && !in))
        return perror(out ? argv[2] : argv[3]), 1;
    while (in && fgets(line, sizeof line, in)) {
        if (!strstr(line, "@options@"))
            fputs(line, out);
        else if (!strcmp(argv[1], "man"))
            config_describe_man(out);
        else
            completion(out);
    }
    if (!strcmp(argv[1], "schema") && config_describe_schema(out))
        return fprintf(stderr, "gen_config: the schema cannot be written\n"), 1;
    return fclose(out) != 0;
}
