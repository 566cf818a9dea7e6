// bench/textbook.cpp - the textbook's attention by Eigen, written with care: what a C++ programmer has
// without a library. A head at a time: S = scale Q K^T in one product, a softmax a row over its visible keys,
// O = P V in another product. Nothing is copied that Eigen can multiply as it lies; 16-bit elements are
// converted once a head.
#include "call.hpp"

namespace bench {

namespace {

template <class C>
using row_major = Eigen::Matrix<C, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class C>
using matrix_ref = Eigen::Ref<const row_major<C>, 0, Eigen::OuterStride<>>;
template <class E, class Matrix = row_major<std::remove_const_t<E>>>
using strided_map = Eigen::Map<std::conditional_t<std::is_const_v<E>, const Matrix, Matrix>, 0,
                               Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

template <class E>
strided_map<E> head_of(const fovea::tensor_view<E>& x, index_type b, index_type h) {
  return {&x(b, h, 0, 0), x.tokens, x.dim, {x.token_stride, x.dim_stride}};
}

/// The head as rows of C: in place where it lies so, else a copy.
template <class C, class E>
matrix_ref<C> readable(const strided_map<const E>& x) {
  if constexpr (std::is_same_v<C, E>)
    if (x.innerStride() == 1)
      return matrix_ref<C>(Eigen::Map<const row_major<C>, 0, Eigen::OuterStride<>>(
          x.data(), x.rows(), x.cols(), Eigen::OuterStride<>(x.outerStride())));
  return matrix_ref<C>(x.unaryExpr([](const E& e) { return C(e); }));
}

template <class C>
void softmax_rows(const workload& w, row_major<C>& s) {
  for (index_type i = 0; i < w.queries; ++i) {
    const auto [first, last] = visible_keys(w, i);
    auto row = s.row(i);
    row.head(first).setZero();
    row.tail(w.keys - last).setZero();
    if (first == last) continue;
    auto seen = row.segment(first, last - first).array();
    seen = (seen - seen.maxCoeff()).exp();
    seen /= seen.sum();
  }
}

template <class C, class T, class KV>
void attend_head(const workload& w, operands<T, KV>& x, index_type b, index_type h, row_major<C>& s) {
  const index_type shared = h / (w.heads / w.kv_heads);
  const auto q = strided<const T>(w.layout, x.q.data(), w.batch, w.heads, w.queries, w.dim);
  const auto k = strided<const KV>(w.layout, x.k.data(), w.batch, w.kv_heads, w.keys, w.dim);
  const auto v = strided<const KV>(w.layout, x.v.data(), w.batch, w.kv_heads, w.keys, w.value_dim);
  const auto o = strided<T>(w.layout, x.o.data(), w.batch, w.heads, w.queries, w.value_dim);

  const C scale = C(1) / std::sqrt(C(w.dim));
  const auto keys = readable<C, KV>(head_of(k, b, shared));
  s.noalias() = (scale * readable<C, T>(head_of(q, b, h))) * keys.transpose();
  softmax_rows(w, s);
  const row_major<C> result = s * readable<C, KV>(head_of(v, b, shared));
  head_of(o, b, h) = result.unaryExpr([](const C& c) { return T(c); });
}

template <class T, class KV>
call textbook_call_of(const workload& w) {
  using compute = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const auto data = std::make_shared<operands<T, KV>>(w);
  const auto scores = std::make_shared<std::vector<row_major<compute>>>(
      static_cast<std::size_t>(w.threads), row_major<compute>(w.queries, w.keys));
  call timed;
  timed.scratch_bytes = w.threads * w.queries * w.keys * index_type(sizeof(compute));
  timed.run = [data, scores, w] {
    data->executor().for_each(w.batch * w.heads, [&](index_type i, index_type worker) {
      attend_head(w, *data, i / w.heads, i % w.heads, (*scores)[static_cast<std::size_t>(worker)]);
    });
  };
  return timed;
}

}  // namespace

call textbook_call(const workload& w) {
  call timed;
  with_element<float, double, fovea::bf16, fovea::fp16>(w.dtype, [&]<class T>(T) {
    const auto prepare = [&]<class KV>(KV) { timed = textbook_call_of<T, KV>(w); };
    if constexpr (std::is_same_v<T, double>)
      with_element<double>(w.kv, prepare);
    else
      with_element<float, fovea::bf16, fovea::fp16>(w.kv, prepare);
  });
  return timed;
}

}  // namespace bench
