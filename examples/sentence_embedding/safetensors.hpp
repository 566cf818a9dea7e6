// Reads a .safetensors file: a JSON header (names, dtypes, shapes, byte ranges) and one block of bytes.
#pragma once

#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace embedding {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Bad input: the message names the file and what is wrong in it.
struct input_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class safetensors {
 public:
  explicit safetensors(const std::filesystem::path& path) : path_(path.string()) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw input_error("cannot open " + path_);
    std::error_code failed;
    const std::uint64_t size = std::filesystem::file_size(path, failed);
    unsigned char length[8];
    if (failed || !stream.read(reinterpret_cast<char*>(length), 8))
      throw input_error(path_ + " is shorter than 8 bytes");
    std::uint64_t header_size = 0;
    for (int i = 7; i >= 0; --i) header_size = header_size << 8 | length[i];
    if (header_size > size - 8)
      throw input_error(path_ + " is truncated: its header has " + std::to_string(header_size) +
                        " bytes, the file " + std::to_string(size));
    std::string header(header_size, ' ');
    stream.read(header.data(), static_cast<std::streamsize>(header_size));
    header_ = nlohmann::json::parse(header, nullptr, false);
    if (!header_.is_object()) throw input_error(path_ + " has a header that is no JSON object");
    bytes_.resize(size - 8 - header_size);
    if (!stream.read(bytes_.data(), static_cast<std::streamsize>(bytes_.size())))
      throw input_error(path_ + " can not be read");
  }

  /// A float32 tensor of the expected shape; a vector is one row.
  Matrix matrix(const std::string& name, Eigen::Index rows, Eigen::Index cols) const {
    const auto& entry = find(name);
    const auto shape = entry.at("shape").get<std::vector<std::int64_t>>();
    const std::vector<std::int64_t> as_matrix{rows, cols}, as_vector{cols};
    if (shape != as_matrix && !(rows == 1 && shape == as_vector))
      throw input_error(path_ + ": " + name + " has shape " + nlohmann::json(shape).dump() + ", expected " +
                        nlohmann::json(as_matrix).dump());
    if (entry.at("dtype") != "F32")
      throw input_error(path_ + ": " + name + " is " + entry.at("dtype").dump() + ", expected F32");
    const auto range = entry.at("data_offsets").get<std::vector<std::uint64_t>>();
    const std::uint64_t wanted = static_cast<std::uint64_t>(rows * cols) * sizeof(float);
    if (range.size() != 2 || range[0] > range[1] || range[1] - range[0] != wanted)
      throw input_error(path_ + ": " + name + " has the byte range " + entry.at("data_offsets").dump() +
                        " for " + std::to_string(wanted) + " bytes");
    if (range[1] > bytes_.size())
      throw input_error(path_ + " is truncated: " + name + " ends at byte " + std::to_string(range[1]) +
                        " of " + std::to_string(bytes_.size()));
    Matrix m(rows, cols);
    std::memcpy(m.data(), bytes_.data() + range[0], wanted);
    return m;
  }

 private:
  const nlohmann::json& find(const std::string& name) const {
    const auto at = header_.find(name);
    if (at == header_.end()) throw input_error(path_ + " has no tensor " + name);
    if (!at->is_object() || !at->contains("shape") || !at->contains("dtype") || !at->contains("data_offsets"))
      throw input_error(path_ + ": the record of " + name + " is damaged");
    try {
      at->at("shape").get<std::vector<std::int64_t>>(),
          at->at("data_offsets").get<std::vector<std::uint64_t>>();
    } catch (const nlohmann::json::exception&) {
      throw input_error(path_ + ": the record of " + name + " is damaged");
    }
    return *at;
  }

  std::string path_;
  nlohmann::json header_;
  std::vector<char> bytes_;
};

}  // namespace embedding
