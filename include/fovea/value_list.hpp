// fovea/value_list.hpp - several things of different types, kept as one value: objects, or references to
// them. (A std::tuple whose every step is inlined.)
#pragma once

#include <fovea/config.hpp>

#include <type_traits>

FOVEA_NAMESPACE_BEGIN

template <class... X>
struct value_list;

template <>
struct value_list<> {
  constexpr void each(const auto&) const noexcept {}
  template <int I = 0>
  constexpr void each_numbered(const auto&) const noexcept {}
  constexpr value_list map(const auto&) const noexcept { return {}; }
};

template <class First, class List>
struct list_with;
template <class First, class... Rest>
struct list_with<First, value_list<Rest...>> {
  using type = value_list<First, Rest...>;
};

template <class First, class... Rest>
struct value_list<First, Rest...> {
  First first;
  value_list<Rest...> rest;

  /// f(x) for each x in order.
  constexpr void each(const auto& f) const {
    f(first);
    rest.each(f);
  }
  /// f(constant number, x) for each x in order, counted from 0.
  template <int I = 0>
  constexpr void each_numbered(const auto& f) const {
    f(std::integral_constant<int, I>{}, first);
    rest.template each_numbered<I + 1>(f);
  }
  /// The list of all f.operator()<X>(x), values or references as f returns them: X is what this list
  /// keeps, a type or a reference to it.
  constexpr auto map(const auto& f) const noexcept {
    using list = list_with<decltype(f.template operator()<First>(first)), decltype(rest.map(f))>;
    return typename list::type{f.template operator()<First>(first), rest.map(f)};
  }
};

template <class... B>
constexpr value_list<B...> concat(const value_list<>&, const value_list<B...>& b) noexcept {
  return b;
}
template <class X, class... A, class... B>
constexpr auto concat(const value_list<X, A...>& a, const value_list<B...>& b) noexcept {
  return value_list<X, A..., B...>{a.first, concat(a.rest, b)};
}

/// References to the x for which Wanted<x> holds, in order.
template <template <class> class Wanted>
constexpr value_list<> keep() noexcept {
  return {};
}
template <template <class> class Wanted, class X, class... Rest>
constexpr auto keep(const X& x, const Rest&... rest) noexcept {
  if constexpr (Wanted<X>::value)
    return typename list_with<const X&, decltype(keep<Wanted>(rest...))>::type{x, keep<Wanted>(rest...)};
  else
    return keep<Wanted>(rest...);
}

FOVEA_NAMESPACE_END
