# SPDX-License-Identifier: Apache-2.0
# virtio_lib.sh - for tests of virtio devices with Linux's own drivers: ". virtio_lib.sh" instead of lib.sh.
#
#   guest [OPTION...]    runs $work/script in a guest that has the kernel's virtio modules loaded, on the board $machine
#                        ($2: pc or micro); what it prints goes to $work/out, without carriage returns
#   said TEXT            was this a whole line of it?
. "$(dirname "$0")/lib.sh"
set -o pipefail
machine=$2

"$root/tools/guest" "$build/guest" linux modules >"$work/fetch" 2>&1 || skip "no guest kernel: $(tail -n 1 "$work/fetch")"

guest() {
    cat >"$work/autorun" <<'END'
#!/bin/sh
export PATH=/bin
for m in $(cat /opt/order); do insmod "/opt/$m.ko"; done
# The name by which the bus knows the device behind /sys/...
bus_name() { basename "$(readlink -f "$1")"; }
sum() { sha256sum | cut -c 1-64; }
END
    cat "$work/script" - >>"$work/autorun" <<'END'
echo "complaints=$(dmesg | grep -c -e 'BUG:' -e 'Oops' -e 'rcu.*stall' -e 'Call Trace' -e 'blocked for more')"
END
    chmod +x "$work/autorun"
    "$root/tools/mkinitramfs" "$work/initrd.gz" "$work/autorun" "$build/guest/modules/"*
    status=0
    timeout "${LODGE_BOOT_SECONDS:-120}" "$lodge" run --engine soft --machine "$machine" --quiet "$@" \
        --kernel "$build/guest/vmlinuz" --initrd "$work/initrd.gz" --append "console=ttyS0 quiet" </dev/null 2>&1 |
        sed -u 's|\r||' >"$work/out" || status=$?
    check "status 0 (it is $status)" test "$status" = 0
    check "no complaint of the kernel's" said complaints=0
}

said() { grep -qxF "$1" "$work/out"; }

report() {
    [ "$failures" = 0 ] || tail -n 60 "$work/out"
    finish
}
