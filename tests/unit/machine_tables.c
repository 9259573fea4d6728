/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_tables.c - the tables below 1 MiB as a guest finds them: by searching, with every checksum right, and read
 * back by iasl, which is nobody's idea of a lenient reader.
 */
#include <stdlib.h>
#include <unistd.h>

#include "machine/tables.h"
#include "test.h"

static struct memory *low_memory(void)
{
    struct memory *m = memory_new(NULL);
    CHECK_EQ(memory_add(m, "ram", 0, 0xa0000, false, NULL), 0);
    CHECK_EQ(memory_add(m, "ram", 0xc0000, 0x40000, false, NULL), 0);
    return m;
}

static u64 get(struct memory *m, u64 gpa, unsigned n)
{
    u64 v = 0;
    CHECK_EQ(memory_read(m, gpa, &v, n), 0);
    return v;
}

static u8 sum(struct memory *m, u64 gpa, u64 len)
{
    u8 s = 0;
    for (u64 i = 0; i < len; i++)
        s = (u8)(s + get(m, gpa + i, 1));
    return s;
}

/* Writes a table to a file and has iasl disassemble it; does the text contain what is wanted? */
static void disassemble(struct memory *m, u64 gpa, const char *name, const char *const *want)
{
    char dir[] = "/tmp/lodge-acpi-XXXXXX", command[256], path[64];
    u32 len = (u32)get(m, gpa + 4, 4);
    u8 *table = malloc(len);
    REQUIRE(mkdtemp(dir) && table && memory_read(m, gpa, table, len) == 0);
    snprintf(path, sizeof path, "%s/%s.aml", dir, name);
    FILE *f = fopen(path, "w");
    REQUIRE(f && fwrite(table, 1, len, f) == len);
    fclose(f);
    free(table);
    snprintf(command, sizeof command,
             "cd %s && iasl -d %s.aml >log 2>&1 && ! grep -i -e error -e warning -e 'invalid' log", dir, name);
    CHECK_EQ(system(command), 0);
    for (; *want; want++) {
        snprintf(command, sizeof command, "grep -q -e '%s' %s/%s.dsl", *want, dir, name);
        if (system(command))
            test_fail(__FILE__, __LINE__, "%s has no \"%s\"", name, *want);
    }
    snprintf(command, sizeof command, "rm -r %s", dir);
    CHECK_EQ(system(command), 0);
}

TEST(acpi)
{
    struct memory *m = low_memory();
    u64 rsdp = 0, found = 0;
    CHECK_EQ(acpi_write_tables(m, &(struct acpi_config){ .cpus = 3, .ecam = 0xe0000000, .mmio32 = GiB(3), .mmio64 = GiB(32), .mmio64_size = GiB(32) }, &rsdp, NULL), 0);
    for (u64 a = 0xe0000; a < 0x100000 && !found; a += 16)
        if (get(m, a, 8) == 0x2052545020445352) /* "RSD PTR " */
            found = a;
    CHECK_EQ(found, rsdp);
    CHECK_EQ(sum(m, rsdp, 20), 0);
    CHECK_EQ(sum(m, rsdp, 36), 0);
    u64 xsdt = get(m, rsdp + 24, 8), rsdt = get(m, rsdp + 16, 4);
    CHECK_EQ(sum(m, xsdt, get(m, xsdt + 4, 4)), 0);
    CHECK_EQ(sum(m, rsdt, get(m, rsdt + 4, 4)), 0);
    u64 fadt = get(m, xsdt + 36, 8), madt = get(m, xsdt + 44, 8), dsdt = get(m, fadt + 140, 8);
    CHECK_EQ(get(m, rsdt + 36, 4), fadt);
    CHECK_EQ(get(m, fadt, 4), 0x50434146); /* "FACP" */
    CHECK_EQ(get(m, fadt + 40, 4), dsdt);
    CHECK_EQ(get(m, get(m, fadt + 36, 4), 4), 0x53434146); /* "FACS" */
    CHECK_EQ(get(m, fadt + 36, 4) % 64, 0);
    CHECK_EQ(sum(m, fadt, get(m, fadt + 4, 4)), 0);
    CHECK_EQ(sum(m, madt, get(m, madt + 4, 4)), 0);
    CHECK_EQ(sum(m, dsdt, get(m, dsdt + 4, 4)), 0);
    u64 ssdt = get(m, xsdt + 52, 8), mcfg = get(m, xsdt + 60, 8);
    CHECK_EQ(get(m, mcfg, 4), 0x4746434d); /* "MCFG" */
    CHECK_EQ(get(m, mcfg + 44, 8), 0xe0000000);
    CHECK_EQ(sum(m, mcfg, get(m, mcfg + 4, 4)), 0);
    disassemble(m, dsdt, "dsdt",
                (const char *const[]){ "_S5", "PNP0A03", "PNP0501", "PNP0B00", "PNP0303", "PNP0C0F",
                                       "W64B, 0x0*20)", "W64S, 0x0*20)", "W32B, 0x0*C0000000)", NULL });
    disassemble(m, ssdt, "ssdt", (const char *const[]){ "C002", "ACPI0007", "_UID, 0x02", NULL });
    disassemble(m, fadt, "facp",
                (const char *const[]){ "PM Timer Block Address : 00000608", "SCI Interrupt : 0009", "VGA Not Present (V4) : 1",
                                       "Value to cause reset : 06", NULL });
    disassemble(
        m, madt, "apic",
        (const char *const[]){ "Local Apic ID : 02", "I/O APIC", "Interrupt : 00000002", "Local APIC NMI", NULL });
    memory_free(m);
}

TEST(acpi_with_vga)
{
    struct memory *m = low_memory();
    u64 rsdp;
    CHECK_EQ(acpi_write_tables(m, &(struct acpi_config){ .cpus = 1, .vga = true }, &rsdp, NULL), 0);
    disassemble(m, get(m, get(m, rsdp + 24, 8) + 36, 8), "facp", (const char *const[]){ "VGA Not Present (V4) : 0", NULL });
    memory_free(m);
}

TEST(acpi_of_a_micro)
{
    struct memory *m = low_memory();
    struct acpi_config c = { .cpus = 2, .reduced = true, .virtio_mmio = 16 };
    u64 rsdp = 0;
    CHECK_EQ(acpi_write_tables(m, &c, &rsdp, NULL), 0);
    u64 xsdt = get(m, rsdp + 24, 8), fadt = get(m, xsdt + 36, 8), madt = get(m, xsdt + 44, 8), ssdt = get(m, xsdt + 52, 8);
    CHECK_EQ(get(m, xsdt + 4, 4), 60);
    CHECK_EQ(get(m, fadt + 36, 4), 0); /* no FACS */
    CHECK_EQ(get(m, madt + 40, 4), 0); /* no 8259As */
    disassemble(m, get(m, fadt + 140, 8), "dsdt", (const char *const[]){ "_S5", "PNP0501", NULL });
    disassemble(m, fadt, "facp",
                (const char *const[]){ "Hardware Reduced (V5) : 1", "CMOS RTC Not Present (V5) : 1", NULL });
    disassemble(m, ssdt, "ssdt",
                (const char *const[]){ "LNRO0005", "V00F", "0xC000F000", "0x00001000", "0x00000017", "Level, ActiveHigh", NULL });
    disassemble(m, madt, "apic", (const char *const[]){ "Local Apic ID : 01", "I/O APIC", NULL });
    memory_free(m);
}

TEST(acpi_has_room_for_all_processors)
{
    struct memory *m = low_memory();
    u64 rsdp;
    CHECK_EQ(acpi_write_tables(m, &(struct acpi_config){ .cpus = 64, .ecam = 0xe0000000 }, &rsdp, NULL), 0);
    CHECK_EQ(mp_write_table(m, 64, NULL), 0);
    memory_free(m);
}

TEST(mp)
{
    struct memory *m = low_memory();
    CHECK_EQ(mp_write_table(m, 4, NULL), 0);
    CHECK_EQ(get(m, 0xf0000, 4), 0x5f504d5f); /* "_MP_" */
    CHECK_EQ(sum(m, 0xf0000, 16), 0);
    u64 table = get(m, 0xf0004, 4), len = get(m, table + 4, 2);
    CHECK_EQ(get(m, table, 4), 0x504d4350); /* "PCMP" */
    CHECK_EQ(sum(m, table, len), 0);
    /* The entries, by their lengths, end where the table does. */
    u64 at = table + 44, cpus = 0, pci = 0;
    for (u64 i = get(m, table + 34, 2); i; i--) {
        u64 type = get(m, at, 1);
        cpus += type == 0;
        pci += type == 3 && get(m, at + 4, 1) == 0; /* interrupts of bus 0 */
        CHECK(type != 3 || get(m, at + 1, 1) != 3); /* no 8259A at the I/O APIC (ExtINT): none is wired there */
        at += type == 0 ? 20 : 8;
    }
    CHECK_EQ(at, table + len);
    CHECK_EQ(cpus, 4);
    CHECK_EQ(pci, 31 * 4);
    memory_free(m);
}

TEST(bios_data_area)
{
    struct memory *m = low_memory();
    CHECK_EQ(bda_write(m, 4, NULL), 0);
    CHECK_EQ(get(m, 0x400, 2), 0x3f8);
    CHECK_EQ(get(m, 0x413, 2), 639);
    CHECK_EQ(get(m, 0x40e, 2), 0x9fc0);
    memory_free(m);
}

TEST(no_memory_is_said)
{
    struct memory *m = memory_new(NULL);
    struct error err = { "" };
    u64 rsdp;
    CHECK(acpi_write_tables(m, &(struct acpi_config){ .cpus = 1 }, &rsdp, &err) < 0 && err.text[0]);
    CHECK(mp_write_table(m, 1, &err) < 0);
    CHECK(bda_write(m, 4, &err) < 0);
    CHECK(entry_write(m, 1, 2, &err) < 0);
    memory_free(m);
}
