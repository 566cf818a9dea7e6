// fovea/kv_cache/paged.hpp - pages of a pool shared by many sequences (PagedAttention, arXiv:2309.06180).
#pragma once

#include <fovea/kv_cache/basic_cache.hpp>
#include <fovea/kv_cache/layouts.hpp>

FOVEA_NAMESPACE_BEGIN

struct pool_options {
  index_type pages = 0, page_tokens = 16;
  index_type heads = 0;               // of keys and values
  index_type dim = 0, value_dim = 0;  // value_dim 0: as dim
};

/// The pages that paged_cache sequences share. A page is free, or counts the sequences that have it. Not for
/// several threads at a time, nor are its sequences while they append; attending is reading.
template <class E, int KVHeads = dynamic_heads, class VE = E, class Arch = xsimd::default_arch>
class page_pool {
 public:
  using store_type = caching::store<E, VE, Arch>;

  explicit page_pool(const pool_options& options)
      : memory_(std::make_shared<store_type>(caching::checked(
            {options.pages, options.page_tokens, options.heads, options.dim, options.value_dim, 0},
            KVHeads))),
        holders_(static_cast<std::size_t>(options.pages), 0) {
    for (index_type page = options.pages; page > 0; --page) free_.push_back(page - 1);
  }
  page_pool(const page_pool&) = delete;
  page_pool& operator=(const page_pool&) = delete;

  index_type pages() const noexcept { return static_cast<index_type>(holders_.size()); }
  index_type free_pages() const noexcept { return static_cast<index_type>(free_.size()); }
  index_type page_tokens() const noexcept { return memory_->sizes().page_tokens; }
  index_type bytes() const noexcept { return memory_->bytes(); }
  const std::shared_ptr<store_type>& memory() const noexcept { return memory_; }

  /// Makes the pool one of `pages` pages in all, no fewer than it has; its sequences keep theirs. Costs
  /// copying them, and both memories while that lasts. Throws as the constructor, or std::bad_alloc, and
  /// then has changed nothing.
  void grow(index_type pages) {
    const index_type before = this->pages();
    if (pages < before) reject("a pool of ", before, " pages can not grow to ", pages);
    caching::extent sizes = memory_->sizes();
    sizes.pages = pages;
    static_cast<void>(caching::checked(sizes, KVHeads));
    std::vector<index_type> free;  // taken from its end: what was free already first
    free.reserve(static_cast<std::size_t>(pages));
    for (index_type page = pages; page > before; --page) free.push_back(page - 1);
    free.insert(free.end(), free_.begin(), free_.end());
    holders_.reserve(static_cast<std::size_t>(pages));
    memory_->grow(pages);
    holders_.resize(static_cast<std::size_t>(pages), 0);
    free_ = std::move(free);
  }

  void check_free(index_type needed) const {
    if (needed > free_pages())
      reject("the pool has ", free_pages(), " free pages of ", pages(), ", not the ", needed, " needed");
  }
  index_type take() noexcept {
    const index_type page = free_.back();
    free_.pop_back();
    holders_[static_cast<std::size_t>(page)] = 1;
    return page;
  }
  void share(index_type page) noexcept { ++holders_[static_cast<std::size_t>(page)]; }
  void give_back(index_type page) noexcept {
    if (--holders_[static_cast<std::size_t>(page)] == 0) free_.push_back(page);
  }
  bool shared(index_type page) const noexcept { return holders_[static_cast<std::size_t>(page)] > 1; }

 private:
  std::shared_ptr<store_type> memory_;
  std::vector<index_type> holders_, free_;
};

/// One sequence in a pool, which outlives it.
template <class E, int KVHeads = dynamic_heads, class VE = E, class Arch = xsimd::default_arch>
class paged_cache : public caching::basic_cache<caching::paged, E, VE, KVHeads, Arch> {
  using base = caching::basic_cache<caching::paged, E, VE, KVHeads, Arch>;

 public:
  using pool_type = page_pool<E, KVHeads, VE, Arch>;

  explicit paged_cache(pool_type& pool)
      : base(pool.memory(), caching::paged(pool.page_tokens())), pool_(&pool) {}
  template <class X = E>
  explicit paged_cache(pool_type&&) {
    static_assert(never<X>, "fovea: a page_pool outlives the caches in it; give it a name, not a temporary");
  }
  paged_cache(paged_cache&& other) noexcept
      : base(std::move(static_cast<base&>(other))), pool_(std::exchange(other.pool_, nullptr)) {}
  paged_cache& operator=(paged_cache&& other) noexcept {
    if (this == &other) return *this;
    release(0);
    base::operator=(std::move(static_cast<base&>(other)));
    pool_ = std::exchange(other.pool_, nullptr);
    return *this;
  }
  ~paged_cache() { release(0); }

  /// The same tokens again, in the same pages: O(pages) for whatever length. What either appends then, the
  /// other does not see: a shared page is copied before it is written.
  paged_cache fork() const { return paged_cache(*this); }

  template <viewable K, viewable V>
  void append(const K& k, const V& v) {
    base::append_with(k, v, caching::as_given(), in_pages());
  }
  template <viewable K, viewable V, class A>
  void append(const K& k, const V& v, const rotary_angles<A>& angles,
              rotary_pairs pairs = rotary_pairs::halves) {
    base::append_with(k, v, base::turned(k, angles, pairs), in_pages());
  }
  void truncate(index_type tokens) {
    base::truncate(tokens);
    release(this->layout_.pages_for(tokens));
  }
  void reset() { truncate(0); }

  /// The pages that hold the tokens, in order.
  std::span<const index_type> pages() const noexcept { return this->layout_.pages; }

 private:
  paged_cache(const paged_cache& other) : base(other), pool_(other.pool_) {
    for (const index_type page : this->layout_.pages) pool_->share(page);
  }

  /// Gives back the pages after the first `kept`.
  void release(index_type pages_kept) noexcept {
    auto& pages = this->layout_.pages;
    if (pool_ == nullptr) return;
    while (static_cast<index_type>(pages.size()) > pages_kept)
      pool_->give_back(pages.back()), pages.pop_back();
  }
  auto in_pages() noexcept {
    return [this](const auto& k) { make_room(k.tokens(0)); };
  }
  /// Pages for `count` more tokens, and a copy of the last one if it is shared; or throws.
  void make_room(index_type count) {
    auto& pages = this->layout_.pages;
    const index_type tokens = this->tokens(), partly = tokens % pool_->page_tokens();
    const bool copies = count > 0 && partly > 0 && pool_->shared(pages.back());
    const index_type more = this->layout_.pages_for(tokens + count) - static_cast<index_type>(pages.size());
    pool_->check_free(more + (copies ? 1 : 0));
    pages.reserve(pages.size() + static_cast<std::size_t>(more));
    if (copies) {
      const index_type own = pool_->take(), shared = pages.back();
      this->store_->copy_page(shared, own);
      this->store_->move_open(this->open_, shared, own);
      pool_->give_back(shared);
      pages.back() = own;
    }
    for (index_type i = 0; i < more; ++i) pages.push_back(pool_->take());
  }

  pool_type* pool_;
};

/// Beam search: afterwards caches[i] is what caches[from[i]] was. `from`: a list of integers of any type.
template <class E, int KVHeads, class VE, class Arch, class List = list_view<index_type>>
void reorder(std::span<paged_cache<E, KVHeads, VE, Arch>> caches, const List& list) {
  const list_view<index_type> from = list;
  const index_type n = static_cast<index_type>(caches.size());
  if (from.size() != n) reject("reorder: from has ", from.size(), " entries for ", n, " caches");
  for (index_type i = 0; i < n; ++i)
    if (from[i] < 0 || from[i] >= n)
      reject("reorder: from names sequence ", text_of(from, i), ", not one of ", n);
  std::vector<paged_cache<E, KVHeads, VE, Arch>> forks;
  forks.reserve(caches.size());
  for (index_type i = 0; i < n; ++i) forks.push_back(caches[static_cast<std::size_t>(from[i])].fork());
  for (std::size_t i = 0; i < forks.size(); ++i) caches[i] = std::move(forks[i]);
}

FOVEA_NAMESPACE_END
