// The same attention asked differently: one sequence of a batch, masks and scores as tables, keys in another
// order or only some of them, heads and batches permuted.
#include "problem.hpp"

#include <algorithm>

namespace fovea_test {
namespace {

template <class Of>
array rebuilt(index_type batch, index_type heads, index_type tokens, index_type dim, Of of) {
  array a(batch, heads, tokens, dim);
  for (index_type b = 0; b < batch; ++b)
    for (index_type h = 0; h < heads; ++h)
      for (index_type t = 0; t < tokens; ++t)
        for (index_type c = 0; c < dim; ++c) a(b, h, t, c) = of(b, h, t, c);
  return a;
}

template <class Of>
table rebuilt_table(index_type batch, index_type heads, index_type queries, index_type keys, Of of) {
  table t(batch, heads, queries, keys);
  for (index_type b = 0; b < batch; ++b)
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < queries; ++i)
        for (index_type j = 0; j < keys; ++j) t.at(b, h, i, j) = of(b, h, i, j);
  return t;
}

template <class X>
std::vector<X> taken(const std::vector<X>& from, const std::vector<index_type>& order) {
  std::vector<X> to;
  if (!from.empty())
    for (const index_type i : order) to.push_back(from[static_cast<std::size_t>(i)]);
  return to;
}

index_type at(const std::vector<index_type>& x, index_type i) { return x[static_cast<std::size_t>(i)]; }

}  // namespace

problem permuted(const problem& p, const std::vector<index_type>& batches,
                 const std::vector<index_type>& heads, const std::vector<index_type>& kv_heads) {
  problem r = p;
  const sizes n = p.n;
  r.n.batch = static_cast<index_type>(batches.size());
  r.queries = taken(p.queries, batches), r.keys = taken(p.keys, batches);
  const auto moved = [&](const array& a, const std::vector<index_type>& order) {
    return rebuilt(r.n.batch, a.heads, a.tokens, a.dim,
                   [&](index_type b, index_type h, index_type t, index_type c) {
                     return a(at(batches, b), at(order, h), t, c);
                   });
  };
  r.q = moved(p.q, heads), r.k = moved(p.k, kv_heads), r.v = moved(p.v, kv_heads);
  r.rules.lengths = taken(p.rules.lengths, batches), r.rules.starts = taken(p.rules.starts, batches);
  r.rules.sequence_steps = taken(p.rules.sequence_steps, batches);
  r.rules.query_ids = taken(p.rules.query_ids, batches), r.rules.key_ids = taken(p.rules.key_ids, batches);
  const auto moved_table = [&](const table& t) {
    return rebuilt_table(t.batch == 1 ? 1 : r.n.batch, t.heads, t.queries, t.keys,
                         [&](index_type b, index_type h, index_type i, index_type j) {
                           return t.at(at(batches, b), at(heads, h), i, j);
                         });
  };
  r.rules.keep = moved_table(p.rules.keep), r.rules.addend = moved_table(p.rules.addend);
  r.rules.map = moved_table(p.rules.map), r.rules.numbers = moved_table(p.rules.numbers);
  for (table& t : r.rules.own)
    t = rebuilt_table(1, t.heads, t.queries, t.keys,
                      [&](index_type, index_type h, index_type i, index_type j) {
                        return t.at(0, at(t.heads == n.heads ? heads : kv_heads, h), i, j);
                      });
  for (index_type h = 0; h < n.heads; ++h) {
    const std::size_t to = static_cast<std::size_t>(h), from = static_cast<std::size_t>(at(heads, h));
    if (!p.rules.slopes.empty()) r.rules.slopes[to] = p.rules.slopes[from];
    if (!p.rules.sinks.empty()) r.rules.sinks[to] = p.rules.sinks[from];
    if (!p.rules.head_steps.empty()) r.rules.head_steps[to] = p.rules.head_steps[from];
  }
  return r;
}

problem one_sequence(const problem& p, index_type b) {
  std::vector<index_type> heads, kv_heads;
  for (index_type h = 0; h < p.n.heads; ++h) heads.push_back(h);
  for (index_type h = 0; h < p.n.kv_heads; ++h) kv_heads.push_back(h);
  problem r = permuted(p, {b}, heads, kv_heads);
  r.n.queries = r.queries[0], r.n.keys = r.keys[0];
  const auto cut = [&](const array& a, index_type tokens) {
    return rebuilt(1, a.heads, tokens, a.dim,
                   [&](index_type, index_type h, index_type t, index_type c) { return a(0, h, t, c); });
  };
  r.q = cut(r.q, r.n.queries), r.k = cut(r.k, r.n.keys), r.v = cut(r.v, r.n.keys);
  return r;
}

problem as_tables(const problem& p, index_type b) {
  problem r = one_sequence(p, b);
  const sizes n = r.n;
  rules t;
  t.features = tables;
  t.cap = p.rules.features & softcap ? p.rules.cap : 0;
  t.sinks.assign(static_cast<std::size_t>(n.heads), -std::numeric_limits<double>::infinity());
  if (p.rules.features & sink) t.sinks = p.rules.sinks;
  const bool own = p.rules.of > relative::kept_weights;  // their logits are tables too
  t.keep =
      rebuilt_table(1, n.heads, n.queries, n.keys, [&](index_type, index_type h, index_type i, index_type j) {
        return visible(p, b, h, i, j) ? 1.0 : 0.0;
      });
  t.addend =
      rebuilt_table(1, n.heads, n.queries, n.keys, [&](index_type, index_type h, index_type i, index_type j) {
        return own ? logit(p, b, h, i, j) : addend(p, b, h, i, j);
      });
  if (own) std::fill(r.q.x.begin(), r.q.x.end(), 0.0);
  r.rules = t;
  return r;
}

problem with_keys(const problem& p, const std::vector<index_type>& keys) {
  problem r = p;
  r.n.keys = static_cast<index_type>(keys.size());
  r.keys = {r.n.keys};
  const auto chosen = [&](const array& a) {
    return rebuilt(1, a.heads, r.n.keys, a.dim, [&](index_type, index_type h, index_type t, index_type c) {
      return a(0, h, at(keys, t), c);
    });
  };
  const auto chosen_cells = [&](const table& t) {
    return rebuilt_table(
        1, t.heads, t.queries, r.n.keys,
        [&](index_type, index_type h, index_type i, index_type j) { return t.at(0, h, i, at(keys, j)); });
  };
  r.k = chosen(p.k), r.v = chosen(p.v);
  r.rules.keep = chosen_cells(p.rules.keep), r.rules.addend = chosen_cells(p.rules.addend);
  return r;
}

problem with_queries(const problem& p, index_type first, index_type last) {
  problem r = p;
  r.n.queries = last - first;
  r.queries = {r.n.queries};
  r.q =
      rebuilt(1, p.q.heads, r.n.queries, p.q.dim,
              [&](index_type, index_type h, index_type t, index_type c) { return p.q(0, h, first + t, c); });
  const auto chosen = [&](const table& t) {
    return rebuilt_table(
        1, t.heads, r.n.queries, t.keys,
        [&](index_type, index_type h, index_type i, index_type j) { return t.at(0, h, first + i, j); });
  };
  r.rules.keep = chosen(p.rules.keep), r.rules.addend = chosen(p.rules.addend);
  return r;
}

}  // namespace fovea_test
