# SPDX-License-Identifier: Apache-2.0
# programs.awk - what bench/programs has measured, as a table or as JSON (-v format=json): "MACHINE NAME RUN SECONDS CPU
# STATUS HASH" and "MACHINE cpu USER SYSTEM".  Ends with status 1 if Lodge's guest came to other results than the host.

$2 == "cpu" && NF == 4 {
    user[$1] = $3
    sys[$1] = $4
    next
}
{
    m = $1
    p = $2
    if ($3 == 1)
        first[m, p] = $4
    if (!((m, p) in best) || $4 < best[m, p])
        best[m, p] = $4
    result[m, p] = $6 " " $7
    if (m == "native" && !(p in seen)) {
        seen[p] = 1
        order[++n] = p
    }
}

function ratio(a, b) { return a && b ? a / b : 0 }
function shown(x, form) { return x ? sprintf(form, x) : "-" }
function note(what, x) {
    if (x) {
        sum[what] += log(x)
        count[what]++
    }
}
function mean(what) { return count[what] ? exp(sum[what] / count[what]) : 0 }

END {
    if (format == "json")
        printf "{\"programs\": ["
    else
        printf "%-8s %8s %8s %8s %8s %9s %9s %8s %8s\n", "program", "host s", "lodge s", "first", "tcg s", "slowdown", "(first)",
            "vs tcg", "(first)"
    for (i = 1; i <= n; i++) {
        p = order[i]
        h = best["native", p]
        l = best["lodge", p]
        slow = ratio(l, h)
        slow1 = ratio(first["lodge", p], h)
        vs = ratio(best["tcg", p], l)
        vs1 = ratio(first["tcg", p], first["lodge", p])
        wrong = result["lodge", p] != result["native", p]
        bad += wrong
        note("slow", slow)
        note("slow1", slow1)
        note("vs", vs)
        note("vs1", vs1)
        if (format == "json")
            printf "%s{\"name\": \"%s\", \"host_s\": %s, \"lodge_s\": %s, \"lodge_first_s\": %s, \"tcg_s\": %s, \"tcg_first_s\": %s, \"same\": %s}",
                (i > 1 ? ", " : ""), p, h + 0, l + 0, first["lodge", p] + 0, best["tcg", p] + 0, first["tcg", p] + 0, wrong ? "false" : "true"
        else
            printf "%-8s %8.3f %8s %8s %8s %9s %9s %8s %8s%s\n", p, h, shown(l, "%.3f"), shown(first["lodge", p], "%.3f"),
                shown(best["tcg", p], "%.3f"), shown(slow, "%.2fx"), shown(slow1, "%.2fx"), shown(vs, "%.2fx"), shown(vs1, "%.2fx"),
                wrong ? "  WRONG" : ""
    }
    if (format == "json") {
        printf "], \"slowdown\": %.3f, \"slowdown_first\": %.3f, \"vs_tcg\": %.3f, \"vs_tcg_first\": %.3f}\n", mean("slow"),
            mean("slow1"), mean("vs"), mean("vs1")
    } else {
        printf "%-8s %35s %9s %9s %8s %8s\n", "geometric mean", "", shown(mean("slow"), "%.2fx"), shown(mean("slow1"), "%.2fx"),
            shown(mean("vs"), "%.2fx"), shown(mean("vs1"), "%.2fx")
        for (m in user)
            printf "%s: %.1f s of processor time as user, %.1f s as system\n", m, user[m], sys[m]
    }
    exit bad > 0
}
