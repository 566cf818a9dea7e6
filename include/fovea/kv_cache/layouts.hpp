// fovea/kv_cache/layouts.hpp - which slot of a store a token of a sequence lies in.
//
// A layout has tokens() (those that are kept), position() (of the next token in the whole sequence), slot()
// of the next token, advance(), prepare(count), truncate(tokens), reset(), emptied() (what is left after a
// move) and each_run(range, f), which calls f(first slot, count) for consecutive slots of one page.
#pragma once

#include <fovea/index.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// One token after another, up to a capacity; `let_go` of others stood between them.
class contiguous {
 public:
  static constexpr bool in_one_piece = true;  // what each_run gives
  explicit contiguous(index_type capacity) noexcept : capacity_(capacity) {}
  index_type tokens() const noexcept { return tokens_; }
  index_type position() const noexcept { return tokens_ + let_go_; }
  index_type capacity() const noexcept { return capacity_; }
  contiguous emptied() const noexcept { return contiguous(0); }
  void reserve(index_type capacity) noexcept { capacity_ = capacity; }
  index_type slot() const noexcept { return tokens_; }
  void advance() noexcept { ++tokens_; }
  void prepare(index_type count) const {
    if (count > capacity_ - tokens_)
      reject("the cache has room for ", capacity_ - tokens_, " tokens of ", capacity_, ", not for ", count);
  }
  void truncate(index_type tokens) noexcept {
    if (tokens == 0) let_go_ = 0;
    tokens_ = tokens;
  }
  void reset() noexcept { truncate(0); }
  /// `tokens` are left, the next one's position is what it was.
  void thin_out(index_type tokens) noexcept {
    let_go_ += tokens_ - tokens;
    tokens_ = tokens;
  }
  template <class F>
  void each_run(range wanted, F&& f) const noexcept {
    f(wanted.first, wanted.size());
  }

 private:
  index_type capacity_, tokens_ = 0, let_go_ = 0;
};

/// The first `sinks` tokens and the newest `window` others: the slots after the sinks are used in turn.
class ring {
 public:
  ring(index_type sinks, index_type window) noexcept : sinks_(sinks), window_(window) {}
  index_type tokens() const noexcept { return position_ - evicted_; }
  index_type position() const noexcept { return position_; }
  index_type capacity() const noexcept { return sinks_ + window_; }
  ring emptied() const noexcept { return {0, 0}; }
  index_type sinks() const noexcept { return sinks_; }
  /// Tokens after the sinks that are gone.
  index_type evicted() const noexcept { return evicted_; }
  index_type slot() const noexcept { return slot_of(position_); }
  void advance() noexcept {
    if (tokens() == capacity()) ++evicted_;
    ++position_;
  }
  void prepare(index_type) const noexcept {}
  void truncate(index_type tokens) noexcept {
    if (tokens <= sinks_) evicted_ = 0;
    position_ = tokens + evicted_;
  }
  void reset() noexcept { position_ = evicted_ = 0; }
  template <class F>
  void each_run(range wanted, F&& f) const noexcept {
    while (!wanted.empty()) {
      const bool in_sinks = wanted.first < sinks_;
      const index_type first = slot_of(in_sinks ? wanted.first : wanted.first + evicted_);
      const index_type count = std::min(wanted.size(), (in_sinks ? sinks_ : capacity()) - first);
      f(first, count);
      wanted.first += count;
    }
  }

 private:
  index_type slot_of(index_type position) const noexcept {
    return position < sinks_ ? position : sinks_ + (position - sinks_) % window_;
  }
  index_type sinks_, window_, position_ = 0, evicted_ = 0;
};

/// Pages from a pool, in whatever order they came.
class paged {
 public:
  explicit paged(index_type page_tokens) noexcept : page_tokens_(page_tokens) {}
  index_type tokens() const noexcept { return tokens_; }
  index_type page_tokens() const noexcept { return page_tokens_; }
  paged emptied() const noexcept { return paged(page_tokens_); }
  index_type position() const noexcept { return tokens_; }
  index_type slot() const noexcept { return slot_of(tokens_); }
  void advance() noexcept { ++tokens_; }
  void prepare(index_type) const noexcept {}  // there are pages already
  void truncate(index_type tokens) noexcept { tokens_ = tokens; }
  /// Pages that hold `tokens` tokens.
  index_type pages_for(index_type tokens) const noexcept { return ceil_div(tokens, page_tokens_); }
  index_type slot_of(index_type token) const noexcept {
    return pages[static_cast<std::size_t>(token / page_tokens_)] * page_tokens_ + token % page_tokens_;
  }
  template <class F>
  void each_run(range wanted, F&& f) const noexcept {
    auto page = static_cast<std::size_t>(wanted.first / page_tokens_);
    for (index_type at = wanted.first % page_tokens_; !wanted.empty(); at = 0, ++page) {
      const index_type count = std::min(wanted.size(), page_tokens_ - at);
      f(pages[page] * page_tokens_ + at, count);
      wanted.first += count;
    }
  }

  std::vector<index_type> pages;  // of the pool, in the order of the tokens

 private:
  index_type page_tokens_, tokens_ = 0;
};

}  // namespace caching
FOVEA_NAMESPACE_END
