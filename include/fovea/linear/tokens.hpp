// fovea/linear/tokens.hpp - tokens and a state in strips: what both engines read.
#pragma once

#include <fovea/kernel/scratch.hpp>
#include <fovea/kernel/tile/tile.hpp>

FOVEA_NAMESPACE_BEGIN
namespace linear {

using kernel::lanes, kernel::vec;

/// Registers of a strip: the columns of a state that are worked on together.
inline constexpr int strip_registers = 4;
template <class Arch, class T>
inline constexpr index_type strip_width = strip_registers * lanes<Arch, T>;

/// Tokens that are taken at a time, and of a chunk.
inline constexpr index_type chunk_tokens = 32;

/// The sum of all lanes.
template <class Arch, class T>
T total(const vec<Arch, T>& v) noexcept {
  alignas(64) T lanes_of[std::size_t{lanes<Arch, T>}];
  kernel::sum_over_lanes<Arch, T>(v).store_aligned(lanes_of);
  return lanes_of[0];
}

/// Rows, or numbers, `step` apart; a null pointer: none.
template <class T>
struct row_list {
  T* first = nullptr;
  index_type step = 0;

  T* row(index_type t) const noexcept { return first + t * step; }
  explicit operator bool() const noexcept { return first != nullptr; }
  /// The same in the opposite order.
  row_list reversed(index_type count) const noexcept { return {row(count - 1), -step}; }
  row_list from_column(index_type c) const noexcept { return {first ? first + c : first, step}; }
  operator row_list<const T>() const noexcept
    requires(!std::is_const_v<T>)
  {
    return {first, step};
  }
};

/// A state S (dim x width, whole registers), or its transpose, in strips of columns: strip j is dim rows of
/// width_of(j) numbers, contiguous.
template <class Arch, class T>
struct state_strips {
  static constexpr index_type most = strip_width<Arch, T>;
  T* first = nullptr;
  index_type dim = 0, width = 0;

  index_type count() const noexcept { return ceil_div(width, most); }
  index_type column(index_type j) const noexcept { return j * most; }
  index_type width_of(index_type j) const noexcept { return std::min(most, width - j * most); }
  T* strip(index_type j) const noexcept { return first + j * most * dim; }
};

/// Up to chunk_tokens tokens of a key/value head in the compute type: where they lie, or copies. Rows of v
/// and o are whole registers, those of q and k too where the decay is one of channels; copies are 0 beyond
/// dim and dv.
template <class T>
struct token_block {
  index_type count = 0, group = 1, dim = 0, dim_step = 0, width = 0;  // dim_step, width: whole registers
  row_list<const T> k, v;
  index_type q_head = 0, o_head = 0;  // from query head to query head of the group
  row_list<const T> first_q;
  row_list<T> first_o;
  row_list<const T> decay;  // e^g: a number a token, or a row of channels; null: none
  bool decays_channels = false;
  const T* beta = nullptr;  // a number a token; null: no delta rule
  T scale = T(1);           // what o is multiplied by

  row_list<const T> q(index_type g) const noexcept { return {first_q.first + g * q_head, first_q.step}; }
  row_list<T> o(index_type g) const noexcept { return {first_o.first + g * o_head, first_o.step}; }
};

}  // namespace linear
FOVEA_NAMESPACE_END
