#!/usr/bin/env python3
"""Counts what the innermost loops of the kernels move to and from the stack, by reading the compiler's
assembly.

    hot_loops.py g++ -std=c++20 -O3 -march=x86-64-v4 -Iinclude -isystem /usr/include/eigen3 \\
        bench/hot_loops/calls.cpp

A hot loop is an innermost loop in one of the products, dot_keys, dot_some_keys and dot_halves (Q K^T), add_values,
write_values or add_rows (P V), the five of the backward pass in key_group, or those of linear attention in chunk_products: at
least a fifth of its instructions are
multiply-adds, or dot products of bf16. An accumulator that does not fit the registers shows as a register
that is stored to or loaded
from the stack inside of one. Prints a line a loop that has any, then a summary with the addresses that are
reloaded (which take a load port, not a multiply-add's); exits with 1 if there are registers on the stack, and
with 1 if there is no hot loop at all."""
import re
import subprocess
import sys
from collections import namedtuple

Loop = namedtuple("Loop", "function first last instructions multiply_adds vectors scalars")
LABEL = re.compile(r"^([.\w$]+):")
JUMP = re.compile(r"^\tj\w+\s+([.\w$]+)")
MULTIPLY_ADD = re.compile(r"^\tv(fn?m(add|sub)\w+p[sd]|dpbf16ps)\s")
VECTOR = re.compile(r"%[xyz]mm\d+")
PRODUCT = re.compile("dot_keys|dot_some_keys|dot_halves|add_values|write_values|add_rows|"
                     "key_group.*(5score|13differentiate|11add_to_keys|14add_to_queries)|"
                     "chunk_products.*(6scores|8row_tile|11state_tiles)")


def functions(lines):
    """(name, lines) of each function."""
    name, body = None, []
    for line in lines:
        if match := re.match(r"^\t\.type\t([\w$.]+), ?@function", line):
            name, body = match[1], []
        elif name and re.match(rf"^\t\.size\t{re.escape(name)},", line):
            yield name, body
            name = None
        elif name:
            body.append(line)


def innermost_loops(body):
    """(first, last) lines from a label to the jump back to it, without another such pair inside."""
    place = {match[1]: i for i, line in enumerate(body) if (match := LABEL.match(line))}
    loops = []
    for i, line in enumerate(body):
        if (match := JUMP.match(line)) and place.get(match[1], i) < i:
            loops.append((place[match[1]], i))
    return [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]


def hot_loops(lines):
    for name, body in functions(lines):
        if not PRODUCT.search(name):
            continue
        framed = any(re.match(r"^\tmovq\t%rsp, %rbp", line) for line in body)
        stack = re.compile(r"\(%rsp[,)]|\(%rbp[,)]" if framed else r"\(%rsp[,)]")
        for first, last in innermost_loops(body):
            code = [line for line in body[first:last + 1]
                    if line.startswith("\t") and not line.startswith("\t.")]
            multiply_adds = sum(1 for line in code if MULTIPLY_ADD.match(line))
            if multiply_adds < max(4, len(code) / 5):
                continue
            touching = [line for line in code if stack.search(line)]
            vectors = sum(1 for line in touching if VECTOR.search(line))
            yield Loop(name, first, last, len(code), multiply_adds, vectors, len(touching) - vectors)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    made = subprocess.run(sys.argv[1:] + ["-S", "-o", "-"], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        sys.exit(made.returncode)
    loops = list(hot_loops(made.stdout.splitlines()))
    spilling = [loop for loop in loops if loop.vectors]
    names = subprocess.run(["c++filt"], input="\n".join(loop.function for loop in spilling),
                           stdout=subprocess.PIPE, text=True).stdout.splitlines()
    for loop, name in zip(spilling, names):
        print(f"{loop.vectors} registers to or from the stack in a loop of {loop.instructions} instructions, "
              f"{loop.multiply_adds} of them multiply-adds: {name}")
    print(f"{len(loops)} hot loops with {sum(loop.multiply_adds for loop in loops)} multiply-adds: "
          f"{sum(loop.vectors for loop in loops)} registers and "
          f"{sum(loop.scalars for loop in loops)} addresses to or from the stack")
    return 1 if spilling or not loops else 0


if __name__ == "__main__":
    sys.exit(main())
