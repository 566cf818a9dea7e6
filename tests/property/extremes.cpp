// Large, tiny and negative: biases of -1e38, logits of 4000, scales below zero, 576 dimensions, and tails of
// tiles where a padded logit of 0 would outweigh all real ones.
#include "run.hpp"

#include <algorithm>
#include <cmath>

namespace fovea_test {
namespace {

// A huge finite bias hides like -inf as long as a row has anything else; alone, it is a constant that changes
// nothing.
void huge_finite_bias(const subject& s, layout l) {
  const element_kind stored = s.rules.features & exact_tables ? element_kind::f32 : s.q;
  const double most = stored == element_kind::f16    ? -65504
                      : stored == element_kind::bf16 ? -0x1.fep127
                                                     : -0x1.fffffep127;
  random_source random(41);
  for (const sizes& n : usual_shapes(s))
    for (const double huge : {most, rounded(stored, std::max(most, -1e38))}) {
      problem p = random_problem(s, l, n, 41);
      const bool cells = l != layout::ragged;
      p.rules.addend = table(p.n.batch, p.n.heads, cells ? p.n.queries : 1, cells ? p.n.keys : 1);
      for (double& x : p.rules.addend.x) x = random.chance(0.5) ? huge : 0.5;
      for (index_type j = 0; j < p.rules.addend.keys; ++j) p.rules.addend.at(0, 0, 0, j) = huge;
      problem as_hidden = p, as_constant = p;
      for (double& x : as_hidden.rules.addend.x) x = x == huge ? -infinite : x;
      const outcome got = run(s, l, p);
      const expectation apart = reference_of(as_hidden), alone = reference_of(p);
      for (index_type b = 0; b < p.n.batch; ++b)
        for (index_type h = 0; h < p.n.heads; ++h)
          for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
            const bool others = visible_keys(as_hidden, b, h, i) > 0 || (s.rules.features & sink) != 0;
            const expectation& want = others ? apart : alone;
            for (index_type c = 0; c < p.n.value_dim; ++c) {
              // In float -1e38 + s is -1e38: equal logits, no rounding relative to them.
              const double bound = others                        ? bound_of(s, as_hidden, apart, b, h, i, c)
                                   : stored == element_kind::f16 ? bound_of(s, p, alone, b, h, i, c)
                                                                 : 1e-5 + spacing(s.o, 1);
              ASSERT_NEAR(got.out(b, h, i, c), want.out(b, h, i, c), bound)
                  << words(p.n) << " row " << i << ", " << huge;
            }
            const double lse = want.lse(b, h, i, 0);
            ASSERT_TRUE(got.lse(b, h, i, 0) == lse ||
                        std::abs(got.lse(b, h, i, 0) - lse) <= 1e-5 * (4 + std::abs(lse)))
                << words(p.n) << " row " << i << ", " << huge << ": LSE " << got.lse(b, h, i, 0) << ", not "
                << lse;
          }
    }
}

void any_scale(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s))
    for (const double scale : {-0.7, 0.0, 3.0}) {
      problem p = random_problem(s, l, n, 42);
      p.scale = scale;
      expect_reference(s, l, p);
    }
}

void logits_up_to_4000(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s))
    for (const double sign : {1.0, -1.0}) {
      problem p = random_problem(s, l, n, 43);
      p.rules.cap = 0;
      double largest = 1e-3;
      p.scale = 1;
      problem plain = p;
      plain.rules = {};
      for (index_type b = 0; b < p.n.batch; ++b)
        for (index_type h = 0; h < p.n.heads; ++h)
          for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i)
            for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j)
              largest = std::max(largest, std::abs(logit(plain, b, h, i, j)));
      p.scale = sign * 4000 / largest;
      expect_reference(s, l, p);
    }
}

void up_to_576_dimensions(const subject& s, layout l) {
  for (const index_type queries : {index_type(2), geometry_of(s).lanes + 1}) {
    expect_reference(s, l, random_problem(s, l, {1, 1, 1, queries, 5, 576, 3}, 44, 0.5));
    expect_reference(s, l, random_problem(s, l, {1, 1, 1, queries, 5, 3, 576}, 45, 0.5));
  }
}

// All logits are far below 0: a cell beyond the matrix that is not hidden, or a maximum that starts at 0,
// takes over.
void tails_are_hidden(const subject& s, layout l) {
  const geometry& g = geometry_of(s);
  for (const index_type queries : {index_type(1), g.lanes + 1, g.tile_queries + 1})
    for (const index_type keys :
         {index_type(1), g.tile_rows + 1, g.lanes + 1, g.few_key_block + 1, g.key_block + 1}) {
      problem p = random_problem(s, l, {1, 2, 1, queries, keys, 5, 3}, 46);
      for (double& x : p.q.x) x = 1 + std::abs(x);
      for (double& x : p.k.x) x = -40 - std::abs(x);
      round_to_formats(p, s);
      p.rules.cap = 25;
      expect_reference(s, l, p);
    }
}

/// The exponent of the smallest normal number, and one below which 4 times a number stays finite.
int least_exponent(element_kind e) {
  return e == element_kind::f64 ? -1022 : e == element_kind::f16 ? -14 : -126;
}
int most_exponent(element_kind e) {
  return e == element_kind::f64 ? 1020 : e == element_kind::f16 ? 12 : 124;
}

// Half of Q is subnormal and K is large, so that their products are logits as usual: a kernel that takes
// subnormal numbers for 0 gets all of them wrong. With subnormal V results have to be as exact as such
// numbers can be.
void subnormal_inputs(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s)) {
    problem queries = random_problem(s, l, n, 47);
    const int down = least_exponent(s.q), up = std::min(-down - 6, most_exponent(s.k));
    for (double& x : queries.q.x) x = std::ldexp(x, down);
    for (double& x : queries.k.x) x = std::ldexp(x, up);
    round_to_formats(queries, s);
    expect_reference(s, l, queries);

    problem values = random_problem(s, l, n, 48);
    for (double& x : values.v.x) x = std::ldexp(x, least_exponent(s.v) - 1);
    round_to_formats(values, s);
    const outcome got = run(s, l, values);
    const expectation want = reference_of(values);
    const bool wide = s.compute() == element_kind::f64;
    const double u = wide ? 0x1p-52 : 0x1p-24, least_step = wide ? 0x1p-1074 : 0x1p-149;
    for (index_type b = 0; b < values.n.batch; ++b)
      for (index_type h = 0; h < values.n.heads; ++h)
        for (index_type i = 0; i < values.queries[static_cast<std::size_t>(b)]; ++i)
          for (index_type c = 0; c < values.n.value_dim; ++c) {
            const double exact = want.out(b, h, i, c);
            const double bound = 6 * u * want.magnitude(b, h, i, c) * (4 + want.logits(b, h, i, 0)) +
                                 static_cast<double>(2 * values.n.keys + 2) * least_step +
                                 (s.flushes_values() ? 0x1p-126 : 0);
            ASSERT_NEAR(got.out(b, h, i, c), exact, bound + spacing(s.o, exact))
                << words(values.n) << " row " << i;
          }
  }
}

}  // namespace

void add_extremes(std::vector<property>& to) {
  to.push_back({"huge_finite_bias", huge_finite_bias, has_any<bias>});
  to.push_back({"any_scale", any_scale});
  to.push_back({"logits_up_to_4000", logits_up_to_4000});
  to.push_back({"up_to_576_dimensions", up_to_576_dimensions});
  to.push_back({"tails_are_hidden", tails_are_hidden});
  to.push_back({"subnormal_inputs", subnormal_inputs, holds<scores_products>});
}

}  // namespace fovea_test
