// fovea/kernel/sweep/logit_sweep.hpp - sweeps over logits that sum something else than values.
#pragma once

#include <fovea/kernel/forward/attend_lanes.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The state of a sweep that keeps nothing of a query: logits stay what they are.
struct no_state {
  static constexpr int columns = 0;
  void open(const auto&) const noexcept {}
  void absorb(auto&, const auto&, auto&) const noexcept {}
};

/// The mixer of a sweep that takes a block of logits as it comes: f(logit_block).
template <class F>
struct each_block {
  F f;
  index_type columns() const noexcept { return 0; }
  bool whole() const noexcept { return false; }
  void open(const auto&) const noexcept {}
  void add(const auto& s, auto&, const auto&, const auto&) const noexcept { f(s); }
  void close(const auto&, const auto&) const noexcept {}
};
template <class F>
each_block(F) -> each_block<F>;

/// f(logit_block) for few query rows of a head among `rows`, queries in lanes, and each block of keys among
/// `span` of which they see some: the scores, hidden ones -inf, and the largest of each query. `scale`: of Q
/// K^T, in natural units where there are scores. span.first is a multiple of the block; values are not read.
template <class Arch, class Problem, class F, class T = typename Problem::compute>
void sweep_logits(const Problem& p, index_type b, index_type h, range rows, range span, T scale,
                  const scratch<T>& memory, F&& f) noexcept {
  const lane_head<Arch, Problem> head(p, b, h, memory);
  lane_job<Arch, T> job = head.job(rows, scale);
  job.span = span;
  walk_lanes(job, no_state(), each_block{std::forward<F>(f)});
}

}  // namespace kernel
FOVEA_NAMESPACE_END
