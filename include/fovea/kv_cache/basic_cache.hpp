// fovea/kv_cache/basic_cache.hpp - what all caches have in common.
#pragma once

#include <fovea/kv_cache/appended.hpp>
#include <fovea/kv_cache/cached.hpp>
#include <fovea/kv_cache/store.hpp>
#include <fovea/position/rotary.hpp>

#include <cmath>
#include <limits>
#include <utility>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// How append reads a key: as it is given,
struct as_given {
  template <class Head, class T>
  void operator()(const Head& head, index_type t, index_type, T* to) const noexcept {
    load_elements(head.at(t), head.col_stride, head.cols, to);
  }
  bool keeps_finite(double, range) const noexcept { return true; }
};
/// or turned to the position that it takes.
template <class Arch, class E>
struct turned_by {
  rotary_angles<E> angles;
  rotary_pairs pairs;
  template <class Head, class T>
  void operator()(const Head& head, index_type t, index_type p, T* to) const noexcept {
    const matrix_view<T> out{to, 1, head.cols, head.cols, 1};
    position::turn_token<Arch, T>(out, head.only({t, t + 1}), 0, p, angles, pairs);
  }
  /// Whether numbers up to `largest` are certainly floats when they are turned to these positions.
  bool keeps_finite(double largest, range positions) const noexcept {
    double most = 1;
    for (index_type p = positions.first; p < positions.last; ++p)
      for (index_type i = 0; i < angles.cos.cols; ++i)
        for (const auto& m : {angles.cos, angles.sin})
          if (const double x = std::abs(load_element<double>(m(p, i))); !(x <= most)) most = x;  // NaN stays
    return 2 * largest * most <= static_cast<double>(std::numeric_limits<float>::max());
  }
};

/// Keys and values of one sequence. KE, VE: float, double, bf16, fp16 or std::int8_t; KVHeads: as in
/// attention.
template <class Layout, class KE, class VE, int KVHeads, class Arch>
class basic_cache {
  static_assert(element<KE> && element<VE>,
                "fovea: a cache stores float, double, fovea::bf16, fovea::fp16 or std::int8_t");

 public:
  /// Whether a head's keys, and its values, are one piece.
  static constexpr bool in_one_piece = requires { requires Layout::in_one_piece; };
  using store_type = store<KE, VE, Arch>;
  using compute = typename store_type::compute;
  template <side Side>
  using stored = std::conditional_t<Side == side::keys, KE, VE>;

  /// Tokens that are kept, and the position in the whole sequence that the next one will have (the same,
  /// unless the cache has let go of some).
  index_type tokens() const noexcept { return layout_.tokens(); }
  index_type position() const noexcept { return layout_.position(); }
  index_type heads() const noexcept { return sizes().heads; }
  index_type dim() const noexcept { return sizes().dim; }
  index_type value_dim() const noexcept { return sizes().value_dim; }
  /// Tokens of a page, which holds all heads.
  index_type page_tokens() const noexcept
    requires requires(const Layout& layout) { layout.page_tokens(); }
  {
    return layout_.page_tokens();
  }
  /// Bytes of the memory for keys, values and scales.
  index_type bytes() const noexcept { return store_ != nullptr ? store_->bytes() : 0; }
  std::span<const std::byte> memory() const noexcept {
    if (store_ == nullptr) return {};
    return {store_->unit(0, 0, 0, 0), static_cast<std::size_t>(store_->bytes())};
  }

  /// What attention reads; attend(q, cache, ...) is attend(q, cache.keys(), cache.values(), ...).
  auto keys() const noexcept { return cached<basic_cache, side::keys>{nullptr, this, 1}; }
  auto values() const noexcept { return cached<basic_cache, side::values>{nullptr, this, 1}; }

  /// Appends tokens, none or more: k, v are an Eigen matrix (tokens x heads * dim) or a tensor of one
  /// sequence, of any element. What lies beyond the range of a stored type becomes infinite (from 65,520
  /// on in fp16), and a NaN stays one, as in a matrix of that type. Throws std::invalid_argument, and then
  /// has changed nothing, where sizes differ, there is no room, k or v lies in the cache's own memory, the
  /// cache was moved from or shows a file, or int8 is given what no float is: NaN, an infinity, a double
  /// beyond its range. Nor has std::bad_alloc changed anything.
  template <viewable K, viewable V>
  void append(const K& k, const V& v) {
    append_with(k, v, as_given(), in_layout());
  }
  /// The same, the keys turned to their positions on the way (see rotate_into); `angles` reach as far as they
  /// do.
  template <viewable K, viewable V, class E>
  void append(const K& k, const V& v, const rotary_angles<E>& angles,
              rotary_pairs pairs = rotary_pairs::halves) {
    append_with(k, v, turned(k, angles, pairs), in_layout());
  }
  /// Throws what append would throw for the same arguments, a pool's lack of pages aside, and changes
  /// nothing: before tokens are appended to several caches.
  template <viewable K, viewable V>
  void check_append(const K& k, const V& v) {
    in_layout()(checked_tokens(k, v, as_given()).first);
  }
  template <viewable K, viewable V, class E>
  void check_append(const K& k, const V& v, const rotary_angles<E>& angles,
                    rotary_pairs pairs = rotary_pairs::halves) {
    in_layout()(checked_tokens(k, v, turned(k, angles, pairs)).first);
  }

  /// Takes back the newest tokens, so that `tokens` are left: those of a rejected speculation.
  void truncate(index_type tokens) {
    if (tokens < 0 || tokens > this->tokens())
      reject("truncate to ", tokens, " tokens: the cache has ", this->tokens());
    layout_.truncate(tokens);
    cut_open();
  }
  void reset() { truncate(0); }

  /// See cached_head.
  template <side Side, class F>
  void each_piece(index_type head, range wanted, F&& f) const noexcept {
    layout_.each_run(wanted, [&](index_type slot, index_type count) {
      if constexpr (Side == side::keys)
        store_->each_key_piece(head, slot, count, open_, f);
      else
        store_->each_value_piece(head, slot, count, open_, f);
    });
  }
  index_type dim_of(side which) const noexcept { return which == side::keys ? dim() : value_dim(); }

 protected:
  basic_cache(std::shared_ptr<store_type> memory, Layout layout)
      : store_(std::move(memory)), layout_(std::move(layout)) {}
  basic_cache(const basic_cache&) = default;
  /// A cache that was moved from has no tokens and no memory: it can be assigned to.
  basic_cache(basic_cache&& other) noexcept
      : store_(std::move(other.store_)),
        layout_(std::exchange(other.layout_, other.layout_.emptied())),
        open_(std::exchange(other.open_, {})),
        key_row_(std::move(other.key_row_)),
        value_row_(std::move(other.value_row_)) {}
  basic_cache& operator=(basic_cache&& other) noexcept {
    if (this == &other) return *this;
    store_ = std::move(other.store_), layout_ = std::exchange(other.layout_, other.layout_.emptied());
    open_ = std::exchange(other.open_, {});
    key_row_ = std::move(other.key_row_), value_row_ = std::move(other.value_row_);
    return *this;
  }
  ~basic_cache() = default;

  extent sizes() const noexcept { return store_ != nullptr ? store_->sizes() : no_extent; }
  /// The memory of a cache that has some, to be read; and to be written.
  store_type& held() const {
    check_held(sizes());
    return *store_;
  }
  store_type& writable() const {
    if (held().read_only()) reject("the cache shows the bytes of a file: it can only be read");
    return *store_;
  }

  /// The last thing before tokens are written, which may refuse them: makes room for those of k.
  auto in_layout() noexcept {
    return [this](const auto& k) { layout_.prepare(k.tokens(0)); };
  }
  template <class K, class E>
  turned_by<Arch, E> turned(const K& k, const rotary_angles<E>& angles, rotary_pairs pairs) const {
    static_cast<void>(held());
    check_angles(angles, position() + as_sequences(k, heads(), "k").max_tokens(), dim());
    return {angles, pairs};
  }

  /// k and v as append reads them; throws what it throws.
  template <class K, class V, class ReadKey>
  auto checked_tokens(const K& k, const V& v, const ReadKey& read_key) {
    static_cast<void>(writable());
    const auto ks = as_sequences(k, heads(), "k");
    const auto vs = as_sequences(v, heads(), "v");
    static_assert(
        requires { ks.head(0, 0).at(0), vs.head(0, 0).at(0); },
        "fovea: a cache appends an Eigen matrix, a tensor_view, a tensor or a ragged batch of one: not "
        "another cache");
    check_appended(ks, vs, dim(), value_dim());
    check_apart(ks, "k"), check_apart(vs, "v");
    key_row_.resize(static_cast<std::size_t>(dim()));
    value_row_.resize(static_cast<std::size_t>(value_dim()));
    if constexpr (store_type::int8_keys) {
      const double largest = check_finite(ks, "k");
      if (!read_key.keeps_finite(largest, {position(), position() + ks.tokens(0)}))
        check_turned(ks, read_key);
    }
    if constexpr (store_type::int8_values) check_finite(vs, "v");
    store_->make_room(open_);
    return std::pair(ks, vs);
  }
  template <class K, class V, class ReadKey, class MakeRoom>
  void append_with(const K& k, const V& v, const ReadKey& read_key, const MakeRoom& make_room) {
    const auto [ks, vs] = checked_tokens(k, v, read_key);
    make_room(ks);
    for (index_type t = 0; t < ks.tokens(0); ++t) put_token(ks, vs, t, read_key);
  }
  /// Token t of what checked_tokens gave becomes the next one.
  template <class K, class V, class ReadKey>
  void put_token(const K& ks, const V& vs, index_type t, const ReadKey& read_key) noexcept {
    const index_type slot = layout_.slot();
    store_->begin(slot, open_);
    for (index_type h = 0; h < ks.heads(); ++h) {
      const auto value = vs.head(0, h);
      read_key(ks.head(0, h), t, layout_.position(), key_row_.data());
      load_elements(value.at(t), value.col_stride, value.cols, value_row_.data());
      store_->put_key(slot, h, key_row_.data(), open_);
      store_->put_value(slot, h, value_row_.data());
    }
    store_->end(slot, open_);
    layout_.advance();
  }

  /// After tokens are taken back.
  void cut_open() noexcept {
    index_type newest = -1;
    if (tokens() > 0)
      layout_.each_run({tokens() - 1, tokens()}, [&](index_type slot, index_type) { newest = slot; });
    store_type::cut(open_, newest);
  }
  /// int8 can not store `value` of `name`.
  static void check_float(double value, const char* name, index_type t, index_type h) {
    if (!is_finite(static_cast<float>(value)))
      reject(name, " of token ", t, ", head ", h, " is ", value, ", which int8 can not store");
  }

  std::shared_ptr<store_type> store_;
  Layout layout_;
  open_block open_;

 private:
  /// Returns the largest magnitude.
  template <class E>
  static double check_finite(const sequences<E>& x, const char* name) {
    double largest = 0;
    for (index_type h = 0; h < x.heads(); ++h)
      for (index_type t = 0; t < x.tokens(0); ++t)
        for (index_type c = 0; c < x.dim(); ++c) {
          const double value = load_element<double>(x.head(0, h)(t, c));
          check_float(value, name, t, h);
          largest = std::max(largest, std::abs(value));
        }
    return largest;
  }
  template <class S, class ReadKey>
  void check_turned(const S& k, const ReadKey& read_key) {
    for (index_type h = 0; h < heads(); ++h)
      for (index_type t = 0; t < k.tokens(0); ++t) {
        read_key(k.head(0, h), t, position() + t, key_row_.data());
        for (const compute x : key_row_) check_float(static_cast<double>(x), "k, turned,", t, h);
      }
  }
  /// Tokens are written one after another: what is read of the same memory might be gone by then.
  template <class X>
  void check_apart(const X&, const char*) const noexcept {}
  template <class E>
  void check_apart(const sequences<E>& x, const char* name) const {
    if (x.heads() == 0 || x.tokens(0) == 0 || x.dim() == 0) return;
    index_type first = 0, last = 1;  // in elements, from the first one on
    const auto reach = [&](index_type size, index_type stride) {
      (stride < 0 ? first : last) += (size - 1) * stride;
    };
    reach(x.heads(), x.all.head_stride), reach(x.tokens(0), x.all.token_stride),
        reach(x.dim(), x.all.dim_stride);
    const auto from = [&](index_type at) {
      return reinterpret_cast<std::intptr_t>(x.head(0, 0).data) + at * static_cast<index_type>(sizeof(E));
    };
    const auto memory = reinterpret_cast<std::intptr_t>(store_->data());
    if (from(first) < memory + store_->bytes() && memory < from(last))
      reject(name, " lies in the cache's own memory: append a copy of it");
  }

  std::vector<compute> key_row_, value_row_;
};

}  // namespace caching
FOVEA_NAMESPACE_END
