// fovea/hard/reinforce.hpp - the gradients of a loss with picks in it: see hard<...>::reinforce.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/hard/gradient.hpp>

#include <numeric>

FOVEA_NAMESPACE_BEGIN

template <class E>
void fill_all(const tensor_view<E>& x, E value) noexcept {
  for (index_type b = 0; b < x.batch; ++b)
    for (index_type h = 0; h < x.heads; ++h)
      for (index_type i = 0; i < x.tokens; ++i)
        for (index_type c = 0; c < x.dim; ++c) x(b, h, i, c) = value;
}

/// {d_q, d_k, d_v}, by a backward call of `soft` with values of one column. T: what numbers are computed in.
template <class T, class Soft, class Q, class K, class V, class Seen, class G, class L, class... Mods>
auto differentiate_picks(const Soft& soft, index_type heads, index_type kv_heads, const Q& q, const K& k,
                         const V& v, const Seen& seen, const G& d_out, const L& d_log_p,
                         const Mods&... mods) {
  const auto queries = view_of(q, heads, "q");
  const auto keys = view_of(k, kv_heads, "k");
  const auto values = view_of(v, kv_heads, "v");
  const auto given_d_out = read_only(view_of(d_out, heads, "d_out"));
  const auto given_d = read_only(view_of(d_log_p, heads, "d_log_p"));
  auto&& log_p_like_q = shaped_like(q, seen.log_p);
  const auto log_p = read_only(view_of(log_p_like_q, heads, "log_p"));
  check_picks(seen.picks, queries, keys);
  check_like("d_out", given_d_out, "q", queries, values.dim());
  check_like("d_log_p", given_d, "q", queries, 1), check_like("log_p", log_p, "q", queries, 1);
  for (index_type b = 0; b < keys.batches(); ++b)
    check_same("k", "tokens", keys.tokens(b), "v", values.tokens(b));

  auto ones = make_like<T>(k, kv_heads, 1), of_ones = make_like<T>(k, kv_heads, 1);
  auto d_pick = make_like<T>(q, heads, 1), d_lse = d_pick, none = d_pick;
  fill_all(view_of(ones, kv_heads, "v").all, T(1)), fill_all(view_of(none, heads, "o").all, T(0));
  fill_all(view_of(d_pick, heads, "o").all, T(0)), fill_all(view_of(d_lse, heads, "o").all, T(0));
  std::vector<double> of_sinks(static_cast<std::size_t>(heads));
  auto&& d_pick_like_q = shaped_like(q, d_pick);
  auto&& d_lse_like_q = shaped_like(q, d_lse);
  split_log_p_gradient(seen.picks, given_d, log_p, view_of(d_pick_like_q, heads, "d_out"),
                       view_of(d_lse_like_q, heads, "d_lse"), of_sinks);
  std::vector<index_type> numbers(static_cast<std::size_t>(keys.max_tokens()));
  std::iota(numbers.begin(), numbers.end(), index_type(0));

  auto d_q = make_like<element_of<Q>>(q, heads, queries.dim());
  auto d_k = make_like<element_of<K>>(k, kv_heads, keys.dim());
  auto d_v = make_like<element_of<V>>(v, kv_heads, values.dim());
  soft.backward_into(shaped_like(q, d_q), shaped_like(k, d_k), shaped_like(k, of_ones), q, k,
                     shaped_like(k, ones), shaped_like(q, none), shaped_like(q, seen.lse), d_pick_like_q,
                     lse_gradient(d_lse_like_q), only_picks{seen.picks.view(), {numbers.data()}},
                     with_picked_sink(mods, of_sinks)...);
  auto&& d_v_like_v = shaped_like(v, d_v);
  const auto to_v = view_of(d_v_like_v, kv_heads, "d_v");
  fill_rows_of_none(to_v);
  const index_type group = heads / kv_heads;
  for (index_type b = 0; b < keys.batches(); ++b)
    for (index_type h = 0; h < kv_heads; ++h) {
      tensor<T> sums(1, 1, keys.tokens(b), values.dim());
      add_picked_gradients(seen.picks, given_d_out, b, {h * group, (h + 1) * group}, to_v.head(b, h), sums);
    }
  return gradients<decltype(d_q), decltype(d_k), decltype(d_v)>{std::move(d_q), std::move(d_k),
                                                                std::move(d_v)};
}

FOVEA_NAMESPACE_END
