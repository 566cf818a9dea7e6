// fovea/kv_cache/q4.hpp - keys and values in 4 bits.
//
//   fovea::q4_cache<8> cache{capacity, dim};              // 8 key/value heads
//   cache.append(k, v, table.angles());                   // turned by a Hadamard matrix, then rounded
//   fovea::hadamard_into(q, q, 32);                       // the queries, once
//   attend.into(o, q, cache, fovea::causal);
//   fovea::hadamard_into(o, o, 32);                       // and the result back
#pragma once

#include <fovea/hadamard.hpp>
#include <fovea/kv_cache/basic_cache.hpp>
#include <fovea/kv_cache/contiguous.hpp>
#include <fovea/kv_cache/nibbles_file.hpp>

FOVEA_NAMESPACE_BEGIN

/// A cache of one sequence in blocks of 32 numbers of 4 bits, -7 to 7 times a scale: of keys a channel of
/// 32 tokens (the newest, fewer, are kept in float), of values 32 channels of a token. Memory: capacity *
/// heads * (0.625 dim + 0.54 value_dim) bytes, and heads * 128 dim for keys in float. All rows are turned by
/// a Hadamard matrix before they are rounded (hadamard.hpp), so that no channel is much larger than others:
/// queries are to be turned as well, and what a call returns to be turned back. It can be read by every call
/// that takes a cache, but backward.
///
/// There is no paged, ring or streamed form yet: those keep rows of whole elements (kv_cache/store.hpp), of
/// which int8 is the smallest.
///
/// Measured relative error of results (2,048 normal keys, dim 128; in brackets, with four channels of the
/// keys 20 times larger): 0.14 (0.21).
///
/// Time over that of int8, one query of 8 key/value heads, dim 128, groups of 1, 2, 4 (Zen 5, AVX-512): in
/// caches 1.12, 1.1, 1.1, 65,536 tokens 0.81, 0.92, 1.1; in caches, groups of 1, dim 64 1.16; groups of 1 and
/// 4 by AVX2 1.56, 1.11, by SSE2 1.15, 1.1.
/// With groups of 2 and more it is products that take the time, not memory: of 53 cycles that a token takes
/// 4 rows, 32 are multiplications at their limit. (Unpacked to int8 first, and multiplied as those are: 1.8,
/// 1.4 with 4; AVX2 4.5, 2.6.) Dimensions that are no multiple of two registers of float still are.
/// (KIVI, arXiv:2402.02750; QuaRot, arXiv:2404.00456.)
template <int KVHeads = dynamic_heads, class Arch = xsimd::default_arch>
class q4_cache {
  using side = caching::side;

 public:
  using compute = float;
  template <side>
  using stored = float;
  template <side Side>
  using head_type = caching::nibble_head<q4_cache, Side>;

  q4_cache(index_type capacity, index_type dim, const cache_options& options = {})
      : sizes_(caching::checked({1, capacity, options.heads, dim, options.value_dim, 0}, KVHeads)),
        keys_(sizes_.heads, capacity, dim),
        values_(sizes_.heads, capacity, sizes_.value_dim),
        row_(static_cast<std::size_t>(std::max(dim, sizes_.value_dim))) {}

  /// A cache that was moved from has no tokens and no memory: it can be assigned to; append, reserve, save,
  /// load and calls that read it throw std::invalid_argument.
  q4_cache(q4_cache&& other) noexcept
      : sizes_(std::exchange(other.sizes_, caching::no_extent)),
        keys_(std::exchange(other.keys_, {})),
        values_(std::exchange(other.values_, {})),
        row_(std::move(other.row_)),
        tokens_(std::exchange(other.tokens_, 0)) {}
  q4_cache& operator=(q4_cache&& other) noexcept {
    if (this == &other) return *this;
    sizes_ = std::exchange(other.sizes_, caching::no_extent);
    keys_ = std::exchange(other.keys_, {}), values_ = std::exchange(other.values_, {});
    row_ = std::move(other.row_), tokens_ = std::exchange(other.tokens_, 0);
    return *this;
  }

  index_type tokens() const noexcept { return tokens_; }
  index_type position() const noexcept { return tokens_; }
  index_type capacity() const noexcept { return sizes_.page_tokens; }
  index_type heads() const noexcept { return sizes_.heads; }
  index_type dim() const noexcept { return sizes_.dim; }
  index_type value_dim() const noexcept { return sizes_.value_dim; }
  index_type dim_of(side which) const noexcept { return which == side::keys ? dim() : value_dim(); }
  /// Bytes of the memory for keys, values and scales, and for keys in float.
  index_type bytes() const noexcept { return keys_.bytes() + values_.bytes(); }
  std::span<const std::byte> memory() const noexcept { return keys_.memory(); }

  auto keys() const noexcept { return caching::cached<q4_cache, side::keys>{nullptr, this, 1}; }
  auto values() const noexcept { return caching::cached<q4_cache, side::values>{nullptr, this, 1}; }

  /// Appends tokens, none or more: an Eigen matrix (tokens x heads * dim) or a tensor of one sequence, of
  /// any element. Throws std::invalid_argument, and then has changed nothing, where sizes differ, there is
  /// no room, the cache was moved from, or a number is no float: NaN, an infinity, or beyond its range.
  template <viewable K, viewable V>
  void append(const K& k, const V& v) {
    append_with(k, v, caching::as_given());
  }
  /// The same, the keys turned to their positions first (see rotate_into); `angles` reach as far as they do.
  template <viewable K, viewable V, class A>
  void append(const K& k, const V& v, const rotary_angles<A>& angles,
              rotary_pairs pairs = rotary_pairs::halves) {
    caching::check_held(sizes_);
    caching::check_angles(angles, tokens_ + as_sequences(k, heads(), "k").max_tokens(), dim());
    append_with(k, v, caching::turned_by<Arch, A>{angles, pairs});
  }

  /// Makes room for `capacity` tokens in all, where there is less; the tokens stay as they are. Costs copying
  /// them, and both memories while that lasts. Throws as the constructor, or std::bad_alloc, and then has
  /// changed nothing.
  void reserve(index_type capacity) {
    caching::check_held(sizes_);
    if (capacity <= this->capacity()) return;
    caching::extent sizes = sizes_;
    sizes.page_tokens = capacity;
    sizes = caching::checked(sizes, KVHeads);
    auto keys = keys_.larger(capacity);
    auto values = values_.larger(capacity);
    keys_ = std::move(keys), values_ = std::move(values), sizes_ = sizes;
  }

  /// Takes back the newest tokens, so that `tokens` are left. Keys of a block that is cut are read back from
  /// what they were rounded to.
  void truncate(index_type tokens) {
    if (tokens < 0 || tokens > tokens_) reject("truncate to ", tokens, " tokens: the cache has ", tokens_);
    keys_.truncate(tokens), tokens_ = tokens;
  }
  void reset() { truncate(0); }

  /// Writes the tokens with a header that says what they are. Throws std::runtime_error where that fails.
  void save(std::ostream& out) const {
    caching::check_held(sizes_);
    caching::save_nibbles(out, sizes_, keys_, values_, tokens_);
  }
  /// Reads what save() wrote in place of all tokens. Throws std::runtime_error, and then has changed nothing,
  /// where the file is no such file, is damaged, ends early, holds other elements, sizes or more tokens than
  /// there is room for, or numbers that no cache has (NaN, an infinity, a multiple of a scale that is not 1
  /// to 16). Takes memory as it reads.
  void load(std::istream& in) {
    caching::check_held(sizes_);
    tokens_ = caching::load_nibbles(in, sizes_, keys_, values_);
  }

  /// See nibble_head.
  template <side Side>
  const auto& rows() const noexcept {
    if constexpr (Side == side::keys)
      return keys_;
    else
      return values_;
  }

 private:
  template <class K, class V, class ReadKey>
  void append_with(const K& k, const V& v, const ReadKey& read_key) {
    caching::check_held(sizes_);
    const auto ks = as_sequences(k, heads(), "k");
    const auto vs = as_sequences(v, heads(), "v");
    caching::check_appended(ks, vs, dim(), value_dim());
    if (const index_type room = capacity() - tokens_; ks.tokens(0) > room)
      reject("the cache has room for ", room, " tokens of ", capacity(), ", not for ", ks.tokens(0));
    each_row(ks, read_key, [&](index_type t, index_type h) { check("k", t, h, dim()); });
    each_row(vs, caching::as_given(), [&](index_type t, index_type h) { check("v", t, h, value_dim()); });
    each_row(ks, read_key, [&](index_type t, index_type h) {
      rotation::turn(row_.data(), dim()), keys_.put(tokens_ + t, h, row_.data());
    });
    each_row(vs, caching::as_given(), [&](index_type t, index_type h) {
      rotation::turn(row_.data(), value_dim()), values_.put(tokens_ + t, h, row_.data());
    });
    tokens_ += ks.tokens(0);
  }
  /// f(token, head) with that row in row_.
  template <class S, class Read, class F>
  void each_row(const S& rows, const Read& read, const F& f) {
    for (index_type t = 0; t < rows.tokens(0); ++t)
      for (index_type h = 0; h < rows.heads(); ++h) {
        read(rows.head(0, h), t, tokens_ + t, row_.data());
        f(t, h);
      }
  }
  void check(const char* name, index_type t, index_type h, index_type dim) const {
    double squares = 0;  // of the row: what it is after it is turned
    for (index_type c = 0; c < dim; ++c)
      squares += static_cast<double>(row_[static_cast<std::size_t>(c)]) *
                 static_cast<double>(row_[static_cast<std::size_t>(c)]);
    if (!(std::sqrt(squares * static_cast<double>(dim)) <
          static_cast<double>(std::numeric_limits<float>::max())))
      reject(name, " of token ", t, ", head ", h, " has length ", std::sqrt(squares),
             ", which 4 bits and a scale can not store");
  }

  caching::extent sizes_;
  caching::nibble_keys keys_;
  caching::nibble_values values_;
  std::vector<float> row_;
  index_type tokens_ = 0;
};

FOVEA_NAMESPACE_END
