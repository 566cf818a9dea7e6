// bench/fovea_call.hpp - a workload becomes one call of fovea::attention, with a workspace as its plan says.
#pragma once

#include "call.hpp"

namespace bench {

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
  std::vector<index_type> lengths;

  explicit tables(const workload& w)
      : slopes(static_cast<std::size_t>(w.heads), 0.1f), lengths(static_cast<std::size_t>(w.batch), w.keys) {
    if (w.with == modifier::bias) bias.setRandom(w.queries, w.keys);
    if (w.with == modifier::boolean) {
      keep.setConstant(w.queries, w.keys, true);
      for (index_type i = 0; i < keep.size(); i += 7) keep.data()[i] = false;
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
  call timed;
  const auto data = std::make_shared<operands<T, KV>>(w);
  const auto read = std::make_shared<tables>(w);
  const auto make = [&](auto... mods) {
    const auto view = [&](auto* elements, index_type heads, index_type tokens, index_type dim) {
      return strided(w.layout, elements, w.batch, heads, tokens, dim);
    };
    const auto q = view(std::as_const(data->q).data(), w.heads, w.queries, w.dim);
    const auto k = view(std::as_const(data->k).data(), w.kv_heads, w.keys, w.dim);
    const auto v = view(std::as_const(data->v).data(), w.kv_heads, w.keys, w.value_dim);
    const auto o = view(data->o.data(), w.heads, w.queries, w.value_dim);
    fovea::attention_options options{.heads = w.heads, .kv_heads = w.kv_heads, .executor = data->executor()};
    timed.scratch_bytes = fovea::attention<T>(options).plan_for(q, k, v, mods...).workspace_bytes();
    data->workspace.resize(static_cast<std::size_t>(timed.scratch_bytes));
    options.workspace = data->workspace;
    const fovea::attention<T> attend(options);
    timed.run = [data, read, attend, q, k, v, o, mods...] { attend.into(o, q, k, v, mods...); };
  };
  if (w.with == modifier::none)
    with_mask(w, make);
  else if constexpr (std::is_same_v<T, float> && std::is_same_v<KV, float>)
    with_modifier(w, *read, make);
  return timed;
}

template <class T>
call fovea_call_for(const workload& w) {
  call timed;
  const auto prepare = [&]<class KV>(KV) { timed = fovea_call_of<T, KV>(w); };
  if constexpr (std::is_same_v<T, double>)
    with_element<double>(w.kv, prepare);
  else
    with_element<float, fovea::bf16, fovea::fp16>(w.kv, prepare);
  return timed;
}

}  // namespace bench
