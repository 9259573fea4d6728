# SPDX-License-Identifier: Apache-2.0
proc collatz {n} {
    set steps 0
    while {$n != 1} {
        set n [expr {$n % 2 ? 3 * $n + 1 : $n / 2}]
        incr steps
    }
    return $steps
}
set longest 0
for {set i 1} {$i < 6000} {incr i} {
    set steps [collatz $i]
    dict incr lengths [expr {$steps / 10}]
    if {$steps > $longest} { set longest $steps; set at $i }
}
puts "$longest $at"
foreach key [lsort -integer [dict keys $lengths]] { puts "$key [dict get $lengths $key]" }
puts [expr {2 ** 900 % 1000000007}] 
puts [format %.15g [expr {atan2(3, 7) * pow(1.0000001, 1e7) + hypot(3, 5)}]]
