// fovea/score/dropout.hpp - weights left out at random, for training.
#pragma once

#include <fovea/score/concept.hpp>
#include <fovea/score/threefry.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN

/// One head's dropout.
struct head_dropout {
  static constexpr bool drops = true;
  double scale;             // of what is kept
  std::int32_t kept_below;  // of 2^24
  std::uint32_t key0, key1;

  auto kept(const auto& cells) const noexcept {
    using I = std::remove_cvref_t<decltype(cells.q())>;
    const I random = threefry<I>(key0, key1, cells.q(), cells.k()).first;
    return cells.truth(((random >> 8) & I(0xffffff)) < I(kept_below));
  }
};

/// P -> P * keep / (1 - rate) after the softmax, keep being 1 with probability 1 - rate (to within 2^-24),
/// for each cell on its own: a function of the seed, the sequence's number, the head and the two positions.
/// The backward pass, any blocking and any number of threads see the same; nothing is stored. A seed a step
/// and layer. Costs about 60 instructions a register of cells. (Srivastava et al., JMLR 15, 2014.)
struct dropout {
  static constexpr bool drops = true;
  double rate = 0;
  std::uint64_t seed = 0;

  void check(const place&) const {
    if (!is_finite(rate) || !(rate >= 0 && rate < 1))
      reject("dropout's rate is ", rate, ", not within 0 and 1");
    if (rate > 1 - 0x1p-24) reject("dropout's rate is ", rate, ": of weights less than 2^-24 are kept");
  }
  head_dropout bind(const place& at) const noexcept {
    const auto [key0, key1] = threefry<std::int64_t>(
        static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32), at.batch, at.head);
    return {1 / (1 - rate), static_cast<std::int32_t>(std::lround((1 - rate) * 0x1p24)),
            static_cast<std::uint32_t>(key0), static_cast<std::uint32_t>(key1)};
  }
};

FOVEA_NAMESPACE_END
