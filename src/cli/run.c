/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - "lodge run": makes one configuration from what an image brings and what the user asks for. The command itself
 * keeps the terminal (front.h). A second process watches over the machine and removes what it leaves. A third process
 * runs it (worker/).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/opener.h"
#include "base/patience.h"
#include "base/signals.h"
#include "chardev/terminal.h"
#include "cli/api_client.h"
#include "cli/cli.h"
#include "cli/front.h"
#include "cli/run_options.h"
#include "config/json.h"
#include "store/store.h"
#include "vm/vm.h"
#include "worker/broker.h"
#include "worker/worker.h"

void help_run(void)
{
    puts("Usage: lodge run IMAGE [OPTIONS]\n"
         "       lodge run --kernel FILE [OPTIONS]\n"
         "       lodge run --disk FILE [OPTIONS]\n\n"
         "Runs a virtual machine; its first serial port is this terminal.  IMAGE is one of \"lodge image ls\"\n"
         "(\"lodge image build debian\" makes the first): it comes with a disk, a network card, and ssh by\n"
         "\"lodge ssh\".\n");
    run_options_help();
    puts("\nOn the terminal: Ctrl-] then q ends the machine, Ctrl-] ? helps, Ctrl-] Ctrl-] sends one.\n\n"
         "Exit status: 0 the guest powered off; (value << 1) | 1 it wrote value to the debug exit;\n"
         "2 an option or a file cannot be used; 1 any other failure, said in one line; 128 + N signal N ended it.");
}

/* The status for a failure before the guest's start. The request cannot be carried out, unless the host is only
   short of something just now. */
static int status_of(int code)
{
    return code == EAGAIN || code == EMFILE || code == ENFILE || code == ENOMEM || code == ENOSPC || code == ENOBUFS
               ? STATUS_FAILED
               : STATUS_USAGE;
}

/* A serial line has no size. The image's login gets the size of the terminal from here. */
static void terminal_size(const struct vm_config *c, char text[32])
{
    struct winsize w;

    text[0] = 0;
    if (c->nserial && !strcmp(c->serial[0], "stdio") && !ioctl(STDIN_FILENO, TIOCGWINSZ, &w) && w.ws_row && w.ws_col)
        snprintf(text, 32, " lodge.tty=%ux%u", w.ws_row, w.ws_col);
}

/* Sets what the image starts with: a kernel of its own, or a firmware. */
static int configure_start(struct vm_config *c, const char *size, const struct image *image, const struct image_machine *m)
{
    int r = 0;

    if (!c->kernel && !c->firmware && !image->kernel[0])
        r = config_text(&c->firmware, "bios");
    if (!r && c->firmware && !strcmp(c->firmware, "uefi") && !c->firmware_vars && m->keep)
        r = config_text(&c->firmware_vars, "%s/uefi.vars", m->dir);
    if (r || c->kernel || c->firmware)
        return r;
    r = config_text(&c->kernel, "%s", image->kernel);
    if (!r && !c->initrd && image->initrd[0])
        r = config_text(&c->initrd, "%s", image->initrd);
    return r ? r : config_text(&c->append, "%s console=ttyS0%s %s", image->cmdline, size, c->append);
}

/* The image's disks and its network card come before those that the user adds. */
static int configure_devices(struct vm_config *c, const struct image_machine *m, struct error *err)
{
    int r = config_disks_insert(c, 2);

    if (!r)
        r = config_nets_insert(c, 1);
    if (r == -E2BIG)
        return error_set(err, EINVAL, "an image's machine takes at most %d disks and %d network cards more", CONFIG_MAX_DISKS - 2,
                         CONFIG_MAX_NETS - 1);
    c->disk[0].format = DISK_FORMAT_QCOW2;
    c->disk[1].format = DISK_FORMAT_RAW;
    c->disk[1].readonly = true;
    c->net[0].nhostfwd = 1;
    if (r || config_text(&c->disk[0].path, "%s", m->disk) || config_text(&c->disk[1].path, "%s", m->seed) ||
        config_text(&c->net[0].seed, "%s.0", m->name) || config_text(&c->net[0].hostname, "%s", m->name) ||
        config_text(&c->net[0].hostfwd[0], "tcp:127.0.0.1:%u-:22", m->ssh_port) || config_text(&c->name, "%s", m->name))
        return error_set(err, ENOMEM, "out of memory");
    c->rng = true;
    return 0;
}

/* An image's machine is a configuration like any other, except for the names in it. */
static int configure_image(struct run_options *o, struct image *image, struct image_machine *m, struct error *err)
{
    struct vm_config *c = &o->config;
    const struct image_machine_options mo = { o->keep, o->image ? image : NULL, o->disk_size, o->ssh_port };
    int r = 0;

    if (o->image)
        r = image_find(o->image, image, err);
    if (!r)
        r = image_machine_start(&mo, m, err);
    if (!r) /* find it again, even if it was found before: now that a machine uses it, nobody replaces it */
        r = image_find(m->image, image, err);
    if (r)
        return r;
    if (configure_start(c, o->terminal_size, image, m))
        return error_set(err, ENOMEM, "out of memory");
    if ((r = configure_devices(c, m, err)))
        return r;
    if (!c->api_socket) {
        char path[PATH_MAX];
        o->run.api_optional = true; /* a machine of this name may already run from another folder of images */
        if (api_path(m->name, path, err))
            log_warn("%s; the machine goes without it", err->text);
        else if (config_text(&c->api_socket, "%s", path))
            return error_set(err, ENOMEM, "out of memory");
    }
    if (!run_option_given(o, "memory"))
        c->memory = GiB(1);
    if (!run_option_given(o, "cpus"))
        c->cpus = MIN((u32)MAX(get_nprocs(), 1), 2u);
    if (!o->run.quiet)
        log_info("%s: \"lodge ssh %s\" logs in as %s%s", image->system[0] ? image->system : image->name, m->name, m->user,
                 m->keep ? "" : "; what it writes goes with it (--keep NAME keeps it)");
    return 0;
}

/* These signals end the machine in order. They wait until the machine looks for them, so that nothing half made is
   left behind. Code that may take long before that looks for them itself (base/patience.h). */
static void hold_signals(sigset_t *before)
{
    sigset_t set;

    signals_of_end(&set);
    sigprocmask(SIG_BLOCK, &set, before);
}

/* Returns a signal that came before the machine ran, or 0. */
static int held_signal(void)
{
    sigset_t set;

    signals_of_end(&set);
    const int signal = signals_end_pending() ? sigtimedwait(&set, NULL, &(struct timespec){ 0 }) : 0;
    return MAX(signal, 0);
}

/* Checks what depends on this host and not on the description of the machine. */
static int check_host(const struct vm_config *c, struct error *err)
{
    struct sysinfo host;

    if (!sysinfo(&host) && c->memory > (u64)host.totalram * host.mem_unit)
        return error_set(err, EINVAL, "memory: more than this host has (%lluM)", (unsigned long long)host.totalram * host.mem_unit >> 20);
    for (u32 i = 0; i < c->ndisks; i++)
        if (c->disk[i].backing && parse_backing("backing", c->disk[i].backing, err))
            return error_about(err, "disks[%u]", i);
    return 0;
}

/* Checks what concerns the run together with the machine, or with the machine of an image. */
static int check_run(const struct run_options *o, struct error *err)
{
    const struct vm_config *c = &o->config;
    const bool image = o->image || o->keep;

    if (!c->kernel && !image && !c->firmware && !c->ndisks && !c->ncdroms && !c->nfloppies)
        return error_set(err, EINVAL, "what? An image's name, or --kernel, --disk, --cdrom or --floppy FILE, or --firmware is needed; "
                                      "see \"lodge help run\"");
    if (image && o->config_file)
        return error_set(err, EINVAL, "--config %s: an image has a machine of its own; name its disk in the file instead", o->config_file);
    if (o->disk_size && !image)
        return error_set(err, EINVAL, "--disk-size is for an image's machine; others: lodge disk resize");
    if (o->ssh_port && !image)
        return error_set(err, EINVAL, "--ssh-port is for an image's machine; for others --net user,hostfwd=tcp:127.0.0.1:%u-:22",
                         o->ssh_port);
    for (u32 i = 0; i < o->run.ntrace; i++)
        if (o->run.trace[i].what == TRACE_JIT && !c->code_cache)
            return error_set(err, EINVAL, "--trace jit: with --code-cache 0 nothing is translated");
    if (o->run.perf_map && !c->code_cache)
        return error_set(err, EINVAL, "--perf-map: with --code-cache 0 nothing is translated");
    int r = check_host(c, err);
    if (!r)
        r = vm_check_devices(c, err);
    return r || image ? r : config_check(c, err); /* for an image, this is done when we know what the image brings */
}

/* Prints the machine as a file for --config. */
static int print_config(const struct run_options *o)
{
    struct error err = { .code = 0 };
    const int r = config_to_yaml(&o->config, stdout);

    return r ? cli_failed(r == -ENOMEM ? error_set(&err, ENOMEM, "out of memory") : r, &err) : STATUS_OK;
}

/* The signals that end a machine, as a descriptor on its loop. */
struct signal_watch {
    struct loop_fd fd;
    struct vm *vm;
};

static void on_signal(struct loop_fd *w, u32 events)
{
    struct signal_watch *s = container_of(w, struct signal_watch, fd);
    struct signalfd_siginfo si;

    (void)events;
    if (read(w->fd, &si, sizeof si) == sizeof si)
        vm_quit(s->vm, (int)si.ssi_signo);
}

static int watch_signals(struct signal_watch *s, struct vm *vm, struct error *err)
{
    *s = (struct signal_watch){ { .fd = signals_fd(NULL, 0), .events = EPOLLIN, .ready = on_signal }, vm };
    if (s->fd.fd < 0)
        return error_set(err, -s->fd.fd, "cannot watch for signals: %s", strerror(-s->fd.fd));
    return loop_fd_add(vm_loop(vm), &s->fd);
}

/* What a worker may use: generous for any machine, and too little to harm the host. */
static void close_door(const struct run_options *o)
{
    const struct vm_config *c = &o->config;
    const struct worker_limits limits = {
        .memory = GiB(4) + 2 * config_code_cache(c) + c->memory / 32 + c->cpus * MiB(512),
        .file = (u64)1 << 50, .descriptors = 65536, .threads = 256 + 4 * (u64)c->cpus,
    };

    worker_close_door(&limits);
}

/* Runs the machine, in the worker. Returns as vm_run. */
static int run_machine(const struct run_options *o, struct front *front, struct error *err)
{
    const struct vm_config *c = &o->config;
    struct signal_watch signals = { .fd.fd = -1 };
    struct vm *vm = vm_new(c, &o->run, err);
    const char *why;

    if (!vm)
        return -ENOMEM;
    patience_until(&patience_signals); /* nobody reads the signals yet */
    int rc = vm_boot(vm, err);
    patience_until(NULL);
    if (!rc)
        rc = watch_signals(&signals, vm, err);
    if (!rc) {
        /* Only now: if a machine cannot be started, the only line says why. */
        const char *engine = vm_engine(vm, &why);
        if (c->engine == CONFIG_ENGINE_AUTO)
            log_info("engine %s: %s", engine, why);
        front_begin(front);
        tzset(); /* a clock in local time: its zone is a file */
        close_door(o);
        rc = vm_run(vm, err);
    }
    vm_free(vm);
    if (signals.fd.fd >= 0)
        close(signals.fd.fd);
    return rc;
}

static bool wants_device_list(const struct vm_config *c)
{
    for (u32 i = 0; i < c->ndevices; i++)
        if (!strcmp(c->device[i].type, "help"))
            return true;
    return false;
}

/* True if somebody types at the machine, provided that standard input is a terminal. */
static bool has_terminal(const struct vm_config *c)
{
    for (u32 i = 0; i < c->nserial; i++)
        if (!strcmp(c->serial[i], "stdio"))
            return true;
    for (u32 i = 0; i < c->nconsoles; i++)
        if (!strcmp(c->console[i], "stdio"))
            return true;
    return c->parallel && !strcmp(c->parallel, "stdio");
}

static bool is_tls_disk(const char *path)
{
    return path && !strncmp(path, "nbds", 4);
}

static u32 worker_needs(const struct run_options *o)
{
    const struct vm_config *c = &o->config;
    u32 needs = o->run.perf_map ? WORKER_PERF : 0;

    for (u32 i = 0; i < c->ndisks; i++)
        needs |= is_tls_disk(c->disk[i].path) ? WORKER_TLS : 0;
    for (u32 i = 0; i < c->ncdroms; i++)
        needs |= is_tls_disk(c->cdrom[i].path) ? WORKER_TLS : 0;
    return needs;
}

/* What the worker may have opened: what the machine's configuration names, and where the run's reports go. */
static struct policy *worker_policy(const struct run_options *o)
{
    struct policy *p = policy_new(&o->config, o->run.image_store);
    int r = p ? 0 : -ENOMEM;

    for (u32 i = 0; i < o->run.ntrace && !r; i++)
        if (o->run.trace[i].file)
            r = policy_allow(p, OPENER_REPORT, o->run.trace[i].file);
    if (!r && o->run.stats_file)
        r = policy_allow(p, OPENER_REPORT, o->run.stats_file);
    if (!r && o->run.system_map)
        r = policy_allow(p, OPENER_REPORT, o->run.system_map);
    if (!r)
        return p;
    policy_free(p);
    return NULL;
}

/* Watches over the machine: prepares it, lets a worker run it, and removes what that leaves. It also returns in the
   worker, with the worker's exit status, or -errno with err set. */
static int watch_over(struct run_options *o, struct front *front, struct error *err)
{
    struct error left = { "" };
    struct image image = { "" };
    struct image_machine machine = { .lock_fd = -1 };
    int r = 0, status = VM_EXIT_FAILED;

    if (front->terminal)
        terminal_is_elsewhere();
    if (o->image || o->keep)
        if (!(r = configure_image(o, &image, &machine, err)))
            r = config_check(&o->config, err);
    struct policy *policy = r ? NULL : worker_policy(o);
    if (!r && !policy)
        r = error_set(err, ENOMEM, "out of memory");
    const struct worker_job job = { front->sock, worker_needs(o), policy };
    if (!r)
        r = worker_start(&job, &status, err);
    policy_free(policy); /* in the worker, too, where nobody asks it */
    if (!r) {
        if (o->config.api_socket)
            o->run.pid = broker_own_pid();
        return run_machine(o, front, err);
    }
    log_set_raw(front->terminal);
    if (image_machine_end(&machine, &left))
        log_error("%s; the next machine that starts removes it", left.text);
    return r < 0 ? r : status;
}

static int run(int argc, char **argv, struct run_options *o)
{
    struct error err = { "" };
    char store[PATH_MAX];
    struct front front;
    sigset_t before;
    int r = 0, status;

    if (config_init(&o->config))
        return cli_failed(error_set(&err, ENOMEM, "out of memory"), &err);
    o->run.image_store = image_store(store) ? NULL : store;
    o->run.started = clock_ns();
    opener_raise_limit(); /* disks, connections, the files of shared folders */
    r = run_options_parse(o, argc, argv, &err);
    if (!r && wants_device_list(&o->config)) {
        vm_list_devices(stdout);
        return STATUS_OK;
    }
    if (r || (r = check_run(o, &err))) {
        run_explain(o, &err);
        log_error("%s", err.text);
        return status_of(-r);
    }
    if (o->print_config)
        return print_config(o);
    if (o->run.quiet)
        log_set_level(LOG_ERROR);

    signals_as_error(SIGPIPE); /* the program that reads what the guest prints may end; the machine goes on */
    if (o->image || o->keep)
        terminal_size(&o->config, o->terminal_size);
    hold_signals(&before);
    r = front_split(has_terminal(&o->config), &front, &status, &err);
    if (r > 0) {
        if (status == VM_EXIT_FAILED)
            policy_sweep(&o->config); /* the broker, which does so, may have been killed */
        return status;
    }
    if (!r)
        r = watch_over(o, &front, &err);
    const int signal = r < 0 ? held_signal() : 0;
    if (signal)
        return 128 + signal;
    if (r >= 128) /* a signal ended it: the next signal, which often comes with the first, has nothing left to end */
        return r;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (r >= 0)
        return r;
    if (!err.text[0])
        error_set(&err, -r, "the machine could not be started: %s", strerror(-r));
    run_explain(o, &err);
    log_error("%s", err.text);
    return status_of(err.code ? err.code : -r); /* the code of the sentence; r may say less */
}

int cli_run(int argc, char **argv)
{
    struct run_options *o = calloc(1, sizeof *o);
    struct error err;

    if (!o)
        return cli_failed(error_set(&err, ENOMEM, "out of memory"), &err);
    const int status = run(argc, argv, o);
    config_free(&o->config);
    free(o);
    return status;
}
