/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fields.c - the table of all fields, in the order of the help and the manual page. `help` is for somebody who looks
 * for the name; `text` is for somebody who reads.
 */
#include <string.h>

#include "chardev/chardev.h"
#include "config/fields.h"

/* ---- forms of texts ---- */

static bool is_event_source(const char *s) { return chardev_spec_valid(s) && strcmp(s, "null"); }
static bool is_screen(const char *s) { return !strncmp(s, "vnc:", 4) && s[4]; }
static bool is_net(const char *s)
{
    return !strcmp(s, "user") || !strcmp(s, "none") || (!strncmp(s, "tap:", 4) && s[4]) || (!strncmp(s, "switch:", 7) && s[7]);
}
static bool is_mac(const char *s)
{
    for (u32 i = 0; i < 6; i++, s += 3)
        if (!strchr("0123456789abcdefABCDEF", s[0]) || !s[0] || !strchr("0123456789abcdefABCDEF", s[1]) || !s[1] ||
            s[2] != (i < 5 ? ':' : 0))
            return false;
    return true;
}

#define CHARDEV_FORM "one of stdio, null, file:PATH, unix:PATH"

static const char *const directs[] = { "off", "auto", "on", NULL };
static const char *const engines[] = { "auto", "kvm", "soft", NULL };
static const char *const machines[] = { "pc", "micro", NULL };
static const char *const boots[] = { "disk", "cdrom", "floppy", "net", NULL };
static const char *const vgas[] = { "auto", "std", "none", NULL };
static const char *const buses[] = { "virtio", "ide", "ahci", NULL };
static const char *const formats[] = { "auto", "raw", "qcow2", NULL };
static const char *const cd_buses[] = { "ide", "ahci", NULL };
static const char *const cd_formats[] = { "auto", "raw", NULL };
static const char *const caches[] = { "writeback", "none", NULL };
static const char *const errors[] = { "report", "stop", "enospc", NULL };
static const char *const models[] = { "virtio", "e1000", NULL };
static const char *const inputs[] = { "keyboard", "tablet", NULL };
static const char *const usbs[] = { "tablet", NULL };

/* ---- groups ---- */

#define AT(member) .offset = offsetof(struct vm_config, member)
#define END { .type = CONFIG_END }

static const struct config_field code_cache_fields[] = {
    { .name = "size", .type = CONFIG_SIZE, .arg = "SIZE", AT(code_cache), .min = MiB(1), .max = GiB(2), .zero = "0", .def = "auto",
      .text = "How much memory it may take; auto is an eighth of the machine's, from 64M to 256M; 0 interprets everything." },
    { .name = "after", .type = CONFIG_NUMBER, .arg = "N", AT(translate_after), .max = 1000, .def = "12",
      .text = "How often code has run when it is translated." },
    END,
};

static const struct config_field firmware_fields[] = {
    { .name = "file", .type = CONFIG_TEXT, .arg = "WHAT", AT(firmware), .path = PATH_FIRMWARE, .min = 1,
      .form = "bios, uefi, or the name of a file",
      .text = "bios, uefi, or a file with a firmware, of 64 KiB to 16 MiB in whole 4 KiB." },
    { .name = "vars", .type = CONFIG_TEXT, .arg = "FILE", AT(firmware_vars), .path = PATH_FILE, .min = 1,
      .text = "UEFI keeps its variables in this file, which is made if there is none; without it a kept machine has them in "
              "its folder, and others forget them." },
    END,
};

static const struct config_field boot_order[] = { { .name = "", .type = CONFIG_CHOICE, .choices = boots }, END };
static const struct config_field boot_fields[] = {
    { .name = "order", .type = CONFIG_LIST, .arg = "KIND", AT(boot), .fields = boot_order, .size = sizeof(u32),
      .count = offsetof(struct vm_config, nboot), .most = CONFIG_MAX_BOOT, .def = "disk cdrom floppy",
      .text = "What is tried, in this order: disk, cdrom, floppy, net." },
    { .name = "menu", .type = CONFIG_NUMBER, .arg = "SECONDS", AT(boot_menu), .min = 1, .max = 60, .zero = "0", .bare = "3",
      .unit = "seconds", .text = "The firmware offers its menu for so long." },
    END,
};

static const struct config_field chardev_item[] = {
    { .name = "", .type = CONFIG_TEXT, .path = PATH_CHARDEV, .valid = chardev_spec_valid, .form = CHARDEV_FORM }, END
};

#define IN(type, member) .offset = offsetof(struct type, member)
static const struct config_field disk_fields[] = {
    { .name = "path", .type = CONFIG_TEXT, .arg = "FILE", IN(config_disk, path), .path = PATH_URL, .min = 1, .api = "path",
      .text = "A raw or qcow2 image, a block device, nbd://HOST/NAME or nbd+unix:///NAME?socket=PATH." },
    { .name = "bus", .type = CONFIG_CHOICE, IN(config_disk, bus), .choices = buses, .text = "What the guest sees it on." },
    { .name = "format", .type = CONFIG_CHOICE, IN(config_disk, format), .choices = formats, .text = "What it is; auto finds out." },
    { .name = "readonly", .type = CONFIG_BOOL, IN(config_disk, readonly), .api = "readonly",
      .text = "The guest may not write. Several machines may then have it." },
    { .name = "cache", .type = CONFIG_CHOICE, IN(config_disk, cache), .choices = caches,
      .text = "Through the host's page cache, or past it (O_DIRECT). What the guest has flushed is on the host's disk with both." },
    { .name = "discard", .type = CONFIG_BOOL, IN(config_disk, discard), .def = "on",
      .text = "Whether what the guest discards is given back to the host." },
    { .name = "serial", .type = CONFIG_TEXT, .arg = "TEXT", IN(config_disk, serial), .min = 1, .max = 20, .api = "serial",
      .text = "The serial number that the guest reads, of at most 20 characters." },
    { .name = "snapshot", .type = CONFIG_BOOL, IN(config_disk, snapshot),
      .text = "The image stays as it is, and what is written goes with the run." },
    { .name = "backing", .type = CONFIG_TEXT, .arg = "any|none|FOLDER", IN(config_disk, backing), .min = 1,
      .text = "A qcow2 image may lie over another file, which it names itself. Without this option Lodge follows the name to "
              "regular files in the image's own folder or below, but for hidden ones, and to the images of lodge-image(1). With a "
              "folder it also follows it there, with any everywhere (also to devices and NBD servers), with none nowhere. An "
              "image from elsewhere can name any file of yours." },
    { .name = "errors", .type = CONFIG_CHOICE, IN(config_disk, errors), .choices = errors, .def = "enospc",
      .text = "When the host cannot write or read: with enospc the machine waits where the host's disk is full, and goes on by "
              "itself once there is room; other errors are the guest's. With stop it waits for any error to be mended; with "
              "report the guest gets them all." },
    { .name = "queues", .type = CONFIG_NUMBER, .arg = "N", IN(config_disk, queues), .min = 1, .max = 8, .zero = "0",
      .text = "Queues of a virtio disk; 0: as many as CPUs, at most 4.", .api = "num_queues" },
    END,
};

static const struct config_field floppy_fields[] = {
    { .name = "path", .type = CONFIG_TEXT, .arg = "FILE", IN(config_floppy, path), .path = PATH_FILE, .min = 1, .zero = "none", .live = true,
      .text = "A plain image of 160, 180, 320, 360, 720, 1200, 1440, 1680 or 2880 KiB, whose size says what kind of drive it "
              "is; none is an empty drive, for 1440 KiB." },
    { .name = "readonly", .type = CONFIG_BOOL, IN(config_floppy, readonly), .text = "The disk is write-protected." },
    END,
};

static const struct config_field cdrom_fields[] = {
    { .name = "path", .type = CONFIG_TEXT, .arg = "FILE", IN(config_cdrom, path), .path = PATH_FILE, .min = 1, .zero = "none", .live = true,
      .text = "An image of a disc; none is an empty drive. A file without an ISO 9660 or UDF file system is refused, but for "
              "format=raw." },
    { .name = "bus", .type = CONFIG_CHOICE, IN(config_cdrom, bus), .choices = cd_buses,
      .text = "ide, which has places for what disks leave of four, or ahci." },
    { .name = "format", .type = CONFIG_CHOICE, IN(config_cdrom, format), .choices = cd_formats,
      .text = "raw: the file is taken as it is, whatever it holds." },
    END,
};

static const struct config_field text_item[] = { { .name = "", .type = CONFIG_TEXT, .min = 1 }, END };
static const struct config_field net_fields[] = {
    { .name = "backend", .type = CONFIG_TEXT, .arg = "WHERE", IN(config_net, backend), .valid = is_net, .def = "user", .api = "id",
      .form = "one of user, tap:IF, switch:NAME, none",
      .text = "Where the cable leads. user: a network of the guest's own behind this host, with DHCP, DNS, IPv4 and IPv6, for which "
              "no privileges are needed. tap:IF: a tap device that this user may open. switch:NAME: a switch between the machines "
              "of this user; each sends from its own address only, and no two have the same. none: no cable." },
    { .name = "model", .type = CONFIG_CHOICE, IN(config_net, model), .choices = models, .text = "What card it is." },
    { .name = "mac", .type = CONFIG_TEXT, .arg = "ADDRESS", IN(config_net, mac), .valid = is_mac, .form = "an address XX:XX:XX:XX:XX:XX",
      .text = "The card's address, which is random without.", .api = "mac" },
    { .name = "seed", .type = CONFIG_TEXT, .arg = "TEXT", IN(config_net, seed), .min = 1,
      .text = "The card's address is made of this: the same text, the same address." },
    { .name = "rate", .type = CONFIG_SIZE, .arg = "BYTES[:BURST]", IN(config_net, rate), .bytes = true, .min = 1, .max = (1ull << 40) - 1, .zero = "0",
      .colon = ':', .tail = "burst", .unit = "bytes a second",
      .text = "At most so many bytes a second each way, with K, M or G, and at once the burst." },
    { .name = "burst", .option = "", .type = CONFIG_SIZE, IN(config_net, burst), .bytes = true, .min = 1, .max = (1ull << 40) - 1, .zero = "0", .unit = "bytes",
      .text = "What may go at once within rate; 0: what it lets through in 50 ms, and at least 64K." },
    { .name = "pcap", .type = CONFIG_TEXT, .arg = "FILE", IN(config_net, pcap), .path = PATH_FILE, .min = 1, .text = "Every frame goes to this file, too." },
    { .name = "queues", .type = CONFIG_NUMBER, .arg = "N", IN(config_net, queues), .min = 1, .max = 8, .def = "1",
      .text = "Pairs of queues, with a tap that was made for several." },
    { .name = "hostfwd", .type = CONFIG_LIST, .arg = "tcp|udp:[ADDR]:PORT-[ADDR]:PORT", IN(config_net, hostfwd), .fields = text_item,
      .size = sizeof(char *), .count = offsetof(struct config_net, nhostfwd), .most = CONFIG_MAX_FORWARDS,
      .text = "user: a port of the host (at 127.0.0.1 if the first address is left out) leads to one of the guest; several." },
    { .name = "restrict", .type = CONFIG_BOOL, IN(config_net, restricted),
      .text = "user: the guest reaches neither the host nor what is behind it; forwarded ports still lead in." },
    { .name = "net", .type = CONFIG_TEXT, .arg = "ADDRESS/BITS", IN(config_net, net), .min = 1,
      .text = "user: the guest's IPv4 network, 10.0.2.0/24 without. The host is .2 there, the DNS server .3, the guest .15." },
    { .name = "ipv6", .type = CONFIG_BOOL, IN(config_net, ipv6), .def = "on", .text = "user: the guest has IPv6, too." },
    { .name = "hostname", .type = CONFIG_TEXT, .arg = "NAME", IN(config_net, hostname), .min = 1, .text = "user: what DHCP calls the guest." },
    { .name = "mtu", .type = CONFIG_NUMBER, .arg = "N", IN(config_net, mtu), .min = 1280, .max = 65521, .def = "1500", .unit = "bytes",
      .text = "user: the largest packet.", .api = "mtu" },
    { .name = "tftp", .type = CONFIG_TEXT, .arg = "DIR", IN(config_net, tftp), .path = PATH_FILE, .min = 1,
      .text = "user: the files below this folder can be read by TFTP from the host. Links that lead out of it, or begin with a "
              "slash, are refused." },
    { .name = "bootfile", .type = CONFIG_TEXT, .arg = "NAME", IN(config_net, bootfile), .min = 1,
      .text = "user: which of these DHCP says is to be booted, if the network is what is booted from." },
    END,
};

static const struct config_field share_fields[] = {
    { .name = "path", .type = CONFIG_TEXT, .arg = "PATH", IN(config_share, path), .path = PATH_FILE, .min = 1, .colon = '/', .tail = "tag",
      .text = "The folder of this host." },
    { .name = "tag", .option = "", .arg = "TAG", .type = CONFIG_TEXT, IN(config_share, tag), .min = 1, .max = 36,
      .text = "What the guest mounts it by; the folder's own name without.", .api = "tag" },
    { .name = "readonly", .option = "ro", .type = CONFIG_BOOL, IN(config_share, readonly), .text = "The guest may not write." },
    END,
};

#define EVENTS "Where its events come from, as a serial port has it: eight bytes each, as struct virtio_input_event."
static const struct config_field from_kind[] = {
    { .name = "kind", .type = CONFIG_CHOICE, .arg = "KIND", IN(config_input, kind), .choices = inputs, .colon = ':', .tail = "from",
      .text = "keyboard or tablet." },
    { .name = "from", .option = "", .arg = "WHERE", .type = CONFIG_TEXT, IN(config_input, from), .path = PATH_CHARDEV, .valid = is_event_source,
      .form = "one of stdio, file:PATH, unix:PATH", .text = EVENTS },
    END,
};
static const struct config_field usb_fields[] = {
    { .name = "kind", .type = CONFIG_CHOICE, .arg = "tablet", IN(config_input, kind), .choices = usbs, .colon = ':', .tail = "from",
      .text = "tablet." },
    { .name = "from", .option = "", .arg = "WHERE", .type = CONFIG_TEXT, IN(config_input, from), .path = PATH_CHARDEV, .valid = is_event_source,
      .form = "one of stdio, file:PATH, unix:PATH", .text = EVENTS " Without it they come from the screen." },
    END,
};

static const struct config_field device_fields[] = {
    { .name = "type", .type = CONFIG_TEXT, .arg = "NAME", IN(config_device, type), .min = 1, .max = 32, .text = "Which." },
    { .name = "options", .option = "", .type = CONFIG_TEXT, IN(config_device, options), .rest = true, .min = 1,
      .text = "Its own options, KEY=VALUE with commas between." },
    END,
};

static const struct config_field balloon_fields[] = {
    { .name = "size", .type = CONFIG_SIZE, .arg = "SIZE", AT(balloon_target), .live = true, .text = "What it takes at once.", .api = "size" },
    END,
};

static const struct config_field vsock_fields[] = {
    { .name = "socket", .type = CONFIG_TEXT, .arg = "PATH", AT(vsock), .path = PATH_FILE, .min = 1, .api = "socket",
      .text = "Host programs connect here, write \"CONNECT PORT\", read \"OK NUMBER\", and are connected to what listens in the "
              "guest. What the guest connects to (CID 2, port P) must listen at PATH_P." },
    { .name = "cid", .type = CONFIG_NUMBER, .arg = "N", AT(vsock_cid), .min = 3, .max = 0xfffffffe, .def = "3", .api = "cid",
      .text = "The guest's address." },
    END,
};

static const struct config_field display_fields[] = {
    { .name = "where", .type = CONFIG_TEXT, .arg = "WHERE", AT(display), .path = PATH_SCREEN, .valid = is_screen, .zero = "none",
      .form = "vnc:HOST:PORT (vnc:127.0.0.1:5900) or vnc:unix:PATH",
      .text = "none, vnc:HOST:PORT or vnc:unix:PATH. Port 0 is any that is free; which, is said." },
    { .name = "password", .type = CONFIG_TEXT, .arg = "FILE", AT(display_password), .path = PATH_FILE, .min = 1,
      .text = "Viewers have to know this file's first line, up to eight characters; an address that others can reach is refused "
              "without." },
    { .name = "tls_creds", .option = "tls-creds", .type = CONFIG_TEXT, .arg = "DIR", AT(display_tls_creds), .path = PATH_FILE, .min = 1,
      .text = "Viewers get in by TLS only, with server-cert.pem and server-key.pem from this folder." },
    END,
};

/* ---- the machine ---- */

#define LIST_OF(n_, member, fields_, struct_, most_)                                                                             \
    .type = CONFIG_LIST, AT(member), .fields = fields_, .size = sizeof(struct_), .count = offsetof(struct vm_config, n_), .most = most_

const struct config_field config_fields[] = {
    { .name = "name", .option = "", .type = CONFIG_TEXT, AT(name), .min = 1, .max = 63, .text = "The machine's name, which its screen's title shows." },
    { .name = "kernel", .type = CONFIG_TEXT, .arg = "FILE", AT(kernel), .path = PATH_FILE, .min = 1, .api = "payload.kernel",
      .help = "the kernel: bzImage, ELF with a PVH note, or Multiboot 1",
      .text = "The kernel: a Linux bzImage, an ELF file with a PVH note, or a Multiboot 1 kernel. It starts without a firmware." },
    { .name = "firmware", .type = CONFIG_GROUP, .fields = firmware_fields, .api = "payload.firmware",
      .help = "bios (the default without a kernel), uefi, or a file; UEFI's\nvariables stay in vars= (made if there is none)",
      .text = "The machine starts as a PC does, from bios (SeaBIOS; the default where there is a disk, a CD or a floppy disk, and "
              "no kernel), uefi (OVMF), or a file with a firmware." },
    { .name = "boot", .type = CONFIG_GROUP, .arg = "KIND[,KIND...]", .fields = boot_fields,
      .help = "the firmware's order of disk, cdrom, floppy, net; menu[=S]: it\noffers its menu for S seconds (disk,cdrom,floppy)",
      .text = "What the firmware boots from." },
    { .name = "initrd", .type = CONFIG_TEXT, .arg = "FILE", AT(initrd), .path = PATH_FILE, .min = 1, .api = "payload.initramfs",
      .help = "initial ramdisk; for a Multiboot kernel its modules:\n\"FILE ARGS,FILE2 ARGS\"",
      .text = "The initial ramdisk. For a Multiboot kernel its modules, each with its arguments, separated by commas: \"file "
              "args,file2 args\"." },
    { .name = "append", .type = CONFIG_TEXT, .arg = "STRING", AT(append), .def = "", .api = "payload.cmdline",
      .help = "the kernel's command line", .text = "The kernel's command line." },
    { .name = "memory", .type = CONFIG_SIZE, .arg = "SIZE", AT(memory), .min = MiB(1), .step = KiB(4), .def = "512M", .api = "memory.size",
      .help = "512M (the default), 2G; a plain number counts MiB",
      .text = "Guest memory, for example 512M or 2G. A plain number counts MiB." },
    { .name = "cpus", .type = CONFIG_NUMBER, .arg = "N", AT(cpus), .min = 1, .max = CONFIG_MAX_CPUS, .def = "1", .api = "cpus.boot_vcpus",
      .help = "number of CPUs", .text = "How many CPUs." },
    { .name = "cpu", .type = CONFIG_TEXT, .arg = "MODEL[,+FEATURE,-FEATURE]", AT(cpu), .min = 1, .def = "host",
      .help = "CPU model (host) with features added and taken away",
      .text = "The CPU the guest is told it has: host (what this host and the engine can give), or a named model. Features are added "
              "and taken away by the names of /proc/cpuinfo." },
    { .name = "engine", .type = CONFIG_CHOICE, .arg = "ENGINE", AT(engine), .choices = engines,
      .help = "auto (the default), kvm or soft",
      .text = "auto takes KVM only after a short test guest has shown that it works here at speed, and says what it took and why." },
    { .name = "machine", .type = CONFIG_CHOICE, .arg = "KIND", AT(machine), .choices = machines,
      .help = "pc (the default), or micro: no legacy parts, starts faster",
      .text = "pc: a PC with PCI (i440FX, PIIX) and all that one always had; or micro: no PCI, no legacy parts, virtio devices by "
              "MMIO; starts faster." },
    { .name = "vga", .type = CONFIG_CHOICE, .arg = "KIND", AT(vga), .choices = vgas,
      .help = "std, the graphics adapter (VGA and Bochs VBE), or none; by\ndefault there is one with firmware and with a screen",
      .text = "std, a graphics adapter (VGA and Bochs VBE), or none. With auto there is one with firmware and with a display." },
    { .name = "disks", .option = "disk", LIST_OF(ndisks, disk, disk_fields, struct config_disk, CONFIG_MAX_DISKS), .api = "disks",
      .help = "a disk image: bus=virtio|ide|ahci, format=raw|qcow2,\nreadonly, serial=TEXT, cache=writeback|none,\ndiscard=on|off, "
              "snapshot=on (what is written goes with the\nrun), backing=any|none|FOLDER (which files it may lie over:\nelse those "
              "beside it), errors=enospc|stop|report, queues=N;\nor nbd://HOST/NAME; may be repeated",
      .text = "A disk. A comma in the name is written twice." },
    { .name = "floppies", .option = "floppy", LIST_OF(nfloppies, floppy, floppy_fields, struct config_floppy, CONFIG_MAX_FLOPPIES),
      .help = "a floppy disk's image, of 160 KiB to 2.88 MiB; none: an\nempty drive; may be given twice",
      .text = "A floppy drive with this disk in it." },
    { .name = "cdroms", .option = "cdrom", LIST_OF(ncdroms, cdrom, cdrom_fields, struct config_cdrom, CONFIG_MAX_CDROMS),
      .help = "a disc in a CD drive of its own, none: an empty one;\nbus=ide|ahci; may be repeated",
      .text = "A disc in a CD drive of its own. The command lodge media, see lodge-screen(1), changes discs later." },
    { .name = "nets", .option = "net", LIST_OF(nnets, net, net_fields, struct config_net, CONFIG_MAX_NETS), .api = "net",
      .help = "a network card: user[,hostfwd=tcp:127.0.0.1:2222-:22],\ntap:IF, switch:NAME or none; model=virtio|e1000, mac=,\nrate=, "
              "pcap=FILE, queues=N; may be repeated",
      .text = "A network card." },
    { .name = "shares", .option = "share", LIST_OF(nshares, share, share_fields, struct config_share, CONFIG_MAX_SHARES),
      .help = "a folder of this host, for the guest to mount by its\ntag: mount -t virtiofs TAG /mnt; may be repeated",
      .text = "A folder of this host, which the guest mounts by \"mount -t virtiofs TAG /mnt\". The guest may in it what this user "
              "may, but for devices and files that are setuid or setgid: those it cannot make." },
    { .name = "consoles", .option = "console", LIST_OF(nconsoles, console, chardev_item, char *, CONFIG_MAX_CONSOLES), .arg = "WHERE",
      .help = "a port of the virtio console (hvc0 on), as a serial port", .text = "A port of the virtio console, /dev/hvc0 and on; as serial ports have it." },
    { .name = "vsock", .type = CONFIG_GROUP, .fields = vsock_fields, .api = "vsock",
      .help = "sockets between host and guest: host programs connect to\nPATH and say CONNECT PORT; the guest's go to PATH_PORT",
      .text = "Sockets between host and guest." },
    { .name = "inputs", .option = "input", LIST_OF(ninputs, input, from_kind, struct config_input, CONFIG_MAX_INPUTS),
      .help = "keyboard or tablet; WHERE (unix:PATH) its events come\nfrom, eight bytes each as virtio-input has them",
      .text = "A virtio keyboard or tablet." },
    { .name = "usb", LIST_OF(nusb, usb, usb_fields, struct config_input, CONFIG_MAX_USB),
      .help = "an absolute pointer on a USB 1.1 controller, for systems\nthat have no virtio; WHERE as inputs have it",
      .text = "An absolute pointer on a USB 1.1 controller, for systems that have no virtio." },
    { .name = "rng", .type = CONFIG_BOOL, AT(rng), .help = "random numbers of this host (an image has it always)",
      .text = "Random numbers of this host; an image's machine has it always." },
    { .name = "balloon", .type = CONFIG_GROUP, .fields = balloon_fields, .present = offsetof(struct vm_config, balloon), .arg = "[=SIZE]",
      .help = "memory the guest does not use goes back to this host; SIZE\nof it at once", .api = "balloon",
      .text = "Memory that the guest does not use goes back to the host." },
    { .name = "display", .type = CONFIG_GROUP, .fields = display_fields,
      .help = "the screen: none (the default), vnc:HOST:PORT or\nvnc:unix:PATH, with password=FILE, tls-creds=DIR", .text = "The screen." },
    { .name = "api_socket", .option = "api-socket", .type = CONFIG_TEXT, .arg = "PATH", AT(api_socket), .path = PATH_FILE, .min = 1,
      .help = "the machine's control socket, HTTP and JSON; an image's\nmachine has one, by its name",
      .text = "The machine's control socket, HTTP and JSON; see docs/screen.md, and lodge-screen(1) for commands that use it. An "
              "image's machine has one anyway, which is found by its name." },
    { .name = "code_cache", .option = "code-cache", .type = CONFIG_GROUP, .fields = code_cache_fields,
      .help = "software engine: most memory for translated code (an\neighth of the machine's, 64M to 256M); 0: interpret all;\nafter N "
              "runs of a block (12)",
      .text = "Software engine: translated code, of all CPUs together." },
    { .name = "direct", .type = CONFIG_CHOICE, .arg = "WHEN", AT(direct), .choices = directs, .def = "off",
      .help = "software engine: programs of the guest run on this host's\nprocessor: off (the default), auto (those that compute), on",
      .text = "Software engine: when programs of the guest run on the host's processor and are not translated. off: none, yet the "
              "default; auto: those that compute for long; on: all; see docs/direct-execution.md." },
    { .name = "serial", LIST_OF(nserial, serial, chardev_item, char *, CONFIG_MAX_SERIAL), .arg = "WHERE", .def = "stdio",
      .help = "stdio (the default), null, file:PATH, unix:PATH; the\nfirst is COM1, up to four",
      .text = "Where a serial port goes; the first one given is COM1, up to four. stdio: standard input and output (COM1's "
              "default); a terminal is put into raw mode, and input may be a pipe or /dev/null as well. null: nowhere. file:PATH: output "
              "to a file, emptied first. unix:PATH: a listening socket, one client at a time." },
    { .name = "parallel", .type = CONFIG_TEXT, .arg = "WHERE", AT(parallel), .path = PATH_CHARDEV, .valid = chardev_spec_valid, .form = CHARDEV_FORM,
      .help = "a printer on the parallel port, as a serial port",
      .text = "A printer on the parallel port, and where what it prints goes, as serial ports have it." },
    { .name = "devices", .option = "device", LIST_OF(ndevices, device, device_fields, struct config_device, CONFIG_MAX_DEVICES),
      .help = "a device by its name, such as pvpanic or i6300esb; help\nlists them with their options",
      .text = "A device by its name, with options of its own: pvpanic by which a guest's kernel says that it has crashed, the "
              "watchdog i6300esb, and more; the word help in its place lists them all." },
    { .name = "no_reboot", .option = "no-reboot", .type = CONFIG_BOOL, AT(no_reboot),
      .help = "a reboot of the guest ends the run", .text = "A reboot of the guest ends the run, with status 0." },
    END,
};
