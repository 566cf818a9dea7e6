// What a result is: the reference's, an average of visible values, unmoved by a constant, exact where one key
// is seen.
#include "run.hpp"

#include <algorithm>

namespace fovea_test {
namespace {

void reference_is_textbook(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 11);
    const expectation library = reference_of(p), plain = textbook(p);
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
          for (index_type c = 0; c < p.n.value_dim; ++c)
            ASSERT_NEAR(library.out(b, h, i, c), plain.out(b, h, i, c), 1e-13);
          const double lse = plain.lse(b, h, i, 0);
          ASSERT_TRUE(library.lse(b, h, i, 0) == lse || std::abs(library.lse(b, h, i, 0) - lse) < 1e-12);
        }
  }
}

void agrees_with_reference(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s))
    for (const std::uint64_t seed : {1, 2}) expect_reference(s, l, random_problem(s, l, n, seed));
}

void values_of_one_give_one(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s)) {
    problem p = random_problem(s, l, n, 3);
    std::fill(p.v.x.begin(), p.v.x.end(), 1.0);
    const outcome r = run(s, l, p);
    const expectation want = reference_of(p);
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
          const double sink_share =
              s.rules.features & sink
                  ? std::exp(p.rules.sinks[static_cast<std::size_t>(h)] - want.lse(b, h, i, 0))
                  : 0;
          const double one = visible_keys(p, b, h, i) > 0 ? 1 - sink_share : 0;
          for (index_type c = 0; c < p.n.value_dim; ++c)
            ASSERT_NEAR(r.out(b, h, i, c), one, bound_of(s, p, want, b, h, i, c) + 1e-15)
                << words(p.n) << " row " << i;
        }
  }
}

void results_stay_in_hull(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 4, 6);
    const outcome r = run(s, l, p);
    const expectation want = reference_of(p);
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i)
          for (index_type c = 0; c < p.n.value_dim; ++c) {
            std::vector<double> seen;
            if (s.rules.features & sink) seen.push_back(0);
            for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j)
              if (visible(p, b, h, i, j)) seen.push_back(p.v(b, p.kv_head(h), j, c));
            if (seen.empty()) seen.push_back(0);
            const double bound = bound_of(s, p, want, b, h, i, c), x = r.out(b, h, i, c);
            ASSERT_GE(x, *std::min_element(seen.begin(), seen.end()) - bound) << words(p.n) << " row " << i;
            ASSERT_LE(x, *std::max_element(seen.begin(), seen.end()) + bound) << words(p.n) << " row " << i;
          }
  }
}

// The constant comes in through one more dimension of q and k, exactly; a sink moves with it.
void constant_changes_nothing(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s)) {
    problem p = random_problem(s, l, n, 5);
    random_source random(5);
    p.scale = 0.25;
    p.rules.cap = 0;
    const index_type last = p.n.dim - 1;
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.kv_heads; ++h)
        for (index_type j = 0; j < p.n.keys; ++j) p.k(b, h, j, last) = 1;
    problem moved = p;
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < p.n.queries; ++i) {
          p.q(b, h, i, last) = 0;
          moved.q(b, h, i, last) =
              4 * static_cast<double>(s.rules.features & sink ? 12 : random.integer(-20, 20));
        }
    for (double& x : moved.rules.sinks) x += 12;
    const outcome before = run(s, l, p), after = run(s, l, moved);
    for (index_type b = 0; b < p.n.batch; ++b)
      expect_close({s, p, before, reference_of(p), b}, {s, moved, after, reference_of(moved), b},
                   "a constant");
  }
}

/// Parameters with which some rows see one key.
void make_narrow(problem& p, random_source& random) {
  rules& r = p.rules;
  const bool padded = (r.features & (right_padding | left_padding)) != 0;
  r.offset = 0, r.diagonal = 0, r.prefix_keys = 1, r.chunk = 1;
  r.reach = 0, r.nth = p.n.keys + 1, r.global.clear();
  r.left = r.right = padded ? -1 : 0;
  for (std::size_t b = 0; b < p.keys.size(); ++b) {
    const index_type n = p.keys[b], only = r.features & left_padding ? n / 2 : 0;
    r.lengths[b] = std::min(n, only + 1),
    r.starts[b] = r.features & right_padding ? only : std::max<index_type>(0, n - 1);
  }
  const bool alone =
      (r.features & any_mask) == boolean && r.keep.queries == p.n.queries && r.keep.keys == p.n.keys;
  for (double& x : r.map.x) x = 1;  // blocks are too large to show one of several keys
  for (double& x : r.keep.x) x = !alone;
  for (index_type b = 0; alone && b < r.keep.batch; ++b)
    for (index_type h = 0; h < r.keep.heads; ++h)
      for (index_type i = 0; i < p.n.queries; ++i) r.keep.at(b, h, i, random.integer(0, p.n.keys - 1)) = 1;
  std::fill(r.addend.x.begin(), r.addend.x.end(), -4.0);
}

void single_key_returns_value(const subject& s, layout l) {
  const index_type lanes = geometry_of(s).lanes;
  index_type singles = 0;
  for (const sizes& n : {sizes{2, 4, 2, 2, 1, 5, 6}, sizes{2, 2, 1, lanes + 3, 1, 4, 7},
                         sizes{1, 2, 1, lanes + 3, lanes + 3, 4, 7}, sizes{2, 2, 1, 1, 1, 4, 7}}) {
    problem p = random_problem(s, l, n, 6, 30);
    random_source random(6);
    make_narrow(p, random);
    const outcome r = run(s, l, p);
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
          if (visible_keys(p, b, h, i) != 1) continue;
          index_type j = 0;
          while (!visible(p, b, h, i, j)) ++j;
          ++singles;
          for (index_type c = 0; c < p.n.value_dim; ++c)
            ASSERT_EQ(r.out(b, h, i, c), rounded(s.o, p.v(b, p.kv_head(h), j, c)))
                << words(p.n) << " row " << i;
        }
  }
  EXPECT_GT(singles, 0);
}

void rows_without_keys_are_zero(const subject& s, layout l) {
  index_type empty = 0;
  for (const index_type queries : {index_type(2), geometry_of(s).lanes + 5}) {
    problem p = random_problem(s, l, {2, 2, 1, queries, queries, 4, 5}, 7);
    rules& r = p.rules;
    r.offset = -1, r.diagonal = p.n.keys, r.left = 0, r.right = 0, r.lengths[0] = 0, r.starts[0] = p.keys[0];
    for (index_type j = 0; j < r.keep.keys; ++j) r.keep.at(0, 0, 0, j) = 0;
    for (index_type j = 0; j < r.addend.keys; ++j)
      r.addend.at(0, 0, 0, j) = -std::numeric_limits<double>::infinity();
    const outcome got = run(s, l, p);
    expect_near(s, p, got, reference_of(p));
    for (index_type b = 0; b < p.n.batch; ++b)
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
          if (visible_keys(p, b, h, i) > 0) continue;
          ++empty;
          for (index_type c = 0; c < p.n.value_dim; ++c)
            ASSERT_EQ(got.out(b, h, i, c), 0) << words(p.n) << " row " << i;
          const double lse = s.rules.features & sink ? r.sinks[static_cast<std::size_t>(h)]
                                                     : -std::numeric_limits<double>::infinity();
          ASSERT_TRUE(lse == got.lse(b, h, i, 0) || std::abs(lse - got.lse(b, h, i, 0)) < 1e-6) << words(p.n);
        }
  }
  EXPECT_GT(empty, 0);
}

}  // namespace

void add_agreement(std::vector<property>& to) {
  constexpr std::uint64_t can_hide =
      causal_offset | window | right_padding | left_padding | boolean | bias | language_prefix;
  to.push_back({"reference_is_textbook", reference_is_textbook, [](const subject& s, layout l) {
                  return s.rules.of <= relative::differential && (l == layout::bhsd || l == layout::ragged);
                }});
  to.push_back({"agrees_with_reference", agrees_with_reference});
  to.push_back({"values_of_one_give_one", values_of_one_give_one, holds<is_softmax>});
  to.push_back({"results_stay_in_hull", results_stay_in_hull, holds<is_softmax>});
  to.push_back({"constant_changes_nothing", constant_changes_nothing,
                [](const subject& s, layout) { return s.rules.of <= relative::kept_weights; }});
  to.push_back({"single_key_returns_value", single_key_returns_value, [](const subject& s, layout l) {
                  return is_softmax(s) && !(s.rules.features & sink) && l != layout::packed_qkv;
                }});
  to.push_back({"rows_without_keys_are_zero", rows_without_keys_are_zero, has_any<can_hide>});
}

}  // namespace fovea_test
