// fovea/position/rotary.hpp - rotary position embedding: a query-key product that depends on distance.
//
// Each token's first r dimensions of each head are r/2 pairs (a, b); pair i turns by the angle
// position * base^(-2i / r):
//
//   out_a = x_a cos - x_b sin,   out_b = x_a sin + x_b cos
//
//   const fovea::rotary_table<float> table(4096, 64);            // positions 0 to 4095, r = 64
//   fovea::rotate(q, table.angles(), {.heads = 8, .first = 10}); // in place; the first token stands at 10
//   fovea::rotate(k, table.angles(), {.heads = 2, .first = 10});
//
// Other angles are another table: rotary_table.hpp makes it from frequencies, which plain_frequencies and the
// scalings beside this file give. Keys turn on their way into a cache by cache.append(k, v, table.angles()).
//
// Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv:2104.09864; the operator
// RotaryEmbedding of ONNX.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/kernel/arch/registers.hpp>
#include <fovea/position/rotary_table.hpp>
#include <fovea/position/token_positions.hpp>

#include <cstdlib>

FOVEA_NAMESPACE_BEGIN

/// Which two of the r rotated dimensions turn together: i and i + r/2 (GPT-NeoX, most files of Llama), or 2i
/// and 2i + 1 (the paper, GPT-J).
enum class rotary_pairs { halves, interleaved };

struct rotary_options {
  index_type heads = any_heads;  // of a matrix, unless it is one head that turns whole; tensors know theirs
  rotary_pairs pairs = rotary_pairs::halves;
  index_type first = 0;  // position of each sequence's first token, where no positions are given
  // A position a token: of one sequence, which all then share, or of all sequences, one after another;
  // integers of any type.
  list_view<index_type> positions = {};
};

namespace position {

/// Whether x can be turned by these angles into `out`.
template <class OE, class XE, class E>
void check(const sequences<OE>& out, const sequences<XE>& x, const rotary_angles<E>& angles) {
  check_angles(angles, x.all.dim, "x has", " a head"), check_result(out, x);
  const auto table = [](const matrix_view<const E>& m) {
    return tensor_view<const E>{m.data, 1, 1, m.rows, m.cols, 0, 0, m.row_stride, m.col_stride};
  };
  check_apart("out", out.all, "the table of cosines", table(angles.cos));
  check_apart("out", out.all, "the table of sines", table(angles.sin));
}

/// Turns token t of one head, which stands at position p, forth (way 1) or back (-1). A plain loop: compilers
/// vectorise it for strides of 1, and by hand, in registers or by way of a buffer, it was no faster.
template <class Arch, class T, class OE, class XE, class E>
void turn_token(const matrix_view<OE>& out, const matrix_view<XE>& x, index_type t, index_type p,
                const rotary_angles<E>& angles, rotary_pairs pairs, T way = 1) noexcept {
  const bool halves = pairs == rotary_pairs::halves;
  const index_type half = angles.cos.cols;
  for (index_type i = 0; i < half; ++i) {
    const index_type a = halves ? i : 2 * i, b = halves ? i + half : 2 * i + 1;
    const T u = load_element<T>(x(t, a)), v = load_element<T>(x(t, b));
    const T cos = load_element<T>(angles.cos(p, i)), sin = way * load_element<T>(angles.sin(p, i));
    out(t, a) = store_element<OE>(u * cos - v * sin);
    out(t, b) = store_element<OE>(u * sin + v * cos);
  }
  for (index_type i = 2 * half; i < x.cols; ++i) out(t, i) = store_element<OE>(load_element<T>(x(t, i)));
}

/// Turns all tokens of sequences of the same shape; compiled once for the elements, whatever holds them.
template <class Arch, class OE, class XE, class E>
FOVEA_NOINLINE void turn_sequences(const sequences<OE>& to, const sequences<const XE>& from,
                                   const rotary_angles<E>& angles, const rotary_options& options, int way) {
  using T = common_compute_t<OE, XE, E>;
  const auto at = checked_positions(from, angles.cos.rows, options.first, options.positions);
  // In the order of memory: all heads of a token together, or all tokens of a head.
  const bool together = std::abs(from.all.head_stride) <= std::abs(from.all.token_stride);
  const index_type heads = from.all.heads, group = together ? std::max<index_type>(heads, 1) : 1;
  for (index_type b = 0, before = 0; b < from.batches(); before += from.tokens(b++))
    for (index_type first = 0; first < heads; first += group)
      for (index_type t = 0; t < from.tokens(b); ++t)
        for (index_type h = first; h < first + group; ++h)
          turn_token<Arch>(to.head(b, h), from.head(b, h), t, at.of(before, t), angles, options.pairs,
                           T(way));
}

/// What rotate_into (way 1) and rotate_back_into (-1) do.
template <class Arch, class Out, class X, class E>
void turn(Out& out, const X& x, const rotary_angles<E>& angles, const rotary_options& options, int way) {
  const auto from = read_only(as_sequences(x, options.heads, "x"));
  const auto to = as_sequences(out, options.heads, "out");
  static_assert(!std::is_const_v<std::remove_pointer_t<decltype(to.all.data)>>,
                "fovea: the result is written to; it can not be const");
  check(to, from, angles);
  if constexpr (!tells_heads<X>)
    if (options.heads == any_heads && angles.cos.cols > 0 && 2 * angles.cos.cols < from.all.dim)
      reject("x is a matrix of ", from.all.dim, " columns, of which the table rotates ", 2 * angles.cos.cols,
             ": say how many heads they are by the option heads (1, where the others are to stay)");
  turn_sequences<Arch>(to, from, angles, options, way);
}

}  // namespace position

/// out <- x with each token's first r dimensions of each head turned by the angles of its position, the
/// others copied; r is twice the columns of `angles`.
///
/// x, out: Eigen matrices, tensors or ragged batches of the same shape, any strides and elements. They are
/// the same view (as in rotate) or share no memory, nor does `out` with the table. Rows of
/// no sequence of a ragged batch are left as they are. Arithmetic in float, or in double where an element is
/// double. Throws std::invalid_argument, naming both values and before anything is written, where shapes
/// differ, r exceeds the dimension of a head, or a position lies beyond the table. Cost: 3 r operations a
/// token and head, which is the time to read x and write out; no memory.
template <class Arch = xsimd::default_arch, viewable Out, viewable X, class E>
void rotate_into(Out&& out, const X& x, const rotary_angles<E>& angles, const rotary_options& options = {}) {
  position::turn<Arch>(out, x, angles, options, 1);
}

/// Turns x in place; see rotate_into.
template <class Arch = xsimd::default_arch, viewable X, class E>
void rotate(X&& x, const rotary_angles<E>& angles, const rotary_options& options = {}) {
  rotate_into<Arch>(x, x, angles, options);
}

/// d_x <- the gradient by x of a loss whose gradient by rotate_into's `out` is d_out: each pair turned the
/// other way (times the table's magnitude, as it was),
///
///   d_a = d_out_a cos + d_out_b sin,   d_b = d_out_b cos - d_out_a sin
///
/// With a magnitude of 1 that is the inverse as well: keys of a cache can be turned back. Takes and throws
/// what rotate_into does.
template <class Arch = xsimd::default_arch, viewable Out, viewable X, class E>
void rotate_back_into(Out&& d_x, const X& d_out, const rotary_angles<E>& angles,
                      const rotary_options& options = {}) {
  position::turn<Arch>(d_x, d_out, angles, options, -1);
}

/// Turns d back in place; see rotate_back_into.
template <class Arch = xsimd::default_arch, viewable X, class E>
void rotate_back(X&& d, const rotary_angles<E>& angles, const rotary_options& options = {}) {
  rotate_back_into<Arch>(d, d, angles, options);
}

FOVEA_NAMESPACE_END
