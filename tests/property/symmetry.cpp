// What must not matter: the order of keys, heads and batches, where keys or queries are cut, who is in the
// same batch, and who does the work.
#include "run.hpp"

#include <algorithm>

namespace fovea_test {
namespace {

constexpr double hidden = -std::numeric_limits<double>::infinity();

bool holds_batches(const subject&, layout l) {
  return view_of(l) == view_kind::tensor || view_of(l) == view_kind::ragged;
}

/// A problem as tables, one sequence of it, with what it gives and what it should.
struct tabled {
  const subject& by;
  problem of;
  outcome got;
  expectation want;

  tabled(const subject& s, problem p)
      : by(s), of(std::move(p)), got(run(s, layout::bhsd, of)), want(reference_of(of)) {}
  checked result() const { return {by, of, got, want}; }
};

void permuted_keys(const subject& s, layout l) {
  random_source random(21);
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 21);
    const outcome got = run(s, l, p);
    const expectation want = reference_of(p);
    for (index_type b = 0; b < p.n.batch; ++b) {
      const problem one = as_tables(p, b);
      const tabled shuffled(tables_of(s), with_keys(one, random.permutation(one.n.keys)));
      expect_close({s, p, got, want, b}, shuffled.result(), "permuting keys");
    }
  }
}

void permuted_heads_and_batches(const subject& s, layout l) {
  random_source random(22);
  for (sizes n : usual_shapes(s)) {
    n.heads *= 2, n.kv_heads *= 2;
    const problem p = random_problem(s, l, n, 22);
    const auto batches = random.permutation(p.n.batch), kv_heads = random.permutation(n.kv_heads);
    std::vector<index_type> heads;
    for (const index_type kv_head : kv_heads)
      for (const index_type member : random.permutation(n.heads / n.kv_heads))
        heads.push_back(kv_head * (n.heads / n.kv_heads) + member);
    const outcome a = run(s, l, p), b = run(s, l, permuted(p, batches, heads, kv_heads));
    for (index_type m = 0; m < p.n.batch; ++m)
      for (index_type h = 0; h < n.heads; ++h)
        for (index_type i = 0; i < p.queries[static_cast<std::size_t>(batches[static_cast<std::size_t>(m)])];
             ++i)
          for (index_type c = -1; c < p.n.value_dim; ++c) {
            const index_type from = batches[static_cast<std::size_t>(m)],
                             head = heads[static_cast<std::size_t>(h)];
            const double x = c < 0 ? a.lse(from, head, i, 0) : a.out(from, head, i, c);
            const double y = c < 0 ? b.lse(m, h, i, 0) : b.out(m, h, i, c);
            ASSERT_TRUE(same_bits(x, y))
                << words(p.n) << " row " << i << " column " << c << ": " << x << " and " << y;
          }
  }
}

/// The keys [first, last) of a problem of tables; only one part has the sink.
tabled part_of(const subject& s, const problem& all, index_type first, index_type last, bool with_sink) {
  std::vector<index_type> keys;
  for (index_type j = first; j < last; ++j) keys.push_back(j);
  problem part = with_keys(all, keys);
  if (!with_sink) std::fill(part.rules.sinks.begin(), part.rules.sinks.end(), hidden);
  return tabled(tables_of(s), std::move(part));
}

double largest_lse_error(const tabled& part, index_type h, index_type i) {
  const double a = part.want.logits(0, h, i, 0), lse = part.want.lse(0, h, i, 0);
  const double u = part.by.compute() == element_kind::f64 ? 0x1p-53 : 0x1p-24;
  return 3 * u * (4 + a + (std::isfinite(lse) ? std::abs(lse) : 0));
}

void split_keys_merge(const subject& s, layout l) {
  random_source random(23);
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 23);
    const outcome got = run(s, l, p);
    const expectation want = reference_of(p);
    for (index_type b = 0; b < p.n.batch; ++b) {
      const problem all = as_tables(p, b);
      const index_type one = random.integer(0, all.n.keys), two = random.integer(one, all.n.keys);
      const tabled parts[] = {part_of(s, all, 0, one, false), part_of(s, all, one, two, true),
                              part_of(s, all, two, all.n.keys, false)};
      outcome left = parts[0].got, right = parts[1].got;
      merge_parts(left.out, left.lse, parts[1].got.out, parts[1].got.lse);
      merge_parts(left.out, left.lse, parts[2].got.out, parts[2].got.lse);
      merge_parts(right.out, right.lse, parts[2].got.out, parts[2].got.lse);
      outcome other = parts[0].got;
      merge_parts(other.out, other.lse, right.out, right.lse);
      for (index_type h = 0; h < all.n.heads; ++h)
        for (index_type i = 0; i < all.n.queries; ++i)
          for (index_type c = 0; c < all.n.value_dim; ++c) {
            double bound = bound_of(s, p, want, b, h, i, c), of_parts = 0, of_lse = 0;
            for (const tabled& part : parts) {
              of_parts = std::max(of_parts, bound_of(part.by, part.of, part.want, 0, h, i, c));
              of_lse = std::max(of_lse, largest_lse_error(part, h, i));
            }
            bound += of_parts + 2 * of_lse;  // |v| <= 1
            ASSERT_NEAR(left.out(0, h, i, c), got.out(b, h, i, c), bound) << words(all.n) << " row " << i;
            ASSERT_NEAR(other.out(0, h, i, c), got.out(b, h, i, c), bound) << words(all.n) << " row " << i;
          }
    }
  }
}

void empty_part_is_neutral(const subject& s, layout l) {
  const problem p = random_problem(s, l, usual_shapes(s)[0], 24);
  const outcome got = run(s, l, p);
  const array nothing(got.out.batch, got.out.heads, got.out.tokens, got.out.dim);
  const array never(got.lse.batch, got.lse.heads, got.lse.tokens, 1, hidden);
  outcome left = got, right{nothing, never, {}};
  merge_parts(left.out, left.lse, nothing, never);
  merge_parts(right.out, right.lse, got.out, got.lse);
  expect_same_bits(p, got, left, "after merging with no key");
  expect_same_bits(p, got, right, "after merging no key with this");
}

void split_queries(const subject& s, layout l) {
  random_source random(25);
  for (const sizes& n : usual_shapes(s)) {
    const problem p = random_problem(s, l, n, 25);
    const outcome got = run(s, l, p);
    const expectation want = reference_of(p);
    for (index_type b = 0; b < p.n.batch; ++b) {
      const problem all = as_tables(p, b);
      const index_type cut = random.integer(0, all.n.queries);
      for (const auto& [first, last] : {std::pair(index_type(0), cut), std::pair(cut, all.n.queries)}) {
        const tabled part(tables_of(s), with_queries(all, first, last));
        for (index_type h = 0; h < all.n.heads; ++h)
          for (index_type i = first; i < last; ++i)
            for (index_type c = 0; c < all.n.value_dim; ++c)
              ASSERT_NEAR(part.got.out(0, h, i - first, c), got.out(b, h, i, c),
                          bound_of(s, p, want, b, h, i, c) +
                              bound_of(part.by, part.of, part.want, 0, h, i - first, c))
                  << words(p.n) << " cut at " << cut << ", row " << i;
      }
    }
  }
}

void alone_as_in_batch(const subject& s, layout l) {
  for (const sizes& n : usual_shapes(s)) {
    const problem p =
        random_problem(s, l, {3, n.heads, n.kv_heads, n.queries, n.keys, n.dim, n.value_dim}, 26);
    const outcome all = run(s, l, p);
    for (index_type b = 0; b < p.n.batch; ++b) {
      const problem one = one_sequence(p, b);
      const outcome alone = run(s, l == layout::ragged ? layout::eigen_row : l, one);
      for (index_type h = 0; h < p.n.heads; ++h)
        for (index_type i = 0; i < one.n.queries; ++i) {
          ASSERT_TRUE(same_bits(alone.lse(0, h, i, 0), all.lse(b, h, i, 0))) << words(p.n) << " row " << i;
          for (index_type c = 0; c < p.n.value_dim; ++c)
            ASSERT_TRUE(same_bits(alone.out(0, h, i, c), all.out(b, h, i, c))) << words(p.n) << " row " << i;
        }
    }
  }
}

void any_executor_same_bits(const subject& s, layout l) {
  for (const sizes& n : busy_shapes(s, l)) {
    const problem p = random_problem(s, l, n, 27);
    laid_out memory(s, l, p);
    const outcome serial = memory.run();
    for (const index_type workers : {1, 2, 3, 7}) {
      memory.call.executor = {executor_choice::threads, workers};
      expect_same_bits(p, serial, memory.run(), "with threads");
    }
    memory.call.executor = {executor_choice::shuffled, 3, 27};
    expect_same_bits(p, serial, memory.run(), "with shuffled tasks");
  }
}

void repeated_kv_heads(const subject& s, layout l) {
  for (sizes n : usual_shapes(s)) {
    for (const index_type group : {index_type(3), index_type(4)}) {
      n.batch = 1, n.heads = group * n.kv_heads;
      const problem p = random_problem(s, l, n, 28);
      problem wide = p;
      wide.n.kv_heads = n.heads;
      wide.k = array(p.n.batch, n.heads, p.n.keys, p.n.dim),
      wide.v = array(p.n.batch, n.heads, p.n.keys, p.n.value_dim);
      for (index_type b = 0; b < p.n.batch; ++b)
        for (index_type h = 0; h < n.heads; ++h)
          for (index_type j = 0; j < p.n.keys; ++j) {
            for (index_type c = 0; c < p.n.dim; ++c) wide.k(b, h, j, c) = p.k(b, p.kv_head(h), j, c);
            for (index_type c = 0; c < p.n.value_dim; ++c) wide.v(b, h, j, c) = p.v(b, p.kv_head(h), j, c);
          }
      const outcome shared = run(s, l, p), repeated = run(s, l, wide);
      const expectation want = reference_of(p);
      expect_near(s, p, shared, want);
      for (index_type b = 0; b < p.n.batch; ++b)
        expect_close({s, p, shared, want, b}, {s, wide, repeated, want, b}, "repeating key/value heads");
    }
  }
}

}  // namespace

void add_symmetry(std::vector<property>& to) {
  to.push_back({"permuted_keys", permuted_keys, holds<is_softmax>});
  to.push_back({"permuted_heads_and_batches", permuted_heads_and_batches, [](const subject& s, layout) {
                  return !(s.rules.features & birds) && !mixes_heads(s) &&
                         s.rules.of != relative::kept_weights;
                }});  // birds are drawn, and weights kept, of heads by number
  to.push_back({"split_keys_merge", split_keys_merge, holds<is_softmax>});
  to.push_back({"empty_part_is_neutral", empty_part_is_neutral});
  to.push_back({"split_queries", split_queries, holds<is_softmax>});
  to.push_back({"alone_as_in_batch", alone_as_in_batch, holds_batches});
  to.push_back({"any_executor_same_bits", any_executor_same_bits});
  to.push_back({"repeated_kv_heads", repeated_kv_heads, [](const subject& s, layout) {
                  return s.rules.of != relative::additive && s.rules.of != relative::concat &&
                         s.rules.of != relative::location;  // whose key/value heads have parameters
                }});
}

}  // namespace fovea_test
