// An ONNX operator case as plain files: case.txt and a raw little-endian row-major file a tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace onnx {

struct tensor_file {
  std::string name, dtype;
  std::vector<std::int64_t> shape;
  std::string file;
  std::vector<char> bytes;  // of inputs only

  std::int64_t count() const {
    std::int64_t n = 1;
    for (const auto size : shape) n *= size;
    return n;
  }
};

struct case_file {
  std::string name, op, domain;
  int opset = 0;
  std::map<std::string, std::int64_t> ints;
  std::map<std::string, double> floats;
  std::map<std::string, std::string> strings;
  std::vector<std::string> inputs, outputs;  // operands by name, "-" where absent
  std::map<std::size_t, tensor_file> in, out;

  std::int64_t int_or(const std::string& key, std::int64_t otherwise) const {
    const auto at = ints.find(key);
    return at == ints.end() ? otherwise : at->second;
  }
};

inline std::size_t bytes_of(const std::string& dtype) {
  static const std::map<std::string, std::size_t> sizes{
      {"float32", 4}, {"float64", 8}, {"float16", 2}, {"bfloat16", 2}, {"bool", 1},
      {"int64", 8},   {"int32", 4},   {"int16", 2},   {"int8", 1},     {"uint64", 8},
      {"uint32", 4},  {"uint16", 2},  {"uint8", 1}};
  const auto at = sizes.find(dtype);
  if (at == sizes.end()) throw std::runtime_error("dtype " + dtype + " is not known");
  return at->second;
}

inline std::vector<char> read_bytes(const std::filesystem::path& path, std::size_t count) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot open " + path.string());
  std::vector<char> bytes(count);
  stream.read(bytes.data(), static_cast<std::streamsize>(count));
  if (static_cast<std::size_t>(stream.gcount()) != count ||
      stream.peek() != std::ifstream::traits_type::eof())
    throw std::runtime_error(path.string() + " does not hold " + std::to_string(count) + " bytes");
  return bytes;
}

namespace detail {

inline tensor_file read_tensor(std::istringstream& line, std::size_t& index) {
  tensor_file t;
  std::size_t rank = 0;
  std::int64_t bytes = 0;
  line >> index >> t.name >> t.dtype >> rank;
  if (!line || rank > 8) throw std::runtime_error("a tensor record is damaged");
  t.shape.resize(rank);
  for (auto& size : t.shape) line >> size;
  line >> t.file >> bytes;
  if (!line) throw std::runtime_error("the record of tensor " + t.name + " is damaged");
  for (const auto size : t.shape)
    if (size < 0 || size > (std::int64_t(1) << 31))
      throw std::runtime_error("tensor " + t.name + " has a size of " + std::to_string(size));
  if (t.count() * static_cast<std::int64_t>(bytes_of(t.dtype)) != bytes)
    throw std::runtime_error("tensor " + t.name + " has " + std::to_string(bytes) + " bytes, its shape " +
                             std::to_string(t.count()) + " elements");
  return t;
}

inline void read_record(case_file& c, const std::string& text) {
  std::istringstream line(text);
  std::string kind, what, name, value;
  line >> kind;
  if (kind.empty()) return;
  if (kind == "case") {
    line >> c.name;
  } else if (kind == "op") {
    line >> c.op >> c.domain >> c.opset;
  } else if (kind == "attr") {
    line >> name >> what >> value;
    if (what == "int")
      c.ints[name] = std::stoll(value);
    else if (what == "float")
      c.floats[name] = std::stod(value);
    else if (what == "str")
      c.strings[name] = value;
    else
      throw std::runtime_error("attribute " + name + " has the unknown kind " + what);
  } else if (kind == "operands") {
    std::size_t count = 0;
    line >> what >> count;
    if (count > 64) throw std::runtime_error("there are " + std::to_string(count) + " operands");
    auto& operands = what == "in" ? c.inputs : c.outputs;
    operands.resize(count);
    for (auto& operand : operands) line >> operand;
  } else if (kind == "tensor") {
    line >> what;
    std::size_t index = 0;
    auto t = read_tensor(line, index);
    (what == "in" ? c.in : c.out)[index] = std::move(t);
  } else {
    throw std::runtime_error("record " + kind + " is not known");
  }
  if (line.fail()) throw std::runtime_error("the record '" + text + "' is damaged");
}

}  // namespace detail

/// Reads a case's records and the bytes of its inputs; of outputs only names, dtypes and shapes.
inline case_file read_case(const std::filesystem::path& folder) {
  case_file c;
  c.name = folder.filename().string();
  std::ifstream stream(folder / "case.txt");
  if (!stream) throw std::runtime_error("cannot open " + (folder / "case.txt").string());
  for (std::string line; std::getline(stream, line);) detail::read_record(c, line);
  for (auto& [index, t] : c.in)
    t.bytes = read_bytes(folder / t.file, static_cast<std::size_t>(t.count()) * bytes_of(t.dtype));
  return c;
}

}  // namespace onnx
