/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_options.c - what stands behind "lodge run": arguments, one after the other, each ended by a zero byte. Whatever they say,
 * all that the configuration points to are strings, or there is one sentence.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#include "cli/run_options.h"
#include "config/json.h"

enum { MAX_ARGS = 64 };

static void arguments(char **arg, u32 n)
{
    struct run_options *o = calloc(1, sizeof *o);
    struct error err = { .code = 0 };

    if (!o || config_init(&o->config))
        abort();
    const int rc = run_options_parse(o, (int)n, arg, &err);
    if (!rc != !err.text[0])
        abort();
    if (!rc && config_check(&o->config, &err))
        run_explain(o, &err);
    json_t *j = config_to_json(&o->config); /* all of it is read */
    if (!j)
        abort();
    json_decref(j);
    config_free(&o->config);
    free(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char verb[] = "run", *arg[MAX_ARGS + 1] = { verb };
    u32 n = 1;
    char *text = malloc(size + 1);

    memcpy(text, data, size);
    text[size] = 0;
    for (char *p = text; p < text + size && n < MAX_ARGS; p += strlen(p) + 1)
        arg[n++] = p;
    arguments(arg, n);
    free(text);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
#define SEED(text) { text, sizeof(text) }
    static const struct { const char *text; size_t size; } seeds[] = {
        SEED("--disk\0a,,b,format=qcow2,serial=x,errors=stop,queues=2\0--disk=nbd://h/x,cache=none,discard=off\0--cdrom\0none,bus=ahci"),
        SEED("--memory\0" "512M\0--cpus\0" "2\0--code-cache\0" "1M,after=0\0--boot\0disk,menu=3,net\0--firmware\0uefi,vars=v"),
        SEED("--share\0/tmp/:tag,ro\0--share\0/home\0--vsock\0/s,cid=4\0--floppy\0f,readonly\0--input\0tablet:unix:/x"),
        SEED("--stats=json:f\0--trace\0io:f\0--balloon=1G\0--serial\0stdio\0--parallel\0file:p\0--usb\0tablet\0--display\0vnc:h:1"),
        SEED("debian\0--keep\0name\0--disk-size\0" "10G\0--ssh-port\0" "2222\0--net\0user,model=e1000\0--api-socket\0/s\0--quiet"),
    };
    if (i >= ARRAY_SIZE(seeds) || seeds[i].size > cap)
        return 0;
    memcpy(buf, seeds[i].text, seeds[i].size);
    return seeds[i].size;
}
