// A storage type of a user's own: eight bits, the upper half of an fp16, as element/concept.hpp shows it.
#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <random>
#include <vector>

namespace own_element_test {

using fovea::index_type;

/// 5 bits of exponent, 2 of fraction. Instructions: whether registers are loaded, or lane after lane.
template <bool Registers>
struct fp8 {
  std::uint8_t bits;
};

}  // namespace own_element_test

template <bool Registers>
struct fovea::element_traits<own_element_test::fp8<Registers>> {
  using type = own_element_test::fp8<Registers>;
  using compute = float;
  static float load(type x) noexcept {
    return std::bit_cast<fovea::fp16>(static_cast<std::uint16_t>(x.bits << 8));
  }
  template <class Isa>
    requires Registers
  static auto load_lanes(const type* from) noexcept {
    std::uint16_t wide[decltype(Isa::load_fp16(from))::size];
    for (std::size_t i = 0; i < std::size(wide); ++i) wide[i] = static_cast<std::uint16_t>(from[i].bits << 8);
    return Isa::load_fp16(wide);
  }
};

namespace own_element_test {

/// Keys and values that fp8 stores, in fp16 and in fp8: 300 tokens of 2 heads of 40 dimensions.
struct stored {
  static constexpr index_type heads = 2, tokens = 300, dim = 40;
  std::vector<fovea::fp16> k, v;
  std::vector<fp8<true>> k8, v8;

  stored() {
    std::mt19937 random(1);
    const auto fill = [&](auto& to, auto& to8) {
      for (index_type i = 0; i < heads * tokens * dim; ++i) {
        // An exponent around 1, any sign and fraction.
        const auto bits = static_cast<std::uint8_t>((random() & 0x80) | (0x34 + random() % 12));
        to8.push_back({bits});
        to.push_back(std::bit_cast<fovea::fp16>(static_cast<std::uint16_t>(bits << 8)));
      }
    };
    fill(k, k8), fill(v, v8);
  }
};

template <class E>
auto view(const std::vector<E>& x) {
  return fovea::bhsd(x.data(), 1, stored::heads, stored::tokens, stored::dim);
}

TEST(own_element, gives_what_the_same_numbers_give) {
  const stored s;
  const fovea::attention<float, stored::heads> attend;
  for (const index_type queries : {1, 5, 150}) {
    fovea::tensor<float> q(1, stored::heads, queries, stored::dim);
    for (index_type i = 0; i < q.size(); ++i) q.data()[i] = std::sin(static_cast<float>(i));
    const auto expected = attend(q, view(s.k), view(s.v), fovea::causal_bottom_right);
    const auto got = attend(q, view(s.k8), view(s.v8), fovea::causal_bottom_right);
    ASSERT_EQ(got.size(), q.size());
    for (index_type i = 0; i < got.size(); ++i) ASSERT_EQ(got.data()[i], expected.data()[i]) << queries;
  }
}

}  // namespace own_element_test
