#!/bin/sh
# shared_symbols.sh NM OBJECT OBJECT: fails if both define a function of the library, or one made for a lambda of its, that a
# linker would merge. (Local ones stay with their object; a std::vector of the library's elements is the standard library's.)
nm=$1
defined() {
  "$nm" --defined-only "$1" |
    awk '$2 ~ /^[TW]$/ && ($3 ~ /^_Z[ZNKVRO]*5fovea/ || $3 ~ /5fovea.*Ul/) {print $3}' | sort -u
}
first=$(mktemp) second=$(mktemp)
trap 'rm -f "$first" "$second"' EXIT
defined "$2" >"$first"
defined "$3" >"$second"
count=$(comm -12 "$first" "$second" | wc -l)
echo "$(wc -l <"$first") and $(wc -l <"$second") functions, $count in both"
comm -12 "$first" "$second" | c++filt | cut -c1-300
[ "$count" -eq 0 ] && [ -s "$first" ] && [ -s "$second" ]
