// NaN and infinities: what is masked or beside the data reaches nothing; what is seen reaches exactly who
// sees it.
#include "run.hpp"

#include <bit>

namespace fovea_test {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// f(b, h, i) for every row of every query head.
template <class F>
void each_row(const problem& p, F f) {
  for (index_type b = 0; b < p.n.batch; ++b)
    for (index_type h = 0; h < p.n.heads; ++h)
      for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) f(b, h, i);
}

bool seen_by_any(const problem& p, index_type b, index_type kv_head, index_type j) {
  for (index_type h = 0; h < p.n.heads; ++h)
    for (index_type i = 0; p.kv_head(h) == kv_head && i < p.queries[static_cast<std::size_t>(b)]; ++i)
      if (visible(p, b, h, i, j)) return true;
  return false;
}

/// Puts `key` and `value` wherever no query looks; returns in how many keys.
index_type poison_hidden(problem& p, double key, double value) {
  index_type hidden = 0;
  for (index_type b = 0; b < p.n.batch; ++b)
    for (index_type h = 0; h < p.n.kv_heads; ++h)
      for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j) {
        if (seen_by_any(p, b, h, j)) continue;
        ++hidden;
        for (index_type c = 0; c < p.n.dim; ++c) p.k(b, h, j, c) = key;
        for (index_type c = 0; c < p.n.value_dim; ++c) p.v(b, h, j, c) = value;
      }
  return hidden;
}

/// A problem with keys that nobody sees, wherever its rules can hide one from all queries.
problem with_hidden_keys(const subject& s, layout l, const sizes& n, std::uint64_t seed) {
  problem p = random_problem(
      s, l, {n.batch, n.heads, n.kv_heads, n.queries, n.queries + 40, n.dim, n.value_dim}, seed);
  rules& r = p.rules;
  r.offset = 1, r.left = 4, r.right = 3, r.diagonal = 2, r.prefix_keys = 3;
  for (std::size_t b = 0; b < p.keys.size(); ++b)
    r.lengths[b] = p.keys[b] * 2 / 3, r.starts[b] = p.keys[b] / 5;
  for (index_type b = 0; b < r.keep.batch; ++b)
    for (index_type h = 0; h < r.keep.heads; ++h)
      for (index_type i = 0; i < r.keep.queries; ++i)
        for (index_type j = 0; j < r.keep.keys; j += 4) r.keep.at(b, h, i, j) = 0;
  for (index_type b = 0; b < r.addend.batch; ++b)
    for (index_type h = 0; h < r.addend.heads; ++h)
      for (index_type i = 0; i < r.addend.queries; ++i)
        for (index_type j = 1; j < r.addend.keys; j += 4) r.addend.at(b, h, i, j) = -infinite;
  return p;
}

void hidden_is_never_read(const subject& s, layout l) {
  index_type hidden = 0;
  for (const sizes& n : usual_shapes(s))
    for (const double value : {not_a_number, infinite}) {
      const problem p = with_hidden_keys(s, l, n, 31);
      problem poisoned = p;
      hidden += poison_hidden(poisoned, value, -value);
      expect_same_bits(p, run(s, l, p), run(s, l, poisoned),
                       "after hidden keys and values became NaN or infinite");
    }
  constexpr std::uint64_t always_hide =
      causal_top_left | causal_offset | window | right_padding | left_padding | prefix;
  const bool expected = (s.rules.features & always_hide) != 0 && l != layout::packed_qkv;
  EXPECT_TRUE(hidden > 0 || !expected);
}

void masked_bias_is_never_read(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s)) {
    problem p = random_problem(s, l, n, 32);
    p.rules.keep = table(p.n.batch, p.n.heads, p.n.queries, p.n.keys), p.rules.addend = p.rules.keep;
    random_source random(32);
    for (double& x : p.rules.keep.x) x = random.chance(0.5);
    for (double& x : p.rules.addend.x) x = static_cast<double>(random.integer(-8, 8)) / 4;
    problem poisoned = p;
    for (std::size_t i = 0; i < p.rules.keep.x.size(); ++i)
      if (p.rules.keep.x[i] == 0) poisoned.rules.addend.x[i] = i % 2 ? not_a_number : infinite;
    expect_same_bits(p, run(s, l, p), run(s, l, poisoned),
                     "after the bias of masked cells became NaN or infinite");
  }
}

/// All of a row is NaN, LSE included (but where another head's reaches it); a row that sees nothing is 0, whatever its
/// query holds.
void expect_nan_row(const problem& p, const outcome& r, index_type b, index_type h, index_type i,
                    const char* what, bool of_its_head) {
  if (visible_keys(p, b, h, i) == 0) return;
  EXPECT_TRUE(!of_its_head || std::isnan(r.lse(b, h, i, 0)))
      << "LSE of row " << i << ", head " << h << " with " << what;
  for (index_type c = 0; c < p.n.value_dim; ++c)
    ASSERT_TRUE(std::isnan(r.out(b, h, i, c)))
        << "row " << i << ", head " << h << ", column " << c << " with " << what << " is "
        << r.out(b, h, i, c) << ", " << words(p.n);
}

/// Several masks, or one table for all cells, may happen to hide everything.
bool may_hide_all(const subject& s) {
  return std::popcount(s.rules.features & any_mask) > 1 || (s.rules.features & (boolean | bias)) != 0;
}

void nan_query_is_its_row(const subject& s, layout l) {
  random_source random(33);
  index_type seeing = 0;
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 33);
    const outcome clean = run(s, l, p);
    for (const index_type row :
         {index_type(0), p.n.queries / 2, p.n.queries - 1}) {  // of the first sequence, which is longest
      problem poisoned = p;
      const index_type head = random.integer(0, p.n.heads - 1);
      poisoned.q(0, head, row, random.integer(0, p.n.dim - 1)) = not_a_number;
      const outcome r = run(s, l, poisoned);
      each_row(p, [&](index_type b, index_type h, index_type i) {
        const bool sees = visible_keys(p, b, h, i) > 0;
        if (s.rules.of == relative::local_p && !sees) return;  // a window around NaN shows every key
        if (b == 0 && (h == head || mixes_heads(s)) && i == row && sees)
          expect_nan_row(p, r, b, h, i, "a NaN query", h == head), ++seeing;
        else
          EXPECT_TRUE(same_row(clean, r, b, h, i)) << "row " << i << " of head " << h << " changed with row "
                                                   << row << " of head " << head << ", " << words(p.n);
      });
    }
  }
  EXPECT_TRUE(seeing > 0 || may_hide_all(s));
}

void nan_key_is_rows_that_see_it(const subject& s, layout l) {
  random_source random(34);
  index_type seeing = 0;
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 34);
    const outcome clean = run(s, l, p);
    for (const index_type key : {index_type(0), p.n.keys / 3, p.n.keys - 1}) {
      problem poisoned = p;
      const index_type head = random.integer(0, p.n.kv_heads - 1);
      poisoned.k(0, head, key, random.integer(0, p.n.dim - 1)) = not_a_number;
      const outcome r = run(s, l, poisoned);
      each_row(p, [&](index_type b, index_type h, index_type i) {
        if (b == 0 && (p.kv_head(h) == head || mixes_heads(s)) && visible(p, b, h, i, key))
          expect_nan_row(p, r, b, h, i, "a NaN key", p.kv_head(h) == head), ++seeing;
        else
          EXPECT_TRUE(same_row(clean, r, b, h, i)) << "row " << i << " of head " << h << " does not see key "
                                                   << key << " but changed with it, " << words(p.n);
      });
    }
  }
  EXPECT_TRUE(seeing > 0 || may_hide_all(s));
}

void nan_value_is_rows_that_see_it(const subject& s, layout l) {
  random_source random(35);
  index_type seeing = 0;
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 35);
    const outcome clean = run(s, l, p);
    const expectation want = reference_of(p);
    for (const index_type key : {index_type(0), p.n.keys / 2, p.n.keys - 1}) {
      problem poisoned = p;
      const index_type head = random.integer(0, p.n.kv_heads - 1),
                       column = random.integer(0, p.n.value_dim - 1);
      poisoned.v(0, head, key, column) = not_a_number;
      const outcome r = run(s, l, poisoned);
      each_row(p, [&](index_type b, index_type h, index_type i) {
        if (b != 0 || p.kv_head(h) != head || !visible(p, b, h, i, key)) {
          EXPECT_TRUE(same_row(clean, r, b, h, i))
              << "row " << i << " of head " << h << " does not see value " << key << " but changed with it, "
              << words(p.n);
          return;
        }
        ++seeing;
        for (index_type c = 0; c < p.n.value_dim; ++c) {
          if (c == column)
            ASSERT_TRUE(std::isnan(r.out(b, h, i, c))) << "row " << i << " sees a NaN, " << words(p.n);
          else
            ASSERT_NEAR(r.out(b, h, i, c), want.out(b, h, i, c), bound_of(s, p, want, b, h, i, c))
                << words(p.n);
        }
      });
    }
  }
  EXPECT_TRUE(seeing > 0 || may_hide_all(s));
}

}  // namespace

void add_poison(std::vector<property>& to) {
  to.push_back({"hidden_is_never_read", hidden_is_never_read, has_any<any_mask | bias>});
  to.push_back({"masked_bias_is_never_read", masked_bias_is_never_read, [](const subject& s, layout l) {
                  return (s.rules.features & boolean) && (s.rules.features & bias) && l != layout::ragged;
                }});
  to.push_back({"nan_query_is_its_row", nan_query_is_its_row});
  to.push_back({"nan_key_is_rows_that_see_it", nan_key_is_rows_that_see_it,
                [](const subject& s, layout) { return s.rules.of != relative::location; }});
  to.push_back({"nan_value_is_rows_that_see_it", nan_value_is_rows_that_see_it});
}

}  // namespace fovea_test
