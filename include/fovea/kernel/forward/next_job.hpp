// fovea/kernel/forward/next_job.hpp - what the job after this one reads, asked for while this one computes.
#pragma once

#include <fovea/kernel/operand/prefetch.hpp>
#include <fovea/kernel/problem.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The job that this worker is likely to run next. No rows: none, or not worth asking for.
struct coming {
  /// Rows of a job from which on asking pays; with 48 it took 3 % more time where all was in L2.
  static constexpr index_type enough_rows = 64;
  index_type b = 0, h = 0;
  range rows = {0, 0};
};

/// What the next job reads, asked for in equal parts beside the panels of this one. Heads of 96 to 200 x 64
/// or 128 that lie in L3 take 2 to 6 % less time with it. Long inputs, of which hardware foresees what is
/// read, took up to 1 % more when each block asked for the next one's keys and values.
template <class Problem>
class reads_of_next {
 public:
  FOVEA_INLINE reads_of_next(const Problem& p, const coming& next, index_type b, index_type h,
                             range rows) noexcept
      : p_(p),
        next_(next),
        rows_(rows),
        other_keys_(!next.rows.empty() && (next.b != b || next.h / p.group() != h / p.group())) {}

  /// The queries of its first panel.
  FOVEA_INLINE lines_ahead queries(index_type panel) const noexcept {
    const range first{next_.rows.first, std::min(next_.rows.first + panel, next_.rows.last)};
    return {line_use::read, p_.q.head(next_.b, next_.h), first};
  }
  FOVEA_INLINE lines_ahead keys(range panel) const noexcept { return part(p_.k, panel); }
  FOVEA_INLINE lines_ahead values(range panel) const noexcept { return part(p_.v, panel); }

 private:
  template <class Sequences>
  FOVEA_INLINE lines_ahead part(const Sequences& all, range panel) const noexcept {
    const auto head = all.head(next_.b, next_.h / p_.group());
    if constexpr (requires { lines_ahead(line_use::read_l2, head, panel); })
      if (other_keys_) {
        const auto share = [&](index_type row)
                               FOVEA_INLINE_LAMBDA { return (row - rows_.first) * head.rows / rows_.size(); };
        return {line_use::read_l2, head, range{share(panel.first), share(panel.last)}};
      }
    return {};
  }

  const Problem& p_;
  const coming& next_;
  range rows_;
  bool other_keys_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
