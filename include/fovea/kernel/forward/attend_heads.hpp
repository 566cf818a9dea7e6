// fovea/kernel/forward/attend_heads.hpp - one job of a few query rows of each of several key/value heads, the
// tokens of which lie in short pages that hold all heads: a page is read from its first byte to its last.
#pragma once

#include <fovea/kernel/forward/one_key.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// Key/value heads of such a job, at most; tokens of a page, at most: a longer page's part of one head is a
/// stretch that hardware follows.
inline constexpr index_type most_heads_a_task = 8, short_page_tokens = 64;

/// Whether a call is such that heads may share a job: K and V in pages, the weights of a softmax alone.
template <class Problem>
inline constexpr bool may_share_pages =
    Problem::normalises && Problem::scores_dots && !Problem::drops && !Problem::receives &&
    !Problem::keeps_weights && requires(const Problem& p) {
      p.k.page_tokens();
      p.v.page_tokens();
    };

/// Whether heads from `first` on may, as they see all of their keys.
template <class Arch, class Problem>
bool see_all_keys(const Problem& p, row_block first, index_type heads) noexcept {
  if (p.rules.may_hide()) return false;
  for (; heads > 0; --heads, ++first.kv_head)
    if (!is_seen_whole<Arch>(p, first, p.k.tokens(first.batch))) return false;
  return true;
}

/// Lines of numbers that are read once a piece, as scales are.
inline void ask_for(const float* numbers, index_type count) noexcept {
  constexpr index_type a_line = 64 / sizeof(float);
  if (numbers != nullptr)
    for (index_type i = 0; i < count; i += a_line) FOVEA_PREFETCH(numbers + i, 0, 3);
}

/// The rows of these heads. Each step is of a block of keys and of all heads, those of a page before those
/// of the next.
template <class Arch, class Problem, class T = typename Problem::compute>
class heads_of_pages {
  using panel = row_panel<Arch, T>;
  using group = row_group<Arch, Problem>;

 public:
  /// `memory`: of each of the heads, `first` of which is the first.
  heads_of_pages(const Problem& p, const row_block& first, index_type heads,
                 const row_memory<T>* memory) noexcept
      : p_(p), first_(first), heads_(heads) {
    for (index_type h = 0; h < heads; ++h) {
      panel& q = panels_[h] =
          *row_panels<Arch, T>(at(h), memory[h], p.dim(), attending_rows<Arch, T>(p.value_dim())).begin();
      group of_head(p, at(h), nullptr);
      of_head.job({0, 0}, p.factor(), memory[h]).open(q);
      in_pairs_ = of_head.in_pairs();
      row_weights_of<Arch>(p).open(q), row_values<Arch, T>().open(q);
    }
  }

  /// S = Q K^T.
  FOVEA_NOINLINE void dot(range keys) const noexcept {
    each_piece_of_heads<scaled::by_channel>(p_.k, keys, p_.v, keys, [&](const panel& q, auto& pieces, auto) {
      if constexpr (group::may_pair)
        if (in_pairs_) return dot_pieces_of_pairs(q, pieces, p_.factor());
      const auto dot = [&](auto rows, index_type r) {
        constexpr std::integral_constant<index_type, panel::block> row_stride{};
        for (const auto& k : pieces) {
          const T* const scaled = k.scales == nullptr ? q.q
                                  : r == 0            ? scale_queries(q, k.scales)
                                                      : q.scaled_q;
          dot_rows_of_width<lines_in_order, Arch, rows(), panel::max_rows>(scaled + r * q.n, k, q.logits(r),
                                                                           row_stride);
        }
      };
      if (!in_order(q, pieces, dot)) dot_pieces(q, pieces);
    });
  }
  /// S -> P = exp(score(S) - m).
  FOVEA_NOINLINE void absorb(range keys) const noexcept {
    for (index_type h = 0; h < heads_; ++h) {
      const panel& s = panels_[h];
      group of_head(p_, at(h), nullptr);
      const row_rules_ref<Arch, T> rules(of_head.rules);
      for (index_type r = 0; r < s.count(); ++r)
        rules.apply(s.head(r), s.query(r), coverage::full, keys, s.logits(r)).store_aligned(s.factor(r));
      absorb_rows<Arch, Problem::units>(s, keys.size(), true);
    }
  }
  /// O = O * shrink + P V; `next`: the keys after these.
  FOVEA_NOINLINE void add(range keys, range next) const noexcept {
    each_piece_of_heads<scaled::by_token>(
        p_.v, keys, p_.k, next, [&](const panel& p, auto& pieces, part_of_block part) {
          for (const auto& v : pieces) scale_weights(p, v);
          using E = std::remove_cvref_t<decltype(*pieces.begin()->rows.data)>;
          const run_of_pieces<E> run{pieces.begin(), pieces.end(), part.opens, part.closes};
          if (!in_order(p, pieces, [&](auto rows, index_type r) {
                add_rows<lines_in_order, Arch, rows()>(p, r, run, p_.value_dim());
              }))
            p.in_row_tiles(pieces.asks(), [&](auto lines, auto rows, index_type r) {
              add_rows<typename decltype(lines)::type, Arch, rows()>(p, r, run, p_.value_dim());
            });
          if (part.closes) have_shrunk(p);
        });
  }

 private:
  /// f(constant rows, first) for tiles that read in rising addresses, if these rows go so: see attend_heads.
  template <class E, class F>
  static bool in_order(const panel& p, const block_pieces<E>& pieces, const F& f) noexcept {
    const index_type rows = p.count();
    const bool so = sizeof(E) >= 4 ? rows == 1 || rows == 4 : rows == 2;
    if (rows_in_order<Arch> < 2 || !so || !pieces.asks()) return false;
    if (rows == 1) return f(std::integral_constant<int, 1>(), 0), true;
    for (index_type r = 0; r < rows; r += 2) f(std::integral_constant<int, 2>(), r);
    return true;
  }

  static constexpr index_type most_pages = 4;  // that are read side by side

  struct part_of_block {
    bool opens = true, closes = true;
  };

  row_block at(index_type h) const noexcept {
    row_block here = first_;
    here.kv_head += h;
    return here;
  }
  template <class Operand>
  auto head_of(const Operand& all, index_type h) const noexcept {
    return all.head(first_.batch, first_.kv_head + h);
  }

  /// What differs from head to head of a page: pieces of two of them are looked up, those of the others lie
  /// as far from one to the next. (Looked up for each of 8 heads they were a tenth of one float row's time.)
  template <class E>
  struct pieces_of_heads {
    block_pieces<E> of_first;
    index_type apart = 0, scales_apart = 0;  // from head to head, in elements
    bool alike = true;

    block_piece<E> at(index_type i, index_type h) const noexcept {
      block_piece<E> piece = of_first.begin()[i];
      piece.rows.data += h * apart;
      if (piece.scales != nullptr) piece.scales += h * scales_apart;
      return piece;
    }
    index_type count() const noexcept { return of_first.end() - of_first.begin(); }
    /// The pieces of the second head.
    void measure(const block_pieces<E>& second) noexcept {
      alike = alike && second.end() - second.begin() == count();
      for (index_type i = 0; alike && i < count(); ++i) {
        const block_piece<E>&x = of_first.begin()[i], &y = second.begin()[i];
        const index_type more = y.rows.data - x.rows.data,
                         scales = x.scales == nullptr ? 0 : y.scales - x.scales;
        alike = i == 0 || (more == apart && scales == scales_apart);
        apart = more, scales_apart = scales;
      }
    }
  };

  /// Where the first of `keys` lie, page by page, and how many bytes one head's lie after another's.
  struct first_places {
    byte_rows of_first[std::size_t{most_pages}];
    index_type count = 0, apart = 0;
  };
  template <class Operand>
  first_places first_of(const Operand& all, range keys) const noexcept {
    first_places places;
    if (keys.empty()) return places;
    head_of(all, 0).each_piece(keys, [&](const auto& x) {
      if (places.count < most_pages) places.of_first[places.count++] = byte_rows(x.tokens);
    });
    if (heads_ > 1)
      head_of(all, 1).each_piece({keys.first, keys.first + 1}, [&](const auto& x) {
        places.apart = byte_rows(x.tokens).first - places.of_first[0].first;
      });
    return places;
  }

  /// f(panel, its piece of the keys, what part of them that is), page by page and head by head. Beside each
  /// piece those are asked for that are read 8 KB later, in the end of `other`. (Where pieces are not alike,
  /// as in the block of int8 keys that is still open: head by head.)
  template <scaled Scaled, class Operand, class Other, class F>
  void each_piece_of_heads(const Operand& all, range keys, const Other& other, range other_keys,
                           const F& f) const noexcept {
    using E = typename decltype(all.head(0, 0))::element;
    const auto each_of_head = [&](index_type h, const auto& g) {
      each_pieces<Scaled>(operand_of<Arch>(head_of(all, h), all.dim(), static_cast<T*>(nullptr)), keys, g);
    };
    pieces_of_heads<E> places;
    for (index_type h = 0; h < std::min<index_type>(heads_, 2); ++h) {
      bool looked_up = false;
      each_of_head(h, [&](auto& pieces) {
        places.alike = places.alike && !looked_up;
        looked_up = true;
        if constexpr (std::is_same_v<decltype(pieces), block_pieces<E>&>)
          h == 0 ? static_cast<void>(places.of_first = pieces) : places.measure(pieces);
        else
          places.alike = false;
      });
    }
    if (!places.alike) {
      for (index_type h = 0; h < heads_; ++h)
        each_of_head(h, [&](auto& pieces) { f(panels_[h], pieces, part_of_block()); });
      return;
    }
    const index_type pieces = places.count(), row_bytes = all.dim() * index_type(sizeof(E)),
                     bytes = places.at(0, 0).count * row_bytes,
                     together = std::clamp<index_type>(bytes_ahead / bytes, 1, most_pages),
                     ahead = std::clamp<index_type>(ceil_div(bytes_ahead, together * bytes), 1, heads_);
    const first_places others = first_of(
        other,
        {other_keys.first, std::min(other_keys.first + together * places.at(0, 0).count, other_keys.last)});
    block_pieces<E> step;
    for (index_type i = 0; i < pieces; i += together)
      for (index_type h = 0; h < heads_; ++h) {
        const bool in_pages = h + ahead < heads_;
        const index_type of = in_pages ? h + ahead : h + ahead - heads_,
                         last = std::min(i + together, pieces);
        step.clear();
        for (index_type j = i; j < last; ++j) {
          block_piece<E> piece = places.at(j, h);
          byte_rows later(piece.rows.view(piece.count));  // none left: its own, which are there
          const index_type next = in_pages ? j : j + together;
          if (next < pieces) {
            const block_piece<E> then = places.at(next, of);
            later = byte_rows(then.rows.view(then.count));
            ask_for(then.scales, Scaled == scaled::by_channel ? all.dim() : then.count);
          } else if (last == pieces && j - i < others.count) {
            later = others.of_first[j - i];
            later.first += of * others.apart;
          }
          piece.next = next_rows(later, row_bytes);
          step.add(piece);
        }
        f(panels_[h], step, part_of_block{i == 0, last == pieces});
      }
  }

  static constexpr index_type bytes_ahead = 8192;

  const Problem& p_;
  row_block first_;
  index_type heads_;
  bool in_pairs_ = false;
  panel panels_[std::size_t{most_heads_a_task}];
};

/// The rows' states over the keys of `span`, all of which they see.
///
/// What one head has of a page of 16 tokens of 128 floats is 8 KB, after which hardware, which follows rising
/// addresses, has to begin anew; what 8 heads have is one stretch of 64 KB. A loop that only reads pages in
/// random order gets 29 GB/s of a stream's 43 head by head, 38 with the next 4 KB asked for or four pages
/// read side by side; page by page 38, and 40 with 4 or 8 KB asked for (Zen 5; without large pages of memory
/// all of it is a third less). The order suits any machine: nothing is read twice, addresses rise for as
/// long as they can, and 8 KB are what 40 GB/s bring in 200 ns.
///
/// Share of a contiguous cache's speed, 8 key/value heads of 128, 134 MB, pages of 16 in random order, one
/// thread, Zen 5, groups of 1, 2, 4 and 8, in turn in one process; before: pieces looked up for each head,
/// one page at a time; in brackets pages in rising order (one float row over a contiguous cache has
/// one_row.hpp's loop; fp16, before: .94 .87 .85 .78, not measured since):
///   float   .67 .82 .88 .90 -> .75 .88 .90 .92    (.86 .98 .99 .94)
///   bf16    .90 .95 .83 .80 -> .98 1.03 .92 .89   (1.02 1.09 .93 .90)
///   int8    .69 .69 .67 .71 -> .90 .87 .87 .85    (.91 .92 .88 .87)
/// What is left of one float row's is memory: within caches the same rows take a quarter of that time, and
/// random order alone costs a tenth. Pages of int8 hold a scale a channel for 16 tokens, contiguous caches
/// one for 32: a tenth more bytes, and queries are scaled twice as often.
///
/// As many pages as hold 8 KB of a head are read side by side (int8: one page at a time .84 .85 .76 .77,
/// two .91 .91 .85 .82; bf16 four at a time .87 .98 .99 .94; float two at a time .75 .73 .94 .88). Up to 4
/// heads a task in place of 8: .71 .84 .88 .91 in float, .83 in bf16. Tiles that read in rising addresses
/// took .97 of the time of others for one row of float, .96 for four, two at a time, .94 for two rows in 16
/// bits, but 1.4 for one row of fp16, 1.04 for two of float, 1.1 for four in 16 bits and int8. 4 KB asked
/// for in place of 8 took 1.03 in float and up to 1.25 in 16 bits, 16 KB 1.0 to 1.1, pages in parts of 4 KB
/// 1.1; into L2 in place of L1, 8 to 64 KB ahead, 1.0 to 1.16 in float.
template <class Arch, class Problem, class T = typename Problem::compute>
FOVEA_NOINLINE void attend_heads(const Problem& p, const row_block& first, index_type heads, range span,
                                 const row_memory<T>* memory) noexcept {
  constexpr index_type block = geometry<Arch>::few_rows_block;
  const heads_of_pages<Arch, Problem> rows(p, first, heads, memory);
  for (range keys{span.first, span.first}; keys.first < span.last; keys.first = keys.last) {
    keys.last = std::min(keys.first + block, span.last);
    rows.dot(keys);                                                       // (H, R, C)   S = Q K^T
    rows.absorb(keys);                                                    // (H, R, C)   P = exp(score(S) - m)
    rows.add(keys, {keys.last, std::min(keys.last + block, span.last)});  // (H, R, dv)  O = O * shrink + P V
  }
}

}  // namespace kernel
FOVEA_NAMESPACE_END
