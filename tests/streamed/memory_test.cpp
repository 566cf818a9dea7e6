// How much of a file of 512 MiB is resident while it is written and attended to.
#include "../support/max_abs.hpp"
#include "../support/resident.hpp"
#include "support.hpp"

#include <cstdio>
#include <cstdlib>
#include <thread>

namespace fovea_test {
namespace resident_test {

constexpr index_type dim = 128, count = 1 << 18, mib = 1 << 20;

TEST(streamed_memory, of_512_mib_within_64) {
  if (resident("VmHWM:") == 0) GTEST_SKIP() << "the system does not tell";
  constexpr index_type bound = 64 * mib;
  const temporary_file file("large");
  measure_resident_again();
  index_type before = resident("VmRSS:");
  {
    const Matrix k = normal(1024, kv_heads * dim, 1), v = normal(1024, kv_heads * dim, 2);
    fovea::cache_writer<float, kv_heads> writer(file.path(), count, dim);
    while (writer.tokens() < count) writer.append(k, v);
    writer.finish();
    EXPECT_GE(writer.bytes(), 512 * mib);
  }
  // A block of tokens is 2 MiB, as are k and v here.
  EXPECT_LE(resident("VmHWM:") - before, 12 * mib);

  const fovea::streamed_cache<float, kv_heads> cache(file.path(), {.resident_bytes = bound});
  const Matrix q = normal(4, heads * dim, 3);
  fovea::threads pool(3);
  const fovea::attention<float, heads, kv_heads> parallel{{.executor = pool}};
  Matrix one(4, heads * dim), three = one, another = one;
  measure_resident_again();
  before = resident("VmRSS:");
  attend.into(one, q, cache, fovea::causal);
  parallel.into(three, q, cache, fovea::causal);
  std::thread beside([&] { attend.into(another, q, cache, fovea::causal); });
  attend.into(one, q, cache, fovea::causal);
  beside.join();
  // The file's pages; and the memory of the calls (states of 128 key splits), of the threads, and of the
  // system's count, which lags behind.
  const index_type most = resident("VmHWM:") - before;
  EXPECT_LE(most, bound + 12 * mib);
  EXPECT_GE(most, bound / 2);  // what is counted is what is read
  EXPECT_EQ(one == three && one == another, true);

  // The whole file, as a map that nobody bounds, gives the same bits: the test is of the bound.
  const fovea::streaming::mapped_file mapped(file.path());
  const fovea::borrowed_span<const std::byte> bytes(mapped.bytes().data(), mapped.bytes().size());
  const auto unbounded = fovea::kv_cache<float, kv_heads>::over(bytes, fovea::file_check::header);
  EXPECT_EQ(attend(q, unbounded, fovea::causal) == one, true);
  EXPECT_GE(resident("VmHWM:") - before, 512 * mib);
}

// Of equal blocks a softmax gives what it gives of one. (How fast: bench/results/streamed.md.)
TEST(streamed_memory, of_6_gib_within_512_mib) {
  const char* const folder = std::getenv("FOVEA_LARGE_FILES");
  if (folder == nullptr || resident("VmHWM:") == 0)
    GTEST_SKIP() << "FOVEA_LARGE_FILES names no folder with 6 GiB free";
  const std::string path = std::string(folder) + "/fovea_6_gib.kv";
  const Matrix k = normal(4096, kv_heads * dim, 1), v = normal(4096, kv_heads * dim, 2);
  const Matrix q = normal(4, heads * dim, 3), of_one_block = attend(q, k, v);
  {
    constexpr index_type tokens = index_type(6144) * mib / (2 * kv_heads * dim * 4);
    fovea::cache_writer<float, kv_heads> writer(path, tokens, dim);
    while (writer.tokens() < tokens) writer.append(k, v);
    writer.finish();
    EXPECT_GE(writer.bytes(), index_type(6144) * mib);
  }
  const fovea::streamed_cache<float, kv_heads> cache(path, {.resident_bytes = 448 * mib});
  measure_resident_again();
  const Matrix o = attend(q, cache);
  EXPECT_LT(resident("VmHWM:"), 512 * mib);  // of the whole process
  EXPECT_LE(fovea_test::max_abs(o - of_one_block), 1e-5f);
  std::remove(path.c_str());
}

}  // namespace resident_test
}  // namespace fovea_test
