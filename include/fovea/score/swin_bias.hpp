// fovea/score/swin_bias.hpp - a learnt number a head for each offset of two tokens in a window of a picture.
#pragma once

#include <fovea/score/slots.hpp>

FOVEA_NAMESPACE_BEGIN

/// Tokens of a window, row by row.
struct window_size {
  index_type height, width;
};

/// Where tokens stand in a window. The slot of the offset (y, x) of a query from a key,
/// (y + height - 1) (2 width - 1) + x + width - 1, is the difference of their places, y (2 width - 1) + x,
/// and a constant.
class window_places {
 public:
  struct token {
    index_type place, left;  // left: tokens from here to the end of its row
  };

  explicit window_places(const window_size& window) : step_(window.width - 1) {
    for (index_type y = 0; y < window.height; ++y)
      for (index_type x = 0; x < window.width; ++x)
        all_.push_back({y * (2 * window.width - 1) + x, window.width - x});
    middle_ = all_.back().place;
  }
  index_type slot(index_type q, index_type k) const noexcept {
    return (*this)[q].place - (*this)[k].place + middle_;
  }
  const token& operator[](index_type t) const noexcept { return all_[static_cast<std::size_t>(t)]; }
  /// By how much a place is further in the next row than in a row that did not end; a row's tokens.
  index_type step() const noexcept { return step_; }
  index_type width() const noexcept { return step_ + 1; }

 private:
  index_type step_, middle_;
  std::vector<token> all_;
};

/// One head's: s -> s + the number of an offset.
template <class E>
struct swin_cells : added_number {
  slot_list<E> numbers;
  const window_places* places;

  template <class V>
  V apply(const V& s, const auto& cells) const noexcept {
    if constexpr (requires { cells.width; })
      return s + of_register(cells);
    else
      return s + cells.look_up(numbers, slot(cells));
  }
  auto slot(const auto& cells) const noexcept {
    return cells.one_by_one([this](index_type q, index_type k) { return places->slot(q, k); });
  }

 private:
  /// The lanes of a register stand in one row of the window, or in two: one load, or two.
  template <class Cells>
  auto of_register(const Cells& cells) const noexcept {
    const index_type first = places->slot(cells.query, cells.key),
                     left = (*places)[Cells::queries ? cells.query : cells.key].left;
    const E* const from = Cells::queries ? numbers.up + first : numbers.down - first;
    if (left >= Cells::width) return cells.load_run(from);
    if (left + places->width() >= Cells::width)
      return select(cells.lanes_below(left), cells.load_run(from), cells.load_run(from + places->step()));
    return cells.look_up(numbers, slot(cells));
  }
};

/// s_ij -> s_ij + table(slot of the offset, h). Made by swin_bias(m, window).
template <class E, class Gradient>
struct swin_score : learnt_slots<Gradient> {
  static constexpr const char* gradient_name = "the gradient of swin_bias";
  window_size window;
  window_places places;
  head_numbers<E> numbers;  // by slot

  void check(const place& at) const {
    const index_type tokens = window.height * window.width;
    if (at.queries != tokens || at.keys != tokens)
      reject("swin_bias's window of ", window.height, " x ", window.width, " has ", tokens,
             " tokens, not the ", at.queries, " of q and ", at.keys, " of k");
    this->check_table("swin_bias", at);
  }
  template <class T>
  void check_numbers() const {
    this->template check_numbers_in<T>("swin_bias");
  }
  swin_cells<E> bind(const place& at) const noexcept { return {{}, numbers.of(this->head_of(at)), &places}; }
};

FOVEA_NAMESPACE_END
