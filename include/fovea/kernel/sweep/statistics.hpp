// fovea/kernel/sweep/statistics.hpp - what each row of probabilities is like, found in the sweep of its
// LSE.
//
// Beside the maximum m and the sum l of softmax.hpp a row keeps two sums that shrink with them:
//   e_j = exp(s_j - m)      l = sum e_j      t = sum e_j (s_j - m)      d = sum e_j |i + offset - j|
// and when m rises to m', with f = exp(m - m'),
//   l' = f l                t' = f (t + (m - m') l)                     d' = f d.
// In the end P_j = e_j / l, so the entropy -sum P_j ln P_j is ln l - t / l: both terms are at most the
// logarithm of the number of keys, whereas LSE - sum P_j s_j is a difference of logits, however large.
#pragma once

#include <fovea/kernel/sweep/logit_sweep.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// What is known of a row in the end; row_statistics (row_statistics.hpp) says what each means.
struct row_measures {
  double lse, entropy, distance, largest, mass;
  index_type key, visible;
};

/// A row's running state, in double: a block of keys is summed in the compute type, then merged.
struct row_state {
  double m = hidden<double>, l = 0, t = 0, d = 0;
  index_type key = -1, visible = 0;  // the first key with logit m; how many keys were not hidden

  /// Takes in keys that come after those so far. NaN stays.
  void merge(row_state later) noexcept {
    if (later.visible == 0) return;
    if (!(later.m <= m)) {
      shrink_to(later.m);
      key = later.key;
    } else {
      later.shrink_to(m);
    }
    l += later.l, t += later.t, d += later.d;
    visible += later.visible;
  }

  /// After a sink: a logit that is no key's, -inf without one.
  row_measures finish(double sink) const noexcept {
    if (visible == 0) return {sink, 0, 0, 0, 0, -1, 0};
    const double top = std::max(m, sink), f = std::exp(m - top);
    const double sum = f * l + std::exp(sink - top), least = std::log(sum) + (top - m);  // -ln of max P
    return {top + std::log(sum), f * (l * least - t) / sum, f * d / sum, f / sum,
            f * l / sum,         l == l ? key : -1,         visible};
  }

 private:
  /// Where nothing is left, not even of (m - to) l, which may be 0 * -inf.
  void shrink_to(double to) noexcept {
    const double f = visible == 0 ? 0 : std::exp(m - to);
    t = f == 0 ? 0 : f * (t + (m - to) * l);
    l = f == 0 ? 0 : f * l;
    d = f == 0 ? 0 : f * d;
    m = to;
  }
};

/// Merges a block of logits into the states of its queries; `offset`: query i stands at key i + offset.
template <class Arch, class T>
FOVEA_NOINLINE void measure_block(const logit_block<Arch, T>& block, index_type offset,
                                  row_state* states) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  const range keys = block.keys;
  const V none(T(0)), one(T(1)), beyond(static_cast<T>(keys.size()));
  for (int w = 0; w < block.registers(); ++w) {
    const softmax_state<Arch, T, unit_of::natural> row{block.largest[w], none};
    const index_type first_row = block.rows.first + w * n;
    const V m = row.subtrahend();
    const V here = V(static_cast<T>(first_row + offset - keys.first)) + counting_up<Arch, T>();
    V l = none, t = none, d = none, visible = none, first = beyond;
    for (index_type j = 0; j < keys.size(); ++j) {
      const V s = V::load_aligned(block.at(j, w)), key(static_cast<T>(j));
      const V e = row.template probability<true>(s);
      l = l + e;
      t = isa<Arch>::fma(e, xsimd::select(e == none, none, s - m), t);
      d = isa<Arch>::fma(e, xsimd::abs(here - key), d);
      visible = visible + xsimd::select(s == V(hidden<T>), none, one);
      first = xsimd::min(first, xsimd::select(s == m, key, beyond));
    }
    alignas(64) T sum[6][std::size_t{n}];
    block.largest[w].store_aligned(sum[0]), l.store_aligned(sum[1]), t.store_aligned(sum[2]);
    d.store_aligned(sum[3]), first.store_aligned(sum[4]), visible.store_aligned(sum[5]);
    for (index_type i = 0; i < std::min(n, block.rows.last - first_row); ++i) {
      const auto of = [&](int which) { return static_cast<double>(sum[which][i]); };
      (states++)->merge({of(0), of(1), of(2), of(3), keys.first + static_cast<index_type>(sum[4][i]),
                         static_cast<index_type>(sum[5][i])});
    }
  }
}

/// Scratch for the states of so many rows, where values would be.
constexpr index_type row_states_bytes(index_type rows) noexcept { return bytes_of<row_state>(rows); }

/// write(row, row_measures) for rows of one query head. p.v has no columns.
template <class Arch, class Problem, class Write, class T = typename Problem::compute>
FOVEA_NOINLINE void measure_queries(const Problem& p, index_type b, index_type h, range rows,
                                    const scratch<T>& memory, const Write& write) noexcept {
  auto* const states = reinterpret_cast<row_state*>(memory.values);
  const index_type offset = p.k.tokens(b) - p.q.tokens(b);
  for (index_type i = 0; i < rows.size(); ++i) states[i] = {};

  sweep_logits<Arch>(p, b, h, rows, {0, p.k.tokens(b)}, p.scale, memory, [&](const logit_block<Arch, T>& s) {
    measure_block(s, offset, states + (s.rows.first - rows.first));
  });

  double sink = hidden<double>;
  if constexpr (sink_like<decltype(p.sink)>) sink = static_cast<double>(p.sink.logit(h));
  for (index_type i = 0; i < rows.size(); ++i) write(rows.first + i, states[i].finish(sink));
}

}  // namespace kernel
FOVEA_NAMESPACE_END
