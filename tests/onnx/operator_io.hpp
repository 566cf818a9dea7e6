// Operands of a case in memory: inputs by index, and outputs written in the dtype and shape that the case
// names.
#pragma once

#include "case_file.hpp"

#include <fovea/element.hpp>
#include <fovea/view.hpp>

#include <cstring>

namespace onnx {

inline bool has_in(const case_file& c, std::size_t i) { return c.in.count(i) != 0; }
inline bool has_out(const case_file& c, std::size_t i) { return c.out.count(i) != 0; }

inline const tensor_file& operand_in(const case_file& c, std::size_t i) {
  const auto at = c.in.find(i);
  if (at == c.in.end()) throw std::runtime_error("input " + std::to_string(i) + " is missing");
  return at->second;
}

template <class E>
double number_at(const char* bytes, std::size_t i) {
  E x;
  std::memcpy(&x, bytes + i * sizeof(E), sizeof(E));
  return static_cast<double>(x);
}

/// The elements of a tensor of any dtype.
inline std::vector<double> numbers(const tensor_file& t) {
  std::vector<double> values(static_cast<std::size_t>(t.count()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const char* bytes = t.bytes.data();
    values[i] = t.dtype == "float32"    ? number_at<float>(bytes, i)
                : t.dtype == "float64"  ? number_at<double>(bytes, i)
                : t.dtype == "float16"  ? static_cast<double>(number_at<fovea::fp16>(bytes, i))
                : t.dtype == "bfloat16" ? static_cast<double>(number_at<fovea::bf16>(bytes, i))
                : t.dtype == "int64"    ? number_at<std::int64_t>(bytes, i)
                : t.dtype == "int32"    ? number_at<std::int32_t>(bytes, i)
                : t.dtype == "int16"    ? number_at<std::int16_t>(bytes, i)
                : t.dtype == "int8"     ? number_at<std::int8_t>(bytes, i)
                : t.dtype == "uint64"   ? number_at<std::uint64_t>(bytes, i)
                : t.dtype == "uint32"   ? number_at<std::uint32_t>(bytes, i)
                : t.dtype == "uint16"   ? number_at<std::uint16_t>(bytes, i)
                                        : number_at<std::uint8_t>(bytes, i);
  }
  return values;
}

/// The same tensor in float64, which holds all that the others do.
inline tensor_file in_doubles(const tensor_file& t) {
  tensor_file wide = t;
  const auto values = numbers(t);
  wide.dtype = "float64", wide.bytes.resize(values.size() * sizeof(double));
  if (!values.empty()) std::memcpy(wide.bytes.data(), values.data(), wide.bytes.size());
  return wide;
}

/// Writes output `i` of a case from a 4-D view (batch, head, token, dim), if the case has it: as it is, or,
/// where the case wants rank 3, as (batch, token, head * dim).
class output_writer {
 public:
  output_writer(const case_file& c, std::filesystem::path folder) : case_(c), folder_(std::move(folder)) {}

  template <class E>
  void operator()(std::size_t i, const fovea::tensor_view<E>& x) const {
    const auto at = case_.out.find(i);
    if (at == case_.out.end()) return;
    const auto& wanted = at->second;
    const bool rank3 = wanted.shape.size() == 3;
    const std::vector<std::int64_t> shape =
        rank3 ? std::vector<std::int64_t>{x.batch, x.tokens, x.heads * x.dim}
              : std::vector<std::int64_t>{x.batch, x.heads, x.tokens, x.dim};
    if (shape != wanted.shape)
      throw std::runtime_error("output " + wanted.name + " has another shape than the case says");
    std::string bytes;
    for (fovea::index_type b = 0; b < x.batch; ++b)
      for (fovea::index_type outer = 0; outer < (rank3 ? x.tokens : x.heads); ++outer)
        for (fovea::index_type inner = 0; inner < (rank3 ? x.heads : x.tokens); ++inner)
          for (fovea::index_type d = 0; d < x.dim; ++d)
            append(bytes, wanted.dtype,
                   fovea::load_element<double>(x(b, rank3 ? inner : outer, rank3 ? outer : inner, d)));
    const auto path = folder_ / ("output_" + std::to_string(i) + "_" + wanted.name + ".bin");
    std::ofstream stream(path, std::ios::binary);
    stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!stream.flush()) throw std::runtime_error("cannot write " + path.string());
  }

 private:
  template <class E>
  static void append_as(std::string& bytes, E x) {
    bytes.append(reinterpret_cast<const char*>(&x), sizeof(E));
  }
  static void append(std::string& bytes, const std::string& dtype, double x) {
    if (dtype == "float32")
      append_as(bytes, static_cast<float>(x));
    else if (dtype == "float64")
      append_as(bytes, x);
    else if (dtype == "float16")
      append_as(bytes, fovea::fp16(static_cast<float>(x)));
    else if (dtype == "bfloat16")
      append_as(bytes, fovea::bf16(static_cast<float>(x)));
    else
      throw std::runtime_error("an output of dtype " + dtype + " can not be written");
  }

  const case_file& case_;
  std::filesystem::path folder_;
};

/// An operator at the element E of its first input; each is compiled in a file of its own, for each element.
/// `rounds_steps`: Attention in bfloat16 as the standard's definition rounds it, step by step; else by the
/// library's call.
template <class E>
void run_attention_of(const case_file& c, const output_writer& write, bool rounds_steps);
template <class E>
void run_rotary_of(const case_file& c, const output_writer& write);
template <class E>
void run_linear_of(const case_file& c, const output_writer& write);

}  // namespace onnx
