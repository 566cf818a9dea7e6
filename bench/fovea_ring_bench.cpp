// bench/fovea_ring_bench.cpp - one call over ranks, timed: `mpirun -np 2 build/bin/fovea_ring_bench --tokens 16384`.
//
// Prints a line of JSON: the time of the slowest rank (the best of the repeats), the bytes that a rank sent, the time that
// it waited for messages, the time before the first one, and what a simulation of larger clusters needs to know of this machine: the speed of one
// process alone, latency and bandwidth between two processes.
#include <fovea/distributed.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using fovea::index_type;

struct arguments {
  index_type tokens = 4096, heads = 8, kv_heads = 8, dim = 64, block = 0;
  int repeats = 3, head_ranks = 1;
  bool balanced = true, causal = true, trace = false, backward = false;
};

arguments parse(int argc, char** argv) {
  arguments a;
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0; };
    const auto number = [&] { return i + 1 < argc ? std::atol(argv[++i]) : 0; };
    if (is("--tokens"))
      a.tokens = number();
    else if (is("--heads"))
      a.heads = a.kv_heads = number();
    else if (is("--kv-heads"))
      a.kv_heads = number();
    else if (is("--dim"))
      a.dim = number();
    else if (is("--block"))  // reproducible
      a.block = number();
    else if (is("--repeats"))
      a.repeats = static_cast<int>(number());
    else if (is("--head-ranks"))
      a.head_ranks = static_cast<int>(number());
    else if (is("--contiguous"))
      a.balanced = false;
    else if (is("--full"))
      a.causal = false;
    else if (is("--backward"))
      a.backward = true;
    else if (is("--trace"))
      a.trace = true;
    else
      std::fprintf(stderr, "unknown argument %s\n", argv[i]), std::exit(2);
  }
  return a;
}

/// Seconds one way between ranks 0 and 1, of so many bytes, sent and received by both at a time.
double exchange_seconds(int rank, int bytes, int times) {
  std::vector<char> out(static_cast<std::size_t>(bytes), 1), in(out.size());
  const double begin = MPI_Wtime();
  for (int i = 0; i < times; ++i)
    if (rank < 2)
      MPI_Sendrecv(out.data(), bytes, MPI_CHAR, 1 - rank, 9, in.data(), bytes, MPI_CHAR, 1 - rank, 9,
                   MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return (MPI_Wtime() - begin) / times;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const arguments a = parse(argc, argv);
  const auto layout = a.balanced ? fovea::token_layout::balanced : fovea::token_layout::contiguous;
  const auto parts = fovea::tokens_of_rank(layout, a.tokens, rank, ranks);
  const index_type own = parts[0].size() + parts[1].size();
  fovea::tensor<float> q(1, a.heads, own, a.dim), k(1, a.kv_heads, own, a.dim), v(1, a.kv_heads, own, a.dim),
      o = q;
  unsigned seed = 1u + static_cast<unsigned>(rank);
  for (auto* x : {&q, &k, &v})
    for (index_type i = 0; i < x->size(); ++i) {
      seed = seed * 1664525u + 1013904223u;
      x->data()[i] = static_cast<float>(seed >> 8) * 0x1p-23f - 1;
    }

  fovea::exchange_trace trace;
  const fovea::ring_attention_options options{.heads = a.heads,
                                              .kv_heads = a.kv_heads,
                                              .layout = layout,
                                              .reproducible_block = a.block,
                                              .trace = &trace};
  const fovea::ring_attention<float> ring(MPI_COMM_WORLD, options);
  const fovea::spread_attention<float> spread(MPI_COMM_WORLD, {.ring = options, .head_ranks = a.head_ranks});
  fovea::tensor<float> lse(1, a.heads, own, 1);
  ring.with_lse_into(o, lse, q, k, v, fovea::causal);
  const auto out = o;
  double best = 1e30, waited = 0, prepared = 0;
  for (int i = 0; i < a.repeats; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double begin = MPI_Wtime();
    if (a.backward)
      ring.backward(q, k, v, out, lse, o, fovea::causal);
    else if (a.head_ranks != 1)
      spread.with_lse_into(o, lse, q, k, v, fovea::causal);
    else if (a.causal)
      ring.into(o, q, k, v, fovea::causal);
    else
      ring.into(o, q, k, v);
    double seconds = MPI_Wtime() - begin;
    MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (seconds < best) best = seconds, waited = trace.waited(), prepared = trace.steps[0].posted - begin;
  }
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const double latency = ranks > 1 ? exchange_seconds(rank, 8, 1000) : 0;
  const double block = ranks > 1 ? exchange_seconds(rank, 1 << 23, 20) : 0;
  if (rank == 0)
    std::printf(
        "{\"ranks\": %d, \"tokens\": %td, \"heads\": %td, \"kv_heads\": %td, \"dim\": %td, \"layout\": "
        "\"%s\", "
        "\"causal\": %s, \"backward\": %s, \"seconds\": %.6f, \"bytes_sent\": %td, \"waited\": %.6f, "
        "\"prepared\": %.6f, \"peak_kib\": %ld, \"head_ranks\": %d, \"latency\": %.3e, \"bandwidth\": "
        "%.4e}\n",
        ranks, a.tokens, a.heads, a.kv_heads, a.dim, a.balanced ? "balanced" : "contiguous",
        a.causal ? "true" : "false", a.backward ? "true" : "false", best, trace.bytes_sent(), waited,
        prepared, used.ru_maxrss, a.head_ranks, latency, block > 0 ? (1 << 23) / block : 0.0);
  if (a.trace)
    for (int r = 0; r < ranks; ++r) {
      MPI_Barrier(MPI_COMM_WORLD);
      if (r != rank) continue;
      const double start = trace.steps.empty() ? 0 : trace.steps[0].posted;
      for (const auto& step : trace.steps)
        std::printf(
            "rank %d  block of %d  posted %.4f  computed %.4f to %.4f  arrived %.4f  sent %td bytes\n", rank,
            step.owner, step.posted - start, step.computed_from - start, step.computed_to - start,
            step.arrived - start, step.bytes_sent);
      std::fflush(stdout);
    }
  MPI_Finalize();
}
