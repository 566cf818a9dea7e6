// fovea/reference.hpp - the specification: attention as the textbook writes it, in double, with no trick at
// all.
#pragma once

#include <fovea/attention.hpp>

FOVEA_NAMESPACE_BEGIN

struct reference_options {
  index_type heads = 1, kv_heads = 0;  // 0: as many as heads
  std::optional<double> scale = {};
};

/// out, lse as attention gives them, and what error bounds are made of: a row's sum_j P_j |V_j|, and over the
/// keys it sees the largest scale * sum_c |q_c k_c| or, where scores made it larger, logit: what a rounded
/// logit is relative to.
struct reference_result {
  tensor<double> out, lse, magnitude, logits;
};

/// One cell (q, k), for the masks and scores that registers of cells are for.
struct cell {
  index_type query, key;
  index_type q() const { return query; }
  index_type k() const { return key; }
  double row() const { return static_cast<double>(query); }
  double col() const { return static_cast<double>(key); }
  double load(const auto& m) const { return load_element<double>(m(query, key)); }
  bool nonzero(const auto& m) const { return m(query, key) != 0; }
  bool same_number(const auto& of_query, const auto& of_key) const { return of_query[query] == of_key[key]; }
  bool ask(const auto& f) const { return f(query, key); }
  template <class E>
  double load(const difference_list<E>& list) const {
    return static_cast<double>(list.up[std::clamp(key - query - list.offset, -list.reach, list.reach)]);
  }
  template <class E>
  double look_up(const slot_list<E>& list, index_type slot) const {
    return list.holds(slot) ? static_cast<double>(list.up[slot]) : 0;
  }
  index_type one_by_one(const auto& f) const { return f(query, key); }
  static double sum_or_hidden(double s, double bias) {
    return std::isinf(bias) && bias < 0 ? bias : s + bias;
  }
  static bool truth(bool b) { return b; }
};

/// One head in double: what its pieces and their scales say, or a matrix as it is.
struct reference_head {
  index_type rows, cols;
  std::vector<double> numbers = {};
  double operator()(index_type i, index_type c) const {
    return numbers[static_cast<std::size_t>(i * cols + c)];
  }
};
template <class Head>
reference_head in_double(const Head& head) {
  reference_head all{head.rows, head.cols};
  head.each_piece({0, head.rows}, [&](const auto& part) {
    for (index_type i = 0; i < part.tokens.rows; ++i)
      for (index_type c = 0; c < head.cols; ++c) {
        double x = load_element<double>(part.tokens(i, c));
        if (part.channel_scales != nullptr) x *= static_cast<double>(part.channel_scales[c]);
        if (part.token_scales != nullptr) x *= static_cast<double>(part.token_scales[i]);
        all.numbers.push_back(x);
      }
  });
  return all;
}

/// scale * q_i . k_j, or what a scorer makes of them.
template <class Scorer>
double reference_logit(const reference_head& q, index_type i, const reference_head& k, index_type j,
                       double scale, const Scorer& scorer) {
  constexpr bool scores_dots = std::is_same_v<Scorer, dot_product>;
  double sum = 0;
  for (index_type c = 0; c < q.cols; ++c)
    if constexpr (scores_dots)
      sum += q(i, c) * k(j, c);
    else
      sum = add_channel(scorer, sum, q(i, c), k(j, c), parameter_of<double>(scorer, c));
  if constexpr (scores_dots)
    return scale * sum;
  else
    return logit_of(scorer, sum);
}

/// One query head of one sequence: its numbers, and the rules of the call, bound to it.
template <class Rules, class Scorer>
struct reference_cells {
  const place& at;
  const reference_head &q, &k, &v;
  double scale;
  const Rules& rules;
  const Scorer& scorer;

  /// The logit of a cell, scored; -inf where it is hidden.
  double logit(index_type i, index_type j) const {
    if (!visible_at(rules.mask, cell{i, j})) return -std::numeric_limits<double>::infinity();
    return rules.score(reference_logit(q, i, k, j, scale, scorer), cell{i, j});
  }
};

/// What every reference begins with: the operands as sequences, the scale, and f(reference_cells) for each
/// query head of each sequence, once the rules are checked there; `mods`: those of the call.
template <class Queries, class Keys, class Values>
struct reference_call {
  Queries q;
  Keys k;
  Values v;
  index_type heads, group;
  double scale;

  template <class F, class... Mods>
  void each_head(const F& f, const Mods&... mods) const {
    const auto rules = rules_of<mask_intersection>(mods...);
    decltype(auto) scorer = scorer_of(mods...);
    for (index_type b = 0; b < q.batches(); ++b)
      for (index_type h = 0; h < heads; ++h) {
        const auto of_q = in_double(q.head(b, h));
        const auto of_k = in_double(k.head(b, h / group)), of_v = in_double(v.head(b, h / group));
        const place at{b, h, q.batches(), heads, of_q.rows, of_k.rows, Keys::in_cache};
        check_positions(at);
        rules.check(at);
        check_score_at(sink_of(mods...), at), check_score_at(dropout_of(mods...), at);
        const auto bound = rules.bind(at);
        decltype(auto) bound_scorer = bind_scorer(scorer, at);
        f(reference_cells<decltype(bound), std::remove_cvref_t<decltype(bound_scorer)>>{
            at, of_q, of_k, of_v, scale, bound, bound_scorer});
      }
  }
};
template <class Q, class K, class V>
auto reference_call_of(const Q& q, const K& k, const V& v, const reference_options& options) {
  const index_type heads = options.heads, kv_heads = options.kv_heads ? options.kv_heads : heads;
  const auto queries = as_sequences(q, heads, "q");
  const auto keys = as_sequences(k, kv_heads, "k");
  const auto values = as_sequences(v, kv_heads, "v");
  const double scale =
      options.scale.value_or(1 / std::sqrt(static_cast<double>(std::max<index_type>(queries.all.dim, 1))));
  return reference_call<std::remove_const_t<decltype(queries)>, std::remove_const_t<decltype(keys)>,
                        std::remove_const_t<decltype(values)>>{queries,          keys, values, heads,
                                                               heads / kv_heads, scale};
}

/// O = softmax(score(scale * Q K^T)) V, row by row. O(Lq Lk (d + dv)) a head. A cache's keys() and values()
/// are k and v too, q then being its last tokens. Masks and scores are checked as attention does.
/// With sigmoid_weights (sigmoid_attention.hpp) O = sigmoid(score(scale * Q K^T) + bias) V; lse stays that of
/// the logits.
template <viewable Q, viewable K, viewable V, class... Mods>
  requires((modifier<Mods> || scorer_like<Mods> || gate_like<Mods> || weighing_like<Mods>) && ...)
reference_result reference(const Q& q, const K& k, const V& v, reference_options options,
                           const Mods&... mods) {
  const auto call = reference_call_of(q, k, v, options);
  decltype(auto) sink = sink_of(mods...);
  decltype(auto) dropout = dropout_of(mods...);
  const index_type batches = call.q.batches(), heads = call.heads, rows = call.q.max_tokens(),
                   columns = call.v.dim();
  reference_result r{{batches, heads, rows, columns},
                     {batches, heads, rows, 1},
                     {batches, heads, rows, columns},
                     {batches, heads, rows, 1}};

  call.each_head(
      [&](const auto& head) {
        const auto& [at, Q_, K_, V_, scale, bound, scorer] = head;
        const index_type b = at.batch, h = at.head;
        const auto dropout_factor = [&](const cell& c) {
          if constexpr (requires { dropout.bind(head.at).factor(c); })
            return dropout.bind(head.at).factor(c);
          else if constexpr (std::remove_cvref_t<decltype(dropout)>::drops)
            return dropout.bind(head.at).kept(c) ? dropout.bind(head.at).scale : 0.0;
          return 1.0;
        };
        for (index_type i = 0; i < Q_.rows; ++i) {
          std::vector<double> logits(static_cast<std::size_t>(K_.rows),
                                     -std::numeric_limits<double>::infinity());
          double* const s = logits.data();
          double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
          if constexpr (sink_like<decltype(sink)>) maximum = static_cast<double>(sink.logit(h));
          for (index_type j = 0; j < K_.rows; ++j) {
            if (!visible_at(bound.mask, cell{i, j})) continue;
            double magnitude = 0;
            for (index_type c = 0; c < Q_.cols; ++c) magnitude += std::abs(Q_(i, c) * K_(j, c));
            s[j] = head.logit(i, j);
            const double size =
                std::isfinite(s[j]) ? std::max(std::abs(s[j]), std::abs(scale) * magnitude) : 0;
            r.logits(b, h, i, 0) = std::max(r.logits(b, h, i, 0), size);
            if (!(s[j] <= maximum)) maximum = s[j];  // a NaN stays
          }
          const auto p = [&](double x) {
            return x == -std::numeric_limits<double>::infinity() ? 0 : std::exp(x - maximum);
          };
          for (double x : logits) sum += p(x);
          if constexpr (sink_like<decltype(sink)>) sum += p(static_cast<double>(sink.logit(h)));
          r.lse(b, h, i, 0) = sum == 0 ? -std::numeric_limits<double>::infinity() : maximum + std::log(sum);
          const auto weight_of = [&](double x) {
            if constexpr ((weighing_like<Mods> || ...))
              return 1 / (1 + std::exp(-(x + keep<is_weighing>(mods...).first.bias)));
            else
              return p(x) / sum;
          };
          for (index_type j = 0; j < K_.rows; ++j) {
            if (s[j] == -std::numeric_limits<double>::infinity()) continue;
            const double weight = weight_of(s[j]) * dropout_factor({i, j});
            for (index_type c = 0; c < columns; ++c) {
              r.out(b, h, i, c) += weight * V_(j, c);
              r.magnitude(b, h, i, c) += weight * std::abs(V_(j, c));
            }
          }
          if constexpr ((gate_like<Mods> || ...)) {
            const auto gates = gates_of(gate_among(mods...).g, "gate", call.q, columns).head(b, h);
            for (index_type c = 0; c < columns; ++c) {
              const double open = 1 / (1 + std::exp(-load_element<double>(gates(i, c))));
              r.out(b, h, i, c) *= open, r.magnitude(b, h, i, c) *= open;
            }
          }
        }
      },
      mods...);
  return r;
}

FOVEA_NAMESPACE_END
