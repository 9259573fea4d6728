# SPDX-License-Identifier: Apache-2.0
# debian.awk - what bench/debian has measured, as a table or as JSON (-v format=json): "MACHINE TEST RUN SECONDS CPU STATUS
# HASH" and "MACHINE cpu TEST SECONDS WAITED CLOCK".  Ends with status 1 if machines came to different results; the
# host's counts where its gcc is the guest's (-v same=1).

$2 == "cpu" {
    if (!(($1, $3) in cpu) || $4 < cpu[$1, $3]) {
        cpu[$1, $3] = $4
        # Threads of one machine wait for each other, too, where they share a CPU: no more than the CPU did without them.
        free = $6 * ($3 ~ /^(gcc|perl)/ ? 2 : 1) - $4
        waited[$1, $3] = $6 ? 100 * ($5 < free ? $5 : free > 0 ? free : 0) / $6 : 0
    }
    next
}
$6 == 0 {
    if ($3 == 1)
        first[$1, $2] = $4
    if (!(($1, $2) in best) || $4 < best[$1, $2])
        best[$1, $2] = $4
    result[$1, $2] = $7
}

function ratio(a, b) { return a && b ? a / b : 0 }
function shown(x, form) { return x ? sprintf(form, x) : "-" }
function differ(test, a, b) { return result[a, test] && result[b, test] && result[a, test] != result[b, test] }
# One line: the figures of host, Lodge (first and best) and TCG, and what is asked for of Lodge's.
function line(key, text, h, l, l1, c, t, t1, slow, vs, asked, wrong) {
    if (!l && !t)
        return
    bad += wrong
    if (format == "json") {
        printf "%s\n {\"name\": \"%s\", \"host\": %s, \"lodge\": %s, \"lodge_first\": %s, \"lodge_cpu\": %s, \"waited_percent\": %.1f, \"tcg\": %s, \"tcg_first\": %s, \"same\": %s}",
            (lines++ ? "," : ""), key, h + 0, l + 0, l1 + 0, c + 0, waited["lodge", key], t + 0, t1 + 0, wrong ? "false" : "true"
        return
    }
    printf "%-32s %7s %7s %7s %7s %7s %7s %9s %8s  %s%s\n", text, shown(h, "%.2f"), shown(l, "%.2f"), shown(l1, "%.2f"), shown(c, "%.2f"),
        shown(t, "%.2f"), shown(t1, "%.2f"), shown(slow, "%.2fx"), shown(vs, "%.2fx"), asked,
        (waited["lodge", key] > 10 ? sprintf("  (others had the CPU for %.0f%%)", waited["lodge", key]) : "") (wrong ? "  WRONG" : "")
}
function seconds(test, text, asked,    h, l, t) {
    h = best["host", test]
    l = best["lodge", test]
    t = best["tcg", test]
    line(test, text, h, l, first["lodge", test], cpu["lodge", test], t, first["tcg", test], ratio(l, h), ratio(t, l), asked,
        test != "apt" && (differ(test, "lodge", "tcg") || same && differ(test, "lodge", "host")))
}
function quotient(m, program) { return ratio(best[m, program 2], best[m, program 1]) }
function two(program,    h, l, t) {
    seconds(program 1, program ", one of two CPUs", "")
    seconds(program 2, program ", two at once", "")
    h = quotient("host", program)
    l = quotient("lodge", program)
    t = quotient("tcg", program)
    line(program "-quotient", "  two to one", h, l, 0, 0, t, 0, ratio(l, h), ratio(t, l), "at most 1.15x the host's", 0)
}

END {
    if (format == "json")
        printf "{\"load\": %s, \"tests\": [", load
    else
        printf "%-32s %7s %7s %7s %7s %7s %7s %9s %8s  %s\n", "seconds", "host", "lodge", "first", "cpu", "tcg", "first", "slowdown",
            "vs tcg", "asked for"
    seconds("login", "login, by the guest's clock", "at most 3 s")
    seconds("start", "login, from the start of lodge", "")
    seconds("apt", "apt-get install gcc libc6-dev", "at most 35 s")
    seconds("build", "gcc -O2, 32 files", "at most 7x, at least 1.6x TCG")
    two("gcc")
    two("perl")
    if (format == "json")
        print "\n]}"
    else
        print "load " load " at the end"
    exit bad > 0
}
