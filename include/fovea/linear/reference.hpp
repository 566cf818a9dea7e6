// fovea/linear/reference.hpp - the specification of linear attention: token by token, in double.
#pragma once

#include <fovea/linear_attention.hpp>

FOVEA_NAMESPACE_BEGIN

/// out, and the states after the last token; magnitude: of each number of out the sum of absolute values
/// that it is the sum of, scale sum_i |q_i| M_i with M <- a M + |k| |w|^T, which error bounds are made of.
struct linear_reference_result {
  tensor<double> out, states, magnitude;
};

/// What linear_attention computes of the same arguments; states are read, never written.
template <class Q, class K, class V, class... Mods>
linear_reference_result linear_reference(const Q& q, const K& k, const V& v,
                                         const linear_attention_options& options, const Mods&... mods) {
  using linear::operand, linear::operand_of;
  const index_type heads = options.heads, kv_heads = options.kv_heads ? options.kv_heads : heads;
  const auto queries = as_sequences(q, heads, "q");
  const auto keys = as_sequences(k, kv_heads, "k");
  const auto values = as_sequences(v, kv_heads, "v");
  const auto g = operand_of<operand::decay, const double>(kv_heads, mods...);
  const auto b = operand_of<operand::beta, const double>(kv_heads, mods...);
  const auto s = operand_of<operand::state, const double>(kv_heads, mods...);
  const index_type d = keys.dim(), dv = values.dim(), batches = queries.batches(), group = heads / kv_heads;
  const double scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<index_type>(d, 1))));
  linear_reference_result r{{batches, heads, queries.max_tokens(), dv},
                            {batches, kv_heads, d, dv},
                            {batches, heads, queries.max_tokens(), dv}};
  tensor<double> sums(batches, kv_heads, d, dv);
  const auto row_of = [&](const auto& x, index_type t, bool to_length_1) {
    std::vector<double> row(static_cast<std::size_t>(x.cols));
    load_elements(x.at(t), x.col_stride, x.cols, row.data());
    const split_factor by = inverse_length(row.data(), x.cols, 1, linear::added_to_squares);
    for (double& number : row) number = to_length_1 ? by.times(number) : number;
    return row;
  };
  for (index_type n = 0; n < batches; ++n)
    for (index_type h = 0; h < kv_heads; ++h) {
      for (index_type i = 0; i < d; ++i)
        for (index_type c = 0; c < dv; ++c) {
          if constexpr ((linear_state_like<Mods> || ...))
            r.states(n, h, i, c) = load_element<double>(s.head(n, h)(i, c));
          sums(n, h, i, c) = std::abs(r.states(n, h, i, c));
        }
      for (index_type t = 0; t < queries.tokens(n); ++t) {
        const auto key = row_of(keys.head(n, h), t, options.l2_norm),
                   value = row_of(values.head(n, h), t, false);
        for (index_type i = 0; i < d; ++i) {
          double a = 1;
          if constexpr ((log_decay_like<Mods> || ...))
            a = std::exp(load_element<double>(g.head(n, h)(t, g.dim() == 1 ? 0 : i)));
          for (index_type c = 0; c < dv; ++c) r.states(n, h, i, c) *= a, sums(n, h, i, c) *= a;
        }
        for (index_type c = 0; c < dv; ++c) {
          double w = value[static_cast<std::size_t>(c)];
          if constexpr ((delta_rule_like<Mods> || ...)) {
            for (index_type i = 0; i < d; ++i) w -= key[static_cast<std::size_t>(i)] * r.states(n, h, i, c);
            w *= load_element<double>(b.head(n, h)(t, 0));
          }
          for (index_type i = 0; i < d; ++i) {
            r.states(n, h, i, c) += key[static_cast<std::size_t>(i)] * w;
            sums(n, h, i, c) += std::abs(key[static_cast<std::size_t>(i)] * w);
          }
        }
        for (index_type of_group = 0; of_group < group; ++of_group) {
          const index_type head = h * group + of_group;
          const auto query = row_of(queries.head(n, head), t, options.l2_norm);
          for (index_type i = 0; i < d; ++i)
            for (index_type c = 0; c < dv; ++c) {
              r.out(n, head, t, c) += scale * query[static_cast<std::size_t>(i)] * r.states(n, h, i, c);
              r.magnitude(n, head, t, c) +=
                  std::abs(scale * query[static_cast<std::size_t>(i)]) * sums(n, h, i, c);
            }
        }
      }
    }
  return r;
}

FOVEA_NAMESPACE_END
