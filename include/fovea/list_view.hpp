// fovea/list_view.hpp - lists of numbers where they lie: lengths, offsets, positions, slopes, of any type.
#pragma once

#include <fovea/index.hpp>
#include <fovea/lifetime.hpp>

#include <cstdint>
#include <initializer_list>
#include <string>

FOVEA_NAMESPACE_BEGIN

/// What a list may hold: integers where index_type is read (not bool), integers and real numbers of any
/// precision (float, double, 16-bit types) where double is.
template <class E, class T>
concept listed_as =
    !std::is_same_v<E, bool> &&
    (std::is_integral_v<E> || (std::is_same_v<T, double> && requires(const E& x) { static_cast<float>(x); }));

/// Number i of a list of E as a T.
template <class T, class E>
T number_at(const void* list, index_type i) noexcept {
  const E& x = static_cast<const E*>(list)[i];
  if constexpr (std::is_arithmetic_v<E>)
    return static_cast<T>(x);
  else
    return static_cast<T>(static_cast<float>(x));
}

/// A view of a list of numbers of whatever type, each read as a T: index_type or double. Made from a
/// std::vector, std::array, array, std::span, or an Eigen vector or row; copies nothing, and refuses
/// temporaries (lifetime.hpp). Costs a call through a pointer a number, so it is read a few times a block and
/// never a register.
template <class T>
class list_view {
  static_assert(std::is_same_v<T, index_type> || std::is_same_v<T, double>);

 public:
  constexpr list_view() noexcept = default;
  constexpr list_view(std::nullptr_t) noexcept {}
  template <class R>
    requires(!std::is_same_v<std::remove_cvref_t<R>, list_view>)
  list_view(R&& list) noexcept {
    using X = std::remove_cvref_t<R>;
    static_assert(outlives_call<R>,
                  "fovea: lengths, offsets, positions, slopes and logits are views; give a named list or a "
                  "span, not a temporary");
    if constexpr (list_with_traits<X>) {
      static_assert(list_traits<X>::is_vector, "fovea: a list is a vector, not a matrix");
      refer(list_traits<X>::data(list), list_traits<X>::size(list), list_traits<X>::stride(list));
    } else if constexpr (standard_list<X>) {
      refer(std::data(list), static_cast<index_type>(std::size(list)), 1);
    } else {
      static_assert(never<X>,
                    "fovea: a list of lengths, offsets, positions, slopes or logits is a vector, an array, a "
                    "span or an Eigen vector");
    }
  }
  template <class N>
    requires std::is_arithmetic_v<N>
  list_view(std::initializer_list<N>) noexcept {
    static_assert(never<N>,
                  "fovea: lengths, offsets, positions, slopes and logits are views; give a named list or a "
                  "span, not a temporary");
  }

  /// `size` numbers, `stride` elements apart.
  template <class E>
  list_view(const E* first, index_type size, index_type stride) noexcept {
    refer(first, size, stride);
  }

  /// Whether a list was given, be it empty.
  constexpr explicit operator bool() const noexcept { return read_ != nullptr; }
  constexpr index_type size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  T operator[](index_type i) const noexcept { return read_(first_, i * stride_); }
  /// Where its numbers lie: the first, and how many bytes each has and is apart from the one before.
  constexpr const void* data() const noexcept { return first_; }
  constexpr index_type element_bytes() const noexcept { return element_bytes_; }
  constexpr index_type stride_bytes() const noexcept { return stride_ * element_bytes_; }
  /// Whether its numbers are unsigned and as wide as index_type: one above the largest is read as a negative
  /// one, which nobody accepts.
  constexpr bool wraps() const noexcept { return wraps_; }

 private:
  template <class E>
  void refer(const E* first, index_type size, index_type stride) noexcept {
    static_assert(listed_as<E, T>,
                  "fovea: lengths, offsets and positions are integers of any size; slopes and logits are "
                  "integers or real numbers");
    if constexpr (listed_as<E, T>) {
      first_ = first, size_ = size, stride_ = stride, element_bytes_ = sizeof(E);
      read_ = number_at<T, E>;
      wraps_ = std::is_unsigned_v<E> && sizeof(E) >= sizeof(index_type);
    }
  }

  const void* first_ = nullptr;
  index_type size_ = 0, stride_ = 1, element_bytes_ = 0;
  T (*read_)(const void*, index_type) noexcept = nullptr;
  bool wraps_ = false;
};

template <class T>
inline constexpr bool is_view<list_view<T>> = true;

/// Number i of a list as errors say it: what it is there, not what it was read as.
FOVEA_COLD static inline std::string text_of(const list_view<index_type>& list, index_type i) {
  const index_type x = list[i];
  return list.wraps() && x < 0 ? std::to_string(static_cast<std::uint64_t>(x)) : std::to_string(x);
}

FOVEA_NAMESPACE_END
