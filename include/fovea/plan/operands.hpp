// fovea/plan/operands.hpp - the operands of a call as kernels take them, and whether the result can be
// written.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/view/overlap.hpp>

FOVEA_NAMESPACE_BEGIN

template <class A, class B>
void check_same(const char* a, const char* what, A has, const char* b, B other) {
  if (has != other) reject(a, " has ", has, " ", what, " but ", b, " has ", other);
}

template <class X>
auto view_of(X& x, index_type heads, const char* name) {
  static_assert(viewable<X>,
                "fovea: q, k, v and o are Eigen matrices, tensor_views, tensors or ragged batches");
  static_assert(element<element_of<X>>,
                "fovea: elements are float, double, bf16 or fp16 (int8 in a cache alone)");
  return as_sequences(x, heads, name);
}

/// The keys of a cache; other keys, as they are.
template <class K>
decltype(auto) keys_of(const K& k) noexcept {
  if constexpr (key_value_cache<K>)
    return k.keys();
  else
    return (k);
}

/// As many tokens as there are keys, of no dimension.
template <class Keys>
struct without_columns : Keys {
  index_type dim() const noexcept { return 0; }
  auto head(index_type b, index_type h) const noexcept {
    auto narrow = Keys::head(b, h);
    narrow.cols = 0;
    return narrow;
  }
};

/// Whether every size that a plan multiplies can be counted: a job's rows, blocks and scratch are below a
/// thousand rows and columns more than the call has. (Views of large sizes need no memory: strides of 0.)
template <int = 0>
FOVEA_COLD static void check_countable(index_type batches, index_type heads, index_type queries,
                                       index_type keys, index_type dim, index_type value_dim) {
  constexpr index_type more = 1024, bytes = 64;
  if (countable(batches, heads, std::max(queries, keys), std::max(dim, value_dim)) &&
      countable(batches, heads, std::max(queries, keys) + more, std::max(dim, value_dim) + more, bytes))
    return;
  reject_length("a call of ", batches, " x ", heads, " heads, ", queries, " queries, ", keys, " keys, dim ",
                dim, " and value dim ", value_dim, " needs more than can be counted");
}

// What every call checks is inlined: a call of 4 heads of 16 x 16 cells takes 3 % less time with that.

/// Whether `x` has as many sequences and tokens as `y`, and `dim` columns a head.
template <class X, class Y>
FOVEA_INLINE void check_like(const char* name, const X& x, const char* other, const Y& y, index_type dim) {
  check_same(name, "sequences", x.batches(), other, y.batches());
  for (index_type b = 0; b < y.batches(); ++b) check_same(name, "tokens", x.tokens(b), other, y.tokens(b));
  if (x.dim() != dim && y.batches() > 0) reject(name, " has ", x.dim(), " columns a head, not ", dim);
}

template <class E>
[[noreturn]] FOVEA_COLD static void reject_folded(const char* name, const tensor_view<E>& x) {
  const auto spread = [&](index_type size, index_type stride, const char* what) {
    if (size > 1 && stride == 0)
      reject(name, " has ", size, " ", what, " with a stride of 0: it can not be written");
  };
  spread(x.batch, x.batch_stride, "batch entries"), spread(x.heads, x.head_stride, "heads");
  spread(x.tokens, x.token_stride, "tokens"), spread(x.dim, x.dim_stride, "columns");
  reject(name, " has ", x.batch, " x ", x.heads, " x ", x.tokens, " x ", x.dim, " elements with strides of ",
         x.batch_stride, ", ", x.head_stride, ", ", x.token_stride, " and ", x.dim_stride,
         ", so that some lie at the same place: it can not be written");
}

/// Whether `x` can be written: no two elements at one place.
template <class E>
FOVEA_INLINE void check_writable(const char* name, const tensor_view<E>& x) {
  static_assert(!std::is_const_v<E>, "fovea: the result is written to; it can not be const");
  if (folds(x)) reject_folded(name, x);
}

template <int = 0>
[[noreturn]] FOVEA_COLD static void reject_shared(const char* written, const char* other) {
  reject(written, " and ", other,
         " share memory; what is written lies apart from what is read and from other ",
         "results (o may be q itself: the same view)");
}

template <int = 0>
FOVEA_COLD static void check_pieces_apart(const char* name, const overlap::pieces& written,
                                          const char* other_name, const overlap::pieces& other) {
  if (overlap::meet(written, other)) reject_shared(name, other_name);
}

/// Whether what is written shares no element with `other`: a view, sequences, a list, bytes, or keys or
/// values of a cache. (Where a view of one's own lies is not known.)
template <class E, class F>
FOVEA_INLINE void check_apart(const char* name, const tensor_view<E>& written, const char* other_name,
                              const tensor_view<F>& other) {
  if (share_memory(written, other)) reject_shared(name, other_name);
}
template <class E, class Y>
FOVEA_INLINE void check_apart(const char* name, const tensor_view<E>& written, const char* other_name,
                              const Y& other) {
  if constexpr (std::is_same_v<Y, overlap::pieces>)
    check_pieces_apart(name, overlap::pieces_of(written), other_name, other);
  else if constexpr (requires { other.sequence_rows(); })
    check_apart(name, written, other_name, other.sequence_rows());
  else if constexpr (requires { other.each_memory([](std::span<const std::byte>) {}); })
    other.each_memory([&](std::span<const std::byte> memory) {
      check_apart(name, written, other_name, view_of_list(memory));
    });
  else if constexpr (requires { view_of_list(other); })
    check_apart(name, written, other_name, view_of_list(other));
}

/// The same of o and q, which may be one view.
template <class O, class Q>
FOVEA_INLINE void check_apart_or_same(const char* name, const sequences<O>& o, const char* other,
                                      const sequences<Q>& q) {
  if (!overlap::plainly_apart(o.all, q.all) && !same_view(o, q)) check_apart(name, o.all, other, q);
}

/// What a call writes, by name.
template <std::size_t Most>
class results {
 public:
  /// Whether x can be written, and lies apart from what was added before.
  template <class E>
  void add(const char* name, const tensor_view<E>& x) {
    check_writable(name, x);
    check_apart_from(name, overlap::pieces_of(x));
    all_[count_++] = {name, overlap::pieces_of(x)};
  }
  /// Whether something that is read lies apart from all of them.
  template <class E>
  void check_apart_from(const char* name, const tensor_view<E>& x) const {
    check_apart_from(name, overlap::pieces_of(x));
  }
  template <class E>
  void check_apart_from(const char* name, const sequences<E>& x) const {
    check_apart_from(name, overlap::pieces_of(x.sequence_rows()));
  }
  template <class T>
  void check_apart_from(const char* name, const list_view<T>& list) const {
    check_apart_from(name, overlap::pieces_of(view_of_list(list)));
  }
  void check_apart_from(const char* name, const overlap::pieces& x) const {
    for (std::size_t i = 0; i < count_; ++i)
      if (overlap::meet(all_[i].at, x)) reject_shared(all_[i].name, name);
  }

 private:
  struct named {
    const char* name;
    overlap::pieces at;
  };
  std::array<named, Most> all_ = {};
  std::size_t count_ = 0;
};

/// Sets the rows of a result that belong to no sequence: those before the first, between two, and behind the
/// last.
template <class E>
void fill_rows_of_none(const sequences<E>& x, E value = {}) noexcept {
  if (!x.offsets) return;
  const auto fill = [&](range none) {
    for (index_type h = 0; h < x.all.heads; ++h)
      for (index_type t = none.first; t < none.last; ++t)
        for (index_type c = 0; c < x.all.dim; ++c) x.all(0, h, t, c) = value;
  };
  index_type end = 0;
  for (index_type b = 0; b < x.count; ++b) {
    fill({end, x.offset(b)});
    end = x.offset(b) + x.tokens(b);
  }
  fill({end, x.all.tokens});
}

/// Whether `x` can take a result: it can be written, with as many tokens and columns.
template <class E, class Y>
void check_result(const char* name, const sequences<E>& x, const char* other, const Y& y, index_type dim) {
  check_like(name, x, other, y, dim);
  check_writable(name, x.all);
}

FOVEA_NAMESPACE_END
