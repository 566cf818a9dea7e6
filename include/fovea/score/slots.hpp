// fovea/score/slots.hpp - tables of which scores add a number to each logit: a number a slot and head.
#pragma once

#include <fovea/score/concept.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// The numbers of each head side by side, in rising and in falling order, so that those of neighbours are one
/// load, whichever way they go; `beyond` more on each side repeat the last ones. E: float or double.
template <class E>
class head_numbers {
 public:
  /// number(i, head) of 0 <= i < count.
  template <class F>
  head_numbers(index_type count, index_type heads, index_type beyond, const F& number)
      : count_(count), beyond_(beyond), pitch_(count + 2 * beyond) {
    all_.resize(static_cast<std::size_t>(size_product("a table", pitch_, 2, heads, sizeof(E))) / sizeof(E));
    for (index_type head = 0; head < heads; ++head)
      for (index_type i = -beyond; i < count + beyond; ++i) {
        const E x = number(std::clamp<index_type>(i, 0, count - 1), head);
        first(2 * head)[i + beyond] = x;
        first(2 * head + 1)[pitch_ - 1 - (i + beyond)] = x;
      }
  }

  /// One head's.
  slot_list<E> of(index_type head) const noexcept {
    return {first(2 * head) + beyond_, first(2 * head + 1) + beyond_ + count_ - 1, count_};
  }

 private:
  E* first(index_type row) noexcept { return all_.data() + row * pitch_; }
  const E* first(index_type row) const noexcept { return all_.data() + row * pitch_; }

  index_type count_, beyond_, pitch_;
  std::vector<E> all_;
};

/// What scores with a table have in common: its size, and where a backward call writes its gradient (a
/// tensor_view of slots x heads, or x 1, which all heads share; no data: it is not wanted).
template <class Gradient>
struct learnt_slots {
  static constexpr score_stage stage = score_stage::bias;
  index_type rows, heads;  // of the table
  double largest;          // of its magnitudes
  Gradient to;

  Gradient slots() const noexcept { return to; }
  /// `name`: of the score, for errors.
  void check_table(const char* name, const place& at) const {
    if (heads != 1 && heads != at.heads)
      reject(name, "'s table has ", heads, " columns (heads), neither 1 nor ", at.heads);
    if (to.data == nullptr) return;
    if (to.tokens != rows) reject(name, ": the gradient has ", to.tokens, " rows (slots), the table ", rows);
    if (to.dim != heads) reject(name, ": the gradient has ", to.dim, " columns (heads), the table ", heads);
  }
  template <class T>
  void check_numbers_in(const char* name) const {
    if (!is_finite(static_cast<T>(largest)))
      reject(name, "'s table has a ", largest, ", which the numbers of logits do not hold");
  }
  index_type head_of(const place& at) const noexcept { return heads == 1 ? 0 : at.head; }
};

FOVEA_NAMESPACE_END
