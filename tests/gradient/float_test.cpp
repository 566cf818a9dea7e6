// Gradients in float against those in double, within the analogue of the forward bound; 16-bit elements
// against double within that and their own rounding.
//
// A rounded weight is P (1 + e) with |e| <= 3 u (4 + A), A the row's largest scale * sum_c |q_c k_c|; what it
// is multiplied by in dS is a difference of sums, each of them off by its own magnitude. So with
//   G_ij = P_ij (4 + A_i) (sum_c |dO_ic| |V_jc| + sum_c |dO_ic| (P |V|)_ic + |dLSE_i|)
// the errors are at most 3 u times  sum_i P_ij (4 + A_i) |dO_ic|  in dV,  scale sum_j G_ij |K_jc|  in dQ  and
// scale sum_i G_ij |Q_ic|  in dK.
#include "support.hpp"

namespace fovea_test {
namespace {

struct bounds {
  tensor<double> d_q, d_k, d_v;
};

double size_of(double x) { return std::abs(x); }

template <class Rules>
bounds bounds_of(const sizes& n, const operands<double>& x, const tensor<double>& lse, const Rules& rules) {
  const fovea::attention<double> attend{{.heads = n.heads, .kv_heads = n.kv_heads}};
  const tensor<double> p = rules.with([&](auto... mods) { return attend.weights(x.q, x.k, mods...); });
  const double scale = 1 / std::sqrt(static_cast<double>(n.dim)), unit = 3 * 0x1p-24;
  bounds to{{n.batch, n.heads, n.queries, n.dim},
            {n.batch, n.kv_heads, n.keys, n.dim},
            {n.batch, n.kv_heads, n.keys, n.value_dim}};
  for (index_type b = 0; b < n.batch; ++b)
    for (index_type h = 0; h < n.heads; ++h)
      for (index_type i = 0; i < n.queries; ++i) {
        const index_type g = h / (n.heads / n.kv_heads);
        double a = 0, of_out = size_of(x.d_lse(b, h, i, 0));
        for (index_type j = 0; j < n.keys; ++j) {
          double dot = 0, of_value = 0;
          for (index_type c = 0; c < n.dim; ++c) dot += size_of(x.q(b, h, i, c) * x.k(b, g, j, c));
          for (index_type c = 0; c < n.value_dim; ++c)
            of_value += size_of(x.d_out(b, h, i, c) * x.v(b, g, j, c));
          if (p(b, h, i, j) > 0) a = std::max(a, scale * dot);
          of_out += p(b, h, i, j) * of_value;
        }
        if (std::isfinite(lse(b, h, i, 0))) a += size_of(lse(b, h, i, 0));
        for (index_type j = 0; j < n.keys; ++j) {
          double of_value = 0;
          for (index_type c = 0; c < n.value_dim; ++c)
            of_value += size_of(x.d_out(b, h, i, c) * x.v(b, g, j, c));
          const double weight = unit * p(b, h, i, j) * (4 + a), slope = weight * (of_value + of_out) * scale;
          for (index_type c = 0; c < n.value_dim; ++c)
            to.d_v(b, g, j, c) += weight * size_of(x.d_out(b, h, i, c));
          for (index_type c = 0; c < n.dim; ++c) {
            to.d_q(b, h, i, c) += slope * size_of(x.k(b, g, j, c));
            to.d_k(b, g, j, c) += slope * size_of(x.q(b, h, i, c));
          }
        }
      }
  return to;
}

/// `unit`, `least`: half the spacing of the stored elements at 1 and at 0, beside the error of computing.
template <class T>
void expect_near(const char* what, const sizes& n, const tensor<T>& got, const tensor<double>& want,
                 const tensor<double>& bound, double unit, double least, double worse = 1) {
  for (index_type i = 0; i < want.size(); ++i) {
    const double has = fovea::load_element<double>(got.data()[i]), exact = want.data()[i];
    ASSERT_NEAR(has, exact,
                worse * bound.data()[i] + unit * (std::abs(exact) + worse * bound.data()[i]) + least)
        << what << " " << i << " of " << words(n);
  }
}

template <class Rules>
void expect_float_near_double(const sizes& n, const Rules& rules) {
  const operands<float> x(n);
  const operands<double> exact = as<double>(x);
  const auto got = differentiated(n, x, rules, {});
  const auto want = differentiated(n, exact, rules, {});
  const bounds b = bounds_of(n, exact, want.lse, rules);
  expect_near("dq", n, got.d_q, want.d_q, b.d_q, 0, 1e-37);
  expect_near("dk", n, got.d_k, want.d_k, b.d_k, 0, 1e-37);
  expect_near("dv", n, got.d_v, want.d_v, b.d_v, 0, 1e-37);
}

std::vector<sizes> with_long_ones() {
  auto all = usual_sizes();
  all.push_back({1, 1, 1, 300, 500, 64, 64});
  all.push_back({1, 2, 2, 260, 400, 128, 128});
  return all;
}

TEST(float_gradients, are_near_those_in_double) {
  for (const sizes& n : with_long_ones()) expect_float_near_double(n, no_rules{});
}

TEST(float_gradients, under_masks_are_near_those_in_double) {
  for (const sizes& n : with_long_ones()) {
    masks m(n);
    m.diagonal = n.keys - n.queries;
    expect_float_near_double(n, m);
    m.left = 37;
    expect_float_near_double(n, m);
  }
}

TEST(float_gradients, with_everything_are_near_those_in_double) {
  for (const sizes& n : with_long_ones()) {
    everything e(n);
    e.cap = 20, e.tilt = 0.01, e.set_addend(1, n.heads, n.queries, n.keys), e.left = 50;
    expect_float_near_double(n, e);
  }
}

// O is stored in 16 bits too, so that sum_c dO O is off by its rounding: relative 2^-8 (2^-11) of each term.
template <class T>
void expect_16_bits_near_double(double unit, double least) {
  for (const sizes& n : usual_sizes()) {
    const operands<T> x(n);
    operands<double> exact = as<double>(x);
    masks m(n);
    m.diagonal = n.keys - n.queries;
    const auto got = differentiated(n, x, m, {});
    const auto want = differentiated(n, exact, m, {});
    const bounds b = bounds_of(n, exact, want.lse, m);
    const double worse = 1 + unit / (3 * 0x1p-24 * 4);
    expect_near("dq", n, got.d_q, want.d_q, b.d_q, unit, least, worse);
    expect_near("dk", n, got.d_k, want.d_k, b.d_k, unit, least, worse);
    expect_near("dv", n, got.d_v, want.d_v, b.d_v, unit, least);
  }
}

TEST(float_gradients, of_16_bit_elements_are_near_those_in_double) {
  expect_16_bits_near_double<fovea::bf16>(0x1p-8, 1e-37);
  expect_16_bits_near_double<fovea::fp16>(0x1p-11, 0x1p-25);
}

}  // namespace
}  // namespace fovea_test
