# SPDX-License-Identifier: Apache-2.0
# full_lib.sh - for tests of the old PC's devices with Linux's own drivers, those of Debian's linux-image-amd64:
# ". full_lib.sh" instead of lib.sh.
#
#   guest "MODULE..." [OPTION...]   runs $work/script in a guest that has loaded these modules and what they need; what it
#                                   prints goes to $work/out, without carriage returns. Besides: what is below $work/tree
#                                   is at /, the files $extra are in /opt, $append is on the kernel's command line
#   said TEXT                       was this a whole line of it?
#   report                          ends the test; shows what the guest printed if a check failed
. "$(dirname "$0")/lib.sh"
set -o pipefail
full=$build/guest/full

"$root/tools/guest" "$build/guest" full >"$work/fetch" 2>&1 || skip "no guest kernel: $(tail -n 1 "$work/fetch")"

guest() {
    files=$("$root/tools/module_order" "$full" $1)
    shift
    for f in $files; do basename "$f"; done >"$work/order"
    cat >"$work/autorun" <<'END'
#!/bin/sh
export PATH=/bin
for m in $(cat /opt/order); do insmod "/opt/$m"; done
sum() { sha256sum | cut -c 1-64; }
END
    cat "$work/script" - >>"$work/autorun" <<'END'
echo "complaints=$(dmesg | grep -c -e 'BUG:' -e 'Oops' -e 'rcu.*stall' -e 'Call Trace' -e 'blocked for more' -e 'nobody cared')"
END
    chmod +x "$work/autorun"
    tree=
    [ ! -d "$work/tree" ] || tree="--tree $work/tree"
    "$root/tools/mkinitramfs" "$work/initrd.gz" $tree "$work/autorun" "$work/order" $files ${extra:-}
    status=0
    timeout "${LODGE_BOOT_SECONDS:-120}" "$lodge" run --engine soft --quiet "$@" --kernel "$full/vmlinuz" \
        --initrd "$work/initrd.gz" --append "console=ttyS0 quiet ${append:-}" </dev/null 2>&1 |
        sed -u 's|\r||' >"$work/out" || status=$?
    check "status 0 (it is $status)" test "$status" = 0
    check "no complaint of the kernel's" said complaints=0
}

said() { grep -qxF "$1" "$work/out"; }

report() {
    [ "$failures" = 0 ] || tail -n 60 "$work/out"
    finish
}
