// fovea/kernel/forward/lane_scorer.hpp - how logits are made of queries and keys, queries in lanes: by the
// dot product, or by a scorer of one's own (roles/concept.hpp).
#pragma once

#include <fovea/kernel/forward/lane_products.hpp>
#include <fovea/roles/concept.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The logits of W registers of queries by a user's scorer, and the largest of each query. (Half the rows of
/// a tile of dot products: a scorer's own terms take registers too.)
template <class Arch, int W, class T, class Scorer>
FOVEA_NOINLINE FOVEA_FLATTEN void score_keys(const Scorer& scorer, const T* q, index_type dim,
                                             const rows_of<T>& k, logit_block<Arch, T>& s) noexcept {
  using V = vec<Arch, T>;
  constexpr index_type n = lanes<Arch, T>;
  V largest[std::size_t{W}];
  for (V& x : largest) x = V(hidden<T>);
  in_tiles<geometry<Arch>::tile_rows / 2>(s.keys.size(), [&](auto rows, index_type j) FOVEA_INLINE_LAMBDA {
    tile<Arch, T, rows(), W> sum;
    sum.each([](auto, auto, V& x) FOVEA_INLINE_LAMBDA { x = V(T(0)); });
    for (index_type c = 0; c < dim; ++c) {
      V query[std::size_t{W}];
      FOVEA_UNROLL_ALL
      for (int w = 0; w < W; ++w) query[w] = V::load_aligned(q + (c * W + w) * n);
      const auto parameter = parameter_of<V>(scorer, c);
      sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA {
        x = add_channel(scorer, x, query[w], V(k.data[(j + r) * k.stride + c]), parameter);
      });
    }
    sum.each([&](auto r, auto w, V& x) FOVEA_INLINE_LAMBDA {
      const V logit = logit_of(scorer, x);
      logit.store_aligned(s.at(j + r, w));
      largest[w] = xsimd::max(largest[w], logit);
    });
  });
  FOVEA_UNROLL_ALL
  for (int w = 0; w < W; ++w) s.largest[w] = largest[w];
}

/// A reference to any of them.
template <class Arch, class T>
class scorer_ref {
 public:
  template <class Scorer>
  explicit scorer_ref(const Scorer& scorer) noexcept : scorer_(&scorer), dot_(&function_of<Scorer>) {}

  /// Fills s.s from Q^T, [dim][width], and keys; and s.largest where that is wanted.
  /// The scale of dot products is in Q already, or, where they are of pairs, yet to be applied.
  void dot(const T* q, index_type dim, const rows_of<T>& k, T scale, logit_block<Arch, T>& s,
           bool wants_largest, prefetch& lines) const noexcept {
    dot_(scorer_, q, dim, k, scale, s, wants_largest, lines);
  }

 private:
  template <class Scorer>
  static void function_of(const void* scorer, const T* q, index_type dim, const rows_of<T>& k, T scale,
                          logit_block<Arch, T>& s, bool wants_largest, prefetch& lines) noexcept {
    in_registers<Arch>(s.registers(), [&](auto w) {
      if constexpr (std::is_same_v<Scorer, dot_product>)
        dot_seen_keys<Arch, w()>(q, dim, k, T(1), s, wants_largest, lines);
      else if constexpr (std::is_same_v<Scorer, dot_product_of_pairs>)
        dot_seen_keys<Arch, w()>(reinterpret_cast<const bf16_pair*>(q), ceil_div(dim, index_type(2)),
                                 as_pairs(k), scale, s, wants_largest, lines);
      else
        with_chosen(*static_cast<const Scorer*>(scorer),
                    [&](const auto& chosen) { score_keys<Arch, w()>(chosen, q, dim, k, s); });
    });
  }

  const void* scorer_;
  void (*dot_)(const void*, const T*, index_type, const rows_of<T>&, T, logit_block<Arch, T>&, bool,
               prefetch&) noexcept;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
