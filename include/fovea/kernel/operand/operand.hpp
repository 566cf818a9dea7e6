// fovea/kernel/operand/operand.hpp - keys and values as a kernel reads them: rows with a stride, dim
// contiguous.
#pragma once

#include <fovea/kernel/operand/read_piece.hpp>
#include <fovea/kernel/scratch.hpp>
#include <fovea/kernel/tile/tile.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Rows of a block of keys.
template <class E>
struct rows_of {
  const E* data;
  index_type stride, dim;
  rows_of from(index_type row) const noexcept { return {data + row * stride, stride, dim}; }
  matrix_view<const E> view(index_type rows) const noexcept { return {data, rows, dim, stride, 1}; }
};

/// Whether no element of a block of rows is NaN or infinite.
template <class Arch, class T, class E>
FOVEA_NOINLINE bool all_finite(rows_of<E> rows, index_type count) noexcept {
  if constexpr (std::is_integral_v<E>) return true;
  using V = vec<Arch, T>;
  constexpr index_type n = static_cast<index_type>(V::size);
  // 0 * x is 0, or NaN: but some compilers know of a 0 that they see only that it is 0.
  const V zero = isa<Arch>::as_rounded(V(T(0)));
  const T one_zero = zero.get(0);
  V nothing[4] = {V(T(0)), V(T(0)), V(T(0)), V(T(0))};  // one sum would wait for itself
  T rest = T(0);
  for (index_type j = 0; j < count; ++j) {
    const E* row = rows.data + j * rows.stride;
    index_type c = 0;
    for (; c + 4 * n <= rows.dim; c += 4 * n)
      for (index_type i = 0; i < 4; ++i)
        nothing[i] = isa<Arch>::fma(load_lanes<Arch, T>(row + c + i * n), zero, nothing[i]);
    for (; c + n <= rows.dim; c += n)
      nothing[0] = isa<Arch>::fma(load_lanes<Arch, T>(row + c), zero, nothing[0]);
    for (; c < rows.dim; ++c) rest += load_element<T>(row[c]) * one_zero;
  }
  const V all = (nothing[0] + nothing[1]) + (nothing[2] + nothing[3]);
  return xsimd::all(all == all) && rest == rest;
}

/// Bytes of a copy of a block as rows of T.
template <class T>
constexpr index_type copy_bytes(index_type block, index_type width) noexcept {
  return bytes_of<T>(block * width);
}

/// The scales (see piece) that a product of rows as they are stored takes into account by itself: those of
/// the keys' channels, which become part of Q; those of the values' tokens, which become part of P.
enum class scaled { by_channel, by_token };

/// One head of keys or values, read a block at a time: where the elements lie as a kernel wants them, as they
/// are; else through a buffer of block x width numbers, padded with zeros.
template <class Arch, class T, class Head>
struct operand {
  static constexpr index_type tokens_a_row_of_columns = 1;
  Head all;
  index_type width;  // of a row as the kernel reads it: all.cols, or at least a register
  T* buffer;         // block x width

  /// For the form with queries in lanes: rows of T.
  rows_of<T> read(range keys) const noexcept {
    if constexpr (as_it_is)
      if (in_place()) return {all.at(keys.first), all.row_stride, width};
    const rows_of<T> rows = in_one_piece(keys);
    return rows.data != nullptr ? rows : copy(keys);
  }

  /// Rows of T where a block of a cache lies in one piece of them, no data where it does not. (128 heads of
  /// 576 take a fifth less time than with keys copied, which are as large as what their queries keep in L2.)
  rows_of<T> in_one_piece(range keys) const noexcept {
    rows_of<T> rows{nullptr, 0, width};
    if constexpr (!decoding_head<Head> && has_one_element<Head>) {
      if constexpr (std::is_same_v<typename Head::element, T> && !may_scale_channels<Head> &&
                    !may_scale_tokens<Head>)
        if (in_place())
          all.each_piece(keys, [&](const auto& part) {
            if (part.tokens.rows == keys.size()) rows = {part.tokens.data, part.tokens.row_stride, width};
          });
    }
    return rows;
  }

  /// The same for values, of which a tile takes a few columns at a time; see far_apart.
  rows_of<T> read_columns(range keys) const noexcept { return far_apart() ? copy(keys) : read(keys); }

  /// For the form with dim in lanes, which converts as it reads: f(first, rows of E, count, scales) for the
  /// pieces of a block, `first` counted from the block's; `scales` are those that are Scaled, or null. One
  /// that does not lie in place is gathered in the buffer, until the next; one with other scales becomes rows
  /// of T there. Nibbles: rows of nibble_pair where they are whole registers, which few products take.
  template <scaled Scaled, bool Nibbles = false, class F>
  FOVEA_INLINE void each_rows(range keys, F&& f) const noexcept {
    constexpr const float* unscaled = nullptr;
    const auto coded = [&](index_type first, const auto* rows, index_type stride, index_type count,
                           const float* scales) FOVEA_INLINE_LAMBDA {
      f(first, rows_of<std::remove_cvref_t<decltype(*rows)>>{rows, stride, width}, count, scales);
    };
    constexpr bool coded_so = coding_head<Head, Scaled == scaled::by_channel>;  // keys may stand for values
    if constexpr (Nibbles && coded_so && std::is_same_v<T, float> && looks_up_nibbles<Arch> &&
                  nibble_coding_head<Head>)
      if (all.cols == width && width % (2 * lanes<Arch, T>) == 0) return all.each_nibbles(keys, coded);
    if constexpr (coded_so) {
      all.each_coded(keys, reinterpret_cast<std::int8_t*>(buffer), width, coded);
    } else if constexpr (decoding_head<Head>) {
      f(index_type(0), copy(keys), keys.size(), unscaled);
    } else {
      index_type first = 0;
      all.each_piece(keys, [&](const auto& part) FOVEA_INLINE_LAMBDA {
        using E = typename std::remove_cvref_t<decltype(part)>::element;
        constexpr bool by_channel = Scaled == scaled::by_channel;
        const index_type count = part.tokens.rows, here = first;
        first += count;
        if constexpr (may_scale_otherwise<Scaled>)
          if ((by_channel ? part.token_scales : part.channel_scales) != nullptr) {
            copy_piece(part, buffer);
            f(here, rows_of<T>{buffer, width, width}, count, unscaled);
            return;
          }
        rows_of<E> rows{part.tokens.data, part.tokens.row_stride, width};
        if (!in_place()) rows = gathered<E>(part.tokens);
        f(here, rows, count, by_channel ? part.channel_scales : part.token_scales);
      });
    }
  }
  /// Whether rows that each_rows gave lie in the buffer.
  template <class E>
  bool in_buffer(const rows_of<E>& rows) const noexcept {
    return static_cast<const void*>(rows.data) == static_cast<const void*>(buffer);
  }

  /// Bytes of the buffer for a block of keys: of rows of T, and of rows of E. None where they lie in place.
  index_type bytes_for_read(index_type block) const noexcept {
    return as_it_is && in_place() ? 0 : copy_bytes<T>(block, width);
  }
  index_type bytes_for_columns(index_type block) const noexcept {
    return far_apart() ? copy_bytes<T>(block, width) : bytes_for_read(block);
  }
  template <scaled Scaled>
  index_type bytes_for_rows(index_type block) const noexcept {
    return in_place() && !may_scale_otherwise<Scaled> ? 0 : copy_bytes<T>(block, width);
  }
  bool in_place() const noexcept {
    if constexpr (decoding_head<Head>)
      return false;
    else
      return all.col_stride == 1 && width == all.cols;
  }

  /// Whether none of so many tokens of rows of columns is NaN or infinite.
  static bool columns_finite(const rows_of<T>& rows, index_type tokens) noexcept {
    return all_finite<Arch, T>(rows, tokens);
  }

  /// Whether rows lie so that they share few sets of L1, where some columns of all rows of a block do not
  /// stay from one tile to the next. With narrow tiles that is too often: AVX2 took 20 to 60 % more time for
  /// heads of [batch][token][head][dim] with tokens 4 KB apart, and takes 2 to 12 % more with values copied
  /// to lie side by side. AVX-512 takes 0 to 11 % more, with copies 2 to 15 %. (A copy of keys, which are
  /// read row by row, gained nothing.)
  bool far_apart() const noexcept {
    if constexpr (as_it_is && geometry<Arch>::copies_far_columns)
      return in_place() && all.row_stride > width &&
             all.row_stride * static_cast<index_type>(sizeof(T)) % 2048 == 0;
    return false;
  }

 private:
  static constexpr bool as_it_is =
      std::is_same_v<Head, matrix_view<T>> || std::is_same_v<Head, matrix_view<const T>>;
  template <scaled Scaled>
  static constexpr bool may_scale_otherwise =
      Scaled == scaled::by_channel ? may_scale_tokens<Head> : may_scale_channels<Head>;

  FOVEA_NOINLINE rows_of<T> copy(range keys) const noexcept {
    if constexpr (as_it_is)
      if (all.row_stride == 1 && all.col_stride != 1) return copy_columns(keys);
    T* to = buffer;
    if constexpr (decoding_head<Head>) {
      all.read(keys, to, width);
      for (index_type j = 0; j < keys.size() && all.cols < width; ++j)
        std::fill(to + j * width + all.cols, to + (j + 1) * width, T(0));
    } else {
      all.each_piece(keys, [&](const auto& part) FOVEA_INLINE_LAMBDA {
        copy_piece(part, to);
        to += part.tokens.rows * width;
      });
    }
    return {buffer, width, width};
  }

  // A piece's elements as rows of T, as read_piece_row has them. (Side by side they are converted by
  // instructions: 16 queries, 512 keys of fp16 took 30 % more when compilers made it of the elements' own.)
  template <class Piece>
  FOVEA_INLINE void copy_piece(const Piece& part, T* to) const noexcept {
    using V = vec<Arch, T>;
    constexpr index_type n = lanes<Arch, T>;
    if (part.tokens.col_stride == 1 && all.cols >= n) {
      for (index_type j = 0; j < part.tokens.rows; ++j, to += width) {
        for (index_type i = 0; i * n < all.cols; ++i) {
          const index_type c = start_of<Arch, T>(i, all.cols);
          V x = load_lanes<Arch, T>(part.tokens.at(j) + c);
          if (part.channel_scales != nullptr) x = x * load_lanes<Arch, T>(part.channel_scales + c);
          if (part.token_scales != nullptr) x = x * V(static_cast<T>(part.token_scales[j]));
          x.store_unaligned(to + c);
        }
        std::fill(to + all.cols, to + width, T(0));
      }
      return;
    }
    for (index_type j = 0; j < part.tokens.rows; ++j, to += width) {
      read_piece_row(part, j, all.cols, to);
      std::fill(to + all.cols, to + width, T(0));
    }
  }

  // The elements side by side, as they are: never wider than T, so that they fit into the buffer.
  template <class E>
  FOVEA_NOINLINE rows_of<E> gathered(const matrix_view<const E>& part) const noexcept {
    if constexpr (as_it_is)
      if (part.row_stride == 1 && part.col_stride != 1)
        return operand{.all = part, .width = width, .buffer = buffer}.copy_columns({0, part.rows});
    E* to = reinterpret_cast<E*>(buffer);
    for (index_type j = 0; j < part.rows; ++j)
      for (index_type c = 0; c < width; ++c) *to++ = c < part.cols ? part(j, c) : E{};
    return {reinterpret_cast<E*>(buffer), width, width};
  }

  // Column-major: n tokens of n columns are loaded along the columns and transposed in registers.
  FOVEA_INLINE rows_of<T> copy_columns(range keys) const noexcept {
    constexpr index_type n = lanes<Arch, T>;
    using V = vec<Arch, T>;
    const bool whole_tiles = keys.size() >= n && all.cols >= n;  // then the last ones overlap those before
    for (index_type c = 0; c < all.cols; c += n)
      for (index_type j = 0; j < keys.size(); j += n) {
        V v[std::size_t{n}];
        if (whole_tiles) {
          const index_type token = std::min(j, keys.size() - n), column = std::min(c, all.cols - n);
          T* const to = buffer + token * width + column;
          FOVEA_UNROLL_ALL
          for (index_type e = 0; e < n; ++e) v[e] = V::load_unaligned(all.at(keys.first + token, column + e));
          isa<Arch>::transpose(v);
          FOVEA_UNROLL_ALL
          for (index_type i = 0; i < n; ++i) v[i].store_unaligned(to + i * width);
        } else {
          for (index_type i = j; i < std::min(j + n, keys.size()); ++i)
            for (index_type e = c; e < std::min(c + n, all.cols); ++e)
              buffer[i * width + e] = *all.at(keys.first + i, e);
        }
      }
    for (index_type j = 0; j < keys.size(); ++j)
      for (index_type c = all.cols; c < width; ++c) buffer[j * width + c] = T(0);
    return {buffer, width, width};
  }
};

/// The operand for a head, with rows of `width` and room for a block of them.
template <class Arch, class T, class Head>
FOVEA_INLINE operand<Arch, T, Head> operand_of(const Head& all, index_type width, T* buffer) noexcept {
  return {all, width, buffer};
}

/// Rows of a block, and whether they may be multiplied by probabilities of 0: looked up only where some are.
template <class Arch, class T>
class block_rows {
 public:
  block_rows(rows_of<T> rows, index_type count) noexcept : rows_(rows), count_(count) {}
  rows_of<T> from(index_type offset) const noexcept { return rows_.from(offset); }
  bool finite() noexcept {
    if (!known_) finite_ = all_finite<Arch, T>(rows_, count_), known_ = true;
    return finite_;
  }

 private:
  rows_of<T> rows_;
  index_type count_;
  bool known_ = false, finite_ = false;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
