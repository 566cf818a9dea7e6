// Index scores, the keys they choose, and attention over lists of keys.
#include <fovea/top_keys.hpp>

#include "../support/refusal.hpp"
#include "index_operands.hpp"

#include <cmath>
#include <numeric>
#include <random>

namespace fovea_test {
namespace top_keys_test {

using namespace index_operands;

template <class E>
void expect_scores(index_type index_heads, index_type queries, index_type keys, bool causal) {
  const auto q = stored_as<E>(normal(queries, index_heads * dim, 1), index_heads);
  const auto k = stored_as<E>(normal(keys, dim, 2), 1);
  const Matrix w = normal(queries, index_heads, 3);
  const auto scores = fovea::index_scores(q, w, k, {.causal = causal});
  for (index_type i = 0; i < queries; ++i)
    for (index_type j = 0; j < keys; ++j) {
      if (causal && j > i + keys - queries)
        ASSERT_EQ(scores(0, 0, i, j), -std::numeric_limits<float>::infinity());
      else
        ASSERT_NEAR(scores(0, 0, i, j), score(q, w, k, i, j), 2e-4) << index_heads << " " << i << " " << j;
    }
  // The chosen are those that sorting gives.
  for (const index_type count : {1, 7, 40}) {
    const auto lists = fovea::top_keys(q, w, k, {.count = count, .causal = causal});
    ASSERT_EQ(lists.size(), queries);
    for (index_type i = 0; i < queries; ++i) {
      std::vector<index_type> order(static_cast<std::size_t>(causal ? i + keys - queries + 1 : keys));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](index_type a, index_type b) { return scores(0, 0, i, a) > scores(0, 0, i, b); });
      order.resize(std::min(order.size(), static_cast<std::size_t>(count)));
      std::sort(order.begin(), order.end());
      EXPECT_EQ(std::vector(lists[i].begin(), lists[i].end()), order) << i;
    }
  }
}

TEST(top_keys, scores_are_the_formula_and_the_largest_are_chosen) {
  for (const bool causal : {false, true}) {
    expect_scores<float>(64, 3, 300, causal), expect_scores<float>(5, 1, 129, causal);
    expect_scores<fovea::bf16>(64, 2, 131, causal), expect_scores<fovea::fp16>(33, 4, 8, causal);
    for (const index_type index_heads : {9, 20, 40, 80})  // panels of each width, blocks that end anywhere
      for (const index_type keys : {97, 98, 100, 103, 104, 107, 192, 200})
        expect_scores<float>(index_heads, 1, keys, causal);
    expect_scores<fovea::bf16>(20, 1, 200, causal);
  }
}

TEST(top_keys, equal_scores_nan_and_threads) {
  const index_type keys = 40000;
  auto q = stored_as<float>(normal(2, 4 * dim, 1), 4);
  auto k = stored_as<float>(Matrix::Zero(keys, dim), 1);
  const Matrix w = Matrix::Ones(2, 4);
  auto lists = fovea::top_keys(q, w, k, {.count = 3});
  EXPECT_EQ(std::vector(lists[0].begin(), lists[0].end()), (std::vector<index_type>{0, 1, 2}));
  k(0, 0, 33000, 5) = std::numeric_limits<float>::quiet_NaN();
  lists = fovea::top_keys(q, w, k, {.count = 3});
  EXPECT_EQ(std::vector(lists[1].begin(), lists[1].end()), (std::vector<index_type>{0, 1, 33000}));
  k = stored_as<float>(normal(keys, dim, 4), 1);
  fovea::threads pool{3};
  lists = fovea::top_keys(q, w, k, {.count = 500});
  const auto in_parallel = fovea::top_keys(q, w, k, {.count = 500, .executor = pool});
  for (index_type i = 0; i < 2; ++i)
    EXPECT_EQ(std::vector(lists[i].begin(), lists[i].end()),
              std::vector(in_parallel[i].begin(), in_parallel[i].end()));
}

/// The calling thread, from the last task to the first.
struct backwards {
  index_type workers() const { return 1; }
  void for_each(index_type n, fovea::task_ref task) const {
    while (n-- > 0) task(n, 0);
  }
};

TEST(top_keys, equal_scores_in_any_order_of_tasks) {
  const index_type keys = 40000;
  const auto q = stored_as<float>(normal(2, 4 * dim, 1), 4);
  auto k = stored_as<float>(Matrix::Zero(keys, dim), 1);
  for (index_type c = 0; c < dim; ++c) k(0, 0, 20000, c) = q(0, 0, 0, c);
  const Matrix w = Matrix::Ones(2, 4);
  const backwards executor;
  const auto lists = fovea::top_keys(q, w, k, {.count = 5}),
             others = fovea::top_keys(q, w, k, {.count = 5, .executor = executor});
  EXPECT_EQ(std::vector(lists[0].begin(), lists[0].end()), (std::vector<index_type>{0, 1, 2, 3, 20000}));
  for (index_type i = 0; i < 2; ++i)
    EXPECT_EQ(std::vector(lists[i].begin(), lists[i].end()), std::vector(others[i].begin(), others[i].end()));
}

TEST(top_keys, ascend_where_a_block_that_came_late_is_cut) {
  const index_type keys = 17000, second_task = 16384;
  const Matrix one = Matrix::Ones(1, 1);
  Matrix k(keys, 1);
  for (index_type j = 0; j < keys; ++j)
    k(j) = j < second_task ? static_cast<float>(j + 1) : j % 6 == 0 ? 1e6f : 0.5f;
  const backwards executor;
  const auto lists = fovea::top_keys(one, one, k, {.heads = 1, .count = 566}),
             others = fovea::top_keys(one, one, k, {.heads = 1, .count = 566, .executor = executor});
  EXPECT_TRUE(std::is_sorted(others[0].begin(), others[0].end()));
  EXPECT_EQ(std::vector(lists[0].begin(), lists[0].end()), std::vector(others[0].begin(), others[0].end()));
}

/// One that says as many workers as an index can count, and gives tasks to the last of them.
struct crowd {
  index_type last = std::numeric_limits<index_type>::max() - 1;
  index_type workers() const { return std::numeric_limits<index_type>::max(); }
  void for_each(index_type n, fovea::task_ref task) const {
    for (index_type i = 0; i < n; ++i) task(i, last);
  }
};
/// One that gives tasks to a worker that there is none of.
struct beyond {
  index_type workers() const { return 2; }
  void for_each(index_type n, fovea::task_ref task) const {
    for (index_type i = 0; i < n; ++i) task(i, 2);
  }
};

TEST(top_keys, takes_no_more_scratch_than_there_are_tasks) {
  const auto q = stored_as<float>(normal(3, 4 * dim, 1), 4);
  const auto k = stored_as<float>(normal(40, dim, 2), 1);
  const Matrix w = Matrix::Ones(3, 4);
  const crowd many;
  const auto lists = fovea::top_keys(q, w, k, {.count = 5}),
             others = fovea::top_keys(q, w, k, {.count = 5, .executor = many});
  for (index_type i = 0; i < 3; ++i)
    EXPECT_EQ(std::vector(lists[i].begin(), lists[i].end()), std::vector(others[i].begin(), others[i].end()));
  const beyond wrong;
  expect_refused([&] { fovea::top_keys(q, w, k, {.count = 5, .executor = wrong}); }, {"worker 2", "2"});
}

TEST(key_lists, take_one_of_their_own) {
  const std::vector<int> numbers{5, 0, 7, 7, 2};
  fovea::key_lists lists;
  lists.add(numbers);
  for (index_type i = 0; i < 40; ++i) lists.add(lists[i]);
  for (index_type i = 0; i < lists.size(); ++i)
    EXPECT_TRUE(std::equal(lists[i].begin(), lists[i].end(), numbers.begin(), numbers.end())) << i;
}

/// Scores with many equals, both zeros, infinities and NaN, in blocks; merged or not: what sorting gives.
template <class T>
void expect_best_of_many() {
  constexpr index_type keys = 9000;
  std::mt19937 random(5);
  std::normal_distribution<double> normal(0, 40);
  std::vector<T> scores(keys);
  for (T& x : scores) x = static_cast<T>(std::round(normal(random)) / 8);
  for (std::size_t i = 0; i < scores.size(); i += 7) scores[i] = i % 2 == 0 ? T(0) : T(-0.0);
  const T infinity = std::numeric_limits<T>::infinity();
  scores[100] = scores[8000] = infinity, scores[33] = -infinity;
  scores[7000] = scores[8999] = std::numeric_limits<T>::quiet_NaN();
  std::vector<index_type> sorted(keys);
  std::iota(sorted.begin(), sorted.end(), 0);
  std::stable_sort(sorted.begin(), sorted.end(), [&](index_type a, index_type b) {
    const auto of = [&](index_type i) {
      const T x = scores[static_cast<std::size_t>(i)];
      return std::isnan(x) ? infinity : x;
    };
    return of(a) > of(b);
  });
  for (const index_type count : {1, 3, 700, 4500, 8999, 9000, 20000}) {
    fovea::choosing::best_keys<T> all(count), first(count), second(count), backwards(count);
    for (index_type i = 0; i < keys; i += 90) {
      all.add(i, scores.data() + i, 90);
      (i < 5000 ? first : second).add(i, scores.data() + i, 90);
    }
    for (index_type i = keys - 90; i >= 0; i -= 90) backwards.add(i, scores.data() + i, 90);
    first.add(second);
    std::vector<index_type> expected(sorted.begin(), sorted.begin() + std::min(count, keys));
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(all.take(), expected) << count;
    EXPECT_EQ(first.take(), expected) << count;
    EXPECT_EQ(backwards.take(), expected) << count;
  }
  fovea::choosing::best_keys<T> hidden(2);  // all alike, the least there is
  const std::vector<T> least(5000, -infinity);
  hidden.add(4, least.data(), 5000);
  EXPECT_EQ(hidden.take(), (std::vector<index_type>{4, 5}));
  EXPECT_TRUE(fovea::choosing::best_keys<T>(3).take().empty());
}

TEST(top_keys, the_best_of_many) {
  expect_best_of_many<float>();
  expect_best_of_many<double>();
}

/// Attention over a list is attention over a copy of its keys; of many heads, which share lanes, as well.
template <class Cache>
void expect_gathered(const Cache& cache, index_type query_heads, double bound) {
  const index_type d = cache.dim(), dv = cache.value_dim(), of = cache.heads();
  fovea::key_lists lists;
  lists.add(std::vector<index_type>{3, 4, 5, 90, 12, 13}), lists.add(std::vector<index_type>());
  std::vector<index_type> many;
  for (index_type j = 0; j < cache.tokens(); j += j % 5 == 0 ? 1 : 3) many.push_back(j);
  lists.add(many), lists.add(many);
  const auto q = stored_as<float>(normal(4, query_heads * d, 7), query_heads);
  fovea::tensor<float> entries(4, query_heads, 1, d);
  for (index_type b = 0; b < 4; ++b)
    for (index_type h = 0; h < query_heads; ++h)
      for (index_type c = 0; c < d; ++c) entries(b, h, 0, c) = q(0, h, b, c);
  const fovea::attention<float> any{{.heads = query_heads, .kv_heads = of}};
  const auto out = any(entries, fovea::gathered{cache, lists});
  const numbers all = numbers_of(cache);
  for (index_type b = 0; b < 4; ++b) {
    const auto list = lists[b];
    Matrix k(static_cast<index_type>(list.size()), of * d), v(k.rows(), of * dv), query(1, query_heads * d);
    for (index_type i = 0; i < k.rows(); ++i) {
      k.row(i) = all.k.row(list[static_cast<std::size_t>(i)]).template cast<float>();
      v.row(i) = all.v.row(list[static_cast<std::size_t>(i)]).template cast<float>();
    }
    for (index_type c = 0; c < query.cols(); ++c) query(0, c) = q(0, c / d, b, c % d);
    const Matrix expected = any(query, k, v);
    for (index_type c = 0; c < expected.cols(); ++c)
      ASSERT_NEAR(out(b, c / dv, 0, c % dv), expected(0, c), bound) << b << " " << c;
  }
}

TEST(gathered, is_attention_over_the_listed_keys) {
  const tokens<float> all(101, dim, 20, 3);
  fovea::kv_cache<float, kv_heads> floats(101, dim, {.value_dim = 20});
  fovea::kv_cache<std::int8_t, kv_heads> integers(101, dim, {.value_dim = 20});
  append(floats, all.k, all.v, 0, 101), append(integers, all.k, all.v, 0, 101);
  fovea::latent_cache<fovea::bf16> rows(101, {.latent = 20, .rotary = 4});
  rows.append(normal(101, 24, 9));
  for (const index_type query_heads : {2, 64}) {
    expect_gathered(floats, query_heads, 1e-6), expect_gathered(integers, query_heads, 1e-5);
    expect_gathered(rows, query_heads, 1e-6);
  }
}

/// Keys are copied once for both where values are a part of them, and only there.
TEST(gathered, values_are_a_part_of_the_keys_of_their_own_cache) {
  constexpr index_type count = 300, of_latent = 20, query_heads = 64;
  fovea::latent_cache<float> a(count, {.latent = of_latent, .rotary = 4}),
      b(count, {.latent = of_latent, .rotary = 4});
  const Matrix of_a = normal(count, 24, 9), of_b = normal(count, 24, 10);
  a.append(of_a), b.append(of_b);
  const auto q = stored_as<float>(normal(1, query_heads * 24, 7), query_heads);
  const fovea::attention<float> any{{.heads = query_heads, .kv_heads = 1}};
  fovea::key_lists lists, others;
  std::vector<index_type> odd, even;
  for (index_type j = 1; j < count; j += 2) odd.push_back(j), even.push_back(j - 1);
  lists.add(odd), others.add(even);
  const auto rows_of = [](const Matrix& m, const std::vector<index_type>& list, index_type columns) {
    Matrix some(static_cast<index_type>(list.size()), columns);
    for (index_type i = 0; i < some.rows(); ++i)
      some.row(i) = m.row(list[static_cast<std::size_t>(i)]).leftCols(columns);
    return some;
  };
  const auto expect_same = [&](const auto& out, const Matrix& k, const Matrix& v) {
    const auto expected = any(q, stored_as<float>(k, 1), stored_as<float>(v, 1));
    for (index_type h = 0; h < query_heads; ++h)
      for (index_type c = 0; c < of_latent; ++c)
        ASSERT_NEAR(out(0, h, 0, c), expected(0, h, 0, c), 1e-6) << h;
  };
  const fovea::gathered first{a, lists}, second{a, others}, of_other{b, lists};
  const Matrix k = rows_of(of_a, odd, 24);
  expect_same(any(q, first.keys(), first.values()), k, rows_of(of_a, odd, of_latent));
  expect_same(any(q, first.keys(), second.values()), k, rows_of(of_a, even, of_latent));
  expect_same(any(q, first.keys(), of_other.values()), k, rows_of(of_b, odd, of_latent));
  expect_same(any(q, a.keys(), b.values()), of_a, of_b.leftCols(of_latent));
}

TEST(gathered, and_top_keys_refuse_what_does_not_fit) {
  const tokens<float> all(9, dim, dim, 3);
  fovea::kv_cache<float, kv_heads> cache(9, dim);
  append(cache, all.k, all.v, 0, 9);
  fovea::key_lists lists;
  lists.add(std::vector<index_type>{3, 9});
  const fovea::tensor<float> q(1, heads, 1, dim), two(2, heads, 1, dim);
  expect_refused([&] { attend(q, fovea::gathered{cache, lists}); }, {"list 0 has key 9", "9"});
  fovea::key_lists one;
  one.add(std::vector<index_type>{3});
  expect_refused([&] { attend(two, fovea::gathered{cache, one}); }, {"q has 2 sequences", "1"});
  const auto k = stored_as<float>(normal(8, dim, 2), 1);
  const auto index_q = stored_as<float>(normal(9, 4 * dim, 2), 4);
  const Matrix w = normal(9, 4, 1), narrow = normal(9, 3, 1);
  expect_refused([&] { fovea::top_keys(index_q, w, k, {}); }, {"9", "8"});
  expect_refused([&] { fovea::top_keys(index_q, narrow, k, {.causal = false}); }, {"w has 3", "4"});
  expect_refused([&] { fovea::top_keys(index_q, w, k, {.count = 0, .causal = false}); }, {"count is 0", "1"});
  expect_refused([&] { fovea::top_keys(index_q, w, cache, {.causal = false}); }, {"k has 2 heads", "1"});
}

}  // namespace top_keys_test
}  // namespace fovea_test
