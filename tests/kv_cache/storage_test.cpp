// What storage costs in accuracy; int8 blocks open and close; files.
#include "support.hpp"

#include <cstring>
#include <sstream>

namespace fovea_test {
namespace storage_test {

/// 2,048 normal tokens, four key channels of a head 20 times larger where asked for.
struct text {
  static constexpr index_type count = 2048, dim = 128;
  tokens<float> all{count, dim, dim, 11};
  Matrix q = normal(4, heads* dim, 12);
  explicit text(bool outliers) {
    for (const index_type c : {3, 40, 77, 100})
      for (index_type h = 0; h < kv_heads && outliers; ++h) all.k.col(h * dim + c) *= 20;
  }
};

template <class E, class VE = E>
double error_of(const text& t) {
  fovea::kv_cache<E, kv_heads, VE> cache(t.count, t.dim);
  append(cache, t.all.k, t.all.v, 0, t.count);
  return relative_error(attend(t.q, cache), attend(t.q, t.all.k, t.all.v));
}

/// The errors that the documentation states.
TEST(storage, error_is_as_documented) {
  for (const bool outliers : {false, true}) {
    const text t(outliers);
    const double bf16 = error_of<fovea::bf16>(t), fp16 = error_of<fovea::fp16>(t),
                 int8 = error_of<std::int8_t>(t);
    std::printf("outliers %d: bf16 %.4f, fp16 %.5f, int8 %.4f, int8 keys alone %.4f\n", outliers, bf16, fp16,
                int8, error_of<std::int8_t, float>(t));
    EXPECT_LE(bf16, outliers ? 0.012 : 0.003);
    EXPECT_LE(fp16, outliers ? 0.0017 : 0.0004);
    EXPECT_LE(int8, outliers ? 0.022 : 0.011);
  }
}

TEST(storage, int8_is_the_same_for_any_way_of_appending) {
  const index_type count = 101, dim = 16;
  const tokens<float> all(count, dim, dim, 4);
  const Matrix q = normal(2, heads * dim, 5);
  fovea::kv_cache<std::int8_t, kv_heads> once(count, dim), parts(count, dim), back(count, dim);
  once.append(all.k, all.v);
  append(parts, all.k, all.v, 0, count);
  EXPECT_EQ(attend(q, once), attend(q, parts));
  append(back, all.k, all.v, 0, count);
  back.truncate(70);  // into a block that is closed
  append(back, all.k, all.v, 70, count);
  EXPECT_LE(relative_error(attend(q, back), attend(q, once)), 0.01);
  back.truncate(97);  // into the open one
  append(back, all.k, all.v, 97, count);
  EXPECT_LE(relative_error(attend(q, back), attend(q, once)), 0.01);
}

TEST(storage, int8_rings_and_pages) {
  const index_type count = 230, dim = 40, window = 75, sinks = 4;
  const tokens<float> all(count, dim, dim, 4);
  const Matrix q = normal(1, heads * dim, 5);
  fovea::ring_cache<std::int8_t, kv_heads> ring(window, dim, {.sinks = sinks});
  fovea::page_pool<std::int8_t, kv_heads> pool({.pages = 40, .page_tokens = 16, .dim = dim});
  fovea::paged_cache<std::int8_t, kv_heads> paged(pool);
  for (index_type t = 1; t <= count; ++t) {
    append(ring, all.k, all.v, t - 1, t), append(paged, all.k, all.v, t - 1, t);
    if (t % 7 != 0) continue;
    const index_type kept = std::min(t, window + sinks), late = std::max<index_type>(kept - sinks, 0);
    Matrix k(kept, all.k.cols()), v(kept, all.v.cols());
    k << all.k.topRows(kept - late), all.k.middleRows(t - late, late);
    v << all.v.topRows(kept - late), all.v.middleRows(t - late, late);
    ASSERT_LE(relative_error(attend(q, ring, fovea::causal), attend(q, k, v)), 0.015) << t;
    const Matrix now_k = all.k.topRows(t), now_v = all.v.topRows(t);
    ASSERT_LE(relative_error(attend(q, paged, fovea::causal), attend(q, now_k, now_v)), 0.015) << t;
  }
  auto fork = paged.fork();
  const Matrix before = attend(q, paged);
  append(fork, all.k, all.v, 0, 50);
  EXPECT_EQ(attend(q, paged), before);
}

template <class Cache>
std::string saved(const Cache& cache) {
  std::ostringstream out;
  cache.save(out);
  return out.str();
}

template <class E>
class files : public testing::Test {};
using elements = testing::Types<float, fovea::bf16, std::int8_t>;
TYPED_TEST_SUITE(files, elements);

TYPED_TEST(files, hold_all_tokens) {
  for (const index_type count : {0, 1, 64, 75}) {
    const index_type dim = 24;
    const tokens<float> all(std::max<index_type>(count, 1), dim, dim, 4);
    const Matrix q = normal(3, heads * dim, 5);
    fovea::kv_cache<TypeParam, kv_heads> cache(100, dim), again(80, dim);
    append(cache, all.k, all.v, 0, count);
    const std::string file = saved(cache);
    std::istringstream in(file);
    again.load(in);
    EXPECT_EQ(again.tokens(), count);
    EXPECT_EQ(attend(q, again), attend(q, cache));
    if (count == 0) continue;
    std::vector<std::byte> room(file.size() + 64);
    std::byte* const start = room.data() + (64 - reinterpret_cast<std::uintptr_t>(room.data()) % 64);
    std::memcpy(start, file.data(), file.size());
    const auto mapped = fovea::kv_cache<TypeParam, kv_heads>::over({start, file.size()});
    EXPECT_EQ(attend(q, mapped), attend(q, cache));
    cache.truncate(count / 2);  // of int8 keys, perhaps into a block that is closed
    std::istringstream shorter(saved(cache));
    again.load(shorter);
    EXPECT_EQ(attend(q, again), attend(q, cache));
    append(again, all.k, all.v, count / 2, count);
    again.append(all.k.topRows(1).eval(), all.v.topRows(1).eval());
    EXPECT_EQ(again.tokens(), count + 1);
  }
}

TYPED_TEST(files, that_are_wrong_change_nothing) {
  const index_type dim = 8;
  const tokens<float> all(40, dim, dim, 4);
  const Matrix q = normal(1, heads * dim, 5);
  fovea::kv_cache<TypeParam, kv_heads> cache(40, dim), small(39, dim), wide(40, dim + 1);
  append(cache, all.k, all.v, 0, 40);
  const std::string file = saved(cache);
  const Matrix before = attend(q, cache);
  const auto expect_refused = [&](const std::string& bytes, auto& into, const char* why) {
    std::istringstream in(bytes);
    try {
      into.load(in);
      ADD_FAILURE() << "loaded: " << why;
    } catch (const std::runtime_error& e) {
      EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
    }
    EXPECT_EQ(attend(q, cache), before);
  };
  expect_refused("", cache, "fewer than a header");
  expect_refused(std::string(100, 'x'), cache, "not a saved fovea cache");
  expect_refused(file.substr(0, file.size() - 1), cache, "ends early");
  std::string damaged = file;
  damaged[file.size() / 2] ^= 1;
  expect_refused(damaged, cache, "damaged");
  damaged = file, damaged[20] ^= 1;
  expect_refused(damaged, cache, "damaged header");
  expect_refused(file, small, "40 tokens");
  expect_refused(file, wide, "dim 8, the cache 9");
  fovea::kv_cache<double, kv_heads> other(40, dim);
  std::istringstream in(file);
  EXPECT_THROW(other.load(in), std::runtime_error);
  using cache_type = fovea::kv_cache<TypeParam, kv_heads>;
  EXPECT_THROW(cache_type::over(std::as_bytes(std::span(file)).first(80)), std::runtime_error);
}

}  // namespace storage_test
}  // namespace fovea_test
