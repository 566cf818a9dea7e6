// fovea/linear/tokens.hpp - tokens, packed, and a state in strips: what both engines read.
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

/// Tokens that are packed at a time, and of a chunk.
inline constexpr index_type chunk_tokens = 32;

/// A copy of a state S (dim x width, whole registers) in strips of columns: strip j is dim rows of
/// width_of(j) numbers, contiguous.
template <class Arch, class T>
struct state_strips {
  static constexpr index_type most = strip_width<Arch, T>;
  T* first = nullptr;
  index_type dim = 0, width = 0;

  index_type count() const noexcept { return ceil_div(width, most); }
  index_type width_of(index_type j) const noexcept { return std::min(most, width - j * most); }
  T* strip(index_type j) const noexcept { return first + j * most * dim; }
  index_type row_step(index_type j) const noexcept { return width_of(j); }
};

/// Up to chunk_tokens tokens in the compute type. Rows of q and k are `dim_step` apart, of v and o `width`;
/// queries of head g of the group start g * chunk_tokens rows further on. All of it is 0 beyond dim and dv.
template <class T>
struct packed_tokens {
  index_type count = 0, group = 1, dim = 0, dim_step = 0, width = 0;
  T *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
  T* decay = nullptr;         // e^g: a number a token, or a row of dim_step; null: none
  index_type decay_step = 0;  // from token to token
  bool decays_channels = false;
  T* beta = nullptr;  // a number a token; null: no delta rule

  T* q_row(index_type g, index_type t) const noexcept { return q + (g * chunk_tokens + t) * dim_step; }
  T* o_row(index_type g, index_type t) const noexcept { return o + (g * chunk_tokens + t) * width; }
  T* k_row(index_type t) const noexcept { return k + t * dim_step; }
  T* v_row(index_type t) const noexcept { return v + t * width; }
};

}  // namespace linear
FOVEA_NAMESPACE_END
