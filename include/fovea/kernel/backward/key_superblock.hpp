// fovea/kernel/backward/key_superblock.hpp - keys whose dK and dV stay in L2 while all queries pass.
#pragma once

#include <fovea/kernel/backward/gradient_problem.hpp>
#include <fovea/kernel/backward/key_group.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// f(rows) for each block of rows that key splits make the sums of, or leave out.
template <class F>
void each_block_of_rows(index_type count, const F& f) noexcept {
  constexpr index_type rows = 64;
  for (index_type first = 0; first < count; first += rows) f(range{first, std::min(first + rows, count)});
}

/// Rows of a result from sums, which are converted as they are written.
template <class Arch, class T, class E>
FOVEA_NOINLINE void write_rows(const T* from, index_type stride, const matrix_view<E>& to,
                               range rows) noexcept {
  for (index_type i = 0; i < rows.size(); ++i)
    store_elements(from + i * stride, to.cols, to.at(rows.first + i), to.col_stride);
}

/// Writes the sum of `count` partial sums to `to`: of `first`, which has all rows and takes it up (and may be
/// what `to` shows), and of others from `second` on, each `distance` after the one before; these have the
/// blocks of rows of which has(part, rows) is true.
template <class Arch, class T, class E, class Has>
FOVEA_NOINLINE void write_sum(const sums_of_rows<T>& first, const sums_of_rows<T>& second, index_type count,
                              index_type distance, const matrix_view<E>& to, const Has& has) noexcept {
  each_block_of_rows(to.rows, [&](range rows) {
    for (index_type part = 1; part < count; ++part)
      if (has(part, rows))
        for (index_type i = rows.first; i < rows.last; ++i) {
          T* const sum = first.data + i * first.stride;
          const T* const added = second.data + (part - 1) * distance + i * second.stride;
          for (index_type c = 0; c < to.cols; ++c) sum[c] += added[c];
        }
  });
  if (static_cast<const void*>(first.data) != static_cast<const void*>(to.data))
    write_rows<Arch>(first.data, first.stride, to, {0, to.rows});
}

/// The groups of a superblock: of as many keys as there are lanes, or fewer, where the mask names edges.
template <class Arch, class T>
class key_groups {
  using shape = gradient_shape<Arch, T>;

 public:
  static constexpr int most = static_cast<int>(shape::keys / shape::tile_lanes);

  /// `groups`: as many as there is memory for; `lanes`: those of a group.
  template <class Mask>
  key_groups(const Mask& mask, range keys, index_type lanes, index_type groups) noexcept {
    edges_[0] = keys.first;
    for (; count_ < groups && edges_[count_] < keys.last; ++count_) {
      const range rest{edges_[count_], keys.last};
      edges_[count_ + 1] = std::min(rest.first + lanes, rest.last);
      if constexpr (tells_edges<Mask>)
        if (has_edges(mask))
          edges_[count_ + 1] = end_of_part(rest, shape::tile_lanes, lanes, kernel::lanes<Arch, T>,
                                           [&](index_type key) { return mask.key_edge(key); });
    }
  }
  int count() const noexcept { return count_; }
  range operator[](int i) const noexcept { return {edges_[i], edges_[i + 1]}; }
  range keys() const noexcept { return {edges_[0], edges_[count_]}; }

 private:
  int count_ = 0;
  index_type edges_[std::size_t{most + 1}];
};

/// Keys in groups of lanes, packed; as rows, too; and the sums of their dK and dV, empty at first.
template <class Arch, class T>
class key_superblock {
 public:
  /// `rows`: the keys' rows, registers wide; `d_k`, `d_v`: where their gradients are summed.
  key_superblock(const key_groups<Arch, T>& groups, index_type dim, index_type value_dim,
                 const rows_of<T>& rows, const sums_of_rows<T>& d_k, const sums_of_rows<T>& d_v,
                 const gradient_scratch<T>& memory, prefetch& lines) noexcept
      : shape_(dim),
        groups_(groups),
        keys_(groups.keys()),
        dim_(dim),
        value_dim_(value_dim),
        memory_(memory),
        lines_(lines),
        rows_(rows, keys_.size()),
        d_k_(d_k),
        d_v_(d_v) {}

  range keys() const noexcept { return keys_; }
  index_type width() const noexcept { return round_up(dim_, lanes<Arch, T>); }
  const gradient_shape<Arch, T>& shape() const noexcept { return shape_; }
  /// Whether no row holds NaN or infinities.
  bool finite() noexcept { return rows_.finite(); }

  /// Packs K^T * k_scale and V^T * v_scale.
  void open(const query_ref<Arch, T>& k, T k_scale, const query_ref<Arch, T>& v, T v_scale) const noexcept {
    for (int i = 0; i < groups_.count(); ++i) group(i).pack_keys(k, k_scale, v, v_scale);
  }
  /// f(group, {its dK, its dV}) for each group of lanes; returns whether it added to both.
  template <class F>
  void each_group(F&& f) noexcept {
    for (int i = 0; i < groups_.count(); ++i) added_[i] = f(group(i), sums(i)) || added_[i];
  }
  /// The sums of groups that nothing was added to are 0.
  void close() const noexcept {
    for (int i = 0; i < groups_.count(); ++i) {
      clear_if_empty<Arch>(sums(i).first, groups_[i].size(), width());
      clear_if_empty<Arch>(sums(i).second, groups_[i].size(), round_up(value_dim_, lanes<Arch, T>));
    }
  }
  rows_of<T> rows_from(index_type key) const noexcept { return rows_.from(key - keys_.first); }

 private:
  key_group<Arch, T> group(int i) const noexcept {
    return {shape_,
            groups_[i],
            dim_,
            value_dim_,
            memory_.panels + i * shape_.lanes_a_group * (dim_ + value_dim_),
            memory_.p,
            memory_.ds,
            lines_};
  }
  std::pair<sums_of_rows<T>, sums_of_rows<T>> sums(int i) const noexcept {
    const auto of_group = [&](sums_of_rows<T> all) {
      all.empty = !added_[i];
      return all.from(groups_[i].first - keys_.first);
    };
    return {of_group(d_k_), of_group(d_v_)};
  }

  gradient_shape<Arch, T> shape_;
  key_groups<Arch, T> groups_;
  range keys_;
  index_type dim_, value_dim_;
  gradient_scratch<T> memory_;
  prefetch& lines_;
  block_rows<Arch, T> rows_;
  sums_of_rows<T> d_k_, d_v_;
  bool added_[std::size_t{key_groups<Arch, T>::most}] = {};
};

}  // namespace kernel
FOVEA_NAMESPACE_END
