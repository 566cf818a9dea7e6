// fovea/hard/gradient.hpp - the gradient of the picks' log-probabilities, by the backward pass as it stands.
//
// d log p_a / d s_j = [j = a] - p_j, of a row that picked a. Backward makes dS = P (Z (dO V^T) - D + dLSE),
// Z being dropout's factors. With values of one column of ones, D = 0, Z = 1 at the pick alone, dO = d / p_a
// and dLSE = -d, d being the gradient by log p_a, that is d ([j = a] - p_j).
#pragma once

#include <fovea/index.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/score/concept.hpp>
#include <fovea/view/tensor.hpp>

#include <cmath>
#include <limits>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Whole numbers one after another, as cells.same_number reads them.
struct whole_numbers {
  const index_type* first;
  static constexpr index_type stride = 1;
  const index_type* at(index_type i) const noexcept { return first + i; }
  index_type operator[](index_type i) const noexcept { return first[i]; }
};

/// Z: a dropout that keeps the picks.
struct only_picks {
  static constexpr bool drops = true;
  tensor_view<const index_type> picks;  // a row each
  whole_numbers keys;                   // 0, 1, 2, ...

  struct of_head {
    static constexpr bool drops = true;
    static constexpr double scale = 1;
    whole_numbers picks, keys;
    auto kept(const auto& cells) const noexcept { return cells.same_number(picks, keys); }
  };
  of_head bind(const place& at) const noexcept {
    return {{picks.data + at.batch * picks.batch_stride + at.head * picks.head_stride}, keys};
  }
};

/// A sink whose gradient gets what belongs to the rows that picked it.
template <class Sink>
struct picked_sink {
  const Sink& given;
  const std::vector<double>& more;  // of each head

  double logit(index_type head) const noexcept { return static_cast<double>(given.logit(head)); }
  void set_gradient(index_type head, double value) const noexcept
    requires requires { given.set_gradient(head, value); }
  {
    given.set_gradient(head, value + more[static_cast<std::size_t>(head)]);
  }
  auto gradient() const noexcept
    requires requires { given.gradient(); }
  {
    return given.gradient();
  }
  void check(const place& at) const { check_score_at(given, at); }
  template <class T>
  void check_numbers() const {
    check_numbers_of<T>(given);
  }
  void each_operand(const auto& f) const {
    if constexpr (requires { given.each_operand(f); }) given.each_operand(f);
  }
};

/// m, or the sink m with more for its gradient.
template <class M>
decltype(auto) with_picked_sink(const M& m, const std::vector<double>& more) noexcept {
  if constexpr (sink_like<M>)
    return picked_sink<M>{m, more};
  else
    return (m);
}

/// Whether these are picks of a call: a key or -1 for each row.
template <class Queries, class Keys>
void check_picks(const tensor<index_type>& picks, const Queries& q, const Keys& k) {
  check_same("picks", "sequences", picks.batch(), "q", q.batches());
  check_same("picks", "heads", picks.heads(), "q", q.heads());
  check_same("picks", "tokens", picks.tokens(), "q", q.max_tokens());
  if (picks.dim() != 1) reject("picks has ", picks.dim(), " keys a row: a gradient is of one");
  for (index_type b = 0; b < q.batches(); ++b)
    for (index_type h = 0; h < q.heads(); ++h)
      for (index_type i = 0; i < q.tokens(b); ++i)
        if (const index_type key = picks(b, h, i, 0); key < -1 || key >= k.tokens(b))
          reject("picks(", b, ", ", h, ", ", i, ") is ", key, ", but k has ", k.tokens(b), " tokens");
}

/// dO to `d_out` and dLSE to `d_lse`, from d and log p_a; and what sinks get. A probability below 2^-126
/// counts as 0. A row that saw no key, or a NaN, gets what backward makes of its LSE.
template <class T, class E>
void split_log_p_gradient(const tensor<index_type>& picks, const sequences<const E>& d_log_p,
                          const sequences<const T>& log_p, const sequences<T>& d_out,
                          const sequences<T>& d_lse, std::vector<double>& sinks) noexcept {
  for (index_type b = 0; b < d_log_p.batches(); ++b)
    for (index_type h = 0; h < d_log_p.heads(); ++h)
      for (index_type i = 0; i < d_log_p.tokens(b); ++i) {
        const T d = load_element<T>(d_log_p.head(b, h)(i, 0)), log = log_p.head(b, h)(i, 0);
        const bool none = picks(b, h, i, 0) < 0;
        const T p = std::exp(log), of_pick = p < std::numeric_limits<T>::min() ? T(0) : d / p;
        d_out.head(b, h)(i, 0) = none || !is_finite(of_pick) ? T(0) : of_pick;
        d_lse.head(b, h)(i, 0) = none && log == T(0) ? T(0) : -d;
        if (none && log != T(0)) sinks[static_cast<std::size_t>(h)] += static_cast<double>(d);
      }
}

/// dV = the sum of dO over the rows that picked a value, of one key/value head, in the order of the rows.
template <class T, class G, class E>
void add_picked_gradients(const tensor<index_type>& picks, const sequences<const G>& d_out, index_type b,
                          range heads, const matrix_view<E>& d_v, tensor<T>& sums) noexcept {
  for (index_type h = heads.first; h < heads.last; ++h)
    for (index_type i = 0; i < d_out.tokens(b); ++i) {
      const index_type key = picks(b, h, i, 0);
      for (index_type c = 0; key >= 0 && c < d_v.cols; ++c)
        sums(0, 0, key, c) += load_element<T>(d_out.head(b, h)(i, c));
    }
  for (index_type j = 0; j < d_v.rows; ++j)
    for (index_type c = 0; c < d_v.cols; ++c) d_v(j, c) = store_element<E>(sums(0, 0, j, c));
}

FOVEA_NAMESPACE_END
