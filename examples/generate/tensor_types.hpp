// tensor_types.hpp - numbers as ggml stores them: F32, F16, BF16; Q8_0, an fp16 scale and 32 signed bytes;
// Q4_1, an fp16 scale, an fp16 minimum and 32 four-bit numbers, the low halves first.
#pragma once

#include <fovea/element.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace generate {

/// `count` numbers a block of `bytes`; of a type that is not read, 0.
struct tensor_type {
  std::size_t count = 0, bytes = 0;
};

namespace tensor_types {

inline constexpr std::uint32_t f32 = 0, f16 = 1, q4_1 = 3, q8_0 = 8, bf16 = 30;

inline tensor_type of(std::uint32_t type) {
  switch (type) {
    case f32:
      return {1, 4};
    case f16:
    case bf16:
      return {1, 2};
    case q4_1:
      return {32, 20};
    case q8_0:
      return {32, 34};
    default:
      return {};
  }
}

/// "12 (Q4_K)"
inline std::string name(std::uint32_t type) {
  constexpr std::array names{"F32",     "F16",    "Q4_0",    "Q4_1",  "",       "",      "Q5_0",  "Q5_1",
                             "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
                             "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
                             "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16"};
  const std::string number = std::to_string(type);
  return type < names.size() && *names[type] != '\0' ? number + " (" + names[type] + ")" : number;
}

template <class E>
float number_at(const std::byte* from) {
  E x;
  std::memcpy(&x.bits, from, sizeof x.bits);
  return x;
}

/// `count` numbers, whole blocks, as float.
inline void convert(std::uint32_t type, const std::byte* from, float* to, std::size_t count) {
  const auto half = number_at<fovea::fp16>;
  switch (type) {
    case f32:
      std::memcpy(to, from, 4 * count);
      return;
    case f16:
      for (std::size_t i = 0; i < count; ++i) to[i] = half(from + 2 * i);
      return;
    case bf16:
      for (std::size_t i = 0; i < count; ++i) to[i] = number_at<fovea::bf16>(from + 2 * i);
      return;
    case q8_0:
      for (const float* const end = to + count; to < end; from += 34)
        for (std::size_t i = 0; i < 32; ++i)
          *to++ = half(from) * static_cast<float>(static_cast<std::int8_t>(from[2 + i]));
      return;
    default:  // q4_1
      for (const float* const end = to + count; to < end; from += 20, to += 32)
        for (std::size_t i = 0; i < 16; ++i) {
          const float scale = half(from), least = half(from + 2);
          const auto pair = std::to_integer<unsigned>(from[4 + i]);
          to[i] = scale * static_cast<float>(pair & 15u) + least;
          to[i + 16] = scale * static_cast<float>(pair >> 4) + least;
        }
  }
}

}  // namespace tensor_types
}  // namespace generate
