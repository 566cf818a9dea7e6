// fovea/distributed/key_gradients.hpp - gradients of keys and values, as they travel between ranks.
#pragma once

#include <fovea/distributed/key_walks.hpp>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// dK and dV of some keys, in the type that sums are made in.
template <class T>
struct key_gradients {
  packed_tokens<T> d_k, d_v;

  explicit key_gradients(const ring_sizes& sizes, index_type tokens)
      : d_k(sizes.kv_heads, sizes.dim, tokens), d_v(sizes.kv_heads, sizes.value_dim, tokens) {}
  void clear(index_type tokens) noexcept {
    std::fill_n(d_k.data(), d_k.size(tokens), T(0)), std::fill_n(d_v.data(), d_v.size(tokens), T(0));
  }
  void add(key_gradients& other, index_type tokens) noexcept {
    for (index_type i = 0; i < d_k.size(tokens); ++i) d_k.data()[i] += other.d_k.data()[i];
    for (index_type i = 0; i < d_v.size(tokens); ++i) d_v.data()[i] += other.d_v.data()[i];
  }
  index_type bytes(index_type tokens) const noexcept {
    return (d_k.size(tokens) + d_v.size(tokens)) * static_cast<index_type>(sizeof(T));
  }
};

/// dK and dV follow their keys round the ring, a step behind: a rank computes what its queries add while the
/// sum of the ranks before is on its way, adds both and sends them on. After the last step they come home.
template <class T>
class gradient_ring {
 public:
  gradient_ring(const communicator& processes, const ring_sizes& sizes)
      : processes_(processes),
        sizes_(sizes),
        own_{key_gradients<T>(sizes, sizes.most_keys(processes.ranks())),
             key_gradients<T>(sizes, sizes.most_keys(processes.ranks()))},
        before_(sizes, sizes.most_keys(processes.ranks())) {}

  /// What this rank adds in step t, from 0.
  key_gradients<T>& begin(int t, int owner) {
    const std::size_t i = static_cast<std::size_t>(t % 2);
    sent_[i].wait(), own_[i].clear(sizes_.keys_of(owner));
    if (t > 0) receive(owner);
    return own_[i];
  }
  /// The sum so far, sent on; returns how many bytes that were.
  index_type end(int t, int owner) {
    key_gradients<T>& sum = own_[static_cast<std::size_t>(t % 2)];
    const index_type tokens = sizes_.keys_of(owner);
    received_.wait();
    if (t > 0) sum.add(before_, tokens);
    if (processes_.ranks() == 1) return 0;
    messages& to = sent_[static_cast<std::size_t>(t % 2)];
    to.send(processes_, processes_.rank_after(1), tag_of_key_gradients, sum.d_k.data(), sum.d_k.size(tokens));
    to.send(processes_, processes_.rank_after(1), tag_of_value_gradients, sum.d_v.data(),
            sum.d_v.size(tokens));
    return sum.bytes(tokens);
  }
  /// The gradients of this rank's own keys, once all steps are done.
  key_gradients<T>& home() {
    if (processes_.ranks() == 1) return own_[0];
    receive(processes_.rank());
    received_.wait(), sent_[0].wait(), sent_[1].wait();
    return before_;
  }
  void progress() { received_.progress(), sent_[0].progress(), sent_[1].progress(); }

 private:
  void receive(int owner) {
    const index_type tokens = sizes_.keys_of(owner);
    const int from = processes_.rank_after(-1);
    received_.receive(processes_, from, tag_of_key_gradients, before_.d_k.data(), before_.d_k.size(tokens));
    received_.receive(processes_, from, tag_of_value_gradients, before_.d_v.data(), before_.d_v.size(tokens));
  }

  const communicator& processes_;
  const ring_sizes& sizes_;
  std::array<key_gradients<T>, 2> own_;
  key_gradients<T> before_;
  messages received_;
  std::array<messages, 2> sent_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
