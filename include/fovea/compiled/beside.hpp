// fovea/compiled/beside.hpp - what a call writes beside O: gates are applied to it, what keys receive and the
// weights of some heads are made from its LSE, by the kernels of weights.
#pragma once

#include <fovea/compiled/inspect.hpp>
#include <fovea/compiled/widened.hpp>
#include <fovea/gate.hpp>
#include <fovea/kernel/sweep/key_mass.hpp>
#include <fovea/plan/receive.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

inline bool writes_beside(const fovea_call& call) noexcept {
  return call.gate.data != nullptr || call.received.data != nullptr || call.weights.data != nullptr;
}

/// A call whose numbers are T: float, or double where q is.
template <class T, class Arch = xsimd::default_arch>
class besides_of {
 public:
  /// Whether sizes and elements fit of what a call, as it is given, writes beside O.
  static void check(const fovea_call& call) {
    if (call.gate.data != nullptr) check_gate(call);
    index_type keys = call.k.tokens, kv_heads = call.k.heads;
    for (std::int64_t b = 0; b < call.cache_count; ++b) {
      const any_cache& one = cache_of_call(call, b);
      keys = std::max(b == 0 ? 0 : keys, one.tokens()), kv_heads = one.heads();
    }
    if (call.received.data != nullptr) check_received(call, keys, kv_heads);
    if (call.weights.data != nullptr) check_weights(call, keys);
  }
  /// The same of a backward call with a gate.
  static void check(const fovea_call& call, const fovea_gradients& of) {
    check_gate(call);
    const fovea_tensor &d = of.d_gate, &g = call.gate;
    if (d.data == nullptr) return;
    if (std::is_same_v<T, double> ? d.element != FOVEA_F64 : d.element != FOVEA_F32 && !is_narrow(d))
      reject("d_gate has elements ", name_of_element(d.element), ", not ",
             std::is_same_v<T, double> ? "F64, as q" : "F32, BF16 or F16, where q is not F64");
    if (d.batch != g.batch || d.heads != g.heads || d.tokens != g.tokens || d.dim != g.dim)
      reject("d_gate has ", d.batch, " x ", d.heads, " x ", d.tokens, " x ", d.dim, " elements, gate ",
             g.batch, " x ", g.heads, " x ", g.tokens, " x ", g.dim);
  }

  /// attend(call), which checks all else, and what else the call wants.
  template <class Attend>
  static void attend(const fovea_call& given, const Attend& attend) {
    const bool looks = given.received.data != nullptr || given.weights.data != nullptr;
    fovea_call call = given;
    tensor<T> lse;
    if (looks && call.lse.data == nullptr) {
      lse = tensor<T>(call.q.batch, call.q.heads, call.q.tokens, 1);
      call.lse = described_tensor(lse.view());
    }
    std::optional<as_numbers<T>> q;  // where O is Q, which is read once more
    if (looks && call.o.data == call.q.data) q.emplace(call.q, "q", true);
    attend(call);
    if (call.gate.data != nullptr) gate(call);
    if (q) call.q = described_tensor(q->view);
    if (looks) look(call);
  }

  /// backward(call, gradients) of a call with a gate. Y = sigmoid(g) O gives dO = sigmoid(g) dY, and what is
  /// taken off, sum_c dO O = sum_c dY Y, comes by way of the LSE's gradient beside an O of zeros.
  template <class Backward>
  static void backward(const fovea_call& given, const fovea_gradients& of, const Backward& backward) {
    const call_executor workers(given);
    const call_offsets at(given);
    const auto y = at.queries<const T>(given.o, "o"), d_y = at.queries<const T>(of.d_o, "d_o");
    const auto rows = read_only(as_sequences(y, any_heads, "o")),
               d_rows = read_only(as_sequences(d_y, any_heads, "d_o"));
    same("d_o", "heads", d_rows.heads(), "o", rows.heads()), check_like("d_o", d_rows, "o", rows, rows.dim());
    tensor<T> d_o(y.all.batch, y.all.heads, y.all.tokens, y.all.dim), zeros(1, 1, 1, y.all.dim),
        d_lse(y.all.batch, y.all.heads, y.all.tokens, 1);
    const auto d_sums = d_lse.view();
    if (const fovea_tensor& d = of.d_lse; d.data != nullptr) {
      same("d_lse", "batch entries", d.batch, "o", given.o.batch),
          same("d_lse", "heads", d.heads, "o", given.o.heads);
      same("d_lse", "tokens", d.tokens, "o", given.o.tokens);
      if (d.dim != 1) reject("d_lse has ", d.dim, " columns a head, not 1");
      copy_rows(view_as<const T>(d, "d_lse"), d_sums);
    }
    each_head(given, rows, workers, [&](const auto& gates, index_type b, index_type h) {
      const auto dy = d_rows.head(b, h), y_of = rows.head(b, h);
      const index_type first = rows.offsets ? rows.offset(b) : 0;
      for (index_type i = 0; i < dy.rows; ++i) {
        const index_type entry = rows.offsets ? 0 : b, t = first + i;
        kernel::apply_gates<Arch, T>(gates, i, {0, dy.cols}, dy.at(i), dy.col_stride, &d_o(entry, h, t, 0),
                                     1);
        T sum = 0;
        for (index_type c = 0; c < dy.cols; ++c) sum += dy(i, c) * y_of(i, c);
        d_sums(entry, h, t, 0) -= sum;
      }
    });
    fovea_call call = given;
    fovea_gradients to = of;
    call.gate = {}, to.d_gate = {};
    to.d_o = described_tensor(d_o.view()), to.d_lse = described_tensor(d_lse.view());
    call.o = described_tensor(zeros.view());
    call.o.batch = given.o.batch, call.o.heads = given.o.heads, call.o.tokens = given.o.tokens;
    call.o.batch_stride = call.o.head_stride = call.o.token_stride = 0;
    backward(call, to);
    if (of.d_gate.data != nullptr) differentiate_gates(given, of, rows, d_rows, workers);
  }

 private:
  /// Of packed sequences q may be one batch entry, and its caches (or k) one a sequence.
  static void check_received(const fovea_call& call, index_type keys, index_type kv_heads) {
    const fovea_tensor& r = call.received;
    if (r.element != FOVEA_F32 && r.element != FOVEA_F64)
      reject("received has elements ", name_of_element(r.element), ", not F32 or F64");
    if (call.cache_count == 0)
      same("received", "batch entries", r.batch, "k", call.k.batch);
    else if (r.batch != call.cache_count)
      reject("received has ", r.batch, " batch entries but the call has ", call.cache_count, " caches");
    same("received", "heads", r.heads, "k", kv_heads);
    if (r.dim != 1) reject("received has ", r.dim, " columns a head, not 1");
    if (r.tokens < keys) reject("received has ", r.tokens, " tokens, fewer than the ", keys, " of k");
  }
  static void check_weights(const fovea_call& call, index_type keys) {
    const fovea_tensor& w = call.weights;
    static_cast<void>(view_as<T>(w, "weights"));
    if (call.query_offsets.data != nullptr || call.key_offsets.data != nullptr)
      reject("weights are of tensors and caches, not of packed sequences");
    const auto heads = integers(call.weight_heads, "weight_heads");
    same("weights", "batch entries", w.batch, "q", call.q.batch);
    same("weights", "heads", w.heads, "weight_heads", heads.size());
    same("weights", "rows (queries)", w.tokens, "q", call.q.tokens);
    same("weights", "columns (keys)", w.dim, "k", keys);
    for (index_type i = 0; i < heads.size(); ++i) {
      if (heads[i] < 0 || heads[i] >= call.q.heads)
        reject("weight_heads names head ", heads[i], ", which is not one of ", call.q.heads);
      for (index_type j = 0; j < i; ++j)
        if (heads[i] == heads[j]) reject("weight_heads names head ", heads[i], " twice");
    }
  }
  static void same(const char* name, const char* what, index_type has, const char* other, index_type wanted) {
    if (has != wanted) reject(name, " has ", has, " ", what, " but ", other, " has ", wanted);
  }
  static void check_gate(const fovea_call& call) {
    const fovea_tensor &g = call.gate, &o = call.o;
    with_real(g, "gate", [](const auto&) {});
    same("gate", "batch entries", g.batch, "o", o.batch), same("gate", "heads", g.heads, "o", o.heads);
    same("gate", "tokens", g.tokens, "o", o.tokens);
    if (g.dim != 1 && g.dim != o.dim)
      reject("gate has ", g.dim, " columns a head, neither 1 nor the ", o.dim, " of o");
  }

  /// f(gates, batch, head) for each head of each sequence of rows, by the call's workers.
  template <class Rows, class F>
  static void each_head(const fovea_call& call, const Rows& rows, const call_executor& workers, const F& f) {
    const as_numbers<T> given(call.gate, "gate");
    sequences<const T> gates{given.view, rows.offsets, rows.count};
    if (gates.all.dim == 1) gates.all.dim = rows.dim(), gates.all.dim_stride = 0;
    executor_ref(workers).for_each(rows.batches() * rows.heads(), [&](index_type i, index_type) {
      f(gates.head(i / rows.heads(), i % rows.heads()), i / rows.heads(), i % rows.heads());
    });
  }
  static void gate(const fovea_call& call) {
    const call_executor workers(call);
    const call_offsets at(call);
    const auto o = at.queries<T>(call.o, "o");
    const auto rows = as_sequences(o, any_heads, "o");
    each_head(call, rows, workers, [&](const auto& gates, index_type b, index_type h) {
      const auto of = rows.head(b, h);
      for (index_type i = 0; i < of.rows; ++i)
        kernel::apply_gates<Arch, T>(gates, i, {0, of.cols}, of.at(i), of.col_stride, of.at(i),
                                     of.col_stride);
    });
  }
  template <class Rows>
  static void differentiate_gates(const fovea_call& call, const fovea_gradients& of, const Rows& y,
                                  const Rows& d_y, const call_executor& workers) {
    const call_offsets at(call);
    const auto lse_given = at.queries<const T>(call.lse, "lse");
    const auto lse = as_sequences(lse_given, any_heads, "lse");
    const sequences<T> to{view_as<T>(of.d_gate, "d_gate"), y.offsets, y.count};
    each_head(call, y, workers, [&](const auto& gates, index_type b, index_type h) {
      kernel::differentiate_gate<Arch, T>(y.head(b, h), d_y.head(b, h), lse.head(b, h), gates, to.head(b, h));
    });
  }

  /// What keys receive, and weights, once the LSE is known.
  static void look(const fovea_call& given) {
    fovea_call call = given;
    call.dropout_rate = 0;
    const call_executor workers(call);
    const call_offsets at(call);
    const as_numbers<T> q(call.q, "q");
    const call_keys<T> k(call, at.of_keys ? &at.of_keys : nullptr);
    const packed<const T> queries{q.view, at.of_queries ? &at.of_queries : nullptr};
    const auto lse = at.queries<T>(call.lse, "lse");
    call_rules<Arch, T> rules(call, q.view.heads);
    rules.inspect(
        [&](const auto&... mods) {
          const std::optional<double> scale =
              call.has_scale != 0 ? std::optional<double>(call.scale) : std::nullopt;
          const auto p = build_problem_of_keys<mask_intersection>(
              scale, sequences<T>{}, as_sequences(lse, any_heads, "lse"),
              as_sequences(queries, any_heads, "q"), k.view(), mods...);
          if (call.weights.data != nullptr) write_weights(call, p, workers);
          if (call.received.data == nullptr) return;
          call.received.element == FOVEA_F64 ? add_received<double>(call, p, workers)
                                             : add_received<float>(call, p, workers);
        },
        "weights");
  }
  template <class Problem>
  static void write_weights(const fovea_call& call, const Problem& p, const call_executor& workers) {
    const auto heads = integers(call.weight_heads, "weight_heads");
    auto to = view_as<T>(call.weights, "weights");
    for (index_type i = 0; i < heads.size(); ++i) {
      auto one = to;
      one.heads = 1, one.data += i * to.head_stride;
      write_score_matrices<Arch>(p, workers, {heads[i], heads[i] + 1}, sequences<T>{one}, true);
    }
  }
  template <class R, class Problem>
  static void add_received(const fovea_call& call, const Problem& p, const call_executor& workers) {
    struct {
      sequences<R> received;
    } const to{{view_as<R>(call.received, "received"), call.cache_count != 0 ? nullptr : p.k.offsets}};
    const index_type parts = ceil_div(p.k.max_tokens(), keys_a_sum), heads = p.k.heads();
    plan sweep = plan_of_sweep(p, scratch_of_sweep<Arch>(p));
    sweep.scratch.values = kernel::key_sums_bytes<Arch, T>(keys_a_sum);
    sweep.jobs = p.k.batches() * heads * parts;
    run_sweep(p, workers, sweep, [&](index_type i, const auto& memory) {
      const index_type b = i / parts / heads, h = i / parts % heads, first = i % parts * keys_a_sum;
      const range keys{first, std::min(first + keys_a_sum, p.k.tokens(b))};
      if (keys.empty()) return;
      add_sums<Arch>(to, b, h, keys, memory.values, [&](T* sums) {
        kernel::receive_queries<Arch>(p, b, h, keys, rows_a_sweep<Arch, T>, memory, sums);
      });
    });
  }
};

}  // namespace described
FOVEA_NAMESPACE_END
