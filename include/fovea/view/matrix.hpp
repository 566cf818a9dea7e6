// fovea/view/matrix.hpp - one head of one sequence: tokens x dim elements in memory, any strides. What
// kernels see.
#pragma once

#include <fovea/index.hpp>

#include <type_traits>

FOVEA_NAMESPACE_BEGIN

template <class E>
struct matrix_view;

/// Tokens of one head that lie in one piece, and their scales: element (i, c) of the piece is
///   tokens(i, c) * channel_scales[c] * token_scales[i],
/// where a null pointer stands for ones: for keys and for values, of every element type and in every call. A
/// scale of 0 makes zeros of what is finite; one that is NaN or infinite is as such an element: it never
/// shows where it is masked. With few query rows, keys scaled by channel and values scaled by token are read
/// as they are stored, and Q times the channels' scales, P times the tokens', must then lie within the range
/// of the sums; other scales (and all of them with many query rows) are multiplied into a copy, a block at a
/// time.
template <class E>
struct piece {
  using element = E;
  matrix_view<const E> tokens;
  const float* channel_scales = nullptr;
  const float* token_scales = nullptr;
};

/// A head whose numbers no pointer reaches: read(tokens, to, stride) writes rows of them, `stride` apart.
template <class Head>
concept decoding_head =
    requires(const Head& head, typename Head::element* to) { head.read(range{}, to, index_type{}); };

/// One that can be read as integers and scales as well, by channel of several tokens or by token:
/// each_coded(tokens, buffer, width, f) writes rows of std::int8_t, `width` apart, and calls f(first, rows,
/// stride, count, scales) for those that share their scales (or each have one), `first` counted from the
/// first of `tokens`; rows may be of another element, and lie elsewhere. They are at least `width` wide:
/// the buffer has room for rows of float.
/// Where codes_in_nibbles, each_nibbles(tokens, f) calls f(first, rows, stride, count, scales) for rows of
/// kernel::nibble_pair, or of another element, in place: their codes are numbers of 4 bits, of values with a
/// multiple of each 32 channels behind them, a byte from 1 to 16. All of them are finite, and their scales.
template <class Head, bool ByChannel>
concept coding_head = decoding_head<Head> && requires { requires Head::codes_by_channel == ByChannel; };
template <class Head>
concept nibble_coding_head = decoding_head<Head> && requires { requires Head::codes_in_nibbles; };

/// Whether pieces of a head may have scales by channel, or by token: unless the head's type says
/// `static constexpr bool has_channel_scales = false`, or has_token_scales, which spares a call the room for
/// a copy.
template <class Head>
inline constexpr bool may_scale_channels = true;
template <class Head>
inline constexpr bool may_scale_tokens = true;
template <class Head>
  requires requires { Head::has_channel_scales; }
inline constexpr bool may_scale_channels<Head> = Head::has_channel_scales;
template <class Head>
  requires requires { Head::has_token_scales; }
inline constexpr bool may_scale_tokens<Head> = Head::has_token_scales;

/// Whether all pieces of a head are of its `element`: the head's type says so by `static constexpr bool
/// of_one_element = true`. (bf16 is then multiplied as it is, where there is an instruction for that.)
template <class Head>
inline constexpr bool has_one_element = false;
template <class Head>
  requires requires { Head::of_one_element; }
inline constexpr bool has_one_element<Head> = Head::of_one_element;

/// Element (r, c) lies at data[r * row_stride + c * col_stride]. Strides count elements and may be 0 or
/// negative.
template <class E>
struct matrix_view {
  using element = std::remove_const_t<E>;
  static constexpr bool has_channel_scales = false, has_token_scales = false, of_one_element = true;
  E* data = nullptr;
  index_type rows = 0, cols = 0;
  index_type row_stride = 0, col_stride = 1;

  E* at(index_type r, index_type c = 0) const noexcept { return data + r * row_stride + c * col_stride; }
  E& operator()(index_type r, index_type c) const noexcept { return *at(r, c); }
  operator matrix_view<const E>() const noexcept
    requires(!std::is_const_v<E>)
  {
    return {data, rows, cols, row_stride, col_stride};
  }

  /// The rows `selected` alone.
  matrix_view only(range selected) const noexcept {
    return {at(selected.first), selected.size(), cols, row_stride, col_stride};
  }

  /// A head of tokens, as kernels read it, has rows, cols, col_stride (of all its pieces) and
  /// each_piece(range, f), which calls f(piece) for the pieces that these tokens lie in, in order. A matrix
  /// lies in one. A piece itself lives until f returns, but what it points to, elements and scales, stays as
  /// it is until the call of attention ends: kernels gather several pieces before they read them, and ask for
  /// those that come. So a head can not decode one piece after another into the same buffer: a storage type
  /// of its own (element/concept.hpp) does that. Several threads ask at once, for the same tokens too.
  template <class F>
  void each_piece(range selected, F&& f) const noexcept {
    if (!selected.empty()) f(piece<element>{only(selected)});
  }
};

FOVEA_NAMESPACE_END
