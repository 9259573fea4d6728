# SPDX-License-Identifier: Apache-2.0
# guest_lib.sh - what virtio_lib.sh and full_lib.sh share: a script that runs in a guest with Linux's own drivers.
#
#   run_script KERNEL HEAD "FILE..." [OPTION...]   runs HEAD and $work/script in a guest whose /opt has the FILEs (and $extra),
#                        and what is below $work/tree at /; $append is on its command line. What it prints goes to $work/out,
#                        without carriage returns. $ends_with is lodge's exit status, 0 if not given; $crashes: the guest's
#                        kernel does
#   said TEXT            was this a whole line of it?
#   report               ends the test; shows what the guest printed if a check failed
. "$(dirname "$0")/lib.sh"
set -o pipefail

run_script() {
    kernel=$1 head=$2 files=$3
    shift 3
    {
        printf '#!/bin/sh\nexport PATH=/bin\nsum() { sha256sum | cut -c 1-64; }\n%s\n' "$head"
        cat "$work/script"
        cat <<'END'
echo "complaints=$(dmesg | grep -c -e 'BUG:' -e 'Oops' -e 'rcu.*stall' -e 'Call Trace' -e 'blocked for more' -e 'nobody cared')"
END
    } >"$work/autorun"
    chmod +x "$work/autorun"
    tree=
    [ ! -d "$work/tree" ] || tree="--tree $work/tree"
    "$root/tools/mkinitramfs" "$work/initrd.gz" $tree "$work/autorun" $files ${extra:-}
    status=0
    timeout "${LODGE_BOOT_SECONDS:-300}" "$lodge" run --engine soft --quiet "$@" --kernel "$kernel" \
        --initrd "$work/initrd.gz" --append "console=ttyS0 quiet ${append:-}" </dev/null 2>&1 |
        sed -u 's|\r||' >"$work/out" || status=$?
    check "status ${ends_with:-0} (it is $status)" test "$status" = "${ends_with:-0}"
    [ -n "${crashes:-}" ] || check "no complaint of the kernel's" said complaints=0
}

said() { grep -qxF "$1" "$work/out"; }

report() {
    [ "$failures" = 0 ] || tail -n 60 "$work/out"
    finish
}
