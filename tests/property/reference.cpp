// fovea::reference on plain numbers, for every kind of rules.
#include "rules.hpp"

#include <fovea/differential/reference.hpp>
#include <fovea/reference.hpp>
#include <fovea/sigmoid_attention.hpp>

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

template <std::uint64_t Has>
expectation of_equal_lengths(const problem& p) {
  const stored_rules<double, bool> stored(p.rules, element_kind::f64);
  const fovea::reference_options options{p.n.heads, p.n.kv_heads, p.scale};
  const auto r = with_rules<Has>(stored, [&](const auto&... mods) {
    return fovea::reference(seen(p.q), seen(p.k), seen(p.v), options, mods...);
  });
  return {plain(r.out), plain(r.lse), plain(r.magnitude), plain(r.logits)};
}

/// Each head twice; with `sign`, the second time with the other sign.
array paired(const array& a, double sign) {
  array twice(a.batch, 2 * a.heads, a.tokens, a.dim);
  for (index_type b = 0; b < a.batch; ++b)
    for (index_type h = 0; h < twice.heads; ++h)
      for (index_type t = 0; t < a.tokens; ++t)
        for (index_type c = 0; c < a.dim; ++c)
          twice(b, h, t, c) = (h % 2 == 0 ? 1 : sign) * a(b, h / 2, t, c);
  return twice;
}

/// Of two heads the first, or the larger.
array of_pairs(const array& a, bool largest) {
  array half(a.batch, a.heads / 2, a.tokens, 1);
  for (index_type b = 0; b < a.batch; ++b)
    for (index_type h = 0; h < half.heads; ++h)
      for (index_type t = 0; t < a.tokens; ++t)
        half(b, h, t, 0) = largest ? std::max(a(b, 2 * h, t, 0), a(b, 2 * h + 1, t, 0)) : a(b, 2 * h, t, 0);
  return half;
}

/// Sigmoid and differential attention, of the rules that relatives are tested with.
expectation of_relative(const problem& p) {
  const double own = p.rules.own[0].at(0, 0, 0, 0);
  const fovea::reference_options options{p.n.heads, p.n.kv_heads, p.scale};
  if (p.rules.of == relative::sigmoid) {
    const stored_rules<double, bool> stored(p.rules, element_kind::f64);
    const auto r = with_rules<of_relatives>(stored, [&](const auto&... mods) {
      return fovea::reference(seen(p.q), seen(p.k), seen(p.v), options, fovea::sigmoid_weights{own}, mods...);
    });
    expectation e{plain(r.out), plain(r.lse), plain(r.magnitude), plain(r.logits)};
    for (double& x : e.logits.x) x += std::abs(own);
    return e;
  }
  const rules twice = with_head_pairs(p.rules);
  const stored_rules<double, bool> stored(twice, element_kind::f64);
  const array q = paired(p.q, -1), k = paired(p.k, 1);
  const auto r = with_rules<of_relatives>(stored, [&](const auto&... mods) {
    return fovea::differential_reference(seen(q), seen(k), seen(p.v), options, own, mods...);
  });
  return {plain(r.out), of_pairs(plain(r.lse), false), plain(r.magnitude), of_pairs(plain(r.logits), true)};
}

void put(array& to, index_type b, const array& from) {
  for (index_type h = 0; h < from.heads; ++h)
    for (index_type t = 0; t < from.tokens; ++t)
      for (index_type c = 0; c < from.dim; ++c) to(b, h, t, c) = from(0, h, t, c);
}

template <std::size_t Kind = 0>
expectation of_kind(const problem& p) {
  if constexpr (Kind == all_rules.size() + more_rules.size()) {
    throw std::logic_error("no such kind of rules");
  } else {
    constexpr auto features =
        (Kind < all_rules.size() ? all_rules[Kind] : more_rules[Kind - all_rules.size()]).features;
    if (p.rules.features == features) return of_equal_lengths<features>(p);
    return of_kind<Kind + 1>(p);
  }
}

/// The library's own where it has one.
expectation of_whole(const problem& p) {
  if (p.rules.of == relative::sigmoid || p.rules.of == relative::differential) return of_relative(p);
  return p.rules.of > relative::kept_weights ? textbook_of_relative(p) : of_kind(p);
}

}  // namespace

expectation reference_of(const problem& p) {
  const auto as_long = [](const std::vector<index_type>& tokens, index_type all) {
    return std::all_of(tokens.begin(), tokens.end(), [&](index_type n) { return n == all; });
  };
  if (as_long(p.queries, p.n.queries) && as_long(p.keys, p.n.keys)) return of_whole(p);
  const sizes& n = p.n;
  expectation e{{n.batch, n.heads, n.queries, n.value_dim},
                {n.batch, n.heads, n.queries, 1},
                {n.batch, n.heads, n.queries, n.value_dim},
                {n.batch, n.heads, n.queries, 1}};
  for (index_type b = 0; b < n.batch; ++b) {
    const expectation one = of_whole(one_sequence(p, b));
    put(e.out, b, one.out), put(e.lse, b, one.lse);
    put(e.magnitude, b, one.magnitude), put(e.logits, b, one.logits);
  }
  return e;
}

}  // namespace fovea_test
