"""What was measured, as Markdown and as a picture (see compare_peers.py)."""
import datetime
import math
import os
import platform
import re
from pathlib import Path

from peer_engines import PEERS


def label(w):
    """A short name: 1x8x1024x64 causal; cross 1x8x128/1500x64; decode 1x32/8x4096x128 bf16; that of a model first."""
    heads = f"{w['Hq']}" if w["Hq"] == w["Hkv"] else f"{w['Hq']}/{w['Hkv']}"
    dim = f"{w['d']}" if w["d"] == w["dv"] else f"{w['d']}/{w['dv']}"
    decode, cross = w["Lq"] == 1 < w["Lk"], w["Lq"] != w["Lk"]
    tokens = w["Lk"] if decode or not cross else f"{w['Lq']}/{w['Lk']}"
    words = [w.get("name", ""), "decode" if decode else "cross" if cross else "", f"{w['B']}x{heads}x{tokens}x{dim}",
             w["mask"] if w["mask"] != "none" else "", w["dtype"] if w["dtype"] != "f32" else "",
             w["with"] if w["with"] != "none" else "",
             "kv " + w["kv"] if w["kv"] != w["dtype"] else "", w["layout"] if w["layout"] != "bhsd" else ""]
    return " ".join(filter(None, words))


def processor():
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    name = re.sub(r"\s+", " ", found.group(1)) if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} processors, {platform.system()} {platform.release()}"


def times_best_peer(result):
    others = [t for name, t in result["best"].items() if name in PEERS]
    return min(others) / result["best"]["fovea"] if others else None


def milliseconds(seconds):
    return "" if seconds is None else f"{seconds * 1e3:.4g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def geometric_mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def describe(results, versions, threads, rounds):
    context = results[0]["context"]
    limits = [f"{value} GFLOP/s of {key.split('_')[2]} multiply-adds" if key.startswith("peak_gflops") else
              f"{value} GB/s read from memory"
              for key, value in context.items() if key.startswith(("peak_gflops", "read_gbytes"))]
    count = lambda n, what: f"{n} {what}{'s' if n != 1 else ''}"
    names = [f"{PEERS[p]} {v}" for p, v in versions.items() if v] or ["no peer installed"]
    return [f"{datetime.date.today()}, {processor()}, {count(threads, 'thread')}; {', '.join(limits)}.",
            f"fovea {context['fovea_version']} ({context['fovea_arch']}, {context['fovea_compiler']}), "
            f"{', '.join(names)}; best of {count(rounds, 'round')} in turn."]


def markdown(results, versions, description, textbook):
    columns = [p for p in PEERS if versions.get(p)]
    head = ["workload", "fovea, ms", "of the limit"] + [f"{PEERS[p]}, ms" for p in columns]
    head += ["textbook, ms"] * textbook + ["times the best peer"]
    lines = ["# fovea and its peers", "", *description, "",
             "The limit is the multiply-add peak; for decode, a plain read of K and V. Empty: not timed.",
             "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in results:
        decode = r["workload"]["Lq"] == 1
        share = r["row"]["of_bandwidth" if decode else "of_peak"]
        limit = f"{100 * share:.0f} %{' of read' if decode else ''}"
        cells = [label(r["workload"]), milliseconds(r["best"]["fovea"]), limit]
        cells += [milliseconds(r["best"].get(p)) for p in columns + ["textbook"] * textbook]
        ratio = times_best_peer(r)
        lines.append("| " + " | ".join(cells + [f"{ratio:.2f}" if ratio else ""]) + " |")
    mean = geometric_mean([t for t in map(times_best_peer, results) if t])
    if mean:
        lines += ["", f"Geometric mean over the table: {mean:.2f} times the best peer."]
    return "\n".join(lines) + "\n"


COLOURS = {"torch": "#d9683a", "zentorch": "#b53a5e", "zentorch_sdpa": "#e08fa6", "vllm": "#3f8f4f",
           "onnxruntime": "#3a78b5", "onnxruntime_gqa": "#8fb8dd", "openvino": "#7a5aa6"}


def svg(results, versions, description):
    """Bars of time of the peer / time of fovea, on a logarithmic axis that starts at 1."""
    peers = [p for p in PEERS if versions.get(p)]
    ratios = [[(p, r["best"][p] / r["best"]["fovea"]) for p in peers if p in r["best"]] for r in results]
    every = [x for row in ratios for _, x in row] or [1]
    low, high = min(0, math.floor(math.log2(min(every)))), max(1, math.ceil(math.log2(max(every))))
    left, top, width, bar, gap = 210, 84, 560, 11, 12
    x = lambda ratio: left + width * (math.log2(ratio) - low) / (high - low)
    escape = lambda text: text.replace("&", "&amp;").replace("<", "&lt;")
    body, y = [], top
    for r, row in zip(results, ratios):
        body.append(f'<text x="{left - 10}" y="{y + bar * max(len(row), 1) / 2 + 4:.1f}" text-anchor="end">'
                    f'{escape(label(r["workload"]))}</text>')
        for p, ratio in row:
            a, b = sorted((x(1), x(ratio)))
            body.append(f'<rect x="{a:.1f}" y="{y}" width="{b - a:.1f}" height="{bar - 1}" fill="{COLOURS[p]}"/>'
                        f'<text x="{b + 4:.1f}" y="{y + bar - 2}" font-size="9">{ratio:.2f}</text>')
            y += bar
        y += gap + (bar if not row else 0)
    axis = [f'<line x1="{x(2.0 ** e):.1f}" y1="{top - 6}" x2="{x(2.0 ** e):.1f}" y2="{y}" '
            f'stroke="{"#000" if e == 0 else "#ccc"}"/><text x="{x(2.0 ** e):.1f}" y="{y + 14}" '
            f'text-anchor="middle">{2.0 ** e:g}</text>' for e in range(low, high + 1)]
    keys = [f'<rect x="{12 + 200 * (i % 4)}" y="{52 + 12 * (i // 4)}" width="10" height="10" fill="{COLOURS[p]}"/>'
            f'<text x="{25 + 200 * (i % 4)}" y="{61 + 12 * (i // 4)}" font-size="9">{PEERS[p]} {versions[p]}</text>' for i, p in enumerate(peers)]
    notes = [f'<text x="12" y="{34 + 13 * i}" font-size="9">{escape(line)}</text>'
             for i, line in enumerate(description)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{y + 30}" '
            'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="#fff"/>\n'
            '<text x="12" y="18" font-size="14">Time of the peer / time of fovea: above 1 fovea is faster</text>\n'
            + "\n".join(notes + keys + axis + body) + "\n</svg>\n")
