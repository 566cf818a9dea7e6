// fovea/kernel/operand/pieces.hpp - a block of keys or values in the pieces that it lies in, each with
// what is asked for while it is read.
#pragma once

#include <fovea/kernel/operand/operand.hpp>
#include <fovea/kernel/operand/prefetch.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Where the tokens lie that are asked for beside those of a block, the first few pieces of them, in the
/// order in which they are read. None are known at first.
class piece_places {
 public:
  piece_places() noexcept : count_(0) {}
  template <class Head>
  void add(const Head& all, range tokens) noexcept {
    if constexpr (!decoding_head<Head>)  // else nothing lies anywhere
      if (!tokens.empty())
        all.each_piece(tokens, [&](const auto& part) {
          if (count_ < most) places_[count_++] = {byte_rows(part.tokens), part.tokens.rows};
        });
  }
  /// Where the next `tokens` of them lie, to be asked for beside as many of another block. (What one place
  /// has too few of is taken to go on there. A piece for a piece, keys in int8, which lie in pieces of 32,
  /// asked for a quarter of their values, which lie in one: it took 1.6 times as long beyond caches.)
  byte_rows next(index_type tokens) noexcept {
    if (at_ == count_) return {};
    const byte_rows here = places_[at_].rows.from(token_);
    for (token_ += tokens; at_ < count_ && token_ >= places_[at_].count; ++at_) token_ -= places_[at_].count;
    return here;
  }
  /// Tokens between those that are read and those that are asked for, where these are of the same block (see
  /// tokens_ahead); 0: they are of another.
  index_type ahead = 0;

 private:
  struct place_of_tokens {
    byte_rows rows;
    index_type count;
  };
  static constexpr std::size_t most = 8;
  std::array<place_of_tokens, most> places_;  // of which count_ are written
  std::size_t count_, at_ = 0;
  index_type token_ = 0;  // of places_[at_]
};

/// Rows of one element side by side or a stride apart: `count` of a block's, from its row `first` on.
template <class E>
struct block_piece {
  rows_of<E> rows;
  index_type first, count;
  const float* scales;  // see scaled
  next_rows next;

  /// Some of its rows, where there are no scales.
  block_piece part(range some) const noexcept {
    return {rows.from(some.first), first + some.first, some.size(), nullptr, {}};
  }
};

/// Pieces of a block, one after another: all, or some, of which the first run opens the sum over the block
/// and the last closes it.
template <class E>
struct run_of_pieces {
  const block_piece<E>*first, *last;
  bool opens = true, closes = true;
  const block_piece<E>* begin() const noexcept { return first; }
  const block_piece<E>* end() const noexcept { return last; }
};

/// Several of them, which a tile of results sums up before it is written.
template <class E>
class block_pieces {
 public:
  static constexpr std::size_t most = 8;
  FOVEA_INLINE block_pieces() noexcept : count_(0) {}
  FOVEA_INLINE bool empty() const noexcept { return count_ == 0; }
  FOVEA_INLINE bool full() const noexcept { return count_ == most; }
  FOVEA_INLINE void add(const block_piece<E>& part) noexcept { pieces_[count_++] = part; }
  FOVEA_INLINE void clear() noexcept { count_ = 0; }

  FOVEA_INLINE const block_piece<E>* begin() const noexcept { return pieces_.data(); }
  FOVEA_INLINE const block_piece<E>* end() const noexcept { return pieces_.data() + count_; }

  /// While they are read, what comes next is asked for beside them; or nothing. Pieces that ask for others of
  /// their own block are cut, so that what each part asks for lies in one place.
  void prefetch(piece_places& next) noexcept {
    ahead_ = next.ahead;
    if (ahead_ > 0) cut(ahead_);
    for (std::size_t i = 0; i < count_; ++i) {
      constexpr index_type bytes = sizeof(E);
      const auto& rows = pieces_[i].rows;
      byte_rows beside = next.next(pieces_[i].count);
      if (i == 0 && beside.first == nullptr) return prefetch_nothing();
      if (beside.first == nullptr)  // no more: its own, which are there
        beside = {reinterpret_cast<const char*>(rows.data), rows.stride * bytes};
      pieces_[i].next = next_rows(beside, rows.dim * bytes);
    }
  }
  /// Whether anything is.
  bool asks() const noexcept { return count_ > 0 && pieces_[0].next.any(); }
  FOVEA_INLINE void prefetch_nothing() noexcept {
    for (std::size_t i = 0; i < count_; ++i) pieces_[i].next = {};
  }
  /// See piece_places.
  index_type ahead() const noexcept { return ahead_; }

 private:
  /// Into parts of so many rows, where there are no scales, and not too many parts.
  void cut(index_type rows) noexcept {
    constexpr auto most_parts = static_cast<index_type>(most);
    index_type parts = 0;
    for (const auto& x : *this) parts += x.scales == nullptr ? ceil_div(x.count, rows) : most_parts + 1;
    if (parts > most_parts) return;
    const block_pieces whole = *this;
    clear();
    for (const auto& x : whole)
      for (index_type i = 0; i < x.count; i += rows) add(x.part({i, std::min(i + rows, x.count)}));
  }

  std::array<block_piece<E>, most> pieces_;  // of which count_ are written
  std::size_t count_;
  index_type ahead_ = 0;
};

/// tokens_ahead of a head, whose tokens may lie nowhere before they are read.
template <class Head>
index_type tokens_ahead_of(const Head& all, index_type query_rows, index_type block) noexcept {
  if constexpr (decoding_head<Head>)
    return block;
  else
    return tokens_ahead<typename Head::element>(query_rows, all.cols, block);
}

/// f(block_pieces) for the pieces of a block, as many together as are of one element and lie in place: for
/// the form with dim in lanes, which converts as it reads.
template <scaled Scaled, bool Nibbles = false, class Arch, class T, class Head, class F>
FOVEA_INLINE void each_pieces(const operand<Arch, T, Head>& x, range block, F&& f) noexcept {
  using main = typename Head::element;
  block_pieces<main> waiting;
  const auto flush = [&]() FOVEA_INLINE_LAMBDA {
    if (!waiting.empty()) f(waiting), waiting.clear();
  };
  x.template each_rows<Scaled, Nibbles>(block, [&](index_type first, const auto& rows, index_type count,
                                                   const float* scales) FOVEA_INLINE_LAMBDA {
    using E = std::remove_cvref_t<decltype(*rows.data)>;
    const block_piece<E> part{rows, first, count, scales, {}};
    if constexpr (std::is_same_v<E, main>) {
      if (waiting.full()) flush();
      waiting.add(part);
      if (x.in_buffer(rows)) flush();
    } else {
      flush();
      block_pieces<E> alone;
      alone.add(part);
      f(alone);
    }
  });
  flush();
}

}  // namespace kernel
FOVEA_NAMESPACE_END
