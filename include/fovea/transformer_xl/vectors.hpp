// fovea/transformer_xl/vectors.hpp - what Transformer-XL's scores read: queries and vectors of distances,
// laid out once a call.
#pragma once

#include <fovea/kernel/tile/packing.hpp>
#include <fovea/projected/calls.hpp>
#include <fovea/projected/head_products.hpp>
#include <fovea/transformer_xl/relative_terms.hpp>

#include <algorithm>

FOVEA_NAMESPACE_BEGIN

struct transformer_xl_options {
  index_type dim = 0;                  // of a head of q
  index_type reach = 0;                // the longest distance, either way, that r has a row for
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  index_type offset = 0;               // query 0 stands at this key, as behind a memory of so many
  std::optional<double> scale = {};    // 1 / sqrt(dim) without it
  executor_ref executor = {};          // who does the work; must outlive the attention object
};

/// scale (q + v) and r of all heads, as scores read them: of r the distances that the call has.
template <class T, class Arch>
class transformer_xl_vectors {
  static constexpr index_type room = channel_rows::room;
  using matrix = projection::row_matrix<T>;
  using score_type = relative_score<T, tensor_view<T>>;

 public:
  template <class Rows, class Keys>
  transformer_xl_vectors(const transformer_xl_options& options, double by, const matrix& v, const matrix& r,
                         const Rows& q, const Keys& k, bool learns)
      : options_(options) {
    const auto& o = options_;
    const index_type all = r.rows();
    heads_ = q.batches() * o.heads;
    index_type least = all, most = 0;  // of r, for sequences of more than a few queries
    for (index_type b = 0; b < std::min(q.batches(), k.batches()); ++b)
      if (index_type& to = is_few(q.tokens(b), learns) ? few_queries_ : queries_; q.tokens(b) > 0) {
        to = std::max(to, q.tokens(b));
        if (is_few(q.tokens(b), learns)) {
          keys_ = std::max(keys_, k.tokens(b));
          continue;
        }
        least = std::min(least, saturated_sum(middle(), 1 - k.tokens(b)));
        most = std::max(most, saturated_sum(middle(), q.tokens(b)));
      }
    first_ = std::clamp<index_type>(least, 0, all);
    positions_ = std::max<index_type>(std::min(most, all) - first_, 0);
    x_pitch_ = channel_rows::pitch(queries_), r_pitch_ = channel_rows::pitch(positions_);
    if (queries_ > 0) x_ = channels(heads_, x_pitch_, x_all_), r_ = channels(2 * o.heads, r_pitch_, r_all_);
    products_ = zeros(heads_, few_queries_, keys_);
    if (learns) {
      x_rows_ = zeros(heads_, queries_, width()), r_rows_ = zeros(o.heads, positions_, width());
      d_r_ = r_rows_;
    }
    const T scale = static_cast<T>(by);
    o.executor.for_each(std::min(q.batches(), k.batches()) * o.heads, [&](index_type i, index_type) {
      const index_type h = i % o.heads;
      if (q.tokens(i / o.heads) == 0) return;
      matrix x = projection::rows_in<T>(q.head(i / o.heads, h));
      x = (x.rowwise() + v.row(eigen_index(h))) * scale;
      if (is_few(x.rows(), learns))
        multiply(r, x, h, k.tokens(i / o.heads), products_.data() + i * few_queries_ * keys_);
      else
        lay_out(x.data(), x.cols(), x.rows(), x_ + i * o.dim * x_pitch_, x_pitch_,
                learns ? &x_rows_[at(i, queries_)] : nullptr);
    });
    o.executor.for_each(positions_ > 0 ? o.heads : 0, [&](index_type h, index_type) {
      const index_type apart = o.heads * o.dim;
      const T* const of_head = r.data() + first_ * apart + h * o.dim;
      T* const to = r_ + 2 * h * o.dim * r_pitch_;
      lay_out(of_head, apart, positions_, to, r_pitch_, learns ? &r_rows_[at(h, positions_)] : nullptr);
      lay_out(of_head + (positions_ - 1) * apart, -apart, positions_, to + o.dim * r_pitch_, r_pitch_,
              nullptr);
    });
  }

  index_type width() const noexcept { return round_up(options_.dim, room); }
  template <class Sums>
  auto score(const Sums& sums) const noexcept {
    const auto& o = options_;
    relative_vectors<T> first{o.dim, o.reach - first_, positions_ - 1, x_pitch_, r_pitch_, x_, r_, r_};
    if (x_ != nullptr) first.x += room, first.rising += room, first.falling += room + o.dim * r_pitch_;
    if (!d_r_.empty())
      first.width = width(), first.x_rows = x_rows_.data(), first.r_rows = r_rows_.data(),
      first.d_r = d_r_.data();
    matrix_view<const T> few;
    if (few_queries_ > 0) few = {products_.data(), few_queries_, keys_, keys_, 1};
    return relative_score<T, Sums>{"transformer_xl",
                                   first,
                                   o.dim * x_pitch_,
                                   2 * o.dim * r_pitch_,
                                   queries_ * width(),
                                   positions_ * width(),
                                   o.offset,
                                   o.reach,
                                   sums,
                                   few};
  }
  /// By r of all heads.
  void add_gradient(matrix& d_r) const {
    for (index_type h = 0; h < options_.heads && !d_r_.empty(); ++h)
      d_r.block(eigen_index(first_), eigen_index(h * options_.dim), eigen_index(positions_),
                eigen_index(options_.dim)) += projection::rows_in<T>(matrix_view<const T>{
          &d_r_[at(h, positions_)], positions_, options_.dim, width(), 1});
  }

 private:
  /// Of a few queries products are made here, a row of r being read where it lies: laying r out is most of
  /// what such a call would take.
  static bool is_few(index_type queries, bool learns) noexcept {
    return !learns && queries <= score_type::few;
  }
  std::size_t at(index_type head, index_type rows) const noexcept {
    return static_cast<std::size_t>(head * rows * width());
  }
  /// r's row of distance 0, seen from query 0 and key 0.
  index_type middle() const noexcept { return saturated_sum(options_.reach, options_.offset); }
  /// In whole cache lines.
  T* channels(index_type heads, index_type pitch, std::vector<T>& all) const {
    all = zeros(heads, options_.dim, pitch);
    all.resize(all.size() + 64 / sizeof(T));
    const auto over = reinterpret_cast<std::uintptr_t>(all.data()) % 64;
    return all.data() + (over == 0 ? 0 : (64 - over) / sizeof(T));
  }
  static std::vector<T> zeros(index_type heads, index_type rows, index_type columns) {
    return std::vector<T>(
        static_cast<std::size_t>(size_product("transformer_xl's vectors", heads, rows, columns, sizeof(T))) /
        sizeof(T));
  }
  /// x r_{i - j}, of every j.
  void multiply(const matrix& r, const matrix& x, index_type h, index_type keys, T* to) const {
    const auto& o = options_;
    projection::row_vector<T> by_distance;
    for (index_type i = 0; i < x.rows() && keys > 0; ++i, to += keys_) {
      const index_type last = saturated_sum(middle(), i), first = saturated_sum(last, 1 - keys);
      if (first < 0 || last >= r.rows()) return;  // is refused
      by_distance.noalias() = x.row(eigen_index(i)) * r.block(eigen_index(first), eigen_index(h * o.dim),
                                                              eigen_index(keys), eigen_index(o.dim))
                                                          .transpose();
      std::reverse_copy(by_distance.data(), by_distance.data() + keys, to);
    }
  }
  /// Rows `apart` from each other to channels, and to rows.
  void lay_out(const T* from, index_type apart, index_type count, T* channels, index_type pitch,
               T* rows) const noexcept {
    constexpr index_type n = kernel::lanes<Arch, T>;
    const matrix_view<const T> all{from, count, options_.dim, apart, 1};
    for (index_type i = 0; i < count; i += n)
      kernel::pack<Arch>(all, {i, std::min(i + n, count)}, T(1), channels + room + i, pitch);
    for (index_type i = 0; rows != nullptr && i < count; ++i)
      std::copy_n(from + i * apart, options_.dim, rows + i * width());
  }

  transformer_xl_options options_;
  index_type heads_ = 0, queries_ = 0, few_queries_ = 0, keys_ = 0;
  index_type first_ = 0, positions_ = 0, x_pitch_ = 0, r_pitch_ = 0;
  T *x_ = nullptr, *r_ = nullptr;  // channels
  std::vector<T> x_all_, r_all_, products_, x_rows_, r_rows_;
  mutable std::vector<T> d_r_;  // a backward call's, through the score
};

FOVEA_NAMESPACE_END
