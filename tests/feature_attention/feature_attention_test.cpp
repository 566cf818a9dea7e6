// Attention by features against its formula in double, its gradients against differences, and its errors.
#include <fovea/feature_attention.hpp>

#include <gtest/gtest.h>

#include <limits>
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

TEST(FeatureAttention, FeaturesHaveOneSlopeAt0) {
  using dual = fovea::dual<double>;
  for (const double x : {-2.0, -1e-9, 0.0, 3.0, 1000.0}) {
    EXPECT_EQ(fovea::elu_plus_one_features()(x), x < 0 ? std::exp(x) : x + 1);
    EXPECT_EQ(fovea::elu_plus_one_features()(dual(x, 1.0)).slope, x < 0 ? std::exp(x) : 1) << x;
    EXPECT_EQ(fovea::relu_features()(dual(x, 1.0)).slope, x < 0 ? 0 : 1) << x;
  }
}

// NaN is in all columns of the rows of sequence 1 that `shows` names, and nowhere else.
template <class T, class Shows>
void expect_nan_where(const tensor<T>& x, const char* name, const Shows& shows) {
  const auto all = x.view();
  for (index_type b = 0; b < all.batch; ++b)
    for (index_type h = 0; h < all.heads; ++h)
      for (index_type t = 0; t < all.tokens; ++t)
        for (index_type c = 0; c < all.dim; ++c)
          ASSERT_EQ(std::isnan(x(b, h, t, c)), b == 1 && shows(h, t))
              << name << " b " << b << " h " << h << " t " << t << " c " << c;
}

template <class T, class Features>
void check_nan(bool causal) {
  const index_type tokens = 70, at = 41;  // 41: within a chunk
  const fovea::feature_attention<T, 4, 2, Features> attend;
  const auto run = [&](const feature_problem<T>& p) {
    return std::pair(causal ? attend(p.q, p.k, p.v, fovea::causal) : attend(p.q, p.k, p.v),
                     causal ? attend.backward(p.q, p.k, p.v, p.d_o, fovea::causal)
                            : attend.backward(p.q, p.k, p.v, p.d_o));
  };
  for (const index_type column : {0, 20}) {
    feature_problem<T> p(tokens, tokens, 21, 6);
    p.q(1, 2, at, column) = std::numeric_limits<T>::quiet_NaN();
    const auto [o, by] = run(p);
    const auto row = [&](index_type h, index_type t) { return h == 2 && t == at; };
    const auto seen = [&](index_type h, index_type t) { return h == 1 && (!causal || t <= at); };
    expect_nan_where(o, "o, q", row), expect_nan_where(by.d_q, "d_q, q", row);
    expect_nan_where(by.d_k, "d_k, q", seen), expect_nan_where(by.d_v, "d_v, q", seen);
  }
  for (const bool key : {true, false}) {
    feature_problem<T> p(tokens, tokens, 21, 6);
    for (index_type c = 0; c < (key ? 1 : 6); ++c)
      (key ? p.k : p.v)(1, 1, at, c) = std::numeric_limits<T>::quiet_NaN();
    const auto [o, by] = run(p);
    const auto sees = [&](index_type h, index_type t) { return h >= 2 && (!causal || t >= at); };
    const auto head = [&](index_type h, index_type) { return h == 1; };
    expect_nan_where(o, "o", sees), expect_nan_where(by.d_q, "d_q", sees);
    expect_nan_where(by.d_k, "d_k", head);  // the last row sees all keys
    if (key) expect_nan_where(by.d_v, "d_v", head);
  }
}

TEST(FeatureAttention, NaNShowsInTheRowsThatSeeIt) {
  for (const bool causal : {false, true}) {
    check_nan<float, fovea::elu_plus_one_features>(causal);
    check_nan<float, fovea::relu_features>(causal);
    check_nan<double, fovea::elu_plus_one_features>(causal);
    check_nan<double, fovea::relu_features>(causal);
  }
}

TEST(FeatureAttention, RowsWithoutKeysAre0) {
  for (const double epsilon : {0.0, 1e-6}) {
    feature_problem<float> p(5, 0, 7, 9);
    p.q(0, 1, 2, 3) = p.d_o(1, 3, 4, 5) = std::numeric_limits<float>::quiet_NaN();
    const fovea::feature_attention<float, 4, 2> attend({.epsilon = epsilon});
    const auto o = attend(p.q, p.k, p.v);
    const auto d_q = attend.backward(p.q, p.k, p.v, p.d_o).d_q;
    for (index_type i = 0; i < o.size(); ++i) ASSERT_EQ(o.data()[i], 0) << i << " epsilon " << epsilon;
    for (index_type i = 0; i < d_q.size(); ++i) ASSERT_EQ(d_q.data()[i], 0) << i << " epsilon " << epsilon;
  }
}

TEST(FeatureAttention, RowsWithoutWeightAndEpsilonAre0) {
  for (const bool causal : {false, true}) {
    feature_problem<float> p(5, 5, 7, 9);
    for (index_type i = 0; i < p.q.size(); ++i) p.q.data()[i] = -1;  // all features 0
    const fovea::feature_attention<float, 4, 2, fovea::relu_features> attend({.epsilon = 0});
    const auto o = causal ? attend(p.q, p.k, p.v, fovea::causal) : attend(p.q, p.k, p.v);
    const auto [d_q, d_k, d_v] =
        causal ? attend.backward(p.q, p.k, p.v, p.d_o, fovea::causal) : attend.backward(p.q, p.k, p.v, p.d_o);
    for (const auto* x : {&o, &d_q, &d_k, &d_v})
      for (index_type i = 0; i < x->size(); ++i) ASSERT_EQ(x->data()[i], 0) << i << " causal " << causal;
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
