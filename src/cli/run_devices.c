/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_devices.c - the options of "lodge run" that plug something in: disks, networks, shared folders, the small ones.
 */
#include <errno.h>
#include <string.h>

#include "chardev/chardev.h"
#include "cli/cli.h"
#include "cli/run.h"

/* "FILE,rest" with ",," for a comma in it: FILE, in o's texts, and where rest begins (NULL: none). */
static char *first_word(struct run_options *o, const char *value, char **rest)
{
    *rest = options_text(&o->texts, "%s", value);
    return options_word(rest);
}

/* ---- disks ---------------------------------------------------------------- */

static int disk_format(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    d->format = value;
    return 0;
}
static enum config_drive_bus drive_bus(const char *value)
{
    return !strcmp(value, "ide") ? DRIVE_IDE : !strcmp(value, "ahci") ? DRIVE_AHCI : DRIVE_VIRTIO;
}
static int disk_bus(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    d->bus = drive_bus(value);
    return 0;
}
static int disk_readonly(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    d->readonly = true;
    return 0;
}
static int disk_cache(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    d->direct = !strcmp(value, "none");
    return 0;
}
static int disk_discard(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    d->no_discard = !strcmp(value, "off");
    return 0;
}
static int disk_serial(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    if (strlen(value) > 20)
        return error_set(err, EINVAL, "--disk: serial=%s: at most 20 characters", value);
    d->serial = value;
    return 0;
}
static int disk_backing(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    d->backing = value;
    return parse_backing("--disk: backing", value, err);
}
static int disk_snapshot(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    d->overlay = !strcmp(value, "on") ? "" : NULL;
    return 0;
}
static int disk_errors(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    d->errors = !strcmp(value, "report") ? DISK_ERRORS_REPORT : !strcmp(value, "stop") ? DISK_ERRORS_STOP : DISK_ERRORS_ENOSPC;
    return 0;
}
static int disk_queues(void *to, const char *value, struct error *err)
{
    struct config_disk *d = to;
    u64 n;
    if (parse_number(value, 1, 8, &n))
        return error_set(err, EINVAL, "--disk: queues=%s: a number from 1 to 8", value);
    d->queues = (u32)n;
    return 0;
}

static const struct option_def disk_keys[] = {
    { "format", "raw|qcow2", NULL, disk_format },      { "bus", "virtio|ide|ahci", NULL, disk_bus },
    { "readonly", NULL, NULL, disk_readonly },         { "cache", "writeback|none", NULL, disk_cache },
    { "discard", "on|off", NULL, disk_discard },       { "serial", "TEXT", NULL, disk_serial },
    { "snapshot", "on|off", NULL, disk_snapshot },     { "errors", "enospc|stop|report", NULL, disk_errors },
    { "queues", "N", NULL, disk_queues },              { "backing", "any, none or FOLDER", NULL, disk_backing },
    { NULL, NULL, NULL, NULL },
};

int run_set_disk(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    if (c->ndisks == CONFIG_MAX_DISKS)
        return error_set(err, EINVAL, "--disk %s: a machine has at most %d disks", value, CONFIG_MAX_DISKS);
    struct config_disk *d = &c->disk[c->ndisks++];
    char *keys;
    *d = (struct config_disk){ 0 };
    if (!(d->file = first_word(to, value, &keys)))
        return error_set(err, ENOMEM, "out of memory");
    if (!*d->file)
        return error_set(err, EINVAL, "--disk needs the name of an image");
    return keys ? options_keys(disk_keys, "disk", keys, d, err) : 0;
}

/* ---- CDs ---------------------------------------------------------------------- */

static int cdrom_bus(void *to, const char *value, struct error *err)
{
    struct config_cdrom *d = to;
    d->bus = drive_bus(value);
    return 0;
}
static int cdrom_format(void *to, const char *value, struct error *err)
{
    struct config_cdrom *d = to;
    if (strcmp(value, "raw"))
        return error_set(err, EINVAL, "--cdrom: format=%s: there is only raw, which takes a file that is no CD image as one", value);
    d->raw = true;
    return 0;
}
static const struct option_def cdrom_keys[] = {
    { "bus", "ide|ahci", NULL, cdrom_bus }, { "format", "raw", NULL, cdrom_format }, { NULL, NULL, NULL, NULL },
};

int run_set_cdrom(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    if (c->ncdroms == CONFIG_MAX_CDROMS)
        return error_set(err, EINVAL, "--cdrom %s: a machine has at most %d CD drives", value, CONFIG_MAX_CDROMS);
    struct config_cdrom *d = &c->cdrom[c->ncdroms++];
    char *keys;
    *d = (struct config_cdrom){ .bus = DRIVE_IDE };
    if (!(d->file = first_word(to, value, &keys)))
        return error_set(err, ENOMEM, "out of memory");
    if (!*d->file)
        return error_set(err, EINVAL, "--cdrom needs the name of an image, or none for an empty drive");
    if (!strcmp(d->file, "none"))
        d->file = NULL;
    return keys ? options_keys(cdrom_keys, "cdrom", keys, d, err) : 0;
}

/* ---- floppies --------------------------------------------------------------- */

static int floppy_readonly(void *to, const char *value, struct error *err)
{
    struct config_floppy *f = to;
    f->readonly = true;
    return 0;
}
static const struct option_def floppy_keys[] = { { "readonly", NULL, NULL, floppy_readonly }, { NULL, NULL, NULL, NULL } };

int run_set_floppy(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    if (c->nfloppies == CONFIG_MAX_FLOPPIES)
        return error_set(err, EINVAL, "--floppy %s: a machine has at most %d floppy drives", value, CONFIG_MAX_FLOPPIES);
    struct config_floppy *f = &c->floppy[c->nfloppies++];
    char *keys;
    *f = (struct config_floppy){ 0 };
    if (!(f->file = first_word(to, value, &keys)))
        return error_set(err, ENOMEM, "out of memory");
    if (!*f->file)
        return error_set(err, EINVAL, "--floppy needs the name of an image, or none for an empty drive");
    if (!strcmp(f->file, "none"))
        f->file = NULL;
    return keys ? options_keys(floppy_keys, "floppy", keys, f, err) : 0;
}

/* ---- networks --------------------------------------------------------------- */

int run_set_net(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    if (!*value)
        return error_set(err, EINVAL, "--net needs to know where the cable leads: user, tap:IF, switch:NAME or none");
    if (c->nnets == CONFIG_MAX_NETS)
        return error_set(err, EINVAL, "--net %s: a machine has at most %d network cards", value, CONFIG_MAX_NETS);
    c->net[c->nnets++] = value;
    return 0;
}

/* ---- shared folders --------------------------------------------------------- */

static int share_readonly(void *to, const char *value, struct error *err)
{
    struct config_share *s = to;
    s->readonly = true;
    return 0;
}
static const struct option_def share_keys[] = { { "ro", NULL, NULL, share_readonly }, { NULL, NULL, NULL, NULL } };

int run_set_share(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    if (c->nshares == CONFIG_MAX_SHARES)
        return error_set(err, EINVAL, "--share %s: a machine has at most %d shared folders", value, CONFIG_MAX_SHARES);
    struct config_share *s = &c->share[c->nshares++];
    char *keys;
    char *path = first_word(to, value, &keys);
    if (!path)
        return error_set(err, ENOMEM, "out of memory");
    *s = (struct config_share){ .path = path };
    char *colon = strrchr(path, ':');
    if (colon && !strchr(colon, '/')) {
        *colon = 0;
        s->tag = colon + 1;
    } else { /* the folder's own name */
        for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
            path[n - 1] = 0;
        const char *slash = strrchr(path, '/');
        s->tag = slash && slash[1] ? slash + 1 : "share";
    }
    if (!*path || !*s->tag || strlen(s->tag) > 36)
        return error_set(err, EINVAL, "--share %s: it is PATH[:TAG], the tag of 1 to 36 characters", value);
    for (u32 i = 0; i + 1 < c->nshares; i++)
        if (!strcmp(c->share[i].tag, s->tag))
            return error_set(err, EINVAL, "--share %s: another folder has the tag %s; give one: --share %s:TAG", value,
                             s->tag, path);
    return keys ? options_keys(share_keys, "share", keys, s, err) : 0;
}

/* ---- the small ones --------------------------------------------------------- */

int run_set_console(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    if (!chardev_spec_valid(value))
        return error_set(err, EINVAL, "--console %s: it is one of stdio, null, file:PATH, unix:PATH", value);
    if (c->nconsoles == CONFIG_MAX_CONSOLES)
        return error_set(err, EINVAL, "--console %s: the console has %d ports", value, CONFIG_MAX_CONSOLES);
    c->console[c->nconsoles++] = value;
    return 0;
}

int run_set_parallel(void *to, const char *value, struct error *err)
{
    if (!chardev_spec_valid(value))
        return error_set(err, EINVAL, "--parallel %s: it is one of stdio, null, file:PATH, unix:PATH", value);
    ((struct run_options *)to)->config.parallel = value;
    return 0;
}

int run_set_rng(void *to, const char *value, struct error *err)
{
    ((struct run_options *)to)->config.rng = true;
    return 0;
}

int run_set_balloon(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    c->balloon = true;
    if (value && parse_size(value, &c->balloon_target))
        return error_set(err, EINVAL, "--balloon=%s: how much the guest is to give up, for example 256M", value);
    return 0;
}

int run_set_input(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    const size_t n = strcspn(value, ":");
    const bool tablet = n == 6 && !strncmp(value, "tablet", n);
    if (!tablet && (n != 8 || strncmp(value, "keyboard", n)))
        return error_set(err, EINVAL, "--input %s: it is keyboard or tablet, with :WHERE its events come from", value);
    if (value[n] && !chardev_spec_valid(value + n + 1))
        return error_set(err, EINVAL, "--input %s: events come from stdio, file:PATH or unix:PATH", value);
    if (c->ninputs == CONFIG_MAX_INPUTS)
        return error_set(err, EINVAL, "--input %s: a machine has at most %d", value, CONFIG_MAX_INPUTS);
    c->input[c->ninputs++] = (struct config_input){ tablet, value[n] ? value + n + 1 : NULL };
    return 0;
}

int run_set_usb(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    const size_t n = strcspn(value, ":");
    if (n != 6 || strncmp(value, "tablet", n))
        return error_set(err, EINVAL, "--usb %s: it is tablet, with :WHERE its events come from if not from the screen", value);
    if (value[n] && !chardev_spec_valid(value + n + 1))
        return error_set(err, EINVAL, "--usb %s: events come from stdio, file:PATH or unix:PATH", value);
    if (c->usb_tablet)
        return error_set(err, EINVAL, "--usb %s: a machine has one tablet", value);
    c->usb_tablet = true;
    c->usb_from = value[n] ? value + n + 1 : NULL;
    return 0;
}

static int vsock_cid(void *to, const char *value, struct error *err)
{
    struct vm_config *c = to;
    if (parse_number(value, 3, 0xfffffffe, &c->vsock_cid))
        return error_set(err, EINVAL, "--vsock: cid=%s: a number from 3 to 4294967294", value);
    return 0;
}
static const struct option_def vsock_keys[] = { { "cid", "N", NULL, vsock_cid }, { NULL, NULL, NULL, NULL } };

int run_set_vsock(void *to, const char *value, struct error *err)
{
    struct vm_config *c = &((struct run_options *)to)->config;
    char *keys;
    if (!(c->vsock = first_word(to, value, &keys)))
        return error_set(err, ENOMEM, "out of memory");
    if (!*c->vsock)
        return error_set(err, EINVAL, "--vsock needs the path of its socket");
    c->vsock_cid = 3;
    return keys ? options_keys(vsock_keys, "vsock", keys, c, err) : 0;
}
