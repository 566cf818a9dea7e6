// tests/property/typed_subject.hpp - a subject of given elements and rules: the library's own types, once for
// tensors, for Eigen maps by rows and by columns, and for ragged batches.
#pragma once

#include "rules.hpp"
#include "subject.hpp"

#include <fovea/hard.hpp>

namespace fovea_test {

template <element_kind>
struct stored_as;
template <>
struct stored_as<element_kind::f32> {
  using type = float;
};
template <>
struct stored_as<element_kind::f64> {
  using type = double;
};
template <>
struct stored_as<element_kind::bf16> {
  using type = fovea::bf16;
};
template <>
struct stored_as<element_kind::f16> {
  using type = fovea::fp16;
};
template <element_kind Kind>
using stored = typename stored_as<Kind>::type;

// isa.cpp: what runs the jobs (it lives as long as the program), and what a plan says.
fovea::executor_ref executor_for(const executor_choice& choice);
plan_facts facts_of(const fovea::plan& p);

/// Memory whose kind of view is known at run time: the library is compiled for it once instead of once for
/// each kind.
template <class E>
struct any_view {
  view_kind kind;
  memory_view memory;

  fovea::tensor_view<E> as_tensor() const {
    const memory_view& m = memory;
    return {static_cast<E*>(m.data), m.batch,       m.heads,        m.tokens,    m.dim,
            m.batch_stride,          m.head_stride, m.token_stride, m.dim_stride};
  }
  template <int Order>
  auto as_map() const {
    using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
    using matrix = Eigen::Matrix<std::remove_const_t<E>, Eigen::Dynamic, Eigen::Dynamic, Order>;
    using map = Eigen::Map<std::conditional_t<std::is_const_v<E>, const matrix, matrix>, 0, strides>;
    const memory_view& m = memory;
    const strides of_rows(m.token_stride, m.dim_stride), of_columns(m.dim_stride, m.token_stride);
    return map(static_cast<E*>(m.data), m.tokens, m.heads * m.dim,
               Order == Eigen::RowMajor ? of_rows : of_columns);
  }
  std::span<const index_type> offsets() const {
    return {memory.offsets, static_cast<std::size_t>(memory.batch + 1)};
  }
  fovea::list_view<index_type> list = offsets();  // sequences refer to it
};

/// Memory of its own for the tokens of another view, in the same order.
template <class T>
class any_owner {
 public:
  any_owner(view_kind kind, const memory_view& like, index_type heads, index_type dim)
      : kind_(kind), at_(like) {
    const bool by_columns = kind == view_kind::columns;
    at_.heads = heads, at_.dim = dim;
    at_.dim_stride = by_columns ? like.tokens : 1, at_.head_stride = dim * at_.dim_stride;
    at_.token_stride = by_columns ? 1 : heads * dim, at_.batch_stride = like.tokens * heads * dim;
    numbers_.resize(static_cast<std::size_t>((like.offsets ? 1 : like.batch) * at_.batch_stride));
    at_.data = numbers_.data();
    list_ = std::make_unique<fovea::list_view<index_type>>(read().offsets());
  }
  any_owner(any_owner&&) = default;

  const memory_view& memory() const noexcept { return at_; }
  T* data() noexcept { return numbers_.data(); }
  std::size_t size() const noexcept { return numbers_.size(); }
  any_view<T> written() const { return {kind_, at_}; }
  any_view<const T> read() const { return {kind_, at_}; }
  const fovea::list_view<index_type>* list() const noexcept { return list_.get(); }

 private:
  view_kind kind_;
  memory_view at_;
  std::vector<T> numbers_;
  std::unique_ptr<fovea::list_view<index_type>> list_;  // sequences refer to it
};

}  // namespace fovea_test

template <class E>
struct fovea::view_traits<fovea_test::any_view<E>> {
  using element = E;

  static fovea::sequences<E> view(const fovea_test::any_view<E>& x, fovea::index_type heads,
                                  const char* name) {
    using enum fovea_test::view_kind;
    if (x.kind == tensor) return of(x.as_tensor(), heads, name);
    if (x.kind == columns) return of(x.template as_map<Eigen::ColMajor>(), heads, name);
    auto by_rows = x.template as_map<Eigen::RowMajor>();
    if (x.kind == rows) return of(by_rows, heads, name);
    auto packed = of(fovea::ragged(by_rows, x.offsets()), heads, name);
    packed.offsets = &x.list;
    return packed;
  }
  template <class T>
  static fovea_test::any_owner<T> make_like(const fovea_test::any_view<E>& x, fovea::index_type heads,
                                            fovea::index_type dim) {
    return {x.kind, x.memory, heads, dim};
  }

 private:
  template <class X>
  static fovea::sequences<E> of(X x, fovea::index_type heads, const char* name) {
    return fovea::as_sequences(x, heads, name);
  }
};

template <class T>
struct fovea::view_traits<fovea_test::any_owner<T>> {
  using element = T;
  static fovea::sequences<T> view(const fovea_test::any_owner<T>& x, fovea::index_type heads,
                                  const char* name) {
    auto packed = view_traits<fovea_test::any_view<T>>::view(x.written(), heads, name);
    if (packed.offsets != nullptr) packed.offsets = x.list();
    return packed;
  }
};

namespace fovea_test {

/// A gate for each element of a result: its sigmoid is 1/2 or 1, exactly, so that the result is known again when
/// that factor is taken off.
class exact_gates {
 public:
  memory_view at;

  exact_gates(const memory_view& out, bool by_columns) : at(out) {
    numbers_.resize(static_cast<std::size_t>(matrices(out) * out.heads * out.tokens * out.dim));
    at.data = numbers_.data();
    at.dim_stride = by_columns ? out.tokens : 1, at.head_stride = out.dim * at.dim_stride;
    at.token_stride = by_columns ? 1 : out.heads * out.dim, at.batch_stride = out.tokens * at.token_stride;
    each(at, numbers_.data(), [](float& x, bool half) { x = half ? 0.f : 100.f; });
  }
  template <class E>
  void take_off(E* data, const memory_view& out) const {
    each(out, data, [](E& x, bool half) {
      if (half) x = E(2 * static_cast<fovea::compute_t<E>>(x));
    });
  }

 private:
  static index_type matrices(const memory_view& m) { return m.offsets ? 1 : m.batch; }
  /// f(element, whether its gate is 1/2), of each row of a packed result, in a sequence or not.
  template <class E, class F>
  static void each(const memory_view& m, E* data, const F& f) {
    for (index_type b = 0; b < matrices(m); ++b)
      for (index_type h = 0; h < m.heads; ++h)
        for (index_type t = 0; t < m.tokens; ++t)
          for (index_type c = 0; c < m.dim; ++c)
            f(data[b * m.batch_stride + h * m.head_stride + t * m.token_stride + c * m.dim_stride],
              (h + t + c) % 2 == 0);
  }

  std::vector<float> numbers_;
};

template <element_kind Q, element_kind K, element_kind V, element_kind O, std::uint64_t Has>
class typed_subject final : public subject {
  using query = stored<Q>;
  using compute = fovea::common_compute_t<query, stored<K>, stored<V>>;
  using bias_element = std::conditional_t<(Has & exact_tables) != 0, float, query>;
  static constexpr element_kind bias_kind = (Has & exact_tables) != 0 ? element_kind::f32 : Q;
  using stored_type =
      stored_rules<bias_element, std::conditional_t<(Has & exact_tables) != 0, std::uint8_t, bool>>;

 public:
  explicit typed_subject(rules_kind kind) : subject(kind, Q, K, V, O) {}

  allocation_count attend(const call& c) const override {
    return with_call(c, [&](const auto& a, const auto&... mods) {
      const any_view<stored<O>> out{c.views, c.out};
      const any_view<compute> lse{c.views, c.lse};
      const exact_gates opened((Has & gates) != 0 ? c.out : memory_view{}, c.views == view_kind::columns);
      const any_view<const float> gates_of_out{c.views, opened.at};
      const allocation_count before = allocations();
      if constexpr ((Has & rounds) != 0)
        a.with_lse_into(out, lse, q_of(c), k_of(c), v_of(c), mods..., fovea::rounded_weights);
      else if constexpr ((Has & gates) != 0)
        a.with_lse_into(out, lse, q_of(c), k_of(c), v_of(c), mods..., fovea::gate(gates_of_out));
      else
        a.with_lse_into(out, lse, q_of(c), k_of(c), v_of(c), mods...);
      const allocation_count after = allocations();
      if constexpr ((Has & gates) != 0) opened.take_off(static_cast<stored<O>*>(c.out.data), c.out);
      return allocation_count{after.calls - before.calls, after.bytes - before.bytes};
    });
  }

  // Compiled for what differs: plans depend on sizes and elements, score matrices are the same function in
  // any element.
  static constexpr bool all_float = Q == K && K == V && V == O && O == element_kind::f32;
  static constexpr bool shows_plan = Has == tables || (all_float && (Has == 0 || Has == everything));
  static constexpr bool shows_matrix = all_float || Has == everything;

  template <element_kind E>
  using head_of = fovea::matrix_view<const stored<E>>;
  static constexpr bool pairs =
      fovea::kernel::pairs_channels<xsimd::default_arch, compute, query, head_of<K>>;
  bool flushes_keys() const noexcept override { return pairs; }
  bool flushes_values() const noexcept override {
    return pairs && (Has & rounds) != 0 &&
           fovea::kernel::pairs_tokens<xsimd::default_arch, compute, head_of<V>>;
  }

  bool has_plan() const noexcept override { return shows_plan; }
  bool has_matrix() const noexcept override { return shows_matrix; }

  plan_facts plan_for(const call& c) const override {
    if constexpr (shows_plan)
      return facts_of(with_call(c, [&](const auto& a, const auto&... mods) {
        return a.plan_for(q_of(c), k_of(c), v_of(c), mods...);
      }));
    else
      return {};
  }

  array weights(const call& c) const override {
    if constexpr (shows_matrix)
      return plain(with_call(
          c, [&](const auto& a, const auto&... mods) { return a.weights(q_of(c), k_of(c), mods...); }));
    else
      return {};
  }

  array scores(const call& c) const override {
    if constexpr (shows_matrix)
      return plain(with_call(
          c, [&](const auto& a, const auto&... mods) { return a.scores(q_of(c), k_of(c), mods...); }));
    else
      return {};
  }

  array picks(const call& c) const override {
    if constexpr (shows_matrix)
      return plain(with_call<fovea::hard>(c, [&](const auto& look, const auto&... mods) {
        return look.picks(q_of(c), k_of(c), fovea::argmax{}, mods...);
      }));
    else
      return {};
  }

 private:
  template <template <class, int, int, class> class Attention = fovea::attention, class F>
  static auto with_call(const call& c, F f) {
    const stored_type rules(*c.rules, bias_kind);
    const Attention<query, fovea::dynamic_heads, fovea::dynamic_heads, xsimd::default_arch> a{
        {.scale = c.scale,
         .heads = c.heads,
         .kv_heads = c.kv_heads,
         .executor = executor_for(c.executor),
         .workspace = c.workspace}};
    return with_rules<Has & ~beside_rules>(rules, [&](const auto&... mods) { return f(a, mods...); });
  }

  static any_view<const query> q_of(const call& c) { return {c.views, c.q}; }
  static any_view<const stored<K>> k_of(const call& c) { return {c.views, c.k}; }
  static any_view<const stored<V>> v_of(const call& c) { return {c.views, c.v}; }

  template <class E>
  static array plain(const fovea::tensor<E>& t) {
    array a(t.batch(), t.heads(), t.tokens(), t.dim());
    std::copy(t.data(), t.data() + t.size(), a.x.begin());
    return a;
  }
};

/// These kinds of rules, but those that float alone is for.
template <element_kind Q, element_kind K, element_kind V, element_kind O, std::size_t... Kinds>
void add_kinds(subject_list& to, std::index_sequence<Kinds...>) {
  const auto add = [&]<std::size_t Kind>() {
    constexpr rules_kind kind = all_rules[Kind];
    if constexpr (Q == element_kind::f32 || (kind.features & in_float_alone) == 0)
      to.push_back(std::make_unique<typed_subject<Q, K, V, O, kind.features>>(kind));
  };
  (add.template operator()<Kinds>(), ...);
}

template <element_kind E>
void add_element(subject_list& to) {
  add_kinds<E, E, E, E>(to, std::make_index_sequence<all_rules.size()>());
}

}  // namespace fovea_test
