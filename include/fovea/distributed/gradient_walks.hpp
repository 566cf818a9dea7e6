// fovea/distributed/gradient_walks.hpp - all keys pass by each rank, and their gradients come home.
#pragma once

#include <fovea/distributed/ordered_gradients.hpp>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// Round the ring, dK and dV a step behind their keys; or, with a block, in the order of the sequence.
template <class KE, class VE, class T>
class gradient_walk {
 public:
  gradient_walk(const communicator& processes, const ring_sizes& sizes, index_type block,
                exchange_trace* trace)
      : processes_(processes), sizes_(sizes) {
    if (block > 0)
      in_order_.emplace(processes, sizes, block, trace), ordered_.emplace(processes, sizes, block);
    else
      ring_.emplace(processes, sizes, trace), sums_.emplace(processes, sizes);
  }

  /// pass: a ring_backward, what it throws is kept in `failure`; to_k, to_v: of this rank's keys.
  template <class Call, class Pass, class DK, class DV>
  void run(const Call& call, Pass& pass, kept_failure& failure, const sequences<DK>& to_k,
           const sequences<DV>& to_v) {
    in_order_ ? run_in_order(call, pass, failure, to_k, to_v) : run_ring(call, pass, failure, to_k, to_v);
  }

 private:
  template <class Call, class Pass, class DK, class DV>
  void run_ring(const Call& call, Pass& pass, kept_failure& failure, const sequences<DK>& to_k,
                const sequences<DV>& to_v) {
    int t = 0;
    ring_->walk(call, [&](int owner, const auto& each_block, const auto& progress) {
      auto& sum = sums_->begin(t, owner);
      failure.attempt([&] { pass.step(owner, sum, each_block, [&] { progress(), sums_->progress(); }); });
      return sums_->end(t++, owner);
    });
    auto& own = sums_->home();
    const int rank = processes_.rank();
    for (index_type b = 0; b < sizes_.batches; ++b) {
      const index_type held = call.k.tokens(b), before = sizes_.keys_before(rank, b);
      write(own, before, held, rows_of(to_k, b, {0, held}), rows_of(to_v, b, {0, held}));
    }
  }

  template <class Call, class Pass, class DK, class DV>
  void run_in_order(const Call& call, Pass& pass, kept_failure& failure, const sequences<DK>& to_k,
                    const sequences<DV>& to_v) {
    in_order_->walk(call, [&](int owner, const auto& each_block, const auto& progress) {
      index_type sent = 0;
      each_block([&](const auto& block, index_type row) {
        const index_type tokens = block.k.tokens;
        failure.attempt([&] { pass.step(*ordered_, block, [&] { progress(), ordered_->progress(); }); });
        sent = ordered_->finish(block.b, owner, tokens, failure.happened(), [&](key_gradients<T>& sum) {
          const range rows{row, row + tokens};
          write(sum, 0, tokens, rows_of(to_k, block.b, rows), rows_of(to_v, block.b, rows));
        });
      });
      return sent;
    });
    ordered_->wait();
  }

  template <class DK, class DV>
  static void write(key_gradients<T>& from, index_type before, index_type held, const tensor_view<DK>& to_k,
                    const tensor_view<DV>& to_v) {
    copy_elements(from.d_k.view(before, held, {0, held}), to_k);
    copy_elements(from.d_v.view(before, held, {0, held}), to_v);
  }

  const communicator& processes_;
  const ring_sizes& sizes_;
  std::optional<key_ring<KE, VE>> ring_;
  std::optional<gradient_ring<T>> sums_;
  std::optional<keys_in_order<KE, VE>> in_order_;
  std::optional<ordered_gradients<T>> ordered_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
