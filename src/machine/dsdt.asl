/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dsdt.asl - what an ACPI system finds on the board "pc" besides what the fixed tables say: the PCI bus, its interrupts,
 * the devices of the ISA bus, and how to power off.  Compiled by iasl while building; acpi.c puts the window above RAM in,
 * and processors are in an SSDT that it writes.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "LODGE ", "LODGEPC ", 1)
{
    Name (\_S5, Package (4) { 0, 0, 0, 0 })     /* ACPI_SLP_TYP_S5 of devices/acpi_pm.h */

    Name (PICM, 0)                              /* 1: the system uses the I/O APIC */
    Method (\_PIC, 1) { PICM = Arg0 }

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_BBN, 0)
            /* Put in by acpi.c; of 32 bits, for SeaBIOS reads this table, and knows no longer ones. */
            Name (W64B, 0x11223344)             /* base and size of the window above RAM, in GiB; size 0: none */
            Name (W64S, 0x11223344)
            Name (W32B, 0x11223344)             /* where the window below 4 GiB begins: above RAM */
            Name (CRSL, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0, 0, 1)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0000, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                             0, 0x000A0000, 0x000BFFFF, 0, 0x00020000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000,,, LOW) /* ends where PC_MMIO32 does */
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0xE0100000, 0xFEBFFFFF, 0, 0x1EB00000)
            })
            Name (CRSH, ResourceTemplate ()
            {
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                             0, 0x0000000100000000, 0x0000000100000000, 0, 1)
            })
            Method (_CRS, 0, Serialized)
            {
                CreateDWordField (CRSL, \_SB.PCI0.LOW._MIN, MINL)
                CreateDWordField (CRSL, \_SB.PCI0.LOW._LEN, LENL)
                MINL = W32B
                LENL = 0xE0000000 - W32B
                If (W64S == 0) { Return (CRSL) }
                CreateQWordField (CRSH, 14, MINB)     /* ACPI 6.5, 6.4.3.5.1 */
                CreateQWordField (CRSH, 22, MAXB)
                CreateQWordField (CRSH, 38, LENB)
                MINB = W64B << 30
                LENB = W64S << 30
                MAXB = ((W64B + W64S) << 30) - 1
                Return (ConcatenateResTemplate (CRSL, CRSH))
            }
            Method (_PRT)
            {
                If (PICM) { Return (PRTA) }
                Return (PRTP)
            }

            Device (ISA)                        /* PIIX3 */
            {
                Name (_ADR, 0x00010000)
                OperationRegion (PIRQ, PCI_Config, 0x60, 4) /* PIRQRC */
                Field (PIRQ, ByteAcc, NoLock, Preserve) { PRQA, 8, PRQB, 8, PRQC, 8, PRQD, 8 }

                Device (MBRD)                       /* ports no driver should take for free */
                {
                    Name (_HID, EisaId ("PNP0C02"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0061, 0x0061, 1, 1)
                        IO (Decode16, 0x0080, 0x0080, 1, 1)
                        IO (Decode16, 0x0092, 0x0092, 1, 1)
                        IO (Decode16, 0x04D0, 0x04D0, 1, 2)
                        IO (Decode16, 0x0510, 0x0510, 1, 12)
                        IO (Decode16, 0x0600, 0x0600, 1, 0x10)
                        IO (Decode16, 0x00B2, 0x00B2, 1, 2)
                        Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000) /* ECAM: PC_ECAM */
                        Memory32Fixed (ReadWrite, 0xFEC00000, 0x1000)
                        Memory32Fixed (ReadWrite, 0xFEE00000, 0x1000)
                    })
                }
                Device (HPET)
                {
                    Name (_HID, EisaId ("PNP0103"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        Memory32Fixed (ReadOnly, 0xFED00000, 0x00000400)
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
                Device (DMAC)
                {
                    Name (_HID, EisaId ("PNP0200"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0000, 0x0000, 1, 0x10)
                        IO (Decode16, 0x0081, 0x0081, 1, 0x0F)
                        IO (Decode16, 0x00C0, 0x00C0, 1, 0x20)
                        DMA (Compatibility, BusMaster, Transfer8_16) { 4 }
                    })
                }
                Name (ISAD, 0x11223344) /* put in by acpi.c: bit 0 there are floppy drives, bit 1 a printer */
                Device (FDC0)
                {
                    Name (_HID, EisaId ("PNP0700"))
                    Method (_STA) { If (ISAD & 1) { Return (0x0F) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x03F2, 0x03F2, 1, 4)
                        IO (Decode16, 0x03F7, 0x03F7, 1, 1)
                        IRQNoFlags () { 6 }
                        DMA (Compatibility, NotBusMaster, Transfer8) { 2 }
                    })
                }
                Device (LPT1)
                {
                    Name (_HID, EisaId ("PNP0400"))
                    Method (_STA) { If (ISAD & 2) { Return (0x0F) } Return (0) }
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0378, 0x0378, 1, 8)
                        IRQNoFlags () { 7 }
                    })
                }
            }
            Device (PM) { Name (_ADR, 0x00010003) } /* PIIX4 */
        }

        /* PIRQA to PIRQD on IRQs of the 8259As, for systems without the I/O APIC. */
        Method (LSTA, 1) { If (Arg0 & 0x80) { Return (0x09) } Return (0x0B) }
        Name (LBUF, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { } })
        Method (LCRS, 1, Serialized)
        {
            CreateWordField (LBUF, 1, IRQM)
            If (Arg0 & 0x80) { IRQM = 0 } Else { IRQM = (1 << (Arg0 & 0x0F)) }
            Return (LBUF)
        }
        Method (LIRQ, 1)
        {
            CreateWordField (Arg0, 1, IRQW)
            FindSetRightBit (IRQW, Local0)
            If (Local0 == 0) { Return (0x80) }
            Return (Local0 - 1)
        }
        Device (LNKA)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 0)
            Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
            Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQA)) }
            Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQA)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQA |= 0x80 }
            Method (_SRS, 1) { \_SB.PCI0.ISA.PRQA = LIRQ (Arg0) }
        }
        Device (LNKB)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 1)
            Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
            Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQB)) }
            Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQB)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQB |= 0x80 }
            Method (_SRS, 1) { \_SB.PCI0.ISA.PRQB = LIRQ (Arg0) }
        }
        Device (LNKC)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 2)
            Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
            Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQC)) }
            Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQC)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQC |= 0x80 }
            Method (_SRS, 1) { \_SB.PCI0.ISA.PRQC = LIRQ (Arg0) }
        }
        Device (LNKD)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 3)
            Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
            Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQD)) }
            Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQD)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQD |= 0x80 }
            Method (_SRS, 1) { \_SB.PCI0.ISA.PRQD = LIRQ (Arg0) }
        }

        /* INTA of slot s is line s modulo 4, INTB the next: inputs 16 to 19 of the I/O APIC, or the links. */
        Name (PRTA, Package (124)
        {
            Package () { 0x01FFFF, 0, 0, 17 }, Package () { 0x01FFFF, 1, 0, 18 }, Package () { 0x01FFFF, 2, 0, 19 }, Package () { 0x01FFFF, 3, 0, 16 },
            Package () { 0x02FFFF, 0, 0, 18 }, Package () { 0x02FFFF, 1, 0, 19 }, Package () { 0x02FFFF, 2, 0, 16 }, Package () { 0x02FFFF, 3, 0, 17 },
            Package () { 0x03FFFF, 0, 0, 19 }, Package () { 0x03FFFF, 1, 0, 16 }, Package () { 0x03FFFF, 2, 0, 17 }, Package () { 0x03FFFF, 3, 0, 18 },
            Package () { 0x04FFFF, 0, 0, 16 }, Package () { 0x04FFFF, 1, 0, 17 }, Package () { 0x04FFFF, 2, 0, 18 }, Package () { 0x04FFFF, 3, 0, 19 },
            Package () { 0x05FFFF, 0, 0, 17 }, Package () { 0x05FFFF, 1, 0, 18 }, Package () { 0x05FFFF, 2, 0, 19 }, Package () { 0x05FFFF, 3, 0, 16 },
            Package () { 0x06FFFF, 0, 0, 18 }, Package () { 0x06FFFF, 1, 0, 19 }, Package () { 0x06FFFF, 2, 0, 16 }, Package () { 0x06FFFF, 3, 0, 17 },
            Package () { 0x07FFFF, 0, 0, 19 }, Package () { 0x07FFFF, 1, 0, 16 }, Package () { 0x07FFFF, 2, 0, 17 }, Package () { 0x07FFFF, 3, 0, 18 },
            Package () { 0x08FFFF, 0, 0, 16 }, Package () { 0x08FFFF, 1, 0, 17 }, Package () { 0x08FFFF, 2, 0, 18 }, Package () { 0x08FFFF, 3, 0, 19 },
            Package () { 0x09FFFF, 0, 0, 17 }, Package () { 0x09FFFF, 1, 0, 18 }, Package () { 0x09FFFF, 2, 0, 19 }, Package () { 0x09FFFF, 3, 0, 16 },
            Package () { 0x0AFFFF, 0, 0, 18 }, Package () { 0x0AFFFF, 1, 0, 19 }, Package () { 0x0AFFFF, 2, 0, 16 }, Package () { 0x0AFFFF, 3, 0, 17 },
            Package () { 0x0BFFFF, 0, 0, 19 }, Package () { 0x0BFFFF, 1, 0, 16 }, Package () { 0x0BFFFF, 2, 0, 17 }, Package () { 0x0BFFFF, 3, 0, 18 },
            Package () { 0x0CFFFF, 0, 0, 16 }, Package () { 0x0CFFFF, 1, 0, 17 }, Package () { 0x0CFFFF, 2, 0, 18 }, Package () { 0x0CFFFF, 3, 0, 19 },
            Package () { 0x0DFFFF, 0, 0, 17 }, Package () { 0x0DFFFF, 1, 0, 18 }, Package () { 0x0DFFFF, 2, 0, 19 }, Package () { 0x0DFFFF, 3, 0, 16 },
            Package () { 0x0EFFFF, 0, 0, 18 }, Package () { 0x0EFFFF, 1, 0, 19 }, Package () { 0x0EFFFF, 2, 0, 16 }, Package () { 0x0EFFFF, 3, 0, 17 },
            Package () { 0x0FFFFF, 0, 0, 19 }, Package () { 0x0FFFFF, 1, 0, 16 }, Package () { 0x0FFFFF, 2, 0, 17 }, Package () { 0x0FFFFF, 3, 0, 18 },
            Package () { 0x10FFFF, 0, 0, 16 }, Package () { 0x10FFFF, 1, 0, 17 }, Package () { 0x10FFFF, 2, 0, 18 }, Package () { 0x10FFFF, 3, 0, 19 },
            Package () { 0x11FFFF, 0, 0, 17 }, Package () { 0x11FFFF, 1, 0, 18 }, Package () { 0x11FFFF, 2, 0, 19 }, Package () { 0x11FFFF, 3, 0, 16 },
            Package () { 0x12FFFF, 0, 0, 18 }, Package () { 0x12FFFF, 1, 0, 19 }, Package () { 0x12FFFF, 2, 0, 16 }, Package () { 0x12FFFF, 3, 0, 17 },
            Package () { 0x13FFFF, 0, 0, 19 }, Package () { 0x13FFFF, 1, 0, 16 }, Package () { 0x13FFFF, 2, 0, 17 }, Package () { 0x13FFFF, 3, 0, 18 },
            Package () { 0x14FFFF, 0, 0, 16 }, Package () { 0x14FFFF, 1, 0, 17 }, Package () { 0x14FFFF, 2, 0, 18 }, Package () { 0x14FFFF, 3, 0, 19 },
            Package () { 0x15FFFF, 0, 0, 17 }, Package () { 0x15FFFF, 1, 0, 18 }, Package () { 0x15FFFF, 2, 0, 19 }, Package () { 0x15FFFF, 3, 0, 16 },
            Package () { 0x16FFFF, 0, 0, 18 }, Package () { 0x16FFFF, 1, 0, 19 }, Package () { 0x16FFFF, 2, 0, 16 }, Package () { 0x16FFFF, 3, 0, 17 },
            Package () { 0x17FFFF, 0, 0, 19 }, Package () { 0x17FFFF, 1, 0, 16 }, Package () { 0x17FFFF, 2, 0, 17 }, Package () { 0x17FFFF, 3, 0, 18 },
            Package () { 0x18FFFF, 0, 0, 16 }, Package () { 0x18FFFF, 1, 0, 17 }, Package () { 0x18FFFF, 2, 0, 18 }, Package () { 0x18FFFF, 3, 0, 19 },
            Package () { 0x19FFFF, 0, 0, 17 }, Package () { 0x19FFFF, 1, 0, 18 }, Package () { 0x19FFFF, 2, 0, 19 }, Package () { 0x19FFFF, 3, 0, 16 },
            Package () { 0x1AFFFF, 0, 0, 18 }, Package () { 0x1AFFFF, 1, 0, 19 }, Package () { 0x1AFFFF, 2, 0, 16 }, Package () { 0x1AFFFF, 3, 0, 17 },
            Package () { 0x1BFFFF, 0, 0, 19 }, Package () { 0x1BFFFF, 1, 0, 16 }, Package () { 0x1BFFFF, 2, 0, 17 }, Package () { 0x1BFFFF, 3, 0, 18 },
            Package () { 0x1CFFFF, 0, 0, 16 }, Package () { 0x1CFFFF, 1, 0, 17 }, Package () { 0x1CFFFF, 2, 0, 18 }, Package () { 0x1CFFFF, 3, 0, 19 },
            Package () { 0x1DFFFF, 0, 0, 17 }, Package () { 0x1DFFFF, 1, 0, 18 }, Package () { 0x1DFFFF, 2, 0, 19 }, Package () { 0x1DFFFF, 3, 0, 16 },
            Package () { 0x1EFFFF, 0, 0, 18 }, Package () { 0x1EFFFF, 1, 0, 19 }, Package () { 0x1EFFFF, 2, 0, 16 }, Package () { 0x1EFFFF, 3, 0, 17 },
            Package () { 0x1FFFFF, 0, 0, 19 }, Package () { 0x1FFFFF, 1, 0, 16 }, Package () { 0x1FFFFF, 2, 0, 17 }, Package () { 0x1FFFFF, 3, 0, 18 },
        })
        Name (PRTP, Package (124)
        {
            Package () { 0x01FFFF, 0, LNKA, 0 }, Package () { 0x01FFFF, 1, LNKB, 0 }, Package () { 0x01FFFF, 2, LNKC, 0 }, Package () { 0x01FFFF, 3, LNKD, 0 },
            Package () { 0x02FFFF, 0, LNKB, 0 }, Package () { 0x02FFFF, 1, LNKC, 0 }, Package () { 0x02FFFF, 2, LNKD, 0 }, Package () { 0x02FFFF, 3, LNKA, 0 },
            Package () { 0x03FFFF, 0, LNKC, 0 }, Package () { 0x03FFFF, 1, LNKD, 0 }, Package () { 0x03FFFF, 2, LNKA, 0 }, Package () { 0x03FFFF, 3, LNKB, 0 },
            Package () { 0x04FFFF, 0, LNKD, 0 }, Package () { 0x04FFFF, 1, LNKA, 0 }, Package () { 0x04FFFF, 2, LNKB, 0 }, Package () { 0x04FFFF, 3, LNKC, 0 },
            Package () { 0x05FFFF, 0, LNKA, 0 }, Package () { 0x05FFFF, 1, LNKB, 0 }, Package () { 0x05FFFF, 2, LNKC, 0 }, Package () { 0x05FFFF, 3, LNKD, 0 },
            Package () { 0x06FFFF, 0, LNKB, 0 }, Package () { 0x06FFFF, 1, LNKC, 0 }, Package () { 0x06FFFF, 2, LNKD, 0 }, Package () { 0x06FFFF, 3, LNKA, 0 },
            Package () { 0x07FFFF, 0, LNKC, 0 }, Package () { 0x07FFFF, 1, LNKD, 0 }, Package () { 0x07FFFF, 2, LNKA, 0 }, Package () { 0x07FFFF, 3, LNKB, 0 },
            Package () { 0x08FFFF, 0, LNKD, 0 }, Package () { 0x08FFFF, 1, LNKA, 0 }, Package () { 0x08FFFF, 2, LNKB, 0 }, Package () { 0x08FFFF, 3, LNKC, 0 },
            Package () { 0x09FFFF, 0, LNKA, 0 }, Package () { 0x09FFFF, 1, LNKB, 0 }, Package () { 0x09FFFF, 2, LNKC, 0 }, Package () { 0x09FFFF, 3, LNKD, 0 },
            Package () { 0x0AFFFF, 0, LNKB, 0 }, Package () { 0x0AFFFF, 1, LNKC, 0 }, Package () { 0x0AFFFF, 2, LNKD, 0 }, Package () { 0x0AFFFF, 3, LNKA, 0 },
            Package () { 0x0BFFFF, 0, LNKC, 0 }, Package () { 0x0BFFFF, 1, LNKD, 0 }, Package () { 0x0BFFFF, 2, LNKA, 0 }, Package () { 0x0BFFFF, 3, LNKB, 0 },
            Package () { 0x0CFFFF, 0, LNKD, 0 }, Package () { 0x0CFFFF, 1, LNKA, 0 }, Package () { 0x0CFFFF, 2, LNKB, 0 }, Package () { 0x0CFFFF, 3, LNKC, 0 },
            Package () { 0x0DFFFF, 0, LNKA, 0 }, Package () { 0x0DFFFF, 1, LNKB, 0 }, Package () { 0x0DFFFF, 2, LNKC, 0 }, Package () { 0x0DFFFF, 3, LNKD, 0 },
            Package () { 0x0EFFFF, 0, LNKB, 0 }, Package () { 0x0EFFFF, 1, LNKC, 0 }, Package () { 0x0EFFFF, 2, LNKD, 0 }, Package () { 0x0EFFFF, 3, LNKA, 0 },
            Package () { 0x0FFFFF, 0, LNKC, 0 }, Package () { 0x0FFFFF, 1, LNKD, 0 }, Package () { 0x0FFFFF, 2, LNKA, 0 }, Package () { 0x0FFFFF, 3, LNKB, 0 },
            Package () { 0x10FFFF, 0, LNKD, 0 }, Package () { 0x10FFFF, 1, LNKA, 0 }, Package () { 0x10FFFF, 2, LNKB, 0 }, Package () { 0x10FFFF, 3, LNKC, 0 },
            Package () { 0x11FFFF, 0, LNKA, 0 }, Package () { 0x11FFFF, 1, LNKB, 0 }, Package () { 0x11FFFF, 2, LNKC, 0 }, Package () { 0x11FFFF, 3, LNKD, 0 },
            Package () { 0x12FFFF, 0, LNKB, 0 }, Package () { 0x12FFFF, 1, LNKC, 0 }, Package () { 0x12FFFF, 2, LNKD, 0 }, Package () { 0x12FFFF, 3, LNKA, 0 },
            Package () { 0x13FFFF, 0, LNKC, 0 }, Package () { 0x13FFFF, 1, LNKD, 0 }, Package () { 0x13FFFF, 2, LNKA, 0 }, Package () { 0x13FFFF, 3, LNKB, 0 },
            Package () { 0x14FFFF, 0, LNKD, 0 }, Package () { 0x14FFFF, 1, LNKA, 0 }, Package () { 0x14FFFF, 2, LNKB, 0 }, Package () { 0x14FFFF, 3, LNKC, 0 },
            Package () { 0x15FFFF, 0, LNKA, 0 }, Package () { 0x15FFFF, 1, LNKB, 0 }, Package () { 0x15FFFF, 2, LNKC, 0 }, Package () { 0x15FFFF, 3, LNKD, 0 },
            Package () { 0x16FFFF, 0, LNKB, 0 }, Package () { 0x16FFFF, 1, LNKC, 0 }, Package () { 0x16FFFF, 2, LNKD, 0 }, Package () { 0x16FFFF, 3, LNKA, 0 },
            Package () { 0x17FFFF, 0, LNKC, 0 }, Package () { 0x17FFFF, 1, LNKD, 0 }, Package () { 0x17FFFF, 2, LNKA, 0 }, Package () { 0x17FFFF, 3, LNKB, 0 },
            Package () { 0x18FFFF, 0, LNKD, 0 }, Package () { 0x18FFFF, 1, LNKA, 0 }, Package () { 0x18FFFF, 2, LNKB, 0 }, Package () { 0x18FFFF, 3, LNKC, 0 },
            Package () { 0x19FFFF, 0, LNKA, 0 }, Package () { 0x19FFFF, 1, LNKB, 0 }, Package () { 0x19FFFF, 2, LNKC, 0 }, Package () { 0x19FFFF, 3, LNKD, 0 },
            Package () { 0x1AFFFF, 0, LNKB, 0 }, Package () { 0x1AFFFF, 1, LNKC, 0 }, Package () { 0x1AFFFF, 2, LNKD, 0 }, Package () { 0x1AFFFF, 3, LNKA, 0 },
            Package () { 0x1BFFFF, 0, LNKC, 0 }, Package () { 0x1BFFFF, 1, LNKD, 0 }, Package () { 0x1BFFFF, 2, LNKA, 0 }, Package () { 0x1BFFFF, 3, LNKB, 0 },
            Package () { 0x1CFFFF, 0, LNKD, 0 }, Package () { 0x1CFFFF, 1, LNKA, 0 }, Package () { 0x1CFFFF, 2, LNKB, 0 }, Package () { 0x1CFFFF, 3, LNKC, 0 },
            Package () { 0x1DFFFF, 0, LNKA, 0 }, Package () { 0x1DFFFF, 1, LNKB, 0 }, Package () { 0x1DFFFF, 2, LNKC, 0 }, Package () { 0x1DFFFF, 3, LNKD, 0 },
            Package () { 0x1EFFFF, 0, LNKB, 0 }, Package () { 0x1EFFFF, 1, LNKC, 0 }, Package () { 0x1EFFFF, 2, LNKD, 0 }, Package () { 0x1EFFFF, 3, LNKA, 0 },
            Package () { 0x1FFFFF, 0, LNKC, 0 }, Package () { 0x1FFFFF, 1, LNKD, 0 }, Package () { 0x1FFFFF, 2, LNKA, 0 }, Package () { 0x1FFFFF, 3, LNKB, 0 },
        })
    }
}
