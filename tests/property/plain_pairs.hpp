// tests/property/plain_pairs.hpp - products of pairs of bf16 in plain code, for an instruction set that has no
// instruction for them: what is made of pairs is tested on any processor. Included before all else.
#pragma once

#include <fovea/element/bf16.hpp>
#include <fovea/kernel/arch.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <>
struct pair_products<xsimd::default_arch> {
  static constexpr bool available = true;
  using arch = xsimd::default_arch;
  using numbers = vec<arch, float>;
  using registers = registers_of_pairs<arch>;

  static numbers add(const numbers& sum, const registers& a, const registers& b) noexcept {
    const auto low = [](const registers& x) { return normal(bits_as<float, arch>(x << 16)); };
    const auto high = [](const registers& x) { return normal(bits_as<float, arch>(x & registers(-65536))); };
    return normal(normal(sum + high(a) * high(b)) + low(a) * low(b));
  }

  static registers rounded(const numbers& low, const numbers& high) noexcept {
    alignas(64) float of_low[numbers::size], of_high[numbers::size];
    low.store_aligned(of_low), high.store_aligned(of_high);
    alignas(64) std::int32_t pairs[numbers::size];
    for (std::size_t i = 0; i < numbers::size; ++i)
      pairs[i] = static_cast<std::int32_t>(bf16(of_low[i]).bits | std::uint32_t{bf16(of_high[i]).bits} << 16);
    return registers::load_aligned(pairs);
  }

 private:
  /// 0 for a subnormal number, as the instruction takes it.
  static numbers normal(const numbers& x) noexcept {
    return xsimd::select(xsimd::abs(x) < numbers(0x1p-126f), numbers(0.f), x);
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
