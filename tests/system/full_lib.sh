# SPDX-License-Identifier: Apache-2.0
# full_lib.sh - for tests of the old PC's devices with Linux's own drivers, those of Debian's linux-image-amd64:
# ". full_lib.sh" instead of lib.sh; $module_options are given to all modules. Beside what guest_lib.sh has:
#
#   guest "MODULE..." [OPTION...]   runs $work/script in a guest that has loaded these modules and what they need
. "$(dirname "$0")/guest_lib.sh"
full=$build/guest/full

"$root/tools/guest" "$build/guest" full >"$work/fetch" 2>&1 || skip "no guest kernel: $(tail -n 1 "$work/fetch")"

guest() {
    files=$("$root/tools/module_order" "$full" $1)
    shift
    for f in $files; do basename "$f"; done >"$work/order"
    run_script "$full/vmlinuz" 'for m in $(cat /opt/order); do insmod "/opt/$m" '"${module_options:-}"'; done' "$work/order $files" "$@"
}
