// kv_cache::keep, and what it is for: eviction by the attention that keys have received.
#include "../support/max_abs.hpp"
#include "support.hpp"

#include "../support/refusal.hpp"

#include <numeric>

namespace fovea_test {
namespace {

Matrix rows_of(const Matrix& m, const std::vector<index_type>& rows) {
  Matrix some(static_cast<index_type>(rows.size()), m.cols());
  for (std::size_t i = 0; i < rows.size(); ++i) some.row(static_cast<index_type>(i)) = m.row(rows[i]);
  return some;
}

template <class E>
class keep : public testing::Test {};
using elements = testing::Types<float, fovea::bf16, std::int8_t>;
TYPED_TEST_SUITE(keep, elements);

/// Again and again some tokens are appended and some let go of: what is left is what the others would be.
TYPED_TEST(keep, leaves_what_is_named) {
  constexpr bool exact = !std::is_same_v<TypeParam, std::int8_t>;
  const index_type count = 400, dim = 24;
  const tokens<float> given(count, dim, dim, 4);
  const tokens<std::conditional_t<exact, TypeParam, float>> all(count, dim, dim, 4);
  const Matrix q = normal(2, heads * dim, 5);
  random_source random(6);
  fovea::kv_cache<TypeParam, kv_heads> cache(150, dim);
  std::vector<index_type> left;
  for (index_type t = 0; t < count;) {
    const index_type more = std::min({random.integer(0, 60), count - t, cache.capacity() - cache.tokens()});
    append(cache, given.k, given.v, t, t + more);
    for (; left.size() < static_cast<std::size_t>(cache.tokens()); ++t) left.push_back(t);
    ASSERT_EQ(cache.position(), t);
    std::vector<index_type> kept, still;
    const double share = random.pick<double>({0.3, 0.9, 1.0});
    const index_type from = random.integer(0, cache.tokens());  // the first ones stay
    for (index_type i = 0; i < cache.tokens(); ++i)
      if (i < from || random.chance(share))
        kept.push_back(i), still.push_back(left[static_cast<std::size_t>(i)]);
    cache.keep(kept), left = still;
    ASSERT_EQ(cache.tokens(), static_cast<index_type>(kept.size()));
    ASSERT_EQ(cache.position(), t);
    if (left.empty()) continue;
    const Matrix k = rows_of(all.k, left), v = rows_of(all.v, left), got = attend(q, cache);
    if (exact)
      expect_exact(got, q, k, v);
    else
      ASSERT_LE(relative_error(got, attend(q, k, v)), 0.025);  // keys are rounded each time that they move
  }
  cache.keep({});
  EXPECT_EQ(cache.tokens(), 0);
  EXPECT_EQ(cache.position(), count);
  cache.reset();
  EXPECT_EQ(cache.position(), 0);
}

TEST(keep_of_int8, does_not_round_what_stays_where_it_is) {
  const tokens<float> all(100, 16, 16, 4);
  const Matrix q = normal(2, heads * 16, 5);
  fovea::kv_cache<std::int8_t, kv_heads> cache(128, 16), other(128, 16);
  append(cache, all.k, all.v, 0, 100), append(other, all.k, all.v, 0, 97);
  std::vector<index_type> kept(100);
  std::iota(kept.begin(), kept.end(), 0);
  const Matrix before = attend(q, cache);
  cache.keep(kept);
  EXPECT_EQ(attend(q, cache), before);
  kept.erase(kept.begin() + 96, kept.begin() + 99);  // 96 to 99 are not quantised yet: 99 becomes 96
  cache.keep(kept);
  other.truncate(96);
  append(other, all.k, all.v, 99, 100);
  EXPECT_EQ(attend(q, cache), attend(q, other));
}

TEST(keep_errors, change_nothing) {
  const tokens<float> all(10, 8, 8, 1);
  const Matrix q = normal(2, heads * 8, 2);
  fovea::kv_cache<float, kv_heads> cache(12, 8);
  cache.append(all.k, all.v);
  const Matrix before = attend(q, cache);
  const auto refused = [&](std::vector<index_type> kept, const std::string& why) {
    expect_refused([&] { cache.keep(kept); }, why);
    EXPECT_EQ(cache.tokens(), 10);
    EXPECT_EQ(attend(q, cache), before);
  };
  refused({0, 10}, "keep: token 10 is not one of 10");
  refused({-1, 3}, "keep: token -1 is not one of 10");
  refused({2, 7, 7}, "keep: token 7 comes after 7, but tokens are named in ascending order");
  refused({2, 7, 4}, "keep: token 4 comes after 7, but tokens are named in ascending order");
}

TEST(keep_positions, go_on_and_keys_stay_turned) {
  const index_type dim = 16;
  const tokens<float> all(20, dim, dim, 1);
  const Matrix q = normal(1, heads * dim, 2);
  const fovea::rotary_table<float> table(40, dim);
  fovea::kv_cache<float, kv_heads> cache(20, dim), whole(20, dim);
  const auto add = [&](auto& to, index_type first, index_type count) {
    to.append(all.k.middleRows(first, count).eval(), all.v.middleRows(first, count).eval(), table.angles());
  };
  add(cache, 0, 15), add(whole, 0, 20);
  cache.keep(std::vector<std::uint8_t>{0, 3, 14});
  add(cache, 15, 5);
  EXPECT_EQ(cache.position(), 20);
  whole.keep(std::vector<index_type>{0, 3, 14, 15, 16, 17, 18, 19});
  EXPECT_EQ(attend(q, cache), attend(q, whole));
  cache.truncate(6);
  EXPECT_EQ(cache.position(), 18);
}

/// The tokens that received most among all but the newest `recent`, and these; as many as `budget` in all.
template <class Sums>
std::vector<index_type> heavy_and_recent(const Sums& received, index_type count, index_type budget,
                                         index_type recent) {
  std::vector<index_type> kept(static_cast<std::size_t>(count));
  std::iota(kept.begin(), kept.end(), 0);
  const auto heavier = [&](index_type a, index_type b) { return received(a) > received(b); };
  std::sort(kept.begin(), kept.end() - recent, heavier);
  kept.erase(kept.begin() + (budget - recent), kept.end() - recent);
  std::sort(kept.begin(), kept.end());
  return kept;
}

/// H2O (arXiv:2306.14048) in double, with lists of tokens in place of a cache.
struct h2o_reference {
  std::vector<index_type> left;
  std::vector<double> received;

  Matrix step(const Matrix& q, const Matrix& k, const Matrix& v, index_type dim) {
    const Matrix ks = rows_of(k, left), vs = rows_of(v, left);
    const index_type n = ks.rows(), queries = q.rows();
    Matrix out = Matrix::Zero(queries, heads * dim);
    received.resize(left.size(), 0);
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < queries; ++i) {
        const index_type g = h / (heads / kv_heads), seen = n - queries + i + 1;
        const Eigen::VectorXd s = ks.block(0, g * dim, seen, dim).cast<double>() *
                                  q.block(i, h * dim, 1, dim).transpose().cast<double>() /
                                  std::sqrt(double(dim));
        const Eigen::ArrayXd e = (s.array() - s.maxCoeff()).exp();
        for (index_type j = 0; j < seen; ++j) {
          const double p = e(j) / e.sum();
          received[static_cast<std::size_t>(j)] += p;
          out.block(i, h * dim, 1, dim) += float(p) * vs.block(j, g * dim, 1, dim);
        }
      }
    return out;
  }
  void evict(index_type budget, index_type recent) {
    const auto sum = [&](index_type j) { return received[static_cast<std::size_t>(j)]; };
    const auto kept = heavy_and_recent(sum, static_cast<index_type>(left.size()), budget, recent);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      left[i] = left[static_cast<std::size_t>(kept[i])];
      received[i] = received[static_cast<std::size_t>(kept[i])];
    }
    left.resize(kept.size()), received.resize(kept.size());
  }
};

TEST(h2o, keeps_what_the_textbook_keeps) {
  const index_type dim = 16, prompt = 50, count = 120, budget = 32, recent = 10;
  const tokens<float> all(count, dim, dim, 4);
  const Matrix q = 2 * normal(count, heads * dim, 5);
  h2o_reference want;
  fovea::kv_cache<float, kv_heads> cache(prompt, dim);
  Eigen::MatrixXf received = Eigen::MatrixXf::Zero(prompt, kv_heads);
  for (index_type t = 0; t < count;) {
    const index_type more = t == 0 ? prompt : 1;
    for (index_type i = 0; i < more; ++i) want.left.push_back(t + i);
    const Matrix some_q = q.middleRows(t, more);
    cache.append(all.k.middleRows(t, more).eval(), all.v.middleRows(t, more).eval());
    const Matrix got = attend(some_q, cache, fovea::causal, fovea::add_received(received));
    ASSERT_LE(fovea_test::max_abs(got - want.step(some_q, all.k, all.v, dim)), 1e-5);
    for (index_type j = 0; j < cache.tokens(); ++j)
      ASSERT_NEAR(received.row(j).sum(), want.received[static_cast<std::size_t>(j)], 1e-4);
    t += more;

    const Eigen::VectorXf sums = received.rowwise().sum();
    const auto kept = heavy_and_recent(sums, cache.tokens(), budget, recent);
    cache.keep(kept);
    for (std::size_t i = 0; i < kept.size(); ++i)
      received.row(static_cast<index_type>(i)) = received.row(kept[i]);
    received.bottomRows(received.rows() - cache.tokens()).setZero();

    want.evict(budget, recent);
    ASSERT_EQ(cache.tokens(), budget);
    for (index_type j = 0; j < budget; ++j)
      ASSERT_NEAR(received.row(j).sum(), want.received[static_cast<std::size_t>(j)], 1e-4) << t;
  }
}

TEST(h2o, of_a_batch_of_caches_is_that_of_each) {
  const index_type dim = 24, lengths[] = {90, 3, 0};
  const tokens<float> all(90, dim, dim, 4);
  const Matrix q = normal(3, heads * dim, 5);
  std::vector<fovea::kv_cache<std::int8_t, kv_heads>> caches;
  for (const index_type length : lengths) {
    caches.emplace_back(100, dim);
    append(caches.back(), all.k, all.v, 0, length);
  }
  const std::vector both{&std::as_const(caches[0]), &std::as_const(caches[1]), &std::as_const(caches[2])};
  const std::vector<index_type> offsets{0, 2, 3, 3};
  fovea::tensor<float> sums(3, kv_heads, 100, 1);
  const Matrix out =
      attend(fovea::ragged{q, offsets}, fovea::cache_batch{both}, fovea::causal, fovea::add_received(sums));
  const Matrix first = q.topRows(2);
  const auto alone = attend.received(first, caches[0], fovea::causal);
  for (index_type g = 0; g < kv_heads; ++g)
    for (index_type j = 0; j < 100; ++j) {
      EXPECT_EQ(sums(0, g, j, 0), j < 90 ? alone(0, g, j, 0) : 0);
      EXPECT_EQ(sums(1, g, j, 0) > 0, j < 3);
      EXPECT_EQ(sums(2, g, j, 0), 0);
    }
  const Matrix keys = all.k, values = all.v;
  const auto near = attend.received(first, keys, fovea::causal_bottom_right);
  for (index_type j = 0; j < 90; ++j) EXPECT_NEAR(alone(0, 1, j, 0), near(0, 1, j, 0), 0.02);
}

}  // namespace
}  // namespace fovea_test
