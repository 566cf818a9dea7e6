// bench/fovea_call.hpp - a workload becomes one call of fovea::attention, with a workspace as its plan says.
#pragma once

#include "call.hpp"

#include <fovea/top_blocks.hpp>

#include <span>

namespace bench {

/// f(), or f(mask), for masks that read no tables.
template <class F>
void with_plain_mask(const workload& w, const F& f) {
  if (w.mask == mask::none) return f();
  if (w.mask == mask::causal) return f(fovea::causal_bottom_right);
  f(fovea::sliding_window{.left = w.mask_size, .right = 0, .offset = w.keys - w.queries});
}

/// What the other masks read.
struct mask_tables {
  std::vector<char> blocks;
  std::vector<index_type> lengths;
  std::vector<std::int32_t> ids;     // of the documents of keys
  std::vector<std::int32_t> global;  // tokens of longformer
  std::vector<std::uint64_t> ancestors;

  explicit mask_tables(const workload& w) {
    if (w.mask == mask::blocks) blocks = visible_blocks(w);
    if (w.mask == mask::prefix) lengths.assign(static_cast<std::size_t>(w.batch), w.mask_size);
    if (w.mask == mask::documents)
      for (index_type k = 0; k < w.keys; ++k) ids.push_back(static_cast<std::int32_t>(k / w.mask_size));
    for (std::int32_t t = 0; t < global_tokens; ++t) global.push_back(t);
    std::vector<index_type> parents;
    for (index_type i = 0; w.mask == mask::tree && i < w.mask_size; ++i) parents.push_back((i + 1) / 2 - 1);
    ancestors = fovea::ancestors_of(parents);
  }
};

/// f(), or f(mask), for each of them; it reads t during calls.
template <class F>
void with_mask(const workload& w, const mask_tables& t, const F& f) {
  const index_type side = w.mask_size;
  if (w.mask == mask::blocks)
    return f(fovea::block_map(
        fovea::bhsd(t.blocks.data(), 1, 1, fovea::ceil_div(w.queries, side), fovea::ceil_div(w.keys, side)),
        {.queries = side, .keys = side}));
  if (w.mask == mask::prefix) return f(fovea::prefix{.lengths = t.lengths, .offset = w.keys - w.queries});
  if (w.mask == mask::documents) {
    const std::span all(t.ids);
    return f(fovea::documents{all.last(static_cast<std::size_t>(w.queries)), all});
  }
  if (w.mask == mask::tree) return f(fovea::draft_tree{t.ancestors, w.mask_size});
  if (w.mask == mask::dilated) return f(fovea::dilated{side});
  if (w.mask == mask::longformer)
    return f(fovea::sliding_window{.left = side, .right = side} | fovea::global_tokens{t.global});
  if (w.mask == mask::neighbourhood)
    return f(
        fovea::neighbourhood<2>{.sizes = {side_of_picture(w), side_of_picture(w)}, .kernel = {side, side}});
  with_plain_mask(w, f);
}

inline constexpr int farthest = 128;  // of the distances that with=table tells apart

/// The tables that masks and modifiers read.
struct tables : mask_tables {
  std::vector<float> slopes, sinks;
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> bias, slots;
  Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> keep;

  explicit tables(const workload& w)
      : mask_tables(w), slopes(static_cast<std::size_t>(w.heads), 0.1f), sinks(slopes) {
    if (w.with == modifier::lengths) lengths.assign(static_cast<std::size_t>(w.batch), w.keys);
    if (w.with == modifier::bias) bias.setRandom(w.queries, w.keys);
    const index_type side = side_of_picture(w);
    if (w.with == modifier::t5) slots.setRandom(32, w.heads);
    if (w.with == modifier::swin) slots.setRandom((2 * side - 1) * (2 * side - 1), w.heads);
    if (w.with == modifier::table) slots.setRandom(2 * farthest + 1, w.heads);
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
  if (w.with == modifier::t5) return f(fovea::t5_bias(t.slots));
  if (w.with == modifier::swin)
    return f(fovea::swin_bias(t.slots, {.height = side_of_picture(w), .width = side_of_picture(w)}));
  if (w.with == modifier::table)
    return f(fovea::bias_table(t.slots, [](auto q, auto k) {
      using std::max, std::min;
      using position = decltype(q);
      return min(max(k - q, position(-farthest)), position(farthest)) + position(farthest);
    }));
  f(fovea::score([](auto s, auto q, auto k) {
    using std::abs;
    return s - decltype(s)(0.1f) * abs(q - k);
  }));
}

/// Summaries of the keys, the choice of blocks and attention to these: all of it is timed.
inline void make_top_blocks(call& timed, const workload& w,
                            const std::shared_ptr<operands<float, float>>& data) {
  const auto view = [&](auto* elements, index_type heads, index_type tokens, index_type dim) {
    return strided(w.layout, elements, w.batch, heads, tokens, dim);
  };
  const auto q = view(std::as_const(data->q).data(), w.heads, w.queries, w.dim);
  const auto k = view(std::as_const(data->k).data(), w.kv_heads, w.keys, w.dim);
  const auto v = view(std::as_const(data->v).data(), w.kv_heads, w.keys, w.value_dim);
  const auto o = view(data->o.data(), w.heads, w.queries, w.value_dim);
  const fovea::attention<float> attend(
      {.heads = w.heads, .kv_heads = w.kv_heads, .executor = data->executor()});
  timed.run = [data, attend, w, q, k, v, o] {
    fovea::block_summaries keys(w.kv_heads, w.dim, {.side = w.mask_size});
    keys.append(k);
    const auto chosen = fovea::top_blocks(q, keys,
                                          {.blocks = blocks_a_row(w),
                                           .queries = w.mask_size,
                                           .first = false,
                                           .own = false,
                                           .causal = false,
                                           .heads = w.heads});
    attend.into(o, q, k, v, chosen.mask());
  };
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
  if constexpr (std::is_same_v<T, float> && std::is_same_v<KV, float>)
    if (w.mask == mask::topk)
      make_top_blocks(timed, w, data);
    else if (w.with == modifier::none)
      with_mask(w, *read, make);
    else if (w.with == modifier::sink)
      with_plain_mask(w, [&](auto... masks) { make(masks..., fovea::sink{read->sinks}); });
    else
      with_modifier(w, *read, make);
  else if constexpr (std::is_same_v<T, fovea::bf16> && std::is_same_v<KV, fovea::bf16>)
    if (w.weights == weight_rounding::rounded)
      with_plain_mask(w, [&](auto... masks) { make(masks..., fovea::rounded_weights); });
    else
      with_plain_mask(w, make);
  else
    with_plain_mask(w, make);
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
