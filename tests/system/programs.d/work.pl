# SPDX-License-Identifier: Apache-2.0
use strict;
use warnings;
my (%count, %pairs, $last);
open my $in, '<', $ARGV[0] or die;
while (<$in>) {
    chomp;
    while (/(\b[a-z]+)\s+(?=([a-z]+))/g) { $pairs{"$1 $2"}++; }
    s/(\d+)$/sprintf "%x", $1/e;
    tr/a-z/b-za/ if $. % 3 == 0;
    $count{$_}++ for split;
    $last = join ' ', reverse split if $. % 1000 == 0;
}
print "$_ $pairs{$_}\n" for sort { $pairs{$b} <=> $pairs{$a} || $a cmp $b } keys %pairs;
print scalar(keys %count), " $last\n";
my ($sum, $x) = (0, 1);
for my $i (1 .. 200000) {
    $x = ($x * 16807) % 2147483647;
    $sum += sin($i) * sqrt($x) + log($i) - atan2($x, $i) + $i ** 0.37;
}
printf "%.15g %d\n", $sum, $x;
my @sorted = sort { $a <=> $b } map { ($_ * 7919) % 100003 } 1 .. 40000;
print "@sorted[0 .. 9] $sorted[-1]\n";
print pack('w*', map { $_ * $_ } 1 .. 300), "\n";
sub ackermann { my ($m, $n) = @_; $m == 0 ? $n + 1 : $n == 0 ? ackermann($m - 1, 1) : ackermann($m - 1, ackermann($m, $n - 1)) }
{ no warnings 'recursion'; print ackermann(2, 60), "\n"; }
