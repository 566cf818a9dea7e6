// fovea/multi_head/token_rows.hpp - what a layer reads: the tokens of one sequence, or of several packed one
// after another, as the rows of a matrix.
#pragma once

#include <fovea/view/eigen.hpp>
#include <fovea/view/ragged.hpp>

#include <array>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Made from an Eigen matrix, map, block or expression (one sequence), from such and the offsets of its
/// sequences, as `{x, offsets}`, or from a ragged batch. Row-major memory is referred to, anything else is
/// copied.
template <class T>
class token_rows {
 public:
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  template <class X>
  token_rows(const Eigen::DenseBase<X>& x) : rows_(x.derived()), one_{0, rows_.rows()} {}
  /// Sequence b is the rows offsets[b] to offsets[b + 1]. Rows before the first and behind the last belong to
  /// no sequence: they are not read, and results and gradients are 0 there. Offsets are integers of any type;
  /// as an argument of a call, the list may be a temporary.
  template <class X, class Offsets>
  token_rows(const Eigen::DenseBase<X>& x, const Offsets& offsets)
      : rows_(x.derived()), one_{0, rows_.rows()}, given_(offsets), packed_(true) {}
  template <class M>
  token_rows(const ragged<M>& x) : token_rows(x.tokens, x.offsets) {}
  token_rows(const token_rows&) = delete;
  token_rows& operator=(const token_rows&) = delete;
  ~token_rows() = default;

  /// The rows of the sequences, and where they lie among all rows.
  auto rows() const { return rows(sequence_rows()); }
  range sequence_rows() const noexcept { return {offsets()[0], offsets()[sequences()]}; }
  auto rows(range selected) const {
    return rows_.middleRows(eigen_index(selected.first), eigen_index(selected.size()));
  }
  index_type count() const noexcept { return rows_.rows(); }
  list_view<index_type> offsets() const noexcept { return packed_ ? given_ : list_view<index_type>(one_); }
  /// Where the sequences begin among rows().
  std::vector<index_type> starts() const {
    const auto all = offsets();
    std::vector<index_type> from_0(static_cast<std::size_t>(all.size()));
    for (std::size_t b = 0; b < from_0.size(); ++b) from_0[b] = all[static_cast<index_type>(b)] - all[0];
    return from_0;
  }
  index_type sequences() const noexcept { return offsets().size() - 1; }

  /// Throws where the rows have another width, or do not have the sequences.
  void check(const char* name, index_type width) const {
    if (rows_.cols() != width) reject(name, " has ", rows_.cols(), " columns, but the layer reads ", width);
    check_offsets(name, offsets(), count());
  }

 private:
  Eigen::Ref<const matrix, 0, Eigen::OuterStride<>> rows_;
  std::array<index_type, 2> one_;
  list_view<index_type> given_ = {};
  bool packed_ = false;
};

FOVEA_NAMESPACE_END
