#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hardened.sh LODGE [fortified] - what meson.build promises of the program is in it: an address of its own at each start, no
# stack that can be executed, no segment that is written and executed, all of the linker's tables read-only once it runs,
# stack protectors, and, if it was optimised, the checked forms of libc's functions.
set -eu
lodge=$1
failed=0
want() { # what, and a command that has to succeed
    what=$1
    shift
    if ! "$@" > /dev/null; then
        echo "not so: $what"
        failed=1
    fi
}
header=$(readelf -hW "$lodge") segments=$(readelf -lW "$lodge") dynamic=$(readelf -dW "$lodge") symbols=$(readelf --dyn-syms -W "$lodge")
has() { printf '%s\n' "$1" | grep -qE "$2"; }
lacks() { ! has "$@"; }
want "position independent (PIE)" has "$header" 'Type: *DYN'
want "GNU_RELRO" has "$segments" '^ *GNU_RELRO '
want "BIND_NOW" has "$dynamic" 'BIND_NOW|Flags:.* NOW'
want "a stack that is not executed" has "$segments" '^ *GNU_STACK .* RW +0x'
want "no segment written and executed" lacks "$segments" '^ *LOAD .* RWE '
want "no text relocations" lacks "$dynamic" 'TEXTREL'
want "stack protectors (__stack_chk_fail)" has "$symbols" 'UND __stack_chk_fail'
if [ "${2:-}" = fortified ]; then
    want "FORTIFY (__memcpy_chk and the like)" has "$symbols" 'UND __[a-z_]+_chk'
fi
exit $failed
