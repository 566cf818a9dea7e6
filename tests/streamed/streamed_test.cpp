// Keys and values in a file: what is written is what kv_cache::save writes, and a call gives what it gives of
// a cache in memory, to the bit, whoever runs it.
#include "support.hpp"

namespace fovea_test {
namespace streamed_test {

constexpr index_type dim = 20, value_dim = 12;

template <class E>
class streamed : public testing::Test {
 protected:
  using cache_type = fovea::kv_cache<E, kv_heads>;

  static std::string saved(const cache_type& cache) {
    std::ostringstream out;
    cache.save(out);
    return out.str();
  }
  static cache_type in_memory(const tokens<float>& all) {
    cache_type cache(all.count() + 3, dim, {.value_dim = value_dim});
    cache.append(all.k, all.v);
    return cache;
  }
};
using elements = testing::Types<float, fovea::bf16, fovea::fp16, std::int8_t>;
TYPED_TEST_SUITE(streamed, elements);

/// In blocks of any size, with room for more tokens or not, keys turned or not.
TYPED_TEST(streamed, writes_what_save_writes) {
  const temporary_file file("written");
  const fovea::rotary_table<float> table(600, 16);
  for (const index_type count : {0, 1, 31, 32, 33, 64, 129, 600})
    for (const index_type more : {0, 1, 77}) {
      const tokens<float> all(count, dim, value_dim, 7);
      auto cache = TestFixture::in_memory(all);
      for (const bool turned : {false, true}) {
        fovea::cache_writer<TypeParam, kv_heads> writer(
            file.path(), std::max<index_type>(count + more, 1), dim,
            {.value_dim = value_dim, .block_tokens = turned ? 100 : 32});
        if (turned) cache.reset(), cache.append(all.k, all.v, table.angles());
        for (index_type first = 0, n = 0; first < count; first += n) {
          n = std::min<index_type>(1 + first % 50, count - first);
          const Matrix k = all.k.middleRows(first, n), v = all.v.middleRows(first, n);
          turned ? writer.append(k, v, table.angles()) : writer.append(k, v);
        }
        EXPECT_EQ(writer.tokens(), count);
        writer.finish();
        EXPECT_EQ(file.bytes() == TestFixture::saved(cache), true) << count << " + " << more << " " << turned;
      }
    }
}

/// Files of both are as good, and numbers are the same as in memory; the last block of int8 keys is open.
TYPED_TEST(streamed, same_bits_as_in_memory) {
  const temporary_file file("read");
  const index_type count = 4500;
  const tokens<float> all(count, dim, value_dim, 11);
  const auto cache = TestFixture::in_memory(all);
  file.write(TestFixture::saved(cache));
  const fovea::streamed_cache<TypeParam, kv_heads> shown(
      file.path(), {.resident_bytes = least, .check = fovea::file_check::whole});
  EXPECT_EQ(shown.tokens(), count);
  EXPECT_EQ(shown.position(), count);
  EXPECT_EQ(shown.heads(), kv_heads);
  EXPECT_EQ(shown.dim(), dim);
  EXPECT_EQ(shown.value_dim(), value_dim);
  EXPECT_EQ(numbers_of(shown), numbers_of(cache));

  const std::vector<float> slopes(heads, 0.01f);
  for (const index_type queries : {1, 4, 70}) {  // dim in lanes, dim in lanes, queries in lanes
    const Matrix q = normal(queries, heads * dim, 13);
    const auto mods = [&](const auto& attend, const auto& keys_and_values) {
      return attend.with_lse(q, keys_and_values, fovea::causal, fovea::sliding_window{.left = 4200},
                             fovea::softcap{20.f}, fovea::alibi{slopes});
    };
    const auto want = mods(attend, cache);
    for (const index_type workers : {1, 2, 5}) {
      fovea::threads pool(workers);
      const auto got = mods(fovea::attention<float, heads, kv_heads>{{.executor = pool}}, shown);
      EXPECT_EQ(got.out == want.out && got.lse == want.lse, true) << queries << " " << workers;
    }
  }
}

TEST(streamed_cache, within_the_bound_of_the_reference) {
  const temporary_file file("reference");
  const tokens<fovea::bf16> all(2200, dim, value_dim, 17);
  fovea::cache_writer<fovea::bf16, kv_heads> writer(file.path(), all.count(), dim, {.value_dim = value_dim});
  writer.append(all.k, all.v);
  writer.finish();
  const fovea::streamed_cache<fovea::bf16, kv_heads> cache(file.path());
  const Matrix q = normal(4, heads * dim, 19);
  expect_exact(attend(q, cache, fovea::causal), q, all.k, all.v, fovea::causal_bottom_right);
}

/// Several files in one call, other elements for values, heads known at run time only, a cache that was
/// moved.
TEST(streamed_cache, of_other_kinds) {
  const temporary_file long_file("long"), short_file("short");
  const tokens<float> all(300, dim, value_dim, 23);
  using writer_type = fovea::cache_writer<std::int8_t, fovea::dynamic_heads, float>;
  using cache_type = fovea::streamed_cache<std::int8_t, fovea::dynamic_heads, float>;
  fovea::kv_cache<std::int8_t, fovea::dynamic_heads, float> whole(310, dim, {kv_heads, value_dim}),
      half(300, dim, {kv_heads, value_dim});
  const auto write = [&](const temporary_file& file, auto& cache, index_type count) {
    writer_type writer(file.path(), count, dim, {.heads = kv_heads, .value_dim = value_dim});
    const Matrix k = all.k.topRows(count), v = all.v.topRows(count);
    writer.append(k, v), cache.append(k, v);
    auto moved = std::move(writer);
    moved.finish();
  };
  write(long_file, whole, 300), write(short_file, half, 150);
  cache_type first(long_file.path()), second(short_file.path());
  const cache_type moved = std::move(first);
  const Matrix q = normal(5, heads * dim, 29);
  const std::vector<index_type> offsets{0, 2, 5};
  const std::vector<const cache_type*> shown{&moved, &second};
  const std::vector<const decltype(whole)*> in_memory{&whole, &half};
  EXPECT_EQ(attend(fovea::ragged{q, offsets}, fovea::cache_batch{shown}, fovea::causal),
            attend(fovea::ragged{q, offsets}, fovea::cache_batch{in_memory}, fovea::causal));
  expect_refused([&] { attend(q, first, fovea::causal); }, {"moved from"});
}

}  // namespace streamed_test
}  // namespace fovea_test
