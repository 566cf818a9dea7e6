// Files and arguments that do not fit: refused, with the byte, and before anything is written.
#include "support.hpp"

#include <functional>

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#endif

namespace fovea_test {
namespace file_errors_test {

constexpr index_type dim = 4, count = 37;

using cache_type = fovea::streamed_cache<std::int8_t, kv_heads>;

/// Expects a std::runtime_error with just this sentence.
void expect_bad_file(const std::function<void()>& f, const std::string& sentence) {
  try {
    f();
    ADD_FAILURE() << "not refused: " << sentence;
  } catch (const std::runtime_error& e) {
    EXPECT_EQ(std::string(e.what()), "fovea: the file " + sentence);
  }
}

class streamed_file : public testing::Test {
 protected:
  const temporary_file file{"bad"};
  const tokens<float> text{100, dim, dim, 1};
  std::string good;

  streamed_file() {
    fovea::cache_writer<std::int8_t, kv_heads> writer(file.path(), count, dim);
    writer.append(Matrix(text.k.topRows(count)), Matrix(text.v.topRows(count)));
    writer.finish();
    good = file.bytes();
  }
  template <class Cache = cache_type>
  void expect_bad(const std::string& bytes, const std::string& sentence,
                  fovea::file_check check = fovea::file_check::header) const {
    file.write(bytes);
    expect_bad_file([&] { Cache(file.path(), {.check = check}); }, sentence);
  }
  /// With another number in the header, and the sum that goes with it.
  template <class T>
  std::string with(T fovea::caching::file_header::*number, T value) const {
    fovea::caching::file_header h;
    std::memcpy(&h, good.data(), sizeof h);
    h.*number = value, h.header_sum = fovea::caching::sum_of_header(h);
    std::string bytes = good;
    std::memcpy(bytes.data(), &h, sizeof h);
    return bytes;
  }
};

TEST_F(streamed_file, cut_or_longer) {
  const std::string size = std::to_string(good.size());
  for (const std::size_t n : {std::size_t(0), std::size_t(1), std::size_t(63)})
    expect_bad(good.substr(0, n), "has " + std::to_string(n) + " bytes, fewer than a header, which has 64");
  for (const std::size_t n : {std::size_t(64), std::size_t(65), good.size() - 1})
    expect_bad(good.substr(0, n),
               "ends early, at byte " + std::to_string(n) + "; by its header it ends at byte " + size);
  expect_bad(good + "x", "goes on to byte " + std::to_string(good.size() + 1) +
                             "; by its header it ends at byte " + size);
}

TEST_F(streamed_file, header_that_does_not_match) {
  using fovea::caching::file_header;
  std::string other = good;
  other[3] = 'E';
  expect_bad(other, "is not a saved fovea cache: it has 69 at byte 3, such a file 101");
  for (const std::size_t i : {8, 16, 47, 55, 56, 63}) {
    other = good, other[i] = static_cast<char>(other[i] ^ 4);
    expect_bad(other, "has a damaged header: the sum at byte 56 is not that of what stands before it");
  }
  expect_bad<fovea::streamed_cache<float, kv_heads>>(
      good, "has keys in int8 at byte 8, the cache has them in float");
  expect_bad<fovea::streamed_cache<std::int8_t, kv_heads, fovea::bf16>>(
      good, "has values in int8 at byte 10, the cache has them in bf16");
  expect_bad<fovea::streamed_cache<std::int8_t, 3>>(good, "has heads 2, the cache 3, at byte 16");
  expect_bad(with(&file_header::key_element, std::uint16_t(9)),
             "has keys in an unknown element 9 at byte 8, the cache has them in int8");
  expect_bad(
      with(&file_header::dim, std::int64_t(-4)),
      "has a header that no cache has: 2 heads at byte 16, dim -4 at byte 24, value_dim 4 at byte 32, 37 "
      "tokens at byte 40");
  expect_bad(with(&file_header::open_tokens, 6u),
             "has a header that no cache has: 6 of 37 tokens in an open block at byte 12");
}

TEST_F(streamed_file, damaged_behind_its_header) {
  std::string damaged = good;
  damaged[good.size() - 9] ^= 1;
  expect_bad(damaged, "is damaged: the sum at byte 48 is not that of what stands behind the header",
             fovea::file_check::whole);
  file.write(damaged);
  EXPECT_EQ(cache_type(file.path()).tokens(), count);
}

TEST_F(streamed_file, none_and_options) {
  EXPECT_THROW(cache_type("no such folder/file.kv"), std::runtime_error);
  expect_bad_file([] { cache_type("no such file.kv"); },
                  "no such file.kv can not be opened: No such file or directory");
  expect_refused([&] { cache_type(file.path(), {.resident_bytes = least - 1}); },
                 "a streamed cache's resident_bytes are 33554431, fewer than 33554432");
  expect_refused([&] { cache_type(file.path(), {.read_ahead = -1}); },
                 "a streamed cache's read_ahead is -1, below 0");
  const cache_type cache(file.path());
  Matrix q = normal(2, heads * dim, 3), o = Matrix::Constant(2, heads * dim, 7);
  expect_refused([&] { attend.into(o, Matrix(normal(count + 1, heads * dim, 3)), cache, fovea::causal); },
                 {"38", "37"});
  expect_refused([&] { attend.into(o, Matrix(normal(2, heads * (dim + 1), 3)), cache); }, {"5", "4"});
  EXPECT_EQ(o, Matrix::Constant(2, heads * dim, 7));
}

TEST_F(streamed_file, writers_arguments) {
  using writer_type = fovea::cache_writer<std::int8_t, kv_heads>;
  const std::string before = file.bytes();
  expect_refused([&] { writer_type(file.path(), 0, dim); },
                 "a cache's capacity (tokens a page) is 0, not above 0");
  expect_refused([&] { writer_type(file.path(), 9, dim, {.heads = 3}); },
                 "a cache has 3 heads, but its type says 2");
  expect_refused([&] { writer_type(file.path(), 9, dim, {.block_tokens = 0}); },
                 "a cache_writer's block_tokens are 0, not above 0");
  EXPECT_EQ(file.bytes(), before);
  expect_bad_file([] { writer_type("no such folder/file.kv", 9, dim); },
                  "no such folder/file.kv can not be opened to be written");

  writer_type writer(file.path(), 40, dim, {.block_tokens = 32});
  const auto append = [&](index_type first, index_type n) {
    writer.append(Matrix(text.k.middleRows(first, n)), Matrix(text.v.middleRows(first, n)));
  };
  append(0, 35);
  EXPECT_THROW(cache_type(file.path()), std::runtime_error);  // no header yet
  expect_refused([&] { append(35, 6); }, "the file has room for 5 tokens of 40, not for 6");
  Matrix k = text.k.middleRows(35, 2), v = text.v.middleRows(35, 2), wide(2, kv_heads * (dim + 1));
  expect_refused([&] { writer.append(wide, v); }, "k has 5 dimensions a head but the cache has 4");
  k(1, 2) = std::numeric_limits<float>::infinity();
  expect_refused([&] { writer.append(k, v); }, "k of token 1, head 0 is inf, which int8 can not store");
  EXPECT_EQ(writer.tokens(), 35);
  append(35, 2);
  writer.finish();
  EXPECT_EQ(file.bytes() == good, true);
  expect_refused([&] { append(37, 1); }, "the writer's file " + file.path() + " is finished");
  expect_refused([&] { writer.finish(); }, "the writer's file " + file.path() + " is finished");
}

/// A disk that is full.
TEST(streamed_writer, of_a_file_that_can_not_be_written) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const tokens<float> text(64, dim, dim, 1);
  fovea::cache_writer<float, kv_heads> writer("/dev/full", 64, dim);
  try {
    writer.append(text.k, text.v);
    writer.finish();
    ADD_FAILURE() << "written";
  } catch (const std::runtime_error& e) {
    EXPECT_TRUE(has_words(e.what(), "the file /dev/full could not be written at byte")) << e.what();
  }
}

/// Far fewer tokens than there is room for, keys still open, the end near a multiple of 2 MiB.
TEST(streamed_writer, far_below_its_capacity) {
  constexpr index_type width = 128;
  const temporary_file file("short");
  const Matrix text = normal(7597, width, 5);
  for (const index_type n : {7570, 7590, 7597}) {
    fovea::cache_writer<std::int8_t> writer(file.path(), 100000, width, {.heads = 1});
    fovea::kv_cache<std::int8_t> cache(8000, width, {.heads = 1});
    writer.append(Matrix(text.topRows(n)), Matrix(text.bottomRows(n)));
    cache.append(Matrix(text.topRows(n)), Matrix(text.bottomRows(n)));
    writer.finish();
    std::ostringstream expected;
    cache.save(expected);
    EXPECT_EQ(file.bytes() == expected.str(), true) << n << " tokens";
  }
}

#if defined(__linux__)
/// Large pages are a hint: a file of more bytes than there are addresses for is written as any other.
TEST(streamed_writer, of_a_file_that_can_not_be_mapped) {
  using writer_type = fovea::cache_writer<float, kv_heads>;
  const temporary_file file("unmapped");
  const tokens<float> text(64, dim, dim, 1);
  constexpr index_type capacity = index_type(1) << 30;  // 64 GiB
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &limit), 0);
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = std::min(before, rlim_t(1) << 35);
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  EXPECT_NO_THROW({
    writer_type writer(file.path(), capacity, dim);
    writer.append(text.k, text.v);
    writer.finish();
  });
  limit.rlim_cur = before;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  EXPECT_EQ((fovea::streamed_cache<float, kv_heads>(file.path()).tokens()), 64);
}

/// In a file system of the memory's a touch of what was not written takes room.
TEST(streamed_writer, takes_no_room_of_a_memory_disk) {
  struct statfs disk;
  if (::statfs("/dev/shm", &disk) != 0 || disk.f_type != 0x01021994) GTEST_SKIP() << "no tmpfs";
  const std::string path = "/dev/shm/fovea_streamed_" + std::to_string(getpid());
  std::ofstream(path).close();
  constexpr index_type bytes = index_type(4) << 20;
  fovea::streaming::large_pages(path, bytes).before_write({0, bytes});
  struct stat status;
  const int answer = ::stat(path.c_str(), &status);
  std::filesystem::remove(path);
  ASSERT_EQ(answer, 0);
  EXPECT_EQ(status.st_blocks, 0);
}
#endif

}  // namespace file_errors_test
}  // namespace fovea_test
