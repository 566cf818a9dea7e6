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
  index batch = 0, heads = 0, tokens = 0, dim = 0;
  index batch_stride = 0, head_stride = 0, token_stride = 0, dim_stride = 1;
  const index* offsets = nullptr;  // ragged: sequence b has the tokens offsets[b] to offsets[b + 1]

  index place(index b, index h, index t, index c) const {
    return (offsets ? offsets[b] * token_stride : b * batch_stride) + h * head_stride + t * token_stride +
           c * dim_stride;
  }
};

enum class role { q, k, v, out, lse };

/// Memory with a guard on both sides, filled with NaN (what is read) or with canaries (what is written).
class buffer {
 public:
  buffer(element_kind kind, index elements, bool canaries);
  unsigned char* at(index element);
  element_kind kind() const noexcept { return kind_; }
  index elements() const noexcept { return elements_; }
  /// Whether every byte that is not of an element in `written` is a canary still.
  bool canaries_stand(const std::vector<bool>& written) const;
  std::vector<unsigned char> bytes() const { return bytes_; }

 private:
  // An odd number: data is aligned for its element, and for nothing more.
  static constexpr index guard = 37;
  element_kind kind_;
  index elements_;
  std::vector<unsigned char> bytes_;
};

/// One operand in memory.
class operand {
 public:
  operand(role r, layout l, element_kind kind, const std::vector<index>& tokens, index heads,
          index most_tokens, index dim);
  /// q, k and v of one fused projection.
  static std::array<operand, 3> packed(element_kind kind, const sizes& n);

  void write(const array& a, const std::vector<index>& tokens);
  array read(const std::vector<index>& tokens) const;
  bool canaries_stand(const std::vector<index>& tokens) const;
  std::vector<unsigned char> bytes() const { return memory_->bytes(); }
  const memory_view& view() const noexcept { return view_; }

 private:
  operand() = default;
  void* element(index b, index h, index t, index c) const;

  memory_view view_;
  index first_ = 0;  // the element of the buffer that view_.data points to
  std::shared_ptr<buffer> memory_;
  std::shared_ptr<std::vector<index>> offsets_;
};

}  // namespace fovea_test
