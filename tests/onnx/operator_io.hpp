// Operands of a case in memory: inputs by index, and outputs written in the dtype and shape that the case
// names.
#pragma once

#include "case_file.hpp"

#include <fovea/element.hpp>
#include <fovea/view.hpp>

#include <cstring>
#include <type_traits>

namespace onnx {

using fovea::index;

inline bool has_in(const case_file& c, std::size_t i) { return c.in.contains(i); }
inline bool has_out(const case_file& c, std::size_t i) { return c.out.contains(i); }

inline const tensor_file& operand_in(const case_file& c, std::size_t i) {
  const auto at = c.in.find(i);
  if (at == c.in.end()) fail("input ", i, " is missing");
  return at->second;
}

/// f(std::type_identity<E>()), E the element of a dtype of data.
template <class F>
void with_element(const std::string& dtype, F&& f) {
  if (dtype == "float32")
    f(std::type_identity<float>());
  else if (dtype == "float64")
    f(std::type_identity<double>());
  else if (dtype == "float16")
    f(std::type_identity<fovea::fp16>());
  else if (dtype == "bfloat16")
    f(std::type_identity<fovea::bf16>());
  else
    fail("elements of dtype ", dtype, " are not supported");
}

template <class To, class E>
To converted(const E& x) {
  if constexpr (fovea::element<To> && fovea::element<E>)
    return std::is_same_v<To, double> ? To(fovea::load_element<double>(x))
                                      : fovea::store_element<To>(fovea::load_element<fovea::compute_t<To>>(x));
  else
    return static_cast<To>(x);
}

/// The elements of a tensor of any dtype as To.
template <class To>
std::vector<To> numbers(const tensor_file& t) {
  std::vector<To> values(static_cast<std::size_t>(t.count));
  const auto read = [&]<class E>(std::type_identity<E>) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      E x;
      std::memcpy(&x, t.bytes.data() + i * sizeof(E), sizeof(E));
      values[i] = converted<To>(x);
    }
  };
  if (t.dtype == "bool")
    read(std::type_identity<std::uint8_t>());
  else if (t.dtype == "int32")
    read(std::type_identity<std::int32_t>());
  else if (t.dtype == "int64")
    read(std::type_identity<std::int64_t>());
  else
    with_element(t.dtype, read);
  return values;
}

/// Lengths or positions.
inline std::vector<index> whole_numbers(const tensor_file& t) {
  if (t.dtype != "int64" && t.dtype != "int32") fail(t.name, " is ", t.dtype, ", not int64");
  return numbers<index>(t);
}

/// The elements of an input whose dtype is E's.
template <class E>
const E* data_of(const tensor_file& t) {
  with_element(t.dtype, [&]<class Stored>(std::type_identity<Stored>) {
    if (!std::is_same_v<E, Stored>) fail(t.name, " is ", t.dtype, ", unlike the operands before it");
  });
  return reinterpret_cast<const E*>(t.bytes.data());
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
    const tensor_file& wanted = at->second;
    const bool rank3 = wanted.shape.size() == 3;
    const std::vector<std::int64_t> shape =
        rank3 ? std::vector<std::int64_t>{x.batch, x.tokens, x.heads * x.dim}
              : std::vector<std::int64_t>{x.batch, x.heads, x.tokens, x.dim};
    if (shape != wanted.shape)
      fail("output ", wanted.name, " has the shape", text(shape), ", the case says", text(wanted.shape));
    with_element(wanted.dtype, [&]<class Stored>(std::type_identity<Stored>) {
      write_rows<Stored>(folder_ / ("output_" + std::to_string(i) + "_" + wanted.name + ".bin"), rank3, x);
    });
  }

 private:
  static std::string text(const std::vector<std::int64_t>& shape) {
    std::string all;
    for (const auto size : shape) all += " " + std::to_string(size);
    return all;
  }

  template <class Stored, class E>
  static void write_rows(const std::filesystem::path& path, bool tokens_outside,
                         const fovea::tensor_view<E>& x) {
    std::ofstream stream(path, std::ios::binary);
    std::vector<Stored> row(static_cast<std::size_t>(x.dim));
    const index outer = tokens_outside ? x.tokens : x.heads, inner = tokens_outside ? x.heads : x.tokens;
    for (index b = 0; b < x.batch; ++b)
      for (index i = 0; i < outer; ++i)
        for (index j = 0; j < inner; ++j) {
          const index head = tokens_outside ? j : i, token = tokens_outside ? i : j;
          for (index d = 0; d < x.dim; ++d)
            row[static_cast<std::size_t>(d)] = converted<Stored>(x(b, head, token, d));
          stream.write(reinterpret_cast<const char*>(row.data()),
                       static_cast<std::streamsize>(row.size() * sizeof(Stored)));
        }
    if (!stream.flush()) fail("cannot write ", path.string());
  }

  const case_file& case_;
  std::filesystem::path folder_;
};

/// An operator at the element E of its operands; each is compiled in a file of its own, for each element.
template <class E>
void run_attention_of(const case_file& c, const output_writer& write);
template <class E>
void run_rotary_of(const case_file& c, const output_writer& write);

}  // namespace onnx
