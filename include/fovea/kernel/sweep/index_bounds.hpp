// fovea/kernel/sweep/index_bounds.hpp - between which numbers the index scores of keys lie, from products of
// queries and keys rounded to bf16, which take 0.6 of the time of those in float: few keys are then left of
// which the scores are wanted.
//
// s: the score of key k; s': of rounded numbers. ReLU(a) - ReLU(b) is g (a - b) with some g from 0 to 1, so
//   s - s' = sum_h g_h w_h (q'_h . (k - k') + (q_h - q'_h) . k)
//   |s - s'| <= |sum_h g_h w_h q'_h| |k - k'| + |sum_h g_h w_h (q_h - q'_h)| |k|
// |sum_h g_h x_h|^2 is at most the sum of all x_h . x_i that are positive (of 64 heads of 128 random numbers
// its root is a quarter of sum_h |x_h|, by which four times as many keys were left); |k - k'| <= 2^-8 |k|.
#pragma once

#include <fovea/kernel/sweep/index_scores.hpp>

#include <cmath>
#include <limits>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Bounds on the scores of one query, a block of keys at a time: see index_scores.
template <multiplies_pairs Arch, class Head>
class index_bounds : index_sums<Arch, float, bf16_pair> {
  using base = index_sums<Arch, float, bf16_pair>;
  using V = vec<Arch, float>;
  using base::n;
  /// A pair is of channels n apart, as two registers are rounded to one.
  static index_type pairs_of(index_type dim) noexcept { return round_up(dim, 2 * n) / 2; }

 public:
  using base::block;

  static index_type bytes(index_type heads, index_type dim) noexcept {
    const index_type pairs = pairs_of(dim);
    return base::bytes(heads, pairs) + 2 * part_bytes(bytes_of<float>(heads * 2 * pairs)) +
           part_bytes(copy_bytes<float>(block, dim)) + part_bytes(bytes_of<bf16_pair>(block * pairs)) +
           part_bytes(bytes_of<float>(block * n)) + 2 * part_bytes(bytes_of<float>(block));
  }

  template <class QE, class WE>
  index_bounds(const matrix_view<const QE>& queries, const WE* weights, index_type stride, const Head& keys,
               std::byte* memory) noexcept
      : base(queries.rows, pairs_of(queries.cols)), dim_(queries.cols), keys_(&keys) {
    memory_parts parts(memory);
    this->take(parts, weights, stride);
    const index_type numbers = this->heads_ * 2 * this->depth_;
    float* const rounded = parts.template take<float>(bytes_of<float>(numbers));
    float* const lost = parts.template take<float>(bytes_of<float>(numbers));
    copy_ = parts.template take<float>(copy_bytes<float>(block, dim_));
    pairs_ = parts.template take<bf16_pair>(bytes_of<bf16_pair>(block * this->depth_));
    squares_ = parts.template take<float>(bytes_of<float>(block * n));
    low_ = parts.template take<float>(bytes_of<float>(block));
    high_ = parts.template take<float>(bytes_of<float>(block));
    this->each_register([&](range heads, index_type column, index_type width, index_type first) {
      bf16_pair* const to = this->q_ + first * this->depth_ + column;
      for (index_type i = 0; i < this->depth_; ++i) std::fill_n(to + i * width, n, bf16_pair{});
      for (index_type h = heads.first; h < heads.last; ++h)
        round_query(queries.at(h), queries.col_stride, h, to + h - heads.first, width, rounded, lost);
    });
    find_error(rounded, lost);
  }

  /// f(keys, low, high) for the blocks of `span`; -inf and inf where nothing is known.
  template <class F>
  void each_block(range span, F&& f) {
    const auto operand = operand_of<Arch>(*keys_, dim_, copy_);
    for (range keys{span.first, 0}; keys.first < span.last; keys.first = keys.last) {
      keys.last = std::min(keys.first + block, span.last);
      round_keys(operand.read(keys), keys.size());
      prefetch lines;
      add_lines(*keys_, {keys.last, std::min(keys.last + block, span.last)}, lines);
      this->score({pairs_, this->depth_, this->depth_}, keys.size(), lines);
      bound(keys.size());
      f(keys, static_cast<const float*>(low_), static_cast<const float*>(high_));
    }
  }

 private:
  /// f(number of the first pair, registers of its channels) for a row, zeros beyond its end.
  template <class F>
  void each_pair(const float* row, const F& f) const noexcept {
    index_type c = 0;
    for (; c + 2 * n <= dim_; c += 2 * n)
      f(c / 2, V::load_unaligned(row + c), V::load_unaligned(row + c + n));
    if (c == dim_) return;
    alignas(64) float rest[std::size_t{2 * n}] = {};
    std::copy(row + c, row + dim_, rest);
    f(c / 2, V::load_aligned(rest), V::load_aligned(rest + n));
  }

  /// A head's pairs; and, times its weight, what they stand for and what was lost.
  template <class QE>
  void round_query(const QE* from, index_type stride, index_type head, bf16_pair* to, index_type width,
                   float* rounded, float* lost) noexcept {
    load_elements(from, stride, dim_, copy_);
    const V weight(this->weights_[head]);
    const index_type row = head * 2 * this->depth_;
    V squares(0.f);
    each_pair(copy_, [&](index_type i, const V& a, const V& b) {
      const auto pairs = pair_products<Arch>::rounded(a, b);
      const V low = bits_as<float, Arch>(pairs << 16),
              high = bits_as<float, Arch>(pairs & registers_of_pairs<Arch>(-65536));
      bf16_pair of[std::size_t{n}];
      store_pairs<Arch>(pairs, of);
      for (index_type j = 0; j < n; ++j) to[(i + j) * width] = of[j];
      (weight * low).store_unaligned(rounded + row + 2 * i);
      (weight * high).store_unaligned(rounded + row + 2 * i + n);
      (weight * (a - low)).store_unaligned(lost + row + 2 * i);
      (weight * (b - high)).store_unaligned(lost + row + 2 * i + n);
      squares = isa<Arch>::fma(a, a, isa<Arch>::fma(b, b, squares));
    });
    squares_of_q_ += static_cast<double>(sum_over_lanes<Arch, float>(squares).get(0));
  }

  /// The sum of x_h . x_i of all heads, of what is positive; of all x_h . x_h.
  void gram(const float* x, double& positive, double& squares) const noexcept {
    const index_type row = 2 * this->depth_;
    positive = squares = 0;
    for (index_type h = 0; h < this->heads_; ++h)
      for (index_type i = h; i < this->heads_; ++i) {
        V sum(0.f);
        for (index_type c = 0; c < row; c += n)
          sum = isa<Arch>::fma(V::load_unaligned(x + h * row + c), V::load_unaligned(x + i * row + c), sum);
        const double dot = static_cast<double>(sum_over_lanes<Arch, float>(sum).get(0));
        if (!(dot < 0)) positive += h == i ? dot : 2 * dot;
        if (h == i) squares += dot;
      }
  }

  /// |s - s'| <= error_ |k| + least_error_ where |k| < most_. What float makes of these sums, and of s and of
  /// s', is at most their number times 2^-23 of products of norms; numbers below 2^-126 may count as 0, those
  /// that are squared among them.
  void find_error(const float* rounded, const float* lost) noexcept {
    const double heads = static_cast<double>(this->heads_), sums = static_cast<double>(2 * this->depth_),
                 ulp = 0x1p-23;
    double of_rounded, of_lost, squares, lost_squares, weights = 0;
    gram(rounded, of_rounded, squares), gram(lost, of_lost, lost_squares);
    for (index_type h = 0; h < this->heads_; ++h) weights += std::abs(static_cast<double>(this->weights_[h]));
    const double tiny = heads * heads * sums * 0x1p-125;          // more than what counts as 0 adds up to
    const double all = std::sqrt(heads * squares + tiny) * 1.01;  // at least sum_h |w_h| |q'_h|
    const double error = std::sqrt(of_rounded + sums * ulp * heads * squares + tiny) * 0x1p-8 +
                         std::sqrt(of_lost + sums * ulp * heads * lost_squares + tiny) +
                         2 * (sums + heads + 16) * ulp * all + weights * sums * 0x1p-120;
    const double longest = 1 + std::sqrt(squares_of_q_) + all + weights;
    if (!(longest < 1e30 && error < 1e30)) return;  // nor where something is NaN: no bound is known
    most_ = static_cast<float>(1e30 / longest);
    error_ = static_cast<float>(error * 1.01);
    least_error_ = static_cast<float>((all + weights * sums) * sums * 0x1p-120 + 0x1p-100);
  }

  /// Pairs of K, and the squares of their rows' lanes.
  FOVEA_NOINLINE FOVEA_FLATTEN void round_keys(const rows_of<float>& keys, index_type count) noexcept {
    for (index_type j = 0; j < count; ++j) {
      bf16_pair* const to = pairs_ + j * this->depth_;
      V first(0.f), second(0.f);
      each_pair(keys.data + j * keys.stride, [&](index_type i, const V& a, const V& b) {
        store_pairs<Arch>(pair_products<Arch>::rounded(a, b), to + i);
        first = isa<Arch>::fma(a, a, first), second = isa<Arch>::fma(b, b, second);
      });
      (first + second).store_aligned(squares_ + j * n);
    }
  }

  /// The bounds of a block.
  void bound(index_type count) noexcept {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    base::sum_lanes(squares_, count, low_);
    for (index_type j = 0; j < count; j += n) {
      const V norm = xsimd::sqrt(V::load_aligned(low_ + j) + V(0x1p-100f)),
              s = V::load_aligned(this->scores_ + j);
      const auto known = norm < V(most_);
      const V error = isa<Arch>::fma(norm, V(error_), V(least_error_));
      xsimd::select(known, s - error, V(-infinity)).store_aligned(low_ + j);
      xsimd::select(known, s + error, V(infinity)).store_aligned(high_ + j);
    }
  }

  index_type dim_;
  const Head* keys_;
  double squares_of_q_ = 0;
  float *copy_, *squares_, *low_, *high_, error_ = 0, least_error_ = 0, most_ = 0;
  bf16_pair* pairs_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
