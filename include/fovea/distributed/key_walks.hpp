// fovea/distributed/key_walks.hpp - all keys and values pass by each rank.
#pragma once

#include <fovea/distributed/ring_call.hpp>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// Keys and values of one sequence that stand side by side in it, from token `first` on.
template <class KE, class VE>
struct key_block {
  index_type b, first;
  tensor_view<const KE> k;
  tensor_view<const VE> v;
};

enum : int { tag_of_keys = 1, tag_of_values, tag_of_key_gradients, tag_of_value_gradients, tag_of_seen };

/// What a rank holds of keys and values, as it travels.
template <class KE, class VE>
struct travelling_keys {
  packed_tokens<KE> k;
  packed_tokens<VE> v;

  travelling_keys(const ring_sizes& sizes, index_type most_tokens)
      : k(sizes.kv_heads, sizes.dim, most_tokens), v(sizes.kv_heads, sizes.value_dim, most_tokens) {}

  index_type bytes(index_type tokens) const noexcept {
    return k.size(tokens) * static_cast<index_type>(sizeof(KE)) +
           v.size(tokens) * static_cast<index_type>(sizeof(VE));
  }
};

/// Blocks go round the ring: after step t a rank has computed with those of the ranks up to t before it. Each
/// is sent on and the next received while it is computed with.
template <class KE, class VE>
class key_ring {
 public:
  key_ring(const communicator& processes, const ring_sizes& sizes, exchange_trace* trace)
      : processes_(processes),
        sizes_(sizes),
        trace_(trace),
        here_(sizes, sizes.most_keys(processes.ranks())),
        next_(sizes, processes.ranks() > 1 ? sizes.most_keys(processes.ranks()) : 0) {}

  /// step(owner, each_block, progress) -> the bytes that it sent itself; each_block(f) calls f(key_block, its
  /// first row on its owner) for all blocks of the step, progress() lets MPI work.
  template <class Operands, class Step>
  void walk(const Operands& x, const Step& step) {
    pack(x);
    const int ranks = processes_.ranks();
    for (int t = 0; t < ranks; ++t) {
      const int owner = processes_.rank_after(-t);
      exchange_step times{.owner = owner, .posted = MPI_Wtime()};
      if (t + 1 < ranks) post(owner, processes_.rank_after(-t - 1), times);
      times.computed_from = MPI_Wtime();
      const auto progress = [&] {
        if (times.arrived == 0 && on_their_way_.progress()) times.arrived = MPI_Wtime();
      };
      times.bytes_sent += step(
          owner, [&](const auto& f) { each_block(owner, f); }, progress);
      times.computed_to = MPI_Wtime();
      on_their_way_.wait();
      if (times.arrived == 0) times.arrived = MPI_Wtime();
      std::swap(here_, next_);
      if (trace_ != nullptr) trace_->steps.push_back(times);
    }
  }

 private:
  template <class Operands>
  void pack(const Operands& x) {
    const int rank = processes_.rank();
    for (index_type b = 0; b < sizes_.batches; ++b) {
      const index_type held = x.k.tokens(b), before = sizes_.keys_before(rank, b);
      copy_elements(rows_of(x.k, b, {0, held}), here_.k.view(before, held, {0, held}));
      copy_elements(rows_of(x.v, b, {0, held}), here_.v.view(before, held, {0, held}));
    }
  }
  void post(int owner, int next_owner, exchange_step& times) {
    const index_type sent = sizes_.keys_of(owner), received = sizes_.keys_of(next_owner);
    const int from = processes_.rank_after(-1), to = processes_.rank_after(1);
    on_their_way_.receive(processes_, from, tag_of_keys, next_.k.data(), next_.k.size(received));
    on_their_way_.receive(processes_, from, tag_of_values, next_.v.data(), next_.v.size(received));
    on_their_way_.send(processes_, to, tag_of_keys, here_.k.data(), here_.k.size(sent));
    on_their_way_.send(processes_, to, tag_of_values, here_.v.data(), here_.v.size(sent));
    times.bytes_sent = here_.bytes(sent), times.bytes_received = here_.bytes(received);
  }
  template <class F>
  void each_block(int owner, const F& f) {
    for (index_type b = 0; b < sizes_.batches; ++b) {
      const slices_of_ranks& keys = sizes_.keys[static_cast<std::size_t>(b)];
      const index_type before = sizes_.keys_before(owner, b), held = keys.held(owner);
      for (const slice& part : keys.of(owner)) {
        const range rows{part.row, part.row + part.count};
        if (part.count > 0)
          f(key_block<KE, VE>{b, part.first, here_.k.view(before, held, rows),
                              here_.v.view(before, held, rows)},
            part.row);
      }
    }
  }

  const communicator& processes_;
  const ring_sizes& sizes_;
  exchange_trace* trace_;
  travelling_keys<KE, VE> here_, next_;
  messages on_their_way_;
};

/// The keys of all ranks in blocks of equal size and in the order of the sequence, each sent to all ranks at
/// a time while the one before is computed with: sums have the same order however many ranks there are.
template <class KE, class VE>
class keys_in_order {
  struct place_of_block {
    index_type b, first, count, row;
    int owner;
  };

 public:
  keys_in_order(const communicator& processes, const ring_sizes& sizes, index_type block,
                exchange_trace* trace)
      : processes_(processes),
        trace_(trace),
        here_(sizes, std::min(block, sizes.longest_keys())),
        next_(sizes, std::min(block, sizes.longest_keys())) {
    for (index_type b = 0; b < sizes.batches; ++b) {
      const slices_of_ranks& keys = sizes.keys[static_cast<std::size_t>(b)];
      const std::size_t begin = blocks_.size();
      for (int r = 0; r < processes.ranks(); ++r)
        for (const slice& part : keys.of(r))
          for (index_type at = 0; at < part.count; at += block)
            blocks_.push_back({b, part.first + at, std::min(block, part.count - at), part.row + at, r});
      std::sort(blocks_.begin() + static_cast<std::ptrdiff_t>(begin), blocks_.end(),
                [](const place_of_block& x, const place_of_block& y) { return x.first < y.first; });
    }
  }

  template <class Operands, class Step>
  void walk(const Operands& x, const Step& step) {
    if (!blocks_.empty()) post(x, blocks_[0]);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      const place_of_block at = blocks_[i];
      on_their_way_.wait();
      std::swap(here_, next_);
      exchange_step times{.owner = at.owner, .posted = MPI_Wtime()};
      if (i + 1 < blocks_.size()) post(x, blocks_[i + 1]);
      times.computed_from = MPI_Wtime();
      const index_type bytes = here_.bytes(at.count);
      (at.owner == processes_.rank() ? times.bytes_sent : times.bytes_received) = bytes;
      const range rows{0, at.count};
      const key_block<KE, VE> block{at.b, at.first, here_.k.view(0, at.count, rows),
                                    here_.v.view(0, at.count, rows)};
      times.bytes_sent += step(
          at.owner, [&](const auto& f) { f(block, at.row); }, [&] { on_their_way_.progress(); });
      times.computed_to = times.arrived = MPI_Wtime();
      if (trace_ != nullptr) trace_->steps.push_back(times);
    }
  }

 private:
  template <class Operands>
  void post(const Operands& x, const place_of_block& at) {
    const range rows{0, at.count}, of_rank{at.row, at.row + at.count};
    if (at.owner == processes_.rank()) {
      copy_elements(rows_of(x.k, at.b, of_rank), next_.k.view(0, at.count, rows));
      copy_elements(rows_of(x.v, at.b, of_rank), next_.v.view(0, at.count, rows));
    }
    on_their_way_.broadcast(processes_, at.owner, next_.k.data(), next_.k.size(at.count));
    on_their_way_.broadcast(processes_, at.owner, next_.v.data(), next_.v.size(at.count));
  }

  const communicator& processes_;
  exchange_trace* trace_;
  travelling_keys<KE, VE> here_, next_;
  std::vector<place_of_block> blocks_;
  messages on_their_way_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
