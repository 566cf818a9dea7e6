// gguf.hpp - models in the GGUF format, version 3: metadata, and tensors as float (ggml's docs/gguf.md).
#pragma once

#include "input_error.hpp"
#include "tensor_types.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

namespace generate {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class gguf {
 public:
  explicit gguf(const std::filesystem::path& path) : path_(path) {
    std::ifstream stream(path, std::ios::binary);
    std::error_code failed;
    const auto size = std::filesystem::file_size(path, failed);
    if (!stream || failed) throw input_error("cannot open " + path.string());
    with_memory_for(path.string() + "'s contents", static_cast<double>(size), [&] { bytes_.resize(size); });
    if (!stream.read(reinterpret_cast<char*>(bytes_.data()), static_cast<std::streamsize>(size)))
      throw input_error("cannot read " + path.string());
    read_header();
  }

  [[noreturn]] void fail(const std::string& what) const { throw input_error(path_.string() + " " + what); }

  bool has(const std::string& key) const { return metadata_.contains(key); }
  /// A value of the metadata. Throws input_error where there is none or it is of another kind.
  std::int64_t integer(const std::string& key) const { return get<std::int64_t>(key, "an integer"); }
  double number(const std::string& key) const { return get<double>(key, "a number"); }
  bool flag(const std::string& key) const { return get<bool>(key, "true or false"); }
  const std::string& text(const std::string& key) const { return get<std::string>(key, "a text"); }
  const std::vector<std::string>& texts(const std::string& key) const {
    return get<std::vector<std::string>>(key, "a list of texts");
  }
  const std::vector<std::int64_t>& integers(const std::string& key) const {
    return get<std::vector<std::int64_t>>(key, "a list of integers");
  }

  /// Throws input_error: what `key` says is not done here, and what is.
  [[noreturn]] void refuse(const std::string& key, const std::string& instead) const {
    fail("has metadata " + key + " = " + shown(key) + "; " + instead);
  }
  /// Refuses metadata that starts with `prefix` and is not among `known`: it may change what is computed.
  void refuse_others(std::string_view prefix, std::span<const std::string_view> known) const {
    for (const auto& [key, v] : metadata_)
      if (key.starts_with(prefix) &&
          std::ranges::find(known, std::string_view(key).substr(prefix.size())) == known.end())
        refuse(key, "generate does not know what that changes");
  }

  bool has_tensor(const std::string& name) const { return tensors_.contains(name); }
  std::vector<std::string> tensor_names() const {
    std::vector<std::string> names;
    for (const auto& [name, t] : tensors_) names.push_back(name);
    return names;
  }
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
    tensor_types::convert(t.type, bytes_.data() + t.offset, to, static_cast<std::size_t>(rows * columns));
  }

 private:
  struct entry {
    Eigen::Index rows, columns;
    std::uint32_t type;
    std::size_t offset, bytes;
  };
  using value = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>,
                             std::vector<std::int64_t>, std::vector<double>>;

  template <class V>
  const V& get(const std::string& key, const char* kind) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end()) fail("has no metadata " + key);
    const V* v = std::get_if<V>(&found->second);
    if (v == nullptr) fail("has metadata " + key + " = " + shown(key) + ", not " + kind);
    return *v;
  }
  std::string shown(const std::string& key) const {
    const value& v = metadata_.at(key);
    if (const auto* b = std::get_if<bool>(&v)) return *b ? "true" : "false";
    if (const auto* n = std::get_if<std::int64_t>(&v)) return std::to_string(*n);
    if (const auto* s = std::get_if<std::string>(&v)) return '"' + s->substr(0, 60) + '"';
    if (const auto* x = std::get_if<double>(&v)) {
      char text[32];
      std::snprintf(text, sizeof text, "%g", *x);
      return text;
    }
    return "a list";
  }

  std::size_t left() const { return bytes_.size() - at_; }
  [[noreturn]] void ends_early() const { fail("ends early, at byte " + std::to_string(bytes_.size())); }
  template <class N>
  N take() {
    if (left() < sizeof(N)) ends_early();
    N n;
    std::memcpy(&n, bytes_.data() + at_, sizeof n);
    at_ += sizeof n;
    return n;
  }
  std::string take_text() {
    const auto size = take<std::uint64_t>();
    if (left() < size) ends_early();
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + at_, size);
    at_ += size;
    return text;
  }

  std::int64_t take_integer(std::uint32_t type, const std::string& key) {
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
      case 7: {
        const auto byte = take<std::uint8_t>();
        if (byte > 1) fail("has metadata " + key + " with a truth value of " + std::to_string(byte));
        return byte;
      }
      case 10: {
        const auto n = take<std::uint64_t>();
        if (n > std::uint64_t(std::numeric_limits<std::int64_t>::max()))
          fail("has metadata " + key + " with " + std::to_string(n) + ", above 2^63 - 1");
        return static_cast<std::int64_t>(n);
      }
      case 11:
        return take<std::int64_t>();
      default:
        fail("has metadata " + key + " of unknown type " + std::to_string(type));
    }
  }
  double take_number(std::uint32_t type) {
    return type == 6 ? static_cast<double>(take<float>()) : take<double>();
  }
  static bool is_number(std::uint32_t type) { return type == 6 || type == 12; }

  value take_value(const std::string& key) {
    const auto type = take<std::uint32_t>();
    if (type == 8) return take_text();
    if (type == 7) return take_integer(type, key) != 0;
    if (is_number(type)) return take_number(type);
    if (type != 9) return take_integer(type, key);
    const auto element = take<std::uint32_t>();
    const auto count = take<std::uint64_t>();
    const auto list = [&]<class V>(std::vector<V> all, std::size_t least_bytes, const auto& one) {
      if (count > left() / least_bytes) ends_early();
      all.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) all.push_back(one());
      return value(std::move(all));
    };
    if (element == 8) return list(std::vector<std::string>{}, 8, [&] { return take_text(); });
    if (is_number(element)) return list(std::vector<double>{}, 4, [&] { return take_number(element); });
    return list(std::vector<std::int64_t>{}, 1, [&] { return take_integer(element, key); });
  }

  void read_header() {
    if (bytes_.size() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) fail("is not a GGUF file");
    at_ = 4;
    if (const auto version = take<std::uint32_t>(); version != 3)
      fail("is GGUF version " + std::to_string(version) + ", not 3");
    const auto tensors = take<std::uint64_t>(), pairs = take<std::uint64_t>();
    for (std::uint64_t i = 0; i < pairs; ++i) {
      const std::string key = take_text();
      if (!metadata_.emplace(key, take_value(key)).second) fail("has metadata " + key + " twice");
    }
    for (std::uint64_t i = 0; i < tensors; ++i) {
      const std::string name = take_text();
      const auto dimensions = take<std::uint32_t>();
      if (dimensions < 1 || dimensions > 2)
        fail("has a tensor " + name + " of " + std::to_string(dimensions) + " dimensions");
      entry t{1, 0, 0, 0, 0};
      t.columns = size_of(name);
      if (dimensions == 2) t.rows = size_of(name);
      t.type = take<std::uint32_t>();
      t.offset = take<std::uint64_t>();
      t.bytes = stored_bytes(name, t);
      if (!tensors_.emplace(name, t).second) fail("has a tensor " + name + " twice");
    }
    place_tensors();
  }
  Eigen::Index size_of(const std::string& name) {
    const auto size = take<std::uint64_t>();
    if (size == 0 || size > (1u << 30))
      fail("has a tensor " + name + " with a size of " + std::to_string(size));
    return static_cast<Eigen::Index>(size);
  }
  /// At most 2^62: sizes are at most 2^30.
  std::size_t stored_bytes(const std::string& name, const entry& t) const {
    const auto [count, bytes] = tensor_types::of(t.type);
    if (count == 0)
      fail("has a tensor " + name + " of type " + tensor_types::name(t.type) +
           "; read are F32, F16, BF16, Q8_0, Q4_1");
    if (static_cast<std::size_t>(t.columns) % count != 0)
      fail("has a tensor " + name + " of " + std::to_string(t.columns) + " columns, not a multiple of " +
           std::to_string(count));
    return static_cast<std::size_t>(t.columns) / count * static_cast<std::size_t>(t.rows) * bytes;
  }

  /// The tensors lie one after another, each at a multiple of the alignment, and nothing else does.
  void place_tensors() {
    const std::int64_t alignment = has("general.alignment") ? integer("general.alignment") : 32;
    if (alignment < 8 || alignment > 1 << 30 || alignment % 8 != 0)
      refuse("general.alignment", "it is a multiple of 8");
    const auto step = static_cast<std::size_t>(alignment);
    const std::size_t data = (at_ + step - 1) / step * step;
    std::vector<std::pair<const std::string, entry>*> by_offset;
    for (auto& tensor : tensors_) by_offset.push_back(&tensor);
    std::ranges::sort(by_offset, {}, [](const auto* tensor) { return tensor->second.offset; });
    std::size_t covered = 0;  // bytes of the data
    for (auto* tensor : by_offset) {
      auto& [name, t] = *tensor;
      if (data > bytes_.size() || t.offset > bytes_.size() - data ||
          bytes_.size() - data - t.offset < t.bytes)
        fail("ends early: the tensor " + name + " needs " + std::to_string(t.bytes) + " bytes from byte " +
             std::to_string(t.offset) + " of its data");
      if (t.offset % step != 0)
        fail("has a tensor " + name + " at byte " + std::to_string(t.offset) +
             " of its data, not a multiple of its alignment of " + std::to_string(step));
      if (t.offset < covered)
        fail("has a tensor " + name + " at byte " + std::to_string(t.offset) +
             " of its data, where another one lies");
      if (t.offset - covered >= step) uncovered(covered, t.offset);
      covered = t.offset + t.bytes;
      t.offset += data;
    }
    if (bytes_.size() > data && bytes_.size() - data - covered >= step)
      uncovered(covered, bytes_.size() - data);
  }
  [[noreturn]] void uncovered(std::size_t first, std::size_t last) const {
    fail("has bytes " + std::to_string(first) + " to " + std::to_string(last) + " of its data in no tensor");
  }

  std::filesystem::path path_;
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
  std::map<std::string, value> metadata_;
  std::map<std::string, entry> tensors_;
};

}  // namespace generate
