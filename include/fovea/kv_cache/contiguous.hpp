// fovea/kv_cache/contiguous.hpp - the keys and values of one sequence, in one piece a head.
#pragma once

#include <fovea/kv_cache/basic_cache.hpp>
#include <fovea/kv_cache/file.hpp>
#include <fovea/kv_cache/layouts.hpp>

FOVEA_NAMESPACE_BEGIN

struct cache_options {
  index heads = 0;      // of keys and values, where the type leaves them Dynamic
  index value_dim = 0;  // 0: as dim
};

/// A cache with room for `capacity` tokens of `dim` numbers a head:
///
///   fovea::kv_cache<fovea::bf16, 8> cache{capacity, dim};
///   cache.append(k, v);
///   attend.into(o, q, cache, fovea::causal);       // q: the newest tokens
///
/// E: what keys are stored as, VE: what values are. Memory: capacity * heads * (dim + value_dim) elements, at
/// once. Measured relative error of results (2,048 normal keys, dim 128; in brackets, with four channels of
/// the keys 20 times larger): bf16 0.0024 (0.0098), fp16 0.0003 (0.0014), int8 0.0085 (0.017), int8 keys and
/// float values 0.0053 (0.016).
template <class E, int KVHeads = Dynamic, class VE = E, class Arch = xsimd::default_arch>
class kv_cache : public caching::basic_cache<caching::contiguous, E, VE, KVHeads, Arch> {
  using base = caching::basic_cache<caching::contiguous, E, VE, KVHeads, Arch>;

 public:
  FOVEA_INLINE kv_cache(index capacity, index dim, const cache_options& options = {})
      : kv_cache(std::make_shared<typename base::store_type>(
                     caching::checked({1, capacity, options.heads, dim, options.value_dim, 0}, KVHeads)),
                 capacity) {}
  kv_cache(kv_cache&&) = default;
  kv_cache& operator=(kv_cache&&) = default;
  FOVEA_INLINE ~kv_cache() = default;

  FOVEA_INLINE index capacity() const noexcept { return this->layout_.capacity(); }

  /// Writes the tokens with a header that says what they are. Throws std::runtime_error where that fails.
  void save(std::ostream& out) const { caching::save(out, *this->store_, this->tokens(), this->open_); }
  /// Reads what save() wrote in place of all tokens. Throws std::runtime_error, and then has changed nothing,
  /// where the file is no such file, is damaged, ends early, or holds other elements, sizes or more tokens
  /// than there is room for.
  void load(std::istream& in) {
    const index tokens = caching::load(in, *this->store_, capacity(), this->open_);
    this->layout_.truncate(tokens);
  }

  /// A cache over the bytes of a saved file, which the caller has mapped or read and keeps; read only, full.
  /// Throws as load().
  FOVEA_INLINE static const kv_cache over(std::span<const std::byte> file) {
    auto [memory, tokens, open] = caching::map<E, VE, Arch>(file);
    static_cast<void>(caching::checked(memory->sizes(), KVHeads));
    kv_cache made(std::move(memory), tokens);
    made.layout_.truncate(tokens);
    made.open_ = std::move(open);
    return made;
  }

 private:
  FOVEA_INLINE kv_cache(std::shared_ptr<typename base::store_type> memory, index capacity)
      : base(std::move(memory), caching::contiguous(capacity)) {}
};

FOVEA_NAMESPACE_END
