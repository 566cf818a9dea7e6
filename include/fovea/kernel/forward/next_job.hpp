// fovea/kernel/forward/next_job.hpp - what the job after this one reads, asked for while this one computes.
#pragma once

#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/kernel/problem.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The job that this worker is likely to run next. No rows: none, or not worth asking for.
struct next_job {
  /// Rows of a job from which on asking pays; with 48 it took 3 % more time where all was in L2.
  static constexpr index_type enough_rows = 64;
  index_type b = 0, h = 0;
  range rows = {0, 0};
};

/// Where what it reads lies, asked for in equal parts beside the panels of this one. Long inputs, of which
/// hardware foresees what is read, took up to 1 % more when each block asked for the next one's keys and
/// values.
///
/// Keys and values are asked for where those of the call lie beyond caches: 96 heads of 197 x 64 (10 MB) take
/// 2 % less time with that. Within L3 hardware brings them for less than the 1.3 cycles that a line costs
/// here: 48 heads of 77 x 64 take 3 % less without, causal or not, 12 of 197 2 %, 96 of 128 the same (Zen 5).
/// Queries, packed row by row, and results are asked for always: without, up to 10 % more.
struct next_lines {
  byte_view q, k, v;  // k and v: where they are other ones, each in one matrix
  range rows = {0, 0};

  next_lines() noexcept = default;
  template <class Problem>
  next_lines(const Problem& p, const next_job& next, index_type b, index_type h) noexcept : rows(next.rows) {
    if (next.rows.empty()) return;
    q = byte_view(p.q.head(next.b, next.h));
    const index_type kv_head = next.h / p.group();
    if (!p.beyond_caches || (next.b == b && kv_head == h / p.group())) return;
    const auto lines_of = [&](const auto& all, byte_view& lines) {
      if constexpr (requires { byte_view(all.head(b, h)); }) lines = byte_view(all.head(next.b, kv_head));
    };
    lines_of(p.k, k), lines_of(p.v, v);
  }

  /// The part of a matrix's rows that is due beside the rows `panel` of a job's.
  static range share(const byte_view& m, range panel, range job) noexcept {
    const auto part = [&](index_type row) { return (row - job.first) * m.rows / job.size(); };
    return {part(panel.first), part(panel.last)};
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
