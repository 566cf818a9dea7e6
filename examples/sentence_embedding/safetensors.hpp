// Reads a .safetensors file: a JSON header (names, dtypes, shapes, byte ranges) and one block of bytes, which
// the tensors cover without holes or overlap (https://github.com/huggingface/safetensors, "Format").
#pragma once

#include "input_error.hpp"

#include <fovea/element.hpp>

#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <new>
#include <optional>
#include <set>
#include <vector>

namespace embedding {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class safetensors {
 public:
  explicit safetensors(const std::filesystem::path& path) : path_(path.string()) {
    std::ifstream stream(path, std::ios::binary);
    std::error_code failed;
    const std::uint64_t size = std::filesystem::file_size(path, failed);
    if (!stream || failed) throw input_error("cannot open " + path_);
    unsigned char length[8];
    if (!stream.read(reinterpret_cast<char*>(length), 8)) fail("is shorter than 8 bytes");
    std::uint64_t header_size = 0;
    for (int i = 7; i >= 0; --i) header_size = header_size << 8 | length[i];
    if (header_size > size - 8)
      fail("is truncated: its header has " + std::to_string(header_size) + " bytes, the file " +
           std::to_string(size));
    if (header_size > most_of_header)
      fail("has a header of " + std::to_string(header_size) + " bytes, more than " +
           std::to_string(most_of_header));
    const auto read = [&](auto& into, std::uint64_t bytes) {
      try {
        into.resize(bytes);
      } catch (const std::bad_alloc&) {
        fail("needs " + std::to_string(bytes) + " bytes of memory, more than can be had");
      }
      if (!stream.read(into.data(), static_cast<std::streamsize>(bytes))) fail("can not be read");
    };
    std::string header;
    read(header, header_size);
    read(bytes_, size - 8 - header_size);
    read_records(header);
    check_layout();
  }

  /// A float32 tensor of the expected shape; a vector is one row.
  Matrix matrix(const std::string& name, Eigen::Index rows, Eigen::Index cols) const {
    const record& r = find(name, rows, cols);
    if (r.dtype != "F32") fail_at(name, "is of dtype " + r.dtype + ", expected F32");
    Matrix m(rows, cols);
    std::memcpy(m.data(), bytes_.data() + r.first, static_cast<std::size_t>(m.size()) * sizeof(float));
    return m;
  }
  /// The same, or one of 16 bits a number, F16 or BF16, which float32 holds exactly.
  Matrix widened(const std::string& name, Eigen::Index rows, Eigen::Index cols) const {
    const record& r = find(name, rows, cols);
    if (r.dtype == "F16") return widened<fovea::fp16>(bytes_.data() + r.first, rows, cols);
    if (r.dtype == "BF16") return widened<fovea::bf16>(bytes_.data() + r.first, rows, cols);
    if (r.dtype != "F32") fail_at(name, "is of dtype " + r.dtype + ", expected F32, F16 or BF16");
    return matrix(name, rows, cols);
  }

  /// The names of tensors that nobody has asked for.
  std::vector<std::string> unread() const {
    std::vector<std::string> all;
    for (const auto& [name, r] : records_)
      if (!read_.contains(name)) all.push_back(name);
    return all;
  }
  [[noreturn]] void fail(const std::string& what) const { throw input_error(path_ + " " + what); }

 private:
  static constexpr std::uint64_t most_of_header = 100'000'000;

  struct record {
    std::string dtype;
    std::vector<std::uint64_t> shape;
    std::uint64_t first, last;  // bytes of the block
  };

  [[noreturn]] void fail_at(const std::string& name, const std::string& what) const {
    throw input_error(path_ + ": " + name + " " + what);
  }

  /// The record of a tensor that is rows x cols, or the vector that is its one row.
  const record& find(const std::string& name, Eigen::Index rows, Eigen::Index cols) const {
    const auto at = records_.find(name);
    if (at == records_.end()) fail("has no tensor " + name);
    read_.insert(name);
    const record& r = at->second;
    const std::vector<std::uint64_t> as_vector{static_cast<std::uint64_t>(cols)},
        as_matrix{static_cast<std::uint64_t>(rows), as_vector[0]};
    if (r.shape != as_matrix && !(rows == 1 && r.shape == as_vector))
      fail_at(name, "has shape " + nlohmann::json(r.shape).dump() + ", expected " +
                        nlohmann::json(as_matrix).dump());
    return r;
  }

  template <class E>
  static Matrix widened(const char* from, Eigen::Index rows, Eigen::Index cols) {
    Matrix m(rows, cols);
    for (Eigen::Index i = 0; i < m.size(); ++i) {
      E x;
      std::memcpy(&x.bits, from + 2 * i, 2);
      m.data()[i] = x;
    }
    return m;
  }

  /// Bits of an element; 0 where there is no such dtype.
  static std::uint64_t bits_of(const std::string& dtype) {
    static const std::map<std::string, std::uint64_t> bits{
        {"F64", 64},    {"F32", 32},    {"F16", 16},    {"BF16", 16},   {"I64", 64},
        {"I32", 32},    {"I16", 16},    {"I8", 8},      {"U64", 64},    {"U32", 32},
        {"U16", 16},    {"U8", 8},      {"BOOL", 8},    {"C64", 64},    {"F4", 4},
        {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}};
    const auto at = bits.find(dtype);
    return at == bits.end() ? 0 : at->second;
  }

  void read_records(const std::string& header) {
    // A JSON object that says a name twice keeps one of the two; which one is no matter of taste.
    std::vector<std::set<std::string>> keys;
    const auto watch = [&](int, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
      using enum nlohmann::json::parse_event_t;
      if (event == object_start || event == array_start) keys.emplace_back();
      if (event == object_end || event == array_end) keys.pop_back();
      if (keys.size() > 3) fail("has a header whose records are nested");
      if (event == key && !keys.back().insert(parsed.get<std::string>()).second)
        fail("has a header that says \"" + parsed.get<std::string>() + "\" twice");
      return true;
    };
    const auto json = header.starts_with('{') ? nlohmann::json::parse(header, watch, false)
                                              : nlohmann::json(nlohmann::json::value_t::discarded);
    if (!json.is_object()) fail("has a header that is no JSON object");
    for (const auto& [name, entry] : json.items()) {
      if (name != "__metadata__")
        records_.emplace(name, checked(name, entry));
      else if (!entry.is_object() || !std::ranges::all_of(entry, [](const auto& e) { return e.is_string(); }))
        fail("has a __metadata__ that is not texts by name");
    }
  }

  record checked(const std::string& name, const nlohmann::json& entry) const {
    const auto integers = [](const nlohmann::json& list) {
      return list.is_array() &&
             std::ranges::all_of(list, [](const auto& n) { return n.is_number_unsigned(); });
    };
    if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
        !entry.contains("shape") || !integers(entry["shape"]) || !entry.contains("data_offsets") ||
        !integers(entry["data_offsets"]) || entry["data_offsets"].size() != 2)
      throw input_error(path_ + ": the record of " + name + " is damaged: " + entry.dump().substr(0, 200));
    record r{entry["dtype"].get<std::string>(), entry["shape"].get<std::vector<std::uint64_t>>(),
             entry["data_offsets"][0].get<std::uint64_t>(), entry["data_offsets"][1].get<std::uint64_t>()};
    const std::uint64_t bits = bits_of(r.dtype);
    if (bits == 0) fail_at(name, "is of dtype " + r.dtype + ", which the format does not have");
    const auto wanted = bytes_of(r.shape, bits);
    if (!wanted) fail_at(name, "has shape " + entry["shape"].dump() + ", whose bytes no file holds");
    if (r.first > r.last || r.last - r.first != *wanted)
      fail_at(name, "has the byte range " + entry["data_offsets"].dump() + " for " + std::to_string(*wanted) +
                        " bytes");
    if (r.last > bytes_.size())
      fail("is truncated: " + name + " ends at byte " + std::to_string(r.last) + " of " +
           std::to_string(bytes_.size()));
    return r;
  }
  /// Nothing where the bits are beyond 64 bits' reach, or no whole bytes.
  static std::optional<std::uint64_t> bytes_of(const std::vector<std::uint64_t>& shape, std::uint64_t bits) {
    for (const std::uint64_t size : shape)
      if (__builtin_mul_overflow(bits, size, &bits)) return std::nullopt;
    return bits % 8 == 0 ? std::optional(bits / 8) : std::nullopt;
  }

  void check_layout() const {
    std::vector<const std::pair<const std::string, record>*> by_offset;
    for (const auto& r : records_) by_offset.push_back(&r);
    std::ranges::sort(by_offset, {},
                      [](const auto* r) { return std::pair(r->second.first, r->second.last); });
    std::uint64_t covered = 0;
    const std::string* before = nullptr;
    for (const auto* r : by_offset) {
      if (r->second.first < covered) fail_at(r->first, "shares bytes with " + *before);
      if (r->second.first > covered) uncovered(covered, r->second.first);
      covered = r->second.last, before = &r->first;
    }
    if (covered < bytes_.size()) uncovered(covered, bytes_.size());
  }
  [[noreturn]] void uncovered(std::uint64_t first, std::uint64_t last) const {
    fail("has bytes " + std::to_string(first) + " to " + std::to_string(last) + " in no tensor");
  }

  std::string path_;
  std::map<std::string, record> records_;
  mutable std::set<std::string> read_;
  std::vector<char> bytes_;
};

}  // namespace embedding
