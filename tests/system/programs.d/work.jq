# SPDX-License-Identifier: Apache-2.0
[range(20000) | {n: ., square: (. * .), name: "item \(. % 97)", root: (. | sqrt)}]
| group_by(.name)
| map({name: .[0].name, count: length, sum: (map(.square) | add), roots: (map(.root) | add)})
| sort_by(.sum)
| .[0:20], (tostring | length)
