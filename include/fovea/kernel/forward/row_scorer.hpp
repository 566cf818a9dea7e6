// fovea/kernel/forward/row_scorer.hpp - how logits are made of few queries and keys: by the dot product, dim
// in lanes, or by a scorer of one's own (roles/concept.hpp), keys in lanes.
#pragma once

#include <fovea/kernel/forward/row_nibble_products.hpp>
#include <fovea/kernel/forward/row_pair_products.hpp>
#include <fovea/roles/concept.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// n channels of n keys, from row `first` of a piece and column c on: a register a channel. Past the last key
/// it is repeated.
template <class Arch, class T, class E>
void load_channels(const block_piece<E>& k, index_type first, index_type c, index_type channels,
                   vec<Arch, T>* to) noexcept {
  constexpr index_type n = lanes<Arch, T>;
  for (index_type e = 0; e < n; ++e) {
    to[e] = load_lanes<Arch, T>(k.rows.from(std::min(first + e, k.count - 1)).data + c);
    if (k.scales != nullptr) to[e] = to[e] * load_scales<Arch, T>(k.scales + c, channels - c);
  }
  isa<Arch>::transpose(to);
}

/// The scorer of the head of each row of a panel, `at` being its first head's place.
template <class Scorer>
decltype(auto) scorer_of_row(const Scorer& scorer, place at, index_type head) noexcept {
  at.head += head;
  return bind_scorer(scorer, at);
}

/// The logits of a panel's rows against a piece of a block of keys, by a user's scorer.
template <class Arch, class T, class E, class Scorer>
FOVEA_NOINLINE FOVEA_FLATTEN void score_piece(const Scorer& scorer, const place& at,
                                              const row_panel<Arch, T>& q, const block_piece<E>& k) noexcept {
  using V = vec<Arch, T>;
  using panel = row_panel<Arch, T>;
  constexpr index_type n = panel::n;
  for (index_type j = 0; j < k.count; j += n) {
    V sum[std::size_t{panel::max_rows}];
    for (V& x : sum) x = V(T(0));
    for (index_type i = 0; i * n < q.dim; ++i) {
      const index_type c = start_of<Arch, T>(i, q.dim), last = std::min(n, q.channels - c);
      V key[std::size_t{n}];
      load_channels<Arch, T>(k, j, c, q.channels, key);
      const range unread{i * n - c, last};  // the last register overlaps the one before
      const auto query = [&](index_type r, index_type e) {
        return V(q.q[(i * panel::max_rows + r) * n + e]);
      };
      if constexpr (std::is_reference_v<decltype(bind_scorer(scorer, at))>) {
        for (index_type e = unread.first; e < unread.last; ++e)
          for (index_type r = 0; r < q.count(); ++r)
            sum[r] = add_channel(scorer, sum[r], query(r, e), key[e], parameter_of<V>(scorer, c + e));
      } else {
        for (index_type r = 0; r < q.count(); ++r) {
          const auto bound = scorer_of_row(scorer, at, q.head(r));
          for (index_type e = unread.first; e < unread.last; ++e)
            sum[r] = add_channel(bound, sum[r], query(r, e), key[e], parameter_of<V>(bound, c + e));
        }
      }
    }
    const auto bytes = static_cast<std::size_t>(std::min(n, k.count - j)) * sizeof(T);
    for (index_type r = 0; r < q.count(); ++r) {
      alignas(64) T logits[std::size_t{n}];
      logit_of(scorer_of_row(scorer, at, q.head(r)), sum[r]).store_aligned(logits);
      std::memcpy(q.logits(r) + k.first + j, logits, bytes);
    }
  }
}

/// The logits of all rows against a block of keys: see row_scorer_ref.
template <class Arch, class T, class Scorer, class Operand>
void score_block(const Scorer& scorer, const place& at, const Operand& operand,
                 const row_panels<Arch, T>& all, range keys, T scale, piece_places& next) noexcept {
  constexpr bool nibbles = std::is_same_v<Scorer, dot_product>;
  each_pieces<scaled::by_channel, nibbles>(operand, keys, [&](auto& pieces) {
    pieces.prefetch(next);
    for (const auto& q : all)
      if constexpr (std::is_same_v<Scorer, dot_product>)
        dot_pieces(q, pieces), pieces.prefetch_nothing();
      else if constexpr (std::is_same_v<Scorer, dot_product_of_pairs>)
        dot_pieces_of_pairs(q, pieces, scale), pieces.prefetch_nothing();
      else
        with_chosen(scorer, at, [&](const auto& chosen) {
          for (const auto& k : pieces) score_piece(chosen, at, q, k);
        });
  });
}

/// A reference to a scorer and the keys of a head, in whatever pieces, elements and scales.
template <class Arch, class T>
class row_scorer_ref {
  using panels = row_panels<Arch, T>;

 public:
  template <class Scorer, class Operand>
  row_scorer_ref(const Scorer& scorer, const place& first_head, const Operand& keys) noexcept
      : scorer_(&scorer), keys_(&keys), at_(&first_head), of_(&functions_of<Scorer, Operand>) {}

  /// The logits of all rows against a block of keys, each of which is read once. `scale`: see
  /// lane_scorer.hpp; `next`: what is asked for meanwhile.
  void dot(const panels& all, range keys, T scale, piece_places& next) const noexcept {
    of_->dot(scorer_, *at_, keys_, all, keys, scale, next);
  }
  /// Where some of them lie; and how many are asked for before they are read, of a block, for so many rows.
  void add_places(range keys, piece_places& to) const noexcept { of_->add_places(keys_, keys, to); }
  index_type ahead(index_type rows, index_type block) const noexcept {
    return of_->ahead(keys_, rows, block);
  }

 private:
  struct functions {
    void (*dot)(const void*, const place&, const void*, const panels&, range, T, piece_places&) noexcept;
    void (*add_places)(const void*, range, piece_places&) noexcept;
    index_type (*ahead)(const void*, index_type, index_type) noexcept;
  };
  template <class Scorer, class Operand>
  static constexpr functions functions_of{
      [](const void* scorer, const place& at, const void* operand, const panels& all, range keys, T scale,
         piece_places& next) noexcept {
        score_block(*static_cast<const Scorer*>(scorer), at, *static_cast<const Operand*>(operand), all, keys,
                    scale, next);
      },
      [](const void* operand, range keys, piece_places& to) noexcept {
        to.add(static_cast<const Operand*>(operand)->all, keys);
      },
      [](const void* operand, index_type rows, index_type block) noexcept {
        return tokens_ahead_of(static_cast<const Operand*>(operand)->all, rows, block);
      }};

  const void *scorer_, *keys_;
  const place* at_;
  const functions* of_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
