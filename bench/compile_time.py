#!/usr/bin/env python3
"""What the library costs a compiler: CPU seconds and code of small translation units (bench/compile_time/).

    bench/compile_time.py [--compiler clang++-16] [--march x86-64-v4] [--json] [-- more flags]

    unit       what it is                                               CPU, times baseline   code
    baseline   #include <Eigen/Core>, #include <xsimd/xsimd.hpp>        1
    forward    one causal float call                                    5                     150 KB
    backward   that call and its gradient                               7                     220 KB
    training   a step of multi_head: forward, backward                  10

With the kernels in a library of the program (include/fovea/kernels.hpp): -- -DFOVEA_EXTERN_KERNELS

Those figures are what is wanted, at most, at -O3: the ratios hardly depend on the machine. Time is user time of the
compiler, the least of --runs; code is the text section of the object, as `size` counts it, in 1000 bytes. --check exits
with 1 where something is above what is wanted; --wanted UNIT=TIMES[:KB] wants something else."""
import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
UNITS = {"baseline": (None, None), "forward": (5, 150), "backward": (7, 220), "training": (10, None)}
HEADINGS = ("unit", "CPU s", "times baseline", "wanted", "code KB", "wanted")


def eigen():
    """The flags that find Eigen."""
    try:
        return shlex.split(subprocess.run(["pkg-config", "--cflags", "eigen3"], capture_output=True, text=True,
                                          check=True).stdout.replace("-I", "-isystem "))
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ["-isystem", "/usr/include/eigen3"]


def seconds_of(command):
    """User time of the compiler and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(command, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def text_of(item):
    lines = subprocess.run(["size", str(item)], capture_output=True, text=True, check=True).stdout.splitlines()
    return int(lines[1].split()[0])


def measure(unit, compiler, runs):
    """(seconds, bytes of text; None where nothing is compiled but the syntax)."""
    with tempfile.TemporaryDirectory() as folder:
        item = Path(folder) / "unit.o"
        command = [*compiler, "-c", str(HERE / "compile_time" / f"{unit}.cpp"), "-o", str(item)]
        seconds = min(seconds_of(command) for _ in range(runs))
        return seconds, text_of(item) if item.exists() else None


def measure_all(compiler, runs, wanted):
    rows = []
    for unit, (most_times, most_kilobytes) in wanted.items():
        seconds, text = measure(unit, compiler, runs)
        baseline = rows[0]["seconds"] if rows else seconds
        rows.append({"unit": unit, "seconds": seconds, "times": seconds / baseline, "wanted_times": most_times,
                     "text": text, "wanted_kilobytes": most_kilobytes})
    return rows


def table(rows):
    def cell(value, digits):
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [HEADINGS]
    for row in rows:
        lines.append((row["unit"], cell(row["seconds"], 2), cell(row["times"], 2), cell(row["wanted_times"], 1),
                      cell(row["text"] and row["text"] / 1000, 0), cell(row["wanted_kilobytes"], 0)))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join([line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:])])
                     for line in lines)


def too_much(rows):
    """A line for each figure above what is wanted."""
    for row in rows:
        if row["wanted_times"] and row["times"] > row["wanted_times"]:
            yield f"{row['unit']}: {row['times']:.2f} times the baseline, at most {row['wanted_times']:g} wanted"
        if row["wanted_kilobytes"] and row["text"] and row["text"] > 1000 * row["wanted_kilobytes"]:
            yield f"{row['unit']}: {row['text'] / 1000:.0f} KB of code, at most {row['wanted_kilobytes']:g} wanted"


def wish(text):
    """UNIT=TIMES[:KB]."""
    unit, _, figures = text.partition("=")
    times, _, kilobytes = figures.partition(":")
    if unit not in UNITS or unit == "baseline":
        raise argparse.ArgumentTypeError(f"unit {unit!r} is none of forward, backward, training")
    return unit, (float(times), float(kilobytes) if kilobytes else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="g++", help="default %(default)s")
    parser.add_argument("--march", default="native", help="default %(default)s; empty: the compiler's")
    parser.add_argument("--runs", type=int, default=3, help="of which the least counts (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--check", action="store_true", help="exit with 1 where something is above what is wanted")
    parser.add_argument("--wanted", type=wish, action="append", default=[], metavar="UNIT=TIMES[:KB]")
    parser.add_argument("flags", nargs="*", help="more flags of the compiler, after --: they come last")
    a = parser.parse_args()
    march = [f"-march={a.march}"] if a.march else []
    compiler = [*shlex.split(a.compiler), "-std=c++20", "-O3", *march, f"-I{HERE.parent / 'include'}",
                *eigen(), *a.flags]
    try:
        rows = measure_all(compiler, max(1, a.runs), UNITS | dict(a.wanted))
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    print(json.dumps({"command": compiler, "units": rows}, indent=1) if a.json else table(rows), flush=True)
    findings = list(too_much(rows))
    if findings:
        print(*findings, sep="\n", file=sys.stderr, flush=True)
    return 1 if a.check and findings else 0


if __name__ == "__main__":
    sys.exit(main())
