// fovea/kernel/backward/gradient_problem.hpp - what a backward call is about, and where its jobs work.
#pragma once

#include <fovea/kernel/operand/gated.hpp>
#include <fovea/kernel/problem.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// No gates; or those of the results, and where their gradient goes (no data: nowhere).
struct no_gates {
  static constexpr bool given = false;
  friend no_gates in_classes(no_gates, const token_classes&) noexcept { return {}; }
};
template <class G, class DG>
struct gates_and_gradient {
  static constexpr bool given = true;
  sequences<const G> values;
  sequences<DG> gradient;

  friend gates_and_gradient in_classes(const gates_and_gradient& x, const token_classes& classes) noexcept {
    return {fovea::in_classes(x.values, classes), fovea::in_classes(x.gradient, classes)};
  }
};

/// The forward call, what it gave, and where the gradients go.
template <class Problem, class OE, class GE, class DQ, class DK, class DV, class Gates>
struct gradient_problem {
  using compute = typename Problem::compute;
  static constexpr unit_of units = Problem::units;
  static constexpr bool gated = Gates::given, normalises = Problem::normalises;

  Problem forward;  // without results
  sequences<const OE> out;
  sequences<const compute> lse;
  sequences<const GE> d_out;
  sequences<const compute> d_lse;  // no data: 0
  sequences<DQ> d_q;
  sequences<DK> d_k;
  sequences<DV> d_v;
  Gates gates;

  /// The gradient by a head's O = P V: d_out or, where results are gated, its product with the gates.
  template <class Arch>
  auto d_sums(index_type b, index_type h) const noexcept {
    if constexpr (gated)
      return gated_operand<Arch, GE, std::remove_cvref_t<decltype(*gates.values.all.data)>>{
          d_out.head(b, h), gates.values.head(b, h)};
    else
      return d_out.head(b, h);
  }
};

template <class Problem, class OE, class GE, class DQ, class DK, class DV, class T, class Gates>
gradient_problem(Problem, sequences<const OE>, sequences<const T>, sequences<const GE>, sequences<const T>,
                 sequences<DQ>, sequences<DK>, sequences<DV>, Gates)
    -> gradient_problem<Problem, OE, GE, DQ, DK, DV, Gates>;

/// Where a job of the backward pass works.
template <class T>
struct gradient_scratch {
  T *panels, *d_k, *d_v, *p, *ds, *q_copy, *d_out_copy, *k_copy;
};

/// Keys of one key/value head, and which of its query heads; which part of the heads and split of the keys
/// these are.
struct gradient_job {
  index_type batch, kv_head, part, key_split;
  range heads, keys;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
