// fovea/view/mdspan.hpp - std::mdspan, Kokkos' and others of their kind, of rank 2 or 4.
#pragma once

#include <fovea/view/strided.hpp>

#include <utility>

FOVEA_NAMESPACE_BEGIN

/// What has the members of std::mdspan that say where its elements lie. No header of it is needed.
template <class X>
concept mdspan_like = requires(const X& x) {
  typename X::element_type;
  { X::rank() } -> std::convertible_to<std::size_t>;
  x.extents().extent(0);
  x.stride(0);
  x.data_handle();
};

template <mdspan_like X>
inline constexpr bool is_view<X> = true;

/// An mdspan of rank 2 is one sequence, tokens x (heads * dim), as a matrix is; of rank 4, batch x heads x
/// tokens x dim. Any extents and any strided layout: std::layout_right is read in place, so is whatever has a
/// stride of 1 in its last index. Elements are read and written through the pointer data_handle(), so an
/// accessor that computes them does not compile. A layout that has no strides (is_strided() is false) throws
/// std::invalid_argument. What attend(q, k, v) returns for an mdspan q is a tensor, of batch 1 where q has
/// rank 2; .into writes to an mdspan.
template <mdspan_like X>
struct view_traits<X> {
  using element = typename X::element_type;
  static constexpr std::size_t rank = X::rank();
  static constexpr bool tells_heads = rank == 4;
  static_assert(rank_of_view<rank>,
                "fovea: an mdspan has rank 2, tokens x (heads * dim), or 4, batch x heads x tokens x dim");

  static sequences<element> view(const X& x, index_type heads, const char* name) {
    using pointer = std::remove_cvref_t<decltype(x.data_handle())>;
    static_assert(std::is_same_v<pointer, element*>,
                  "fovea: the elements of an mdspan lie in memory: its data_handle() is a pointer to them");
    if constexpr (requires { typename X::reference; })
      static_assert(std::is_same_v<typename X::reference, element&>,
                    "fovea: the elements of an mdspan lie in memory: its accessor returns references");
    if constexpr (requires { x.is_strided(); })
      if (!x.is_strided()) reject(name, " is an mdspan of rank ", rank, " whose layout has no strides");
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      using numbers = std::array<index_type, rank>;
      return strided_sequences(x.data_handle(), numbers{static_cast<index_type>(x.extents().extent(I))...},
                               numbers{static_cast<index_type>(x.stride(I))...}, heads, name);
    }(std::make_index_sequence<rank>());
  }

  template <class T>
  static tensor<T> make_like(const X& x, index_type heads, index_type dim) {
    const auto size = [&](std::size_t i) { return static_cast<index_type>(x.extents().extent(i)); };
    if constexpr (rank == 4)
      return tensor<T>(size(0), heads, size(2), dim);
    else
      return tensor<T>(1, heads, size(0), dim);
  }
};

FOVEA_NAMESPACE_END
