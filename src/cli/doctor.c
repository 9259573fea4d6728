/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor.c - "lodge doctor": measures what this host offers, and says which engine "auto" would choose and why.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "cli/cli.h"
#include "cpu/cpuid.h"
#include "engine/directd.h"
#include "engine/engine.h"
#include "worker/room.h"

struct engine_report {
    const struct engine_ops *ops;
    bool usable;
    struct error why; /* if it is not usable */
    struct engine_caps caps;
};

struct report {
    char cpu[49];
    char kernel[80];
    unsigned long cpus;
    u64 memory, tsc_khz;
    bool kvm_present, kvm_permitted;
    struct error kvm_why; /* if /dev/kvm cannot be opened */
    struct engine_report kvm, soft;
    const struct engine_ops *choice;
    struct error choice_why;
    struct sandbox_report sandbox;
    bool namespaces;
    struct directd_report direct;
};

static void host_cpu_name(char name[49])
{
    u32 r[12] = { 0 }, top = __get_cpuid_max(0x80000000, NULL);

    for (u32 i = 0; i < 3 && top >= 0x80000004; i++)
        __cpuid(0x80000002 + i, r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
    memcpy(name, r, 48);
    name[48] = 0;
    size_t lead = strspn(name, " ");
    memmove(name, name + lead, strlen(name + lead) + 1);
    for (size_t n = strlen(name); n && name[n - 1] == ' '; n--)
        name[n - 1] = 0;
    if (!name[0])
        strcpy(name, "unknown processor");
}

/* Looks only whether /dev/kvm exists and may be opened. The engine's own probe says how good it is. */
static void look_at_kvm(struct report *r)
{
    struct stat st;

    if (stat("/dev/kvm", &st)) {
        error_set(&r->kvm_why, errno, "there is no /dev/kvm: the host's kernel or its owner offers none");
        return;
    }
    r->kvm_present = true;
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        r->kvm_permitted = true;
        close(fd);
    } else if (errno == EACCES || errno == EPERM) {
        error_set(&r->kvm_why, errno,
                  "permission denied: join its group (sudo usermod -aG kvm \"$USER\") and log in again");
    } else {
        error_set(&r->kvm_why, errno, "%s", strerror(errno));
    }
}

static void look_at_engine(struct engine_report *e, const struct engine_ops *ops)
{
    e->ops = ops;
    e->usable = !ops->probe(&e->caps, &e->why);
    if (!e->usable && !e->why.text[0])
        error_set(&e->why, EIO, "it does not say why");
}

/* Looks at the sandbox for the processes that serve networks and screens. */
static void look_at_sandbox(struct report *r)
{
    const int code = sandbox_probe(&r->sandbox);

    if (code)
        error_set(&r->sandbox.missing, -code, "no process can give up its privileges here: %s; --net user, --net switch "
                                              "and --display will not start", strerror(-code));
}

static void gather(struct report *r)
{
    struct utsname u;
    struct sysinfo s;

    host_cpu_name(r->cpu);
    if (!uname(&u))
        snprintf(r->kernel, sizeof(r->kernel), "%.20s %.50s", u.sysname, u.release);
    if (!sysinfo(&s))
        r->memory = (u64)s.totalram * s.mem_unit;
    r->cpus = (unsigned long)sysconf(_SC_NPROCESSORS_ONLN);
    r->tsc_khz = host_tsc_khz();
    look_at_kvm(r);
    look_at_engine(&r->kvm, &engine_kvm);
    look_at_engine(&r->soft, &engine_soft);
    look_at_sandbox(r);
    r->namespaces = room_probe();
    directd_probe(&r->direct);
    if (r->direct.usable && r->soft.caps.no_direct) {
        r->direct.usable = false;
        error_set(&r->direct.why, ENOTSUP, "%s", r->soft.caps.no_direct);
    }
    struct error err = { "" };
    r->choice = engine_choose("auto", &r->choice_why, &err);
    if (!r->choice)
        r->choice_why = err;
}

/* ---- text ---- */

static void print_features(const struct cpuid_table *t, const char *label)
{
    const struct cpu_feature *f;
    unsigned column = 0;

    printf("%-12s", label);
    for (u32 i = 0; (f = cpu_feature_at(i)); i++) {
        if (!cpuid_has(t, f))
            continue;
        if (column + strlen(f->name) > 100) {
            printf("\n%-12s", "");
            column = 0;
        }
        column += (unsigned)printf("%s%s", column ? " " : "", f->name);
    }
    putchar('\n');
}

static void print_text(const struct report *r)
{
    printf("%-12s%s, %lu CPU%s, %.1f GiB of memory, TSC at %.0f MHz, %s\n", "host", r->cpu, r->cpus,
           r->cpus == 1 ? "" : "s", (double)r->memory / (double)GiB(1), (double)r->tsc_khz / 1000, r->kernel);
    printf("%-12s%s\n", "/dev/kvm", r->kvm_permitted ? "present, can be opened" : r->kvm_why.text);
    printf("%-12s%s%s\n", "engine kvm",
           r->kvm.usable ? "usable" : "not usable: ", r->kvm.usable ? "" : r->kvm.why.text);
    printf("%-12s%s%s\n", "engine soft",
           r->soft.usable ? "usable" : "not usable: ", r->soft.usable ? "" : r->soft.why.text);
    const struct directd_report *d = &r->direct;
    if (d->usable)
        printf("%-12scan run directly on the processor%s%s\n", "programs", d->cpuid ? ", with CPUID faulting" : "",
               d->guards || d->cpuid ? "" : ", but some stay slow: no debug registers can be set (ptrace)");
    else
        printf("%-12sare translated: %s\n", "programs", d->why.text);
    if (r->choice)
        printf("%-12s%s: %s\n", "auto takes", r->choice->name, r->choice_why.text);
    else
        printf("%-12snone: %s\n", "auto takes", r->choice_why.text);
    const struct sandbox_report *s = &r->sandbox;
    if (s->missing.text[0])
        printf("%-12snot complete: %s\n", "sandbox", s->missing.text);
    else
        printf("%-12scomplete: %s%s%s\n", "sandbox", s->seccomp ? "seccomp" : "", s->asks ? ", each file asked for" : "",
               s->landlock ? ", Landlock" : "");
    printf("%-12s%s\n", "a machine", r->namespaces
               ? "is in namespaces of its own, with no files"
               : "has no namespaces of its own (this host lets you make none): its list of system calls and Landlock must do");
    const struct engine_report *e = r->choice == &engine_kvm ? &r->kvm : &r->soft;
    if (e->usable)
        print_features(&e->caps.supported, "guests get");
}

/* ---- JSON ---- */

static void json_engine(const struct engine_report *e)
{
    const struct cpu_feature *f;
    bool first = true;

    printf("\"%s\": {\"usable\": %s", e->ops->name, e->usable ? "true" : "false");
    if (!e->usable) {
        printf(", \"reason\": ");
        json_quoted(e->why.text);
    } else {
        printf(", \"features\": [");
        for (u32 i = 0; (f = cpu_feature_at(i)); i++) {
            if (!cpuid_has(&e->caps.supported, f))
                continue;
            printf(first ? "" : ", ");
            json_quoted(f->name);
            first = false;
        }
        putchar(']');
    }
    putchar('}');
}

static void print_json(const struct report *r)
{
    printf("{\"host\": {\"cpu\": ");
    json_quoted(r->cpu);
    printf(", \"cpus\": %lu, \"memory\": %llu, \"tsc_khz\": %llu, \"kernel\": ", r->cpus, (unsigned long long)r->memory,
           (unsigned long long)r->tsc_khz);
    json_quoted(r->kernel);
    printf("},\n \"dev_kvm\": {\"present\": %s, \"permitted\": %s", r->kvm_present ? "true" : "false",
           r->kvm_permitted ? "true" : "false");
    if (!r->kvm_permitted) {
        printf(", \"reason\": ");
        json_quoted(r->kvm_why.text);
    }
    printf("},\n \"engines\": {");
    json_engine(&r->kvm);
    printf(",\n  ");
    json_engine(&r->soft);
    printf("},\n \"direct\": {\"usable\": %s, \"guards\": %s, \"cpuid_faulting\": %s, \"reason\": ",
           r->direct.usable ? "true" : "false", r->direct.guards ? "true" : "false", r->direct.cpuid ? "true" : "false");
    json_quoted(r->direct.why.text);
    printf("},\n \"auto\": {\"engine\": ");
    if (r->choice)
        json_quoted(r->choice->name);
    else
        printf("null");
    printf(", \"reason\": ");
    json_quoted(r->choice_why.text);
    printf("},\n \"sandbox\": {\"seccomp\": %s, \"asks\": %s, \"landlock\": %s, \"namespaces\": %s, \"missing\": ",
           r->sandbox.seccomp ? "true" : "false", r->sandbox.asks ? "true" : "false",
           r->sandbox.landlock ? "true" : "false", r->namespaces ? "true" : "false");
    json_quoted(r->sandbox.missing.text);
    printf("}}\n");
}

static int set_json(void *to, const char *value, struct error *err)
{
    *(bool *)to = true;
    return 0;
}

static const struct option_def options[] = {
    { "json", NULL, "as one JSON object", set_json },
    { NULL, NULL, NULL, NULL },
};

int cli_doctor(int argc, char **argv)
{
    struct error err;
    bool json = false;

    if (options_parse(options, NULL, argc, argv, &json, &err))
        return usage_error("%s", err.text);
    struct report *r = calloc(1, sizeof(*r));
    if (!r) {
        fprintf(stderr, "lodge: no memory\n");
        return STATUS_FAILED;
    }
    gather(r);
    if (json)
        print_json(r);
    else
        print_text(r);
    int status = r->choice ? STATUS_OK : STATUS_FAILED;
    free(r);
    return status;
}

void help_doctor(void)
{
    puts("Usage: lodge doctor [--json]\n\n"
         "Says what this host offers: its CPU, whether /dev/kvm is there, permitted and fast enough\n"
         "(measured by a guest of a few milliseconds), which features guests can have, and which\n"
         "engine --engine auto takes and why; whether the programs of a guest can run directly on the\n"
         "processor with the software engine (docs/direct-execution.md); and what the kernel has to hold the processes that\n"
         "serve networks and screens.  Exit status 0 if guests can run here.\n");
    options_help(options);
}
