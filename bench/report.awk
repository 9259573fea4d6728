# SPDX-License-Identifier: Apache-2.0
# report.awk - what bench/run has measured, as a table or as JSON (-v format=json).  Ends with status 1 if the guest
# came to other results than the host, or not to its end.

$1 == "about" {
    key = $2
    sub(/^about [^ ]* ?/, "")
    about[key] = $0
    abouts[++n_abouts] = key
    next
}
$1 == "fact" {
    fact[$2, $3] = $4
    next
}
{
    ns[$1, $2, $3] = $4
    result[$1, $2, $3] = $5
    if ($1 == "native") {
        kind[++n] = $2
        test[n] = $3
        if (!($2 in known))
            kinds[++n_kinds] = $2
        known[$2] = 1
    }
}

# A quotient, or nothing if either is missing.
function quotient(a, b) { return a && b ? a / b : "" }
function shown(x, form) { return x == "" ? "-" : sprintf(form, x) }
function mean(k, what) { return count[k, what] ? exp(total[k, what] / count[k, what]) : "" }
function add(k, what, x) {
    if (x != "") {
        total[k, what] += log(x)
        count[k, what]++
    }
}
function quoted(s) {
    gsub(/["\\]/, "\\\\&", s)
    return "\"" s "\""
}
function member(name, x) { return x == "" ? "" : sprintf(", %s: %s", quoted(name), x + 0) }

END {
    # The tests of two threads are compared where there are two CPUs, on the host too.
    for (i = 1; i <= n; i++) {
        k = kind[i]
        t = test[i]
        two = k == "smp" ? "2" : ""
        native[i] = ns["native" two, k, t]
        lodge[i] = ns["lodge" two, k, t]
        tcg[i] = ns["tcg" two, k, t]
        slowdown[i] = quotient(lodge[i], native[i])
        ahead[i] = quotient(tcg[i], lodge[i])
        add(k, "slowdown", slowdown[i])
        add(k, "ahead", ahead[i])
        if (two) {
            scaling[i] = quotient(ns["lodge", k, t], lodge[i])
            native_scaling[i] = quotient(ns["native", k, t], native[i])
            tcg_scaling[i] = quotient(ns["tcg", k, t], tcg[i])
        }
        if (!lodge[i])
            wrong[++n_wrong] = k " " t ": missing in Lodge"
        else if (result["lodge" two, k, t] != result["native", k, t])
            wrong[++n_wrong] = k " " t ": Lodge comes to " result["lodge" two, k, t] ", the host to " result["native", k, t]
    }
    if (format == "json")
        json()
    else
        table()
    exit n_wrong > 0
}

function table() {
    printf "%-8s %-11s %13s %13s %13s %10s %9s", "kind", "test", "host ns", "lodge ns", "tcg ns", "slowdown", "vs tcg"
    print ""
    for (i = 1; i <= n; i++)
        printf "%-8s %-11s %13.1f %13s %13s %10s %9s\n", kind[i], test[i], native[i], shown(lodge[i], "%.1f"),
            shown(tcg[i], "%.1f"), shown(slowdown[i], "%.2fx"), shown(ahead[i], "%.2fx")
    print ""
    for (i = 1; i <= n_kinds; i++)
        printf "geometric mean, %-8s slowdown %s, %s times as fast as TCG\n", kinds[i] ":",
            shown(mean(kinds[i], "slowdown"), "%.2f"), shown(mean(kinds[i], "ahead"), "%.2f")
    print "\ntwo CPUs against one, times as fast:       host     lodge       tcg"
    for (i = 1; i <= n; i++)
        if (kind[i] == "smp")
            printf "  %-34s %9s %9s %9s\n", test[i], shown(native_scaling[i], "%.2f"), shown(scaling[i], "%.2f"),
                shown(tcg_scaling[i], "%.2f")
    printf "\nstart to init:            lodge %s s, two CPUs %s s; tcg %s s, %s s\n", shown(fact["lodge", "boot"], "%.2f"),
        shown(fact["lodge2", "boot"], "%.2f"), shown(fact["tcg", "boot"], "%.2f"), shown(fact["tcg2", "boot"], "%.2f")
    printf "resident beside the RAM:  lodge %s MiB, two CPUs %s MiB\n", shown(fact["lodge", "resident"] / 1024, "%.1f"),
        shown(fact["lodge2", "resident"] / 1024, "%.1f")
    printf "idle guest:               lodge %s %% of a CPU\n", shown(fact["lodge", "idle"], "%.2f")
    printf "guest's clock:            lodge %s, tcg %s seconds a second\n\n", shown(fact["lodge", "clock"], "%.4f"),
        shown(fact["tcg", "clock"], "%.4f")
    for (i = 1; i <= n_abouts; i++)
        if (about[abouts[i]] != "")
            printf "%-8s %s\n", abouts[i], about[abouts[i]]
    for (i = 1; i <= n_wrong; i++)
        print "WRONG " wrong[i]
}

function json(    f, parts, separator) {
    printf "{\"about\": {"
    for (i = 1; i <= n_abouts; i++)
        printf "%s%s: %s", (i > 1 ? ", " : ""), quoted(abouts[i]), quoted(about[abouts[i]])
    printf "},\n \"tests\": ["
    for (i = 1; i <= n; i++)
        printf "%s\n  {\"kind\": %s, \"test\": %s%s%s%s%s%s%s%s%s}", (i > 1 ? "," : ""), quoted(kind[i]), quoted(test[i]),
            member("host_ns", native[i]), member("lodge_ns", lodge[i]), member("tcg_ns", tcg[i]),
            member("slowdown", slowdown[i]), member("times_tcg", ahead[i]), member("host_scaling", native_scaling[i]),
            member("lodge_scaling", scaling[i]), member("tcg_scaling", tcg_scaling[i])
    printf "\n ],\n \"means\": {"
    for (i = 1; i <= n_kinds; i++)
        printf "%s%s: {\"tests\": %d%s%s}", (i > 1 ? ", " : ""), quoted(kinds[i]), count[kinds[i], "slowdown"],
            member("slowdown", mean(kinds[i], "slowdown")), member("times_tcg", mean(kinds[i], "ahead"))
    printf "},\n \"facts\": {"
    for (f in fact) {
        split(f, parts, SUBSEP)
        printf "%s%s: %s", separator, quoted(parts[1] "_" parts[2]), fact[f] + 0
        separator = ", "
    }
    printf "},\n \"wrong\": ["
    for (i = 1; i <= n_wrong; i++)
        printf "%s%s", (i > 1 ? ", " : ""), quoted(wrong[i])
    print "]}"
}
