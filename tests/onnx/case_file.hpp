// An ONNX operator case as plain files: case.txt, a record a line, and a raw little-endian row-major file a
// tensor. Whatever is wrong with them is a std::runtime_error that names it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace onnx {

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

struct tensor_file {
  std::string name, dtype;
  std::vector<std::int64_t> shape;
  std::string file;
  std::int64_t count = 0;   // of elements
  std::vector<char> bytes;  // of inputs only
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
  std::optional<double> number(const std::string& key) const {
    const auto at = floats.find(key);
    return at == floats.end() ? std::nullopt : std::optional<double>(at->second);
  }
};

inline std::int64_t bytes_of(const std::string& dtype) {
  static const std::map<std::string, std::int64_t> sizes{{"float32", 4}, {"float64", 8}, {"float16", 2},
                                                         {"bfloat16", 2}, {"bool", 1},   {"int64", 8},
                                                         {"int32", 4}};
  const auto at = sizes.find(dtype);
  if (at == sizes.end()) fail("dtype ", dtype, " is not known");
  return at->second;
}

/// A file of exactly `count` bytes; its size is asked for first, so that a wrong count costs no memory.
inline std::vector<char> read_bytes(const std::filesystem::path& path, std::int64_t count) {
  std::error_code missing;
  const auto size = std::filesystem::file_size(path, missing);
  if (missing) fail("cannot read ", path.string(), ": ", missing.message());
  if (size != static_cast<std::uintmax_t>(count)) fail(path.string(), " has ", size, " bytes, not ", count);
  std::vector<char> bytes(static_cast<std::size_t>(count));
  std::ifstream stream(path, std::ios::binary);
  stream.read(bytes.data(), static_cast<std::streamsize>(count));
  if (stream.gcount() != static_cast<std::streamsize>(count)) fail("cannot read ", path.string());
  return bytes;
}

namespace detail {

/// The number of elements; sizes whose product means nothing are refused.
inline std::int64_t count_of(const tensor_file& t) {
  constexpr std::int64_t most = std::int64_t(1) << 40;
  std::int64_t n = 1;
  for (const auto size : t.shape) {
    if (size < 0 || size > most || n > most / std::max<std::int64_t>(size, 1))
      fail("tensor ", t.name, " has a size of ", size, " in a shape that no file has");
    n *= std::max<std::int64_t>(size, 1);
  }
  for (const auto size : t.shape) n = size == 0 ? 0 : n;
  return n;
}

inline tensor_file read_tensor(std::istringstream& line, std::size_t& index) {
  tensor_file t;
  std::size_t rank = 0;
  std::int64_t bytes = 0;
  line >> index >> t.name >> t.dtype >> rank;
  if (!line || rank > 8) fail("a tensor record is damaged");
  t.shape.resize(rank);
  for (auto& size : t.shape) line >> size;
  line >> t.file >> bytes;
  if (!line) fail("the record of tensor ", t.name, " is damaged");
  t.count = count_of(t);
  if (t.count * bytes_of(t.dtype) != bytes)
    fail("tensor ", t.name, " has ", bytes, " bytes for ", t.count, " elements of ", t.dtype);
  return t;
}

inline void read_attribute(case_file& c, std::istringstream& line) {
  std::string name, kind, value;
  line >> name >> kind >> value;
  char* end = nullptr;
  if (kind == "int")
    c.ints[name] = std::strtoll(value.c_str(), &end, 10);
  else if (kind == "float")
    c.floats[name] = std::strtod(value.c_str(), &end);  // takes hexadecimal ones
  else if (kind == "str")
    c.strings[name] = value;
  else
    fail("attribute ", name, " has the unknown kind ", kind);
  if (value.empty() || (end != nullptr && *end != '\0'))
    fail("attribute ", name, " is '", value, "', not of kind ", kind);
}

inline void read_operands(case_file& c, std::istringstream& line) {
  std::string side;
  std::size_t count = 0;
  line >> side >> count;
  if (!line || count > 64) fail("the operands are damaged");
  auto& operands = side == "in" ? c.inputs : c.outputs;
  operands.resize(count);
  for (auto& operand : operands) line >> operand;
}

inline void read_record(case_file& c, const std::string& text) {
  std::istringstream line(text);
  std::string kind, side, rest;
  if (!(line >> kind)) return;
  if (kind == "case") {
    line >> c.name;
  } else if (kind == "op") {
    line >> c.op >> c.domain >> c.opset;
  } else if (kind == "attr") {
    read_attribute(c, line);
  } else if (kind == "operands") {
    read_operands(c, line);
  } else if (kind == "tensor") {
    line >> side;
    std::size_t index = 0;
    auto t = read_tensor(line, index);
    (side == "in" ? c.in : c.out)[index] = std::move(t);
  } else {
    fail("record ", kind, " is not known");
  }
  if (line.fail() || line >> rest) fail("the record '", text, "' is damaged");
}

/// Every operand that is named has its tensor, and every tensor its operand.
inline void check_operands(const std::vector<std::string>& names,
                           const std::map<std::size_t, tensor_file>& files, const char* side) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] != "-" && !files.contains(i)) fail(side, "put ", i, " (", names[i], ") has no tensor");
  for (const auto& [i, t] : files)
    if (i >= names.size() || names[i] != t.name)
      fail("tensor ", t.name, " is ", side, "put ", i, ", which is ", i < names.size() ? names[i] : "none");
}

}  // namespace detail

/// Reads a case's records and the bytes of its inputs; of outputs only names, dtypes and shapes.
inline case_file read_case(const std::filesystem::path& folder) {
  case_file c;
  std::ifstream stream(folder / "case.txt");
  if (!stream) fail("cannot open ", (folder / "case.txt").string());
  for (std::string line; std::getline(stream, line);) detail::read_record(c, line);
  if (c.name.empty() || c.op.empty()) fail("case.txt lacks the record ", c.name.empty() ? "case" : "op");
  if (c.outputs.empty()) fail("case.txt names no outputs");
  detail::check_operands(c.inputs, c.in, "in");
  detail::check_operands(c.outputs, c.out, "out");
  for (auto& [index, t] : c.in) t.bytes = read_bytes(folder / t.file, t.count * bytes_of(t.dtype));
  return c;
}

/// Refuses attributes whose meaning is not known.
inline void check_attributes(const case_file& c, std::initializer_list<const char*> ints,
                             std::initializer_list<const char*> floats) {
  const auto check = [&](const auto& given, const std::initializer_list<const char*>& known) {
    for (const auto& [name, value] : given) {
      bool found = false;
      for (const char* one : known) found = found || name == one;
      if (!found) fail("attribute ", name, " of ", c.op, " is not known, or not of its kind");
    }
  };
  check(c.ints, ints), check(c.floats, floats), check(c.strings, {});
}

}  // namespace onnx
