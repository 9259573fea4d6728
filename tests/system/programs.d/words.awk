# SPDX-License-Identifier: Apache-2.0
# Words counted, numbers added, functions of floating point summed.
{
    for (i = 1; i <= NF; i++)
        count[$i ~ /^[0-9]+$/ ? "number" : $i]++
    sum += $NF
    wave += sin($NF) * cos($1) + sqrt($NF) - log($NF + 1) + exp(-$1 / 1e4)
    text = substr(text $2, length(text $2) - 63)
    gsub(/[aeiou]/, "<&>", $3)
    marked += length($3)
}
END {
    for (w in count)
        print w, count[w] | "busybox sort"
    close("busybox sort")
    printf "%d %.12g %s %d\n", sum, wave, text, marked
}
