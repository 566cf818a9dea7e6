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
  FOVEA_INLINE token_rows(const Eigen::DenseBase<X>& x) : rows_(x.derived()), one_{0, rows_.rows()} {}
  /// Sequence b is the rows offsets[b] to offsets[b + 1]; offsets begin with 0 and end with the rows of x.
  /// They are integers of any type; as an argument of a call, the list may be a temporary.
  template <class X, class Offsets>
  FOVEA_INLINE token_rows(const Eigen::DenseBase<X>& x, const Offsets& offsets)
      : rows_(x.derived()), one_{0, rows_.rows()}, given_(offsets), packed_(true) {}
  template <class M>
  FOVEA_INLINE token_rows(const ragged<M>& x) : token_rows(x.tokens, x.offsets) {}
  token_rows(const token_rows&) = delete;
  token_rows& operator=(const token_rows&) = delete;
  FOVEA_INLINE ~token_rows() = default;

  FOVEA_INLINE const auto& rows() const noexcept { return rows_; }
  FOVEA_INLINE index_type count() const noexcept { return rows_.rows(); }
  FOVEA_INLINE list_view<index_type> offsets() const noexcept {
    return packed_ ? given_ : list_view<index_type>(one_);
  }
  FOVEA_INLINE std::vector<index_type> copy_of_offsets() const {
    const auto starts = offsets();
    std::vector<index_type> all(static_cast<std::size_t>(starts.size()));
    for (std::size_t b = 0; b < all.size(); ++b) all[b] = starts[static_cast<index_type>(b)];
    return all;
  }
  FOVEA_INLINE index_type sequences() const noexcept { return offsets().size() - 1; }

  /// Throws where the rows have another width, or are not just those of the sequences.
  FOVEA_INLINE void check(const char* name, index_type width) const {
    if (rows_.cols() != width) reject(name, " has ", rows_.cols(), " columns, but the layer reads ", width);
    const auto starts = offsets();
    if (starts.empty()) reject(name, " has 0 offsets; a batch of n sequences has n + 1");
    if (starts[0] != 0) reject(name, "'s first offset is ", text_of(starts, 0), ", not 0");
    for (index_type b = 1; b < starts.size(); ++b)
      if (starts[b] < starts[b - 1])
        reject(name, "'s offset ", b, " is ", text_of(starts, b), ", below the ", starts[b - 1],
               " before it");
    if (const index_type last = starts.size() - 1; starts[last] != count())
      reject(name, "'s last offset is ", text_of(starts, last), ", but it has ", count(), " rows");
  }

 private:
  Eigen::Ref<const matrix, 0, Eigen::OuterStride<>> rows_;
  std::array<index_type, 2> one_;
  list_view<index_type> given_ = {};
  bool packed_ = false;
};

FOVEA_NAMESPACE_END
