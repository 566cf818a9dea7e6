// fovea/compiled/operands.hpp - what masks and scores of a call read of the user's memory.
#pragma once

#include <fovea/compiled/any_cache.hpp>
#include <fovea/plan/operands.hpp>

#include <utility>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// Masks (or parts of one), and scores, that a call names; and how deep masks have parts.
inline constexpr std::int64_t most_masks = 8, most_scores = 8;
inline constexpr int deepest_parts = 16;
inline void check_depth(int depth) {
  if (depth > deepest_parts) reject("masks have parts of parts ", depth, " deep, more than ", deepest_parts);
}

/// Where its elements lie; throws where that can not be counted.
inline overlap::pieces pieces_of(const char* name, const fovea_tensor& x) {
  const index_type bytes = bytes_of_element(x.element);
  const auto axis = [&](std::int64_t size, std::int64_t stride) -> overlap::axis {
    if (size < 0) reject(name, " has a size of ", size, ", which is below 0");
    return {size, countable_stride(name, size, stride, bytes) * bytes};
  };
  return {reinterpret_cast<std::uintptr_t>(x.data),
          bytes,
          {{axis(x.batch, x.batch_stride), axis(x.heads, x.head_stride), axis(x.tokens, x.token_stride),
            axis(x.dim, x.dim_stride)}}};
}

inline fovea_tensor tensor_of_list(const fovea_list& list) noexcept {
  fovea_tensor view{};
  view.data = const_cast<void*>(list.data), view.element = list.element;
  view.batch = view.heads = view.dim = 1, view.tokens = list.count;
  view.token_stride = list.stride, view.dim_stride = 1;
  return view;
}

/// What a call writes beside what its kernels know of.
class written_tensors {
 public:
  /// Whether x can be written, and lies apart from all before it.
  void add(const char* name, const fovea_tensor& x) {
    if (x.data == nullptr) return;
    if (overlap::folds(pieces_of(name, x).axes))
      reject(name, " has elements that lie at the same place: it can not be written");
    read(name, x), all_.push_back({name, pieces_of(name, x)});
  }
  /// Whether what is read lies apart from all of them.
  void read(const char* name, const fovea_tensor& x) const {
    if (x.data != nullptr) read(name, pieces_of(name, x));
  }
  void read(const char* name, const overlap::pieces& x) const {
    for (const auto& [written, at] : all_) check_pieces_apart(written, at, name, x);
  }

 private:
  std::vector<std::pair<const char*, overlap::pieces>> all_;
};

/// All of them, for the call to find out whether what it writes lies apart.
class operand_list {
 public:
  void add(const char* name, const fovea_tensor& view) {
    if (view.data != nullptr) all_.push_back({name, pieces_of(name, view)});
  }
  void add(const char* name, const fovea_list& list) { add(name, tensor_of_list(list)); }
  void add_masks(const fovea_mask* masks, std::int64_t count, int depth = 0) {
    check_count("masks", count, most_masks);
    for (std::int64_t i = 0; i < count; ++i) {
      check_depth(depth);
      const fovea_mask m = entry_of(masks, i, "masks");
      add("a mask's list", m.list), add("a mask's list", m.list2), add("a mask's matrix", m.matrix);
      if (m.kind >= FOVEA_ALL_OF) add_masks(m.parts, m.part_count, depth + 1);
    }
  }
  void add_scores(const fovea_score* scores, std::int64_t count) {
    check_count("scores", count, most_scores);
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

inline fovea_tensor workspace_bytes(const fovea_call& call) noexcept {
  return tensor_of_list({call.workspace, FOVEA_U8, 0, static_cast<std::int64_t>(call.workspace_bytes), 1});
}
/// Whether what is written lies apart from what a call reads beside q and o.
inline void check_operands(const written_tensors& written, const fovea_call& call) {
  written.read("k", call.k), written.read("v", call.v), written.read("gate", call.gate);
  operand_list all;
  all.add_masks(call.masks, call.mask_count), all.add_scores(call.scores, call.score_count);
  all.add("sink", call.sink), all.add("query_offsets", call.query_offsets);
  all.add("key_offsets", call.key_offsets), all.add("weight_heads", call.weight_heads);
  all.each_operand([&](const char* name, const overlap::pieces& at) { written.read(name, at); });
  for (std::int64_t b = 0; b < call.cache_count; ++b) {
    const auto memory = cache_of_call(call, b).memory();
    written.read("a cache", tensor_of_list({memory.data(), FOVEA_U8, 0, std::ssize(memory), 1}));
  }
}
/// Whether all that fovea_attend writes lies apart, as it is given: its kernels may get copies. o may be q.
inline void check_results(const fovea_call& call) {
  written_tensors written;
  written.add("workspace", workspace_bytes(call)), written.add("lse", call.lse);
  written.add("received", call.received), written.add("weights", call.weights);
  written.read("q", call.q), written.add("o", call.o);
  if (call.o.data != call.q.data) written.read("q", call.q);
  check_operands(written, call);
}
/// The same of fovea_backward.
inline void check_results(const fovea_call& call, const fovea_gradients& of) {
  written_tensors written;
  written.add("workspace", workspace_bytes(call)), written.add("d_gate", of.d_gate);
  written.add("d_q", of.d_q), written.add("d_k", of.d_k), written.add("d_v", of.d_v);
  written.add("sink_gradient", tensor_of_list(call.sink_gradient));
  check_count("scores", call.score_count, most_scores);
  for (std::int64_t i = 0; i < call.score_count; ++i) {
    const fovea_score s = entry_of(call.scores, i, "scores");
    written.add("a score's gradient", s.gradient);
    written.add("a score's gradient", tensor_of_list(s.gradient_list));
  }
  written.read("q", call.q), written.read("o", call.o), written.read("lse", call.lse);
  written.read("d_o", of.d_o), written.read("d_lse", of.d_lse);
  check_operands(written, call);
}

}  // namespace described
FOVEA_NAMESPACE_END
