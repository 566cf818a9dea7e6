// fovea/distributed/ring_attention.hpp - attention over sequences that are spread over processes (MPI).
//
//   fovea::ring_attention<float, 8> attend{MPI_COMM_WORLD, {.layout = fovea::token_layout::balanced}};
//   auto o = attend(q, k, v, fovea::causal);        // q, k, v, o: the tokens that this rank holds
//
// Each rank holds a slice of the tokens of Q, K and V. The keys and values travel round the ring of ranks,
// and are computed with while the next ones are on their way; what each block gives is merged by its LSE.
// (Liu, Zaharia & Abbeel, "Ring attention with blockwise transformers", arXiv:2310.01889. The balanced
// layout: two slices a rank, as in "The Llama 3 herd of models", arXiv:2407.21783, section 3.3.2.)
#pragma once

#include <fovea/distributed/gradient_walks.hpp>
#include <fovea/distributed/ring_backward.hpp>
#include <fovea/distributed/ring_forward.hpp>

FOVEA_NAMESPACE_BEGIN

/// Attention of all ranks of a communicator on the tokens that they hold together: what attention<T, Heads,
/// KVHeads> gives for the whole sequences, up to rounding.
///
/// T, Heads, KVHeads: as attention's. Wire: the element that keys and values travel in and are computed with;
/// void: their own. Arguments: as attention's, Eigen matrices, tensor_views, tensors or ragged batches, this
/// rank's tokens of each sequence, in the layout of the options; a rank may hold none. Masks, scores, a sink
/// and dropout speak of the whole sequences: positions count from the start of the sequence, matrices (bias,
/// boolean_mask) and lists have its size, on every rank; `causal` needs as many queries as keys in all.
///
/// Every rank of the communicator makes the object, and each call, in the same order. Where sizes, options,
/// elements, dropout, or masks and scores, their lists and matrices among them, differ between ranks, or
/// which gradients of theirs are wanted, or an argument is wrong on one of them, all ranks throw the same
/// exception before anything is written or sent; it names the rank and the value (std::invalid_argument,
/// std::length_error; std::runtime_error for what else a rank threw, as for want of memory). Where a rank
/// fails later, as an executor may, all throw once the exchange has ended, and results are unspecified. A
/// process that ends takes the others with it: that is MPI's. All calls of MPI come from the calling thread:
/// MPI_Init will do, or MPI_THREAD_FUNNELED with an executor that has threads. (Masks and scores are compared
/// by what they read, of more than 65,536 numbers some, and by what they say of some cells and blocks:
/// functions of a user's are asked of single cells then, as in reference.hpp.)
///
/// Cost, a rank: the operations of attention over P; O(L / P) memory: two blocks of keys and values, rows of
/// O in float where the result is of another type, and a part of O. Sent: P - 1 blocks, Lk / P * kv_heads *
/// (d + dv) elements each where slices are even; with reproducible_block, the rank's own one to all others.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Wire = void>
class ring_attention {
  template <class X>
  using wire_of = std::conditional_t<std::is_void_v<Wire>, element_of<X>, Wire>;
  template <class K, class V>
  using compute_of = common_compute_t<T, wire_of<K>, wire_of<V>>;

 public:
  explicit ring_attention(MPI_Comm comm, const ring_attention_options& options = {})
      : processes_(comm), options_(options) {
    distributed::together(processes_, [&] {
      check_heads("heads", options.heads, Heads), check_heads("kv_heads", options.kv_heads, KVHeads);
    });
  }

  int rank() const noexcept { return processes_.rank(); }
  int ranks() const noexcept { return processes_.ranks(); }

  /// Returns this rank's rows of O, of the kind and storage order of q.
  template <class Q, class K, class V, class... Mods>
  auto operator()(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    auto out = result_for<T>(q, v, [](index_type) {});
    into(shaped_like(q, out), q, k, v, mods...);
    return out;
  }

  /// Writes them into `o`, of any element; it may be q itself.
  template <class O, class Q, class K, class V, class... Mods>
  void into(O&& o, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    attend(o, static_cast<tensor_view<compute_of<K, V>>*>(nullptr), q, k, v, mods...);
  }

  /// Returns {O, LSE} of this rank's rows; the LSE is that over the keys of all ranks.
  template <class Q, class K, class V, class... Mods>
  auto with_lse(const Q& q, const K& k, const V& v, const Mods&... mods) const {
    decltype(make_like<compute_of<K, V>>(q, 1, 1)) lse;
    auto out = result_for<T>(q, v, [&](index_type heads) { lse = make_like<compute_of<K, V>>(q, heads, 1); });
    with_lse_into(shaped_like(q, out), shaped_like(q, lse), q, k, v, mods...);
    return partial<decltype(out), decltype(lse)>{std::move(out), std::move(lse)};
  }

  template <class O, class L, class Q, class K, class V, class... Mods>
  void with_lse_into(O&& o, L&& lse, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    static_assert(std::is_same_v<element_of<L>, compute_of<K, V>>,
                  "fovea: the LSE is float, or double where q, k or v is double");
    attend(o, &lse, q, k, v, mods...);
  }

  /// Returns {d_q, d_k, d_v} of this rank's tokens: as attention's backward, whose arguments these are, of
  /// the rows that this rank holds; `out` and `lse` are what with_lse gave. dK and dV travel with their keys,
  /// in the type that sums are made in, a step behind: 2 P - 1 blocks in all; with reproducible_block sums
  /// over parts of the queries go to the rank that holds the keys (ordered_gradients.hpp). The gradients of
  /// parameters, of scores (bias, tables, slopes) and a sink, are of the whole sequences, on every rank; sums
  /// take up to 112 bytes a number (double: 568), of a bias with a number a cell 8 (but with
  /// reproducible_block as of others where sequences share it). With Wire gradients are
  /// those at the keys and values as rounded.
  template <class Q, class K, class V, class O, class L, class G, class... Mods>
  auto backward(const Q& q, const K& k, const V& v, const O& out, const L& lse, const G& d_out,
                const Mods&... mods) const {
    std::optional<decltype(gradients_like(q, k, v, 1, 1))> to;
    distributed::together(processes_, [&] {
      const index_type heads = heads_of(q);
      to.emplace(gradients_like(q, k, v, heads, kv_heads_of(heads)));
    });
    backward_into(shaped_like(q, to->d_q), shaped_like(k, to->d_k), shaped_like(v, to->d_v), q, k, v, out,
                  lse, d_out, mods...);
    return std::move(*to);
  }

  /// Writes them into `d_q`, `d_k` and `d_v`, which share no memory with each other or with what is read.
  template <class DQ, class DK, class DV, class Q, class K, class V, class O, class L, class G, class... Mods>
  void backward_into(DQ&& d_q, DK&& d_k, DV&& d_v, const Q& q, const K& k, const V& v, const O& out,
                     const L& lse, const G& d_out, const Mods&... mods) const {
    using compute = compute_of<K, V>;
    static_assert(std::is_same_v<element_of<L>, compute>,
                  "fovea: the LSE is float, or double where q, k or v is double");
    const auto rules = distributed::whole_rules(mods...);
    sequences<element_of<DQ>> to_q;
    sequences<element_of<DK>> to_k;
    sequences<element_of<DV>> to_v;
    distributed::ring_results<const element_of<O>, const compute, const element_of<G>> results;
    const auto call = agreed_call(
        [&](const auto& x, index_type heads) {
          const index_type kv_heads = kv_heads_of(heads);
          to_q = view_of(d_q, heads, "d_q"), to_k = view_of(d_k, kv_heads, "d_k");
          to_v = view_of(d_v, kv_heads, "d_v");
          results = {read_only(view_of(out, heads, "out")), read_only(view_of(lse, heads, "lse")),
                     read_only(view_of(d_out, heads, "d_out")),
                     view_of_lse_gradient<compute>(heads, mods...)};
          distributed::check_gradients(x, results, rules, to_q, to_k, to_v, mods...);
        },
        q, k, v, mods...);
    const attention<T> on_views{kernel_options(call.sizes.heads, call.sizes.kv_heads)};
    const auto backward_of_views = [&](auto& dq, auto& dk, auto& dv, const auto& q_rows, const auto& k_rows,
                                       const auto& v_rows, const auto& o_rows, const auto& lse_rows,
                                       const auto& d_o_rows, const auto& d_lse_rows,
                                       const auto&... slice_mods) {
      if constexpr ((lse_gradient_like<Mods> || ...))
        on_views.backward_into(dq, dk, dv, q_rows, k_rows, v_rows, o_rows, lse_rows, d_o_rows,
                               lse_gradient(d_lse_rows), slice_mods...);
      else
        on_views.backward_into(dq, dk, dv, q_rows, k_rows, v_rows, o_rows, lse_rows, d_o_rows, slice_mods...);
    };
    using backward_pass = distributed::ring_backward<compute, std::remove_const_t<decltype(call)>,
                                                     decltype(results), std::remove_const_t<decltype(rules)>,
                                                     std::remove_const_t<decltype(backward_of_views)>>;
    const index_type block = options_.reproducible_block;
    std::optional<backward_pass> pass;
    std::optional<distributed::gradient_walk<wire_of<K>, wire_of<V>, compute>> walk;
    distributed::agree_on_rules<compute>(processes_, rules, call.sizes, [&] {
      pass.emplace(processes_, call, results, rules, backward_of_views, block);
      walk.emplace(processes_, call.sizes, block, options_.trace);
      if (options_.trace != nullptr) options_.trace->steps.clear();
    });
    distributed::agree_on_gradients(processes_, rules);
    distributed::kept_failure failure;
    walk->run(call, *pass, failure, to_k, to_v);
    pass->finish(processes_, to_q);
    fill_rows_of_none(to_q), fill_rows_of_none(to_k), fill_rows_of_none(to_v);
    distributed::together(processes_, [&] { failure.rethrow(); });
  }

 private:
  template <class O, class L, class Q, class K, class V, class... Mods>
  void attend(O& o, L* lse, const Q& q, const K& k, const V& v, const Mods&... mods) const {
    using compute = compute_of<K, V>;
    sequences<element_of<O>> out;
    sequences<compute> to_lse;
    const auto call = agreed_call(
        [&](const auto& x, index_type heads) {
          out = view_of(o, heads, "o");
          if (lse != nullptr) to_lse = view_of(*lse, heads, "lse");
          check_results(x, out, to_lse, mods...);
        },
        q, k, v, mods...);
    const attention<T> on_views{kernel_options(call.sizes.heads, call.sizes.kv_heads)};
    const auto attend_views = [&](const auto& out_rows, const auto& lse_rows, const auto&... arguments) {
      on_views.with_lse_into(out_rows, lse_rows, arguments...);
    };
    const auto rules = distributed::whole_rules(mods...);
    const index_type block = options_.reproducible_block;
    using forward_pass = distributed::ring_forward<compute, std::remove_const_t<decltype(call)>,
                                                   element_of<O>, std::remove_const_t<decltype(rules)>,
                                                   std::remove_const_t<decltype(attend_views)>>;
    std::optional<forward_pass> forward;
    std::optional<distributed::key_ring<wire_of<K>, wire_of<V>>> ring;
    std::optional<distributed::keys_in_order<wire_of<K>, wire_of<V>>> in_order;
    distributed::agree_on_rules<compute>(processes_, rules, call.sizes, [&] {
      forward.emplace(processes_, call, out, to_lse, rules, attend_views,
                      block > 0 ? block : distributed::rows_a_part);
      if (block > 0)
        in_order.emplace(processes_, call.sizes, block, options_.trace);
      else
        ring.emplace(processes_, call.sizes, options_.trace);
      if (options_.trace != nullptr) options_.trace->steps.clear();
    });
    distributed::kept_failure failure;
    const auto step = [&](int, const auto& each_block, const auto& progress) {
      failure.attempt([&] { forward->step(each_block, progress); });
      return index_type(0);  // bytes sent beside keys and values
    };
    block > 0 ? in_order->walk(call, step) : ring->walk(call, step);
    failure.attempt([&] { forward->finish(); });
    distributed::together(processes_, [&] { failure.rethrow(); });
  }

  /// The operands and sizes of a call that all ranks agree on; check(operands, heads) is what else this rank
  /// has to look at.
  template <class Check, class Q, class K, class V, class... Mods>
  auto agreed_call(const Check& check, const Q& q, const K& k, const V& v, const Mods&...) const {
    static_assert(check_call<T, Q, K, V>());
    static_assert(((modifier<Mods> || lse_gradient_like<Mods>)&&...),
                  "fovea: calls over ranks take masks, scores, a sink and a dropout");
    distributed::ring_call<element_of<Q>, element_of<K>, element_of<V>> call;
    distributed::together(processes_, [&] {
      const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
      call.q = read_only(view_of(q, heads, "q")), call.k = read_only(view_of(k, kv_heads, "k"));
      call.v = read_only(view_of(v, kv_heads, "v"));
      call.sizes = distributed::check_own_operands(call, options_, heads, kv_heads);
      check(call, heads);
    });
    distributed::agreement_of<T, wire_of<K>, wire_of<V>>(call.sizes, options_).settle(processes_);
    distributed::gather_slices(processes_, call, options_.layout, call.sizes);
    distributed::check_blocks(call.sizes, ranks(), options_.reproducible_block);
    return call;
  }

  template <class Operands, class OE, class L, class... Mods>
  static void check_results(const Operands& x, const sequences<OE>& out, const sequences<L>& lse,
                            const Mods&... mods) {
    const auto apart_from_keys = [&](const char* name, const auto& written) {
      check_apart(name, written, "k", x.k), check_apart(name, written, "v", x.v);
      [[maybe_unused]] const auto check = [&](const char* other, const auto& operand) {
        check_apart(name, written, other, operand);
      };
      (each_operand_of(mods, check), ...);
    };
    check_result("o", out, "q", x.q, x.v.dim());
    check_apart_or_same("o", out, "q", x.q), apart_from_keys("o", out.all);
    if (lse.all.data == nullptr) return;
    check_result("lse", lse, "q", x.q, 1);
    check_apart("lse", lse.all, "o", out.all), check_apart("lse", lse.all, "q", x.q);
    apart_from_keys("lse", lse.all);
  }

  attention_options kernel_options(index_type heads, index_type kv_heads) const {
    return {.scale = options_.scale, .heads = heads, .kv_heads = kv_heads, .executor = options_.executor};
  }
  attention_options kernel_options() const { return kernel_options(options_.heads, options_.kv_heads); }
  template <class Q>
  index_type heads_of(const Q& q) const {
    return query_heads<Heads>(kernel_options(), q);
  }
  index_type kv_heads_of(index_type heads) const { return key_value_heads<KVHeads>(kernel_options(), heads); }
  /// Memory of a result, and more(heads): where one rank has none, all throw.
  template <class E, class Q, class V, class More>
  auto result_for(const Q& q, const V& v, const More& more) const {
    decltype(make_like<E>(q, 1, 1)) out;
    distributed::together(processes_, [&] {
      const index_type heads = heads_of(q), kv_heads = kv_heads_of(heads);
      out = make_like<E>(q, heads, view_of(v, kv_heads, "v").dim()), more(heads);
    });
    return out;
  }

  distributed::communicator processes_;
  ring_attention_options options_;
};

FOVEA_NAMESPACE_END
