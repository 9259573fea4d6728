/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dsdt.asl - what an ACPI system finds on the board "pc" besides what the fixed tables say: processors, the devices
 * of the ISA bus, and how to power off.  Compiled by iasl while building; acpi.c puts the number of processors in.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "LODGE ", "LODGEPC ", 1)
{
    Name (\_S5, Package (4) { 0, 0, 0, 0 })     /* ACPI_SLP_TYP_S5 of devices/acpi_pm.h */

    Scope (\_SB)
    {
        Device (ISA)                            /* ISA bus */
        {
            Name (_HID, EisaId ("PNP0A00"))
            Name (_UID, 0)

            Device (MBRD)                       /* ports no driver should take for free */
            {
                Name (_HID, EisaId ("PNP0C02"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0061, 0x0061, 1, 1)
                    IO (Decode16, 0x0080, 0x0080, 1, 1)
                    IO (Decode16, 0x0092, 0x0092, 1, 1)
                    IO (Decode16, 0x04D0, 0x04D0, 1, 2)
                    IO (Decode16, 0x0510, 0x0510, 1, 2)
                    IO (Decode16, 0x0600, 0x0600, 1, 0x10)
                    IO (Decode16, 0x00B2, 0x00B2, 1, 2)
                    IO (Decode16, 0x0CF9, 0x0CF9, 1, 1)
                    Memory32Fixed (ReadWrite, 0xFEC00000, 0x1000)
                    Memory32Fixed (ReadWrite, 0xFEE00000, 0x1000)
                })
            }
            Device (PIC)
            {
                Name (_HID, EisaId ("PNP0000"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0020, 0x0020, 1, 2)
                    IO (Decode16, 0x00A0, 0x00A0, 1, 2)
                    IRQNoFlags () { 2 }
                })
            }
            Device (TIMR)
            {
                Name (_HID, EisaId ("PNP0100"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0040, 0x0040, 1, 4)
                    IRQNoFlags () { 0 }
                })
            }
            Device (RTC)
            {
                Name (_HID, EisaId ("PNP0B00"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0070, 0x0070, 1, 8)
                    IRQNoFlags () { 8 }
                })
            }
            Device (KBD)
            {
                Name (_HID, EisaId ("PNP0303"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0060, 0x0060, 1, 1)
                    IO (Decode16, 0x0064, 0x0064, 1, 1)
                    IRQNoFlags () { 1 }
                })
            }
            Device (MOU)
            {
                Name (_HID, EisaId ("PNP0F13"))
                Name (_CRS, ResourceTemplate ()
                {
                    IRQNoFlags () { 12 }
                })
            }
            Device (COM1)
            {
                Name (_HID, EisaId ("PNP0501"))
                Name (_UID, 1)
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x03F8, 0x03F8, 1, 8)
                    IRQNoFlags () { 4 }
                })
            }
            Device (COM2)
            {
                Name (_HID, EisaId ("PNP0501"))
                Name (_UID, 2)
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x02F8, 0x02F8, 1, 8)
                    IRQNoFlags () { 3 }
                })
            }
            Device (COM3)
            {
                Name (_HID, EisaId ("PNP0501"))
                Name (_UID, 3)
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x03E8, 0x03E8, 1, 8)
                    IRQNoFlags () { 4 }
                })
            }
            Device (COM4)
            {
                Name (_HID, EisaId ("PNP0501"))
                Name (_UID, 4)
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x02E8, 0x02E8, 1, 8)
                    IRQNoFlags () { 3 }
                })
            }
        }

        /* Processors: _UID is that of the MADT. One that this machine does not have is not present. */
        Name (NCPU, 0xBEEF)                     /* the number, put in by acpi.c */
        Method (CSTA, 1) { If (Arg0 < NCPU) { Return (0x0F) } Return (0) }
        Device (C000) { Name (_HID, "ACPI0007") Name (_UID, 0) Method (_STA) { Return (CSTA (0)) } }
        Device (C001) { Name (_HID, "ACPI0007") Name (_UID, 1) Method (_STA) { Return (CSTA (1)) } }
        Device (C002) { Name (_HID, "ACPI0007") Name (_UID, 2) Method (_STA) { Return (CSTA (2)) } }
        Device (C003) { Name (_HID, "ACPI0007") Name (_UID, 3) Method (_STA) { Return (CSTA (3)) } }
        Device (C004) { Name (_HID, "ACPI0007") Name (_UID, 4) Method (_STA) { Return (CSTA (4)) } }
        Device (C005) { Name (_HID, "ACPI0007") Name (_UID, 5) Method (_STA) { Return (CSTA (5)) } }
        Device (C006) { Name (_HID, "ACPI0007") Name (_UID, 6) Method (_STA) { Return (CSTA (6)) } }
        Device (C007) { Name (_HID, "ACPI0007") Name (_UID, 7) Method (_STA) { Return (CSTA (7)) } }
        Device (C008) { Name (_HID, "ACPI0007") Name (_UID, 8) Method (_STA) { Return (CSTA (8)) } }
        Device (C009) { Name (_HID, "ACPI0007") Name (_UID, 9) Method (_STA) { Return (CSTA (9)) } }
        Device (C00A) { Name (_HID, "ACPI0007") Name (_UID, 10) Method (_STA) { Return (CSTA (10)) } }
        Device (C00B) { Name (_HID, "ACPI0007") Name (_UID, 11) Method (_STA) { Return (CSTA (11)) } }
        Device (C00C) { Name (_HID, "ACPI0007") Name (_UID, 12) Method (_STA) { Return (CSTA (12)) } }
        Device (C00D) { Name (_HID, "ACPI0007") Name (_UID, 13) Method (_STA) { Return (CSTA (13)) } }
        Device (C00E) { Name (_HID, "ACPI0007") Name (_UID, 14) Method (_STA) { Return (CSTA (14)) } }
        Device (C00F) { Name (_HID, "ACPI0007") Name (_UID, 15) Method (_STA) { Return (CSTA (15)) } }
        Device (C010) { Name (_HID, "ACPI0007") Name (_UID, 16) Method (_STA) { Return (CSTA (16)) } }
        Device (C011) { Name (_HID, "ACPI0007") Name (_UID, 17) Method (_STA) { Return (CSTA (17)) } }
        Device (C012) { Name (_HID, "ACPI0007") Name (_UID, 18) Method (_STA) { Return (CSTA (18)) } }
        Device (C013) { Name (_HID, "ACPI0007") Name (_UID, 19) Method (_STA) { Return (CSTA (19)) } }
        Device (C014) { Name (_HID, "ACPI0007") Name (_UID, 20) Method (_STA) { Return (CSTA (20)) } }
        Device (C015) { Name (_HID, "ACPI0007") Name (_UID, 21) Method (_STA) { Return (CSTA (21)) } }
        Device (C016) { Name (_HID, "ACPI0007") Name (_UID, 22) Method (_STA) { Return (CSTA (22)) } }
        Device (C017) { Name (_HID, "ACPI0007") Name (_UID, 23) Method (_STA) { Return (CSTA (23)) } }
        Device (C018) { Name (_HID, "ACPI0007") Name (_UID, 24) Method (_STA) { Return (CSTA (24)) } }
        Device (C019) { Name (_HID, "ACPI0007") Name (_UID, 25) Method (_STA) { Return (CSTA (25)) } }
        Device (C01A) { Name (_HID, "ACPI0007") Name (_UID, 26) Method (_STA) { Return (CSTA (26)) } }
        Device (C01B) { Name (_HID, "ACPI0007") Name (_UID, 27) Method (_STA) { Return (CSTA (27)) } }
        Device (C01C) { Name (_HID, "ACPI0007") Name (_UID, 28) Method (_STA) { Return (CSTA (28)) } }
        Device (C01D) { Name (_HID, "ACPI0007") Name (_UID, 29) Method (_STA) { Return (CSTA (29)) } }
        Device (C01E) { Name (_HID, "ACPI0007") Name (_UID, 30) Method (_STA) { Return (CSTA (30)) } }
        Device (C01F) { Name (_HID, "ACPI0007") Name (_UID, 31) Method (_STA) { Return (CSTA (31)) } }
        Device (C020) { Name (_HID, "ACPI0007") Name (_UID, 32) Method (_STA) { Return (CSTA (32)) } }
        Device (C021) { Name (_HID, "ACPI0007") Name (_UID, 33) Method (_STA) { Return (CSTA (33)) } }
        Device (C022) { Name (_HID, "ACPI0007") Name (_UID, 34) Method (_STA) { Return (CSTA (34)) } }
        Device (C023) { Name (_HID, "ACPI0007") Name (_UID, 35) Method (_STA) { Return (CSTA (35)) } }
        Device (C024) { Name (_HID, "ACPI0007") Name (_UID, 36) Method (_STA) { Return (CSTA (36)) } }
        Device (C025) { Name (_HID, "ACPI0007") Name (_UID, 37) Method (_STA) { Return (CSTA (37)) } }
        Device (C026) { Name (_HID, "ACPI0007") Name (_UID, 38) Method (_STA) { Return (CSTA (38)) } }
        Device (C027) { Name (_HID, "ACPI0007") Name (_UID, 39) Method (_STA) { Return (CSTA (39)) } }
        Device (C028) { Name (_HID, "ACPI0007") Name (_UID, 40) Method (_STA) { Return (CSTA (40)) } }
        Device (C029) { Name (_HID, "ACPI0007") Name (_UID, 41) Method (_STA) { Return (CSTA (41)) } }
        Device (C02A) { Name (_HID, "ACPI0007") Name (_UID, 42) Method (_STA) { Return (CSTA (42)) } }
        Device (C02B) { Name (_HID, "ACPI0007") Name (_UID, 43) Method (_STA) { Return (CSTA (43)) } }
        Device (C02C) { Name (_HID, "ACPI0007") Name (_UID, 44) Method (_STA) { Return (CSTA (44)) } }
        Device (C02D) { Name (_HID, "ACPI0007") Name (_UID, 45) Method (_STA) { Return (CSTA (45)) } }
        Device (C02E) { Name (_HID, "ACPI0007") Name (_UID, 46) Method (_STA) { Return (CSTA (46)) } }
        Device (C02F) { Name (_HID, "ACPI0007") Name (_UID, 47) Method (_STA) { Return (CSTA (47)) } }
        Device (C030) { Name (_HID, "ACPI0007") Name (_UID, 48) Method (_STA) { Return (CSTA (48)) } }
        Device (C031) { Name (_HID, "ACPI0007") Name (_UID, 49) Method (_STA) { Return (CSTA (49)) } }
        Device (C032) { Name (_HID, "ACPI0007") Name (_UID, 50) Method (_STA) { Return (CSTA (50)) } }
        Device (C033) { Name (_HID, "ACPI0007") Name (_UID, 51) Method (_STA) { Return (CSTA (51)) } }
        Device (C034) { Name (_HID, "ACPI0007") Name (_UID, 52) Method (_STA) { Return (CSTA (52)) } }
        Device (C035) { Name (_HID, "ACPI0007") Name (_UID, 53) Method (_STA) { Return (CSTA (53)) } }
        Device (C036) { Name (_HID, "ACPI0007") Name (_UID, 54) Method (_STA) { Return (CSTA (54)) } }
        Device (C037) { Name (_HID, "ACPI0007") Name (_UID, 55) Method (_STA) { Return (CSTA (55)) } }
        Device (C038) { Name (_HID, "ACPI0007") Name (_UID, 56) Method (_STA) { Return (CSTA (56)) } }
        Device (C039) { Name (_HID, "ACPI0007") Name (_UID, 57) Method (_STA) { Return (CSTA (57)) } }
        Device (C03A) { Name (_HID, "ACPI0007") Name (_UID, 58) Method (_STA) { Return (CSTA (58)) } }
        Device (C03B) { Name (_HID, "ACPI0007") Name (_UID, 59) Method (_STA) { Return (CSTA (59)) } }
        Device (C03C) { Name (_HID, "ACPI0007") Name (_UID, 60) Method (_STA) { Return (CSTA (60)) } }
        Device (C03D) { Name (_HID, "ACPI0007") Name (_UID, 61) Method (_STA) { Return (CSTA (61)) } }
        Device (C03E) { Name (_HID, "ACPI0007") Name (_UID, 62) Method (_STA) { Return (CSTA (62)) } }
        Device (C03F) { Name (_HID, "ACPI0007") Name (_UID, 63) Method (_STA) { Return (CSTA (63)) } }
    }
}
