#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# soft_symbols.sh FAST_LIB GATE_LIB - the part of the software engine that runs while the guest's vectors are in the
# host's registers must call nothing that could touch them: only itself, functions of the *_gate.c files (which save
# them first) and the few below. And it must hold no vector instruction itself. A gate it calls must not touch a vector
# register, nor call anything, before soft_vec_save().
set -eu
fast=$1 gate=$2
allowed='_longjmp _setjmp _GLOBAL_OFFSET_TABLE_'
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
nm "$fast" 2>/dev/null | awk '$2 ~ /^[TtDdRrBbVvWw]$/ { print $3 }' | sort -u > "$tmp/own"
nm "$gate" 2>/dev/null | awk '$2 ~ /^[TDRBVW]$/ { print $3 }' | sort -u > "$tmp/gate"
printf '%s\n' $allowed | sort -u > "$tmp/allowed"
sort -u "$tmp/own" "$tmp/gate" "$tmp/allowed" > "$tmp/may"
nm -u "$fast" 2>/dev/null | awk '$1 == "U" { print $2 }' | sort -u > "$tmp/uses"
bad=$(comm -23 "$tmp/uses" "$tmp/may")
if [ -n "$bad" ]; then
    echo "called with the guest's vectors live, and not known to leave them alone:"
    echo "$bad"
    exit 1
fi
if ! grep -q __asan "$tmp/gate" && ! nm -u "$gate" 2>/dev/null | grep -q __asan; then
    comm -12 "$tmp/uses" "$tmp/gate" > "$tmp/gates"
    objdump -dr --no-show-raw-insn "$gate" | awk -v gates="$tmp/gates" '
        BEGIN { while ((getline name < gates) > 0) is_gate[name] = 1 }
        /^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/[<>:]/, "", name); shut = name in is_gate; next }
        !shut { next }
        /R_X86_64_/ && /soft_vec_save/ { shut = called = 0; checked++; next }
        called || /R_X86_64_PLT32/ { print name ": calls another before soft_vec_save()"; shut = called = 0; next }
        /%[xyz]mm|%st|%mm/ { print name ": uses vectors before soft_vec_save(): " $0; shut = 0; next }
        !/R_X86_64_/ { called = /\tcall / }
        END { if (checked < 10) print "only " checked + 0 " gates checked" }' > "$tmp/order"
    if [ -s "$tmp/order" ]; then
        cat "$tmp/order"
        exit 1
    fi
fi
echo "$(wc -l < "$tmp/uses") outside symbols, all gates or harmless"
