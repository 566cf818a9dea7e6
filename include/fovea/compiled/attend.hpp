// fovea/compiled/attend.hpp - calls of the C header, for elements of one type and one instruction set.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/compiled/described_plan.hpp>
#include <fovea/compiled/make_masks.hpp>
#include <fovea/compiled/make_scores.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

/// The masks, scores, sink and dropout of a call as few types as keep its bits: kernels ask them a block at a
/// time, and are compiled for each. No mask or bands between diagonals; masks of any kind, with a sink and a
/// dropout; scores beside them.
template <class Arch, class T>
class call_rules {
 public:
  call_rules(const fovea_call& call, index_type heads)
      : call_(call), heads_(heads), dropout_{{call.dropout_rate, call.dropout_seed}} {}
  call_rules(const call_rules&) = delete;

  /// attend(modifiers...), where gradients of scores' parameters are not wanted.
  template <class F>
  void forward(const F& attend) {
    if (is_plain()) return attend(band_mask(call_.masks, call_.mask_count));
    describe();
    if (scores_->all.empty()) return attend(*mask_, sink_, dropout_);
    attend(*mask_, sink_, scores_->all, dropout_);
  }
  /// The same where they may be. (Bands are described as well: of their own they were 4 % of the library.)
  template <class F>
  void backward(const F& attend) {
    describe();
    if (scores_->all.empty()) return attend(*mask_, sink_, dropout_);
    attend(*mask_, sink_, scores_->before, scores_->learnt, scores_->after, dropout_);
  }
  /// The same as forward, where there is no dropout.
  template <class F>
  void inspect(const F& look, const char* where) {
    if (call_.dropout_rate != 0)
      reject("dropout's rate is ", call_.dropout_rate, ", not 0: ", where, " have none");
    if (is_plain()) return look(band_mask(call_.masks, call_.mask_count));
    describe();
    if (scores_->all.empty()) return look(*mask_, sink_);
    look(*mask_, sink_, scores_->all);
  }

 private:
  bool is_plain() const {
    return call_.score_count == 0 && call_.sink.data == nullptr && call_.sink_gradient.data == nullptr &&
           call_.off_by_one == 0 && call_.dropout_rate == 0 &&
           band_mask::holds(call_.masks, call_.mask_count);
  }
  void describe() {
    sink_ = sink_of_call(call_);
    scores_.emplace(call_.scores, call_.score_count, heads_, memory_);
    const auto& masks = *make_masks<Arch, T>(call_.masks, call_.mask_count, memory_);
    operands_.add_masks(call_.masks, call_.mask_count);
    operands_.add_scores(call_.scores, call_.score_count);
    mask_.emplace(masks, operands_, memory_, heads_);
  }

  const fovea_call& call_;
  index_type heads_;
  call_memory memory_;
  operand_list operands_;
  described_sink sink_;
  described_dropout dropout_;
  std::optional<call_scores<Arch, T>> scores_;
  std::optional<described_mask<Arch, T>> mask_;
};

/// What a call and an attention object have in common.
inline attention_options options_of(const fovea_call& call, index_type kv_heads,
                                    const call_executor& workers) {
  attention_options options{.kv_heads = kv_heads, .executor = workers};
  if (call.has_scale != 0) options.scale = call.scale;
  return options;
}
inline workspace workspace_of(const fovea_call& call) {
  if (call.workspace == nullptr && call.workspace_bytes != 0)
    reject("workspace is a null pointer, of ", call.workspace_bytes, " bytes");
  return {{static_cast<std::byte*>(call.workspace), call.workspace_bytes}};
}

/// Offsets of packed sequences, where a call has them.
struct call_offsets {
  list_view<index_type> of_queries, of_keys;

  explicit call_offsets(const fovea_call& call) {
    if (call.query_offsets.data != nullptr) of_queries = integers(call.query_offsets, "query_offsets");
    if (call.key_offsets.data != nullptr) of_keys = integers(call.key_offsets, "key_offsets");
  }
  template <class E>
  packed<E> queries(const fovea_tensor& x, const char* name) const {
    return {view_as<E>(x, name), of_queries ? &of_queries : nullptr};
  }
  template <class E>
  packed<E> keys(const fovea_tensor& x, const char* name) const {
    return {view_as<E>(x, name), of_keys ? &of_keys : nullptr};
  }
};

/// E: the elements of q, k, v and o.
template <class E, class Arch = xsimd::default_arch>
struct calls_of {
  using T = common_compute_t<E>;
  using attention_type = attention<E, dynamic_heads, dynamic_heads, Arch>;

  /// run(attention, q, k, v, o, offsets, modifiers...) of a call with keys and values in tensors.
  template <class Run>
  static void with_tensors(const fovea_call& call, const Run& run) {
    const call_executor workers(call);
    const call_offsets offsets(call);
    const auto q = offsets.queries<const E>(call.q, "q");
    const auto k = offsets.keys<const E>(call.k, "k"), v = offsets.keys<const E>(call.v, "v");
    const auto o = offsets.queries<E>(call.o, "o");
    const attention_type attend(options_of(call, k.all.heads, workers));
    call_rules<Arch, T> rules(call, q.all.heads);
    rules.forward([&](const auto&... mods) { run(attend, q, k, v, o, offsets, mods...); });
  }

  static void attend(const fovea_call& call) {
    with_tensors(call, [&](const auto& attend, const auto& q, const auto& k, const auto& v, const auto& o,
                           const call_offsets& offsets, const auto&... mods) {
      const plan_of_call<plan> planned(call);
      if (call.lse.data == nullptr) return attend.into(o, q, k, v, mods..., workspace_of(call), planned);
      const auto lse = offsets.queries<T>(call.lse, "lse");
      attend.with_lse_into(o, lse, q, k, v, mods..., workspace_of(call), planned);
    });
  }
  static plan attend_plan(const fovea_call& call) {
    plan made;
    with_tensors(call, [&](const auto& attend, const auto& q, const auto& k, const auto& v, const auto& o,
                           const call_offsets&,
                           const auto&... mods) { made = attend.into_plan_for(o, q, k, v, mods...); });
    return made;
  }

  /// run(attention, all that backward_into takes...).
  template <class Run>
  static void with_gradients(const fovea_call& call, const fovea_gradients& g, const Run& run) {
    if (call.cache_count != 0)
      reject("backward has ", call.cache_count, " caches: it takes k and v, not caches");
    const call_executor workers(call);
    const call_offsets at(call);
    const auto k = at.keys<const E>(call.k, "k"), v = at.keys<const E>(call.v, "v");
    const auto q = at.queries<const E>(call.q, "q"), o = at.queries<const E>(call.o, "o");
    const auto lse = at.queries<const T>(call.lse, "lse");
    const auto d_o = at.queries<const E>(g.d_o, "d_o");
    const auto d_q = at.queries<E>(g.d_q, "d_q");
    const auto d_k = at.keys<E>(g.d_k, "d_k"), d_v = at.keys<E>(g.d_v, "d_v");
    const attention_type attend(options_of(call, k.all.heads, workers));
    call_rules<Arch, T> rules(call, q.all.heads);
    rules.backward([&](const auto&... mods) {
      if (g.d_lse.data == nullptr) return run(attend, d_q, d_k, d_v, q, k, v, o, lse, d_o, mods...);
      const auto d_lse = at.queries<const T>(g.d_lse, "d_lse");
      run(attend, d_q, d_k, d_v, q, k, v, o, lse, d_o, lse_gradient(d_lse), mods...);
    });
  }
  static void backward(const fovea_call& call, const fovea_gradients& g) {
    with_gradients(call, g, [&](const auto& attend, const auto&... all) {
      attend.backward_into(all..., workspace_of(call), plan_of_call<gradient_plan>(call));
    });
  }
  static gradient_plan backward_plan(const fovea_call& call, const fovea_gradients& g) {
    gradient_plan made;
    with_gradients(call, g,
                   [&](const auto& attend, const auto&... all) { made = attend.backward_plan_for(all...); });
    return made;
  }
};

}  // namespace described
FOVEA_NAMESPACE_END
