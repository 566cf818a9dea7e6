// fovea/kv_cache/basic_cache.hpp - what all caches have in common.
#pragma once

#include <fovea/kv_cache/cached.hpp>
#include <fovea/kv_cache/store.hpp>
#include <fovea/position/rotary.hpp>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Keys and values of one sequence. KE, VE: float, double, bf16, fp16 or std::int8_t; KVHeads: as in
/// attention.
template <class Layout, class KE, class VE, int KVHeads, class Arch>
class basic_cache {
  static_assert(element<KE> && element<VE>,
                "fovea: a cache stores float, double, fovea::bf16, fovea::fp16 or std::int8_t");

 public:
  using store_type = store<KE, VE, Arch>;
  using compute = typename store_type::compute;
  template <side Side>
  using stored = std::conditional_t<Side == side::keys, KE, VE>;

  /// Tokens that are kept, and the position in the whole sequence that the next one will have (the same,
  /// unless the cache has let go of some).
  FOVEA_INLINE index_type tokens() const noexcept { return layout_.tokens(); }
  FOVEA_INLINE index_type position() const noexcept { return layout_.position(); }
  FOVEA_INLINE index_type heads() const noexcept { return store_->sizes().heads; }
  FOVEA_INLINE index_type dim() const noexcept { return store_->sizes().dim; }
  FOVEA_INLINE index_type value_dim() const noexcept { return store_->sizes().value_dim; }
  /// Bytes of the memory for keys, values and scales.
  FOVEA_INLINE index_type bytes() const noexcept { return store_->bytes(); }

  /// What attention reads; attend(q, cache, ...) is attend(q, cache.keys(), cache.values(), ...).
  FOVEA_INLINE auto keys() const noexcept { return cached<basic_cache, side::keys>{nullptr, this, 1}; }
  FOVEA_INLINE auto values() const noexcept { return cached<basic_cache, side::values>{nullptr, this, 1}; }

  /// Appends tokens: k, v are an Eigen matrix (tokens x heads * dim) or a tensor of one sequence, of any
  /// element. Throws std::invalid_argument, and then has changed nothing, where sizes differ, there is no
  /// room, or an int8 cache is given a NaN or an infinity, which no scale can express.
  template <viewable K, viewable V>
  void append(const K& k, const V& v) {
    append_with(k, v, [](const auto& head, index_type t, index_type, compute* to) {
      load_elements(head.at(t), head.col_stride, head.cols, to);
    });
  }
  /// The same, the keys turned to their positions on the way (see rotate_into); `angles` reach as far as they
  /// do.
  template <viewable K, viewable V, class E>
  void append(const K& k, const V& v, const rotary_angles<E>& angles,
              rotary_pairs pairs = rotary_pairs::halves) {
    const index_type given = as_sequences(k, heads(), "k").max_tokens();
    check_angles(angles, position() + given);
    append_with(k, v, [&](const auto& head, index_type t, index_type p, compute* to) {
      const matrix_view<compute> out{to - t * dim(), t + 1, dim(), dim(), 1};
      position::turn_token<Arch, compute>(out, head, t, p, angles, pairs);
    });
  }

  /// Takes back the newest tokens, so that `tokens` are left: those of a rejected speculation.
  FOVEA_INLINE void truncate(index_type tokens) {
    if (tokens < 0 || tokens > this->tokens())
      reject("truncate to ", tokens, " tokens: the cache has ", this->tokens());
    layout_.truncate(tokens);
  }
  FOVEA_INLINE void reset() { truncate(0); }

  /// See cached_head.
  template <side Side, class F>
  FOVEA_INLINE void each_piece(index_type head, range some, F&& f) const noexcept {
    layout_.each_run(some, [&](index_type slot, index_type count) FOVEA_INLINE_LAMBDA {
      if constexpr (Side == side::keys)
        store_->each_key_piece(head, slot, count, open_, f);
      else
        store_->each_value_piece(head, slot, count, open_, f);
    });
  }
  FOVEA_INLINE index_type dim_of(side which) const noexcept {
    return which == side::keys ? dim() : value_dim();
  }

 protected:
  FOVEA_INLINE basic_cache(std::shared_ptr<store_type> memory, Layout layout)
      : store_(std::move(memory)), layout_(std::move(layout)) {}

  template <class K, class V, class ReadKey>
  FOVEA_INLINE void append_with(const K& k, const V& v, const ReadKey& read_key) {
    const auto ks = as_sequences(k, heads(), "k");
    const auto vs = as_sequences(v, heads(), "v");
    const auto same = [](const char* a, const char* what, index_type has, const char* b, index_type other)
                          FOVEA_INLINE_LAMBDA {
                            if (has != other) reject(a, " has ", has, " ", what, " but ", b, " has ", other);
                          };
    if (ks.batches() != 1) reject("k has ", ks.batches(), " sequences; a cache appends to one");
    same("v", "sequences", vs.batches(), "k", ks.batches());
    same("v", "tokens", vs.tokens(0), "k", ks.tokens(0));
    same("k", "dimensions a head", ks.dim(), "the cache", dim());
    same("v", "dimensions a head", vs.dim(), "the cache", value_dim());
    if constexpr (store_type::int8_keys) check_finite(ks, "k");
    if constexpr (store_type::int8_values) check_finite(vs, "v");
    key_row_.resize(static_cast<std::size_t>(dim()));
    value_row_.resize(static_cast<std::size_t>(value_dim()));
    layout_.prepare(ks.tokens(0));

    for (index_type t = 0; t < ks.tokens(0); ++t) {
      const index_type slot = layout_.slot();
      store_->begin(slot, open_);
      for (index_type h = 0; h < heads(); ++h) {
        const auto value = vs.head(0, h);
        read_key(ks.head(0, h), t, layout_.position(), key_row_.data());
        load_elements(value.at(t), value.col_stride, value.cols, value_row_.data());
        store_->put_key(slot, h, key_row_.data(), open_);
        store_->put_value(slot, h, value_row_.data());
      }
      store_->end(slot, open_);
      layout_.advance();
    }
  }

  template <class E>
  FOVEA_INLINE void check_angles(const rotary_angles<E>& angles, index_type positions) const {
    if (positions > angles.cos.rows)
      reject("position ", positions - 1, " is not within the table's ", angles.cos.rows, " rows");
    if (2 * angles.cos.cols > dim())
      reject("the table rotates ", 2 * angles.cos.cols, " dimensions, the cache's keys have ", dim());
  }

  std::shared_ptr<store_type> store_;
  Layout layout_;
  open_block open_;

 private:
  template <class E>
  FOVEA_INLINE static void check_finite(const sequences<E>& x, const char* name) {
    for (index_type h = 0; h < x.heads(); ++h)
      for (index_type t = 0; t < x.tokens(0); ++t)
        for (index_type c = 0; c < x.dim(); ++c)
          if (const double value = load_element<double>(x.head(0, h)(t, c)); !std::isfinite(value))
            reject(name, " of token ", t, ", head ", h, " is ", value, ", which int8 can not store");
  }

  std::vector<compute> key_row_, value_row_;
};

}  // namespace caching
FOVEA_NAMESPACE_END
