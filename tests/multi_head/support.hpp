// tests/multi_head/support.hpp - layers with weights at random, and the textbook's way to their results.
#pragma once

#include "../support/max_abs.hpp"
#include "../support/random.hpp"

#include <fovea/multi_head.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

namespace multi_head_test {

using fovea::index_type;
using layer = fovea::multi_head<double>;
using options = fovea::multi_head_options<double>;
using matrix = layer::matrix;
using offsets = std::vector<index_type>;

inline matrix random_matrix(index_type rows, index_type cols, std::uint64_t seed) {
  fovea_test::random_source random(seed);
  return matrix::NullaryExpr(rows, cols, [&] { return random.uniform(-1, 1); });
}

/// All parameters away from what they start with.
inline layer random_layer(const options& o) {
  layer result(o);
  fovea_test::random_source random(5);
  result.randomise([&] { return random.uniform(-1, 1); });
  std::uint64_t seed = 6;
  layer::each_parameter(
      "", [&](const std::string&, auto& p) { p += 0.3 * random_matrix(p.rows(), p.cols(), ++seed); }, result);
  return result;
}

/// The norm and the rotation of one head of one token at a position, as their papers write them.
inline void place_by_hand(const layer& l, const auto& gain, auto&& head, index_type position) {
  const auto& o = l.options();
  if (gain.size() > 0)
    head =
        (head.array() / std::sqrt(head.squaredNorm() / static_cast<double>(o.dim) + o.epsilon) * gain.array())
            .matrix()
            .eval();
  const index_type half = o.rotary.cos.cols;
  for (index_type i = 0; i < half; ++i) {
    const bool halves = o.pairs == fovea::rotary_pairs::halves;
    const index_type a = halves ? i : 2 * i, b = halves ? i + half : 2 * i + 1;
    const double angle =
        static_cast<double>(position) * std::pow(10000., -static_cast<double>(i) / static_cast<double>(half));
    const double u = head(a), v = head(b);
    head(a) = u * std::cos(angle) - v * std::sin(angle), head(b) = u * std::sin(angle) + v * std::cos(angle);
  }
}

/// The layer's formula for one sequence.
matrix textbook(const layer& l, const matrix& x, const matrix& memory, const auto&... mods) {
  const auto& o = l.options();
  const auto product = [&](const matrix& in, const auto& w, const auto& b) {
    matrix y = in * w.transpose();
    for (index_type i = 0; i < y.rows() && b.size() > 0; ++i) y.row(i) += b;
    return y;
  };
  layer writable = l;
  matrix q = product(x, l.w_q(), writable.b_q()), k = product(memory, l.w_k(), writable.b_k());
  const matrix v = product(memory, l.w_v(), writable.b_v());
  for (index_type t = 0; t < q.rows(); ++t)
    for (index_type h = 0; h < o.heads; ++h)
      place_by_hand(l, l.q_gain, q.row(t).segment(h * o.dim, o.dim), t);
  for (index_type t = 0; t < k.rows(); ++t)
    for (index_type h = 0; h < o.kv_heads; ++h)
      place_by_hand(l, l.k_gain, k.row(t).segment(h * o.dim, o.dim), t);
  const auto r = fovea::reference(q, k, v, {o.heads, o.kv_heads, o.scale}, mods...);
  matrix attended(x.rows(), o.heads * o.value_dim);
  for (index_type t = 0; t < x.rows(); ++t)
    for (index_type c = 0; c < attended.cols(); ++c)
      attended(t, c) = r.out(0, c / o.value_dim, t, c % o.value_dim);
  return product(attended, l.out_weight, l.out_bias);
}

inline double distance(const matrix& a, const matrix& b) {
  return a.size() == 0 ? 0 : fovea_test::max_abs(a - b);
}

}  // namespace multi_head_test
