// fovea/compiled/make_scores.hpp - scores and the sink as the C header describes them.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/compiled/described_score.hpp>
#include <fovea/compiled/described_sink.hpp>
#include <fovea/compiled/operands.hpp>
#include <fovea/view/broadcast.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

template <class T>
parameter_gradient<T> gradient_of_bias(const fovea_score& s) {
  if (s.gradient.data == nullptr) return {};
  const auto to = view_as<T>(s.gradient, "the gradient of bias");
  const auto same = [](const char* what, index_type has, index_type wanted) {
    if (has != wanted) reject("bias: the gradient has ", has, " ", what, ", the bias ", wanted);
  };
  same("batch entries", to.batch, s.matrix.batch), same("heads", to.heads, s.matrix.heads);
  same("rows (queries)", to.tokens, s.matrix.tokens), same("columns (keys)", to.dim, s.matrix.dim);
  return {to.data,         to.batch,       to.heads,        to.tokens,    to.dim,
          to.batch_stride, to.head_stride, to.token_stride, to.dim_stride};
}

/// Where the gradient of a table goes; a table's score checks its size.
template <class T>
tensor_view<T> gradient_of_table(const fovea_score& s, const char* name) {
  if (s.gradient.data == nullptr) return {};
  const auto to = view_as<T>(s.gradient, name);
  return slots_view(to, name);
}

/// The slot of a cell as a matrix says it; sizes of 1 are repeated.
struct listed_slots {
  broadcast<const std::int32_t> all;
  index_type operator()(index_type batch, index_type head, index_type q, index_type k) const noexcept {
    const auto& m = all.table;
    return m(m.batch == 1 ? 0 : batch, m.heads == 1 ? 0 : head, m.tokens == 1 ? 0 : q, m.dim == 1 ? 0 : k);
  }
};
template <class Table>
struct listed_table : Table {
  void check(const place& at) const { this->f.all.check(at, "bias_table's slots"), Table::check(at); }
};
template <class Table>
listed_table(Table) -> listed_table<Table>;  // clang 16 asks for it

/// f(score, where its gradient goes).
template <class T, class F>
void with_score(const fovea_score& s, const F& f) {
  const parameter_gradient<T> nowhere{};
  switch (s.kind) {
    case FOVEA_SOFTCAP:
      return f(softcap<double>(s.value), nowhere);
    case FOVEA_ALIBI: {
      const list_view<double> slopes = numbers(s.list, "alibi's slopes");
      const std::span<T> to = written<T>(s.gradient_list, "alibi's d_slopes");
      if (!to.empty() && static_cast<index_type>(to.size()) != slopes.size())
        reject("alibi has ", slopes.size(), " slopes but d_slopes has ", to.size());
      return f(alibi{slopes, s.offset, {}}, parameter_gradient<T>{.data = to.empty() ? nullptr : to.data(),
                                                                  .heads = static_cast<index_type>(to.size()),
                                                                  .head_stride = 1});
    }
    case FOVEA_BIAS:
      return with_real(s.matrix, "bias", [&](const auto& view) {
        using E = std::remove_pointer_t<decltype(view.data)>;
        if (view.data == nullptr) reject("bias is a null pointer");
        f(bias_matrix<broadcast<E>>{{view}}, gradient_of_bias<T>(s));
      });
    case FOVEA_T5_BIAS:
      return with_real(s.matrix, "t5_bias", [&](const auto& view) {
        f(t5_bias_of(slots_view(view, "t5_bias's table"), gradient_of_table<T>(s, "t5_bias's gradient"),
                     {.bidirectional = s.one_direction == 0,
                      .max_distance = s.max_distance == 0 ? 128 : s.max_distance,
                      .offset = s.offset}),
          nowhere);
      });
    case FOVEA_SWIN_BIAS:
      return with_real(s.matrix, "swin_bias", [&](const auto& view) {
        f(swin_bias_of(slots_view(view, "swin_bias's table"), gradient_of_table<T>(s, "swin_bias's gradient"),
                       {s.height, s.width}),
          nowhere);
      });
    case FOVEA_BIAS_TABLE:
      return with_real(s.matrix, "bias_table", [&](const auto& view) {
        const auto slots = view_as<const std::int32_t>(s.slots, "bias_table's slots");
        if (slots.data == nullptr) reject("bias_table's slots is a null pointer");
        f(listed_table{bias_table_of(slots_view(view, "bias_table's table"),
                                     gradient_of_table<T>(s, "bias_table's gradient"),
                                     listed_slots{{slots}})},
          nowhere);
      });
    default:
      reject("a score has the kind ", s.kind, ", no fovea_score_kind");
  }
}

/// The scores of a call, softcaps first; those before and after the one whose gradient is wanted apart.
template <class Arch, class T>
struct call_scores {
  described_score<Arch, T> all, before, after;
  learnt_score<Arch, T> learnt;

  call_scores(const fovea_score* scores, std::int64_t count, index_type heads, call_memory& memory)
      : all(memory, heads), before(memory, heads), after(memory, heads), learnt(memory, heads) {
    check_count("scores", count, most_scores);
    std::vector<const any_score<Arch, T>*> made;
    for (std::int64_t i = 0; i < count; ++i)
      with_score<T>(entry_of(scores, i, "scores"), [&](auto score, const parameter_gradient<T>& to) {
        made.push_back(memory.make<score_of<Arch, T, decltype(score)>>(std::move(score), to));
      });
    std::stable_partition(made.begin(), made.end(), [](const auto* score) { return score->is_softcap; });
    for (const auto* score : made) {
      all.add(score);
      if (!score->learns())
        (learnt.empty() ? before : after).add(score);
      else if (learnt.empty())
        learnt.add(score);
      else
        reject("gradients of more than 1 score are wanted, which one call does not write");
    }
  }
};

/// The sink of a call.
inline described_sink sink_of_call(const fovea_call& call) {
  described_sink sink;
  if (call.sink.data != nullptr && call.off_by_one != 0)
    reject("the call has both a sink and off_by_one; one of them is enough");
  if (call.sink.data != nullptr) sink.given.logits = numbers(call.sink, "sink's logits");
  if (call.off_by_one != 0) sink.everywhere = 0;
  const std::span<float> to = written<float>(call.sink_gradient, "sink's d_logits");
  if (!to.empty() && call.sink.data == nullptr)
    reject("sink's d_logits has ", to.size(), " entries, but there is no sink");
  sink.given.d_logits = to;
  return sink;
}

}  // namespace described
FOVEA_NAMESPACE_END
