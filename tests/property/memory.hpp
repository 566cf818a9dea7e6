// tests/property/memory.hpp - where the numbers of a call lie: layouts, with poison or canaries wherever no
// number is.
#pragma once

#include "problem.hpp"

#include <memory>

namespace fovea_test {

enum class layout { bhsd, bshd, packed_qkv, strided, eigen_row, eigen_col, eigen_block, ragged };

inline constexpr std::array all_layouts = {layout::bhsd,        layout::bshd,      layout::packed_qkv,
                                           layout::strided,     layout::eigen_row, layout::eigen_col,
                                           layout::eigen_block, layout::ragged};

constexpr const char* name_of(layout l) noexcept {
  constexpr const char* names[] = {"bhsd",      "bshd",      "packed_qkv",  "strided",
                                   "eigen_row", "eigen_col", "eigen_block", "ragged"};
  return names[static_cast<int>(l)];
}

/// What the library is given: a tensor_view, an Eigen map by rows or by columns, or ragged sequences by rows.
enum class view_kind { tensor, rows, columns, ragged };

constexpr view_kind view_of(layout l) noexcept {
  if (l == layout::eigen_row || l == layout::eigen_block) return view_kind::rows;
  if (l == layout::eigen_col) return view_kind::columns;
  return l == layout::ragged ? view_kind::ragged : view_kind::tensor;
}

/// Elements in memory: (b, h, t, c) lies at data + (origin + sum of index * stride) elements.
struct memory_view {
  void* data = nullptr;
  index_type batch = 0, heads = 0, tokens = 0, dim = 0;
  index_type batch_stride = 0, head_stride = 0, token_stride = 0, dim_stride = 1;
  const index_type* offsets = nullptr;  // ragged: sequence b has the tokens offsets[b] to offsets[b + 1]

  index_type place(index_type b, index_type h, index_type t, index_type c) const {
    return (offsets ? offsets[b] * token_stride : b * batch_stride) + h * head_stride + t * token_stride +
           c * dim_stride;
  }
};

enum class role { q, k, v, out, lse };

/// Memory with a guard on both sides, filled with NaN (what is read) or with canaries (what is written).
class buffer {
 public:
  buffer(element_kind kind, index_type elements, bool canaries);
  unsigned char* at(index_type element);
  element_kind kind() const noexcept { return kind_; }
  index_type elements() const noexcept { return elements_; }
  /// Whether every byte that is not of an element in `written` is a canary still.
  bool canaries_stand(const std::vector<bool>& written) const;
  std::vector<unsigned char> bytes() const { return bytes_; }

 private:
  // An odd number: data is aligned for its element, and for nothing more.
  static constexpr index_type guard = 37;
  element_kind kind_;
  index_type elements_;
  std::vector<unsigned char> bytes_;
};

/// One operand in memory.
class operand {
 public:
  operand(role r, layout l, element_kind kind, const std::vector<index_type>& tokens, index_type heads,
          index_type most_tokens, index_type dim);
  /// q, k and v of one fused projection.
  static std::array<operand, 3> packed(element_kind kind, const sizes& n);

  void write(const array& a, const std::vector<index_type>& tokens);
  array read(const std::vector<index_type>& tokens) const;
  bool canaries_stand(const std::vector<index_type>& tokens) const;
  /// The same where the rows of a ragged operand that belong to no sequence were written, with this number.
  bool canaries_stand(const std::vector<index_type>& tokens, double of_no_sequence) const;
  std::vector<unsigned char> bytes() const { return memory_->bytes(); }
  const memory_view& view() const noexcept { return view_; }

 private:
  operand() = default;
  void* element(index_type b, index_type h, index_type t, index_type c) const;
  /// Which elements of the buffer are those of the sequences.
  std::vector<bool> elements_of(const std::vector<index_type>& tokens) const;

  memory_view view_;
  index_type first_ = 0;  // the element of the buffer that view_.data points to
  std::shared_ptr<buffer> memory_;
  std::shared_ptr<std::vector<index_type>> offsets_;
};

}  // namespace fovea_test
