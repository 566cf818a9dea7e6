// fovea/lifetime.hpp - what a call refers to outlives it: one rule for every argument that is kept as a view.
#pragma once

#include <fovea/config.hpp>

#include <span>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN

/// Masks, scores, options and batches keep views of what they are given, and copy nothing. So they take named
/// objects and views, and refuse temporaries, which would be gone when a call reads them: with a
/// static_assert that says so, whether or not this one temporary would have lived long enough. What is an
/// argument of a call itself (q, k, v, what a cache appends or keeps) may be a temporary.

/// Types that own nothing, so that a copy, const or not, is as good as the view itself: views of the library
/// and of the standard library (an Eigen::Map is not: a const one is of const elements). Specialise it for a
/// view of your own.
template <class X>
inline constexpr bool is_view = std::ranges::enable_borrowed_range<X>;

/// An argument X&& that still exists when the call that it is made for reads it: a named object, or a view.
template <class X>
inline constexpr bool outlives_call = std::is_lvalue_reference_v<X> || is_view<std::remove_cv_t<X>>;

/// How such an argument of type X (const or not) is kept: a view by value, all else by reference.
template <class X>
using stored = std::conditional_t<is_view<std::remove_cv_t<X>>, std::remove_cv_t<X>, X&>;

/// False, but not before X is known: for the static_assert of an overload that refuses.
template <class X>
inline constexpr bool never = false;

/// How a vector that is no contiguous range of the standard library is read as a list: data(x), size(x), and
/// stride(x) elements from one to the next; `is_vector`: it has one dimension; `contiguous`: the stride is 1.
template <class X>
struct list_traits;

template <class X>
concept list_with_traits = requires(const X& x) { list_traits<X>::data(x); };

template <class X>
concept standard_list = requires(const X& x) {
  std::data(x);
  std::size(x);
  requires std::is_pointer_v<decltype(std::data(x))>;
} && !list_with_traits<X>;

/// A std::span that refuses temporaries: memory of the caller's that is written or read during calls. It
/// takes vectors, arrays, spans and Eigen vectors of E.
template <class E>
class borrowed_span : public std::span<E> {
 public:
  constexpr borrowed_span() noexcept = default;
  constexpr borrowed_span(E* first, std::size_t count) noexcept : std::span<E>(first, count) {}
  template <class R>
    requires(!std::is_same_v<std::remove_cvref_t<R>, borrowed_span>)
  constexpr borrowed_span(R&& memory) noexcept : std::span<E>(span_of(memory)) {
    static_assert(outlives_call<R>,
                  "fovea: workspaces, files and gradients are views; give a named vector or a span, not a "
                  "temporary");
  }

 private:
  template <class R>
  static constexpr std::span<E> span_of(R& memory) noexcept {
    using X = std::remove_cv_t<R>;
    if constexpr (std::is_constructible_v<std::span<E>, R&>) {
      return std::span<E>(memory);
    } else if constexpr (list_with_traits<X>) {
      static_assert(list_traits<X>::is_vector && list_traits<X>::contiguous,
                    "fovea: a vector that is written to has its elements side by side");
      static_assert(std::is_convertible_v<decltype(memory.data()), E*>,
                    "fovea: gradients of slopes and of sinks are written as float, workspaces are std::byte");
      return {memory.data(), static_cast<std::size_t>(list_traits<X>::size(memory))};
    } else {
      static_assert(never<R>,
                    "fovea: gradients of slopes and of sinks are written as float, workspaces are std::byte: "
                    "give a vector, array or span of these");
    }
  }
};

template <class E>
inline constexpr bool is_view<borrowed_span<E>> = true;

FOVEA_NAMESPACE_END
