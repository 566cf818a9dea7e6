// transformer/dropout.hpp - numbers set to 0 at random while training. Srivastava et al., JMLR 15 (2014).
#pragma once

#include "random.hpp"

namespace transformer {

/// A share `rate` of the numbers becomes 0, the others grow by 1 / (1 - rate). Which ones is a function of
/// the key and of the place in the matrix, so nothing is kept: backward is the same call on dy. Keys differ
/// by step, place in the model and part of the batch: random_key(seed, step, place, part).
struct dropout {
  double rate = 0;

  template <class T>
  void operator()(Matrix<T>& x, std::uint64_t key) const {
    if (rate <= 0) return;
    const auto low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
    const auto threshold = static_cast<std::uint32_t>(rate * 0x1p32);
    const T kept = static_cast<T>(1 / (1 - rate));
    T* const data = x.data();
    const auto size = static_cast<std::uint32_t>(x.size());
    for (std::uint32_t i = 0; i < size; ++i)
      data[i] *= hashed(hashed(i + low) ^ high) < threshold ? T(0) : kept;
  }

 private:
  /// A 32-bit mixer, as the loop then runs in SIMD (lowbias32 by Wellons).
  static constexpr std::uint32_t hashed(std::uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352dU;
    x = (x ^ (x >> 15)) * 0x846ca68bU;
    return x ^ (x >> 16);
  }
};

}  // namespace transformer
