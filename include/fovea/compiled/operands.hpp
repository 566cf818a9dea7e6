// fovea/compiled/operands.hpp - what masks and scores of a call read of the user's memory.
#pragma once

#include <fovea/compiled/arguments.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// A view of elements of so many bytes.
struct operand {
  const char* name;
  std::size_t bytes;
  fovea_tensor view;

  template <class Word>
  tensor_view<const Word> words() const noexcept {
    return {static_cast<const Word*>(view.data),
            view.batch,
            view.heads,
            view.tokens,
            view.dim,
            view.batch_stride,
            view.head_stride,
            view.token_stride,
            view.dim_stride};
  }
};

inline std::size_t bytes_of_element(std::int32_t code) noexcept {
  switch (code) {
    case FOVEA_F64:
    case FOVEA_I64:
    case FOVEA_U64:
      return 8;
    case FOVEA_BF16:
    case FOVEA_F16:
      return 2;
    case FOVEA_I8:
    case FOVEA_U8:
      return 1;
    default:
      return 4;
  }
}

/// All of them, for the call to find out whether what it writes lies apart.
class operand_list {
 public:
  void add(const char* name, const fovea_tensor& view) {
    if (view.data != nullptr) all_.push_back({name, bytes_of_element(view.element), view});
  }
  void add(const char* name, const fovea_list& list) {
    fovea_tensor view{};
    view.data = const_cast<void*>(list.data), view.element = list.element;
    view.batch = view.heads = view.dim = 1, view.tokens = list.count;
    view.token_stride = list.stride, view.dim_stride = 1;
    add(name, view);
  }
  void add_masks(const fovea_mask* masks, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const fovea_mask m = entry_of(masks, i, "masks");
      add("a mask's list", m.list), add("a mask's list", m.list2), add("a mask's matrix", m.matrix);
      add_masks(m.parts, m.part_count);
    }
  }
  void add_scores(const fovea_score* scores, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const fovea_score s = entry_of(scores, i, "scores");
      add("a score's list", s.list), add("a score's matrix", s.matrix);
    }
  }
  void each_operand(const auto& f) const {
    for (const operand& x : all_) {
      if (x.bytes == 1) f(x.name, x.words<std::uint8_t>());
      if (x.bytes == 2) f(x.name, x.words<std::uint16_t>());
      if (x.bytes == 4) f(x.name, x.words<std::uint32_t>());
      if (x.bytes == 8) f(x.name, x.words<std::uint64_t>());
    }
  }

 private:
  std::vector<operand> all_;
};

}  // namespace described
FOVEA_NAMESPACE_END
