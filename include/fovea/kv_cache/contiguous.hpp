// fovea/kv_cache/contiguous.hpp - the keys and values of one sequence, in one piece a head.
#pragma once

#include <fovea/kv_cache/basic_cache.hpp>
#include <fovea/kv_cache/file.hpp>
#include <fovea/kv_cache/keep.hpp>
#include <fovea/kv_cache/layouts.hpp>

FOVEA_NAMESPACE_BEGIN

struct cache_options {
  index_type heads = 0;      // of keys and values, where the type leaves them dynamic_heads
  index_type value_dim = 0;  // 0: as dim
};

/// How much of a file kv_cache::over checks.
enum class file_check { header, whole };

/// A cache with room for `capacity` tokens of `dim` numbers a head:
///
///   fovea::kv_cache<fovea::bf16, 8> cache{capacity, dim};
///   cache.append(k, v);
///   attend.into(o, q, cache, fovea::causal);       // q: the newest tokens
///
/// E: what keys are stored as, VE: what values are. Memory: capacity * heads * (dim + value_dim) elements,
/// at once. Measured relative error of results (2,048 normal keys, dim 128; in brackets, with four channels
/// of the keys 20 times larger): bf16 0.0024 (0.0098), fp16 0.0003 (0.0014), fp8 0.039, int8 0.0085
/// (0.017), int8 keys and float values 0.0053 (0.016).
template <class E, int KVHeads = dynamic_heads, class VE = E, class Arch = xsimd::default_arch>
class kv_cache : public caching::basic_cache<caching::contiguous, E, VE, KVHeads, Arch> {
  using base = caching::basic_cache<caching::contiguous, E, VE, KVHeads, Arch>;

 public:
  kv_cache(index_type capacity, index_type dim, const cache_options& options = {})
      : kv_cache(std::make_shared<typename base::store_type>(
                     caching::checked({1, capacity, options.heads, dim, options.value_dim, 0}, KVHeads)),
                 capacity) {}
  kv_cache(kv_cache&&) = default;
  kv_cache& operator=(kv_cache&&) = default;

  index_type capacity() const noexcept { return this->layout_.capacity(); }

  /// Makes room for `capacity` tokens in all, where there is less; the tokens stay as they are (32 int8 keys
  /// share their scales: those at the end of a capacity that is no multiple of 32 are rounded once more when
  /// others join them). Costs copying them, and both memories while that lasts. Throws as the constructor, or
  /// std::bad_alloc, and then has changed nothing.
  void reserve(index_type capacity) {
    static_cast<void>(this->held());
    if (capacity <= this->capacity()) return;
    caching::extent sizes = this->store_->sizes();
    sizes.page_tokens = capacity;
    auto larger = std::make_shared<typename base::store_type>(caching::checked(sizes, KVHeads));
    caching::copy_tokens(*this->store_, *larger, this->tokens());
    this->store_ = std::move(larger);
    this->layout_.reserve(capacity);
  }

  /// Keeps the tokens `kept`, by number, in ascending order, and lets go of all others: eviction, for which
  /// received.hpp counts. Afterwards they are tokens 0, 1, ... to calls, masks and scores: their distances
  /// are counted among what is kept. Keys stay turned as they are, and position() goes on from where it was:
  /// a token appended with angles stands as far from them as it does in the text. (After truncate(t),
  /// position() is as if the tokens taken back had followed each other.) Costs moving what stands behind the
  /// first gap; int8 keys there are quantised anew, which rounds them once more. Throws
  /// std::invalid_argument, and then has changed nothing, where a number is out of range or out of order.
  /// `kept`: integers of any type.
  template <class List = list_view<index_type>>
  void keep(const List& list) {
    const list_view<index_type> tokens_kept = list;
    caching::check_kept(tokens_kept, this->tokens());
    caching::keep_tokens(this->writable(), tokens_kept, this->open_);
    this->layout_.thin_out(tokens_kept.size());
    this->cut_open();
  }

  /// Writes the tokens with a header that says what they are (not position(): of a cache that is read,
  /// position() is tokens()). Throws std::runtime_error where that fails.
  void save(std::ostream& out) const { caching::save(out, this->held(), this->tokens(), this->open_); }
  /// Reads what save() wrote in place of all tokens. Throws std::runtime_error, and then has changed nothing,
  /// where the file is no such file, is damaged, ends early, or holds other elements, sizes or more tokens
  /// than there is room for; std::invalid_argument where the cache itself shows a file. Reads no further
  /// than the file's own end, and takes memory as it reads.
  void load(std::istream& in) {
    const index_type tokens = caching::load(in, this->writable(), capacity(), this->open_);
    this->layout_.reset(), this->layout_.truncate(tokens);
  }

  /// A cache over the bytes of a saved file, which the caller has mapped or read and keeps: full, and to
  /// be read only (what would write throws std::invalid_argument; reserve(), for more tokens, makes it one
  /// of its own). `file` is all of the file and lies at an address that suits its elements. Throws
  /// std::runtime_error as load() does, and where there are bytes behind it. That reads the file once,
  /// some GB a second; with file_check::header only the header and the sizes are checked: no byte outside
  /// the file is ever read, but damaged keys and values are taken for what they look like.
  static const kv_cache over(borrowed_span<const std::byte> file, file_check check = file_check::whole) {
    constexpr index_type any = 0;
    auto [memory, tokens, open] =
        caching::map<E, VE, Arch>(file, KVHeads == dynamic_heads ? any : KVHeads, check == file_check::whole);
    static_cast<void>(caching::checked(memory->sizes(), KVHeads));
    kv_cache shown(std::move(memory), tokens);
    shown.layout_.truncate(tokens);
    shown.open_ = std::move(open);
    return shown;
  }

 private:
  kv_cache(std::shared_ptr<typename base::store_type> memory, index_type capacity)
      : base(std::move(memory), caching::contiguous(capacity)) {}
};

FOVEA_NAMESPACE_END
