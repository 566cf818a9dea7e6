// fovea/kv_cache/latent.hpp - a cache of one row a token: keys are the whole of it, values its first part.
//
//   fovea::latent_cache<fovea::bf16> cache{capacity, {.latent = 512, .rotary = 64}};
//   cache.append(latent, rotary, table.angles());        // 576 numbers a token; `rotary` turned on the way
//   fovea::attention<fovea::bf16, 128, 1> attend{{.scale = scale_of_the_model}};
//   attend.into(o, q, cache, fovea::causal, fovea::rounded_weights);    // q: 128 heads of 576, o: of 512
//
// Multi-head latent attention in absorbed form (DeepSeek-V2, arXiv:2405.04434, section 2.1): K's and V's
// projections W_K and W_V up from the latent are part of those of Q and O, so that all query heads read one
// head:
//   q_h = [W_K,h^T q_nope,h, q_rope,h]      k = [latent, rotary]      v = latent      o_h: times W_V,h^T
#pragma once

#include <fovea/kv_cache/basic_cache.hpp>
#include <fovea/kv_cache/file.hpp>
#include <fovea/kv_cache/layouts.hpp>

FOVEA_NAMESPACE_BEGIN

/// Numbers of a row: of the latent, which is the value, and of the rotary part, which only keys have.
struct latent_options {
  index_type latent = 0, rotary = 0;
  index_type heads = 0;  // where the type leaves them dynamic_heads
};

/// Rows of one sequence, for up to `capacity` tokens. E: float, double, bf16, fp16, or std::int8_t with a
/// scale a channel and 32 tokens. Memory: capacity * heads * (latent + rotary) elements, once for keys and
/// values. It is read only by a call, so that several layers may read the same one, each with queries of its
/// own; a row without a rotary part is key and value alike, and where nobody asks for values a key alone.
///
/// Speed: where up to 8 queries of each head fill registers (16 heads and more of a key/value head with
/// AVX-512), these heads share lanes, and a row is read once for up to 96 of them. (Of the FMA peak, 128
/// heads x 576/512 over 8,192 tokens, one query: float 0.85, bf16 with rounded weights 1.39, int8 0.76; Zen
/// 5, beside other work.) Measured relative error of results (2,048 normal rows of 512 + 64, 16 heads):
/// bf16 0.0017, fp16 0.0002, int8 0.0049.
template <class E, int KVHeads = 1, class Arch = xsimd::default_arch>
class latent_cache : caching::basic_cache<caching::contiguous, E, E, KVHeads, Arch> {
  using base = caching::basic_cache<caching::contiguous, E, E, KVHeads, Arch>;
  using side = caching::side;

 public:
  using compute = typename base::compute;
  template <side>
  using stored = E;
  static constexpr bool values_are_keys = true;

  latent_cache(index_type capacity, const latent_options& options)
      : base(std::make_shared<typename base::store_type>(checked(capacity, options)),
             caching::contiguous(capacity)),
        latent_(options.latent) {}
  latent_cache(latent_cache&&) = default;
  latent_cache& operator=(latent_cache&&) = default;

  using base::tokens, base::position, base::heads, base::bytes, base::memory, base::truncate, base::reset;
  index_type capacity() const noexcept { return this->layout_.capacity(); }
  index_type dim() const noexcept { return base::dim(); }
  index_type value_dim() const noexcept { return std::min(latent_, dim()); }  // 0 of one that was moved from
  index_type rotary_dim() const noexcept { return dim() - value_dim(); }

  auto keys() const noexcept { return caching::cached<latent_cache, side::keys>{nullptr, this, 1}; }
  auto values() const noexcept { return caching::cached<latent_cache, side::values>{nullptr, this, 1}; }

  /// Appends tokens, none or more: Eigen matrices (tokens x heads * dim) or tensors of one sequence, of any
  /// element. Throws std::invalid_argument, and then has changed nothing, where sizes differ, there is no
  /// room, the cache was moved from, what is given lies in its memory, or int8 is given what no float is.
  template <viewable L, viewable R>
  void append(const L& latent, const R& rotary) {
    append_parts(latent, rotary, [](auto&&...) {});
  }
  /// The same, the rotary part turned to the positions that the tokens take; `angles` reach as far.
  template <viewable L, viewable R, class A>
  void append(const L& latent, const R& rotary, const rotary_angles<A>& angles,
              rotary_pairs pairs = rotary_pairs::halves) {
    check_angles(latent, angles);
    append_parts(latent, rotary, [&](const auto& part, index_type p) {
      position::turn_token<Arch, compute>(part, part, 0, p, angles, pairs);
    });
  }
  /// Whole rows: [latent, rotary] of each head.
  template <viewable X>
  void append(const X& rows) {
    static_cast<void>(this->writable());
    const auto x = as_sequences(rows, heads(), "rows");
    check_part("rows", x, x, dim());
    append_rows(x);
  }

  /// Makes room for `capacity` tokens in all: see kv_cache::reserve.
  void reserve(index_type capacity) {
    static_cast<void>(this->held());
    if (capacity <= this->capacity()) return;
    caching::extent sizes = this->store_->sizes();
    sizes.page_tokens = capacity;
    if (!caching::countable(sizes)) reject_sizes("a cache (tokens x heads x dim)", capacity, heads(), dim());
    auto larger = std::make_shared<typename base::store_type>(sizes);
    caching::copy_tokens(*this->store_, *larger, tokens());
    this->store_ = std::move(larger), this->layout_.reserve(capacity);
  }

  /// See cached_head.
  template <side Side, class F>
  void each_piece(index_type head, range wanted, F&& f) const noexcept {
    base::template each_piece<side::keys>(head, wanted, [&](auto part) {
      part.tokens.cols = dim_of(Side);
      f(part);
    });
  }
  index_type dim_of(side which) const noexcept { return which == side::keys ? dim() : latent_; }

 private:
  static caching::extent checked(index_type capacity, const latent_options& o) {
    if (o.latent <= 0) reject("a latent cache's latent is ", o.latent, ", not above 0");
    if (o.rotary < 0) reject("a latent cache's rotary is ", o.rotary, ", below 0");
    caching::extent sizes =
        caching::checked({1, capacity, o.heads, add_checked(o.latent, o.rotary), 0, 0}, KVHeads);
    sizes.value_dim = 0;  // values are keys: they take no memory
    return sizes;
  }
  static index_type add_checked(index_type a, index_type b) {
    if (a > std::numeric_limits<index_type>::max() - b)
      reject_sizes("a latent cache (latent x rotary)", a, b);
    return a + b;
  }

  template <class X, class First>
  static void check_part(const char* name, const X& x, const First& first, index_type dim) {
    if (x.batches() != 1) reject(name, " has ", x.batches(), " sequences; a cache appends to one");
    if (x.dim() != dim) reject(name, " has ", x.dim(), " dimensions a head but the cache ", dim);
    if (x.tokens(0) != first.tokens(0))
      reject(name, " has ", x.tokens(0), " tokens but latent has ", first.tokens(0));
    if constexpr (base::store_type::int8_keys)
      for (index_type h = 0; h < x.heads(); ++h)
        for (index_type t = 0; t < x.tokens(0); ++t)
          for (index_type c = 0; c < dim; ++c)
            base::check_float(load_element<double>(x.head(0, h)(t, c)), name, t, h);
  }
  template <class L, class A>
  void check_angles(const L& latent, const rotary_angles<A>& angles) const {
    static_cast<void>(this->held());
    const index_type positions = position() + as_sequences(latent, heads(), "latent").max_tokens();
    caching::check_angles(angles, positions, rotary_dim(), "the cache's rotary part has");
  }

  /// Both parts side by side, the second turned.
  template <class L, class R, class Turn>
  void append_parts(const L& latent, const R& rotary, const Turn& turn) {
    static_cast<void>(this->writable());
    const auto l = as_sequences(latent, heads(), "latent");
    const auto r = as_sequences(rotary, heads(), "rotary");
    check_part("latent", l, l, latent_), check_part("rotary", r, l, rotary_dim());
    const index_type count = l.tokens(0);
    rows_.resize(static_cast<std::size_t>(count * heads() * dim()));
    compute* to = rows_.data();
    for (index_type t = 0; t < count; ++t)
      for (index_type h = 0; h < heads(); ++h, to += dim()) {
        const auto from = l.head(0, h);
        const auto turned = r.head(0, h);
        load_elements(from.at(t), from.col_stride, latent_, to);
        load_elements(turned.at(t), turned.col_stride, rotary_dim(), to + latent_);
        turn(matrix_view<compute>{to + latent_, 1, rotary_dim(), rotary_dim(), 1}, position() + t);
      }
    append_rows(
        sequences<const compute>{{rows_.data(), 1, heads(), count, dim(), 0, dim(), heads() * dim(), 1}});
  }
  template <class X>
  void append_rows(const sequences<X>& x) {
    const compute none{};
    const tensor_view<const compute> no_values{&none, 1, heads(), x.tokens(0), 0, 0, 0, 0, 1};
    this->append_with(x.all, no_values, caching::as_given(), this->in_layout());
  }

  index_type latent_;
  std::vector<compute> rows_;  // of the tokens that are appended
};

FOVEA_NAMESPACE_END
