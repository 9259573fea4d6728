# SPDX-License-Identifier: Apache-2.0
# lib.sh - for the system tests: sourced by each as ". lib.sh"; $1 is the build folder.
#
#   lodge           the program under test
#   skip TEXT       ends the test as skipped
#   check NAME COMMAND...    a failed command is a failed check; the test goes on
#   child PID       the process that this one has started; nothing if there is none
#   gone PID        true if there is no such process, or nothing of it but its status
#   finish          ends the test
set -eu
build=$1
lodge=$build/lodge
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=0
failures=0

skip() {
    echo "skipped: $*"
    exit 77
}

check() {
    checks=$((checks + 1))
    check_name=$1
    shift
    if ! "$@"; then
        failures=$((failures + 1))
        echo "FAILED: $check_name"
    fi
}

# By cat, since an awk ends at the first process that is gone before it has read of it.
child() {
    cat /proc/[0-9]*/stat 2>/dev/null |
        awk -v parent="$1" '{ pid = $1; sub(/.*\) /, ""); if ($2 == parent && !found) { print pid; found = 1 } }'
}

# The process of a broker's that runs the guest; it has others for networks, screens and folders.
worker() {
    cat /proc/[0-9]*/stat 2>/dev/null | awk -v parent="$1" '$2 == "(lodge-vm)" && $4 == parent { print $1 }'
}

gone() {
    ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"
}

finish() {
    echo "$checks checks, $failures failed"
    [ "$failures" = 0 ]
    exit
}
