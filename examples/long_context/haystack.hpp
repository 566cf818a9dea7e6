// haystack.hpp - a text of numbers, one of which follows a word that stands nowhere else; and the keys,
// values and the query by which a head that looks for "what followed this word before" (an induction head)
// finds it.
#pragma once

#include <Eigen/Dense>

#include <cmath>
#include <cstdint>
#include <random>

namespace long_context {

using Index = Eigen::Index;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct haystack_sizes {
  Index tokens = 65536, heads = 4, dim = 64;
  double depth = 0.37;  // where the needle is, of the text
  std::uint32_t seed = 1;
};

/// Tokens are numbers below `numbers`, but for the cue. A token's key tells which token stood before it, its
/// value which token it is, each by a random vector a head of length sqrt(dim).
class haystack {
 public:
  static constexpr Index numbers = 10000, cue = numbers;

  explicit haystack(const haystack_sizes& s)
      : sizes_(s),
        needle_(std::min(static_cast<Index>(s.depth * static_cast<double>(s.tokens - 2)) + 1, s.tokens - 1)),
        before_(vectors(2 * s.seed)),
        is_(vectors(2 * s.seed + 1)) {}

  const haystack_sizes& sizes() const { return sizes_; }
  /// Where the number that follows the cue stands, and which one it is.
  Index needle() const { return needle_; }
  Index secret() const { return token(needle_); }

  Index token(Index position) const {
    if (position == needle_ - 1) return cue;
    std::uint64_t z =
        (std::uint64_t(sizes_.seed) << 40) + static_cast<std::uint64_t>(position) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u, z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<Index>((z ^ (z >> 31)) % std::uint64_t(numbers));
  }

  /// Of `count` tokens from `first` on: count x (heads * dim).
  void read(Index first, Index count, Matrix& k, Matrix& v) const {
    k.resize(count, is_.cols()), v.resize(count, is_.cols());
    for (Index i = 0; i < count; ++i) {
      k.row(i) = before_.row(first + i == 0 ? 0 : token(first + i - 1));
      v.row(i) = is_.row(token(first + i));
    }
  }
  /// Asks what followed the cue: 1 x (heads * dim). Logits are sharpness * sqrt(dim) at the needle, and
  /// normal with a deviation of `sharpness` elsewhere.
  Matrix query(float sharpness) const { return sharpness * before_.row(cue); }
  /// The number whose vector is most like `o`, as a model's last layer would say.
  Index nearest(const Matrix& o) const {
    Index best = 0;
    (is_.topRows(numbers) * o.row(0).transpose()).maxCoeff(&best);
    return best;
  }

 private:
  Matrix vectors(std::uint32_t seed) const {
    std::mt19937 random(seed);
    std::normal_distribution<float> number;
    Matrix m = Matrix::NullaryExpr(numbers + 1, sizes_.heads * sizes_.dim, [&] { return number(random); });
    for (Index i = 0; i < m.rows(); ++i)
      for (Index h = 0; h < sizes_.heads; ++h) {
        auto x = m.row(i).segment(h * sizes_.dim, sizes_.dim);
        x *= std::sqrt(static_cast<float>(sizes_.dim)) / x.norm();
      }
    return m;
  }

  haystack_sizes sizes_;
  Index needle_;
  Matrix before_, is_;
};

}  // namespace long_context
