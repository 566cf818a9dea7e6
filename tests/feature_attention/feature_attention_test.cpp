// Attention by features against its formula in double, its gradients against differences, and its errors.
#include <fovea/feature_attention.hpp>

#include <gtest/gtest.h>

#include <random>

namespace {

using fovea::index_type, fovea::tensor;

template <class T>
struct feature_problem {
  tensor<T> q, k, v, d_o;
  feature_problem(index_type lq, index_type lk, index_type d, index_type dv)
      : q(2, 4, lq, d), k(2, 2, lk, d), v(2, 2, lk, dv), d_o(2, 4, lq, dv) {
    std::mt19937 bits(static_cast<std::uint32_t>(lq + lk + d));
    std::normal_distribution<double> normal;
    for (tensor<T>* x : {&q, &k, &v, &d_o})
      for (index_type i = 0; i < x->size(); ++i) x->data()[i] = static_cast<T>(normal(bits));
  }
};

template <class Features, class T>
tensor<double> by_formula(const feature_problem<T>& p, bool causal, double epsilon) {
  const auto lq = p.q.view().tokens, lk = p.k.view().tokens, d = p.k.view().dim, dv = p.v.view().dim;
  tensor<double> o(2, 4, lq, dv);
  for (index_type b = 0; b < 2; ++b)
    for (index_type h = 0; h < 4; ++h)
      for (index_type i = 0; i < lq; ++i) {
        double norm = epsilon;
        for (index_type j = 0; j < (causal ? i + 1 : lk); ++j) {
          double weight = 0;
          for (index_type c = 0; c < d; ++c)
            weight += Features()(double(p.q(b, h, i, c))) * Features()(double(p.k(b, h / 2, j, c)));
          norm += weight;
          for (index_type c = 0; c < dv; ++c) o(b, h, i, c) += weight * double(p.v(b, h / 2, j, c));
        }
        for (index_type c = 0; c < dv; ++c) o(b, h, i, c) /= norm;
      }
  return o;
}

template <class Features>
void check_forward() {
  for (const auto& [lq, lk, d, dv] : {std::array<index_type, 4>{1, 1, 1, 1},
                                      {5, 5, 7, 9},
                                      {70, 70, 32, 24},
                                      {12, 33, 16, 16},
                                      {100, 100, 64, 64},
                                      {600, 600, 20, 13}}) {
    const feature_problem<float> p(lq, lk, d, dv);
    const fovea::feature_attention<float, 4, 2, Features> attend;
    const auto near = [&](const tensor<float>& o, bool causal) {
      const auto want = by_formula<Features>(p, causal, 1e-6);
      for (index_type i = 0; i < o.size(); ++i)  // weights are positive: O is a mean of values of about 1
        ASSERT_NEAR(double(o.data()[i]), want.data()[i], std::ldexp(64.0 + double(lk + d), -24) * 5)
            << i << " causal " << causal << " Lk " << lk;
    };
    near(attend(p.q, p.k, p.v), false);
    if (lq == lk) near(attend(p.q, p.k, p.v, fovea::causal), true);
  }
}

TEST(FeatureAttention, IsItsFormula) {
  check_forward<fovea::elu_plus_one_features>();
  check_forward<fovea::relu_features>();
}

struct square {
  template <class V>
  V operator()(const V& x) const noexcept {
    return x * x;
  }
};

template <class Features>
void check_gradients(bool causal, index_type lq = 9, index_type lk = 37) {
  feature_problem<double> p(causal ? lk : lq, lk, 10, 6);
  const fovea::feature_attention<double, 4, 2, Features> attend;
  const auto [d_q, d_k, d_v] =
      causal ? attend.backward(p.q, p.k, p.v, p.d_o, fovea::causal) : attend.backward(p.q, p.k, p.v, p.d_o);
  const auto loss = [&] {
    const auto o = causal ? attend(p.q, p.k, p.v, fovea::causal) : attend(p.q, p.k, p.v);
    double sum = 0;
    for (index_type i = 0; i < o.size(); ++i) sum += o.data()[i] * p.d_o.data()[i];
    return sum;
  };
  const auto check = [&](tensor<double>& x, const tensor<double>& d_x, const char* name) {
    for (index_type i = 3; i < x.size(); i += x.size() / 23) {
      const double at = x.data()[i], h = 1e-6;
      x.data()[i] = at + h;
      const double up = loss();
      x.data()[i] = at - h;
      const double down = loss();
      x.data()[i] = at;
      EXPECT_NEAR((up - down) / (2 * h), d_x.data()[i], 1e-6 * (1 + std::abs(d_x.data()[i])))
          << name << ' ' << i << " causal " << causal;
    }
  };
  check(p.q, d_q, "q"), check(p.k, d_k, "k"), check(p.v, d_v, "v");
}

TEST(FeatureAttention, GradientsAreWhatDifferencesSay) {
  for (const bool causal : {false, true}) {
    check_gradients<fovea::elu_plus_one_features>(causal);
    check_gradients<fovea::relu_features>(causal);
    check_gradients<square>(causal);
    check_gradients<fovea::elu_plus_one_features>(causal, 530, 1100);  // several blocks of tokens
  }
}

TEST(FeatureAttention, ErrorsNameTheArgumentAndBothValues) {
  const feature_problem<float> p(5, 7, 8, 4);
  const fovea::feature_attention<float, 4, 2> attend;
  const auto error = [](const auto& f) -> std::string {
    try {
      f();
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "no error";
  };
  tensor<float> o(2, 4, 5, 4), wrong(2, 4, 5, 3);
  EXPECT_NE(error([&] { attend(p.q, p.k, p.v, fovea::causal); }).find("k has 7 tokens but q has 5"),
            std::string::npos);
  EXPECT_NE(error([&] { attend.into(wrong, p.q, p.k, p.v); }).find("3"), std::string::npos);
  EXPECT_NE(error([&] { attend(p.q, p.v, p.v); }).find("k has 4 columns a head, but q has 8"),
            std::string::npos);
  EXPECT_NE(error([&] { attend(p.q, p.k, tensor<float>(2, 2, 6, 4)); }).find("v has 6 tokens"),
            std::string::npos);
  EXPECT_NE(error([] { fovea::feature_attention<float, 4, 2>({.epsilon = -1}); }).find("epsilon is -1"),
            std::string::npos);
}

}  // namespace
