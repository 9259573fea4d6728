# SPDX-License-Identifier: Apache-2.0
# virtio_lib.sh - for tests of virtio devices with Linux's own drivers: ". virtio_lib.sh" instead of lib.sh. Beside what
# guest_lib.sh has:
#
#   guest [OPTION...]    runs $work/script in a guest that has the kernel's virtio modules loaded, on the board $machine
#                        ($2: pc or micro)
. "$(dirname "$0")/guest_lib.sh"
machine=$2

"$root/tools/guest" "$build/guest" linux modules >"$work/fetch" 2>&1 || skip "no guest kernel: $(tail -n 1 "$work/fetch")"

guest() {
    run_script "$build/guest/vmlinuz" 'for m in $(cat /opt/order); do insmod "/opt/$m.ko"; done
# The name by which the bus knows the device behind /sys/...
bus_name() { basename "$(readlink -f "$1")"; }' "$(echo "$build/guest/modules/"*)" --machine "$machine" "$@"
}
