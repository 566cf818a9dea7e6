// fovea/score/t5_bias.hpp - relative positions in buckets, each with a learnt number a head.
#pragma once

#include <fovea/score/slots.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN

struct t5_options {
  bool bidirectional = true;      // as in an encoder; else the keys after a query share bucket 0
  index_type max_distance = 128;  // all from here on share a bucket
  index_type offset = 0;          // query 0 stands at this key; in a cache it stands where it does
};

/// The bucket of each difference k - q. Of n buckets a direction, distances below e = n / 2 (rounded down)
/// have one each; a longer one, up to max_distance,
///   e + floor(ln(distance / e) / ln(max_distance / e) (n - e)),   and at most n - 1.
/// In both directions n is half of all, and those of k > q come after the others.
class t5_buckets {
 public:
  static constexpr index_type longest = index_type(1) << 20;

  t5_buckets(index_type buckets, const t5_options& options) : reach_(options.max_distance) {
    const index_type directions = options.bidirectional ? 2 : 1, n = buckets / directions, exact = n / 2;
    if (exact < 1 || n * directions != buckets)
      reject("t5_bias's table has ", buckets, " rows (buckets), not ", directions, " x 2 or more");
    if (reach_ <= exact || reach_ > longest)
      reject("t5_bias's max_distance is ", reach_, ", not above the ", exact,
             " distances that have a bucket each and at most ", longest);
    for (index_type difference = -reach_; difference <= reach_; ++difference) {
      const index_type d = std::abs(difference), bucket = d < exact ? d : of_far(d, exact, n);
      of_.push_back(difference <= 0 ? bucket : options.bidirectional ? n + bucket : 0);
    }
  }
  index_type reach() const noexcept { return reach_; }
  index_type operator[](index_type difference) const noexcept {
    return of_[static_cast<std::size_t>(std::clamp(difference, -reach_, reach_) + reach_)];
  }

 private:
  /// In float, as the published code has it.
  index_type of_far(index_type distance, index_type exact, index_type n) const noexcept {
    const float e = static_cast<float>(exact);
    const auto whole = static_cast<float>(std::log(static_cast<double>(reach_) / static_cast<double>(exact)));
    const float part = std::log(static_cast<float>(distance) / e) / whole * static_cast<float>(n - exact);
    return std::min(exact + static_cast<index_type>(part), n - 1);
  }

  index_type reach_;
  std::vector<index_type> of_;  // by difference, from -reach_ to reach_
};

/// One head's: s -> s + the number of k - q - offset.
template <class E>
struct t5_cells : added_number {
  difference_list<E> numbers;
  const t5_buckets* buckets;

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    return s + cells.load(numbers);
  }
  auto slot(const auto& cells) const noexcept {
    return cells.one_by_one(
        [this](index_type q, index_type k) { return (*buckets)[k - q - numbers.offset]; });
  }
};

/// s_ij -> s_ij + table(bucket(j - i - offset), h). Made by t5_bias(m, options).
template <class E, class Gradient>
struct t5_score : learnt_slots<Gradient> {
  static constexpr const char* gradient_name = "the gradient of t5_bias";
  t5_buckets buckets;
  index_type offset;
  head_numbers<E> numbers;  // by difference, from -reach on

  void check(const place& at) const { this->check_table("t5_bias", at); }
  template <class T>
  void check_numbers() const {
    this->template check_numbers_in<T>("t5_bias");
  }
  t5_cells<E> bind(const place& at) const noexcept {
    const slot_list<E> list = numbers.of(this->head_of(at));
    const index_type reach = buckets.reach(), far = 2 * most_positions;
    return {{},
            {list.up + reach, list.down - reach, reach,
             std::clamp(saturated_sum(offset, at.first_query()), -far, far)},
            &buckets};
  }
};

FOVEA_NAMESPACE_END
