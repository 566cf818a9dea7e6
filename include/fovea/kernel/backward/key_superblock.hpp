// fovea/kernel/backward/key_superblock.hpp - keys whose dK and dV stay in L2 while all queries pass.
#pragma once

#include <fovea/kernel/backward/gradient_problem.hpp>
#include <fovea/kernel/backward/key_group.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

template <class Arch, class T>
FOVEA_NOINLINE void clear_rows(const sums_of_rows<T>& sums, index_type rows, index_type width) noexcept {
  for (index_type i = 0; i < rows; ++i) std::fill_n(sums.data + i * sums.stride, width, T(0));
}

/// Rows of a result from sums, which are converted as they are written.
template <class Arch, class T, class E>
FOVEA_NOINLINE void write_rows(const T* from, index_type stride, const matrix_view<E>& to,
                               range rows) noexcept {
  for (index_type i = 0; i < rows.size(); ++i)
    store_elements(from + i * stride, to.cols, to.at(rows.first + i), to.col_stride);
}

/// Keys in groups of lanes, packed; as rows, too; and the sums of their dK and dV.
template <class Arch, class T>
class key_superblock {
 public:
  /// `rows`: the keys' rows, registers wide.
  key_superblock(range keys, index_type dim, index_type value_dim, const rows_of<T>& rows,
                 const gradient_scratch<T>& memory) noexcept
      : shape_(dim),
        keys_(keys),
        dim_(dim),
        value_dim_(value_dim),
        memory_(memory),
        rows_(rows, keys.size()) {}

  range keys() const noexcept { return keys_; }
  const gradient_shape<Arch, T>& shape() const noexcept { return shape_; }
  index_type width() const noexcept { return round_up(dim_, lanes<Arch, T>); }
  index_type value_width() const noexcept { return round_up(value_dim_, lanes<Arch, T>); }
  /// Whether no row holds NaN or infinities.
  bool finite() noexcept { return rows_.finite(); }

  /// Packs K^T * k_scale and V^T * v_scale; sums start at 0.
  void open(const query_ref<Arch, T>& k, T k_scale, const query_ref<Arch, T>& v, T v_scale) const noexcept {
    each_group([&](const auto& group) { group.pack_keys(k, k_scale, v, v_scale); });
    clear_rows<Arch>(d_k(keys_.first), keys_.size(), width());
    clear_rows<Arch>(d_v(keys_.first), keys_.size(), value_width());
  }
  /// f(group) for each group of lanes.
  template <class F>
  void each_group(F&& f) const noexcept {
    const index_type lanes = shape_.lanes_a_group;
    for (index_type first = keys_.first; first < keys_.last; first += lanes)
      f(key_group<Arch, T>(shape_, {first, std::min(first + lanes, keys_.last)}, dim_, value_dim_,
                           memory_.panels + (first - keys_.first) * (dim_ + value_dim_), memory_.p,
                           memory_.ds));
  }
  rows_of<T> rows_from(index_type key) const noexcept { return rows_.from(key - keys_.first); }
  sums_of_rows<T> d_k(index_type key) const noexcept {
    return {memory_.d_k + (key - keys_.first) * width(), width()};
  }
  sums_of_rows<T> d_v(index_type key) const noexcept {
    return {memory_.d_v + (key - keys_.first) * value_width(), value_width()};
  }

 private:
  gradient_shape<Arch, T> shape_;
  range keys_;
  index_type dim_, value_dim_;
  gradient_scratch<T> memory_;
  block_rows<Arch, T> rows_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
