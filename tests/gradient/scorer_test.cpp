// Gradients of scorers of one's own, beside all that a call may have: against differences of the forward call
// in double, and float against double.
#include "../support/differences.hpp"
#include "support.hpp"

#include <fovea/executor.hpp>

#include <array>
#include <limits>
#include <span>

namespace fovea_test {
namespace {

/// -sqrt(|q - k|^2 + 0.1) / length: the logit's slope depends on the sum.
struct distance {
  using is_scorer = void;
  double length;
  template <class V>
  V add(const V& sum, const V& q, const V& k) const {
    return sum + (q - k) * (q - k);
  }
  template <class V>
  V logit(const V& sum) const {
    using std::sqrt;
    using element = fovea::number_in<V>;
    return -sqrt(sum + V(static_cast<element>(0.1))) / V(static_cast<element>(length));
  }
};

/// sum_c tanh(q_c + k_c), as additive attention has it.
struct additive {
  using is_scorer = void;
  template <class V>
  V add(const V& sum, const V& q, const V& k) const {
    using std::tanh;
    return sum + tanh(q + k);
  }
  template <class V>
  V logit(const V& sum) const {
    return sum;
  }
};

/// sum_c w_c tanh(q_c + k_c) with learned weights [head][channel], heads of all sequences sharing theirs.
struct weighted_tanh {
  using is_scorer = void;
  index_type dim;
  const double* weights;
  double* d_weights = nullptr;
  weighted_tanh bind(const fovea::place& at) const { return {dim, weights + at.head * dim}; }
  index_type channels() const { return dim; }
  double parameter(index_type c) const { return weights[c]; }
  template <class V>
  V add(const V& sum, const V& q, const V& k, const V& w) const {
    using std::tanh;
    return sum + w * tanh(q + k);
  }
  void set_gradient(index_type head, index_type c, double slope) const { d_weights[head * dim + c] = slope; }
};

/// The same, which says its derivatives.
struct weighted_tanh_with_slopes : weighted_tanh {
  weighted_tanh_with_slopes bind(const fovea::place& at) const { return {weighted_tanh::bind(at)}; }
  template <class V>
  std::array<V, 3> slopes(const V& q, const V& k, const V& w) const {
    using std::tanh;
    const V t = tanh(q + k), slope = w * (V(1) - t * t);
    return {slope, slope, t};
  }
};

constexpr sizes all_sizes[] = {{1, 1, 1, 1, 1, 1, 1}, {2, 2, 1, 5, 9, 3, 4}, {1, 4, 2, 75, 420, 17, 8}};

/// f(mods...) with a scorer, a learned bias a key, a mask with holes and dropout.
template <class T, class Scorer, class F>
auto with_rules(const Scorer& scorer, const sizes& n, tensor<T>& bias, tensor<T>& d_bias, const F& f) {
  const auto holes = fovea::mask([](auto q, auto k) { return (k == q) | ((k & 3) != 1); });
  const index_type offset = n.keys - n.queries;
  return f(scorer, fovea::softcap{20.0}, fovea::bias(bias, d_bias), holes, fovea::causal_offset{offset},
           fovea::dropout{.rate = 0.2, .seed = 5});
}

template <class Arch, class Scorer>
void expect_differences(const Scorer& scorer, std::span<const sizes> of, tensor<double>* weights = nullptr,
                        tensor<double>* d_weights = nullptr) {
  for (const sizes& n : of) {
    SCOPED_TRACE(words(n));
    const fovea::attention<double, fovea::dynamic_heads, fovea::dynamic_heads, Arch> attend{
        {.heads = n.heads, .kv_heads = n.kv_heads}};
    operands<double> x(n);
    tensor<double> bias = normal<double>(1, n.heads, 1, n.keys, 7), d_bias(1, n.heads, 1, n.keys);
    const auto loss = [&] {
      return with_rules(scorer, n, bias, d_bias, [&](const auto&... mods) {
        const auto r = attend.with_lse(x.q, x.k, x.v, mods...);
        return loss_of(r, x);
      });
    };
    const auto got = with_rules(scorer, n, bias, d_bias, [&](const auto&... mods) {
      const auto r = attend.with_lse(x.q, x.k, x.v, mods...);
      return attend.backward(x.q, x.k, x.v, r.out, r.lse, x.d_out, fovea::lse_gradient(x.d_lse), mods...);
    });
    const auto expect = [&](const char* name, tensor<double>& values, const tensor<double>& gradient) {
      expect_slopes(name, values, gradient, loss, 1e-8, 8);
    };
    expect("d_q", x.q, got.d_q), expect("d_k", x.k, got.d_k), expect("d_v", x.v, got.d_v);
    expect("d_bias", bias, d_bias);
    if (weights != nullptr) expect("d_weights", *weights, *d_weights);
  }
}

TEST(scorer_gradient, is_that_of_differences) {
  expect_differences<xsimd::default_arch>(distance{1.5}, all_sizes);
  expect_differences<xsimd::default_arch>(additive{}, all_sizes);
  expect_differences<xsimd::sse2>(distance{1.5}, all_sizes);
}

template <class Scorer>
void expect_differences_by_parameters() {
  for (const sizes& n : all_sizes) {
    tensor<double> weights = normal<double>(1, 1, n.heads, n.dim, 9), d_weights(1, 1, n.heads, n.dim);
    const Scorer scorer{{n.dim, weights.data(), d_weights.data()}};
    expect_differences<xsimd::default_arch>(scorer, std::span(&n, 1), &weights, &d_weights);
  }
}

/// Float against double; a worker and three; what is hidden, NaN.
TEST(scorer_gradient, float_has_the_bits_of_any_executor_and_sees_nothing_hidden) {
  const sizes n{2, 4, 2, 75, 420, 17, 8};
  const operands<float> x(n);
  operands<float> y = x;
  for (index_type b = 0; b < n.batch; ++b)
    for (index_type h = 0; h < n.kv_heads; ++h)
      for (index_type c = 0; c < n.dim; ++c) y.k(b, h, 400, c) = std::numeric_limits<float>::quiet_NaN();
  const auto holes = fovea::mask([](auto, auto k) { return k != 400; });
  const auto call = [&](const auto& from, fovea::executor_ref executor) {
    using T = std::remove_cvref_t<decltype(from.q(0, 0, 0, 0))>;
    const fovea::attention<T> attend{{.heads = n.heads, .kv_heads = n.kv_heads, .executor = executor}};
    const auto r = attend.with_lse(from.q, from.k, from.v, holes, distance{1.5});
    return attend.backward(from.q, from.k, from.v, r.out, r.lse, from.d_out, holes, distance{1.5});
  };
  fovea::threads three{3};
  const auto serial = call(x, {}), parallel = call(y, three);
  const auto exact = call(as<double>(x), {});
  const auto expect = [](const auto& a, const auto& b, const auto& in_double) {
    for (index_type i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a.data()[i], b.data()[i]) << i;
      ASSERT_NEAR(a.data()[i], in_double.data()[i], 3e-5) << i;
    }
  };
  expect(serial.d_q, parallel.d_q, exact.d_q), expect(serial.d_k, parallel.d_k, exact.d_k);
  expect(serial.d_v, parallel.d_v, exact.d_v);
}

TEST(scorer_gradient, learns_a_parameter_a_channel) {
  expect_differences_by_parameters<weighted_tanh_with_slopes>();
  // By dual numbers; for any number of workers the same bits; a NaN that nobody sees reaches no parameter.
  const sizes n{2, 4, 2, 75, 420, 17, 8};
  const operands<double> x(n);
  operands<double> y = x;
  for (index_type c = 0; c < n.dim; ++c) y.k(1, 1, 400, c) = std::numeric_limits<double>::quiet_NaN();
  const auto holes = fovea::mask([](auto, auto k) { return k != 400; });
  const tensor<double> weights = normal<double>(1, 1, n.heads, n.dim, 9);
  fovea::threads three{3};
  const auto learnt = [&](const auto& from, auto scorer, fovea::executor_ref executor) {
    tensor<double> slopes(1, 1, n.heads, n.dim);
    scorer.dim = n.dim, scorer.weights = weights.data(), scorer.d_weights = slopes.data();
    const fovea::attention<double, 4, 2> attend{{.executor = executor}};
    const auto r = attend.with_lse(from.q, from.k, from.v, holes, scorer);
    static_cast<void>(attend.backward(from.q, from.k, from.v, r.out, r.lse, from.d_out, holes, scorer));
    return slopes;
  };
  const auto serial = learnt(x, weighted_tanh_with_slopes{}, {});
  const auto parallel = learnt(y, weighted_tanh_with_slopes{}, three);
  const auto dual = learnt(x, weighted_tanh{}, {});
  for (index_type i = 0; i < serial.size(); ++i) {
    EXPECT_EQ(serial.data()[i], parallel.data()[i]) << i;
    EXPECT_NEAR(serial.data()[i], dual.data()[i], 1e-12) << i;
  }
  expect_refused(
      [&] {
        static_cast<void>(fovea::attention<double, 4, 2>{}(x.q, x.k, x.v, weighted_tanh{16, weights.data()}));
      },
      "q has 17 dimensions a head but the scorer has 16");
}

TEST(scorer_gradient, has_no_scale) {
  const tensor<float> x = normal<float>(1, 1, 4, 8, 1);
  const fovea::attention<float, 1> scaled{{.scale = 0.5}};
  expect_refused([&] { static_cast<void>(scaled(x, x, x, distance{1})); },
                 "the option scale is 0.5, but a scorer makes logits of its own: it has no scale");
}

}  // namespace
}  // namespace fovea_test
