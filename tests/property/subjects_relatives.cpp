// The relatives of attention as subjects: each with the same masks and a score, in float. Of what they need beside q, k
// and v all is made here; where they have no LSE it is that of plain attention, which they are not asked for.
#include "typed_subject.hpp"

#include <fovea/additive.hpp>
#include <fovea/cosine.hpp>
#include <fovea/decomposed.hpp>
#include <fovea/differential.hpp>
#include <fovea/luong.hpp>
#include <fovea/sigmoid_attention.hpp>
#include <fovea/talking_heads.hpp>
#include <fovea/transformer_xl.hpp>
#include <fovea/weights_into.hpp>

#include <cmath>

namespace fovea_test {
namespace {

using matrix = fovea::projection::row_matrix<float>;

/// Heads' rows one after another, or beside each other.
matrix below(const table& t) {
  matrix m(t.heads * t.queries, t.keys);
  for (index_type h = 0; h < t.heads; ++h)
    for (index_type i = 0; i < t.queries; ++i)
      for (index_type c = 0; c < t.keys; ++c) m(h * t.queries + i, c) = static_cast<float>(t.at(0, h, i, c));
  return m;
}
matrix beside(const table& t) {
  matrix m(t.queries, t.heads * t.keys);
  for (index_type h = 0; h < t.heads; ++h)
    for (index_type i = 0; i < t.queries; ++i)
      for (index_type c = 0; c < t.keys; ++c) m(i, h * t.keys + c) = static_cast<float>(t.at(0, h, i, c));
  return m;
}
/// Row `row` of each head's.
matrix row_beside(const table& t, index_type row) {
  table one(1, t.heads, 1, t.keys);
  for (index_type h = 0; h < t.heads; ++h)
    for (index_type c = 0; c < t.keys; ++c) one.at(0, h, 0, c) = t.at(0, h, row, c);
  return beside(one);
}

/// f(b, h, t, c) of each number of a view that lies in memory: of a packed one as a single sequence.
template <class F>
void each_number(const memory_view& m, const F& f) {
  for (index_type b = 0; b < (m.offsets ? 1 : m.batch); ++b)
    for (index_type h = 0; h < m.heads; ++h)
      for (index_type t = 0; t < m.tokens; ++t)
        for (index_type c = 0; c < m.dim; ++c) f(b, h, t, c);
}
float& number_at(const memory_view& m, index_type b, index_type h, index_type t, index_type c) {
  return static_cast<float*>(
      m.data)[b * m.batch_stride + h * m.head_stride + t * m.token_stride + c * m.dim_stride];
}

/// The operands of a call as views.
struct operands_of {
  const call& c;
  any_view<const float> q = read(c.q), k = read(c.k), v = read(c.v);
  any_view<float> out = written(c.out), lse = written(c.lse);
  const fovea_test::rules& r = *c.rules;
  fovea::executor_ref executor = executor_for(c.executor);

  any_view<const float> read(const memory_view& m) const { return {c.views, m}; }
  any_view<float> written(const memory_view& m) const { return {c.views, m}; }
  /// Memory for the tokens of an operand, of other heads and columns.
  any_owner<float> like(const memory_view& m, index_type heads, index_type columns) const {
    return {c.views, m, heads, columns};
  }
  fovea::attention<float> plain() const {
    return fovea::attention<float>{
        {.scale = c.scale, .heads = c.heads, .kv_heads = c.kv_heads, .executor = executor}};
  }
};

/// Plain attention, for its LSE alone.
void lse_of_plain(const operands_of& x, const auto&... mods) {
  const auto unused = x.like(x.c.out, x.c.heads, x.c.out.dim);
  x.plain().with_lse_into(unused.written(), x.lse, x.q, x.k, x.v, mods...);
}

void sigmoid(const operands_of& x, const auto&... mods) {
  const fovea::sigmoid_attention<float> attend({.bias = x.r.own[0].x[0],
                                                .scale = x.c.scale,
                                                .heads = x.c.heads,
                                                .kv_heads = x.c.kv_heads,
                                                .executor = x.executor});
  attend.into(x.out, x.q, x.k, x.v, mods...), lse_of_plain(x, mods...);
}

void talking_heads(const operands_of& x, const auto&... mods) {
  fovea::talking_heads<float> attend(
      {.scale = x.c.scale, .heads = x.c.heads, .kv_heads = x.c.kv_heads, .executor = x.executor});
  attend.p_l = below(x.r.own[0]), attend.p_w = below(x.r.own[1]);
  attend.into(x.out, x.q, x.k, x.v, mods...), lse_of_plain(x, mods...);
}

void differential(const operands_of& x, const auto&... mods) {
  const auto q = x.like(x.c.q, 2 * x.c.heads, x.c.q.dim), k = x.like(x.c.k, 2 * x.c.kv_heads, x.c.k.dim);
  const auto put_twice = [](const memory_view& from, const memory_view& to, float sign) {
    each_number(to, [&](index_type b, index_type h, index_type t, index_type c) {
      number_at(to, b, h, t, c) = (h % 2 == 0 ? 1.f : sign) * number_at(from, b, h / 2, t, c);
    });
  };
  put_twice(x.c.q, q.memory(), -1), put_twice(x.c.k, k.memory(), 1);
  const auto halves = x.like(x.c.out, 2 * x.c.heads, x.c.out.dim), lse = x.like(x.c.lse, 2 * x.c.heads, 1);
  const fovea::differential<float> attend({.dim = 3,
                                           .lambda_init = x.r.own[0].x[0],
                                           .heads = x.c.heads,
                                           .kv_heads = x.c.kv_heads,
                                           .scale = x.c.scale,
                                           .executor = x.executor});
  attend.with_lse_into(x.out, halves.written(), lse.written(), q.read(), k.read(), x.v, mods...);
  each_number(x.c.lse, [&](index_type b, index_type h, index_type t, index_type c) {
    number_at(x.c.lse, b, h, t, c) = number_at(lse.memory(), b, 2 * h, t, c);
  });
}

void transformer_xl(const operands_of& x, const auto&... mods) {
  fovea::transformer_xl<float> attend({.dim = x.c.q.dim,
                                       .reach = x.r.own[2].queries / 2,
                                       .heads = x.c.heads,
                                       .kv_heads = x.c.kv_heads,
                                       .scale = x.c.scale,
                                       .executor = x.executor});
  attend.u = below(x.r.own[0]), attend.v = below(x.r.own[1]), attend.r = beside(x.r.own[2]);
  attend.with_lse_into(x.out, x.lse, x.q, x.k, x.v, mods...);
}

void cosine(const operands_of& x, const auto&... mods) {
  fovea::cosine<float> attend({.heads = x.c.heads, .kv_heads = x.c.kv_heads, .executor = x.executor});
  attend.log_scale = beside(x.r.own[0]);
  attend.with_lse_into(x.out, x.lse, x.q, x.k, x.v, mods...);
}

void decomposed(const operands_of& x, const auto&... mods) {
  fovea::decomposed<float> attend({.height = x.r.rows,
                                   .width = x.r.columns,
                                   .dim = x.c.q.dim,
                                   .heads = x.c.heads,
                                   .kv_heads = x.c.kv_heads,
                                   .scale = x.c.scale,
                                   .executor = x.executor});
  attend.r_h = below(x.r.own[0]), attend.r_w = below(x.r.own[1]);
  attend.with_lse_into(x.out, x.lse, x.q, x.k, x.v, mods...);
}

void general(const operands_of& x, const auto&... mods) {
  fovea::luong<float, fovea::luong_score::general> attend(
      {.query_dim = x.c.q.dim, .heads = x.c.heads, .kv_heads = x.c.kv_heads, .executor = x.executor});
  attend.w_a = below(x.r.own[0]);
  attend.with_lse_into(x.out, x.lse, x.q, x.k, x.v, mods...);
}

/// The other scores and windows of luong.
template <fovea::luong_score Score, fovea::luong_window Window = fovea::luong_window::global>
void luong(const operands_of& x, const auto& set, const auto&... mods) {
  constexpr bool local = Window != fovea::luong_window::global;
  fovea::luong<float, Score, Window> attend({.query_dim = x.c.q.dim,
                                             .hidden = std::max<index_type>(x.r.own[2].keys, 1),
                                             .positions = std::max<index_type>(x.r.own[0].queries, 1),
                                             .distance = local ? static_cast<index_type>(x.r.own[0].x[0]) : 1,
                                             .heads = x.c.heads,
                                             .kv_heads = x.c.kv_heads,
                                             .executor = x.executor});
  set(attend);
  attend.with_lse_into(x.out, x.lse, x.q, x.k, x.v, mods...);
}

template <relative Of>
void luong_of(const operands_of& x, const auto&... mods) {
  using score = fovea::luong_score;
  using window_kind = fovea::luong_window;
  const auto as_made = [](auto&) {};
  if constexpr (Of == relative::dot) luong<score::dot>(x, as_made, mods...);
  if constexpr (Of == relative::local_m) luong<score::dot, window_kind::local_m>(x, as_made, mods...);
  if constexpr (Of == relative::local_p) luong<score::dot, window_kind::local_p>(x, as_made, mods...);
  if constexpr (Of == relative::location)
    luong<score::location>(
        x, [&](auto& a) { a.w_a = below(x.r.own[0]); }, mods...);
  if constexpr (Of == relative::concat)
    luong<score::concat>(
        x,
        [&](auto& a) {
          a.network.w_q = below(x.r.own[0]), a.network.w_k = below(x.r.own[1]);
          a.network.v = row_beside(x.r.own[2], 1);
        },
        mods...);
}

void additive(const operands_of& x, const auto&... mods) {
  fovea::additive<float> attend({.hidden = x.r.own[2].keys,
                                 .query_dim = x.c.q.dim,
                                 .heads = x.c.heads,
                                 .kv_heads = x.c.kv_heads,
                                 .executor = x.executor});
  attend.w_q = below(x.r.own[0]), attend.w_k = below(x.r.own[1]);
  attend.b = row_beside(x.r.own[2], 0), attend.v = row_beside(x.r.own[2], 1);
  attend.with_lse_into(x.out, x.lse, x.q, x.k, x.v, mods...);
}

/// The first head's results are what its kept weights make of the values.
void kept_weights(const operands_of& x, const auto&... mods) {
  index_type keys = x.c.k.tokens;
  for (index_type b = 0; x.c.k.offsets && b < x.c.batch; ++b)
    keys = std::max(b == 0 ? 0 : keys, x.c.k.offsets[b + 1] - x.c.k.offsets[b]);
  const auto weights = x.like(x.c.out, 1, keys);
  const auto kept = weights.written();
  x.plain().with_lse_into(x.out, x.lse, x.q, x.k, x.v, mods..., fovea::weights_into(kept, 0));
  for (index_type b = 0; b < x.c.batch; ++b) {
    const auto tokens = [&](const memory_view& m) {
      return m.offsets ? m.offsets[b + 1] - m.offsets[b] : m.tokens;
    };
    const auto at = [&](const memory_view& m, index_type t, index_type c) -> float& {
      return static_cast<float*>(m.data)[m.place(b, 0, t, c)];
    };
    for (index_type i = 0; i < tokens(x.c.q); ++i)
      for (index_type c = 0; c < x.c.out.dim; ++c) {
        double sum = 0;
        for (index_type j = 0; j < tokens(x.c.k); ++j) {
          const float w = at(weights.memory(), i, j);
          if (w != 0) sum += static_cast<double>(w) * static_cast<double>(at(x.c.v, j, c));
        }
        at(x.c.out, i, c) = static_cast<float>(sum);
      }
  }
}

template <relative Of, std::uint64_t Has>
class relative_subject final : public subject {
 public:
  explicit relative_subject(rules_kind kind)
      : subject(kind, element_kind::f32, element_kind::f32, element_kind::f32, element_kind::f32) {}

  allocation_count attend(const call& c) const override {
    const fovea_test::rules twice = Of == relative::differential ? with_head_pairs(*c.rules) : *c.rules;
    const stored_rules<float, bool> stored(twice, element_kind::f32);
    const operands_of x{c};
    with_rules<Has>(stored, [&](const auto&... mods) {
      if constexpr (Of == relative::sigmoid) fovea_test::sigmoid(x, mods...);
      if constexpr (Of == relative::talking_heads) fovea_test::talking_heads(x, mods...);
      if constexpr (Of == relative::differential) fovea_test::differential(x, mods...);
      if constexpr (Of == relative::transformer_xl) fovea_test::transformer_xl(x, mods...);
      if constexpr (Of == relative::cosine) fovea_test::cosine(x, mods...);
      if constexpr (Of == relative::decomposed) fovea_test::decomposed(x, mods...);
      if constexpr (Of == relative::general) fovea_test::general(x, mods...);
      if constexpr (Of == relative::additive) fovea_test::additive(x, mods...);
      if constexpr (Of > relative::additive) luong_of<Of>(x, mods...);
      if constexpr (Of == relative::kept_weights) fovea_test::kept_weights(x, mods...);
    });
    return {};
  }
  plan_facts plan_for(const call&) const override { return {}; }
  bool flushes_keys() const noexcept override { return false; }
  bool flushes_values() const noexcept override { return false; }
  bool has_plan() const noexcept override { return false; }
  bool has_matrix() const noexcept override { return false; }
  array weights(const call&) const override { return {}; }
  array scores(const call&) const override { return {}; }
  array picks(const call&) const override { return {}; }
};

}  // namespace

void add_f32(subject_list& to) {
  using enum element_kind;
  add_kinds<f32, f32, f32, f32>(to, std::index_sequence<all_rules.size() - 1>());  // as tables
  const auto add = [&]<relative Of, std::uint64_t Has = of_relatives>(const char* name) {
    to.push_back(std::make_unique<relative_subject<Of, Has>>(rules_kind{Has, name, Of}));
  };
  add.operator()<relative::sigmoid>("sigmoid"), add.operator()<relative::differential>("differential");
  add.operator()<relative::talking_heads>("talking_heads"), add.operator()<relative::cosine>("cosine");
  add.operator()<relative::transformer_xl>("transformer_xl"),
      add.operator()<relative::general>("luong_general");
  add.operator()<relative::decomposed>("decomposed"), add.operator()<relative::additive>("additive");
  add.operator()<relative::dot>("luong_dot"), add.operator()<relative::concat>("luong_concat");
  add.operator()<relative::location>("luong_location");
  add.operator()<relative::local_m>("luong_local_m"), add.operator()<relative::local_p>("luong_local_p");
  add.operator()<relative::kept_weights, everything>("weights_into");
  const auto add_plain = [&]<std::size_t Kind>() {
    constexpr rules_kind kind = more_rules[Kind];
    to.push_back(std::make_unique<typed_subject<f32, f32, f32, f32, kind.features>>(kind));
  };
  add_plain.operator()<0>(), add_plain.operator()<1>();
}
void add_f64(subject_list&) {}
void add_bf16(subject_list&) {}
void add_f16(subject_list&) {}
void add_mixed(subject_list&) {}

}  // namespace fovea_test
