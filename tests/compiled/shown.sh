#!/bin/sh
# shown.sh NM STRIP LIBRARY HEADER: the library shows the functions of the header, no other symbol, and has at most 12 MB.
nm=$1 strip=$2 library=$3 header=$4
shown=$("$nm" -D --defined-only "$library" | sed 's/.* //' | sort)
declared=$(tr '\n' ' ' < "$header" | grep -o 'FOVEA_API [a-z][a-z0-9_* ]*(' | sed 's/ *($//; s/.*[ *]//' | sort)
[ -n "$declared" ] && [ "$shown" = "$declared" ] || { echo "shown: $shown"; echo "declared: $declared"; exit 1; }
"$strip" -o "$library.stripped" "$library" && size=$(wc -c < "$library.stripped") && rm "$library.stripped"
echo "$size bytes"
[ "$size" -le 12000000 ]
