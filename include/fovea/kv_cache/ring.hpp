// fovea/kv_cache/ring.hpp - the first few and the newest tokens of a sequence without end.
#pragma once

#include <fovea/kv_cache/basic_cache.hpp>
#include <fovea/kv_cache/layouts.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN

struct ring_options {
  index_type heads = 0;      // of keys and values, where the type leaves them dynamic_heads
  index_type value_dim = 0;  // 0: as dim
  index_type sinks = 0;      // so many first tokens stay (StreamingLLM, arXiv:2309.17453, keeps 4)
};

/// A cache of the newest `window` tokens and, before them, the sinks. Masks count the tokens that are kept:
/// to a causal mask, a window or ALiBi the sinks stand right before the oldest of the others. Keys turned by
/// append keep their distances likewise: as tokens are let go, the sinks' keys are turned further (those that
/// were appended with angles, by the angles of the latest append), so that the whole is as far as a model has
/// seen in training, however long the sequence.
///
/// Several tokens appended at once let go of as many: the first of their queries then misses what its last
/// one does not see. For a window of w tokens and m at a time, give it w + m - 1, and attend with
/// sliding_window{.left = w - 1}.
///
/// truncate(t) keeps the t oldest of the tokens that are there; those that were let go do not come back.
/// Where that leaves other tokens than sinks, position() is as many less as are taken back. Where it
/// leaves none but sinks, their keys are turned back, and position() is t: the text goes on right behind
/// them.
template <class E, int KVHeads = dynamic_heads, class VE = E, class Arch = xsimd::default_arch>
class ring_cache : public caching::basic_cache<caching::ring, E, VE, KVHeads, Arch> {
  using base = caching::basic_cache<caching::ring, E, VE, KVHeads, Arch>;

 public:
  /// Throws std::invalid_argument for sizes that no cache has, std::length_error for those whose product
  /// can not be counted.
  ring_cache(index_type window, index_type dim, const ring_options& options = {})
      : base(std::make_shared<typename base::store_type>(
                 caching::checked({1, checked_capacity(window, options.sinks), options.heads, dim,
                                   options.value_dim, options.sinks},
                                  KVHeads)),
             caching::ring(options.sinks, window)) {}
  ring_cache(ring_cache&&) = default;
  ring_cache& operator=(ring_cache&& other) noexcept {
    if (this == &other) return *this;
    base::operator=(std::move(static_cast<base&>(other)));
    turns_ = std::move(other.turns_), given_ = std::move(other.given_), placed_ = std::move(other.placed_);
    key_ = std::move(other.key_), sinks_open_ = std::move(other.sinks_open_);
    turned_by_ = other.turned_by_;
    return *this;
  }

  index_type window() const noexcept { return this->layout_.capacity() - sinks(); }
  index_type sinks() const noexcept { return this->layout_.sinks(); }

  /// As of all caches; see basic_cache.hpp.
  template <viewable K, viewable V>
  void append(const K& k, const V& v) {
    base::append_with(k, v, caching::as_given(), [this](const auto& keys) {
      if (turns_sinks()) note_sinks(keys, caching::as_given(), false);
    });
  }
  template <viewable K, viewable V, class A>
  void append(const K& k, const V& v, const rotary_angles<A>& angles,
              rotary_pairs pairs = rotary_pairs::halves) {
    const auto turned = base::turned(k, angles, pairs);
    const index_type gone = this->layout_.evicted();
    base::append_with(k, v, turned, [&](const auto& keys) {
      if (sinks() == 0) return;
      begin_turning();
      note_sinks(keys, turned, true);
      if constexpr (base::store_type::int8_keys) check_sinks(turned, keys.tokens(0));
    });
    if (this->layout_.evicted() != gone) turn_sinks(turned);
  }

  void truncate(index_type tokens) {
    base::truncate(tokens);
    if (tokens > sinks())
      this->store_->clear_keys(this->layout_.slot(), tokens - sinks());
    else if (turned_by_ > 0)
      turn_back();
  }
  void reset() { truncate(0); }

 private:
  using T = typename base::compute;

  static index_type checked_capacity(index_type window, index_type sinks) {
    if (window <= 0) reject("a ring's window is ", window, ", not above 0");
    if (sinks < 0) reject("a ring's sinks are ", sinks, ", below 0");
    if (sinks > std::numeric_limits<index_type>::max() - window)
      reject_length("a ring of ", window, " tokens and ", sinks, " sinks is more than can be counted");
    return window + sinks;
  }

  bool turns_sinks() const noexcept { return !turns_.empty(); }
  /// Room for what is known of the sinks; those that are there already stay as they are.
  void begin_turning() {
    if (turns_sinks()) return;
    const auto elements = static_cast<std::size_t>(sinks() * this->heads() * this->dim());
    given_.resize(elements), placed_.resize(elements), key_.resize(static_cast<std::size_t>(this->dim()));
    this->store_->make_room(sinks_open_);
    for (index_type s = 0; s < std::min(sinks(), this->position()); ++s)
      for (index_type h = 0; h < this->heads(); ++h)
        this->store_->read_key(s, h, this->open_, key_of(placed_, s, h));
    turns_.resize(static_cast<std::size_t>(sinks()), false);  // last: an exception leaves nothing begun
  }
  /// Keeps the keys of sinks among the tokens to be appended: as they are given, and as they will be stored.
  template <class S, class ReadKey>
  void note_sinks(const S& k, const ReadKey& read_key, bool turns) noexcept {
    const index_type before = this->position();
    for (index_type s = before; s < std::min(sinks(), before + k.tokens(0)); ++s) {
      turns_[static_cast<std::size_t>(s)] = turns;
      for (index_type h = 0; h < this->heads(); ++h) {
        const auto head = k.head(0, h);
        load_elements(head.at(s - before), head.col_stride, head.cols, key_of(given_, s, h));
        read_key(head, s - before, s, key_of(placed_, s, h));
      }
    }
  }
  /// The key of a sink, which stands `by` positions further than at first.
  template <class Turned>
  const T* turned_key(index_type s, index_type h, index_type by, const Turned& turned) noexcept {
    if (!turns_[static_cast<std::size_t>(s)]) return key_of(placed_, s, h);
    const matrix_view<const T> from{key_of(given_, s, h), 1, this->dim(), this->dim(), 1};
    turned(from, 0, s + by, key_.data());
    return key_.data();
  }
  /// Whether all of them will be floats.
  template <class Turned>
  void check_sinks(const Turned& turned, index_type count) {
    const index_type by = this->position() + count - this->layout_.capacity();
    if (by <= this->layout_.evicted()) return;
    for (index_type s = 0; s < sinks(); ++s)
      for (index_type h = 0; h < this->heads(); ++h) {
        const T* const key = turned_key(s, h, by, turned);
        for (index_type c = 0; c < this->dim(); ++c)
          base::check_float(static_cast<double>(key[c]), "k, turned further,", s, h);
      }
  }
  /// key(s, h) becomes the key of each sink.
  template <class F>
  void put_sinks(const F& key) noexcept {
    for (index_type s = 0; s < sinks(); ++s) {
      if (!base::store_type::int8_keys && !turns_[static_cast<std::size_t>(s)]) continue;
      this->store_->begin(s, sinks_open_);
      for (index_type h = 0; h < this->heads(); ++h) this->store_->put_key(s, h, key(s, h), sinks_open_);
      this->store_->end(s, sinks_open_);
    }
  }
  /// The sinks stand right before the oldest of the other tokens.
  template <class Turned>
  void turn_sinks(const Turned& turned) noexcept {
    turned_by_ = this->layout_.evicted();
    put_sinks([&](index_type s, index_type h) { return turned_key(s, h, turned_by_, turned); });
  }
  void turn_back() noexcept {
    turned_by_ = 0;
    put_sinks([&](index_type s, index_type h) { return key_of(placed_, s, h); });
  }
  T* key_of(std::vector<T>& all, index_type s, index_type h) noexcept {
    return all.data() + (s * this->heads() + h) * this->dim();
  }

  std::vector<bool> turns_;        // whether a sink was appended with angles; empty before any was
  std::vector<T> given_, placed_;  // keys of sinks as they were given, and as they were stored at first
  std::vector<T> key_;
  index_type turned_by_ = 0;  // how much further than at first their keys are turned
  caching::open_block sinks_open_;
};

FOVEA_NAMESPACE_END
