// bench/fovea_call.hpp - a workload becomes one call of fovea::attention, with a workspace as its plan says.
#pragma once

#include "call.hpp"

namespace bench {

/// f(view), where view(data, batch, heads, tokens, dim) is what a user with this layout would pass.
template <class F>
void with_layout(layout l, const F& f) {
  const auto matrix = [&]<int Order>(std::integral_constant<int, Order>) {
    f([]<class E>(E* data, index, index heads, index tokens, index dim) {
      using stored = Eigen::Matrix<std::remove_const_t<E>, Eigen::Dynamic, Eigen::Dynamic, Order>;
      using seen = std::conditional_t<std::is_const_v<E>, const stored, stored>;
      return Eigen::Map<seen>(data, tokens, heads * dim);
    });
  };
  if (l == layout::eigen) return matrix(std::integral_constant<int, Eigen::RowMajor>{});
  if (l == layout::eigen_col) return matrix(std::integral_constant<int, Eigen::ColMajor>{});
  f([l](auto* data, index batch, index heads, index tokens, index dim) {
    return strided(l, data, batch, heads, tokens, dim);
  });
}

/// f(), or f(mask).
template <class F>
void with_mask(const workload& w, const F& f) {
  if (w.mask == mask::none) return f();
  if (w.mask == mask::causal) return f(fovea::causal_bottom_right);
  f(fovea::sliding_window{.left = w.window, .right = 0, .offset = w.keys - w.queries});
}

/// The tables that modifiers read.
struct tables {
  std::vector<float> slopes;
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> bias;
  Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> keep;
  std::vector<index> lengths;

  explicit tables(const workload& w)
      : slopes(static_cast<std::size_t>(w.heads), 0.1f), lengths(static_cast<std::size_t>(w.batch), w.keys) {
    if (w.with == modifier::bias) bias.setRandom(w.queries, w.keys);
    if (w.with == modifier::boolean) {
      keep.setConstant(w.queries, w.keys, true);
      for (index i = 0; i < keep.size(); i += 7) keep.data()[i] = false;
    }
  }
};

/// f(mask or score).
template <class F>
void with_modifier(const workload& w, const tables& t, const F& f) {
  if (w.with == modifier::alibi) return f(fovea::alibi{t.slopes});
  if (w.with == modifier::softcap) return f(fovea::softcap{30.f});
  if (w.with == modifier::bias) return f(fovea::bias(t.bias));
  if (w.with == modifier::boolean) return f(fovea::boolean_mask(t.keep));
  if (w.with == modifier::lengths) return f(fovea::key_lengths{t.lengths});
  f(fovea::score([](auto s, auto q, auto k) {
    using std::abs;
    return s - decltype(s)(0.1f) * abs(q - k);
  }));
}

template <class T, class KV>
call fovea_call_of(const workload& w) {
  call made;
  const auto data = std::make_shared<operands<T, KV>>(w);
  const auto read = std::make_shared<tables>(w);
  const auto make = [&](auto view, auto... masks) {
    const auto q = view(std::as_const(data->q).data(), w.batch, w.heads, w.queries, w.dim);
    const auto k = view(std::as_const(data->k).data(), w.batch, w.kv_heads, w.keys, w.dim);
    const auto v = view(std::as_const(data->v).data(), w.batch, w.kv_heads, w.keys, w.value_dim);
    auto o = view(data->o.data(), w.batch, w.heads, w.queries, w.value_dim);
    fovea::attention_options options{.heads = w.heads, .kv_heads = w.kv_heads, .executor = data->executor()};
    made.scratch_bytes = fovea::attention<T>(options).plan_for(q, k, v, masks...).workspace_bytes();
    data->workspace.resize(static_cast<std::size_t>(made.scratch_bytes));
    options.workspace = data->workspace;
    const fovea::attention<T> attend(options);
    made.run = [data, read, attend, q, k, v, o, masks...]() mutable { attend.into(o, q, k, v, masks...); };
  };
  if (w.with != modifier::none) {
    if constexpr (std::is_same_v<T, float> && std::is_same_v<KV, float>)
      with_modifier(w, *read, [&](auto modifier) {
        make([](auto* first, auto... sizes) { return fovea::bhsd(first, sizes...); }, modifier);
      });
    return made;
  }
  with_layout(w.layout, [&](auto view) { with_mask(w, [&](auto... masks) { make(view, masks...); }); });
  return made;
}

template <class T>
call fovea_call_for(const workload& w) {
  call made;
  const auto prepare = [&]<class KV>(KV) { made = fovea_call_of<T, KV>(w); };
  if constexpr (std::is_same_v<T, double>)
    with_element<double>(w.kv, prepare);
  else
    with_element<float, fovea::bf16, fovea::fp16>(w.kv, prepare);
  return made;
}

}  // namespace bench
