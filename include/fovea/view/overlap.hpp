// fovea/view/overlap.hpp - whether the elements of two views meet in memory, and whether those of one do.
//
// A view is a box of indices (i_1, ..., i_n), 0 <= i_k < count_k, at the addresses first + sum i_k step_k.
// Two of them share a byte where a sum over the steps of both falls into an interval: the difference of where
// they begin, give or take an element. Digit by digit, largest step first, what the smaller steps can still
// reach leaves few digits to try: one or two for views of the same strides. The answer is exact (interleaved
// views that share nothing are told apart), but for strides of two views that do not nest at all: after
// most_tries digits, half a millisecond, they count as sharing.
#pragma once

#include <fovea/view/sequences.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <span>

FOVEA_NAMESPACE_BEGIN
namespace overlap {

/// One index of a view: `count` of them, `step` apart (in bytes, or in elements).
struct axis {
  index_type count = 1, step = 0;
  index_type reach() const noexcept { return (count - 1) * step; }
};

/// A view as bytes: pieces of `size` bytes, the first of them at `first`.
struct pieces {
  std::uintptr_t first = 0;
  index_type size = 0;
  std::array<axis, 4> axes = {};
};

/// How far each index reaches, in elements, where all strides go up; else not `plain`, nor is an empty view
/// always. Few instructions: this is what most views cost that are looked at.
struct reaches {
  index_type batch, heads, tokens, dim;

  template <class E>
  explicit reaches(const tensor_view<E>& x) noexcept
      : batch((x.batch - 1) * x.batch_stride),
        heads((x.heads - 1) * x.head_stride),
        tokens((x.tokens - 1) * x.token_stride),
        dim((x.dim - 1) * x.dim_stride) {}
  bool plain() const noexcept { return (batch | heads | tokens | dim) >= 0; }
  index_type last() const noexcept { return batch + heads + tokens + dim; }
};

/// Whether one view ends before the other begins, as far as is known at once.
template <class A, class B>
FOVEA_INLINE bool plainly_apart(const tensor_view<A>& a, const tensor_view<B>& b) noexcept {
  const reaches of_a(a), of_b(b);
  const auto first_a = reinterpret_cast<std::uintptr_t>(a.data),
             first_b = reinterpret_cast<std::uintptr_t>(b.data);
  const auto bytes = [](index_type last, std::size_t size) {
    return (static_cast<std::uintptr_t>(last) + 1) * size;
  };
  return of_a.plain() && of_b.plain() &&
         (first_a + bytes(of_a.last(), sizeof(A)) <= first_b ||
          first_b + bytes(of_b.last(), sizeof(B)) <= first_a);
}

/// Whether no two elements meet, as far as is known at once: strides go up and nest, dim innermost.
template <class E>
bool plainly_nested(const tensor_view<E>& x) noexcept {
  const reaches r(x);
  const bool heads_outside = x.token_stride > r.dim && x.head_stride > r.dim + r.tokens;
  const bool tokens_outside = x.head_stride > r.dim && x.token_stride > r.dim + r.heads;
  return r.plain() && x.dim_stride > 0 && (heads_outside || tokens_outside) &&
         (x.batch == 1 || x.batch_stride > r.dim + r.tokens + r.heads);
}

template <class E>
pieces pieces_of(const tensor_view<E>& x) noexcept {
  constexpr auto size = static_cast<index_type>(sizeof(E));
  return {reinterpret_cast<std::uintptr_t>(x.data),
          size,
          {{{x.batch, x.batch_stride * size},
            {x.heads, x.head_stride * size},
            {x.tokens, x.token_stride * size},
            {x.dim, x.dim_stride * size}}}};
}

/// Whether sum i_k step_k, 0 <= i_k < count_k, step_k > 0, falls into an interval for some i.
class box_sums {
 public:
  static constexpr int most_tries = 1 << 16;

  void add(index_type count, index_type step) noexcept {
    if (count < 2) return;
    for (int k = 0; k < axes_; ++k)
      if (axis_[k].step == step) return static_cast<void>(axis_[k].count += count - 1);
    int k = axes_++;
    for (; k > 0 && axis_[k - 1].step < step; --k) axis_[k] = axis_[k - 1];
    axis_[k] = {count, step};
  }

  FOVEA_COLD bool meet(index_type low, index_type high) noexcept {
    // A step no longer than the interval leaves no gap: the interval is longer by what the axis reaches.
    for (; axes_ > 0 && axis_[axes_ - 1].step <= high - low + 1; --axes_) low -= axis_[axes_ - 1].reach();
    reach_[axes_] = divisor_[axes_] = 0;
    for (int k = axes_ - 1; k >= 0; --k) {
      reach_[k] = reach_[k + 1] + axis_[k].reach();
      divisor_[k] = std::gcd(divisor_[k + 1], axis_[k].step);
    }
    return meets_from(0, low, high);
  }

 private:
  FOVEA_COLD bool meets_from(int k, index_type low, index_type high) noexcept {
    if (high < 0 || low > reach_[k]) return false;
    if (k == axes_) return true;
    const index_type least = std::max<index_type>(low, 0), most = std::min(high, reach_[k]);
    if (most / divisor_[k] * divisor_[k] < least) return false;
    if (k + 1 == axes_ || --tries_ < 0) return true;
    const auto [count, step] = axis_[k];
    const index_type last = std::min(count - 1, high / step);
    for (index_type i = ceil_div(std::max<index_type>(low - reach_[k + 1], 0), step); i <= last; ++i)
      if (meets_from(k + 1, low - i * step, high - i * step)) return true;
    return false;
  }

  axis axis_[8] = {};
  index_type reach_[9] = {}, divisor_[9] = {};
  int axes_ = 0, tries_ = most_tries;
};

/// Whether two views share a byte. (This and folds are calls, and take views as bytes: a call of attention is
/// no longer for what most views are not asked.)
template <int = 0>
FOVEA_COLD static bool meet(const pieces& a, const pieces& b) noexcept {
  for (const pieces* x : {&a, &b})
    for (const axis& of : x->axes)
      if (of.count <= 0) return false;
  box_sums sums;
  auto distance = static_cast<index_type>(a.first - b.first);
  for (const axis& x : a.axes) {
    if (x.step < 0) distance += x.reach();
    if (x.step != 0) sums.add(x.count, std::abs(x.step));
  }
  for (const axis& x : b.axes) {
    if (x.step > 0) distance -= x.reach();
    if (x.step != 0) sums.add(x.count, std::abs(x.step));
  }
  return sums.meet(1 - a.size - distance, b.size - 1 - distance);
}

template <class A, class B>
FOVEA_COLD static bool meet(const tensor_view<A>& a, const tensor_view<B>& b) noexcept {
  return meet(pieces_of(a), pieces_of(b));
}

/// Whether two indices of a view have one address.
template <int = 0>
FOVEA_COLD static bool folds(const std::array<axis, 4>& axes) noexcept {
  for (const axis& a : axes)
    if (a.count <= 0) return false;
  // Two indices of one address: their largest axis of different digits is `a`, its digits 1 or more apart.
  for (std::size_t a = 0; a < axes.size(); ++a) {
    if (axes[a].count < 2) continue;
    box_sums sums;
    index_type target = -std::abs(axes[a].step);
    if (target == 0) return true;
    sums.add(axes[a].count - 1, -target);
    for (std::size_t j = a + 1; j < axes.size(); ++j) {
      if (axes[j].step != 0) sums.add(2 * axes[j].count - 1, std::abs(axes[j].step));
      target += std::abs(axes[j].reach());
    }
    if (sums.meet(target, target)) return true;
  }
  return false;
}

template <class E>
FOVEA_COLD static bool folds(const tensor_view<E>& x) noexcept {
  return folds(pieces_of(x).axes);
}

}  // namespace overlap

/// Whether some element of one view shares memory with one of the other. Costs nanoseconds where one begins
/// behind the end of the other.
template <class A, class B>
FOVEA_INLINE bool share_memory(const tensor_view<A>& a, const tensor_view<B>& b) noexcept {
  return !overlap::plainly_apart(a, b) && overlap::meet(a, b);
}

/// Whether two elements of a view lie at the same place.
template <class E>
bool folds(const tensor_view<E>& x) noexcept {
  return !overlap::plainly_nested(x) && overlap::folds(x);
}

/// A list as a view.
template <class E>
tensor_view<E> view_of_list(std::span<E> list) noexcept {
  return {list.data(), 1, 1, static_cast<index_type>(list.size()), 1, 0, 0, 1, 1};
}

template <class T>
tensor_view<const std::byte> view_of_list(const list_view<T>& list) noexcept {
  return {static_cast<const std::byte*>(list.data()),
          1,
          1,
          list.size(),
          list.element_bytes(),
          0,
          0,
          list.stride_bytes(),
          1};
}

/// Whether two views are one: the same elements at the same indices.
template <class A, class B>
bool same_view(const sequences<A>& a, const sequences<B>& b) noexcept {
  if (static_cast<const void*>(a.all.data) != static_cast<const void*>(b.all.data) || sizeof(A) != sizeof(B))
    return false;
  const auto same = [](index_type count, index_type of_b, index_type stride, index_type stride_of_b) {
    return count == of_b && (count < 2 || stride == stride_of_b);
  };
  if (!same(a.all.batch, b.all.batch, a.all.batch_stride, b.all.batch_stride) ||
      !same(a.all.heads, b.all.heads, a.all.head_stride, b.all.head_stride) ||
      !same(a.all.tokens, b.all.tokens, a.all.token_stride, b.all.token_stride) ||
      !same(a.all.dim, b.all.dim, a.all.dim_stride, b.all.dim_stride) || a.count != b.count)
    return false;
  if (!a.offsets || !b.offsets) return !a.offsets && !b.offsets;
  for (index_type i = 0; i < a.count; ++i)
    if (a.offset(i) != b.offset(i) || a.tokens(i) != b.tokens(i)) return false;
  return true;
}

FOVEA_NAMESPACE_END
