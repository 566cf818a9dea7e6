// One row a token: keys the whole of it, values its first part.
#include "../support/refusal.hpp"
#include "support.hpp"

namespace fovea_test {
namespace latent_test {

constexpr index_type latent = 40, rotary = 8, dim = latent + rotary, count = 101;

/// Rows of tokens, and the caches that hold them.
struct rows {
  Matrix all = normal(count, dim, 3), of_latent = all.leftCols(latent), of_rotary = all.rightCols(rotary);
  template <class Cache>
  void append_to(Cache& cache, index_type first, index_type last) const {
    const Matrix l = of_latent.middleRows(first, last - first), r = of_rotary.middleRows(first, last - first);
    cache.append(l, r);
  }
};

template <class E>
double error_of(index_type heads, index_type queries, index_type tokens, const fovea::latent_options& sizes) {
  const Matrix all = normal(tokens, sizes.latent + sizes.rotary, 5), values = all.leftCols(sizes.latent);
  fovea::latent_cache<E> cache(tokens, sizes);
  for (index_type first = 0; first < tokens; first += 77) {
    const Matrix part = all.middleRows(first, std::min<index_type>(77, tokens - first));
    cache.append(part);
  }
  const Matrix q = normal(queries, heads * all.cols(), 6);
  const fovea::attention<float> any{{.heads = heads, .kv_heads = 1}};
  return relative_error(any(q, cache, fovea::causal), any(q, all, values, fovea::causal_bottom_right));
}

TEST(latent, float_is_exact_and_others_are_as_near_as_documented) {
  for (const index_type heads : {1, 16, 32})
    for (const index_type queries : {1, 3})
      EXPECT_EQ(error_of<float>(heads, queries, 101, {latent, rotary}), 0);
  EXPECT_EQ(error_of<double>(16, 1, 50, {latent, 0}) < 1e-6, true);
  const fovea::latent_options sizes{.latent = 512, .rotary = 64};
  const double bf16 = error_of<fovea::bf16>(16, 1, 2048, sizes),
               fp16 = error_of<fovea::fp16>(16, 1, 2048, sizes),
               int8 = error_of<std::int8_t>(16, 1, 2048, sizes),
               few = error_of<std::int8_t>(2, 1, 2048, sizes);
  std::printf("bf16 %.5f, fp16 %.6f, int8 %.5f, of 2 heads %.5f\n", bf16, fp16, int8, few);
  EXPECT_LE(bf16, 0.0021);
  EXPECT_LE(fp16, 0.00025);
  EXPECT_LE(int8, 0.0062);
  EXPECT_LE(few, 0.0062);
}

TEST(latent, rotary_part_alone_is_turned_to_its_position) {
  const rows x;
  const fovea::rotary_table<float> table(count, rotary);
  fovea::latent_cache<float> turned(count, {latent, rotary}), given(count, {latent, rotary});
  const Matrix first = x.of_latent.topRows(30), last = x.of_latent.bottomRows(count - 30),
               first_rotary = x.of_rotary.topRows(30), last_rotary = x.of_rotary.bottomRows(count - 30);
  turned.append(first, first_rotary, table.angles()), turned.append(last, last_rotary, table.angles());
  Matrix by_hand = x.of_rotary;
  fovea::rotate(by_hand, table.angles());
  given.append(x.of_latent, by_hand);
  EXPECT_EQ(numbers_of(turned), numbers_of(given));
  EXPECT_EQ(turned.value_dim(), latent);
  EXPECT_EQ(turned.dim(), dim);
  EXPECT_EQ(turned.tokens(), count);
  EXPECT_EQ(turned.keys().dim(), dim);
  EXPECT_EQ(turned.values().dim(), latent);
}

template <class E>
void expect_appended_in_parts() {
  const rows x;
  fovea::latent_cache<E> once(count, {latent, rotary}), parts(32, {latent, rotary});
  x.append_to(once, 0, count);
  x.append_to(parts, 0, 32);
  parts.reserve(count);
  for (index_type t = 32; t < count; ++t) x.append_to(parts, t, t + 1);
  EXPECT_EQ(numbers_of(once), numbers_of(parts));
  parts.truncate(70), x.append_to(parts, 70, count);
  const auto a = numbers_of(once), b = numbers_of(parts);
  EXPECT_LE((a.k - b.k).norm(), 0.02 * a.k.norm());
  EXPECT_EQ(b.v, b.k.leftCols(latent));
  auto moved = std::move(parts);
  EXPECT_EQ(moved.tokens(), count);
  EXPECT_EQ(parts.tokens(), 0);
  EXPECT_TRUE(parts.dim() == 0 && parts.value_dim() == 0 && parts.rotary_dim() == 0);
}

TEST(latent, appended_in_parts_taken_back_and_moved) {
  expect_appended_in_parts<float>(), expect_appended_in_parts<fovea::bf16>(),
      expect_appended_in_parts<std::int8_t>();
}

/// One store: keys are values, several heads of them; several layers ask, or only keys are read.
TEST(latent, keys_that_are_values_are_read_by_several_layers) {
  const Matrix k = normal(count, kv_heads * 24, 8);
  fovea::latent_cache<float, fovea::dynamic_heads> cache(count, {.latent = 24, .heads = kv_heads});
  cache.append(k);
  EXPECT_LT(cache.bytes(), count * kv_heads * 24 * 4 + 128);
  for (const std::uint64_t layer : {1u, 2u, 3u}) {
    const Matrix q = normal(4, heads * 24, layer);
    EXPECT_EQ(attend(q, cache, fovea::causal), attend(q, k, k, fovea::causal_bottom_right));
    EXPECT_EQ(attend.received(q, cache.keys(), fovea::causal).size(), kv_heads * count);
  }
}

TEST(latent, batches_of_caches) {
  const rows x;
  fovea::latent_cache<fovea::bf16> a(count, {latent, rotary}), b(count, {latent, rotary});
  x.append_to(a, 0, count), x.append_to(b, 0, 13);
  const std::vector<const fovea::latent_cache<fovea::bf16>*> both{&a, &b};
  const fovea::cache_batch batch{both};
  const fovea::attention<float> any{{.heads = 32, .kv_heads = 1}};
  const Matrix q = normal(2, 32 * dim, 9), first = q.topRows(1), second = q.bottomRows(1);
  const std::vector<index_type> offsets{0, 1, 2};
  const Matrix out = any(fovea::ragged{q, offsets}, batch, fovea::causal);
  EXPECT_EQ(out.topRows(1), any(first, a, fovea::causal));
  EXPECT_EQ(out.bottomRows(1), any(second, b, fovea::causal));
}

TEST(latent, refusals_name_the_argument_and_change_nothing) {
  const rows x;
  fovea::latent_cache<float> cache(10, {latent, rotary});
  const Matrix five = x.of_latent.topRows(5), of_five = x.of_rotary.topRows(5), four = x.of_rotary.topRows(4),
               eleven = x.of_latent.topRows(11), of_eleven = x.of_rotary.topRows(11);
  const fovea::rotary_table<float> wide(20, rotary + 2), brief(4, rotary);
  expect_refused([&] { cache.append(of_five, of_five); }, {"latent", "8", "40"});
  expect_refused([&] { cache.append(five, four); }, {"rotary", "4", "5"});
  expect_refused([&] { cache.append(five); }, {"rows", "40", "48"});
  expect_refused([&] { cache.append(eleven, of_eleven); }, {"10", "11"});
  expect_refused([&] { cache.append(five, of_five, wide.angles()); }, {"10", "8"});
  expect_refused([&] { cache.append(five, of_five, brief.angles()); }, {"position 4", "4"});
  expect_refused([] { fovea::latent_cache<float>(10, {.latent = 0}); }, {"latent", "0"});
  expect_refused([] { fovea::latent_cache<float>(10, {.latent = 4, .rotary = -1}); }, {"rotary", "-1"});
  EXPECT_EQ(cache.tokens(), 0);
  fovea::latent_cache<std::int8_t> integers(10, {latent, rotary});
  Matrix bad = of_five;
  bad(3, 2) = std::numeric_limits<float>::quiet_NaN();
  expect_refused([&] { integers.append(five, bad); }, {"rotary of token 3", "nan"});
  EXPECT_EQ(integers.tokens(), 0);
}

}  // namespace latent_test
}  // namespace fovea_test
