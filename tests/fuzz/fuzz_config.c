/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_config.c - vm.yaml, and JSON, from a stranger: a configuration, which says the same when it is written and read
 * again, or one sentence with a place in the file.
 */
#include <stdlib.h>
#include <string.h>

#include "config/fields.h"
#include "config/json.h"
#include "fuzz.h"

static void same_again(const struct vm_config *c)
{
    struct vm_config again;
    struct error err = { .code = 0 };
    char *text = NULL;
    size_t size = 0;
    json_t *before = config_to_json(c), *after = NULL;
    FILE *f = open_memstream(&text, &size);

    if (!f || config_to_yaml(c, f) || fclose(f) || config_init(&again))
        abort();
    if (size && config_from_yaml(&again, "written", text, size, &err)) {
        fprintf(stderr, "%s\n%s\n", err.text, text);
        abort();
    }
    after = config_to_json(&again);
    if (!json_equal(before, after)) {
        fprintf(stderr, "%s\n", text);
        abort();
    }
    json_decref(before);
    json_decref(after);
    config_free(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vm_config c;
    struct error err = { .code = 0 };

    if (!size)
        return 0;
    if (config_init(&c))
        abort();
    if (data[0] & 1) {
        json_t *j = json_loadb((const char *)data + 1, size - 1, 0, NULL);
        const int rc = j ? config_from_json(&c, j, CONFIG_TYPED, &err) : 0;
        if (j && !rc != !err.text[0])
            abort();
        if (j && !rc)
            same_again(&c);
        json_decref(j);
    } else {
        const int rc = config_from_yaml(&c, "f", (const char *)data + 1, size - 1, &err);
        if (!rc != !err.text[0])
            abort();
        if (!rc)
            same_again(&c);
    }
    err.text[0] = 0;
    if (config_check(&c, &err) && !err.text[0])
        abort();
    config_free(&c);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {
        "0cpus: 2\nmemory: 1G\nkernel: vmlinuz\ndisks:\n  - path: a.img\n    queues: 2\n    readonly: on\n  - b.qcow2\n",
        "0nets: [user, {backend: \"tap:t0\", queues: 4, hostfwd: [\"tcp::1-:2\"]}]\nboot: {order: [net, disk], menu: 3}\n",
        "0balloon: 1G\nvsock: {socket: /s, cid: 4}\nserial: [null, \"file:x\"]\nfirmware: {file: uefi, vars: v}\nusb: [tablet]\n",
        "1{\"cpus\":2,\"memory\":1073741824,\"disks\":[{\"path\":\"a\",\"bus\":\"ide\"}],\"rng\":true,\"balloon\":{\"size\":4096}}",
        "0a: &x [1]\nb: *x\n", "0cpus: !!int 2\n", "0cpus: 1\n---\ncpus: 2\n", "0? [a]\n: b\n", "0shares:\n- path: /x\n  tag: y\n  readonly: true\n",
    };
    if (i >= ARRAY_SIZE(seeds) || strlen(seeds[i]) > cap)
        return 0;
    memcpy(buf, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}
