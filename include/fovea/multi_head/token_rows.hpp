// fovea/multi_head/token_rows.hpp - what a layer reads: the tokens of one sequence, or of several packed one
// after another, as the rows of a matrix.
#pragma once

#include <fovea/view/eigen.hpp>
#include <fovea/view/ragged.hpp>

#include <array>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Where the rows of sequences lie among `count` rows, in order.
struct packed_rows {
  std::vector<range> parts;
  index_type count = 0;
};

/// Made from an Eigen matrix, map, block or expression (one sequence), from such and the offsets of its
/// sequences, as `{x, offsets}` or `{x, offsets, lengths}`, or from a ragged batch. Row-major memory is
/// referred to, anything else is copied.
template <class T>
class token_rows {
 public:
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  template <class X>
  token_rows(const Eigen::DenseBase<X>& x) : rows_(x.derived()), one_{0, rows_.rows()} {}
  /// Sequence b is the rows offsets[b] to offsets[b + 1], or lengths[b] rows from offsets[b] on. Rows before
  /// the first, between two and behind the last belong to no sequence: they are not read, and results and
  /// gradients are 0 there. Offsets and lengths are integers of any type; as arguments of a call, the lists
  /// may be temporaries.
  template <class X, class Offsets>
  token_rows(const Eigen::DenseBase<X>& x, const Offsets& offsets)
      : rows_(x.derived()), one_{0, rows_.rows()}, offsets_(offsets) {}
  template <class X, class Offsets, class Lengths>
  token_rows(const Eigen::DenseBase<X>& x, const Offsets& offsets, const Lengths& lengths)
      : rows_(x.derived()), one_{0, rows_.rows()}, offsets_(offsets), lengths_(lengths) {}
  template <class M>
  token_rows(const ragged<M>& x) : token_rows(x.tokens, x.offsets, x.lengths) {}
  token_rows(const token_rows&) = delete;
  token_rows& operator=(const token_rows&) = delete;

  using rows_ref = Eigen::Ref<const matrix, 0, Eigen::OuterStride<>>;
  /// The rows of the sequences, one after another: as they lie, or, where others lie between them, copied to
  /// `room`.
  rows_ref rows(matrix& room) const { return rows(packed(), room); }
  rows_ref rows(const packed_rows& at, matrix& room) const {
    if (at.parts.size() < 2) {
      const range all = at.parts.empty() ? range{} : at.parts[0];
      return rows_.middleRows(eigen_index(all.first), eigen_index(all.size()));
    }
    index_type count = 0;
    for (const range part : at.parts) count += part.size();
    room.resize(eigen_index(count), rows_.cols());
    count = 0;
    for (const range part : at.parts) {
      room.middleRows(eigen_index(count), eigen_index(part.size())) =
          rows_.middleRows(eigen_index(part.first), eigen_index(part.size()));
      count += part.size();
    }
    return room;
  }
  packed_rows packed() const {
    packed_rows at{{}, count()};
    for (index_type b = 0; b < sequences(); ++b) {
      const range part{offsets()[b], offsets()[b] + tokens(b)};
      if (part.empty()) continue;
      if (!at.parts.empty() && at.parts.back().last == part.first)
        at.parts.back().last = part.last;
      else
        at.parts.push_back(part);
    }
    return at;
  }
  index_type count() const noexcept { return rows_.rows(); }
  index_type sequences() const noexcept { return lengths_ ? lengths_.size() : offsets().size() - 1; }
  index_type tokens(index_type b) const noexcept {
    return lengths_ ? lengths_[b] : offsets()[b + 1] - offsets()[b];
  }
  /// Where the sequences begin among rows(), and where the last ends.
  std::vector<index_type> starts() const {
    std::vector<index_type> from_0{0};
    for (index_type b = 0; b < sequences(); ++b) from_0.push_back(from_0.back() + tokens(b));
    return from_0;
  }

  /// Throws where the rows have another width, or do not have the sequences.
  void check(const char* name, index_type width) const {
    if (rows_.cols() != width) reject(name, " has ", rows_.cols(), " columns, but the layer reads ", width);
    check_offsets(name, offsets(), lengths_, count());
  }

 private:
  /// A list that is given may be empty, which check() refuses.
  list_view<index_type> offsets() const noexcept { return offsets_ ? offsets_ : list_view<index_type>(one_); }

  rows_ref rows_;
  std::array<index_type, 2> one_;
  list_view<index_type> offsets_ = {}, lengths_ = {};
};

FOVEA_NAMESPACE_END
