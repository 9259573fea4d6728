# SPDX-License-Identifier: Apache-2.0
# emitted_forms.awk - reads --trace jit and prints every host instruction that could reach memory in another way than
# docs/translator-safety.md lists: a memory operand is off GS (a constant, or r11 and a constant), or has one of the two
# registers that only a probe fills. Of the host's own stack only a delta is pushed and popped, off GS and to RCX. And every instruction that would act on the host otherwise than by memory.
/^    [0-9a-f]+  / {
    text = $0
    sub(/  ; .*/, "", text)
    sub(/^    [0-9a-f]+  ([0-9a-f][0-9a-f] )+ */, "", text)
    lines++
    if (text ~ /^(push gs:\[0x[0-9A-Fa-f]+\]|pop rcx)$/)
        next
    if (text ~ /^(syscall|sysenter|sysret|int |into|hlt|in |out |ins|outs|iret|retf|mov ((cr|dr)[0-9]+|[c-g]s|ss),|(rd|wr)(fs|gs|msr|pkru)|swapgs|cli|sti|popf|pushf|std|lgdt|lidt|xsetbv|xrstor|xsave|push |pop |stos|lods|movs[bwdq]$|scas|cmps|(jmp|call) far)/)
        print FILENAME ":" FNR ": " $0
    if (text !~ /\[/ || text ~ /^(lea|nop) /)
        next
    inside = text
    sub(/^[^[]*\[/, "", inside)
    sub(/\].*/, "", inside)
    if (text ~ /gs:\[/) {
        if (inside !~ /^(r11(\*8)?\+)?0x[0-9A-Fa-f]+$/)
            print FILENAME ":" FNR ": " $0
    } else if (inside !~ /(^|[+])r1[01]([*+-]|$)/) {
        print FILENAME ":" FNR ": " $0
    }
}
END { if (!lines) print "no host instructions" }
