#!/bin/sh
# symbols.sh shared NM OBJECT...: fails if two of the objects define one symbol with a name of the library in it: a function, an
# object, a table of a type, or an instance of another library's template for a type of it.
# symbols.sh unnamed NM OBJECT...: fails if such a symbol lacks the inline namespace of its flags.
# (Local symbols stay with their object.)
check=$1 nm=$2
shift 2
list=$(mktemp)
trap 'rm -f "$list"' EXIT
for object; do
  of_object=$("$nm" --defined-only "$object" | awk '$2 ~ /^[A-Zuvw]$/ && $3 ~ /5fovea|[0-9]fovea_/ {print $3}' | sort -u)
  [ -n "$of_object" ] || { echo "$object defines nothing of the library"; exit 1; }
  echo "$of_object" >>"$list"
done
if [ "$check" = shared ]; then
  wrong=$(sort "$list" | uniq -d)
else
  wrong=$(sed -E 's/5fovea[0-9]+v[0-9]+_[0-9]+_[a-z0-9_]*_xsimd//g' "$list" | grep 5fovea)
fi
echo "$# objects, $(wc -l <"$list") symbols, $(echo "$wrong" | grep -c .) wrong"
echo "$wrong" | c++filt | cut -c1-300
[ -z "$wrong" ]
