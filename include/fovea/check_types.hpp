// fovea/check_types.hpp - whether the arguments of a call have types that it takes, in sentences that say
// what was meant.
#pragma once

#include <fovea/element/same_format.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/plan/wrong_arguments.hpp>

FOVEA_NAMESPACE_BEGIN

/// True, or an error that says which argument of attention<T>'s attend(q, k, v, mods...) is none.
template <class T, class Q, class K, class V, class... Mods>
consteval bool check_call() {
  if constexpr (check_operand<Q>() && check_operand<K>() && check_operand<V>()) {
    static_assert(same_format<T, element_of<Q>>, "fovea: attention<T>: q has elements of type T");
    return (same_format<T, element_of<Q>> && ... && check_modifier<Mods>());
  }
  return false;
}

/// True, or an error that says what a backward call takes instead.
template <class T, class Compute, class Q, class K, class V, class O, class L, class G>
consteval bool check_backward() {
  static_assert(check_operand<Q>() && check_operand<K>() && check_operand<V>() && check_operand<O>() &&
                check_operand<L>() && check_operand<G>());
  static_assert(std::is_same_v<element_of<L>, Compute>,
                "fovea: the LSE is float, or double where q, k or v is double");
  static_assert(same_format<T, element_of<Q>>, "fovea: attention<T>: q has elements of type T");
  using keys = decltype(read_only(view_of(std::declval<const K&>(), 1, "k")).head(0, 0));
  using values = decltype(read_only(view_of(std::declval<const V&>(), 1, "v")).head(0, 0));
  static_assert(
      std::is_same_v<keys, matrix_view<const element_of<K>>> &&
          std::is_same_v<values, matrix_view<const element_of<V>>>,
      "fovea: backward takes k and v as Eigen matrices, tensor_views, tensors or ragged batches: not a "
      "cache's, nor other heads that lie in pieces");
  return true;
}

FOVEA_NAMESPACE_END
