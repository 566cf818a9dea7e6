// fovea/compiled/operands.hpp - what masks and scores of a call read of the user's memory.
#pragma once

#include <fovea/compiled/arguments.hpp>
#include <fovea/plan/operands.hpp>

#include <utility>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace described {

inline index_type bytes_of_element(std::int32_t code) noexcept {
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

/// Where its elements lie.
inline overlap::pieces pieces_of(const fovea_tensor& x) noexcept {
  const index_type size = bytes_of_element(x.element);
  return {reinterpret_cast<std::uintptr_t>(x.data),
          size,
          {{{x.batch, x.batch_stride * size},
            {x.heads, x.head_stride * size},
            {x.tokens, x.token_stride * size},
            {x.dim, x.dim_stride * size}}}};
}

/// What a call writes beside what its kernels know of.
class written_tensors {
 public:
  /// Whether x can be written, and lies apart from all before it.
  void add(const char* name, const fovea_tensor& x) {
    if (x.data == nullptr) return;
    if (overlap::folds(pieces_of(x).axes))
      reject(name, " has elements that lie at the same place: it can not be written");
    read(name, x), all_.push_back({name, pieces_of(x)});
  }
  /// Whether what is read lies apart from all of them.
  void read(const char* name, const fovea_tensor& x) const {
    if (x.data == nullptr) return;
    for (const auto& [written, at] : all_) check_pieces_apart(written, at, name, pieces_of(x));
  }

 private:
  std::vector<std::pair<const char*, overlap::pieces>> all_;
};

/// All of them, for the call to find out whether what it writes lies apart.
class operand_list {
 public:
  void add(const char* name, const fovea_tensor& view) {
    if (view.data != nullptr) all_.push_back({name, pieces_of(view)});
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
      add("a score's slots", s.slots);
    }
  }
  void each_operand(const auto& f) const {
    for (const auto& [name, at] : all_) f(name, at);
  }

 private:
  std::vector<std::pair<const char*, overlap::pieces>> all_;
};

}  // namespace described
FOVEA_NAMESPACE_END
