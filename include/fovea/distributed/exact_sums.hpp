// fovea/distributed/exact_sums.hpp - sums that do not depend on the order of what is added, nor on which rank
// adds it.
#pragma once

#include <fovea/distributed/communicator.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// Sums of numbers of T, each kept as an integer of all bits that a T can have (Kulisch): digits of 32 bits,
/// in 64, so that many are added before a carry, and those of all ranks by MPI. 112 bytes a sum of floats,
/// 568 of doubles.
template <class T>
class exact_sums {
  using limits = std::numeric_limits<T>;
  static constexpr int lowest = limits::min_exponent - limits::digits;  // exponent of the smallest number
  static constexpr int offset = (-lowest + 31) / 32 * 32;               // bits below 1
  static constexpr std::size_t digits = (offset + limits::max_exponent) / 32 + 2;
  enum : std::size_t { nans = digits, infinities, negative_infinities, words };

 public:
  explicit exact_sums(index_type count = 0) : words_(static_cast<std::size_t>(count) * words) {}
  index_type count() const noexcept { return static_cast<index_type>(words_.size() / words); }

  void add(index_type i, T x) noexcept {
    std::int64_t* const sum = at(i);
    if (x == T(0)) return;
    if (x != x || x > limits::max() || x < limits::lowest()) {
      ++sum[x != x ? nans : x > 0 ? infinities : negative_infinities];
      return;
    }
    int exponent = 0;
    const T fraction = std::frexp(x < 0 ? -x : x, &exponent);
    // |x| = whole * 2^exponent; a subnormal number has fewer bits, of which none lies below `lowest`.
    const auto whole = static_cast<std::uint64_t>(std::ldexp(fraction, limits::digits));
    exponent += offset - limits::digits;
    const int behind = exponent < 0 ? -exponent : 0, place = exponent + behind;
    const std::uint64_t bits = whole >> behind, low = (bits & low_half) << place % 32,
                        high = (bits >> 32) << place % 32;
    const std::int64_t sign = x < 0 ? -1 : 1;
    std::int64_t* const digit = sum + place / 32;
    digit[0] += sign * static_cast<std::int64_t>(low & low_half);
    digit[1] += sign * static_cast<std::int64_t>((low >> 32) + (high & low_half));
    digit[2] += sign * static_cast<std::int64_t>(high >> 32);
    if (++added_ == most_added) carry_all();
  }

  /// Those of all ranks, on all ranks.
  void add_ranks(const communicator& processes) {
    carry_all();
    add_numbers_of_ranks(processes, std::span(words_));
  }

  /// To a unit of the last place of a double.
  double value(index_type i) const noexcept {
    const std::int64_t* const sum = words_.data() + static_cast<std::size_t>(i) * words;
    if (sum[nans] > 0 || (sum[infinities] > 0 && sum[negative_infinities] > 0)) return std::nan("");
    if (sum[infinities] > 0) return std::numeric_limits<double>::infinity();
    if (sum[negative_infinities] > 0) return -std::numeric_limits<double>::infinity();
    std::int64_t copy[digits];
    std::copy_n(sum, digits, copy);
    carry(copy);
    const double sign = copy[digits - 1] < 0 ? -1 : 1;
    if (sign < 0) {
      for (std::int64_t& digit : copy) digit = -digit;
      carry(copy);
    }
    double total = 0;
    for (std::size_t d = digits; d-- > 0;)
      total += std::ldexp(static_cast<double>(copy[d]), static_cast<int>(d) * 32 - offset);
    return sign * total;
  }

 private:
  static constexpr std::uint64_t low_half = 0xffffffffu;
  static constexpr std::int64_t most_added = std::int64_t(1) << 28;

  std::int64_t* at(index_type i) noexcept { return words_.data() + static_cast<std::size_t>(i) * words; }
  /// All digits but the last are then below 2^32 and not below 0.
  static void carry(std::int64_t* sum) noexcept {
    for (std::size_t d = 0; d + 1 < digits; ++d) {
      const std::int64_t over = sum[d] >> 32;
      sum[d] -= over * (std::int64_t(1) << 32), sum[d + 1] += over;
    }
  }
  void carry_all() noexcept {
    for (index_type i = 0; i < count(); ++i) carry(at(i));
    added_ = 0;
  }

  std::vector<std::int64_t> words_;
  std::int64_t added_ = 0;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
