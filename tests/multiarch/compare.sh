#!/bin/sh
# compare.sh ISA MULTIARCH DIRECT: the binary for every processor, told to take ISA, gives the bits of the one compiled for it.
isa=$1 multiarch=$2 direct=$3
of_multiarch=$(FOVEA_ISA=$isa "$multiarch") || { echo "$of_multiarch"; exit 1; }
echo "$of_multiarch"
case $of_multiarch in
  "$isa:"*) ;;
  *) echo "skipped: this machine has no $isa"; exit 0 ;;
esac
of_direct=$("$direct" "$isa") || { echo "$of_direct"; exit 1; }
[ "$of_direct" = "$of_multiarch" ] || { echo "compiled for it: $of_direct"; exit 1; }
