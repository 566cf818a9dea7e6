// fovea/kernel/forward/attend_group.hpp - one job: query rows of all heads that share a key/value head, in
// lanes, against all keys that they see. Each key and value is read once for up to a job's rows.
#pragma once

#include <fovea/kernel/forward/attend_lanes.hpp>
#include <fovea/kernel/operand/group_rows.hpp>
#include <fovea/kernel/rules/grouped_rules.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Whether the heads of a group may share lanes: their logits are dot products, and their result is written
/// as it is. (What keeps weights, sums what keys receive, gates or scores in its own way goes head by head.)
template <class Problem>
inline constexpr bool may_group = false;
template <class Problem>
  requires(Problem::scores_dots && !Problem::receives && !Problem::keeps_weights)
inline constexpr bool may_group<Problem> = requires {  // and not what derives from it
  []<class E>(std::type_identity<sequences<E>>) {
  }(std::type_identity<std::remove_cvref_t<decltype(Problem::out)>>());
};

/// Whether values may be the first part of keys, whose copies are then read for both.
template <class Values, class Keys>
concept may_lie_in = requires(const Values& values, const Keys& keys) { values.lies_in(keys); };

/// Values of which a block, where they are the first part of keys, is the one of the keys that was read last.
template <class Keys, class Values>
struct values_of_keys : Values {
  const Keys& keys;
  bool in_keys;
  auto read(range wanted) const noexcept {
    if (!in_keys) return Values::read(wanted);
    auto rows = keys.in_one_piece(wanted);
    if (rows.data == nullptr) rows = {keys.buffer, keys.width, keys.width};
    rows.dim = this->width;
    return rows;
  }
  auto read_columns(range wanted) const noexcept { return read(wanted); }
};

/// The values of a head as a walk of its group reads them.
template <class Arch, bool Pairs, bool OfKeys, class Keys, class Head, class T>
auto group_values(const Keys& keys, const Head& all, index_type width, T* buffer) noexcept {
  const auto values = operand_in_lanes<Arch, Pairs>(all, width, buffer);
  if constexpr (OfKeys && may_lie_in<Head, decltype(Keys::all)>)
    return values_of_keys<Keys, std::remove_const_t<decltype(values)>>{values, keys, all.lies_in(keys.all)};
  else
    return values;
}

/// A key/value head of a call, and what becomes of its group's rows: what the job of a walk refers to.
template <class Arch, class Problem, class T = typename Problem::compute>
class group_head {
  static constexpr bool in_pairs = pairs_channels_of<Arch, typename Problem::read>,
                        rounds = Problem::rounds_weights, of_keys = !in_pairs && !rounds;
  using dropout = std::remove_cvref_t<decltype(Problem::dropout)>;
  using weights = decltype(lane_weights_of<Arch>(std::declval<const Problem&>()));
  using mixer_type = lane_values<Arch, T, std::conditional_t<rounds, bf16_pair, T>, weights>;

 public:
  FOVEA_NOINLINE group_head(const Problem& of, index_type batch, index_type head,
                            const scratch<T>& given) noexcept
      : p(of),
        b(batch),
        first_head(head * of.group()),
        rules_of_heads(of.rules, of.dropout, of.at(batch, first_head), of.group()),
        rules(rules_of_heads, of.group(), reinterpret_cast<T*>(given.stages)),
        queries(of.q, batch, head, of.group()),
        out(of.out, batch, head, of.group()),
        keys(operand_in_lanes<Arch, in_pairs>(of.k.head(batch, head), of.dim(), given.keys)),
        values(
            group_values<Arch, rounds, of_keys>(keys, of.v.head(batch, head), of.value_dim(), given.values)),
        all_values(values),
        to(out),
        memory(given),
        state(lane_weights_of<Arch>(of)),
        mixer(all_values, of.value_dim(), to, lse(), sink_ref<T>(of.sink, first_head, of.group()),
              keys_at_once<Arch, T>(of.rules.bind(of.at(batch, first_head)).mask, of.value_dim())) {}
  group_head(const group_head&) = delete;

  /// The results of rows, or, where `left` is some place, what is left there of the keys of `span`.
  void attend(range rows, range span, T* left) noexcept {
    if (left != nullptr) mixer.leave(left, rows.first);
    lane_job<Arch, T> job{
        rows,  span, p.dim(), packed(), p.factor(), block_ref<T>(keys), scorer(), rules_ref<Arch, T>(rules),
        memory};
    job.values = &all_values, job.drops = p.drops_weights(), job.merges = left != nullptr;
    walk_lanes(job, state, mixer);
  }
  /// The results of rows from what was left of `spans` spans of keys, `stride` bytes apart.
  void merge(range rows, index_type spans, T* left, index_type stride) noexcept {
    for (auto& q : query_panels<Arch, T>(rows, memory.panels, p.dim(), p.value_dim(), weights::columns)) {
      mixer.open(q), state.open(q);
      for (index_type i = 0; i < spans; ++i) mixer.merge(q, state, after(left, i * stride), rows.first);
      mixer.close(q, state);
    }
  }

 private:
  static constexpr dot_product_of_pairs pairs = {};
  scorer_ref<Arch, T> scorer() const noexcept {
    if constexpr (in_pairs)
      return scorer_ref<Arch, T>(pairs);
    else
      return scorer_ref<Arch, T>(p.scorer);
  }
  query_ref<Arch, T> packed() const noexcept {
    if constexpr (in_pairs)
      return group_query_ref<Arch, T>(queries, as_bf16_pairs());
    else
      return group_query_ref<Arch, T>(queries);
  }
  lse_rows<T> lse() const noexcept {
    if (!p.wants_lse()) return {};
    return {p.lse.head(b, first_head), p.group(), p.lse.all.head_stride};
  }

  const Problem& p;
  index_type b, first_head;
  group_rules<decltype(Problem::rules), dropout> rules_of_heads;
  grouped_rules<Arch, T, decltype(Problem::rules), dropout> rules;
  group_rows<const typename Problem::query_element> queries;
  group_rows<std::remove_pointer_t<decltype(Problem::out.all.data)>> out;
  decltype(operand_in_lanes<Arch, in_pairs>(std::declval<const Problem&>().k.head(0, 0), 0,
                                            static_cast<T*>(nullptr))) keys;
  decltype(group_values<Arch, rounds, of_keys>(keys, std::declval<const Problem&>().v.head(0, 0), 0,
                                               static_cast<T*>(nullptr))) values;
  block_ref<T> all_values;
  result_ref<Arch, T> to;
  scratch<T> memory;
  weights state;
  mixer_type mixer;
};

/// Rows `rows` of a key/value head's group (see group_rows) against the keys of `span`.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_group(const Problem& p, index_type b, index_type kv_head, range rows, range span,
                                 const scratch<T>& memory, T* left) noexcept {
  group_head<Arch, Problem>(p, b, kv_head, memory).attend(rows, span, left);
}
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void merge_group(const Problem& p, index_type b, index_type kv_head, range rows,
                                index_type spans, const scratch<T>& memory, T* left,
                                index_type stride) noexcept {
  group_head<Arch, Problem>(p, b, kv_head, memory).merge(rows, spans, left, stride);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
