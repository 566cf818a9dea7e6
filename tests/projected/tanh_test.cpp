// The hyperbolic tangent of registers, over half a million floats and where it ends.
#include "../support/worse.hpp"

#include <fovea/kernel/tile/tanh.hpp>

#include <gtest/gtest.h>

#include <cmath>

namespace fovea_test {
namespace {

template <class Arch>
void expect_tanh() {
  using V = fovea::kernel::vec<Arch, float>;
  constexpr unsigned n = V::size;
  double worst = 0;
  for (std::uint32_t bits = 0; bits < 0x7f800000u - n * 4099; bits += n * 4099) {
    alignas(64) float x[n], y[n];
    for (unsigned i = 0; i < n; ++i)
      x[i] = std::bit_cast<float>((bits + i * 4099) | (i % 2 ? 0x80000000u : 0));
    fovea::kernel::tanh<Arch, float>(V::load_aligned(x)).store_aligned(y);
    for (unsigned i = 0; i < n; ++i) {
      const double wanted = std::tanh(double{x[i]});
      const double place = std::ldexp(1., std::max(std::ilogb(wanted) - 23, -149));
      worst = fovea_test::worse(worst, std::abs(y[i] - wanted) / place);
    }
  }
  EXPECT_LT(worst, 6);
  const auto of = [](float x) { return fovea::kernel::tanh<Arch, float>(V(x)).get(0); };
  constexpr float infinity = std::numeric_limits<float>::infinity();
  EXPECT_NEAR(of(infinity), 1, 4e-7);
  EXPECT_NEAR(of(-infinity), -1, 4e-7);
  EXPECT_TRUE(std::isnan(of(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_EQ(of(0), 0);
  EXPECT_EQ(of(-3), -of(3));
}

TEST(tanh, of_registers) {
  expect_tanh<xsimd::default_arch>();
  expect_tanh<xsimd::sse2>();
}

}  // namespace
}  // namespace fovea_test
