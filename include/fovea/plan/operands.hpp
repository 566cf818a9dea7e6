// fovea/plan/operands.hpp - the operands of a call as kernels take them, and whether the result can be
// written.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/view/sequences.hpp>

FOVEA_NAMESPACE_BEGIN

template <class A, class B>
FOVEA_INLINE void check_same(const char* a, const char* what, A has, const char* b, B other) {
  if (has != other) reject(a, " has ", has, " ", what, " but ", b, " has ", other);
}

template <class X>
FOVEA_INLINE auto view_of(X& x, index_type heads, const char* name) {
  static_assert(viewable<X>,
                "fovea: q, k, v and o are Eigen matrices, tensor_views, tensors or ragged batches");
  static_assert(element<element_of<X>>,
                "fovea: elements are float, double, bf16 or fp16 (int8 in a cache alone)");
  return as_sequences(x, heads, name);
}

/// The keys of a cache; other keys, as they are.
template <class K>
FOVEA_INLINE decltype(auto) keys_of(const K& k) noexcept {
  if constexpr (key_value_cache<K>)
    return k.keys();
  else
    return (k);
}

/// To be read only.
template <class X>
FOVEA_INLINE const X& read_only(const X& x) noexcept {
  return x;
}

template <class E>
FOVEA_INLINE sequences<const E> read_only(const sequences<E>& x) noexcept {
  return {x.all, x.offsets, x.count};
}

/// As many tokens as there are keys, of no dimension.
template <class Keys>
struct without_columns : Keys {
  FOVEA_INLINE index_type dim() const noexcept { return 0; }
  FOVEA_INLINE auto head(index_type b, index_type h) const noexcept {
    auto narrow = Keys::head(b, h);
    narrow.cols = 0;
    return narrow;
  }
};

/// Whether `x` has as many sequences and tokens as `y`, and `dim` columns a head.
template <class X, class Y>
FOVEA_INLINE void check_like(const char* name, const X& x, const char* other, const Y& y, index_type dim) {
  check_same(name, "sequences", x.batches(), other, y.batches());
  for (index_type b = 0; b < y.batches(); ++b) check_same(name, "tokens", x.tokens(b), other, y.tokens(b));
  if (x.dim() != dim && y.batches() > 0) reject(name, " has ", x.dim(), " columns a head, not ", dim);
}

/// Whether `x` can be written: no element twice.
template <class E>
FOVEA_INLINE void check_writable(const char* name, const sequences<E>& x) {
  static_assert(!std::is_const_v<E>, "fovea: the result is written to; it can not be const");
  const bool some = x.all.dim > 0 && x.all.heads > 0 && x.max_tokens() > 0;
  const auto spread = [&](index_type size, index_type stride, const char* what) FOVEA_INLINE_LAMBDA {
    if (size > 1 && stride == 0 && some)
      reject(name, " has ", size, " ", what, " with a stride of 0: it can not be written");
  };
  spread(x.all.batch, x.offsets ? 1 : x.all.batch_stride, "batch entries"),
      spread(x.all.heads, x.all.head_stride, "heads");
  spread(x.all.tokens, x.all.token_stride, "tokens"), spread(x.all.dim, x.all.dim_stride, "columns");
}

/// Whether `x` can take a result: it can be written, with as many tokens and columns.
template <class E, class Y>
FOVEA_INLINE void check_result(const char* name, const sequences<E>& x, const char* other, const Y& y,
                               index_type dim) {
  check_like(name, x, other, y, dim);
  check_writable(name, x);
}

FOVEA_NAMESPACE_END
