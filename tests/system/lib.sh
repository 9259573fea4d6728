# SPDX-License-Identifier: Apache-2.0
# lib.sh - for the system tests: sourced by each as ". lib.sh"; $1 is the build folder.
#
#   lodge           the program under test
#   skip TEXT       ends the test as skipped
#   check NAME COMMAND...    a failed command is a failed check; the test goes on
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

finish() {
    echo "$checks checks, $failures failed"
    [ "$failures" = 0 ]
    exit
}
