// Files that are cut, damaged or made up: refused, and never read beyond their end; files that are shown
// are only read.
#include <fovea/kv_cache/q4.hpp>

#include "support.hpp"

#include "../support/allocations.hpp"
#include "../support/refusal.hpp"

#include <cstring>
#include <functional>
#include <memory>
#include <sstream>

namespace fovea_test {
namespace file_test {

constexpr index_type dim = 4, count = 37;
const tokens<float> text(100, dim, dim, 1);

/// Bytes at an address of one's choice, the last of them right before memory that is not theirs (which
/// address sanitizer tells).
class file_bytes {
 public:
  explicit file_bytes(const std::string& bytes, std::size_t offset = 0)
      : size_(bytes.size()), offset_(offset), memory_(new(std::align_val_t(64)) char[offset + bytes.size()]) {
    std::memcpy(memory_.get() + offset, bytes.data(), bytes.size());
  }
  std::span<const std::byte> span() const {
    return std::as_bytes(std::span<const char>(memory_.get() + offset_, size_));
  }

 private:
  struct release {
    void operator()(char* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  std::size_t size_, offset_;
  std::unique_ptr<char[], release> memory_;
};

template <class E>
class file_checks : public testing::Test {
 protected:
  using cache_type = fovea::kv_cache<E, kv_heads>;
  cache_type cache{count, dim};
  std::string file;
  numbers all;

  file_checks() {
    cache.append(Matrix(text.k.topRows(count)), Matrix(text.v.topRows(count)));
    std::ostringstream out;
    cache.save(out);
    file = out.str(), all = numbers_of(cache);
  }
  bool loads(const std::string& bytes) {
    std::istringstream in(bytes);
    try {
      cache.load(in);
      return true;
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(std::string(e.what()).rfind("fovea: the file ", 0), 0u) << e.what();
      EXPECT_EQ(numbers_of(cache), all);
      return false;
    }
  }
  static bool shows(const std::string& bytes, fovea::file_check check = fovea::file_check::whole) {
    const file_bytes at(bytes);
    try {
      const auto shown = cache_type::over(at.span(), check);
      static_cast<void>(numbers_of(shown));
      return true;
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(std::string(e.what()).rfind("fovea: the file ", 0), 0u) << e.what();
      return false;
    }
  }
};
using elements = testing::Types<float, std::int8_t>;
TYPED_TEST_SUITE(file_checks, elements);

TYPED_TEST(file_checks, cut_anywhere) {
  for (std::size_t n = 0; n < this->file.size(); ++n) {
    ASSERT_FALSE(this->loads(this->file.substr(0, n))) << n;
    ASSERT_FALSE(this->shows(this->file.substr(0, n))) << n;
    ASSERT_FALSE(this->shows(this->file.substr(0, n), fovea::file_check::header)) << n;
  }
  EXPECT_TRUE(this->loads(this->file));
  EXPECT_TRUE(this->shows(this->file));
  EXPECT_FALSE(this->shows(this->file + "x"));  // what stands behind a file is not a stream's end
  EXPECT_TRUE(this->loads(this->file + "x"));
}

TYPED_TEST(file_checks, damaged_anywhere) {
  for (std::size_t i = 0; i < this->file.size(); ++i)
    for (const char bit : {1, 64}) {
      std::string damaged = this->file;
      damaged[i] = static_cast<char>(damaged[i] ^ bit);
      ASSERT_FALSE(this->loads(damaged)) << i;
      ASSERT_FALSE(this->shows(damaged)) << i;
      ASSERT_EQ(this->shows(damaged, fovea::file_check::header), i >= sizeof(fovea::caching::file_header))
          << i;
    }
}

/// A header that is not damaged, but says what no file is.
TYPED_TEST(file_checks, made_up) {
  using fovea::caching::file_header;
  int tried = 0;
  const auto refused = [&](const auto& change) {
    file_header h;
    std::memcpy(&h, this->file.data(), sizeof h);
    change(h);
    h.header_sum = fovea::caching::sum_of_header(h);
    std::string made_up = this->file;
    std::memcpy(made_up.data(), &h, sizeof h);
    EXPECT_FALSE(this->loads(made_up)) << tried;
    EXPECT_FALSE(this->shows(made_up)) << tried;
    EXPECT_FALSE(this->shows(made_up, fovea::file_check::header)) << tried;
    ++tried;
  };
  const index_type two60 = index_type(1) << 60, largest = std::numeric_limits<index_type>::max();
  for (const index_type size : {two60, two60 + count, 4 * two60 + count, largest, -1 - largest,
                                index_type(-1), index_type(0), count + 9, count - 9, index_type(1) << 32}) {
    refused([&](file_header& h) { h.tokens = size; });
    refused([&](file_header& h) { h.heads = size; });
    refused([&](file_header& h) { h.dim = size; });
    refused([&](file_header& h) { h.value_dim = size; });
    refused([&](file_header& h) { h.dim = size, h.value_dim = ~size; });
    refused([&](file_header& h) { h.tokens = size, h.heads = two60; });
  }
  for (const std::uint32_t open : {1u, 4u, 6u, 32u, 33u, 37u, 0xffffffffu})
    refused([&](file_header& h) { h.open_tokens = open; });
  refused([&](file_header& h) { h.key_element = 9; }), refused([&](file_header& h) { h.value_element = 0; });
  EXPECT_EQ(tried, 69);
}

TYPED_TEST(file_checks, shown_is_read_only) {
  const file_bytes at(this->file);
  auto shown = TestFixture::cache_type::over(at.span());  // not const: nothing may be written all the same
  const Matrix k = text.k.topRows(1), v = text.v.topRows(1);
  shown.truncate(30);
  std::istringstream in(this->file);
  for (const auto& write : std::vector<std::function<void()>>{[&] { shown.append(k, v); },
                                                              [&] {
                                                                shown.keep(std::vector<index_type>{0, 2});
                                                              },
                                                              [&] { shown.load(in); }})
    expect_refused(write, {"shows the bytes of a file: it can only be read"});
  EXPECT_EQ(std::memcmp(at.span().data(), this->file.data(), this->file.size()), 0);
  numbers first = this->all;
  first.k.conservativeResize(30, Eigen::NoChange), first.v.conservativeResize(30, Eigen::NoChange);
  EXPECT_EQ(numbers_of(shown), first);
  shown.reserve(40);
  shown.append(k, v);
  EXPECT_EQ(shown.tokens(), 31);
  EXPECT_EQ(std::memcmp(at.span().data(), this->file.data(), this->file.size()), 0);
}

TYPED_TEST(file_checks, at_an_address_that_does_not_suit) {
  for (std::size_t offset = 1; offset < 4; ++offset) {
    const file_bytes at(this->file, offset);
    EXPECT_THROW(TestFixture::cache_type::over(at.span()), std::runtime_error) << offset;
  }
  EXPECT_EQ(numbers_of(TestFixture::cache_type::over(file_bytes(this->file, 4).span())).k.rows(), count);
}

/// A stream that throws; one that is far shorter than its header says.
TYPED_TEST(file_checks, of_streams) {
  std::istringstream short_one(this->file.substr(0, this->file.size() - 1));
  short_one.exceptions(std::ios::failbit | std::ios::badbit | std::ios::eofbit);
  EXPECT_THROW(this->cache.load(short_one), std::runtime_error);
  EXPECT_EQ(numbers_of(this->cache), this->all);
  std::ostringstream full;
  full.setstate(std::ios::badbit);
  EXPECT_THROW(this->cache.save(full), std::runtime_error);

  typename TestFixture::cache_type large(1 << 19, dim);
  std::string header = this->file;
  fovea::caching::file_header h;
  std::memcpy(&h, header.data(), sizeof h);
  h.tokens = 1 << 19, h.open_tokens = 0, h.header_sum = fovea::caching::sum_of_header(h);
  std::memcpy(header.data(), &h, sizeof h);
  std::istringstream in(header);
  const std::size_t before = allocations().bytes;
  EXPECT_THROW(large.load(in), std::runtime_error);
  EXPECT_LT(allocations().bytes - before, std::size_t(6) << 20);  // of 8 or 32 MB
}

TEST(q4, refuses_files_of_other_caches_damaged_and_cut_ones_and_stays_as_it_is) {
  const tokens<float> all(40, 20, 20, 5);
  fovea::q4_cache<kv_heads> cache(40, 20), other(40, 20), narrow(40, 16), brief(39, 20);
  append(cache, all.k, all.v, 0, 40), append(other, all.k, all.v, 0, 7);
  std::stringstream file;
  cache.save(file);
  const std::string whole = file.str();
  const auto before = numbers_of(other);
  const auto refused = [&](auto& to, std::string bytes, const char* says) {
    std::stringstream in(std::move(bytes));
    try {
      to.load(in);
      ADD_FAILURE() << "loaded; expected: " << says;
    } catch (const std::runtime_error& e) {
      EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << e.what();
    }
  };
  refused(narrow, whole, "dim 20"), refused(brief, whole, "40 tokens");
  for (std::size_t i = 0; i < whole.size(); i += 13) {
    std::string damaged = whole;
    damaged[i] ^= 4;
    refused(other, damaged, "");
    refused(other, whole.substr(0, i), "");
  }
  std::stringstream int8;
  fovea::kv_cache<std::int8_t, kv_heads> of_int8(40, 20);
  of_int8.append(all.k, all.v), of_int8.save(int8);
  refused(other, int8.str(), "int8"), refused(of_int8, whole, "4 bits");
  EXPECT_EQ(numbers_of(other), before);
}

/// A file with right sums, of 40 tokens of 20 keys and 33 values a head: 32 keys of them are rounded.
struct made_up_file {
  std::string bytes;
  made_up_file() {
    const tokens<float> all(40, 20, 33, 5);
    fovea::q4_cache<kv_heads> cache(40, 20, {.value_dim = 33});
    append(cache, all.k, all.v, 0, 40);
    std::stringstream file;
    cache.save(file), bytes = file.str();
  }
  template <class X>
  std::string with(X x, std::size_t byte) const {
    std::string made_up = bytes;
    std::memcpy(made_up.data() + byte, &x, sizeof x);
    fovea::caching::file_header h;
    std::memcpy(&h, made_up.data(), sizeof h);
    h.payload_sum = fovea::caching::sum_of(std::as_bytes(std::span(made_up)).subspan(sizeof h));
    h.header_sum = fovea::caching::sum_of_header(h);
    std::memcpy(made_up.data(), &h, sizeof h);
    return made_up;
  }
};

TEST(q4, refuses_files_of_numbers_that_no_cache_has_and_stays_as_it_is) {
  const made_up_file file;
  // Of a head: 32 rows of 10 bytes, 20 scales, 8 open rows of 20 floats; 40 rows of 17 codes and 2
  // multiples, 40 scales.
  constexpr std::size_t codes = 64, scales = codes + 32 * 10, open = scales + 4 * 20,
                        second_open = open + 4 * 160 + (scales - codes) + 4 * 20,
                        values = second_open + 4 * 160, multiples = values + 17,
                        value_scales = values + 40 * 19;
  ASSERT_EQ(file.bytes.size(), values + 2 * 40 * (19 + 4));
  const tokens<float> all(40, 20, 33, 7);
  fovea::q4_cache<kv_heads> cache(40, 20, {.value_dim = 33});
  append(cache, all.k, all.v, 0, 7);
  const auto before = numbers_of(cache);
  const auto refused = [&](auto x, std::size_t byte, const char* says) {
    std::stringstream in(file.with(x, byte));
    try {
      cache.load(in);
      ADD_FAILURE() << "loaded; expected: " << says << " at byte " << byte;
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(std::string(e.what()).rfind("fovea: the file has what no cache has: ", 0), 0u) << e.what();
      EXPECT_TRUE(has_words(e.what(), says)) << e.what();
      EXPECT_TRUE(has_words(e.what(), "at byte " + std::to_string(byte))) << e.what();
    }
    EXPECT_EQ(numbers_of(cache), before);
  };
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const float x : {nan, inf, -inf}) {
    refused(x, open, "a key that is"), refused(x, open + 4 * 159, "a key that is");
    refused(x, second_open + 4 * 77, "a key that is");
  }
  for (const float x : {nan, inf, -1.f, 1e38f}) {
    refused(x, scales, "keys with the scale"), refused(x, scales + 4 * 19, "keys with the scale");
    refused(x, value_scales + 4 * 39, "values with the scale");
  }
  refused(4e36f, value_scales, "values with the scale");  // 112 times that is no float
  for (const int x : {0, 17, 255})
    for (const std::size_t byte : {multiples, multiples + 1, multiples + 39 * 19 + 1})
      refused(static_cast<std::uint8_t>(x), byte, "values with the multiple");
  refused(std::uint8_t(0x80), codes, "keys with the code 0");
  refused(std::uint8_t(0x08), codes + 319, "keys with the code 0");
  refused(std::uint8_t(0x08), values + 15, "values with the code 0");
  refused(std::uint8_t(0x80), values + 16, "values with the code 0");

  std::stringstream in(file.with(16.f, open));  // and what some cache may have is read
  cache.load(in);
  EXPECT_EQ(cache.tokens(), 40);
  cache.reserve(64), append(cache, all.k, all.v, 0, 24);
  EXPECT_TRUE(numbers_of(cache).k.allFinite());
}

}  // namespace file_test
}  // namespace fovea_test
