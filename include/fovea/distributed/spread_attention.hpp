// fovea/distributed/spread_attention.hpp - attention over ranks by heads, by tokens, or by both.
//
//   fovea::spread_attention<float, 32, 8> attend{MPI_COMM_WORLD};
//   auto o = attend(q, k, v, fovea::causal);    // q, k, v, o: the tokens that this rank holds, as in a ring
#pragma once

#include <fovea/distributed/ring_attention.hpp>
#include <fovea/distributed/spread_plan.hpp>
#include <fovea/view/ragged.hpp>

FOVEA_NAMESPACE_BEGIN

struct spread_options {
  ring_attention_options ring = {};
  int head_ranks = 0;  // how many ranks share heads; 1: a ring of all; 0: as plan_spread says
};

/// What ring_attention computes, of the same arguments and with the same errors: groups of ranks first
/// exchange tokens for heads, so that each holds all of its group's tokens for a share of the heads, then the
/// keys travel round rings that have one rank of each group (a group of all ranks: round none). Heads move
/// less than keys do where there are many ranks; a ring has no limit by the number of heads and overlaps. The
/// plan, by bytes, says which; or the option head_ranks does. (Fang & Zhao, "USP", arXiv:2405.07719.)
///
/// Cost beside the ring's: memory for this rank's share of the heads of its group's tokens, O(L / P). Each
/// call splits the communicator.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Wire = void>
class spread_attention {
  template <class X>
  using wire_of = std::conditional_t<std::is_void_v<Wire>, element_of<X>, Wire>;
  template <class K, class V>
  using compute_of = common_compute_t<T, wire_of<K>, wire_of<V>>;

 public:
  explicit spread_attention(MPI_Comm comm, const spread_options& options = {})
      : processes_(comm), options_(options) {
    distributed::together(processes_, [&] {
      check_heads("heads", options.ring.heads, Heads),
          check_heads("kv_heads", options.ring.kv_heads, KVHeads);
      if (options.head_ranks < 0) reject("the option head_ranks is ", options.head_ranks, ", below 0");
    });
  }

  int rank() const noexcept { return processes_.rank(); }
  int ranks() const noexcept { return processes_.ranks(); }

  /// Returns this rank's rows of {O, LSE}.
  template <class Q, class K, class V, class... Mods>
  auto with_lse(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    using compute = compute_of<K, V>;
    decltype(make_like<T>(q, 1, 1)) out;
    decltype(make_like<compute>(q, 1, 1)) lse;
    distributed::together(processes_, [&] {
      const index_type heads = heads_of(q);
      out = make_like<T>(q, heads, view_of(v, kv_heads_of(heads), "v").dim());
      lse = make_like<compute>(q, heads, 1);
    });
    with_lse_into(shaped_like(q, out), shaped_like(q, lse), q, k, v, mods...);
    return partial<decltype(out), decltype(lse)>{std::move(out), std::move(lse)};
  }
  template <class Q, class K, class V, class... Mods>
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    return with_lse(q, k, v, mods...).out;
  }

  /// Writes them into `o` and `lse`, which lie apart from what is read.
  template <class O, class L, class Q, class K, class V, class... Mods>
  void with_lse_into(O&& o, L&& lse, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    using compute = compute_of<K, V>;
    sequences<element_of<O>> to_o;
    sequences<compute> to_lse;
    const auto call = agreed_call(q, k, v, [&](const auto& x, index_type heads) {
      to_o = view_of(o, heads, "o"), to_lse = view_of(lse, heads, "lse");
      check_result("o", to_o, "q", x.q, x.v.dim()), check_result("lse", to_lse, "q", x.q, 1);
      results<2> written;
      written.add("o", to_o.all), written.add("lse", to_lse.all);
      const auto read = [&](const char* name, const auto& y) { written.check_apart_from(name, y); };
      read("q", x.q), read("k", x.k), read("v", x.v), (each_operand_of(mods, read), ...);
    });
    on_heads(call, [&](const auto& ring, const auto& heads, const auto& shares) {
      auto all = heads.inputs(call);
      tensor<compute> out, sums;
      distributed::together(processes_, [&] {
        out = tensor<compute>(1, all.q.heads(), all.q.tokens(), call.v.dim());
        sums = tensor<compute>(1, all.q.heads(), all.q.tokens(), 1);
      });
      const auto packed = [&](auto& x) { return ragged{x, heads.queries.offsets()}; };
      distributed::together(processes_, [&] {
        ring.with_lse_into(packed(out), packed(sums), packed(all.q), ragged{all.k, heads.keys.offsets()},
                           ragged{all.v, heads.keys.offsets()}, mods...);
      });
      const auto of_queries = [&](int m) { return shares.queries_of(m); };
      heads.queries.to_tokens(out, of_queries, to_o), heads.queries.to_tokens(sums, of_queries, to_lse);
    });
    fill_rows_of_none(to_o), fill_rows_of_none(to_lse, -std::numeric_limits<compute>::infinity());
  }

  /// Writes the gradients of this rank's tokens into `d_q`, `d_k` and `d_v`: ring_attention's backward_into.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  void backward_into(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v, const O& out,
                     const L& lse, const G& d_out, const Mods&... mods) const {
    using compute = compute_of<K, V>;
    static_assert((modifier<Mods> && ...), "fovea: gradients over heads take masks, scores and a dropout");
    static_assert(!(sink_like<Mods> || ...),
                  "fovea: gradients over heads have no sink; ring_attention's have");
    sequences<element_of<DQ>> to_q;
    sequences<element_of<DK>> to_k;
    sequences<element_of<DV>> to_v;
    distributed::ring_results<const element_of<O>, const compute, const element_of<G>> given;
    const auto call = agreed_call(q, k, v, [&](const auto& x, index_type heads) {
      const index_type kv_heads = kv_heads_of(heads);
      to_q = view_of(d_q, heads, "d_q"), to_k = view_of(d_k, kv_heads, "d_k"),
      to_v = view_of(d_v, kv_heads, "d_v");
      given = {read_only(view_of(out, heads, "out")), read_only(view_of(lse, heads, "lse")),
               read_only(view_of(d_out, heads, "d_out"))};
      distributed::check_gradients(x, given, distributed::whole_rules(mods...), to_q, to_k, to_v, mods...);
    });
    on_heads(call, [&](const auto& ring, const auto& heads, const auto& shares) {
      const auto of_queries = [&](int m) { return shares.queries_of(m); };
      const auto of_keys = [&](int m) { return shares.keys_of(m); };
      const auto of_q = [&](auto& x) { return ragged{x, heads.queries.offsets()}; };
      const auto of_k = [&](auto& x) { return ragged{x, heads.keys.offsets()}; };
      auto all = heads.inputs(call);
      auto all_out = heads.queries.template to_heads<element_of<O>>(given.out, of_queries);
      auto all_lse = heads.queries.template to_heads<compute>(given.lse, of_queries);
      auto all_d_out = heads.queries.template to_heads<element_of<G>>(given.d_out, of_queries);
      tensor<compute> dq, dk, dv;
      distributed::together(processes_, [&] {
        dq = tensor<compute>(1, all.q.heads(), all.q.tokens(), call.q.dim());
        dk = tensor<compute>(1, all.k.heads(), all.k.tokens(), call.k.dim());
        dv = tensor<compute>(1, all.v.heads(), all.v.tokens(), call.v.dim());
      });
      distributed::together(processes_, [&] {
        ring.backward_into(of_q(dq), of_k(dk), of_k(dv), of_q(all.q), of_k(all.k), of_k(all.v), of_q(all_out),
                           of_q(all_lse), of_q(all_d_out), mods...);
      });
      heads.queries.to_tokens(dq, of_queries, to_q);
      heads.keys.to_tokens(dk, of_keys, to_k), heads.keys.to_tokens(dv, of_keys, to_v);
    });
    fill_rows_of_none(to_q), fill_rows_of_none(to_k), fill_rows_of_none(to_v);
  }

 private:
  /// The exchange of a group, and what comes of it.
  struct exchange {
    distributed::head_exchange queries, keys;
    distributed::head_shares shares;

    template <class QW, class KW, class VW>
    struct operands {
      tensor<QW> q;
      tensor<KW> k;
      tensor<VW> v;
    };
    template <class QE, class KE, class VE>
    auto inputs(const distributed::ring_call<QE, KE, VE>& call) const {
      using KW = std::conditional_t<std::is_void_v<Wire>, KE, Wire>;
      using VW = std::conditional_t<std::is_void_v<Wire>, VE, Wire>;
      const auto of_keys = [&](int m) { return shares.keys_of(m); };
      return operands<QE, KW, VW>{queries.to_heads<QE>(call.q, [&](int m) { return shares.queries_of(m); }),
                                  keys.to_heads<KW>(call.k, of_keys), keys.to_heads<VW>(call.v, of_keys)};
    }
  };

  template <class Q, class K, class V, class Check>
  auto agreed_call(const Q& q, const K& k, const V& v, const Check& check) const {
    distributed::ring_call<element_of<Q>, element_of<K>, element_of<V>> call;
    distributed::together(processes_, [&] {
      const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
      call.q = read_only(view_of(q, heads, "q")), call.k = read_only(view_of(k, kv_heads, "k"));
      call.v = read_only(view_of(v, kv_heads, "v"));
      call.sizes = distributed::check_own_operands(call, options_.ring, heads, kv_heads);
      check(call, heads);
    });
    auto same = distributed::agreement_of<T, wire_of<K>, wire_of<V>>(call.sizes, options_.ring);
    same.add("the option head_ranks", options_.head_ranks);
    same.settle(processes_);
    distributed::gather_slices(processes_, call, options_.ring.layout, call.sizes);
    return call;
  }

  /// work(ring, exchange, shares) with the ring of those that have the same share of the heads.
  template <class QE, class KE, class VE, class Work>
  void on_heads(const distributed::ring_call<QE, KE, VE>& call, const Work& work) const {
    const auto& sizes = call.sizes;
    spread_sizes all{sizes.heads,     sizes.kv_heads, 0,          0,         sizes.dim,
                     sizes.value_dim, sizeof(QE),     sizeof(KE), sizeof(VE)};
    if constexpr (!std::is_void_v<Wire>) all.key_bytes = all.value_bytes = sizeof(Wire);
    for (index_type b = 0; b < sizes.batches; ++b)
      all.queries += sizes.place_of(b).queries, all.keys += sizes.place_of(b).keys;
    const spread_plan plan = options_.head_ranks > 0 ? plan_of_heads(ranks(), options_.head_ranks, all)
                                                     : plan_spread(ranks(), all);
    const int group_number = rank() / plan.head_ranks, member = rank() % plan.head_ranks;
    const distributed::split_communicator of_group(processes_, group_number), of_ring(processes_, member);
    const distributed::communicator group(of_group.get());
    const distributed::head_shares shares{sizes.heads, sizes.kv_heads, plan.head_ranks};
    ring_attention_options options = options_.ring;
    options.heads = shares.queries_of(member).size(), options.kv_heads = shares.keys_of(member).size();
    options.first_head = shares.queries_of(member).first, options.heads_in_all = sizes.heads;
    const ring_attention<T, dynamic_heads, dynamic_heads, Wire> ring(of_ring.get(), options);
    const int first = group_number * plan.head_ranks;
    work(ring,
         exchange{{processes_, group, first, sizes.queries}, {processes_, group, first, sizes.keys}, shares},
         shares);
  }

  attention_options sizes_of_heads() const {
    return {.heads = options_.ring.heads, .kv_heads = options_.ring.kv_heads};
  }
  template <class Q>
  index_type heads_of(const Q& q) const {
    return query_heads<Heads>(sizes_of_heads(), q);
  }
  index_type kv_heads_of(index_type heads) const { return key_value_heads<KVHeads>(sizes_of_heads(), heads); }

  distributed::communicator processes_;
  spread_options options_;
};

FOVEA_NAMESPACE_END
