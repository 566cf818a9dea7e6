// fovea/kernel/backward/differentiate_keys.hpp - one job of the backward pass: keys of one key/value head
// against all queries that see them. Scores are computed again from the LSE; nothing of size Lq x Lk is kept.
// The loop of the paper: Dao, "FlashAttention-2", arXiv:2307.08691, algorithm 2:
//   P = exp(S - LSE)   dV = P^T dO   dP = dO V^T   dS = P (dP - D)   dQ = dS K   dK = dS^T Q,
//   D = sum_c dO O - dLSE
#pragma once

#include <fovea/kernel/backward/gradient_rules.hpp>
#include <fovea/kernel/backward/gradient_scorer.hpp>
#include <fovea/kernel/backward/key_superblock.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// One query head as the walk sees it: its scorer and rules; Q and dO, registers wide; of each row LSE and
/// delta (see row_terms); where its dQ is summed, empty where these keys are the first; the scale of Q K^T.
template <class Arch, class T>
struct gradient_head {
  gradient_scorer_ref<Arch, T> scorer;
  gradient_rules_ref<Arch, T> rules;
  block_ref<T> q, d_out;
  const T *lse, *delta;
  sums_of_rows<T> d_q;
  T scale;
};

/// The blocks of a head's query rows that see some of the keys, one after another.
template <class Arch, class T>
class query_blocks {
 public:
  query_blocks(const gradient_head<Arch, T>& head, key_superblock<Arch, T>& keys) noexcept
      : head_(head), keys_(keys) {}

  /// Goes to the next block, if there is one. Sums of blocks that see no key are 0, if these are the first.
  bool next() noexcept {
    clear_if_empty<Arch>(rows_.d_q, rows_.rows.size(), keys_.width());
    for (range rows{rows_.rows.last, 0}; rows.first < head_.q.tokens; rows.first = rows.last) {
      rows.last =
          head_.rules.end_of_rows({rows.first, head_.q.tokens}, keys_.shape().rows_a_block(head_.q.tokens));
      if (head_.rules.seen(rows, keys_.keys()).empty()) {
        clear_if_empty<Arch>(head_.d_q.from(rows.first), rows.size(), keys_.width());
        continue;
      }
      rows_ = {rows,
               head_.q.read(rows),
               head_.d_out.read(rows),
               head_.d_q.from(rows.first),
               head_.lse + rows.first,
               head_.delta + rows.first};
      q_ = {rows_.q, rows.size()}, d_out_ = {rows_.d_out, rows.size()};
      return true;
    }
    rows_ = {};
    return false;
  }
  /// Something was added to the block's dQ.
  void added() noexcept { rows_.d_q.empty = false; }
  const gradient_rows<T>& operator*() const noexcept { return rows_; }

  /// Whether all that P and dS of a group are multiplied by may be multiplied by 0: found where some is.
  bool finite(const key_group<Arch, T>& group) noexcept {
    return !(head_.rules.hides() || group.hides()) || (q_.finite() && d_out_.finite() && keys_.finite());
  }

 private:
  const gradient_head<Arch, T>& head_;
  key_superblock<Arch, T>& keys_;
  gradient_rows<T> rows_{};
  block_rows<Arch, T> q_{{}, 0}, d_out_{{}, 0};
};

/// What one query head adds to dK and dV of a superblock of keys, and these to its dQ.
template <class Arch, class T>
FOVEA_NOINLINE void differentiate_head(const gradient_head<Arch, T>& head,
                                       key_superblock<Arch, T>& keys) noexcept {
  const bool plain = head.rules.plain();
  query_blocks<Arch, T> block(head, keys);
  while (block.next())                                     // q (R, d)   dO (R, dv)
    keys.each_group([&](auto&& group, const auto& sums) {  // k (C, d)   v (C, dv)
      const auto& rows = *block;
      const auto& [d_k, d_v] = sums;
      if (!head.rules.ask(group, rows.rows)) return false;
      const bool finite = block.finite(group);
      const index_type first = group.keys().first;
      head.scorer.score(group, rows, plain, finite);  // (R, C)   P = exp(Q K^T - LSE)
      group.differentiate(rows, head.scale, plain);   // (R, C)   dS = P (dO V^T - D)
      if (!plain || group.hides()) head.rules.apply(group, rows, head.scale, finite);
      group.add_to_values(rows, finite, d_v);  // (C, dv)  dV += P^T dO
      // (C, d)   dK += dS^T Q   (R, d)   dQ += dS K
      head.scorer.pull_back(group, rows, keys.rows_from(first), finite, d_k);
      block.added();
      return true;
    });
}

/// What a job reads, to be asked for while the one before it computes, where all of it fits beside that in
/// L2. (8 x 12 x 128 x 64, which lie beyond L2 and in part beyond L3: 5 to 8 % less time; 1 x 12 x 128 x 64,
/// in L3, 1 % more. Asking for results as well takes 2 to 3 % more, not for Q 1 % more. Zen 5. Larger jobs
/// where the call lies beyond caches alone: 8 x 12 x 197 x 64 take 4 % less time with it, 1 x 12 x 197 x 64
/// 2 % more.)
template <class Gradients>
prefetch lines_of_job(const Gradients& g, const gradient_job& job) noexcept {
  const auto& p = g.forward;
  const index_type most_bytes = (p.beyond_caches ? 384 : 256) * 1024;
  const index_type b = job.batch, h = job.heads.first;
  const byte_view views[] = {byte_view(p.k.head(b, job.kv_head)), byte_view(p.v.head(b, job.kv_head)),
                             byte_view(g.d_out.head(b, h)), byte_view(g.out.head(b, h)),
                             byte_view(p.q.head(b, h))};
  index_type bytes = 0;
  for (const byte_view& m : views) bytes += m.rows * m.cols * m.element;
  prefetch lines;
  if (bytes <= most_bytes)
    for (const byte_view& m : views) lines.add(line_use::read_l2, m, {0, m.rows});
  return lines;
}

/// dK and dV of the keys and, for `d_q_of(head)`, what these keys add to dQ.
/// `terms_of(head)` gives {lse, delta} of the rows, `d_parameters_of(head)` where its gradient by the
/// parameters of a scorer is summed; `d_kv_of(keys)` where dK and dV of a superblock are, which
/// `close(keys, d_k, d_v)` takes. `soon`: asked for meanwhile.
template <class Arch, class Gradients, class T, class DQ, class DW, class Terms, class DKV, class Close>
void differentiate_keys(const Gradients& g, const gradient_job& job, const gradient_scratch<T>& memory,
                        prefetch soon, const DQ& d_q_of, const DW& d_parameters_of, const Terms& terms_of,
                        const DKV& d_kv_of, const Close& close) noexcept {
  const auto& p = g.forward;
  const index_type b = job.batch, width = round_up(p.dim(), lanes<Arch, T>),
                   value_width = round_up(p.value_dim(), lanes<Arch, T>);
  const auto k = p.k.head(b, job.kv_head);
  const auto v = p.v.head(b, job.kv_head);
  const auto k_of = operand_of<Arch>(k, width, memory.k_copy);
  for (index_type h = job.heads.first; h < job.heads.last; ++h) {
    const auto rules = p.rules.bind(p.at(b, h));
    const sums_of_rows<T> sums = d_q_of(h);
    each_block_of_rows(p.q.tokens(b), [&](range rows) {
      if (job.key_split == 0 ? job.keys.empty() : !seen_of(rules.mask, rows, job.keys).empty())
        clear_rows<Arch>(sums.from(rows.first), rows.size(), width);
    });
    if (double* const d_w = d_parameters_of(h)) std::fill_n(d_w, p.dim(), 0.0);
  }

  const gradient_shape<Arch, T> shape(p.dim());
  soon.deal(job.heads.size() * shape.tiles(p.q.tokens(b), job.keys.size()));
  const auto first_rules = p.rules.bind(p.at(b, job.heads.first));
  for (range block = job.keys; !block.empty(); block.first = block.last, block.last = job.keys.last) {
    const key_groups<Arch, T> groups(first_rules.mask, block, shape.lanes_a_group,
                                     shape.groups(p.k.tokens(b)));
    block = groups.keys();
    const auto [d_k, d_v] = d_kv_of(block);
    key_superblock<Arch, T> keys(groups, p.dim(), p.value_dim(), k_of.read(block), d_k, d_v, memory, soon);
    keys.open(query_ref<Arch, T>(k), p.factor(), query_ref<Arch, T>(v), p.scale);
    for (index_type h = job.heads.first; h < job.heads.last; ++h) {
      const auto rules = gradients_of_cells<weights_of<Arch, Gradients>>(p.rules.bind(p.at(b, h)),
                                                                         p.dropout.bind(p.at(b, h)));
      const auto q = operand_of<Arch>(p.q.head(b, h), width, memory.q_copy);
      const auto d_out = operand_of<Arch>(g.template d_sums<Arch>(b, h), value_width, memory.d_out_copy);
      decltype(auto) scorer = bind_scorer(p.scorer, p.at(b, h));
      const auto terms = terms_of(h);
      sums_of_rows<T> d_q = d_q_of(h);
      d_q.empty = job.key_split == 0 && block.first == job.keys.first;
      differentiate_head<Arch, T>(
          {gradient_scorer_ref<Arch, T>(scorer, d_parameters_of(h)), gradient_rules_ref<Arch, T>(rules),
           block_ref<T>(q), block_ref<T>(d_out), terms.lse, terms.delta, d_q, p.scale},
          keys);
    }
    keys.close();
    close(block, d_k, d_v);
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
