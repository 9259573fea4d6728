/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules.c - the rules that concern more than one field. Each function is one rule. Its message names the field that the
 * user would change first.
 */
#include <errno.h>
#include <string.h>

#include "config/config.h"

static bool is_stdio(const char *s) { return s && !strcmp(s, "stdio"); }

/* The machine starts a kernel, or a firmware, which then needs something to boot from. */
static int start(const struct vm_config *c, struct error *err)
{
    const bool micro = c->machine == CONFIG_MACHINE_MICRO;

    if (c->kernel && c->firmware)
        return error_set(err, EINVAL, "firmware: a kernel boots without it; leave one of the two out");
    if (micro && !c->kernel)
        return error_set(err, EINVAL, "machine: micro has no firmware to start a disk by; it boots a kernel");
    if (!c->kernel && !c->firmware && !c->ndisks && !c->ncdroms && !c->nfloppies)
        return error_set(err, EINVAL, "kernel: a machine needs something to start: a kernel, a firmware, a disk, a CD or a floppy disk");
    if (!c->kernel && (c->initrd || *c->append))
        return error_set(err, EINVAL, "%s: it is for a kernel; the system that a firmware starts brings its own", c->initrd ? "initrd" : "append");
    if (c->firmware_vars && (!c->firmware || !strcmp(c->firmware, "bios")))
        return error_set(err, EINVAL, "firmware.vars: bios keeps no variables; uefi does");
    for (u32 i = 0; i < c->nboot; i++)
        for (u32 k = 0; k < i; k++)
            if (c->boot[i] == c->boot[k])
                return error_set(err, EINVAL, "boot: something is there twice");
    return 0;
}

/* Refuses what the board "micro" has no place for. */
static int micro(const struct vm_config *c, struct error *err)
{
    if (c->machine != CONFIG_MACHINE_MICRO)
        return 0;
    if (c->vga == CONFIG_VGA_STD)
        return error_set(err, EINVAL, "vga: the machine micro has no place for a graphics adapter; pc has");
    if (c->display)
        return error_set(err, EINVAL, "display: the machine micro has no graphics adapter: there is nothing to show; pc has one");
    if (c->nfloppies || c->parallel)
        return error_set(err, EINVAL, "%s: the machine micro has no floppy drives and no parallel port; pc has", c->nfloppies ? "floppies[0]" : "parallel");
    if (c->ncdroms)
        return error_set(err, EINVAL, "cdroms[0]: the machine micro has no IDE and no AHCI; pc has");
    for (u32 i = 0; i < c->ndisks; i++)
        if (c->disk[i].bus != DRIVE_VIRTIO)
            return error_set(err, EINVAL, "disks[%u].bus: the machine micro has no IDE and no AHCI; pc has", i);
    for (u32 i = 0; i < c->nnets; i++)
        if (c->net[i].model == NET_MODEL_E1000)
            return error_set(err, EINVAL, "nets[%u].model: the machine micro has no PCI, which an e1000 needs; pc has", i);
    if (c->nusb)
        return error_set(err, EINVAL, "usb[0]: the machine micro has no PCI, which USB needs; pc has, or a virtio tablet will do");
    return 0;
}

static int screen(const struct vm_config *c, struct error *err)
{
    if (c->display && c->vga == CONFIG_VGA_NONE)
        return error_set(err, EINVAL, "display: a machine without a graphics adapter (vga: none) has nothing to show");
    if (!c->display && (c->display_password || c->display_tls_creds))
        return error_set(err, EINVAL, "display: none takes no password and no tls-creds");
    return 0;
}

/* Only one thing can have the terminal. The first serial port has it by default, and gives it up when the user says
   so. */
static int terminal(const struct vm_config *c, struct error *err)
{
    u32 n = is_stdio(c->parallel), ports = 0;

    for (u32 i = 0; i < c->nserial; i++)
        ports += is_stdio(c->serial[i]);
    if (ports > 1)
        return error_set(err, EINVAL, "serial: only one port can have the terminal (stdio)");
    for (u32 i = 0; i < c->nconsoles; i++)
        n += is_stdio(c->console[i]);
    for (u32 i = 0; i < c->ninputs; i++)
        n += is_stdio(c->input[i].from);
    for (u32 i = 0; i < c->nusb; i++)
        n += is_stdio(c->usb[i].from);
    if (n + ports > 1)
        return error_set(err, EINVAL, "serial: only one can have the terminal (stdio), and the first serial port has it unless it "
                                      "goes elsewhere, as to null");
    return 0;
}

/* Only a network of the guest's own has these settings. In other networks they would have no effect, but would seem
   to have one. */
static int nets(const struct vm_config *c, struct error *err)
{
    for (u32 i = 0; i < c->nnets; i++) {
        const struct config_net *n = &c->net[i];
        const char *other = n->nhostfwd   ? "hostfwd"
                            : n->restricted ? "restrict"
                            : n->net        ? "net"
                            : !n->ipv6      ? "ipv6"
                            : n->hostname   ? "hostname"
                            : n->tftp       ? "tftp"
                            : n->bootfile   ? "bootfile"
                            : n->mtu != 1500 ? "mtu"
                                            : NULL;
        if (other && strcmp(n->backend, "user"))
            return error_set(err, EINVAL, "nets[%u].%s: only the network \"user\" has this", i, other);
        if (n->burst && !n->rate)
            return error_set(err, EINVAL, "nets[%u].burst: it goes with a rate", i);
    }
    return 0;
}

const char *config_share_tag(const struct config_share *s)
{
    if (s->tag)
        return s->tag;
    const char *slash = strrchr(s->path, '/');
    return slash ? slash + 1 : s->path;
}

static int shares(const struct vm_config *c, struct error *err)
{
    for (u32 i = 0; i < c->nshares; i++) {
        const char *tag = config_share_tag(&c->share[i]);
        if (!*tag || strlen(tag) > 36)
            return error_set(err, EINVAL, "shares[%u]: it needs a tag of 1 to 36 characters, as in PATH:TAG", i);
        for (u32 k = 0; k < i; k++)
            if (!strcmp(config_share_tag(&c->share[k]), tag))
                return error_set(err, EINVAL, "shares[%u]: another folder has the tag %s; give this one another, as in %s:TAG", i, tag,
                                 c->share[i].path);
    }
    return 0;
}

int config_check(const struct vm_config *c, struct error *err)
{
    static int (*const rules[])(const struct vm_config *, struct error *) = { start, micro, screen, terminal, nets, shares };
    int rc = 0;

    for (u32 i = 0; i < ARRAY_SIZE(rules) && !rc; i++)
        rc = rules[i](c, err);
    return rc;
}
