#!/usr/bin/env python3
"""Times one query a sequence against keys and values of many shapes, by fovea and its peers. Writes a table of time of
the fastest other / time of fovea, and who that was.

    VENV/bin/python bench/compare_decoding.py --times times.json --dtypes f32 --dims 64,96     # a part of the grid
    VENV/bin/python bench/compare_decoding.py --times times.json --dtypes bf16 --dims 64       # ... another
    VENV/bin/python bench/compare_decoding.py --times times.json --dims ''                     # the table alone

The machine is set up as for compare_peers.py. A time is the best of all rounds and of what the file of times already
holds, so that parts may be timed one by one, and again. Keys and values of more than --most-bytes are left out: a peer
that repeats heads would need several times as many."""
import argparse
import json
import math
from pathlib import Path

from compare_grid import fastest_other, ratio, time_shapes
from compare_peers import HERE, Process
from peer_engines import PEERS, parse
from peer_report import describe, geometric_mean

BATCHES = [1, 8]
HEADS = ["8/8", "16/16", "32/8", "28/4", "12/2", "8/1"]
KEYS = [32, 128, 512, 1024, 4096, 32768]
DIMS = [64, 96, 128, 256]
DTYPES = {"f32": 4, "bf16": 2}
SIGNS = {"torch": "t", "zentorch": "z", "zentorch_sdpa": "Z", "vllm": "l", "onnxruntime": "o", "onnxruntime_gqa": "g",
         "openvino": "v", "textbook": "e"}


def words_of(batch, heads, keys, dim, dtype):
    queries, shared = heads.split("/")
    return f"B={batch},Hq={queries},Hkv={shared},Lq=1,Lk={keys},d={dim},dtype={dtype},threads=1"


def kv_bytes(words):
    w = parse(words)
    return 2 * w["B"] * w["Hkv"] * w["Lk"] * w["d"] * DTYPES[w["dtype"]]


def markdown(times, description):
    signs = ", ".join(f"{sign}: {PEERS.get(name, 'the textbook by Eigen')}" for name, sign in SIGNS.items())
    lines = ["# fovea decoding, on a grid of shapes", "", *description, "",
             f"Time of the fastest other / time of fovea, and who that was ({signs}). Empty: not timed."]
    for dtype in DTYPES:
        rows = []
        for batch in BATCHES:
            for heads in HEADS:
                for dim in DIMS:
                    timed = [times.get(words_of(batch, heads, keys, dim, dtype), {}) for keys in KEYS]
                    rows.append((f"{batch} x {heads} x {dim}", [t if len(t) > 1 else None for t in timed]))
        all_ratios = [ratio(t) for _, cells in rows for t in cells if t]
        if not all_ratios:
            continue
        lines += ["", f"{dtype}: {len(all_ratios)} shapes, geometric mean {geometric_mean(all_ratios):.2f}, lowest "
                      f"{min(all_ratios):.2f}, {sum(r < 1 for r in all_ratios)} below 1.", "",
                  "| batch x heads x dim, keys: | " + " | ".join(f"{keys:,}" for keys in KEYS) + " |",
                  "|" + "---|" * (len(KEYS) + 1)]
        lines += [f"| {name} | " + " | ".join(f"{ratio(t):.2f} {SIGNS[fastest_other(t)[1]]}" if t else "" for t in cells)
                  + " |" for name, cells in rows]
        means = [geometric_mean([ratio(cells[i]) for _, cells in rows if cells[i]]) for i in range(len(KEYS))]
        lines.append("| geometric mean | " + " | ".join(f"{m:.2f}" if m else "" for m in means) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=str(HERE.parent / "build/bin/fovea_bench"), help="default %(default)s")
    parser.add_argument("--times", type=Path, required=True, help="a file of times, made where there is none")
    parser.add_argument("--dtypes", default=",".join(DTYPES), help="of the part to time (default %(default)s)")
    parser.add_argument("--dims", default=",".join(map(str, DIMS)), help="of the part to time (default %(default)s)")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="of the part to time")
    parser.add_argument("--peers", default="torch,zentorch,vllm", help="default %(default)s")
    parser.add_argument("--lost", action="store_true", help="of that part only shapes that fovea lost, or won by under 5 %%")
    parser.add_argument("--most-bytes", type=float, default=2.7e8)
    parser.add_argument("--seconds", type=float, default=0.02, help="of each, a round (default %(default)s)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where (default %(default)s)")
    a = parser.parse_args()

    kept = json.loads(a.times.read_text()) if a.times.exists() else {"times": {}, "versions": {}, "context": {}}
    times = kept["times"]
    part = [words_of(batch, heads, keys, int(dim), dtype) for dtype in filter(None, a.dtypes.split(","))
            for dim in filter(None, a.dims.split(",")) for batch in map(int, a.batches.split(","))
            for heads in HEADS for keys in KEYS]
    part = [words for words in part if kv_bytes(words) <= a.most_bytes
            and not (a.lost and len(times.get(words, {})) > 1 and ratio(times[words]) >= 1.05)]
    if part:
        processes = {p: Process(p, 1) for p in a.peers.split(",")}
        kept["versions"] |= {p: process.version for p, process in processes.items()}
        peers = {p: process for p, process in processes.items() if process.version}
        for i in range(0, len(part), len(KEYS)):
            some = part[i:i + len(KEYS)]
            for words in some:
                times.setdefault(words, {})
            kept["context"] = time_shapes(some, times, a.bench, peers, a.seconds)
            a.times.write_text(json.dumps(kept))
            print(some[0], " ".join(f"{ratio(times[words]):.2f}" for words in some), flush=True)
    a.results.mkdir(parents=True, exist_ok=True)
    description = describe([{"context": kept["context"]}], kept["versions"], 1, 1)
    (a.results / "decode_grid.md").write_text(markdown(times, description))


if __name__ == "__main__":
    main()
