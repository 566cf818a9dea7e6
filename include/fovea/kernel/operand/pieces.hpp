// fovea/kernel/operand/pieces.hpp - a block of keys or values in the pieces that it lies in, each with
// what is asked for while it is read.
#pragma once

#include <fovea/kernel/operand/operand.hpp>
#include <fovea/kernel/operand/prefetch.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Where the pieces of a block of tokens lie, the first few of them: they come next beside those of another
/// block. None are known at first.
class pieces_ahead {
 public:
  FOVEA_INLINE pieces_ahead() noexcept : count_(0) {}
  template <class Head>
  FOVEA_INLINE pieces_ahead(const Head& all, range tokens) noexcept : pieces_ahead() {
    all.each_piece(tokens, [&](const auto& some) FOVEA_INLINE_LAMBDA {
      if (count_ < most) pieces_[count_++] = rows_ahead::place(some.tokens);
    });
  }
  /// Where the next of them lies, to be asked for beside `now`, a piece of another block.
  FOVEA_INLINE rows_ahead::place beside(const rows_ahead::place& now) noexcept {
    return at_ < count_ ? pieces_[at_++] : now;
  }
  /// What comes after `now`, one of them: the next one; where there is one only, more of it. (Two pieces
  /// further where they are of 4 KB, and into the next block, was no faster.)
  FOVEA_INLINE rows_ahead::place after(rows_ahead::place now) noexcept {
    if (count_ == 1) now.first += 8192;
    return ++at_ < count_ ? pieces_[at_] : now;
  }

 private:
  static constexpr std::size_t most = 8;
  std::array<rows_ahead::place, most> pieces_;  // of which count_ are written
  std::size_t count_, at_ = 0;
};

/// Rows of one element side by side or a stride apart: `count` of a block's, from its row `first` on.
template <class E>
struct block_piece {
  rows_of<E> rows;
  index_type first, count;
  const float* scales;  // see scaled
  rows_ahead ahead;
};

/// Several of them, which a tile of results sums up before it is written.
template <class E>
class block_pieces {
 public:
  FOVEA_INLINE block_pieces() noexcept : count_(0) {}
  FOVEA_INLINE bool empty() const noexcept { return count_ == 0; }
  FOVEA_INLINE bool full() const noexcept { return count_ == most; }
  FOVEA_INLINE void add(const block_piece<E>& some) noexcept { pieces_[count_++] = some; }
  FOVEA_INLINE void clear() noexcept { count_ = 0; }

  FOVEA_INLINE const block_piece<E>* begin() const noexcept { return pieces_.data(); }
  FOVEA_INLINE const block_piece<E>* end() const noexcept { return pieces_.data() + count_; }

  /// Asks for what comes next beside them and after them; or for nothing that is not there already.
  FOVEA_INLINE void look_ahead(pieces_ahead& next, pieces_ahead& these) noexcept {
    each([&](block_piece<E>& some, const rows_ahead::place& here)
             FOVEA_INLINE_LAMBDA { some.ahead = rows_ahead(next.beside(here), these.after(here)); });
  }
  FOVEA_INLINE void look_here() noexcept {
    each([](block_piece<E>& some, const rows_ahead::place& here)
             FOVEA_INLINE_LAMBDA { some.ahead = rows_ahead(here); });
  }

 private:
  template <class F>
  FOVEA_INLINE void each(F&& f) noexcept {
    for (std::size_t i = 0; i < count_; ++i) f(pieces_[i], rows_ahead::place(pieces_[i].rows.view(1)));
  }

  static constexpr std::size_t most = 8;
  std::array<block_piece<E>, most> pieces_;  // of which count_ are written
  std::size_t count_;
};

/// f(block_pieces) for the pieces of a block, as many together as are of one element and lie in place: for
/// the form with dim in lanes, which converts as it reads.
template <scaled Scaled, class Arch, class T, class Head, class F>
FOVEA_INLINE void each_pieces(const operand<Arch, T, Head>& x, range block, F&& f) noexcept {
  using main = typename Head::element;
  block_pieces<main> waiting;
  const auto flush = [&]() FOVEA_INLINE_LAMBDA {
    if (!waiting.empty()) f(waiting), waiting.clear();
  };
  x.template each_rows<Scaled>(block, [&](index_type first, const auto& rows, index_type count,
                                          const float* scales) FOVEA_INLINE_LAMBDA {
    using E = std::remove_cvref_t<decltype(*rows.data)>;
    const block_piece<E> some{rows, first, count, scales, {}};
    if constexpr (std::is_same_v<E, main>) {
      if (waiting.full()) flush();
      waiting.add(some);
      if (x.in_buffer(rows)) flush();
    } else {
      flush();
      block_pieces<E> alone;
      alone.add(some);
      f(alone);
    }
  });
  flush();
}

}  // namespace kernel
FOVEA_NAMESPACE_END
