/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_table.c - one table, six readers. This program has the configuration's sources built with another range of one
 * entry (CONFIG_MAX_CPUS 7, tests/unit/meson.build): options, their help, YAML, JSON, schema and manual page follow.
 */
#include <errno.h>
#include <stdlib.h>

#include "config/json.h"
#include "said.h"
#include "test.h"

static char *printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    print(f);
    fclose(f);
    return text;
}

static void print_schema(FILE *f)
{
    if (config_describe_schema(f))
        abort();
}

static int from_yaml(const char *text, struct error *err)
{
    struct vm_config c;
    const int rc = config_init(&c) ? -ENOMEM : config_from_yaml(&c, "vm.yaml", text, strlen(text), err);
    config_free(&c);
    return rc;
}

static int from_json(const char *text, struct error *err)
{
    struct vm_config c;
    json_t *j = json_loads(text, 0, NULL);
    const int rc = config_init(&c) || !j ? -ENOMEM : config_from_json(&c, j, CONFIG_TYPED, err);
    json_decref(j);
    config_free(&c);
    return rc;
}

TEST(one_range_six_readers)
{
    struct vm_config c;
    struct error err = { "" };
    char help[256];

    REQUIRE(!config_init(&c));
    CHECK(!said(&c, "cpus", "7", &err) && c.cpus == 7);
    CHECK_EQ(said(&c, "cpus", "8", &err), -EINVAL);
    CHECK_STR(err.text, "cpus: it is a number from 1 to 7, and not \"8\"");
    config_option_help(config_find(config_fields, "cpus"), help, sizeof help);
    CHECK_STR(help, "number of CPUs, 1 to 7 (1)");
    CHECK(!from_yaml("cpus: 7\n", &err));
    CHECK_EQ(from_yaml("memory: 1G\ncpus: 8\n", &err), -EINVAL);
    CHECK_STR(err.text, "vm.yaml:2:1: cpus: it is a number from 1 to 7, and not \"8\" (the line is: cpus: 8)");
    CHECK(!from_json("{\"cpus\":7}", &err));
    CHECK_EQ(from_json("{\"cpus\":8}", &err), -EINVAL);
    CHECK_STR(err.text, "cpus: it is a number from 1 to 7, and not \"8\"");
    char *schema = printed(print_schema), *man = printed(config_describe_man);
    json_t *s = json_loads(schema, 0, NULL);
    json_t *cpus = json_object_get(json_object_get(s, "properties"), "cpus");
    CHECK_EQ(json_integer_value(json_object_get(cpus, "maximum")), 7);
    CHECK(strstr(man, "How many CPUs.\nA number from 1 to 7; 1 by default."));
    json_decref(s);
    free(schema);
    free(man);
    config_free(&c);
}

TEST(places)
{
    static const struct { const char *text, *says; } bad[] = {
        { "disks:\n  - path: a\n  - path: b\n    queues: 9\n", "vm.yaml:4:5: disks[1].queues: it is a number from 1 to 8" },
        { "disks:\n  - path: a\n    qeues: 2\n", "vm.yaml:3:5: disks[0].qeues: there is no such key; did you mean queues? (the line is: qeues: 2)" },
        { "nets: [user, {backend: tap}]\n", "vm.yaml:1:15: nets[1].backend: it is one of user" },
        { "memroy: 1G\n", "vm.yaml:1:1: memroy: there is no such key; did you mean memory?" },
        { "cpus: 1\ncpus: 2\n", "vm.yaml:2:1: this key is there twice" },
        { "serial: stdio\n", "vm.yaml:1:1: serial: it is a list" },
        { "disks:\n  - readonly: on\n", "disks[0]: it needs \"path\"" },
        { "cpus: &a 1\n", "vm.yaml:1:7: anchors, aliases and tags" },
        { "cpus: *a\n", "vm.yaml:1:7: anchors, aliases and tags" },
        { "cpus: !!int 1\n", "anchors, aliases and tags" },
        { "cpus: 1\n---\ncpus: 2\n", "vm.yaml:2:1: there is a second document" },
        { "cpus: [1\n", "vm.yaml:2:1: did not find expected" },
        { "", "there is nothing in it" },
        { "- 1\n", "a configuration is a group of keys" },
        { "net:\n\t- user\n", "vm.yaml:2:1: found character that cannot start any token" },
        { "a: [[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]\n", "nested too deeply" },
        { "kernel: \"a\\0b\"\n", "a value is a text" },
    };
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = { "" };
        CHECK(from_yaml(bad[i].text, &err));
        if (!strstr(err.text, bad[i].says))
            test_fail(__FILE__, __LINE__, "%s: \"%s\"", bad[i].text, err.text);
    }
}

/* JSON has types, and a number is no text. */
TEST(typed)
{
    struct error err = { "" };

    CHECK_EQ(from_json("{\"cpus\":\"2\"}", &err), -EINVAL);
    CHECK_EQ(from_json("{\"kernel\":2}", &err), -EINVAL);
    CHECK_EQ(from_json("{\"rng\":\"on\"}", &err), -EINVAL);
    CHECK_EQ(from_json("{\"cpus\":-1}", &err), -EINVAL);
    CHECK_EQ(from_json("{\"memory\":4097}", &err), -EINVAL);
    CHECK(!from_json("{\"memory\":\"1G\",\"rng\":true,\"disks\":[\"a\"],\"balloon\":true}", &err));
}

/* What is written reads the same, and the defaults are not written. */
TEST(written_and_read)
{
    static const struct { const char *option, *value; } options[] = {
        { "kernel", "/k" }, { "disk", "a,,b.img,bus=ide,queues=2,discard=off" }, { "disk", "nbd://h/x,readonly" },
        { "net", "tap:t0,mac=52:54:00:12:34:56,rate=10M:1M,queues=2" }, { "net", "user,hostfwd=tcp::1-:2,hostfwd=udp::3-:4,restrict" },
        { "share", "/tmp/x:tag,ro" }, { "share", "/home" }, { "boot", "net,disk,menu" }, { "balloon", "256M" }, { "vsock", "/s,cid=9" },
        { "code-cache", "32M,after=3" }, { "display", "vnc:unix:/v,password=p" }, { "usb", "tablet" }, { "input", "keyboard:unix:/k" },
        { "append", "a: \"b\" # c" }, { "serial", "null" }, { "device", "testdev,x=1,y=2" }, { "cdrom", "none,bus=ahci" },
    };
    struct vm_config c, again;
    struct error err = { "" };
    char *text = NULL;
    size_t size;

    REQUIRE(!config_init(&c) && !config_init(&again));
    for (u32 i = 0; i < ARRAY_SIZE(options); i++)
        if (said(&c, options[i].option, options[i].value, &err))
            test_fail(__FILE__, __LINE__, "--%s %s: %s", options[i].option, options[i].value, err.text);
    CHECK_STR(c.disk[0].path, "a,b.img");
    CHECK(c.nboot == 2 && c.boot[0] == CONFIG_BOOT_NET && c.boot_menu == 3 && c.net[0].burst == MiB(1) && c.balloon);
    CHECK_STR(c.device[0].options, "x=1,y=2");
    CHECK_STR(c.input[0].from, "unix:/k");
    FILE *f = open_memstream(&text, &size);
    REQUIRE(f && !config_to_yaml(&c, f) && !fclose(f));
    CHECK(!strstr(text, "cpus") && !strstr(text, "memory"));
    if (config_from_yaml(&again, "again", text, size, &err))
        test_fail(__FILE__, __LINE__, "%s\n%s", err.text, text);
    json_t *a = config_to_json(&c), *b = config_to_json(&again);
    CHECK(json_equal(a, b));
    json_decref(a);
    json_decref(b);
    free(text);
    config_free(&c);
    config_free(&again);
}

TEST(rules)
{
    static const struct { const char *options[8], *says; } bad[] = {
        { { "memory", "1G" }, "kernel: a machine needs something to start" },
        { { "kernel", "k", "firmware", "bios" }, "firmware: a kernel boots without it" },
        { { "machine", "micro", "disk", "d" }, "machine: micro has no firmware" },
        { { "machine", "micro", "kernel", "k", "disk", "d", "disk", "e,bus=ahci" }, "disks[1].bus: the machine micro has no IDE" },
        { { "disk", "d", "append", "x" }, "append: it is for a kernel" },
        { { "disk", "d", "vga", "none", "display", "vnc:unix:/x" }, "display: a machine without a graphics adapter" },
        { { "disk", "d", "console", "stdio" }, "serial: only one can have the terminal" },
        { { "disk", "d", "share", "/a/x", "share", "/b/x" }, "shares[1]: another folder has the tag x" },
        { { "disk", "d", "net", "none", "net", "tap:t,hostname=h" }, "nets[1].hostname: only the network \"user\"" },
        { { "disk", "d", "boot", "disk,disk" }, "boot: something is there twice" },
    };
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        struct vm_config c;
        struct error err = { "" };
        REQUIRE(!config_init(&c));
        for (u32 k = 0; k < 8 && bad[i].options[k]; k += 2)
            CHECK(!said(&c, bad[i].options[k], bad[i].options[k + 1], &err));
        CHECK(config_check(&c, &err));
        const struct config_field *key, *about = NULL;
        size_t len;
        u32 item;
        about = config_path_field(err.text, &item, &key, &len);
        if (!strstr(err.text, bad[i].says) || !about)
            test_fail(__FILE__, __LINE__, "%u: \"%s\"", i, err.text);
        config_free(&c);
    }
}

TEST(paths_count_from_the_file)
{
    struct vm_config c;
    struct error err = { "" };

    REQUIRE(!config_init(&c));
    CHECK(!said(&c, "disk", "a.img", &err) && !said(&c, "disk", "nbd://h/x", &err) && !said(&c, "disk", "/abs", &err));
    CHECK(!said(&c, "firmware", "uefi,vars=v", &err) && !said(&c, "serial", "file:out", &err) && !said(&c, "display", "vnc:unix:s", &err));
    CHECK(!config_rebase(&c, "/m"));
    CHECK_STR(c.disk[0].path, "/m/a.img");
    CHECK_STR(c.disk[1].path, "nbd://h/x");
    CHECK_STR(c.disk[2].path, "/abs");
    CHECK_STR(c.firmware, "uefi");
    CHECK_STR(c.firmware_vars, "/m/v");
    CHECK_STR(c.serial[1], "file:/m/out");
    CHECK_STR(c.display, "vnc:unix:/m/s");
    config_free(&c);
}
