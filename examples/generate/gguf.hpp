// gguf.hpp - models in the GGUF format, version 3: metadata, and tensors of F32, F16, Q8_0 and Q4_1 numbers.
// (The format: ggml's docs/gguf.md; blocks of 32 numbers: Q8_0 is an fp16 scale and 32 signed bytes, Q4_1 an
// fp16 scale, an fp16 minimum and 32 four-bit numbers, the low halves first.)
#pragma once

#include <fovea/element.hpp>

#include <Eigen/Core>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace generate {

/// What is wrong with a file or an argument, in words for the user.
struct input_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class gguf {
 public:
  explicit gguf(const std::filesystem::path& path) : path_(path) {
    std::ifstream stream(path, std::ios::binary | std::ios::ate);
    if (!stream) throw input_error("cannot open " + path.string());
    bytes_.resize(static_cast<std::size_t>(stream.tellg()));
    stream.seekg(0).read(reinterpret_cast<char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
    if (!stream) throw input_error("cannot read " + path.string());
    read_header();
  }

  /// A value of the metadata. Throws input_error where there is none or it is of another kind.
  std::int64_t integer(const std::string& key) const { return get<std::int64_t>(key, "an integer"); }
  double number(const std::string& key) const { return get<double>(key, "a number"); }
  const std::string& text(const std::string& key) const { return get<std::string>(key, "a text"); }
  const std::vector<std::string>& texts(const std::string& key) const {
    return get<std::vector<std::string>>(key, "a list of texts");
  }
  const std::vector<std::int64_t>& integers(const std::string& key) const {
    return get<std::vector<std::int64_t>>(key, "a list of integers");
  }
  bool has_tensor(const std::string& name) const { return tensors_.contains(name); }

  /// How many numbers all tensors have together.
  Eigen::Index numbers() const {
    Eigen::Index sum = 0;
    for (const auto& [name, t] : tensors_) sum += t.rows * t.columns;
    return sum;
  }

  /// Writes a tensor as float, rows x columns (one row for a vector); throws input_error where its shape
  /// differs.
  void tensor(const std::string& name, Eigen::Index rows, Eigen::Index columns, float* to) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail("has no tensor " + name);
    const entry& t = found->second;
    if (t.columns != columns || t.rows != rows)
      fail("has a tensor " + name + " of " + std::to_string(t.rows) + " x " + std::to_string(t.columns) +
           ", not " + std::to_string(rows) + " x " + std::to_string(columns));
    convert(t, to, static_cast<std::size_t>(rows * columns));
  }

 private:
  struct entry {
    Eigen::Index rows, columns;
    std::uint32_t type;
    std::size_t offset;
  };
  using value = std::variant<std::int64_t, double, std::string, std::vector<std::string>,
                             std::vector<std::int64_t>, std::vector<double>>;

  [[noreturn]] void fail(const std::string& what) const { throw input_error(path_.string() + " " + what); }

  template <class V>
  const V& get(const std::string& key, const char* kind) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end()) fail("has no metadata " + key);
    const V* v = std::get_if<V>(&found->second);
    if (v == nullptr) fail("has metadata " + key + " that is not " + kind);
    return *v;
  }

  template <class N>
  N take() {
    if (bytes_.size() - at_ < sizeof(N)) fail("ends early, at byte " + std::to_string(bytes_.size()));
    N n;
    std::memcpy(&n, bytes_.data() + at_, sizeof n);
    at_ += sizeof n;
    return n;
  }
  std::string take_text() {
    const auto size = take<std::uint64_t>();
    if (bytes_.size() - at_ < size) fail("ends early, at byte " + std::to_string(bytes_.size()));
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + at_, size);
    at_ += size;
    return text;
  }

  std::int64_t take_integer(std::uint32_t type) {
    switch (type) {
      case 0:
        return take<std::uint8_t>();
      case 1:
        return take<std::int8_t>();
      case 2:
        return take<std::uint16_t>();
      case 3:
        return take<std::int16_t>();
      case 4:
        return take<std::uint32_t>();
      case 5:
        return take<std::int32_t>();
      case 7:
        return take<std::uint8_t>() != 0;
      case 10:
        return static_cast<std::int64_t>(take<std::uint64_t>());
      case 11:
        return take<std::int64_t>();
      default:
        fail("has metadata of unknown type " + std::to_string(type));
    }
  }
  double take_number(std::uint32_t type) { return type == 6 ? take<float>() : take<double>(); }
  static bool is_number(std::uint32_t type) { return type == 6 || type == 12; }

  value take_value() {
    const auto type = take<std::uint32_t>();
    if (type == 8) return take_text();
    if (is_number(type)) return take_number(type);
    if (type != 9) return take_integer(type);
    const auto element = take<std::uint32_t>();
    const auto count = take<std::uint64_t>();
    if (count > bytes_.size()) fail("has a list of " + std::to_string(count) + " elements");
    const auto list = [&]<class V>(std::vector<V> all, const auto& one) {
      all.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) all.push_back(one());
      return value(std::move(all));
    };
    if (element == 8) return list(std::vector<std::string>{}, [&] { return take_text(); });
    if (is_number(element)) return list(std::vector<double>{}, [&] { return take_number(element); });
    return list(std::vector<std::int64_t>{}, [&] { return take_integer(element); });
  }

  void read_header() {
    if (bytes_.size() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) fail("is not a GGUF file");
    at_ = 4;
    if (const auto version = take<std::uint32_t>(); version != 3)
      fail("is GGUF version " + std::to_string(version) + ", not 3");
    const auto tensors = take<std::uint64_t>(), pairs = take<std::uint64_t>();
    for (std::uint64_t i = 0; i < pairs; ++i) {
      std::string key = take_text();
      metadata_.insert_or_assign(std::move(key), take_value());
    }
    for (std::uint64_t i = 0; i < tensors; ++i) {
      const std::string name = take_text();
      const auto dimensions = take<std::uint32_t>();
      if (dimensions < 1 || dimensions > 2)
        fail("has a tensor " + name + " of " + std::to_string(dimensions) + " dimensions");
      entry t{1, 0, 0, 0};
      t.columns = size_of(name);
      if (dimensions == 2) t.rows = size_of(name);
      t.type = take<std::uint32_t>();
      t.offset = take<std::uint64_t>();
      tensors_.emplace(name, t);
    }
    const std::size_t alignment =
        metadata_.contains("general.alignment") ? static_cast<std::size_t>(integer("general.alignment")) : 32;
    if (alignment == 0) fail("has an alignment of 0");
    const std::size_t data = (at_ + alignment - 1) / alignment * alignment;
    for (auto& [name, t] : tensors_) {
      const std::size_t size = stored_bytes(name, t);
      if (data > bytes_.size() || t.offset > bytes_.size() - data || bytes_.size() - data - t.offset < size)
        fail("ends early: the tensor " + name + " needs " + std::to_string(size) + " bytes");
      t.offset += data;
    }
  }
  Eigen::Index size_of(const std::string& name) {
    const auto size = take<std::uint64_t>();
    if (size == 0 || size > (1u << 30))
      fail("has a tensor " + name + " with a size of " + std::to_string(size));
    return static_cast<Eigen::Index>(size);
  }

  static constexpr std::uint32_t f32 = 0, f16 = 1, q4_1 = 3, q8_0 = 8;
  static constexpr std::size_t block = 32;

  std::size_t stored_bytes(const std::string& name, const entry& t) const {
    const std::size_t count = static_cast<std::size_t>(t.rows) * static_cast<std::size_t>(t.columns);
    if (t.type == f32) return 4 * count;
    if (t.type == f16) return 2 * count;
    if (t.type != q4_1 && t.type != q8_0)
      fail("has a tensor " + name + " of type " + std::to_string(t.type) + "; read are F32, F16, Q8_0, Q4_1");
    if (static_cast<std::size_t>(t.columns) % block != 0)
      fail("has a tensor " + name + " of " + std::to_string(t.columns) + " columns, not a multiple of 32");
    return count / block * (t.type == q4_1 ? 20 : 34);
  }

  static float half_at(const std::byte* from) {
    fovea::fp16 h;
    std::memcpy(&h.bits, from, sizeof h.bits);
    return h;
  }

  void convert(const entry& t, float* to, std::size_t count) const {
    const std::byte* from = bytes_.data() + t.offset;
    if (t.type == f32) {
      std::memcpy(to, from, 4 * count);
    } else if (t.type == f16) {
      for (std::size_t i = 0; i < count; ++i) to[i] = half_at(from + 2 * i);
    } else if (t.type == q8_0) {
      for (std::size_t b = 0; b < count / block; ++b, from += 34)
        for (std::size_t i = 0; i < block; ++i)
          *to++ = half_at(from) * static_cast<float>(static_cast<std::int8_t>(from[2 + i]));
    } else {
      for (std::size_t b = 0; b < count / block; ++b, from += 20, to += block)
        for (std::size_t i = 0; i < block / 2; ++i) {
          const float scale = half_at(from), least = half_at(from + 2);
          const auto pair = std::to_integer<unsigned>(from[4 + i]);
          to[i] = scale * static_cast<float>(pair & 15u) + least;
          to[i + block / 2] = scale * static_cast<float>(pair >> 4) + least;
        }
    }
  }

  std::filesystem::path path_;
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
  std::map<std::string, value> metadata_;
  std::map<std::string, entry> tensors_;
};

}  // namespace generate
