// fovea/kernel/backward/gradient_rules.hpp - scores, masks and dropout in the backward pass: what they make
// of the products, asked through pointers once a group of keys and block of rows.
#pragma once

#include <fovea/kernel/backward/key_group.hpp>
#include <fovea/kernel/rules/dropout.hpp>
#include <fovea/kernel/softmax.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// How a call's logits became weights.
template <class Arch, class Gradients, class T = typename Gradients::compute>
using weights_of = std::conditional_t<Gradients::normalises, softmax_state<Arch, T, Gradients::units>,
                                      sigmoid_weights<Arch, T, Gradients::units>>;

/// What becomes of a register of cells whose products are S and dO V^T.
template <class State, class Rules, class Dropout, int From = 0>
struct cell_gradients {
  Rules rules;
  Dropout dropout;

  /// Whether P and dS are those of the products alone; whether a weight may be 0 whatever the mask says.
  bool plain() const noexcept {
    return State::normalises && State::units == unit_of::log2 && !Rules::natural && !is_active(dropout);
  }
  bool hides() const noexcept { return rules.may_hide() || is_active(dropout); }

  /// {the factor of V, dS times the slopes of the scores from number From on}: both 0 where hidden, by the
  /// mask as it is within the block around.
  template <class Cells, class Mask, class V>
  FOVEA_INLINE std::pair<V, V> differentiate(const Cells& at, const Mask& mask, coverage covered, const V& s,
                                             const V& dp, const V& lse, const V& delta,
                                             const V& least) const noexcept {
    using T = typename V::value_type;
    auto [x, slope] = rules.template score_and_slope<From>(s, at);
    if (covered == coverage::partial) x = xsimd::select(at.truth(visible_at(mask, at)), x, V(hidden<T>));
    const auto unseen = x == V(hidden<T>);
    V weight;
    if constexpr (State::normalises) {
      weight = State::exp(x - lse, least);
    } else {
      const auto [shown, rest] = State::of(x - lse, least);  // d sigmoid = sigmoid (1 - sigmoid)
      weight = shown, slope = slope * rest;
    }
    weight = xsimd::select(unseen, V(T(0)), weight);
    V p = weight, d_weight = dp;
    if constexpr (Dropout::drops) {
      if (is_active(dropout)) {
        const V factor = drop_factor(dropout, at);
        p = dropped(dropout, at, p, factor);
        d_weight = xsimd::select(factor == V(T(0)), V(T(0)), dp * factor);
      }
    }
    return {p, xsimd::select(unseen, V(T(0)), weight * (d_weight - delta) * slope)};
  }
};

template <class State, int From = 0, class Rules, class Dropout>
cell_gradients<State, Rules, Dropout, From> gradients_of_cells(const Rules& rules,
                                                               const Dropout& dropout) noexcept {
  return {rules, dropout};
}

/// A reference to cell_gradients of any type, bound to a head.
template <class Arch, class T>
class gradient_rules_ref {
 public:
  template <class Cells>
  explicit gradient_rules_ref(const Cells& bound) noexcept : bound_(&bound), of_(&functions_of<Cells>) {}

  /// Whether nothing but a mask comes between a product and its weight; whether something else than the mask
  /// makes a weight 0.
  bool plain() const noexcept { return of_->plain(bound_); }
  bool hides() const noexcept { return of_->hides(bound_); }

  /// See mask/concept.hpp.
  range seen(range rows, range keys) const noexcept { return of_->seen(bound_, rows, keys); }
  /// Where the first block of at most so many of these rows ends.
  index_type end_of_rows(range rows, index_type most) const noexcept {
    return of_->end_of_rows(bound_, rows, most);
  }
  bool ask(key_group<Arch, T>& group, range rows) const noexcept { return of_->ask(bound_, group, rows); }
  /// See key_group::apply_rules.
  void apply(const key_group<Arch, T>& group, const gradient_rows<T>& rows, T v_scale,
             bool finite) const noexcept {
    of_->apply(bound_, group, rows, v_scale, finite);
  }

 private:
  struct functions {
    bool (*plain)(const void*) noexcept;
    bool (*hides)(const void*) noexcept;
    range (*seen)(const void*, range, range) noexcept;
    index_type (*end_of_rows)(const void*, range, index_type) noexcept;
    bool (*ask)(const void*, key_group<Arch, T>&, range) noexcept;
    void (*apply)(const void*, const key_group<Arch, T>&, const gradient_rows<T>&, T, bool) noexcept;
  };
  template <class Cells>
  static constexpr functions functions_of{
      [](const void* cells) noexcept { return static_cast<const Cells*>(cells)->plain(); },
      [](const void* cells) noexcept { return static_cast<const Cells*>(cells)->hides(); },
      [](const void* cells, range rows, range keys) noexcept {
        return seen_of(static_cast<const Cells*>(cells)->rules.mask, rows, keys);
      },
      [](const void* cells, range rows, index_type most) noexcept {
        using shape = gradient_shape<Arch, T>;
        const auto& mask = static_cast<const Cells*>(cells)->rules.mask;
        if constexpr (tells_edges<decltype(mask)>)
          if (has_edges(mask))
            return end_of_part(rows, shape::fewest_rows, most, shape::tile_rows,
                               [&](index_type row) { return mask.row_edge(row); });
        return std::min(rows.first + most, rows.last);
      },
      [](const void* cells, key_group<Arch, T>& group, range rows) noexcept {
        return group.ask(static_cast<const Cells*>(cells)->rules.mask, rows);
      },
      [](const void* cells, const key_group<Arch, T>& group, const gradient_rows<T>& rows, T v_scale,
         bool finite) noexcept {
        group.apply_rules(rows, v_scale, *static_cast<const Cells*>(cells), finite);
      }};

  const void* bound_;
  const functions* of_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
