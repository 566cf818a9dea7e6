#!/usr/bin/env python3
"""Times fovea, its peers and the textbook on a grid of shapes: short and long inputs, narrow and wide heads, causal or
not. Writes a table of time of the fastest other / time of fovea, and who that was.

    VENV/bin/python bench/compare_grid.py [--bench build/bin/fovea_bench] [--heads 8] [--threads 1]

The machine is set up as for compare_peers.py. All shapes of one dim are timed by fovea and the textbook, then by
each peer, and so on; a time is the best of all rounds. Shapes that fovea lost, or won by less than 2 %, are timed again, so that a disturbed
minute does not decide."""
import argparse
import math
from pathlib import Path

from compare_peers import HERE, Process, run_benches
from peer_engines import PEERS
from peer_report import describe

TOKENS = [1, 2, 3, 5, 8, 13, 21, 33, 48, 64, 100, 128, 200, 333, 512, 1000, 2048]
DIMS = [16, 32, 40, 64, 80, 96, 128, 160, 192, 256]
SIGNS = {"torch": "t", "onnxruntime": "o", "openvino": "v", "textbook": "e"}


def time_shapes(shapes, best, bench, peers, seconds):
    """Improves best[shape][name] by one round over `shapes`; returns the context of fovea_bench."""
    rows, context = run_benches(bench, shapes, seconds, True)
    for words in shapes:
        times = {"fovea": rows[words]["best_ms"] / 1e3, "textbook": rows[words + "/textbook"]["best_ms"] / 1e3}
        for name, peer in peers.items():
            answer = peer.ask(words, seconds)
            if "seconds" in answer:
                times[name] = answer["seconds"]
        for name, t in times.items():
            best[words][name] = min(t, best[words].get(name, math.inf))
    return context


def fastest_other(times):
    return min((t, name) for name, t in times.items() if name != "fovea")


def ratio(times):
    return fastest_other(times)[0] / times["fovea"]


def markdown(words_of, best, description):
    ratios = [ratio(times) for times in best.values()]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    signs = ", ".join(f"{sign}: {PEERS.get(name, 'the textbook by Eigen')}" for name, sign in SIGNS.items())
    lines = ["# fovea on a grid of shapes", "", *description, "",
             f"Time of the fastest other / time of fovea, and who that was ({signs}).",
             f"{len(ratios)} shapes: geometric mean {mean:.2f}, lowest {min(ratios):.2f}, "
             f"{sum(r < 1 for r in ratios)} below 1."]
    for mask in ("none", "causal"):
        lines += ["", "Causal:" if mask == "causal" else "Unmasked:", "", "| tokens | " +
                  " | ".join(f"dim {d}" for d in DIMS) + " |", "|" + "---|" * (len(DIMS) + 1)]
        for n in TOKENS:
            cells = [best[words_of(n, d, mask)] for d in DIMS]
            lines.append(f"| {n} | " + " | ".join(f"{ratio(t):.2f} {SIGNS[fastest_other(t)[1]]}" for t in cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=str(HERE.parent / "build/bin/fovea_bench"), help="default %(default)s")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.05, help="of each, a round (default %(default)s)")
    parser.add_argument("--again", type=int, default=3, help="rounds more for shapes that fovea lost")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where (default %(default)s)")
    a = parser.parse_args()

    words_of = lambda n, d, mask: f"Hq={a.heads},Lq={n},d={d},mask={mask},threads={a.threads}"
    processes = {p: Process(p, a.threads) for p in PEERS}
    versions = {p: process.version for p, process in processes.items()}
    peers = {p: process for p, process in processes.items() if process.version}
    best = {words_of(n, d, mask): {} for mask in ("none", "causal") for d in DIMS for n in TOKENS}
    for d in DIMS:
        for mask in ("none", "causal"):
            context = time_shapes([words_of(n, d, mask) for n in TOKENS], best, a.bench, peers, a.seconds)
            print(f"dim {d}, mask {mask}: " + " ".join(f"{ratio(best[words_of(n, d, mask)]):.2f}" for n in TOKENS),
                  flush=True)
    for _ in range(a.again):
        if lost := [words for words, times in best.items() if ratio(times) < 1.02]:
            context = time_shapes(lost, best, a.bench, peers, 4 * a.seconds)
    description = describe([{"context": context}], versions, a.threads, 1)
    a.results.mkdir(parents=True, exist_ok=True)
    (a.results / "grid.md").write_text(markdown(words_of, best, description))
    for words, times in best.items():
        if ratio(times) < 1:
            print("lost:", words, {name: f"{t * 1e6:.2f} us" for name, t in times.items()})


if __name__ == "__main__":
    main()
