/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - "lodge run": the options into a struct vm_config, their form checked; the rest is vm_run's.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/signals.h"
#include "chardev/chardev.h"
#include "cli/api_client.h"
#include "cli/cli.h"
#include "cli/run.h"
#include "image/image.h"
#include "vm/config.h"
#include "vm/vm.h"

static int bad_choice(struct error *err, const char *option, const char *value, const char *const *choices)
{
    char list[160] = "";
    const char *best = suggest(value, choices);

    if (best)
        return error_set(err, EINVAL, "--%s %s: did you mean %s?", option, value, best);
    for (size_t i = 0; choices[i]; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", choices[i]);
    }
    return error_set(err, EINVAL, "--%s %s: it is one of %s", option, value, list);
}

static int set_engine(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { "auto", "kvm", "soft", NULL };
    struct run_options *o = to;

    for (size_t i = 0; choices[i]; i++) {
        if (!strcmp(value, choices[i])) {
            o->config.engine = choices[i];
            return 0;
        }
    }
    return bad_choice(err, "engine", value, choices);
}

static int set_cpu(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!*value)
        return error_set(err, EINVAL, "--cpu needs a model, for example --cpu host");
    o->config.cpu = value;
    return 0;
}

static int set_cpus(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    u64 n;

    if (parse_number(value, 1, CONFIG_MAX_CPUS, &n))
        return error_set(err, EINVAL, "--cpus %s: it is a number from 1 to %d", value, CONFIG_MAX_CPUS);
    o->config.cpus = (u32)n;
    o->cpus_given = true;
    return 0;
}

static int set_memory(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    struct sysinfo host = { 0 };
    u64 bytes, most = UINT64_MAX;
    int r = parse_size(value, &bytes);

    if (!sysinfo(&host))
        most = (u64)host.totalram * host.mem_unit;
    if (r == -EINVAL)
        return error_set(err, EINVAL, "--memory %s: a size is a number with K, M, G or T, for example 512M", value);
    if (r == -ERANGE || bytes > most)
        return error_set(err, EINVAL, "--memory %s: more than this host has (%lluM)", value,
                         (unsigned long long)(most >> 20));
    if (bytes < CONFIG_MIN_MEMORY)
        return error_set(err, EINVAL, "--memory %s: too little; a machine has at least 1M", value);
    if (bytes % 4096)
        return error_set(err, EINVAL, "--memory %s: it must be a multiple of 4K", value);
    o->config.memory = bytes;
    o->memory_given = true;
    return 0;
}

static int set_code_cache(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    u64 bytes;
    char size[32];
    const char *comma = strchrnul(value, ',');
    const bool after = !strncmp(comma, ",after=", 7);

    snprintf(size, sizeof size, "%.*s", (int)(comma - value), value);
    if (parse_size(size, &bytes) || (bytes && bytes < CONFIG_MIN_CODE_CACHE) || bytes > CONFIG_MAX_CODE_CACHE)
        return error_set(err, EINVAL, "--code-cache %s: 0, or a size from 1M to 2G, for example 64M", value);
    o->config.code_cache = bytes;
    if (*comma) {
        char *end;
        const unsigned long n = after ? strtoul(comma + 7, &end, 10) : 0;
        if (!after || !isdigit((unsigned char)comma[7]) || *end || n > 1000)
            return error_set(err, EINVAL, "--code-cache %s: after=N wants a number from 0 to 1000", value);
        o->config.translate_after = (u32)n;
    }
    return 0;
}

static int set_kernel(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!*value)
        return error_set(err, EINVAL, "--kernel needs the name of a file");
    o->config.kernel = value;
    return 0;
}

static int set_firmware(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    const char *comma = strchr(value, ',');

    if (!*value || *value == ',' || (comma && strncmp(comma, ",vars=", 6)) || (comma && !comma[6]))
        return error_set(err, EINVAL, "--firmware %s: it is bios, uefi or a file; uefi keeps its variables by ,vars=FILE", value);
    o->config.firmware_vars = comma ? comma + 6 : NULL;
    if (!(o->config.firmware = comma ? options_text(&o->texts, "%.*s", (int)(comma - value), value) : value))
        return error_set(err, ENOMEM, "out of memory");
    return 0;
}

static int boot_menu(void *to, const char *value, struct error *err)
{
    struct machine_boot_order *b = to;
    u64 seconds = 3;

    if (value && parse_number(value, 1, 60, &seconds))
        return error_set(err, EINVAL, "--boot: menu=%s: it waits 1 to 60 seconds", value);
    b->menu_ms = (u16)(seconds * 1000);
    return 0;
}

static int set_boot(void *to, const char *value, struct error *err)
{
    static const char *const kinds[] = { [MACHINE_BOOT_DISK] = "disk", [MACHINE_BOOT_CDROM] = "cdrom",
                                         [MACHINE_BOOT_FLOPPY] = "floppy", [MACHINE_BOOT_NET] = "net", NULL };
    struct machine_boot_order *b = &((struct run_options *)to)->config.boot;
    u32 n = 0, seen = 0;

    for (const char *p = value; *p;) {
        char word[32];
        const size_t len = strcspn(p, ",");
        u32 kind = 0;
        snprintf(word, sizeof word, "%.*s", (int)MIN(len, sizeof word - 1), p);
        p += len + (p[len] == ',');
        if (!strncmp(word, "menu", 4) && (!word[4] || word[4] == '=')) {
            int rc = boot_menu(b, word[4] ? word + 5 : NULL, err);
            if (rc)
                return rc;
            continue;
        }
        while (kinds[kind] && strcmp(kinds[kind], word))
            kind++;
        if (!kinds[kind])
            return bad_choice(err, "boot", word, kinds);
        if (seen & 1u << kind)
            return error_set(err, EINVAL, "--boot %s: %s is there twice", value, word);
        seen |= 1u << kind;
        b->what[n++] = (enum machine_boot)kind;
    }
    if (!*value)
        return error_set(err, EINVAL, "--boot needs one of disk, cdrom, floppy, net");
    if (n)
        b->n = n;
    return 0;
}

static int set_initrd(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!*value)
        return error_set(err, EINVAL, "--initrd needs the name of a file");
    o->config.initrd = value;
    return 0;
}

static int set_append(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    o->config.append = value;
    return 0;
}

static int set_serial(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    struct vm_config *c = &o->config;

    if (!o->serial_given)
        c->nserial = 0;
    o->serial_given = true;
    if (!chardev_spec_valid(value))
        return error_set(err, EINVAL, "--serial %s: it is one of stdio, null, file:PATH, unix:PATH", value);
    if (c->nserial == CONFIG_MAX_SERIAL)
        return error_set(err, EINVAL, "--serial %s: the machine has %d serial ports", value, CONFIG_MAX_SERIAL);
    for (u32 i = 0; i < c->nserial; i++)
        if (!strcmp(value, "stdio") && !strcmp(c->serial[i], "stdio"))
            return error_set(err, EINVAL, "--serial stdio: only one port can have the terminal");
    c->serial[c->nserial++] = value;
    return 0;
}

static int set_image(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (o->image)
        return error_set(err, EINVAL, "\"%s\": only one image can be run, and it is %s", value, o->image);
    if (!image_name_valid(value))
        return error_set(err, EINVAL, "\"%s\" is no image's name; \"lodge image ls\" lists them, %s", value,
                         access(value, F_OK) ? "options begin with --" : "a file is a --disk, a --cdrom or a --kernel");
    o->image = value;
    return 0;
}

static int set_keep(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (!image_name_valid(value))
        return error_set(err, EINVAL, "--keep %s: a name is 1 to %d small letters, digits and \"-\"", value, IMAGE_NAME_MAX);
    o->keep = value;
    return 0;
}

static int set_ssh_port(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;
    u64 n;

    if (parse_number(value, 1, 65535, &n))
        return error_set(err, EINVAL, "--ssh-port %s: a number from 1 to 65535", value);
    o->ssh_port = (u16)n;
    return 0;
}

static int set_disk_size(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (parse_size(value, &o->disk_size) || !o->disk_size)
        return error_set(err, EINVAL, "--disk-size %s: a size is a number with K, M, G or T, for example 10G", value);
    return 0;
}

static int set_machine(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { "pc", "micro", NULL };
    struct run_options *o = to;

    for (size_t i = 0; choices[i]; i++) {
        if (!strcmp(value, choices[i])) {
            o->config.micro = i;
            return 0;
        }
    }
    return bad_choice(err, "machine", value, choices);
}

static int set_vga(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { "std", "none", NULL };
    struct run_options *o = to;

    if (strcmp(value, "std") && strcmp(value, "none"))
        return bad_choice(err, "vga", value, choices);
    o->config.vga = strcmp(value, "std") ? CONFIG_VGA_NONE : CONFIG_VGA_STD;
    return 0;
}

static int set_timing(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    o->config.timing = true;
    return 0;
}

static int set_device(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { "testdev", NULL };
    struct run_options *o = to;

    if (strcmp(value, "testdev"))
        return bad_choice(err, "device", value, choices);
    o->config.testdev = true;
    return 0;
}

static int set_no_reboot(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    o->config.no_reboot = true;
    return 0;
}

static int set_trace(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = {
        [TRACE_EXEC] = "exec", [TRACE_EXCEPTIONS] = "exceptions", [TRACE_IO] = "io", [TRACE_MMIO] = "mmio",
        [TRACE_JIT] = "jit", [TRACE_FIRMWARE] = "firmware", NULL
    };
    struct run_options *o = to;
    struct vm_config *c = &o->config;
    size_t n = strcspn(value, ":");
    char what[32];

    if (value[n] == ':' && !value[n + 1])
        return error_set(err, EINVAL, "--trace %s names no file", value);
    snprintf(what, sizeof(what), "%.*s", (int)MIN(n, sizeof(what) - 1), value);
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(what, choices[i]))
            continue;
        if (c->ntrace == CONFIG_MAX_TRACE)
            return error_set(err, EINVAL, "--trace can be given %d times", CONFIG_MAX_TRACE);
        c->trace[c->ntrace++] = (struct config_trace){ (enum config_trace_what)i, value[n] ? value + n + 1 : NULL };
        return 0;
    }
    return bad_choice(err, "trace", what, choices);
}

static int set_stats(void *to, const char *value, struct error *err)
{
    static const char *const choices[] = { [STATS_TEXT - 1] = "text", [STATS_JSON - 1] = "json", NULL };
    struct run_options *o = to;
    char what[32];

    o->config.stats = STATS_TEXT;
    if (!value)
        return 0;
    size_t n = strcspn(value, ":");
    if (value[n] == ':' && !value[n + 1])
        return error_set(err, EINVAL, "--stats=%s names no file", value);
    snprintf(what, sizeof(what), "%.*s", (int)MIN(n, sizeof(what) - 1), value);
    for (size_t i = 0; choices[i]; i++) {
        if (strcmp(what, choices[i]))
            continue;
        o->config.stats = (enum config_stats)(i + 1);
        o->config.stats_file = value[n] ? value + n + 1 : NULL;
        return 0;
    }
    return bad_choice(err, "stats", what, choices);
}

static int set_perf_map(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    if (value && !*value)
        return error_set(err, EINVAL, "--perf-map= names no file; it is the System.map of the guest's kernel");
    o->config.perf_map = true;
    o->config.system_map = value;
    return 0;
}

static int set_quiet(void *to, const char *value, struct error *err)
{
    struct run_options *o = to;

    o->config.quiet = true;
    return 0;
}

static const struct option_def options[] = {
    { "", NULL, NULL, set_image },
    { "kernel", "FILE", "the kernel: bzImage, ELF with a PVH note, or Multiboot 1", set_kernel },
    { "firmware", "WHAT[,vars=FILE]", "bios (the default without --kernel), uefi, or a file; UEFI's\nvariables stay in vars= (made if there is none)", set_firmware },
    { "boot", "KIND[,KIND...]", "the firmware's order of disk, cdrom, floppy, net; menu[=S]: it\noffers its menu for S seconds (disk,cdrom,floppy)", set_boot },
    { "initrd", "FILE", "initial ramdisk; for a Multiboot kernel its modules:\n\"FILE ARGS,FILE2 ARGS\"", set_initrd },
    { "append", "STRING", "the kernel's command line", set_append },
    { "memory", "SIZE", "512M (the default), 2G; a plain number counts MiB", set_memory },
    { "cpus", "N", "number of CPUs (1)", set_cpus },
    { "cpu", "MODEL[,+FEATURE,-FEATURE]", "CPU model (host) with features added and taken away", set_cpu },
    { "engine", "ENGINE", "auto (the default), kvm or soft", set_engine },
    { "machine", "KIND", "pc (the default), or micro: no legacy parts, starts faster", set_machine },
    { "vga", "KIND", "std, the graphics adapter (VGA and Bochs VBE), or none; by\ndefault there is one with firmware and with --display", set_vga },
    { "disk", "FILE[,KEY=VALUE]", "a disk image: bus=virtio|ide|ahci, format=raw|qcow2,\nreadonly, serial=TEXT, cache=writeback|none,\ndiscard=on|off, snapshot=on (what is written goes with the\nrun), backing=any|none|FOLDER (which files it may lie over:\nelse those beside it), errors=enospc|stop|report, queues=N;\nor nbd://HOST/NAME; may be repeated",
      run_set_disk },
    { "floppy", "FILE[,readonly]", "a floppy disk's image, of 160 KiB to 2.88 MiB; none: an\nempty drive; may be given twice", run_set_floppy },
    { "cdrom", "FILE[,KEY=VALUE]", "a disc in a CD drive of its own, none: an empty one;\nbus=ide|ahci; may be repeated", run_set_cdrom },
    { "net", "WHERE[,KEY=VALUE]", "a network card: user[,hostfwd=tcp:127.0.0.1:2222-:22],\ntap:IF, switch:NAME or none; model=virtio|e1000, mac=,\nrate=, pcap=FILE, queues=N; may be repeated",
      run_set_net },
    { "share", "PATH[:TAG][,ro]", "a folder of this host, for the guest to mount by its\ntag: mount -t virtiofs TAG /mnt; may be repeated", run_set_share },
    { "console", "WHERE", "a port of the virtio console (hvc0 on), as --serial", run_set_console },
    { "vsock", "PATH[,cid=N]", "sockets between host and guest: host programs connect to\nPATH and say CONNECT PORT; the guest's go to PATH_PORT", run_set_vsock },
    { "input", "KIND[:WHERE]", "keyboard or tablet; WHERE (unix:PATH) its events come\nfrom, eight bytes each as virtio-input has them", run_set_input },
    { "usb", "tablet[:WHERE]", "an absolute pointer on a USB 1.1 controller, for systems\nthat have no virtio; WHERE as with --input", run_set_usb },
    { "rng", NULL, "random numbers of this host (an image has it always)", run_set_rng },
    { "balloon", "[=SIZE]", "memory the guest does not use goes back to this host; SIZE\nof it at once", run_set_balloon },
    { "display", "WHERE", "the screen: none (the default), vnc:HOST:PORT or\nvnc:unix:PATH, with password=FILE, tls-creds=DIR", run_set_display },
    { "api-socket", "PATH", "the machine's control socket, HTTP and JSON; an image's\nmachine has one, by its name", run_set_api_socket },
    { "keep", "NAME", "an image: the machine and its disk stay, under this name;\nwithout it all goes with the run", set_keep },
    { "disk-size", "SIZE", "an image: its disk grows to this", set_disk_size },
    { "ssh-port", "PORT", "an image: its ssh is at this port of 127.0.0.1", set_ssh_port },
    { "code-cache", "SIZE[,after=N]", "software engine: most memory for translated code (an\neighth of the machine's, 64M to 256M); 0: interpret all;\nafter N runs of a block (12)",
      set_code_cache },
    { "serial", "WHERE", "stdio (the default), null, file:PATH, unix:PATH; the\nfirst is COM1, up to four",
      set_serial },
    { "parallel", "WHERE", "a printer on the parallel port, as --serial", run_set_parallel },
    { "device", "testdev", "debug exit at port 0xf4 and the devices that\nkvm-unit-tests expects", set_device },
    { "timing", NULL, "at the end, how long each phase of the start took", set_timing },
    { "no-reboot", NULL, "a reboot of the guest ends the run", set_no_reboot },
    { "trace", "WHAT[:FILE]", "exec, exceptions, io, mmio, jit (translations) or firmware (its\nmessages), to standard error or a file; may be repeated",
      set_trace },
    { "stats", "[=FORMAT[:FILE]]", "at the end, figures of where the time went: text (the\ndefault) or json, to standard error or a file",
      set_stats },
    { "perf-map", "[=SYSTEM.MAP]", "software engine: /tmp/perf-PID.map, for perf to name\ntranslated code; with the guest kernel's symbols",
      set_perf_map },
    { "quiet", NULL, "say nothing but errors", set_quiet },
    { NULL, NULL, NULL, NULL },
};

void help_run(void)
{
    puts("Usage: lodge run IMAGE [OPTIONS]\n"
         "       lodge run --kernel FILE [OPTIONS]\n"
         "       lodge run --disk FILE [OPTIONS]\n\n"
         "Runs a virtual machine; its first serial port is this terminal.  IMAGE is one of \"lodge image ls\"\n"
         "(\"lodge image build debian\" makes the first): it comes with a disk, a network card, and ssh by\n"
         "\"lodge ssh\".\n");
    options_help(options);
    puts("\nOn the terminal: Ctrl-] then q ends the machine, Ctrl-] ? helps, Ctrl-] Ctrl-] sends one.\n\n"
         "Exit status: 0 the guest powered off; (value << 1) | 1 it wrote value to the debug exit;\n"
         "2 an option or a file cannot be used; 1 any other failure, said in one line; 128 + N signal N ended it.");
}

/* A failure before the guest's start: the request cannot be met, unless the host is short of something just now. */
static int status_of(int code)
{
    return code == EAGAIN || code == EMFILE || code == ENFILE || code == ENOMEM || code == ENOSPC || code == ENOBUFS
               ? STATUS_FAILED
               : STATUS_USAGE;
}

/* A serial line has no size. The image's login takes that of the terminal from here. */
static void terminal_size(const struct vm_config *c, char text[32])
{
    struct winsize w;

    text[0] = 0;
    if (c->nserial && !strcmp(c->serial[0], "stdio") && !ioctl(STDIN_FILENO, TIOCGWINSZ, &w) && w.ws_row && w.ws_col)
        snprintf(text, 32, " lodge.tty=%ux%u", w.ws_row, w.ws_col);
}

/* An image's machine is a configuration like any other, but for the names in it. */
static int configure_image(struct run_options *o, struct image *image, struct image_machine *m, struct error *err)
{
    struct vm_config *c = &o->config;
    const struct image_machine_options mo = { o->keep, o->image ? image : NULL, o->disk_size, o->ssh_port };
    int r = 0;

    if (o->image)
        r = image_find(o->image, image, err);
    if (!r)
        r = image_machine_start(&mo, m, err);
    if (!r) /* again, too: now that a machine is over it, nobody replaces it */
        r = image_find(m->image, image, err);
    if (r)
        return r;
    if (!c->kernel && !c->firmware && !image->kernel[0])
        c->firmware = "bios";
    if (c->firmware && !strcmp(c->firmware, "uefi") && !c->firmware_vars && m->keep &&
        !(c->firmware_vars = options_text(&o->texts, "%s/uefi.vars", m->dir)))
        return error_set(err, ENOMEM, "out of memory");
    if (!c->kernel && !c->firmware) {
        c->kernel = image->kernel;
        c->initrd = c->initrd ? c->initrd : image->initrd[0] ? image->initrd : NULL;
        char size[32];
        terminal_size(c, size);
        if (!(c->append = options_text(&o->texts, "%s console=ttyS0%s %s", image->cmdline, size, c->append)))
            return error_set(err, ENOMEM, "out of memory");
    }
    if (c->ndisks + 2 > CONFIG_MAX_DISKS || c->nnets == CONFIG_MAX_NETS)
        return error_set(err, EINVAL, "an image's machine takes at most %d disks and %d network cards more",
                         CONFIG_MAX_DISKS - 2, CONFIG_MAX_NETS - 1);
    memmove(&c->disk[2], &c->disk[0], c->ndisks * sizeof c->disk[0]);
    c->ndisks += 2;
    c->disk[0] = (struct config_disk){ .file = m->disk, .format = "qcow2" };
    c->disk[1] = (struct config_disk){ .file = m->seed, .format = "raw", .readonly = true };
    const char *net = options_text(&o->texts, "user,seed=%s.0,hostname=%s,hostfwd=tcp:127.0.0.1:%u-:22", m->name, m->name,
                                   m->ssh_port);
    if (!net)
        return error_set(err, ENOMEM, "out of memory");
    memmove(&c->net[1], &c->net[0], c->nnets * sizeof c->net[0]);
    c->nnets++;
    c->net[0] = net;
    c->rng = true;
    c->name = m->name;
    if (!c->api_socket) {
        char path[PATH_MAX];
        c->api_optional = true; /* a machine of this name may run from another folder of images */
        if (api_path(m->name, path, err))
            log_warn("%s; the machine goes without it", err->text);
        else if (!(c->api_socket = options_text(&o->texts, "%s", path)))
            return error_set(err, ENOMEM, "out of memory");
    }
    if (!o->memory_given)
        c->memory = GiB(1);
    if (!o->cpus_given)
        c->cpus = MIN((u32)MAX(get_nprocs(), 1), 2u);
    if (!c->quiet)
        log_info("%s: \"lodge ssh %s\" logs in as %s%s", image->system[0] ? image->system : image->name, m->name, m->user,
                 m->keep ? "" : "; what it writes goes with it (--keep NAME keeps it)");
    return 0;
}

/* Disks, shared files, connections: a machine may need more descriptors than the 1,024 of a shell. */
static void raise_descriptor_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r))
        return;
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
}

/* vm_run ends the machine in order for these. Until it looks they wait, so that none is left behind half made; what may
   take long until then looks for them itself (base/patience.h). */
static void hold_signals(sigset_t *before)
{
    sigset_t set;

    signals_of_end(&set);
    sigprocmask(SIG_BLOCK, &set, before);
}

/* One that came before the machine ran, or 0. */
static int held_signal(void)
{
    sigset_t set;

    signals_of_end(&set);
    const int signal = signals_end_pending() ? sigtimedwait(&set, NULL, &(struct timespec){ 0 }) : 0;
    return MAX(signal, 0);
}

/* How many things the terminal is to be for. */
static u32 terminal_users(const struct vm_config *c)
{
    u32 n = 0;

    for (u32 i = 0; i < c->nserial; i++)
        n += !strcmp(c->serial[i], "stdio");
    for (u32 i = 0; i < c->nconsoles; i++)
        n += !strcmp(c->console[i], "stdio");
    for (u32 i = 0; i < c->ninputs; i++)
        n += c->input[i].from && !strcmp(c->input[i].from, "stdio");
    n += c->parallel && !strcmp(c->parallel, "stdio");
    return n + (c->usb_from && !strcmp(c->usb_from, "stdio"));
}

static int run(int argc, char **argv, struct run_options *o)
{
    struct error err = { "" }, left = { "" };
    struct image image = { "" };
    struct image_machine machine = { .lock_fd = -1 };
    char store[PATH_MAX];
    sigset_t before;
    int r = 0;

    config_defaults(&o->config);
    o->config.image_store = image_store(store) ? NULL : store;
    o->config.started = clock_ns();
    raise_descriptor_limit();
    if (options_parse(options, argc, argv, o, &err))
        return usage_error("%s", err.text);
    if (!o->config.kernel && !o->image && !o->keep && !o->config.firmware) {
        if (!o->config.ndisks && !o->config.ncdroms && !o->config.nfloppies)
            return usage_error("what? An image's name, or --kernel, --disk, --cdrom or --floppy FILE, or --firmware is needed; "
                               "see \"lodge help run\"");
        o->config.firmware = "bios";
    }
    if (terminal_users(&o->config) > 1)
        return usage_error("only one can have the terminal (stdio), and the first serial port has it unless --serial says "
                           "otherwise, as --serial null does");
    if (o->config.firmware && o->config.kernel)
        return usage_error("--kernel boots without firmware; --firmware %s boots from a disk", o->config.firmware);
    if (o->config.firmware && o->config.micro)
        return usage_error("--machine micro has no firmware; it boots a --kernel");
    if (o->config.firmware && (o->config.initrd || *o->config.append))
        return usage_error("--initrd and --append are for a --kernel; a firmware's system brings its own");
    if (o->disk_size && !o->image && !o->keep)
        return usage_error("--disk-size is for an image's machine; others: lodge disk resize");
    if (o->ssh_port && !o->image && !o->keep)
        return usage_error("--ssh-port is for an image's machine; for others --net user,hostfwd=tcp:127.0.0.1:%u-:22",
                           o->ssh_port);
    for (u32 i = 0; i < o->config.ntrace; i++)
        if (o->config.trace[i].what == TRACE_JIT && !o->config.code_cache)
            return usage_error("--trace jit: with --code-cache 0 nothing is translated");
    if (o->config.perf_map && !o->config.code_cache)
        return usage_error("--perf-map: with --code-cache 0 nothing is translated");
    if (o->config.quiet)
        log_set_level(LOG_ERROR);

    signals_as_error(SIGPIPE); /* whoever reads what the guest prints may go; the machine stays */
    hold_signals(&before);
    if (o->image || o->keep)
        r = configure_image(o, &image, &machine, &err);
    if (!r)
        r = vm_run(&o->config, &err);
    if (image_machine_end(&machine, &left))
        log_error("%s; the next machine that starts removes it", left.text);
    const int signal = r < 0 ? held_signal() : 0;
    if (signal)
        return 128 + signal;
    if (r >= 128) /* that was one: the next, which often comes with it, has nothing left to end */
        return r;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (r >= 0)
        return r;
    if (!err.text[0])
        error_set(&err, -r, "the machine could not be started: %s", strerror(-r));
    log_error("%s", err.text);
    return status_of(err.code ? err.code : -r); /* what the sentence is about, though r may be a lesser word for it */
}

int cli_run(int argc, char **argv)
{
    struct run_options o = { 0 };
    const int status = run(argc, argv, &o);

    options_free(&o.texts);
    return status;
}
