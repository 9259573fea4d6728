/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_firmware.c - the board as a firmware finds it: where its code is, shadow RAM, what fw_cfg tells it - read as
 * firmware does, and the ACPI loader's commands carried out - and the ways to reset it.
 */
#include "machine/tables.h"
#include "machine_rig.h"

enum { CODE = 256 << 10, VARS = 64 << 10 };
static u8 code[CODE], vars[VARS];
static struct firmware fw = { .code = code, .code_size = CODE, .vars = vars, .vars_size = VARS, .vars_fd = -1 };

static void start(struct rig *r, void (*plug)(struct rig *r))
{
    for (u32 i = 0; i < CODE; i++)
        code[i] = (u8)(i * 7 + (i >> 8));
    memset(vars, 0xee, VARS);
    rig_new_firmware(r, MACHINE_PC, &fw, plug);
}

static u64 rd(struct rig *r, u64 gpa, unsigned size)
{
    u64 v = 0;
    return memory_read(machine_memory(r->m), gpa, &v, size) ? ops->mmio_read(r->m, 0, gpa, size) : v;
}
static void wr(struct rig *r, u64 gpa, unsigned size, u64 v)
{
    if (memory_write(machine_memory(r->m), gpa, &v, size))
        ops->mmio_write(r->m, 0, gpa, size, v);
}
static void config(struct rig *r, u32 devfn, u32 reg, u8 v)
{
    out(r, 0xcf8, 4, 0x80000000u | devfn << 8 | (reg & 0xfc));
    out(r, (u16)(0xcfc + (reg & 3)), 1, v);
}

TEST(power_on)
{
    struct rig r;
    start(&r, NULL);
    CHECK_EQ(r.vcpu[0]->state.seg[CS].base + r.vcpu[0]->state.rip, 0xfffffff0);
    CHECK_EQ(r.vcpu[0]->state.cr0 & CR0_PE, 0);
    CHECK_EQ(rd(&r, 0xfffffff0, 1), code[CODE - 16]);
    CHECK_EQ(rd(&r, GiB(4) - CODE, 1), code[0]);
    CHECK_EQ(rd(&r, 0xffff0, 1), code[CODE - 16]);
    CHECK_EQ(rd(&r, 0xe0000, 1), code[CODE - (128 << 10)]);
    CHECK_EQ(rd(&r, 0xc0000, 1), 0xff); /* nobody */
    CHECK_EQ(rd(&r, GiB(4) - CODE - VARS, 1), 0xee);
    wr(&r, GiB(4) - CODE - VARS, 1, 0x70);
    CHECK_EQ(rd(&r, GiB(4) - CODE - VARS, 1), 0x80); /* the flash's status */
    rig_free(&r);
}

/* OVMF's ResetSystem does not ask where the block is. */
TEST(power_management_base)
{
    struct rig r;
    start(&r, NULL);
    out(&r, 0xcf8, 4, 0x80000b40);
    CHECK_EQ(in(&r, 0xcfc, 4), 0xb001);
    out(&r, 0xb004, 2, 0x2000);
    CHECK_EQ(r.events[MACHINE_POWER_OFF], 1);
    rig_free(&r);
}

TEST(shadow)
{
    struct rig r;
    start(&r, NULL);
    const u8 rom = code[CODE - 16];
    wr(&r, 0xffff0, 1, 1);
    CHECK_EQ(rd(&r, 0xffff0, 1), rom);
    config(&r, 0, 0x59, 0x20); /* reads from the bus, writes to RAM */
    wr(&r, 0xffff0, 1, 2);
    CHECK_EQ(rd(&r, 0xffff0, 1), rom);
    config(&r, 0, 0x59, 0x10); /* reads from RAM, writes to the bus */
    CHECK_EQ(rd(&r, 0xffff0, 1), 2);
    wr(&r, 0xffff0, 1, 3);
    CHECK_EQ(rd(&r, 0xffff0, 1), 2);
    config(&r, 0, 0x59, 0x30);
    wr(&r, 0xffff0, 1, 4);
    CHECK_EQ(rd(&r, 0xffff0, 1), 4);
    config(&r, 0, 0x5a, 0x30); /* C4000h-C7FFFh alone */
    wr(&r, 0xc3fff, 1, 5), wr(&r, 0xc4000, 1, 6), wr(&r, 0xc7fff, 1, 7), wr(&r, 0xc8000, 1, 8);
    CHECK_EQ(rd(&r, 0xc3fff, 1), 0xff);
    CHECK_EQ(rd(&r, 0xc4000, 1), 6);
    CHECK_EQ(rd(&r, 0xc7fff, 1), 7);
    CHECK_EQ(rd(&r, 0xc8000, 1), 0xff);
    config(&r, 0, 0x5c, 0x03); /* D0000h-D3FFFh: write through a 16-bit access that ends there */
    wr(&r, 0xd3ffe, 2, 0x1234);
    CHECK_EQ(rd(&r, 0xd3ffe, 2), 0x1234);
    CHECK_EQ(machine_reset(r.m, NULL, NULL), 0);
    CHECK_EQ(rd(&r, 0xffff0, 1), rom);
    rig_free(&r);
}

/* ---- fw_cfg ---- */

static u32 read_item(struct rig *r, u16 key, void *to, u32 len)
{
    out(r, 0x510, 2, key);
    for (u32 i = 0; i < len; i++)
        ((u8 *)to)[i] = (u8)in(r, 0x511, 1);
    return len;
}

static u32 read_file(struct rig *r, const char *name, u8 *to, u32 max)
{
    u8 dir[4 + 32 * 64];
    read_item(r, 0x19, dir, sizeof dir);
    for (u32 i = 0; i < dir[3]; i++) {
        const u8 *e = dir + 4 + i * 64;
        const u32 len = (u32)e[0] << 24 | (u32)e[1] << 16 | (u32)e[2] << 8 | e[3];
        if (!strcmp((const char *)e + 8, name) && len <= max)
            return read_item(r, (u16)(e[4] << 8 | e[5]), to, len);
    }
    return 0;
}

static void add_boots(struct rig *r)
{
    CHECK_EQ(machine_add_boot(r->m, MACHINE_BOOT_DISK, "/first", NULL), 0);
    CHECK_EQ(machine_add_boot(r->m, MACHINE_BOOT_FLOPPY, "/last", NULL), 0);
    CHECK_EQ(machine_add_boot(r->m, MACHINE_BOOT_CDROM, "/cd", NULL), 0);
    CHECK_EQ(machine_add_boot(r->m, MACHINE_BOOT_DISK, "/second", NULL), 0);
}

TEST(items)
{
    struct rig r;
    u8 b[16384];
    start(&r, add_boots);
    const u32 n = read_file(&r, "bootorder", b, sizeof b);
    CHECK_EQ(n, sizeof "/cd\n/first\n/second\n/last");
    CHECK_STR((char *)b, "/cd\n/first\n/second\n/last");
    CHECK_EQ(read_file(&r, "etc/e820", b, sizeof b), 40);
    CHECK_EQ(*(u64 *)(b + 8), MiB(8));
    CHECK_EQ(read_item(&r, 0x0f, b, 2) && b[0] == 2, 1);
    out(&r, 0x70, 1, 0x3d);
    CHECK_EQ(in(&r, 0x71, 1), 0x23); /* CD-ROM, then disk */
    rig_free(&r);
}

TEST(smbios)
{
    struct rig r;
    u8 a[64], t[16384];
    start(&r, NULL);
    CHECK_EQ(read_file(&r, "etc/smbios/smbios-anchor", a, sizeof a), 31);
    const u32 len = read_file(&r, "etc/smbios/smbios-tables", t, sizeof t);
    CHECK_EQ(memcmp(a, "_SM_", 4), 0);
    CHECK_EQ(a[22] | a[23] << 8, len);
    u32 count = 0, at = 0, processors = 0;
    u8 type = 0;
    while (at + 4 < len && type != 127) { /* each: its length, then strings up to two zeroes */
        type = t[at];
        processors += type == 4;
        at += t[at + 1];
        while (at + 1 < len && (t[at] || t[at + 1]))
            at++;
        at += 2;
        count++;
    }
    CHECK_EQ(at, len);
    CHECK_EQ(type, 127);
    CHECK_EQ(processors, 2);
    CHECK_EQ(a[28] | a[29] << 8, count);
    rig_free(&r);
}

/* ---- the ACPI loader, as firmware runs it ---- */

static struct loaded {
    char name[56];
    u8 data[65536];
    u32 len;
    u64 at;
} file[2];

static struct loaded *find(const char *name)
{
    for (u32 i = 0; i < 2; i++)
        if (!strcmp(file[i].name, name))
            return &file[i];
    return NULL;
}

static void disassemble(const u8 *table, const char *name)
{
    char dir[] = "/tmp/lodge-acpi-XXXXXX", command[256], path[64];
    REQUIRE(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/%s.aml", dir, name);
    FILE *f = fopen(path, "w");
    const u32 len = *(const u32 *)(table + 4);
    REQUIRE(f && fwrite(table, 1, len, f) == len);
    fclose(f);
    snprintf(command, sizeof command, "cd %s && iasl -d %s.aml >log 2>&1 && ! grep -i -e error -e warning -e 'invalid' log", dir, name);
    CHECK_EQ(system(command), 0);
    snprintf(command, sizeof command, "rm -r %s", dir);
    CHECK_EQ(system(command), 0);
}

TEST(table_loader)
{
    static u8 script[128 * 64];
    struct rig r;
    u64 next = 0x7000000;
    u32 files = 0;
    start(&r, NULL);
    const u32 len = read_file(&r, "etc/table-loader", script, sizeof script);
    CHECK(len && len % 128 == 0);
    memset(file, 0, sizeof file);
    for (u8 *e = script; e < script + len; e += 128) {
        const char *name = (char *)e + 4;
        struct loaded *f = find(name), *src;
        u64 v = 0;
        switch (*(u32 *)e) {
        case 1:
            REQUIRE(files < 2);
            f = &file[files++];
            strcpy(f->name, name);
            f->len = read_file(&r, name, f->data, sizeof f->data);
            CHECK(f->len);
            f->at = next, next += align_up(f->len, 4096);
            break;
        case 2:
            src = find((char *)e + 60);
            REQUIRE(f && src);
            const u32 offset = *(u32 *)(e + 116);
            REQUIRE(offset + e[120] <= f->len);
            memcpy(&v, f->data + offset, e[120]);
            CHECK(v < src->len);
            v += src->at;
            memcpy(f->data + offset, &v, e[120]);
            break;
        case 3:
            REQUIRE(f && *(u32 *)(e + 64) + *(u32 *)(e + 68) <= f->len);
            u8 sum = 0;
            for (u32 i = 0; i < *(u32 *)(e + 68); i++)
                sum = (u8)(sum + f->data[*(u32 *)(e + 64) + i]);
            f->data[*(u32 *)(e + 60)] = (u8)(f->data[*(u32 *)(e + 60)] - sum);
            break;
        default:
            test_fail(__FILE__, __LINE__, "command %u", *(u32 *)e);
        }
    }
    const struct loaded *root = find("etc/acpi/rsdp"), *tables = find("etc/acpi/tables");
    REQUIRE(root && tables);
    CHECK_EQ(memcmp(root->data, "RSD PTR ", 8), 0);
    const u8 *xsdt = tables->data + (*(u64 *)(root->data + 24) - tables->at);
    CHECK_EQ(memcmp(xsdt, "XSDT", 4), 0);
    const u32 n = (*(u32 *)(xsdt + 4) - 36) / 8;
    CHECK(n >= 4 && n <= 8); /* FADT, MADT, SSDT, MCFG at least */
    for (u32 i = 0; i < n; i++) {
        u64 at;
        char name[5] = "";
        memcpy(&at, xsdt + 36 + i * 8, 8);
        memcpy(name, tables->data + (at - tables->at), 4);
        disassemble(tables->data + (at - tables->at), name);
        if (!strcmp(name, "FACP")) {
            memcpy(&at, tables->data + (at - tables->at) + 140, 8);
            disassemble(tables->data + (at - tables->at), "DSDT");
        }
    }
    rig_free(&r);
}

/* ---- reset ---- */

TEST(resets)
{
    struct error err = { "" };
    struct rig r;
    start(&r, NULL);
    out(&r, 0x64, 1, 0xfe);
    CHECK_EQ(r.events[MACHINE_RESET], 1);
    out(&r, 0xcf9, 1, 4);
    out(&r, 0xcf9, 1, 6);
    out(&r, 0x92, 1, 1);
    CHECK(machine_shutdown(r.m));
    CHECK_EQ(r.events[MACHINE_RESET], 5);
    out(&r, 0x70, 1, 0xf), out(&r, 0x71, 1, 5); /* the processors alone, but for a hard reset */
    out(&r, 0x64, 1, 0xfe);
    out(&r, 0xcf9, 1, 4);
    out(&r, 0xcf9, 1, 6);
    CHECK(machine_shutdown(r.m));
    CHECK_EQ(r.events[MACHINE_INIT], 3);
    CHECK_EQ(r.events[MACHINE_RESET], 6);
    r.vcpu[0]->state.rip = 0x1234, r.vcpu[0]->state.gpr[0] = 5;
    cpuid_leaf_add(&r.cpuid, 1, 0, false)->eax = 0x806f8;
    ops->mmio_write(r.m, 0, 0xfee000f0, 4, 0x1ff);
    ops->mmio_write(r.m, 0, 0xfee00320, 4, 0x50);
    CHECK_EQ(machine_init_cpus(r.m), 0);
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xfee000f0, 4), 0xff); /* the local APIC, too */
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xfee00320, 4), 0x10000);
    CHECK_EQ(r.vcpu[0]->state.seg[CS].base + r.vcpu[0]->state.rip, 0xfffffff0);
    CHECK_EQ(r.vcpu[0]->state.gpr[RDX], 0x806f8); /* the processor's signature, as after a reset */
    r.vcpu[0]->state.gpr[RDX] = 0;
    CHECK_EQ(machine_reset(r.m, NULL, &err), 0);
    CHECK_EQ(r.vcpu[0]->state.gpr[RDX], 0x806f8);
    rig_free(&r);
}
