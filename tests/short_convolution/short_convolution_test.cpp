// The short convolution against its formula in double, in parts, its gradients against differences, errors.
#include <fovea/short_convolution.hpp>

#include <gtest/gtest.h>

#include <random>

namespace {

using fovea::index_type, fovea::tensor;

template <class T>
struct problem {
  index_type kernel, tokens, dim;
  tensor<T> x, w, b, s, d_y, d_s;
  problem(index_type k, index_type l, index_type d)
      : kernel(k),
        tokens(l),
        dim(d),
        x(2, 3, l, d),
        w(1, 3, k, d),
        b(1, 3, 1, d),
        s(2, 3, k - 1, d),
        d_y(x),
        d_s(s) {
    std::mt19937 bits(static_cast<std::uint32_t>(100 * k + l));
    std::normal_distribution<double> normal;
    for (tensor<T>* t : {&x, &w, &b, &s, &d_y, &d_s})
      for (index_type i = 0; i < t->size(); ++i) t->data()[i] = static_cast<T>(normal(bits));
  }
  /// y in double, and the sum of absolute values that p is the sum of.
  std::pair<double, double> at(index_type n, index_type h, index_type t, index_type c, bool silu) const {
    double p = double(b(0, h, 0, c)), terms = std::abs(p);
    for (index_type i = 0; i < kernel; ++i) {
      const index_type from = t - kernel + 1 + i;
      const double value =
          double(w(0, h, i, c)) * double(from < 0 ? s(n, h, kernel - 1 + from, c) : x(n, h, from, c));
      p += value, terms += std::abs(value);
    }
    return {silu ? p / (1 + std::exp(-p)) : p, terms};
  }
};

TEST(ShortConvolution, IsItsFormulaAndLeavesItsLastTokens) {
  for (const bool silu : {false, true})
    for (const auto& [k, l, d] : {std::array<index_type, 3>{2, 1, 1},
                                  {4, 2, 16},
                                  {4, 37, 24},
                                  {8, 11, 65},
                                  {4, 150, 32},
                                  {3, 200, 24}}) {
      const problem<float> p(k, l, d);
      tensor<float> y(p.x), state(p.s);
      const fovea::short_convolution<float, 3> convolve({.silu = silu});
      convolve.into(y, p.x, p.w, fovea::convolution_bias(p.b), fovea::convolution_state(state));
      for (index_type n = 0; n < 2; ++n)
        for (index_type h = 0; h < 3; ++h)
          for (index_type c = 0; c < d; ++c) {
            for (index_type t = 0; t < l; ++t) {
              const auto [want, terms] = p.at(n, h, t, c, silu);
              const double u = std::ldexp(1.0, -24);
              ASSERT_NEAR(
                  double(y(n, h, t, c)), want,
                  (silu ? 1.1 : 1.0) * double(k + 1) * u * terms +
                      (silu ? 2 * std::abs(p.at(n, h, t, c, false).first) + 7 : 0) * u * std::abs(want));
            }
            for (index_type i = 0; i + 1 < k; ++i) {
              const index_type from = l - k + 1 + i;
              ASSERT_EQ(state(n, h, i, c), from < 0 ? p.s(n, h, k - 1 + from, c) : p.x(n, h, from, c));
            }
          }
    }
}

TEST(ShortConvolution, PartsAreTheWhole) {
  const problem<float> p(4, 23, 12);
  const fovea::short_convolution<float, 3> convolve;
  tensor<float> whole_state(p.s), state(p.s);
  const auto whole = convolve(p.x, p.w, fovea::convolution_state(whole_state));
  for (index_type first = 0, count = 1; first < p.tokens;
       first += count, count = std::min<index_type>(2 * count, p.tokens - first)) {
    auto part = p.x.view();
    part.data += first * part.token_stride, part.tokens = count;
    const auto y = convolve(part, p.w, fovea::convolution_state(state));
    for (index_type n = 0; n < 2; ++n)
      for (index_type h = 0; h < 3; ++h)
        for (index_type t = 0; t < count; ++t)
          for (index_type c = 0; c < p.dim; ++c) ASSERT_EQ(y(n, h, t, c), whole(n, h, first + t, c));
  }
  for (index_type i = 0; i < state.size(); ++i) ASSERT_EQ(state.data()[i], whole_state.data()[i]);
}

TEST(ShortConvolution, SameBitsWhereverRowsLie) {
  // Whole registers one after another, a head apart from the next, and every second number: a copy.
  const index_type tokens = 150, dim = 32;
  const problem<float> p(4, tokens, dim);
  const fovea::short_convolution<float, 3> convolve;
  tensor<float> state(p.s);
  const auto whole = convolve(p.x, p.w, fovea::convolution_state(state));
  for (const index_type step : {1, 2}) {
    const index_type token = 3 * dim * step, batch = tokens * token;
    std::vector<float> x(static_cast<std::size_t>(2 * batch), NAN), y(x.size(), 7.f);
    const auto view = [&](std::vector<float>& all) {
      return fovea::tensor_view<float>{all.data(), 2, 3, tokens, dim, batch, dim * step, token, step};
    };
    const auto from = view(x), to = view(y);
    const auto each = [&](const auto& f) {
      for (index_type n = 0; n < 2; ++n)
        for (index_type h = 0; h < 3; ++h)
          for (index_type t = 0; t < tokens; ++t)
            for (index_type c = 0; c < dim; ++c)
              f(n * batch + h * dim * step + t * token + c * step, n, h, t, c);
    };
    each([&](index_type i, auto... at) { x[std::size_t(i)] = p.x(at...); });
    tensor<float> own_state(p.s);
    convolve.into(to, from, p.w, fovea::convolution_state(own_state));
    each([&](index_type i, auto... at) { ASSERT_EQ(y[std::size_t(i)], whole(at...)) << step; });
    for (std::size_t i = 1; step == 2 && i < y.size(); i += 2) ASSERT_EQ(y[i], 7.f);
    for (index_type i = 0; i < state.size(); ++i) ASSERT_EQ(own_state.data()[i], state.data()[i]);
  }
}

TEST(ShortConvolution, GradientsAreWhatDifferencesSay) {
  for (const bool silu : {false, true})
    for (const index_type tokens : {2, 19}) {
      problem<double> p(4, tokens, 5);
      const fovea::short_convolution<double, 3> convolve({.silu = silu});
      tensor<double> d_x(p.x), d_w(p.w), d_b(p.b), d_s(p.d_s);
      convolve.backward_into(d_x, d_w, p.x, p.w, p.d_y, fovea::convolution_bias(p.b, d_b),
                             fovea::convolution_state(p.s, d_s));
      const auto loss = [&] {
        tensor<double> state(p.s);
        const auto y = convolve(p.x, p.w, fovea::convolution_bias(p.b), fovea::convolution_state(state));
        double sum = 0;
        for (index_type i = 0; i < y.size(); ++i) sum += y.data()[i] * p.d_y.data()[i];
        for (index_type i = 0; i < state.size(); ++i) sum += state.data()[i] * p.d_s.data()[i];
        return sum;
      };
      const auto check = [&](tensor<double>& x, const tensor<double>& d, const char* name) {
        for (index_type i = 0; i < x.size(); ++i) {
          const double at = x.data()[i], h = 1e-6;
          x.data()[i] = at + h;
          const double up = loss();
          x.data()[i] = at - h;
          const double down = loss();
          x.data()[i] = at;
          ASSERT_NEAR((up - down) / (2 * h), d.data()[i], 1e-7 * (10 + std::abs(d.data()[i])))
              << name << ' ' << i;
        }
      };
      check(p.x, d_x, "x"), check(p.w, d_w, "w"), check(p.b, d_b, "bias"), check(p.s, d_s, "state");
    }
}

TEST(ShortConvolution, ErrorsNameTheArgumentAndBothValues) {
  const problem<float> p(4, 5, 8);
  const fovea::short_convolution<float, 3> convolve;
  const auto error = [](const auto& f) -> std::string {
    try {
      f();
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "no error";
  };
  const auto says = [&](const auto& f, const std::string& part) {
    EXPECT_NE(error(f).find(part), std::string::npos) << error(f);
  };
  tensor<float> narrow(1, 3, 4, 7), long_one(1, 3, 9, 8), wrong_state(2, 3, 4, 8), y(2, 3, 5, 7), same(p.x);
  says([&] { convolve(p.x, narrow); }, "w has 7 columns a head, but x has 8");
  says([&] { convolve(p.x, long_one); }, "w has 9 rows, not 2 to 8");
  says([&] { convolve(p.x, p.w, fovea::convolution_bias(narrow)); }, "convolution_bias has 4 rows");
  says([&] { convolve(p.x, p.w, fovea::convolution_state(wrong_state)); },
       "convolution_state has 4 x 8 numbers a head, not 3 x 8");
  says([&] { convolve.into(y, p.x, p.w); }, "7");
  says([&] { convolve.into(same, same, p.w); }, "share memory");
}

}  // namespace
