/* SPDX-License-Identifier: Apache-2.0 */
/*
 * screen.c - "lodge screen": prints the text of a machine's screen in a text mode, at once or when a pattern appears.
 * It also waits for a machine that is about to start, because a script starts both at the same time.
 */
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "cli/api_client.h"
#include "cli/cli.h"

enum { LOOK_MS = 100, TIMEOUT_S = 60 };

struct screen_options {
    const char *machine, *pattern;
    u64 timeout;
    bool json;
};

static int set_machine(void *to, const char *value, struct error *err)
{
    struct screen_options *o = to;
    if (o->machine)
        return error_set(err, EINVAL, "one machine at a time");
    o->machine = value;
    return 0;
}
static int set_text(void *to, const char *value, struct error *err) { return 0; } /* this is the default */
static int set_json(void *to, const char *value, struct error *err)
{
    ((struct screen_options *)to)->json = true;
    return 0;
}
static int set_wait(void *to, const char *value, struct error *err)
{
    ((struct screen_options *)to)->pattern = value;
    return 0;
}
static int set_timeout(void *to, const char *value, struct error *err)
{
    if (parse_number(value, 0, 86400, &((struct screen_options *)to)->timeout))
        return error_set(err, EINVAL, "--timeout %s: seconds, at most 86400", value);
    return 0;
}

static const struct option_def options[] = {
    { "", NULL, NULL, set_machine },
    { "text", NULL, "the characters of a text mode, in UTF-8 (the default)", set_text },
    { "json", NULL, "the same with the screen's size and the cursor", set_json },
    { "wait", "PATTERN", "until the machine is there and its screen has a line that\nmatches the extended regular expression", set_wait },
    { "timeout", "SECONDS", "how long to wait (60); status 1 then", set_timeout },
    { NULL, NULL, NULL, NULL },
};

void help_screen(void)
{
    puts(
        "Usage: lodge screen NAME|SOCKET [OPTIONS]\n\n"
        "Prints what the machine's screen says in a text mode.  A screen of graphics has no characters, though there\n"
        "may be some to see: \"lodge screenshot\" has its picture.  NAME is that of \"lodge run\", SOCKET the path\n"
        "given to --api-socket, with a slash in it.\n");
    options_help(options);
    puts("\n  lodge screen vm --wait 'login:' --timeout 120 && lodge type vm --enter root");
}

static void print(const struct screen_options *o, const struct http_answer *a, json_t *screen)
{
    if (o->json)
        puts(a->body);
    else
        fputs(json_string_value(json_object_get(screen, "text")), stdout);
}

/* 1: the pattern was on the screen, and the text is printed. 0: not yet, perhaps with the reason in err. Or -errno.
   there: the machine has answered before. */
static int look(const struct screen_options *o, const regex_t *pattern, bool *there, u64 end, struct error *err)
{
    const u64 now = clock_ns();
    const u32 left = now < end ? (u32)((end - now) / 1000000000) : 0;
    struct http_answer a;

    err->text[0] = 0;
    const int r = api_call(o->machine, "GET", "vm.screen-text", NULL, MIN(left + 1, (u32)API_PATIENCE_S), &a, err);
    if (r && *there && !a.status && r != -EAGAIN)
        return error_set(err, EPIPE, "the machine has ended");
    if (r) /* it is about to start; or it shows graphics, and perhaps text later */
        return o->pattern && (a.status == HTTP_CONFLICT || api_nobody(r, &a)) ? 0 : r;
    *there = true;
    json_t *screen = json_loads(a.body, 0, NULL);
    const char *text = json_string_value(json_object_get(screen, "text"));
    int shown = text ? 1 : error_set(err, EIO, "the machine's answer is no screen");
    if (text && o->pattern)
        shown = !regexec(pattern, text, 0, NULL, 0);
    if (shown > 0)
        print(o, &a, screen);
    json_decref(screen);
    free(a.body);
    return shown;
}

int cli_screen(int argc, char **argv)
{
    struct screen_options o = { .timeout = TIMEOUT_S };
    struct error err = { "" };
    bool there = false;
    regex_t pattern;
    int r;

    if (options_parse(options, NULL, argc, argv, &o, &err))
        return usage_error("%s", err.text);
    if (!o.machine)
        return usage_error("whose screen? \"lodge screen NAME|SOCKET\"");
    if (o.pattern && regcomp(&pattern, o.pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE))
        return usage_error("--wait %s: no regular expression", o.pattern);
    const u64 end = clock_ns() + o.timeout * 1000000000ull;
    while (!(r = look(&o, &pattern, &there, end, &err)) && clock_ns() < end)
        usleep(LOOK_MS * 1000);
    if (o.pattern)
        regfree(&pattern);
    if (!r)
        log_error("the screen of %s did not show \"%s\" in %llu s%s%s", o.machine, o.pattern,
                  (unsigned long long)o.timeout, err.text[0] ? ": " : "", err.text);
    else if (r < 0 && there)
        log_error("the screen of %s never showed \"%s\": %s", o.machine, o.pattern, err.text);
    else if (r < 0)
        log_error("%s", err.text);
    return r > 0 ? STATUS_OK : STATUS_FAILED;
}
