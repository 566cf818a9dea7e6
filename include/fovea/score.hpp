// fovea/score.hpp - what happens to the logits s = scale * Q K^T before the softmax.
//
//   softcap{cap}                   s -> cap * tanh(s / cap), always first
//   alibi{slopes}                  s -> s - slopes[h] * |q - k|
//   bias(m)                        s -> s + m(q, k); broadcasts to batch x heads x Lq x Lk; -inf hides
//   bias_table(m, slot)            s -> s + m(slot(q, k), h), a small table through an index of one's own
//   t5_bias(m), swin_bias(m, size) the same through T5's buckets, through Swin's offsets in a window
//   score(f)                       s -> f(s, q, k) or f(s, b, h, q, k), any function, written once for
//                                  scalars and SIMD batches
//   sink{logits}                   exp(logits[h]) joins the denominator
//   off_by_one                     1 joins it
//   dropout{rate, seed}            after the softmax: weights are left out at random, for training
//
// A score of your own is a struct with `stage` and apply(s, q, k) (see score/concept.hpp).
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/score/alibi.hpp>
#include <fovea/score/bias.hpp>
#include <fovea/score/bias_table.hpp>
#include <fovea/score/dropout.hpp>
#include <fovea/score/function.hpp>
#include <fovea/score/sink.hpp>
#include <fovea/score/softcap.hpp>
#include <fovea/score/swin_bias.hpp>
#include <fovea/score/t5_bias.hpp>
#include <fovea/view.hpp>

FOVEA_NAMESPACE_BEGIN

/// Real numbers of any precision; not the integers of caches.
template <class E>
inline constexpr bool is_bias_element = element<E> && !std::is_integral_v<E>;

/// An additive mask in memory: an Eigen matrix Lq x Lk, or a tensor_view whose sizes are each 1 or the full
/// batch, heads, Lq, Lk; any floating-point element. -inf hides a cell. Elements are read during the call, as
/// float where logits are: doubles beyond its range are infinite then, and -1e308 hides.
template <viewable M>
auto bias(M&& m) {
  static_assert(outlives_call<M>, "fovea: bias keeps a view; give it a named matrix, not a temporary");
  static_assert(
      is_bias_element<element_of<M>>,
      "fovea: bias is of real numbers, which are added to the logits; a mask of bool or integers, true "
      "keeps, is boolean_mask(m)");
  return bias_matrix<broadcast<const element_of<M>>>{broadcast_of(m, "bias")};
}

/// The same, to be learnt: a backward call writes the gradient of each element to `gradient`, of the same
/// sizes as m, summed over batch entries, heads, queries or keys where a size of m is 1.
template <viewable M, viewable G>
auto bias(M&& m, G&& gradient) {
  static_assert(outlives_call<M> && outlives_call<G>,
                "fovea: bias keeps views; give it named matrices, not temporaries");
  static_assert(is_bias_element<element_of<M>> && is_bias_element<element_of<G>>,
                "fovea: bias and its gradient are of real numbers");
  const auto to = as_sequences(gradient, any_heads, "gradient").all;
  using table = broadcast<const element_of<M>>;
  return learnt_bias_matrix<table, std::remove_const_t<decltype(to)>>{{broadcast_of(m, "bias")}, to};
}

template <class M>
concept slot_matrix = viewable<M> && is_bias_element<element_of<M>>;

/// Slots x heads, as a view: of one head of one sequence.
template <class M>
auto slots_view(M& m, const char* name) {
  const auto all = as_sequences(m, any_heads, name).all;
  if (all.batch != 1 || all.heads != 1)
    reject(name, " is ", all.batch, " x ", all.heads, " matrices, not one of slots x heads");
  if (all.tokens < 1 || all.tokens > most_positions || all.dim < 1)
    reject(name, " has ", all.tokens, " rows (slots) and ", all.dim, " columns (heads), not 1 or more each");
  return tensor_view(all);
}
using no_slots_view = tensor_view<float>;
template <class G>
concept slot_gradient =
    outlives_call<G> && requires(G& gradient) { *slots_view(gradient, "").data = element_of<G>(); };

/// The numbers of a table, which are finite.
template <class View>
struct slot_numbers {
  using number = std::conditional_t<sizeof(*View::data) == 8, double, float>;
  View table;
  double largest = 0;

  slot_numbers(const View& view, const char* name) : table(view) {
    for (index_type slot = 0; slot < table.tokens; ++slot)
      for (index_type head = 0; head < table.dim; ++head) {
        const auto x = static_cast<double>((*this)(slot, head));
        if (!is_finite(x)) reject(name, "'s table(", slot, ", ", head, ") is ", x, ", not a finite number");
        largest = std::max(largest, std::abs(x));
      }
  }
  number operator()(index_type slot, index_type head) const noexcept {
    return load_element<number>(table.data[slot * table.token_stride + head * table.dim_stride]);
  }
  template <class Gradient>
  learnt_slots<Gradient> learnt(const Gradient& to) const noexcept {
    return {table.tokens, table.dim, largest, to};
  }
};

template <class F, class View, class Gradient>
auto bias_table_of(const View& m, const Gradient& to, F slot) {
  const slot_numbers<View> x(m, "bias_table");
  return bias_table_score<typename slot_numbers<View>::number, Gradient, F>{
      x.learnt(to), {m.tokens, m.dim, differences, x}, std::move(slot)};
}

/// s_ij -> s_ij + m(slot(i, j), h): a small table of slots x query heads (one column: for all heads) through
/// an index of one's own. `slot` is a function of (q, k), or of (b, h, q, k) with the sequence and the query
/// head as two index_type. It is written once for integers and for SIMD batches of integers (+ - *, min, max,
/// abs, comparisons, select), or for index_type alone: then it is asked a cell at a time, which takes longer
/// (8 x 1,024 x 64, Zen 5, AVX-512: 1.31 of the time without a table for a clipped distance, 1.35 for a look
/// into an array, 1.6 with two divisions; in registers 1.14). Where it gives no row of m nothing is added. It
/// is asked about positions inside alone, by several threads at once where the executor has them, and must
/// not throw.
///
///   const auto clipped = [](auto q, auto k) {                                       // 17 slots
///     using position = decltype(q);
///     return min(max(k - q, position(-8)), position(8)) + position(8);
///   };
///   attend(q, k, v, fovea::bias_table(m, clipped));
///
/// m is of real numbers of any type, all finite; the object keeps a copy of them, side by side: make it again
/// where they change. It needs no memory of Lq x Lk, and least time where the slots of neighbours are
/// neighbours, or the same. Throws std::invalid_argument where m is empty or not finite and, in a call, where
/// it has other columns than 1 or the query heads.
template <slot_matrix M, class F>
auto bias_table(const M& m, F slot) {
  return bias_table_of(slots_view(m, "bias_table's table"), no_slots_view(), std::move(slot));
}
/// The same, to be learnt: a backward call writes the gradient of each number of m to `gradient`, of the same
/// sizes: the sum of dS over the cells of its slot (and over heads, where m has one column), made in double,
/// with the same bits for any number of workers, in O(slots heads) memory. Logits are made once more for it.
template <slot_matrix M, slot_matrix G, class F>
auto bias_table(const M& m, G&& gradient, F slot) {
  static_assert(slot_gradient<G>,
                "fovea: bias_table writes its gradient to a named matrix that is not const");
  return bias_table_of(slots_view(m, "bias_table's table"), slots_view(gradient, "bias_table's gradient"),
                       std::move(slot));
}

template <class View, class Gradient>
auto t5_bias_of(const View& m, const Gradient& to, const t5_options& options) {
  const slot_numbers<View> x(m, "t5_bias");
  t5_buckets buckets(m.tokens, options);
  const index_type reach = buckets.reach();
  using number = typename slot_numbers<View>::number;
  head_numbers<number> numbers(2 * reach + 1, m.dim, 2 * differences,
                               [&](index_type i, index_type head) { return x(buckets[i - reach], head); });
  return t5_score<number, Gradient>{x.learnt(to), std::move(buckets), options.offset, std::move(numbers)};
}

/// s_ij -> s_ij + m(bucket(j - i), h), the relative positions of T5: m is buckets x query heads (one column:
/// for all heads), the buckets are as published (t5_buckets). T5 itself has the scale 1. (Raffel et al.,
/// "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", arXiv:1910.10683,
/// section 2.1.) The object keeps a number for each distance up to max_distance, made from m: make it again
/// where that changes.
///
/// Throws std::invalid_argument where m is not finite, has fewer than 2 buckets a direction or an odd number
/// of them for two, or where max_distance is not above the distances that have a bucket each or above 2^20;
/// in a call, where m has other columns than 1 or the query heads.
template <slot_matrix M>
auto t5_bias(const M& m, const t5_options& options = {}) {
  return t5_bias_of(slots_view(m, "t5_bias's table"), no_slots_view(), options);
}
/// The same, to be learnt: see bias_table.
template <slot_matrix M, slot_matrix G>
auto t5_bias(const M& m, G&& gradient, const t5_options& options = {}) {
  static_assert(slot_gradient<G>, "fovea: t5_bias writes its gradient to a named matrix that is not const");
  return t5_bias_of(slots_view(m, "t5_bias's table"), slots_view(gradient, "t5_bias's gradient"), options);
}

template <class View, class Gradient>
auto swin_bias_of(const View& m, const Gradient& to, const window_size& window) {
  const auto [height, width] = window;
  constexpr index_type most = index_type(1) << 20;
  if (height < 1 || width < 1 || height > most / width)
    reject("swin_bias's window is ", height, " x ", width, ", not of 1 to ", most, " tokens");
  if (m.tokens != (2 * height - 1) * (2 * width - 1))
    reject("swin_bias's table has ", m.tokens, " rows, not the ", (2 * height - 1) * (2 * width - 1),
           " offsets of a window of ", height, " x ", width);
  const slot_numbers<View> x(m, "swin_bias");
  return swin_score<typename slot_numbers<View>::number, Gradient>{
      x.learnt(to), window, window_places(window), {m.tokens, m.dim, width + differences, x}};
}

/// s_ij -> s_ij + m(slot of the offset (y_i - y_j, x_i - x_j), h) for the tokens y width + x of a window of a
/// picture: m is (2 height - 1)(2 width - 1) x query heads (one column: for all heads), row
/// (y + height - 1)(2 width - 1) + x + width - 1 that of offset (y, x). Sequences are windows. (Liu et al.,
/// "Swin Transformer", arXiv:2103.14030, section 3.2.) The object keeps a copy of m: make it again where that
/// changes.
///
/// Throws std::invalid_argument where the window has no token or more than 2^20, m has other rows or is not
/// finite; in a call, where sequences have other sizes, or m other columns than 1 or the query heads.
template <slot_matrix M>
auto swin_bias(const M& m, const window_size& window) {
  return swin_bias_of(slots_view(m, "swin_bias's table"), no_slots_view(), window);
}
/// The same, to be learnt: see bias_table.
template <slot_matrix M, slot_matrix G>
auto swin_bias(const M& m, G&& gradient, const window_size& window) {
  static_assert(slot_gradient<G>, "fovea: swin_bias writes its gradient to a named matrix that is not const");
  return swin_bias_of(slots_view(m, "swin_bias's table"), slots_view(gradient, "swin_bias's gradient"),
                      window);
}

FOVEA_NAMESPACE_END
