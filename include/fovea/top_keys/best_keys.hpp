// fovea/top_keys/best_keys.hpp - the keys with the largest scores, of keys that come block by block.
#pragma once

#include <fovea/index.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace choosing {

/// The keys with the largest scores among those that were added: of equal ones the earlier, NaN the largest.
template <class T>
class best_keys {
 public:
  explicit best_keys(index_type count)
      : count_(static_cast<std::size_t>(count)), most_(count_ + std::max(count_, fewest_between)) {}

  /// Scores of the keys from `first` on; blocks of keys may come in any order.
  void add(index_type first, const T* scores, index_type keys) {
    const bool follows = first >= next_;
    in_order_ &= follows, next_ = std::max(next_, first + keys);
    add(scores, static_cast<std::size_t>(keys), follows,
        [first](std::size_t j) { return first + static_cast<index_type>(j); });
  }
  /// Of keys in ascending order.
  void add(std::span<const index_type> keys, const T* scores) {
    if (keys.empty()) return;
    const bool follows = keys.front() >= next_;
    in_order_ &= follows, next_ = std::max(next_, keys.back() + 1);
    add(scores, keys.size(), follows, [keys](std::size_t j) { return keys[j]; });
  }
  void add(const best_keys& other) {
    if (other.size_ == 0) return;
    const bool follows = other.in_order_ && other.keys_[0] >= next_;
    in_order_ &= follows, next_ = std::max(next_, other.next_);
    add(other.scores_.data(), other.size_, follows, [&other](std::size_t j) { return other.keys_[j]; });
  }
  /// How many there are, of those that are wanted; what as many reach at least, -inf of fewer.
  index_type size() const noexcept { return static_cast<index_type>(std::min(size_, count_)); }
  T least() {
    keep();
    return full_ || size_ == count_ ? nth_largest() : -std::numeric_limits<T>::infinity();
  }
  /// In ascending order.
  std::vector<index_type> take() {
    order(), keep();
    keys_.resize(size_);
    return std::move(keys_);
  }

 private:
  /// Keys in ascending order, which may all `follow` those before. What is less than the least of `count` can
  /// be none of the best, nor what equals it and follows. (No branch on a score: those that are kept come at
  /// random.)
  template <class KeyOf>
  void add(const T* scores, std::size_t keys, bool follows, const KeyOf& key_of) {
    for (std::size_t j = 0; j < keys;) {
      const std::size_t last = std::min(keys, j + (most_ - size_));
      if (scores_.size() < size_ + last - j) {
        scores_.resize(std::min(most_, 2 * (size_ + last - j)));
        keys_.resize(scores_.size());
      }
      T* const to = scores_.data();
      index_type* const number = keys_.data();
      std::size_t end = size_;
      for (; j < last; ++j) {
        const T s = scores[j] != scores[j] ? std::numeric_limits<T>::infinity() : scores[j];
        to[end] = s, number[end] = key_of(j);
        end += static_cast<std::size_t>(!full_ | (s > least_) | (!follows & (s == least_)));
      }
      size_ = end;
      if (size_ == most_) keep(), in_order_ = follows || j == keys;
    }
  }

  /// Keys in ascending order, as they are where they came so.
  void order() {
    if (std::exchange(in_order_, true)) return;
    std::vector<std::pair<index_type, T>> all(size_);
    for (std::size_t i = 0; i < size_; ++i) all[i] = {keys_[i], scores_[i]};
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (std::size_t i = 0; i < size_; ++i) keys_[i] = all[i].first, scores_[i] = all[i].second;
  }

  /// The best of what is there.
  void keep() {
    if (size_ <= count_) return;
    order();
    least_ = nth_largest(), full_ = true;
    std::size_t equal = count_, end = 0;  // those of the least that are kept: the first
    for (std::size_t i = 0; i < size_; ++i) equal -= static_cast<std::size_t>(scores_[i] > least_);
    for (std::size_t i = 0; i < size_; ++i) {
      const bool is_least = scores_[i] == least_, kept = (scores_[i] > least_) | (is_least & (equal > 0));
      equal -= static_cast<std::size_t>(is_least & kept);
      scores_[end] = scores_[i], keys_[end] = keys_[i];
      end += static_cast<std::size_t>(kept);
    }
    size_ = end;
  }

  /// The count_-th largest score, bit by bit: as integers numbers are ordered as they are, negative ones the
  /// other way round. Each bit is a count over all, in registers: of 4,096 floats 3 us, where
  /// std::nth_element, which guesses a branch a number, takes 60.
  T nth_largest() {
    using bits = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
    static_assert(sizeof(bits) == sizeof(T));
    constexpr bits magnitude = std::numeric_limits<bits>::max();
    const auto ordered = [](bits b) { return b < 0 ? b ^ magnitude : b; };
    integers_.resize(size_);
    for (std::size_t i = 0; i < size_; ++i) integers_[i] = ordered(std::bit_cast<bits>(scores_[i] + T(0)));
    const auto reaches = [&](bits least) {  // as many as are wanted
      std::size_t count = 0;
      for (const bits x : integers_) count += x >= least ? 1 : 0;
      return count >= count_;
    };
    bits nth = reaches(0) ? 0 : std::numeric_limits<bits>::min();
    for (bits bit = magnitude / 2 + 1; bit > 0; bit /= 2)
      if (reaches(nth + bit)) nth += bit;
    return std::bit_cast<T>(ordered(nth));
  }

  static constexpr std::size_t fewest_between = 1024;  // keys between two looks for the least
  std::size_t count_, most_, size_ = 0;
  std::vector<T> scores_;
  std::vector<index_type> keys_;
  std::vector<std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>> integers_;
  bool full_ = false;  // then no score below `least_` is of use
  T least_ = 0;
  index_type next_ = 0;  // behind all keys that were added
  bool in_order_ = true;
};

}  // namespace choosing
FOVEA_NAMESPACE_END
