/* SPDX-License-Identifier: Apache-2.0 */
/*
 * micro.asl - the board "micro": its serial port and how to power off.  Its virtio devices are in an SSDT that acpi.c writes.
 */
DefinitionBlock ("micro.aml", "DSDT", 2, "LODGE ", "LODGEMIC", 1)
{
    Name (\_S5, Package (4) { 5, 0, 0, 0 })     /* MICRO_SLP_TYP_S5 of machine/micro.h */

    Scope (\_SB)
    {
        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 1, 8)
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
            })
        }
    }
}
