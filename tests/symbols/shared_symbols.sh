#!/bin/sh
# shared_symbols.sh NM OBJECT OBJECT: fails if both define a function whose name mentions fovea.
nm=$1
defined() { "$nm" --defined-only "$1" | awk '$2 ~ /^[tTwWuUiV]$/ {print $3}' | grep fovea | sort -u; }
first=$(mktemp) second=$(mktemp)
trap 'rm -f "$first" "$second"' EXIT
defined "$2" >"$first"
defined "$3" >"$second"
count=$(comm -12 "$first" "$second" | wc -l)
echo "$(wc -l <"$first") and $(wc -l <"$second") functions, $count in both"
comm -12 "$first" "$second" | c++filt | cut -c1-300
[ "$count" -eq 0 ] && [ -s "$first" ] && [ -s "$second" ]
