// fovea/view/sequences.hpp - what every kind of input becomes: sequences of tokens, each with its heads.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN

/// Element (b, h, t, c) lies at data[b * batch_stride + h * head_stride + t * token_stride + c * dim_stride].
/// Strides count elements; any are allowed for what is read, none may make two written elements meet.
template <class E>
struct tensor_view {
  E* data = nullptr;
  index_type batch = 0, heads = 0, tokens = 0, dim = 0;
  index_type batch_stride = 0, head_stride = 0, token_stride = 0, dim_stride = 1;

  E& operator()(index_type b, index_type h, index_type t, index_type c) const noexcept {
    return data[b * batch_stride + h * head_stride + t * token_stride + c * dim_stride];
  }
  operator tensor_view<const E>() const noexcept
    requires(!std::is_const_v<E>)
  {
    return {data, batch, heads, tokens, dim, batch_stride, head_stride, token_stride, dim_stride};
  }
};

template <class E>
inline constexpr bool is_view<tensor_view<E>> = true;

/// Tokens sorted by remainder: sequence b as `count` ones, number r of which holds every step-th token from
/// (r + shift of b) % step on; `shift` is asked about `call`, and 0 where it is null.
struct token_classes {
  index_type step = 1, count = 1;
  const void* call = nullptr;
  index_type (*shift)(const void* call, index_type b) noexcept = nullptr;

  index_type shift_of(index_type b) const noexcept { return shift == nullptr ? 0 : shift(call, b); }
  index_type first(index_type b) const noexcept { return (b % count + shift_of(b / count)) % step; }
};

/// Sequences of equal length (offsets == nullptr: batch entries of `all`), or of different length, packed one
/// after another along the tokens of `all` (sequence b: tokens(b) of them from offset(b) on, up to
/// offset(b + 1) where no lengths say less). The lists are those of the view that it was made from, which
/// outlives it. With classes each of these is several sequences (in_classes).
template <class E>
struct sequences {
  tensor_view<E> all;
  const list_view<index_type>* offsets = nullptr;
  index_type count = offsets ? 0 : all.batch;
  const list_view<index_type>* lengths = nullptr;
  const token_classes* classes = nullptr;  // outlive it as well

  static constexpr bool in_cache = false;

  index_type batches() const noexcept { return count; }
  index_type heads() const noexcept { return all.heads; }
  index_type dim() const noexcept { return all.dim; }
  index_type offset(index_type b) const noexcept { return (*offsets)[b]; }
  index_type tokens(index_type b) const noexcept {
    return classes == nullptr ? tokens_of(b) : head_of_class(b, 0).rows;
  }
  index_type max_tokens() const noexcept {
    index_type most = 0;
    for (index_type b = 0; b < count; ++b) most = std::max(most, tokens(b));
    return most;
  }
  /// The rows from the first sequence to the last, of packed ones; all, of others.
  tensor_view<E> sequence_rows() const noexcept {
    tensor_view<E> rows = all;
    if (!offsets) return rows;
    rows.tokens = 0;
    if (count == 0) return rows;
    rows.data += offset(0) * all.token_stride;
    rows.tokens = offset(count - 1) + tokens(count - 1) - offset(0);
    return rows;
  }
  matrix_view<E> head(index_type b, index_type h) const noexcept {
    return classes == nullptr ? head_of(b, h) : head_of_class(b, h);
  }

 private:
  index_type tokens_of(index_type b) const noexcept {
    return !offsets ? all.tokens : lengths ? (*lengths)[b] : offset(b + 1) - offset(b);
  }
  matrix_view<E> head_of(index_type b, index_type h) const noexcept {
    E* first =
        all.data + h * all.head_stride + (offsets ? offset(b) * all.token_stride : b * all.batch_stride);
    return {first, tokens_of(b), all.dim, all.token_stride, all.dim_stride};
  }
  /// Out of the way of calls without classes: 8 heads of one query and 128 keys took 4 % more time inlined.
  FOVEA_COLD matrix_view<E> head_of_class(index_type b, index_type h) const noexcept {
    matrix_view<E> head = head_of(b / classes->count, h);
    const index_type first = classes->first(b), others = head.rows - first;
    head.rows = others > 0 ? ceil_div(others, classes->step) : 0;
    if (others > 0) head.data = head.at(first);
    head.row_stride *= classes->step;
    return head;
  }
};

/// The sequences of x, sorted by classes, which are referred to.
template <class E>
sequences<E> in_classes(sequences<E> x, const token_classes& classes) noexcept {
  x.count *= classes.count, x.classes = &classes;
  return x;
}

/// How a type X is seen as sequences; a specialisation has
///   element                     the element type, const where it can only be read
///   view(x, heads, name)        -> sequences<element>, checked; errors speak of `name`;
///                               any_heads: as many as x has
///   make_like<T>(x, heads, dim) an owner of T for the same tokens
/// What view() returns of keys and values may be a type of its own with heads(), dim(), batches(), tokens(b),
/// max_tokens(), in_cache and head(b, h): a matrix_view, or what reads like one in pieces (view/matrix.hpp
/// says how long those live; kv_cache/cached.hpp is one).
template <class X>
struct view_traits;

/// The number of heads is whatever the view says (one, for a matrix).
inline constexpr index_type any_heads = -1;

template <class X>
concept viewable = requires { typename view_traits<std::remove_cvref_t<X>>::element; };

template <viewable X>
using element_of = std::remove_const_t<typename view_traits<std::remove_cvref_t<X>>::element>;

template <viewable X>
auto as_sequences(X& x, index_type heads, const char* name) {
  return view_traits<std::remove_cv_t<X>>::view(x, heads, name);
}

/// Whether an X tells its number of heads: a tensor does, a matrix does not.
template <class X>
inline constexpr bool tells_heads = true;
template <class X>
  requires requires { view_traits<std::remove_cv_t<X>>::tells_heads; }
inline constexpr bool tells_heads<X> = view_traits<std::remove_cv_t<X>>::tells_heads;

/// What a call takes in place of k and v: a cache, or a batch of caches. Both of its sides are viewable.
template <class X>
concept key_value_cache = requires(const std::remove_cvref_t<X>& x) {
  x.keys();
  x.values();
};

template <class T, viewable X>
auto make_like(const X& x, index_type heads, index_type dim) {
  return view_traits<X>::template make_like<T>(x, heads, dim);
}

/// `like`, which make_like gave for x, seen with the sequences of x: itself, but for packed ones.
template <class X, class Y>
Y& shaped_like(const X&, Y& like) noexcept {
  return like;
}

/// To be read only.
template <class X>
const X& read_only(const X& x) noexcept {
  return x;
}

template <class E>
sequences<const E> read_only(const sequences<E>& x) noexcept {
  return {x.all, x.offsets, x.count, x.lengths, x.classes};
}

FOVEA_NAMESPACE_END
