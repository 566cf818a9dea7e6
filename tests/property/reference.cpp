// fovea::reference on plain numbers, for every kind of rules.
#include "rules.hpp"

#include <fovea/reference.hpp>

#include <stdexcept>

namespace fovea_test {
namespace {

array plain(const fovea::tensor<double>& t) {
  array a(t.batch(), t.heads(), t.tokens(), t.dim());
  std::copy(t.data(), t.data() + t.size(), a.x.begin());
  return a;
}

fovea::tensor_view<const double> seen(const array& a) {
  return fovea::bhsd(a.x.data(), a.batch, a.heads, a.tokens, a.dim);
}

template <unsigned Has>
expectation of_equal_lengths(const problem& p) {
  const stored_rules<double, bool> stored(p.rules, element_kind::f64);
  const fovea::reference_options options{p.n.heads, p.n.kv_heads, p.scale};
  const auto r = with_rules<Has>(stored, [&](const auto&... mods) {
    return fovea::reference(seen(p.q), seen(p.k), seen(p.v), options, mods...);
  });
  return {plain(r.out), plain(r.lse), plain(r.magnitude), plain(r.logits)};
}

void put(array& to, index_type b, const array& from) {
  for (index_type h = 0; h < from.heads; ++h)
    for (index_type t = 0; t < from.tokens; ++t)
      for (index_type c = 0; c < from.dim; ++c) to(b, h, t, c) = from(0, h, t, c);
}

template <std::size_t Kind = 0>
expectation of_kind(const problem& p) {
  if constexpr (Kind == all_rules.size()) {
    throw std::logic_error("no such kind of rules");
  } else {
    if (p.rules.features == all_rules[Kind].features) return of_equal_lengths<all_rules[Kind].features>(p);
    return of_kind<Kind + 1>(p);
  }
}

}  // namespace

expectation reference_of(const problem& p) {
  const auto as_long = [](const std::vector<index_type>& tokens, index_type all) {
    return std::all_of(tokens.begin(), tokens.end(), [&](index_type n) { return n == all; });
  };
  if (as_long(p.queries, p.n.queries) && as_long(p.keys, p.n.keys)) return of_kind(p);
  const sizes& n = p.n;
  expectation e{{n.batch, n.heads, n.queries, n.value_dim},
                {n.batch, n.heads, n.queries, 1},
                {n.batch, n.heads, n.queries, n.value_dim},
                {n.batch, n.heads, n.queries, 1}};
  for (index_type b = 0; b < n.batch; ++b) {
    const expectation one = of_kind(one_sequence(p, b));
    put(e.out, b, one.out), put(e.lse, b, one.lse);
    put(e.magnitude, b, one.magnitude), put(e.logits, b, one.logits);
  }
  return e;
}

}  // namespace fovea_test
