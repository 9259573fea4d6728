/* SPDX-License-Identifier: Apache-2.0 */
/* device_list.c - the devices that have a list of their own in the configuration; the others are in devices/others.c. */
#include "devices/e1000.h"
#include "devices/uhci.h"
#include "virtio/virtio_balloon.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_fs.h"
#include "virtio/virtio_input.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"
#include "virtio/virtio_vsock.h"
#include "vm/devices.h"
#include "vm/drives.h"

const struct device_class *const device_list[] = {
    &virtio_blk_class, &disk_ide_class, &disk_ahci_class, &cdrom_ide_class, &cdrom_ahci_class,
    &virtio_net_class, &e1000_class,
    &virtio_rng_class,
    &virtio_console_class,
    &virtio_fs_class,
    &virtio_input_class,
    &uhci_class,
    &virtio_vsock_class,
    &virtio_balloon_class,
    NULL,
};
