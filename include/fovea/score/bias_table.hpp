// fovea/score/bias_table.hpp - a small table that is added to the logits through an index of one's own.
#pragma once

#include <fovea/score/slots.hpp>

FOVEA_NAMESPACE_BEGIN

/// One head's: s -> s + the number of slot f(q, k), or f(b, h, q, k), and s where that is none. f is referred
/// to.
template <class E, class F>
struct table_cells : added_number {
  slot_list<E> numbers;
  const F* f;
  index_type batch, head;

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    return s + cells.look_up(numbers, slot(cells));
  }
  auto slot(const auto& cells) const noexcept {
    using position = std::remove_cvref_t<decltype(cells.q())>;
    if constexpr (std::is_invocable_v<const F&, position, position>)
      return position((*f)(cells.q(), cells.k()));
    else if constexpr (std::is_invocable_v<const F&, index_type, index_type, position, position>)
      return position((*f)(batch, head, cells.q(), cells.k()));
    else
      return cells.one_by_one([this](index_type q, index_type k) {
        index_type slot;
        if constexpr (std::is_invocable_v<const F&, index_type, index_type>)
          slot = static_cast<index_type>((*f)(q, k));
        else
          slot = static_cast<index_type>((*f)(batch, head, q, k));
        return numbers.holds(slot) ? slot : -1;  // registers hold 32 bits of it
      });
  }
};

/// s_ij -> s_ij + table(slot(i, j), h) of query head h, or of slot(b, h, i, j) with the sequence; nothing is
/// added where the table has no such slot. Made by bias_table(m, slot).
template <class E, class Gradient, class F>
struct bias_table_score : learnt_slots<Gradient> {
  static constexpr const char* gradient_name = "the gradient of bias_table";
  head_numbers<E> numbers;  // by slot
  F f;

  void check(const place& at) const { this->check_table("bias_table", at); }
  template <class T>
  void check_numbers() const {
    this->template check_numbers_in<T>("bias_table");
  }
  table_cells<E, F> bind(const place& at) const noexcept {
    return {{}, numbers.of(this->head_of(at)), &f, at.batch, at.head};
  }
};

FOVEA_NAMESPACE_END
