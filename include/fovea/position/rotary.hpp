// fovea/position/rotary.hpp - rotary position embedding: a query-key product that depends on distance.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/view/sequences.hpp>

#include <cmath>
#include <span>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Which two of the r rotated dimensions turn together: i and i + r/2 (GPT-NeoX, Llama in most files), or 2i
/// and 2i + 1 (GPT-J, the paper).
enum class rotary_pairs { halves, interleaved };

/// Cosines and sines, positions x r/2 each, of any element; not owned.
template <class E>
struct rotary_angles {
  matrix_view<const E> cos, sin;
};

/// Owns the angles position * base^(-2i / r), i < r/2, for positions 0 to `positions` - 1; computed in
/// double, rounded once.
template <class T = float>
class rotary_table {
 public:
  FOVEA_INLINE rotary_table(index positions, index rotary_dim, double base = 10000.0)
      : columns_(rotary_dim / 2) {
    if (positions < 0) reject("rotary_table has ", positions, " positions, fewer than 0");
    if (rotary_dim < 0 || rotary_dim % 2 != 0)
      reject("rotary_table's dimension is ", rotary_dim, ", not an even number >= 0");
    if (!(base > 0)) reject("rotary_table's base is ", base, ", not above 0");
    rows_ = positions;
    values_.resize(static_cast<std::size_t>(2 * rows_ * columns_));
    for (index p = 0; p < rows_; ++p)
      for (index i = 0; i < columns_; ++i) {
        const double angle = static_cast<double>(p) *
                             std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
        values_[static_cast<std::size_t>(p * columns_ + i)] = static_cast<T>(std::cos(angle));
        values_[static_cast<std::size_t>((rows_ + p) * columns_ + i)] = static_cast<T>(std::sin(angle));
      }
  }

  FOVEA_INLINE rotary_angles<T> angles() const noexcept {
    return {{values_.data(), rows_, columns_, columns_, 1},
            {values_.data() + rows_ * columns_, rows_, columns_, columns_, 1}};
  }

 private:
  index rows_ = 0, columns_ = 0;
  std::vector<T> values_;
};

struct rotary_options {
  index heads = any_heads;  // of an Eigen matrix; tensors know theirs
  rotary_pairs pairs = rotary_pairs::halves;
  index first = 0;  // position of the first token of each sequence, where no positions are given
  std::span<const index> positions =
      {};  // one a token: of one sequence, for all of them; or of all, one after another
};

/// out <- x with each token's first r dimensions of each head rotated by the angles of its position (r: twice
/// the columns of the table), the others copied:
///   out_a = x_a cos - x_b sin,   out_b = x_a sin + x_b cos     for each pair (a, b).
/// x, out: (tokens, d) a head, any views of the same shape, the same one for rotation in place (see rotate).
/// Arithmetic in float, or in double where an element is. Throws std::invalid_argument, before anything is
/// written, where shapes differ, r > d, or a position is beyond the table. Cost O(tokens * heads * d), no
/// memory. Su et al., "RoFormer", arXiv:2104.09864; ONNX RotaryEmbedding-23.
template <viewable Out, viewable X, class E>
void rotate_into(Out&& out, const X& x, const rotary_angles<E>& angles, const rotary_options& options = {}) {
  using T = common_compute_t<element_of<Out>, element_of<X>, E>;
  const auto from = as_sequences(x, options.heads, "x");
  const auto to = as_sequences(out, options.heads, "out");
  const index half = angles.cos.cols, tokens = from.max_tokens(),
              given = static_cast<index>(options.positions.size());
  if (angles.sin.cols != half || angles.sin.rows != angles.cos.rows)
    reject("the table of sines is ", angles.sin.rows, " x ", angles.sin.cols, ", that of cosines ",
           angles.cos.rows, " x ", half);
  if (2 * half > from.all.dim)
    reject("the table rotates ", 2 * half, " dimensions, x has ", from.all.dim, " a head");
  if (to.batches() != from.batches() || to.all.heads != from.all.heads || to.all.dim != from.all.dim)
    reject("out is ", to.batches(), " x ", to.all.heads, " x ", to.all.dim, ", x ", from.batches(), " x ",
           from.all.heads, " x ", from.all.dim);
  index all_tokens = 0;
  for (index b = 0; b < from.batches(); ++b) {
    if (to.tokens(b) != from.tokens(b)) reject("out has ", to.tokens(b), " tokens, x has ", from.tokens(b));
    all_tokens += from.tokens(b);
  }
  if (given != 0 && given != tokens && given != all_tokens)
    reject("there are ", given, " positions, neither ", tokens, " (one a token) nor ", all_tokens,
           " (one a token and sequence)");

  // Position of token t of a sequence that starts `before` tokens into the batch.
  const auto position = [&](index before, index t) {
    return given == 0 ? options.first + t : options.positions[given == tokens ? t : before + t];
  };
  for (index b = 0, before = 0; b < from.batches(); before += from.tokens(b++))
    for (index t = 0; t < from.tokens(b); ++t)
      if (const index p = position(before, t); p < 0 || p >= angles.cos.rows)
        reject("position ", p, " of token ", t, " is not within the table's ", angles.cos.rows);

  const bool halves = options.pairs == rotary_pairs::halves;
  for (index b = 0, before = 0; b < from.batches(); before += from.tokens(b++))
    for (index h = 0; h < from.all.heads; ++h) {
      const auto source = from.head(b, h);
      const auto result = to.head(b, h);
      for (index t = 0; t < source.rows; ++t) {
        const index p = position(before, t);
        for (index i = 0; i < half; ++i) {
          const index a = halves ? i : 2 * i, c = halves ? i + half : 2 * i + 1;
          const T u = load_element<T>(source(t, a)), v = load_element<T>(source(t, c));
          const T cos = load_element<T>(angles.cos(p, i)), sin = load_element<T>(angles.sin(p, i));
          result(t, a) = store_element<element_of<Out>>(u * cos - v * sin);
          result(t, c) = store_element<element_of<Out>>(u * sin + v * cos);
        }
        for (index i = 2 * half; i < source.cols; ++i)
          result(t, i) = store_element<element_of<Out>>(load_element<T>(source(t, i)));
      }
    }
}

/// Rotates x in place; see rotate_into.
template <viewable X, class E>
void rotate(X&& x, const rotary_angles<E>& angles, const rotary_options& options = {}) {
  rotate_into(x, x, angles, options);
}

FOVEA_NAMESPACE_END
