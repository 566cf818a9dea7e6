#!/usr/bin/env python3
"""What attention over ranks takes on a cluster: time, bytes and overlap for 1 to 1,024 ranks.

    cmake -B build -DFOVEA_BUILD_BENCH=ON -DFOVEA_MPI=ON && cmake --build build --target fovea_ring_bench
    bench/distributed.py --measure build/bin/fovea_ring_bench     # this machine: one process, two, and the prediction
    bench/distributed.py --flops 2.2e11 --bandwidth 1.25e10 --latency 5e-6 --svg bench/results/distributed.svg

A ring is simulated step by step: a rank begins a step once it has computed with the block before, its next block has
arrived and its own has left; a message takes latency + bytes / bandwidth from the time that both sides have posted it.
Computing takes the visible cells' operations over the measured speed, packing bytes over the measured speed of
that copy, merging O over what was measured here for merge_into. The exchange of heads is waited for.
"""
import argparse
import json
import subprocess
import sys

import numpy as np


def visible(q_first, q_last, k_first, k_last, causal):
    """How many cells of queries x keys a (causal) mask shows: sum over q of the keys up to q."""
    q_first, q_last, k_first, k_last = (np.asarray(x, dtype=float) for x in (q_first, q_last, k_first, k_last))
    if not causal:
        return np.maximum(q_last - q_first, 0) * np.maximum(k_last - k_first, 0)
    width = np.maximum(k_last - k_first, 0)
    # Queries from k_last - 1 on see all of the keys; those between k_first and there one more each.
    rising_first, rising_last = np.clip(q_first, k_first, k_last), np.clip(q_last, k_first, k_last)
    n = rising_last - rising_first
    rising = n * (rising_first - k_first + 1 + rising_last - k_first) / 2
    full = np.maximum(q_last - np.maximum(q_first, k_last), 0) * width
    return rising + full


class Call:
    """Sizes of a call, and what an element takes on its way."""

    def __init__(self, tokens, heads=32, kv_heads=8, dim=128, wire=2, result=4, causal=True):
        self.tokens, self.heads, self.kv_heads, self.dim = tokens, heads, kv_heads, dim
        self.wire, self.result, self.causal = wire, result, causal

    def operations(self):
        return 4 * visible(0, self.tokens, 0, self.tokens, self.causal) * self.heads * self.dim


def slices(layout, tokens, ranks):
    """The slices of each rank: arrays (first, last) of shape (ranks, 1 or 2)."""
    if layout == "contiguous":
        edges = np.array([tokens * r // ranks for r in range(ranks + 1)])
        return edges[:-1, None], edges[1:, None]
    edges = np.array([tokens * r // (2 * ranks) for r in range(2 * ranks + 1)])
    r = np.arange(ranks)
    both = np.stack([r, 2 * ranks - 1 - r], axis=1)
    return edges[both], edges[both + 1]


def share_of_keys(call, head_ranks):
    """How many key/value heads a rank's share of the query heads reads; none where they can not be shared evenly."""
    if call.heads % head_ranks:
        return None
    share, group = call.heads // head_ranks, call.heads // call.kv_heads
    if share % group and group % share:
        return None
    return max(share // group, 1)


def ring(call, machine, ranks, layout, head_ranks=1):
    """Of a ring of groups of ranks: seconds, bytes that rank 0 sends; the means of the seconds that ranks wait (for blocks and
    for slower ranks), that blocks travel, and that they travel while others are computed with."""
    kv_heads, heads = share_of_keys(call, head_ranks), call.heads // head_ranks
    first, last = slices(layout, call.tokens, ranks)
    held = (last - first).sum(axis=1)
    block = held * kv_heads * 2 * call.dim * call.wire  # bytes of each rank's keys and values
    me = np.arange(ranks)
    packed = block.max() / machine["copy"]
    ready, waited, hidden, sent, moved = np.full(ranks, packed), np.zeros(ranks), 0.0, 0, 0.0
    for t in range(ranks):
        owner = (me - t) % ranks
        cells = sum(visible(first[:, i], last[:, i], first[owner, j], last[owner, j], call.causal)
                    for i in range(first.shape[1]) for j in range(first.shape[1]))
        # What was computed is merged with what was: O is read and written once a step, from memory.
        merged = 2 * held * heads * call.dim * 4 / machine["merge"] if t else 0
        done = ready + 4 * cells * heads * call.dim / machine["flops"] + merged
        if t + 1 == ranks:
            ready = done
            break
        took = machine["latency"] + block[(me - t - 1) % ranks] / machine["bandwidth"]
        arrived = np.maximum(ready, ready[(me - 1) % ranks]) + took  # both sides have posted
        left = arrived[(me + 1) % ranks]  # its own block, at the next rank
        begins = np.maximum(done, np.maximum(arrived, left))
        waited += begins - done
        hidden += np.minimum(done - ready, took).mean()
        sent += int(block[owner[0]])
        moved += took.mean()
        ready = begins
    return {"seconds": ready.max(), "bytes": sent, "waited": waited.mean(), "moved": moved, "hidden": hidden}


def with_heads(call, machine, ranks, head_ranks):
    """The same, with an exchange of tokens for heads in groups of head_ranks, and the balanced ring of the groups."""
    rings = ring(call, machine, ranks // head_ranks, "balanced", head_ranks)
    own, others, share = call.tokens / ranks, head_ranks - 1, call.heads // head_ranks
    there = others * own * (share * call.dim * call.wire + share_of_keys(call, head_ranks) * 2 * call.dim * call.wire)
    back = others * own * share * (call.dim + 1) * call.result
    # Packed, unpacked: each byte is copied twice on both sides.
    copies = 2 * (there + back) * head_ranks / max(others, 1) / machine["copy"] if others else 0
    took = (2 * others * machine["latency"] + (there + back) / machine["bandwidth"] + copies) if others else 0
    return {"seconds": rings["seconds"] + took, "bytes": rings["bytes"] + int(there + back), "waited": rings["waited"] + took,
            "moved": rings["moved"] + took, "hidden": rings["hidden"]}


def best_of_heads(call, ranks, most=None):
    """The group that sends the fewest bytes, as plan_spread picks it; of more than one rank, less than all."""
    def sent(g):
        kv, own = share_of_keys(call, g), call.tokens // ranks
        exchange = (g - 1) * own * (call.heads // g * call.dim * (call.wire + call.result) + kv * 2 * call.dim * call.wire)
        return exchange + (ranks // g - 1) * (call.tokens // (ranks // g)) * kv * 2 * call.dim * call.wire
    groups = [g for g in range(1, ranks + 1) if ranks % g == 0 and share_of_keys(call, g)]
    groups = [g for g in groups if most is None or g <= most]
    return min(groups, key=sent)


def predict(call, machine, ranks):
    """A line a way: ring, balanced ring, heads alone (where there are as many), both as the plan says."""
    ways = {"ring": ring(call, machine, ranks, "contiguous"), "balanced ring": ring(call, machine, ranks, "balanced")}
    if share_of_keys(call, ranks):
        ways["heads"] = with_heads(call, machine, ranks, ranks)
    ways["both"] = with_heads(call, machine, ranks, best_of_heads(call, ranks))
    for way in ways.values():
        way["overlap"] = way["hidden"] / way["moved"] if way["moved"] else 1
        way["efficiency"] = call.operations() / machine["flops"] / ranks / way["seconds"]
    return ways


def run(program, ranks, *arguments):
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), program, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0])


def measure(program, tokens, attempts):
    """This machine's speed and its network between two processes, and the prediction for two beside their time. Each is the
    best of some attempts, taken in turn: what else runs meanwhile only adds to a time."""
    calls = {"one": (1,), "one, full": (1, "--full"), "balanced ring": (2,), "ring": (2, "--contiguous"),
             "heads": (2, "--head-ranks", 2), "ring, full": (2, "--full", "--contiguous")}
    best = {}
    for _ in range(attempts):
        for name, (ranks, *flags) in calls.items():
            has = run(program, ranks, "--tokens", tokens // 2 if "--full" in flags else tokens, "--repeats", 2, *flags)
            if name not in best or has["seconds"] < best[name]["seconds"]:
                best[name] = {**has, "bandwidth": max(has["bandwidth"], best.get(name, has)["bandwidth"])}
    one, two = best["one"], {name: best[name] for name in ("balanced ring", "ring", "heads")}
    call, full_call = Call(tokens, 8, 8, 64, wire=4), Call(tokens // 2, 8, 8, 64, wire=4, causal=False)
    speeds = {"causal": call.operations() / (one["seconds"] - one["prepared"]),
              "full": full_call.operations() / (best["one, full"]["seconds"] - best["one, full"]["prepared"])}
    two_full = best["ring, full"]
    copy = tokens * 8 * 128 * 4 / one["prepared"]
    machine = {"flops": speeds["causal"], "copy": copy, "merge": 1.2e10, "latency": min(has["latency"] for has in two.values()),
               "bandwidth": max(has["bandwidth"] for has in two.values())}
    print(f"one process: {one['seconds']:.3f} s, {speeds['causal']:.3e} operations/s (full {speeds['full']:.3e}); "
          f"copies {copy:.2e} bytes/s; two processes: {machine['latency']:.2e} s, {machine['bandwidth']:.2e} bytes/s")
    predicted = predict(call, machine, 2)
    rows = [(name, two[name], predicted[name]) for name in two]
    rows.append(("ring, full", two_full, ring(full_call, {**machine, "flops": speeds["full"]}, 2, "contiguous")))
    worst = 0
    print("| two ranks | measured, s | predicted, s | ratio | bytes round the ring | waited, s |\n|---|---|---|---|---|---|")
    for name, has, says in rows:
        ratio = says["seconds"] / has["seconds"]
        worst = max(worst, abs(ratio - 1))
        print(f"| {name} | {has['seconds']:.3f} | {says['seconds']:.3f} | {ratio:.2f} | {has['bytes_sent']} | "
              f"{has['waited']:.4f} |")
    print(f"peak memory of a process: {one['peak_kib'] / 1024:.0f} MiB of one, {two['balanced ring']['peak_kib'] / 1024:.0f} of two")
    print(f"balanced ring: {one['seconds'] / two['balanced ring']['seconds']:.2f} times one process; "
          f"worst prediction off by {worst:.0%}")
    return worst <= 0.2


def check_bytes(program):
    """Whether bytes sent are those of the simulation, exactly."""
    for ranks in (1, 2, 3):
        for layout in ("balanced", "contiguous"):
            has = run(program, ranks, "--tokens", 97, "--repeats", 1, *(["--contiguous"] if layout == "contiguous" else []))
            says = ring(Call(97, 8, 8, 64, wire=4), dict.fromkeys(("flops", "copy", "merge", "latency", "bandwidth"), 1.0),
                        ranks, layout)
            print(ranks, layout, has["bytes_sent"], says["bytes"])
            if has["bytes_sent"] != says["bytes"]:
                return False
    return True


COLOURS = {"ring": "#c44e52", "balanced ring": "#4c72b0", "heads": "#55a868", "both": "#8172b3"}


def draw(path, lengths, ranks, results, title):
    """A panel a length: efficiency over ranks, both in powers of two."""
    width, height, left, top, gap = 250, 190, 52, 54, 46
    parts = []
    for i, tokens in enumerate(lengths):
        x0, y0 = left + (i % 3) * (width + gap), top + (i // 3) * (height + 62)

        def x(p):
            return x0 + np.log2(p) / 10 * width

        def y(e):
            return y0 + height * (1 - e)
        parts.append(f'<text x="{x0 + width / 2}" y="{y0 - 8}" text-anchor="middle" font-weight="bold">{name_of(tokens)} tokens</text>')
        for e in (0, 0.25, 0.5, 0.75, 1):
            parts.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y(e)}" y2="{y(e)}" stroke="#ddd"/>'
                         f'<text x="{x0 - 6}" y="{y(e) + 4}" text-anchor="end">{e:.0%}</text>')
        for p in (1, 4, 16, 64, 256, 1024):
            parts.append(f'<text x="{x(p)}" y="{y0 + height + 16}" text-anchor="middle">{p}</text>')
        for way, colour in COLOURS.items():
            points = [(p, results[tokens, p][way]["efficiency"]) for p in ranks if way in results[tokens, p]]
            line = " ".join(f"{x(p):.1f},{y(min(e, 1)):.1f}" for p, e in points)
            dash = ' stroke-dasharray="5 3"' if way == "both" else ""
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    for i, (way, colour) in enumerate(COLOURS.items()):
        parts.append(f'<rect x="{left + 150 * i}" y="26" width="18" height="4" fill="{colour}"/>'
                     f'<text x="{left + 24 + 150 * i}" y="32">{way}</text>')
    rows = (len(lengths) + 2) // 3
    w, h = left + 3 * (width + gap), top + rows * (height + 62)
    with open(path, "w", encoding="utf-8") as out:
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" font-family="sans-serif" font-size="11">\n'
                  f'<rect width="{w}" height="{h}" fill="white"/>\n<text x="{left}" y="16" font-size="13">{title}</text>\n'
                  + "\n".join(parts) + f'\n<text x="{w / 2}" y="{h - 8}" text-anchor="middle">ranks</text>\n</svg>\n')


def name_of(tokens):
    return f"{tokens // 1024}k" if tokens < 1 << 20 else f"{tokens / 1e6:.0f}M"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", metavar="PROGRAM")
    parser.add_argument("--check-bytes", metavar="PROGRAM")
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16384)
    for name, value in (("flops", 2.2e11), ("bandwidth", 1.25e10), ("latency", 5e-6), ("copy", 2.4e9), ("merge", 1.2e10)):
        parser.add_argument(f"--{name}", type=float, default=value)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--svg")
    arguments = parser.parse_args()
    if arguments.check_bytes:
        sys.exit(not check_bytes(arguments.check_bytes))
    if arguments.measure:
        sys.exit(not measure(arguments.measure, arguments.tokens, arguments.attempts))

    machine = {"flops": arguments.flops, "bandwidth": arguments.bandwidth, "latency": arguments.latency,
               "copy": arguments.copy, "merge": arguments.merge}
    lengths = [32 << 10, 128 << 10, 512 << 10, 1 << 20, 4 << 20, 10_000_000]
    ranks = [1 << i for i in range(11)]
    results = {(n, p): predict(Call(n, arguments.heads, arguments.kv_heads, arguments.dim), machine, p)
               for n in lengths for p in ranks}
    print("| tokens | ranks | way | seconds | efficiency | bytes a rank | overlap |\n|---|---|---|---|---|---|---|")
    for n in lengths:
        for p in (1, 8, 64, 512, 1024):
            for way, has in results[n, p].items():
                print(f"| {name_of(n)} | {p} | {way} | {has['seconds']:.3g} | {has['efficiency']:.0%} | {has['bytes']:.3g} | "
                      f"{has['overlap']:.0%} |")
    if arguments.svg:
        draw(arguments.svg, lengths, ranks, results,
             f"Causal attention, {arguments.heads}/{arguments.kv_heads} heads x {arguments.dim}, keys in bf16: efficiency; "
             f"{arguments.flops / 1e9:.0f} GFLOP/s a rank, {arguments.bandwidth / 1e9:.1f} GB/s, {arguments.latency * 1e6:.0f} us")


if __name__ == "__main__":
    main()
