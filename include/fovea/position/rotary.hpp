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
// Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv:2104.09864; the operator
// RotaryEmbedding of ONNX.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/kernel/arch/registers.hpp>
#include <fovea/plan/operands.hpp>

#include <cmath>
#include <cstdlib>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Which two of the r rotated dimensions turn together: i and i + r/2 (GPT-NeoX, most files of Llama), or 2i
/// and 2i + 1 (the paper, GPT-J).
enum class rotary_pairs { halves, interleaved };

/// Cosines and sines, positions x r/2 each, of any element and strides; not owned.
template <class E>
struct rotary_angles {
  matrix_view<const E> cos, sin;
};

/// Owns the cosines and sines of position * base^(-2i / r), i < r/2, for the positions 0 to `positions` - 1:
/// computed in double, rounded once to T. Throws std::invalid_argument where `positions` is negative,
/// `rotary_dim` (r) odd or negative, or `base` not a finite number above 0;
/// std::length_error where positions * r numbers are more than can be counted.
template <class T = float>
class rotary_table {
 public:
  rotary_table(const rotary_table&) = default;
  rotary_table(rotary_table&&) = default;
  rotary_table& operator=(const rotary_table&) = default;
  rotary_table& operator=(rotary_table&&) = default;
  ~rotary_table() = default;
  rotary_table(index_type positions, index_type rotary_dim, double base = 10000.0)
      : rows_(positions), columns_(rotary_dim / 2) {
    if (positions < 0) reject("rotary_table has ", positions, " positions, fewer than 0");
    if (rotary_dim < 0 || rotary_dim % 2 != 0)
      reject("rotary_table's rotary_dim is ", rotary_dim, ", not an even number >= 0");
    if (!is_finite(base) || !(base > 0))
      reject("rotary_table's base is ", base, ", not a finite number above 0");
    const double last_pair = static_cast<double>(columns_ - 1) / static_cast<double>(columns_);
    if (columns_ > 0 && !is_finite(static_cast<double>(rows_) * std::pow(base, -last_pair)))
      reject("rotary_table's base is ", base, ", with which position ", rows_, " has an infinite angle");
    size_product("rotary_table", positions, rotary_dim, sizeof(T));
    values_.resize(static_cast<std::size_t>(2 * rows_ * columns_));
    T *cosines = values_.data(), *sines = cosines + rows_ * columns_;
    for (index_type i = 0; i < columns_; ++i) {
      const double step = std::pow(base, -static_cast<double>(i) / static_cast<double>(columns_));
      for (index_type p = 0; p < rows_; ++p) {
        cosines[p * columns_ + i] = static_cast<T>(std::cos(static_cast<double>(p) * step));
        sines[p * columns_ + i] = static_cast<T>(std::sin(static_cast<double>(p) * step));
      }
    }
  }

  /// Views of this table, which must outlive them.
  rotary_angles<T> angles() const& noexcept {
    return {{values_.data(), rows_, columns_, columns_, 1},
            {values_.data() + rows_ * columns_, rows_, columns_, columns_, 1}};
  }
  template <class X = T>
  rotary_angles<T> angles() const&& {
    static_assert(never<X>, "fovea: angles() are views of the table; give the rotary_table a name");
  }

 private:
  index_type rows_ = 0, columns_ = 0;
  std::vector<T> values_;
};

struct rotary_options {
  index_type heads = any_heads;  // of a matrix, unless it is one head that turns whole; tensors know theirs
  rotary_pairs pairs = rotary_pairs::halves;
  index_type first = 0;  // position of each sequence's first token, where no positions are given
  // A position a token: of one sequence, which all then share, or of all sequences, one after another;
  // integers of any type.
  list_view<index_type> positions = {};
};

namespace position {

/// Where the tokens of a batch stand.
struct token_positions {
  list_view<index_type> given;  // empty: counted from `first`
  bool shared;
  index_type first;

  /// Of token t of a sequence that has `before` tokens before it in the batch.
  index_type of(index_type before, index_type t) const noexcept {
    return given.empty() ? first + t : given[shared ? t : before + t];
  }
};

/// Whether x can be turned by these angles into `out`.
template <class OE, class XE, class E>
void check(const sequences<OE>& out, const sequences<XE>& x, const rotary_angles<E>& angles) {
  const auto &cos = angles.cos, &sin = angles.sin;
  if (sin.rows != cos.rows || sin.cols != cos.cols)
    reject("the table of cosines is ", cos.rows, " x ", cos.cols, ", that of sines ", sin.rows, " x ",
           sin.cols);
  if (2 * cos.cols > x.all.dim)
    reject("the table rotates ", 2 * cos.cols, " dimensions, x has ", x.all.dim, " a head");
  const auto same = [](const char* what, index_type of_out, index_type of_x) {
    if (of_out != of_x) reject("out has ", of_out, " ", what, " but x has ", of_x);
  };
  same("sequences", out.batches(), x.batches()), same("heads", out.all.heads, x.all.heads);
  same("dimensions a head", out.all.dim, x.all.dim);
  for (index_type b = 0; b < x.batches(); ++b) same("tokens", out.tokens(b), x.tokens(b));
  check_writable("out", out.all);
  check_apart_or_same("out", out, "x", x);
  const auto table = [](const matrix_view<const E>& m) {
    return tensor_view<const E>{m.data, 1, 1, m.rows, m.cols, 0, 0, m.row_stride, m.col_stride};
  };
  check_apart("out", out.all, "the table of cosines", table(cos));
  check_apart("out", out.all, "the table of sines", table(sin));
}

/// The positions that the options name, each within the table's rows.
template <class XE>
token_positions checked_positions(const sequences<XE>& x, index_type rows, const rotary_options& o) {
  const index_type given = o.positions.size(), one = x.max_tokens();
  index_type all = 0;
  for (index_type b = 0; b < x.batches(); ++b) all += x.tokens(b);
  if (given != 0 && given != one && given != all)
    reject("there are ", given, " positions, neither ", one, " (the tokens of one sequence) nor ", all,
           " (of all)");
  const token_positions at{o.positions, given == one, o.first};
  for (index_type b = 0, before = 0; b < x.batches(); before += x.tokens(b++))
    for (index_type t = 0; t < x.tokens(b); ++t)
      if (const index_type p = at.of(before, t); p < 0 || p >= rows)
        reject("position ", given == 0 ? std::to_string(p) : text_of(o.positions, at.shared ? t : before + t),
               " of token ", t, " is not within the table's ", rows, " rows");
  return at;
}

/// Turns token t of one head, which stands at position p. A plain loop: compilers vectorise it for strides of
/// 1, and by hand, in registers or by way of a buffer, it was no faster.
template <class Arch, class T, class OE, class XE, class E>
void turn_token(const matrix_view<OE>& out, const matrix_view<XE>& x, index_type t, index_type p,
                const rotary_angles<E>& angles, rotary_pairs pairs) noexcept {
  const bool halves = pairs == rotary_pairs::halves;
  const index_type half = angles.cos.cols;
  for (index_type i = 0; i < half; ++i) {
    const index_type a = halves ? i : 2 * i, b = halves ? i + half : 2 * i + 1;
    const T u = load_element<T>(x(t, a)), v = load_element<T>(x(t, b));
    const T cos = load_element<T>(angles.cos(p, i)), sin = load_element<T>(angles.sin(p, i));
    out(t, a) = store_element<OE>(u * cos - v * sin);
    out(t, b) = store_element<OE>(u * sin + v * cos);
  }
  for (index_type i = 2 * half; i < x.cols; ++i) out(t, i) = store_element<OE>(load_element<T>(x(t, i)));
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
  using T = common_compute_t<element_of<Out>, element_of<X>, E>;
  const auto from = as_sequences(x, options.heads, "x");
  const auto to = as_sequences(out, options.heads, "out");
  static_assert(!std::is_const_v<std::remove_pointer_t<decltype(to.all.data)>>,
                "fovea: the result is written to; it can not be const");
  position::check(to, from, angles);
  if constexpr (!tells_heads<X>)
    if (options.heads == any_heads && angles.cos.cols > 0 && 2 * angles.cos.cols < from.all.dim)
      reject("x is a matrix of ", from.all.dim, " columns, of which the table rotates ", 2 * angles.cos.cols,
             ": say how many heads they are by the option heads (1, where the others are to stay)");
  const auto at = position::checked_positions(from, angles.cos.rows, options);
  // In the order of memory: all heads of a token together, or all tokens of a head.
  const bool together = std::abs(from.all.head_stride) <= std::abs(from.all.token_stride);
  const index_type heads = from.all.heads, group = together ? std::max<index_type>(heads, 1) : 1;
  for (index_type b = 0, before = 0; b < from.batches(); before += from.tokens(b++))
    for (index_type first = 0; first < heads; first += group)
      for (index_type t = 0; t < from.tokens(b); ++t)
        for (index_type h = first; h < first + group; ++h)
          position::turn_token<Arch, T>(to.head(b, h), from.head(b, h), t, at.of(before, t), angles,
                                        options.pairs);
}

/// Turns x in place; see rotate_into.
template <class Arch = xsimd::default_arch, viewable X, class E>
void rotate(X&& x, const rotary_angles<E>& angles, const rotary_options& options = {}) {
  rotate_into<Arch>(x, x, angles, options);
}

FOVEA_NAMESPACE_END
