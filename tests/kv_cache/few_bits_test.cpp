// Keys and values in 4 bits, and in fp8.
#include <fovea/element/fp8.hpp>
#include <fovea/kv_cache/q4.hpp>

#include "../support/refusal.hpp"
#include "../support/worse.hpp"
#include "support.hpp"

#include <sstream>

namespace fovea_test {
namespace few_bits_test {

using fovea::fp8;

TEST(fp8, every_number_is_what_it_stands_for_and_rounding_is_to_nearest_even) {
  std::vector<float> numbers;
  for (int bits = 0; bits < 256; ++bits) {
    fp8 x;
    x.bits = static_cast<std::uint8_t>(bits);
    const int exponent = bits >> 3 & 15, fraction = bits & 7;
    const double value = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
    if (exponent == 15 && fraction == 7) {
      EXPECT_TRUE(std::isnan(static_cast<float>(x)));
    } else {
      EXPECT_EQ(static_cast<float>(x), bits < 128 ? value : -value);
      EXPECT_EQ(fp8(static_cast<float>(x)).bits, bits);
      if (bits < 127) numbers.push_back(static_cast<float>(x));
    }
  }
  for (std::size_t i = 0; i + 1 < numbers.size(); ++i) {
    const float low = numbers[i], high = numbers[i + 1], middle = (low + high) / 2;
    EXPECT_EQ(fp8(middle).bits, i % 2 == 0 ? i : i + 1);
    EXPECT_EQ(fp8(std::nextafter(middle, 0.f)).bits, i);
    EXPECT_EQ(fp8(-std::nextafter(middle, 1e9f)).bits, 129 + i);
  }
  EXPECT_EQ(static_cast<float>(fp8(1e30f)), 448);
  EXPECT_EQ(static_cast<float>(fp8(-std::numeric_limits<float>::infinity())), -448);
  EXPECT_TRUE(std::isnan(static_cast<float>(fp8(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(fp8, caches_of_it_hold_what_it_rounds_to) {
  const tokens<fp8> all(101, 24, 20, 3);
  fovea::kv_cache<fp8, kv_heads> cache(101, 24, {.value_dim = 20});
  append(cache, all.k, all.v, 0, 101);
  for (const index_type queries : {1, 50}) {
    const Matrix q = normal(queries, heads * 24, 4);
    expect_exact(attend(q, cache, fovea::causal), q, all.k, all.v, fovea::causal_bottom_right);
  }
}

TEST(fp8, error_is_as_documented) {
  const tokens<float> all(2048, 128, 128, 11);
  fovea::kv_cache<fp8, kv_heads> cache(2048, 128);
  append(cache, all.k, all.v, 0, 2048);
  const Matrix q = normal(4, heads * 128, 12);
  const double error = relative_error(attend(q, cache), attend(q, all.k, all.v));
  std::printf("fp8 %.4f\n", error);
  EXPECT_LE(error, 0.045);
}

TEST(hadamard, is_its_own_inverse_and_keeps_dot_products) {
  for (const index_type dim : {1, 20, 64, 96}) {
    const Matrix a = normal(5, 3 * dim, 1), b = normal(5, 3 * dim, 2);
    Matrix x = a, y = b;
    fovea::hadamard_into(x, x, 3), fovea::hadamard_into(y, b, 3);
    EXPECT_LE((x * y.transpose() - a * b.transpose()).norm(), 1e-5 * a.norm() * b.norm());
    fovea::hadamard_into(x, x, 3);
    EXPECT_LE((x - a).norm(), 1e-6 * a.norm());
  }
  const Matrix a = normal(5, 6, 1);
  Matrix wrong(5, 4);
  expect_refused([&] { fovea::hadamard_into(wrong, a, 1); }, {"out", "4", "6"});
  fovea::tensor<float> of_two(1, 2, 5, 8), of_three(1, 3, 5, 8);
  expect_refused([&] { fovea::hadamard_into(of_two, of_three); }, {"out has 2 heads but x has 3"});
}

template <class Cache>
Matrix through(const Cache& cache, Matrix q, const auto&... mods) {
  fovea::hadamard_into(q, q, heads);
  Matrix out = attend(q, cache, mods...);
  fovea::hadamard_into(out, out, heads);
  return out;
}

/// 2,048 normal tokens, four key channels of a head 20 times larger where asked for.
double error_of(bool outliers) {
  constexpr index_type count = 2048, dim = 128;
  tokens<float> all(count, dim, dim, 11);
  for (const index_type c : {3, 40, 77, 100})
    for (index_type h = 0; h < kv_heads && outliers; ++h) all.k.col(h * dim + c) *= 20;
  fovea::q4_cache<kv_heads> cache(count, dim);
  append(cache, all.k, all.v, 0, count);
  const Matrix q = normal(4, heads * dim, 12);
  return relative_error(through(cache, q), attend(q, all.k, all.v));
}

TEST(q4, error_is_as_documented) {
  const double plain = error_of(false), outliers = error_of(true);
  std::printf("q4 %.4f, outliers %.4f\n", plain, outliers);
  EXPECT_LE(plain, 0.18);
  EXPECT_LE(outliers, 0.27);
}

/// Few and many queries read the same numbers, however tokens came and went; blocks are open or closed.
TEST(q4, is_exact_attention_over_its_numbers) {
  for (const auto& [dim, value_dim] : {std::pair<index_type, index_type>{24, 20},
                                       {33, 20},
                                       {8, 20},
                                       {64, 128},
                                       {128, 64},
                                       {96, 160},
                                       {32, 320},
                                       {160, 32},
                                       {256, 96}})
    for (const index_type count : {5, 64, 101}) {
      const tokens<float> all(count, dim, value_dim, 3);
      fovea::q4_cache<kv_heads> cache(40, dim, {.value_dim = value_dim});
      append(cache, all.k, all.v, 0, std::min<index_type>(count, 40));
      const numbers before = numbers_of(cache);
      cache.reserve(count);
      EXPECT_EQ(before, numbers_of(cache));
      append(cache, all.k, all.v, std::min<index_type>(count, 40), count);
      cache.truncate(count / 2), append(cache, all.k, all.v, count / 2, count);
      const numbers stored = numbers_of(cache);
      const Matrix k = stored.k.cast<float>(), v = stored.v.cast<float>();
      for (const index_type queries : {1, 2, 3, 4, 5, 7, 50})
        if (queries <= count) {
          const Matrix q = normal(queries, heads * dim, 4);
          expect_exact(attend(q, cache, fovea::causal), q, k, v, fovea::causal_bottom_right);
        }
      Matrix turned_k = all.k, turned_v = all.v;
      fovea::hadamard_into(turned_k, turned_k, kv_heads), fovea::hadamard_into(turned_v, turned_v, kv_heads);
      EXPECT_LE(relative_error(k, turned_k), 0.12);
      EXPECT_LE(relative_error(v, turned_v), 0.12);
    }
}

/// Each number of rows that share a head, over blocks of which the last is open.
TEST(q4, rows_are_the_same_whatever_is_beside_them_but_for_roundings) {
  constexpr index_type count = 77, dim = 64, value_dim = 96;
  const tokens<float> all(count, dim, value_dim, 3);
  fovea::q4_cache<kv_heads> cache(count, dim, {.value_dim = value_dim});
  append(cache, all.k, all.v, 0, count);
  const fovea::attention<float, kv_heads> each_its_own;
  const Matrix q = normal(9, kv_heads * dim, 4);
  const auto stored = numbers_of(cache);
  const Matrix k = stored.k.cast<float>(), v = stored.v.cast<float>();
  const Matrix want = each_its_own(q, k, v);
  for (index_type rows = 1; rows <= 9; ++rows) {
    const Matrix first = q.topRows(rows);
    EXPECT_LE(relative_error(each_its_own(first, cache), want.topRows(rows)), 1e-6) << rows;
  }
}

/// From one token to a few more than a block, and what is left of them; hidden ones; a query of no number.
TEST(q4, holds_any_number_of_tokens) {
  constexpr index_type dim = 32, value_dim = 64;
  const tokens<float> all(35, dim, value_dim, 3);
  const fovea::sliding_window window{.left = 9};
  for (index_type count = 1; count <= 35; ++count) {
    fovea::q4_cache<kv_heads> cache(count, dim, {.value_dim = value_dim});
    append(cache, all.k, all.v, 0, count);
    for (const index_type left : {count, count - count / 3, index_type(1), index_type(0)}) {
      cache.truncate(left);
      const numbers stored = numbers_of(cache);
      const Matrix k = stored.k.cast<float>(), v = stored.v.cast<float>();
      Matrix q = normal(std::min<index_type>(left, 2), heads * dim, 4);
      if (left == 0) {
        EXPECT_EQ(attend(q, cache, fovea::causal).rows(), 0);
        continue;
      }
      expect_exact(
          attend(q, cache, fovea::causal & window), q, k, v,
          fovea::causal_bottom_right & fovea::sliding_window{.left = 9, .from = fovea::corner::bottom_right});
      q(0, 3) = std::numeric_limits<float>::quiet_NaN();  // of head 0 alone
      const Matrix out = attend(q, cache, fovea::causal);
      EXPECT_TRUE(out.row(0).head(value_dim).array().isNaN().all());
      EXPECT_FALSE(out.row(0).tail((heads - 1) * value_dim).array().isNaN().any());
    }
  }
  fovea::q4_cache<kv_heads> cache(35, dim);
  append(cache, all.k, all.v.leftCols(kv_heads * dim), 0, 35);
  const Matrix q = normal(1, heads * dim, 4);
  const fovea::attention<double, heads, kv_heads> in_double;
  EXPECT_LE(relative_error(in_double(q.cast<double>().eval(), cache).cast<float>(), attend(q, cache)), 1e-6);
}

/// Rows narrower than a register, which are padded by zeros: closed ones and open ones, of the last head up
/// to where its memory ends.
TEST(q4, multiplies_nothing_that_lies_beyond_a_narrow_row) {
  constexpr index_type value_dim = 16, width = 16;
  for (index_type dim = 1; dim <= 9; ++dim)
    for (const index_type count : {31, 63}) {
      const tokens<float> all(count, dim, value_dim, 3);
      std::vector<std::vector<float>> nearby(  // what is freed of it is where the cache's memory may lie
          64, std::vector<float>(static_cast<std::size_t>(kv_heads * 32 * dim),
                                 std::numeric_limits<float>::quiet_NaN()));
      for (std::size_t i = 1; i < nearby.size(); i += 2) nearby[i] = {};
      fovea::q4_cache<kv_heads> cache(count, dim, {.value_dim = value_dim});
      append(cache, all.k, all.v, 0, count);
      const numbers stored = numbers_of(cache);
      const Matrix k = stored.k.cast<float>(), v = stored.v.cast<float>();
      for (const index_type queries : {1, 4, 50})
        if (queries <= count) {
          const Matrix q = normal(queries, heads * dim, 4);
          expect_exact(attend(q, cache, fovea::causal), q, k, v, fovea::causal_bottom_right);
        }
      std::vector<float> buffer(static_cast<std::size_t>(count * width));
      index_type seen = 0;
      cache.keys()
          .head(0, kv_heads - 1)
          .each_coded({0, count}, reinterpret_cast<std::int8_t*>(buffer.data()), width,
                      [&](index_type first, const auto* rows, index_type stride, index_type tokens_of_piece,
                          const float* scales) {
                        EXPECT_EQ(first, seen);
                        seen += tokens_of_piece;
                        for (index_type j = 0; j < tokens_of_piece; ++j)
                          for (index_type c = 0; c < width; ++c) {
                            const float x = static_cast<float>(rows[j * stride + c]);
                            EXPECT_EQ(c < dim ? x * (scales == nullptr ? 1 : scales[c]) : x,
                                      c < dim ? k(first + j, (kv_heads - 1) * dim + c) : 0);
                          }
                      });
      EXPECT_EQ(seen, count);
    }
}

/// Calls without values: keys of no column stand for them.
template <class T>
void expect_weights_over(index_type dim, index_type count) {
  const tokens<float> all(count, dim, 20, 3);
  fovea::q4_cache<kv_heads> cache(count, dim, {.value_dim = 20});
  append(cache, all.k, all.v, 0, count);
  const Matrix k = numbers_of(cache).k.cast<float>();
  const Matrix one = Matrix::Identity(count, count).replicate(1, kv_heads);  // P times it is P
  const fovea::attention<T, heads, kv_heads> call;
  for (const index_type queries : {1, 4, 50}) {
    const Matrix q = normal(queries, heads * dim, 4);
    const auto in_t = q.cast<T>().eval();
    const auto want = fovea::reference(q, k, one, {.heads = heads, .kv_heads = kv_heads});
    const auto weights = call.weights(in_t, cache), received = call.received(in_t, cache);
    double worst = 0;
    for (index_type g = 0; g < kv_heads; ++g)
      for (index_type j = 0; j < count; ++j) {
        double sum = 0;
        for (index_type h = g * heads / kv_heads; h < (g + 1) * heads / kv_heads; ++h)
          for (index_type i = 0; i < queries; ++i) {
            worst = fovea_test::worse(worst, std::abs(weights(0, h, i, j) - want.out(0, h, i, j)));
            sum += want.out(0, h, i, j);
          }
        EXPECT_NEAR(received(0, g, j, 0), sum, 2e-6 * std::max(1., sum));
      }
    EXPECT_LE(worst, 1e-6) << dim << " " << queries;
  }
}
TEST(q4, weights_and_what_keys_receive_are_those_of_its_keys) {
  for (const index_type dim : {5, 24, 33, 64})
    for (const index_type count : {20, 100}) {
      expect_weights_over<float>(dim, count);
      expect_weights_over<double>(dim, count);
    }
}

TEST(q4, positions_and_refusals) {
  const tokens<float> all(40, 16, 16, 3);
  const fovea::rotary_table<float> table(40, 16), brief(3, 16);
  fovea::q4_cache<kv_heads> turned(40, 16), given(40, 16);
  turned.append(all.k, all.v, table.angles());
  Matrix k = all.k;
  fovea::rotate(k, table.angles(), {.heads = kv_heads});
  given.append(k, all.v);
  EXPECT_EQ(numbers_of(turned), numbers_of(given));
  const Matrix one = all.k.topRows(1), two = all.k.topRows(2), narrow = one.leftCols(2 * 8);
  expect_refused([&] { given.append(one, one); }, {"room for 0 tokens of 40", "1"});
  given.truncate(30);
  expect_refused([&] { given.append(one, two); }, {"v has 2", "1"});
  expect_refused([&] { given.append(narrow, one); }, {"k has 8", "16"});
  expect_refused([&] { given.append(one, one, brief.angles()); }, {"position 30", "3"});
  Matrix bad = one;
  bad(0, 17) = std::numeric_limits<float>::infinity();
  expect_refused([&] { given.append(one, bad); }, {"v of token 0, head 1"});
  EXPECT_EQ(given.tokens(), 30);
  expect_refused([&] { given.truncate(31); }, {"31", "30"});
}

TEST(q4, comes_back_from_a_file_and_goes_on) {
  const tokens<float> all(100, 20, 36, 5);
  for (const index_type count : {0, 1, 32, 75}) {
    fovea::q4_cache<kv_heads> written(100, 20, {.value_dim = 36}), read(90, 20, {.value_dim = 36});
    append(written, all.k, all.v, 0, count);
    append(read, all.v.leftCols(kv_heads * 20), all.k.replicate(1, 2).leftCols(kv_heads * 36), 0, 50);
    std::stringstream file;
    written.save(file), file << "behind";
    read.load(file);
    EXPECT_EQ(file.tellg(), static_cast<std::streamoff>(file.str().size() - 6));
    EXPECT_EQ(read.tokens(), count);
    append(written, all.k, all.v, count, 88), append(read, all.k, all.v, count, 88);
    EXPECT_EQ(numbers_of(written), numbers_of(read));
    written.truncate(70), read.truncate(70);
    EXPECT_EQ(numbers_of(written), numbers_of(read));
  }
}

/// What is no float is refused before it is written: no block has to round it when it is closed.
TEST(q4, appends_no_key_or_value_that_is_not_finite) {
  const tokens<float> all(40, 16, 16, 3);
  fovea::q4_cache<kv_heads> cache(40, 16);
  append(cache, all.k, all.v, 0, 30);
  const auto before = numbers_of(cache);
  for (const float x : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::max()}) {
    Matrix bad = all.k.topRows(2);
    bad(1, 3) = x;
    const Matrix good = all.k.topRows(2);
    expect_refused([&] { cache.append(bad, good); }, {"k of token 1, head 0", "4 bits"});
    expect_refused([&] { cache.append(good, bad); }, {"v of token 1, head 0", "4 bits"});
    EXPECT_EQ(numbers_of(cache), before);
  }
}

TEST(q4, moved_from_is_empty) {
  const tokens<float> all(40, 16, 16, 3);
  const fovea::rotary_table<float> table(40, 16);
  const Matrix k = all.k.topRows(2), v = all.v.topRows(2);
  fovea::q4_cache<kv_heads> cache(40, 16), last(3, 8);
  append(cache, all.k, all.v, 0, 37);
  const numbers before = numbers_of(cache);
  auto other = std::move(cache);
  last = std::move(other);
  EXPECT_EQ(numbers_of(last), before);
  for (auto* const from : {&cache, &other}) {
    EXPECT_EQ(from->tokens() + from->position() + from->capacity() + from->heads() + from->dim(), 0);
    EXPECT_EQ(from->bytes(), 0);
    EXPECT_TRUE(from->memory().empty());
    from->truncate(0), from->reset();
    const std::string says = "the cache was moved from: it has no memory";
    std::stringstream file;
    last.save(file);
    expect_refused([&] { from->append(k, v); }, says);
    expect_refused([&] { from->append(k, v, table.angles()); }, says);
    expect_refused([&] { from->reserve(0); }, says), expect_refused([&] { from->reserve(50); }, says);
    expect_refused([&] { from->save(file); }, says), expect_refused([&] { from->load(file); }, says);
    expect_refused([&] { attend(normal(1, heads * 16, 2), *from); }, {"cache 0 was moved from"});
  }
  auto& same = last;
  last = std::move(same);
  cache = std::move(last);
  EXPECT_EQ(numbers_of(cache), before);
  append(cache, all.k, all.v, 37, 40);
  EXPECT_EQ(cache.tokens(), 40);
}

TEST(q4, bytes_are_those_of_codes_scales_and_keys_in_float) {
  const fovea::q4_cache<kv_heads> cache(64, 16, {.value_dim = 32});
  EXPECT_EQ(cache.bytes(), kv_heads * (64 * 8 + 2 * 16 * 4 + 32 * 16 * 4 + 64 * (16 + 1 + 4)));
}

}  // namespace few_bits_test
}  // namespace fovea_test
