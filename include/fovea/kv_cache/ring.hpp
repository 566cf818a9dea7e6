// fovea/kv_cache/ring.hpp - the first few and the newest tokens of a sequence without end.
#pragma once

#include <fovea/kv_cache/basic_cache.hpp>
#include <fovea/kv_cache/layouts.hpp>

FOVEA_NAMESPACE_BEGIN

struct ring_options {
  index_type heads = 0;      // of keys and values, where the type leaves them dynamic_heads
  index_type value_dim = 0;  // 0: as dim
  index_type sinks = 0;      // so many first tokens stay (StreamingLLM, arXiv:2309.17453, keeps 4)
};

/// A cache of the newest `window` tokens and, before them, the sinks. Masks count the tokens that are kept:
/// to a causal mask, a window or ALiBi the sinks stand right before the oldest of the others. Keys turned by
/// append keep their distances likewise: as tokens are let go, the sinks' keys are turned further, so that
/// the whole is as far as a model has seen in training, however long the sequence.
///
/// Several tokens appended at once let go of as many: the first of their queries then misses what its last
/// one does not see. For a window of w tokens and m at a time, give it w + m - 1, and attend with
/// sliding_window{.left = w - 1}.
template <class E, int KVHeads = dynamic_heads, class VE = E, class Arch = xsimd::default_arch>
class ring_cache : public caching::basic_cache<caching::ring, E, VE, KVHeads, Arch> {
  using base = caching::basic_cache<caching::ring, E, VE, KVHeads, Arch>;

 public:
  FOVEA_INLINE ring_cache(index_type window, index_type dim, const ring_options& options = {})
      : base(std::make_shared<typename base::store_type>(
                 caching::checked({1, checked_window(window, options.sinks) + options.sinks, options.heads,
                                   dim, options.value_dim, options.sinks},
                                  KVHeads)),
             caching::ring(options.sinks, window)) {}
  ring_cache(ring_cache&&) = default;
  ring_cache& operator=(ring_cache&&) = default;
  FOVEA_INLINE ~ring_cache() = default;

  FOVEA_INLINE index_type window() const noexcept { return this->layout_.capacity() - sinks(); }
  FOVEA_INLINE index_type sinks() const noexcept { return this->layout_.sinks(); }

  template <viewable K, viewable V>
  void append(const K& k, const V& v) {
    base::append(k, v);
  }
  template <viewable K, viewable V, class A>
  void append(const K& k, const V& v, const rotary_angles<A>& angles,
              rotary_pairs pairs = rotary_pairs::halves) {
    const index_type before = this->position(), gone = this->layout_.evicted();
    base::append(k, v, angles, pairs);
    keep_sinks(as_sequences(k, this->heads(), "k"), before);
    if (this->layout_.evicted() != gone) turn_sinks(angles, pairs);
  }

 private:
  using T = typename base::compute;

  FOVEA_INLINE static index_type checked_window(index_type window, index_type sinks) {
    if (window <= 0) reject("a ring's window is ", window, ", not above 0");
    if (sinks < 0) reject("a ring's sinks are ", sinks, ", below 0");
    return window;
  }

  /// Keeps the keys of sinks among the tokens appended at position `before`, as they were given.
  template <class S>
  FOVEA_INLINE void keep_sinks(const S& k, index_type before) {
    sink_keys_.resize(static_cast<std::size_t>(sinks() * this->heads() * this->dim()));
    for (index_type s = before; s < std::min(sinks(), before + k.tokens(0)); ++s)
      for (index_type h = 0; h < this->heads(); ++h) {
        const auto head = k.head(0, h);
        load_elements(head.at(s - before), head.col_stride, head.cols, sink_key(s, h));
      }
  }
  /// The sinks stand right before the oldest of the other tokens.
  template <class A>
  FOVEA_INLINE void turn_sinks(const rotary_angles<A>& angles, rotary_pairs pairs) {
    std::vector<T> key(static_cast<std::size_t>(this->dim()));
    std::vector<T> value(static_cast<std::size_t>(this->value_dim()));
    for (index_type s = 0; s < sinks(); ++s) {
      this->store_->begin(s, sinks_open_);
      for (index_type h = 0; h < this->heads(); ++h) {
        const matrix_view<T> from{sink_key(s, h), 1, this->dim(), this->dim(), 1};
        const matrix_view<T> to{key.data(), 1, this->dim(), this->dim(), 1};
        position::turn_token<Arch, T>(to, from, 0, s + this->layout_.evicted(), angles, pairs);
        this->store_->put_key(s, h, key.data(), sinks_open_);
      }
      this->store_->end(s, sinks_open_);
    }
  }
  FOVEA_INLINE T* sink_key(index_type s, index_type h) noexcept {
    return sink_keys_.data() + (s * this->heads() + h) * this->dim();
  }

  std::vector<T> sink_keys_;
  caching::open_block sinks_open_;
};

FOVEA_NAMESPACE_END
