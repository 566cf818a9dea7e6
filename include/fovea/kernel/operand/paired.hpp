// fovea/kernel/operand/paired.hpp - keys and values in bf16 as products of pairs read them.
#pragma once

#include <fovea/kernel/operand/operand.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Whether all elements of a head are bf16, with no scales.
template <class Head>
concept bf16_head = has_one_element<Head> && bf16_element<typename Head::element> &&
                    !may_scale_channels<Head> && !may_scale_tokens<Head>;

/// A walk has rows of T whatever they hold: a pair of bf16 is as large as a float.
template <class T>
rows_of<T> as_rows_of(const rows_of<bf16_pair>& rows) noexcept {
  static_assert(sizeof(T) == sizeof(bf16_pair));
  return {reinterpret_cast<const T*>(rows.data), rows.stride, rows.dim};
}
template <class T>
rows_of<bf16_pair> as_pairs(const rows_of<T>& rows) noexcept {
  static_assert(sizeof(T) == sizeof(bf16_pair));
  return {reinterpret_cast<const bf16_pair*>(rows.data), rows.stride, rows.dim};
}

/// One head of keys or values. Of keys a row has ceil(width / 2) pairs of channels; where elements lie side
/// by side and rows an even number of them apart, these are the rows themselves. Of values a row has `width`
/// pairs of two tokens.
template <class Arch, class T, bf16_head Head>
struct paired_operand {
  using arch = Arch;
  static constexpr index_type tokens_a_row_of_columns = 2;
  Head all;
  index_type width;
  T* buffer;

  /// Rows of pairs of channels; an odd last one is paired with a 0.
  rows_of<T> read(range keys) const noexcept {
    const index_type pairs = ceil_div(width, index_type(2));
    if constexpr (is_matrix)
      if (in_place())
        return as_rows_of<T>(
            {reinterpret_cast<const bf16_pair*>(all.at(keys.first)), all.row_stride / 2, pairs});
    rows_of<bf16_pair> rows{nullptr, 0, pairs};  // a block of a cache in one piece
    all.each_piece(keys, [&](const auto& part) {
      const auto& x = part.tokens;
      if (x.rows == keys.size() && x.col_stride == 1 && x.row_stride % 2 == 0 && width % 2 == 0)
        rows = {reinterpret_cast<const bf16_pair*>(x.at(0)), x.row_stride / 2, pairs};
    });
    return as_rows_of<T>(rows.data != nullptr ? rows : copy(keys, pairs));
  }
  /// Rows of pairs of tokens; an odd last one is paired with zeros.
  rows_of<T> read_columns(range keys) const noexcept { return as_rows_of<T>(interleave(keys)); }

  index_type bytes_for_read(index_type block) const noexcept {
    if constexpr (is_matrix)
      if (in_place()) return 0;
    return bytes_of<bf16_pair>(block * ceil_div(width, index_type(2)));
  }

  /// Whether none of the tokens that rows of columns hold is NaN or infinite.
  static bool columns_finite(const rows_of<T>& rows, index_type tokens) noexcept {
    const rows_of<bf16_pair> pairs = as_pairs(rows);
    std::uint32_t special = 0;
    for (index_type j = 0; 2 * j < tokens; ++j) {
      const bf16_pair* const row = pairs.data + j * pairs.stride;
      for (index_type c = 0; c < pairs.dim; ++c)
        special |= ((row[c].low & 0x7f80u) == 0x7f80u) | ((row[c].high & 0x7f80u) == 0x7f80u);
    }
    return special == 0;
  }

 private:
  static constexpr bool is_matrix = requires(const Head& head) { head.at(index_type(0)); };

  bool in_place() const noexcept { return all.col_stride == 1 && all.row_stride % 2 == 0 && width % 2 == 0; }
  static std::uint16_t bits(const auto& x) noexcept { return std::bit_cast<std::uint16_t>(x); }

  FOVEA_NOINLINE rows_of<bf16_pair> copy(range keys, index_type pairs) const noexcept {
    auto* to = reinterpret_cast<bf16_pair*>(buffer);
    all.each_piece(keys, [&](const auto& part) {
      const index_type step = part.tokens.col_stride;
      for (index_type j = 0; j < part.tokens.rows; ++j, to += pairs) {
        const auto* from = part.tokens.at(j);
        if (step == 1) {
          std::memcpy(to, from, static_cast<std::size_t>(width / 2) * sizeof *to);
        } else {
          for (index_type c = 0; c < width / 2; ++c)
            to[c] = {bits(from[2 * c * step]), bits(from[(2 * c + 1) * step])};
        }
        if (width % 2 == 1) to[pairs - 1] = {bits(from[(width - 1) * step]), 0};
      }
    });
    return {reinterpret_cast<const bf16_pair*>(buffer), pairs, pairs};
  }

  FOVEA_NOINLINE rows_of<bf16_pair> interleave(range keys) const noexcept {
    auto* const to = reinterpret_cast<bf16_pair*>(buffer);
    index_type token = 0;
    all.each_piece(keys, [&](const auto& part) {
      const index_type step = part.tokens.col_stride;
      for (index_type j = 0; j < part.tokens.rows;) {
        bf16_pair* const row = to + token / 2 * width;
        const auto* from = part.tokens.at(j);
        if (token % 2 == 1) {  // the second of a pair that another piece began
          for (index_type c = 0; c < width; ++c) row[c].high = bits(from[c * step]);
          ++j, ++token;
          continue;
        }
        const bool both = j + 1 < part.tokens.rows;
        if (both && step == 1)
          interleave_rows(from, part.tokens.at(j + 1), row);
        else
          for (index_type c = 0; c < width; ++c)
            row[c] = {bits(from[c * step]), both ? bits(part.tokens.at(j + 1)[c * step]) : std::uint16_t(0)};
        j += both ? 2 : 1, token += both ? 2 : 1;
      }
    });
    return {to, width, width};
  }

  template <class E>
  void interleave_rows(const E* low, const E* high, bf16_pair* to) const noexcept {
    constexpr index_type n = lanes<Arch, T>;
    index_type c = 0;
    for (; c + n <= width; c += n) {
      const auto wide = [](const E* from) {  // as a float the element is its upper half
        return bits_as<std::int32_t, Arch>(isa<Arch>::load_bf16(from));
      };
      store_pairs<Arch>((wide(low + c) >> 16 & registers_of_pairs<Arch>(0xffff)) | wide(high + c), to + c);
    }
    for (; c < width; ++c) to[c] = {bits(low[c]), bits(high[c])};
  }
};

/// The scorer of queries and keys that are pairs of bf16: scale * q . k.
struct dot_product_of_pairs {};

/// Whether S = Q K^T is made of pairs, of queries of element QE and keys that Head is one head of.
template <class Arch, class T, class QE, class Head>
inline constexpr bool pairs_channels = false;
template <multiplies_pairs Arch, bf16_element QE, bf16_head Head>
inline constexpr bool pairs_channels<Arch, float, QE, Head> = true;

/// Whether the products of queries and keys of a call are of pairs of bf16, if they are dot products.
template <class Arch, class Inputs>
inline constexpr bool pairs_channels_of =
    pairs_channels<Arch, typename Inputs::compute, typename Inputs::query_element,
                   decltype(std::declval<const Inputs&>().k.head(0, 0))>;

/// Whether products of rounded weights and values of such a head are made of pairs.
template <class Arch, class T, class Head>
inline constexpr bool pairs_tokens = false;
template <multiplies_pairs Arch, bf16_head Head>
inline constexpr bool pairs_tokens<Arch, float, Head> = true;

/// The operand of a head for the form with queries in lanes.
template <class Arch, bool Pairs, class T, class Head>
auto operand_in_lanes(const Head& all, index_type width, T* buffer) noexcept {
  if constexpr (Pairs)
    return paired_operand<Arch, T, Head>{all, width, buffer};
  else
    return operand_of<Arch>(all, width, buffer);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
