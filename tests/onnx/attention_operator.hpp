// The ONNX operator Attention (opsets 23 to 25), by the library's public API. What stands here is the
// operator's bookkeeping: layouts, past and present, masks of any rank, and the offset of the queries among
// the keys.
#pragma once

#include "operator_io.hpp"
#include "typed_softmax.hpp"

#include <fovea/attention.hpp>

#include <limits>

namespace onnx {

using fovea::index_type;

/// The attributes and operands of a call that do not depend on the element.
struct attention_call {
  const case_file& c;
  bool rounds_steps;  // of bfloat16, as typed_softmax.hpp does
  double softcap = 0;
  index_type left = -1, right = -1, mode = 0;
  bool causal = false;
  std::optional<double> scale;

  attention_call(const case_file& from, bool rounds) : c(from), rounds_steps(rounds) {
    const auto number = [&](const char* key) -> std::optional<double> {
      const auto at = c.floats.find(key);
      return at == c.floats.end() ? std::nullopt : std::optional<double>(at->second);
    };
    softcap = std::max(0., number("softcap").value_or(0));  // one below 0 caps nothing
    scale = number("scale");
    left = c.int_or("left_window_size", -1), right = c.int_or("right_window_size", -1);
    mode = c.int_or("qk_matmul_output_mode", 0);
    causal = c.int_or("is_causal", 0) != 0;
    if (mode < 0 || mode > 3)
      throw std::runtime_error("qk_matmul_output_mode is " + std::to_string(mode) + ", not 0 to 3");
    const auto precision = c.int_or("softmax_precision", 1);
    if (precision != 1 && precision != 10 && precision != 11 && precision != 16)
      throw std::runtime_error("softmax_precision is " + std::to_string(precision) + ", not 1, 10, 11 or 16");
    if (has_in(c, 4) != has_in(c, 5)) throw std::runtime_error("past_key and past_value go together");
    if (has_in(c, 4) && has_in(c, 6))
      throw std::runtime_error("nonpad_kv_seqlen does not go with past_key and past_value");
  }
};

/// A 4-D input as it is, a 3-D one (batch, tokens, heads * dim) with the heads that an attribute names.
template <class E>
fovea::tensor_view<const E> heads_of(const case_file& c, std::size_t i, const char* heads_attribute) {
  const auto& t = operand_in(c, i);
  const E* data = reinterpret_cast<const E*>(t.bytes.data());
  if (t.shape.size() == 4) return fovea::bhsd(data, t.shape[0], t.shape[1], t.shape[2], t.shape[3]);
  if (t.shape.size() != 3)
    throw std::runtime_error(t.name + " has rank " + std::to_string(t.shape.size()) + ", not 3 or 4");
  const index_type heads = c.int_or(heads_attribute, 0);
  if (heads <= 0 || t.shape[2] % heads != 0)
    throw std::runtime_error(std::string(heads_attribute) + " is " + std::to_string(heads) + ", " + t.name +
                             " has " + std::to_string(t.shape[2]) + " columns");
  return fovea::bshd(data, t.shape[0], t.shape[1], heads, t.shape[2] / heads);
}

/// `now`, with `past` (may be empty) before it, converted.
template <class To, class E>
fovea::tensor<To> joined(const std::optional<fovea::tensor_view<const E>>& past,
                         const fovea::tensor_view<const E>& now) {
  const index_type before = past ? past->tokens : 0;
  if (past && (past->batch != now.batch || past->heads != now.heads || past->dim != now.dim))
    throw std::runtime_error("the past is " + std::to_string(past->batch) + " x " +
                             std::to_string(past->heads) + " x " + std::to_string(past->dim) +
                             ", the present " + std::to_string(now.batch) + " x " +
                             std::to_string(now.heads) + " x " + std::to_string(now.dim));
  fovea::tensor<To> all(now.batch, now.heads, before + now.tokens, now.dim);
  for (index_type b = 0; b < all.batch(); ++b)
    for (index_type h = 0; h < all.heads(); ++h)
      for (index_type t = 0; t < all.tokens(); ++t)
        for (index_type d = 0; d < all.dim(); ++d)
          all(b, h, t, d) = To(t < before ? (*past)(b, h, t, d) : now(b, h, t - before, d));
  return all;
}

/// attn_mask as batch x heads x queries x keys: shape aligned to the right, a short last dimension padded
/// with `hidden`. Without attn_mask one element, `shown`.
template <class To>
fovea::tensor<To> mask_table(const case_file& c, index_type keys, bool wanted, To shown, To hidden) {
  if (!wanted) {
    fovea::tensor<To> one(1, 1, 1, 1);
    one(0, 0, 0, 0) = shown;
    return one;
  }
  const auto& t = operand_in(c, 3);
  const std::size_t rank = t.shape.size();
  if (rank < 1 || rank > 4)
    throw std::runtime_error("attn_mask has rank " + std::to_string(rank) + ", not 1 to 4");
  const auto size = [&](std::size_t from_right) {
    return from_right < rank ? t.shape[rank - 1 - from_right] : 1;
  };
  const index_type columns = size(0);
  if (columns > keys)
    throw std::runtime_error("attn_mask has " + std::to_string(columns) + " columns, there are " +
                             std::to_string(keys) + " keys");
  fovea::tensor<To> table(size(3), size(2), size(1), keys);
  const auto values = numbers(t);
  for (index_type row = 0; row < table.size() / std::max<index_type>(keys, 1); ++row)
    for (index_type k = 0; k < keys; ++k)
      table.data()[row * keys + k] =
          k < columns ? To(values[static_cast<std::size_t>(row * columns + k)]) : hidden;
  return table;
}

/// One batch entry of a tensor, or the only one there is.
template <class X>
auto entry(X& x, index_type b) {
  auto one = x.view();
  one.data += one.batch == 1 ? 0 : b * one.batch_stride;
  one.batch = 1;
  return one;
}

/// f(mods...) with all masks and scores of the call, for batch entry b.
template <class T, class F>
void with_modifiers(const attention_call& call, index_type b, index_type queries, index_type keys,
                    index_type past, const fovea::tensor<std::uint8_t>& keep, const fovea::tensor<T>& bias,
                    F&& f) {
  index_type offset = past, shown = keys;
  if (has_in(call.c, 6)) {
    const auto lengths = numbers(operand_in(call.c, 6));
    if (static_cast<std::size_t>(b) >= lengths.size())
      throw std::runtime_error("nonpad_kv_seqlen has " + std::to_string(lengths.size()) + " entries");
    shown = static_cast<index_type>(lengths[static_cast<std::size_t>(b)]);
    offset = shown - queries;
  }
  const index_type lengths[] = {shown};
  const auto mask = fovea::causal_offset{call.causal ? offset : keys} &
                    fovea::sliding_window{call.left, call.right, offset} & fovea::key_lengths{lengths} &
                    fovea::boolean_mask(entry(keep, b));
  f(fovea::softcap{call.softcap}, fovea::bias(entry(bias, b)), mask);
}

/// Runs the case with queries, keys of type E and values of type VE, and writes all of its outputs.
template <class E, class VE>
void run_attention(const attention_call& call, const output_writer& write) {
  using T = fovea::common_compute_t<E, VE>;
  const auto& c = call.c;
  const auto q = heads_of<E>(c, 0, "q_num_heads");
  const auto past = [&]<class P>(std::size_t i, P*) {
    return has_in(c, i) ? std::optional(heads_of<P>(c, i, "")) : std::nullopt;
  };
  const auto k = joined<E>(past(4, static_cast<E*>(nullptr)), heads_of<E>(c, 1, "kv_num_heads"));
  const auto v = joined<VE>(past(5, static_cast<VE*>(nullptr)), heads_of<VE>(c, 2, "kv_num_heads"));
  const index_type keys = k.tokens(), before = has_in(c, 4) ? operand_in(c, 4).shape[2] : 0;
  const bool has_mask = has_in(c, 3), boolean = has_mask && operand_in(c, 3).dtype == "bool";
  const T hidden = -std::numeric_limits<T>::infinity();
  const auto keep = mask_table<std::uint8_t>(c, keys, boolean, 1, 0);
  const auto bias = mask_table<T>(c, keys, has_mask && !boolean, T(0), hidden);
  // The library sees one entry at a time, each with its own offset; so the batch sizes are compared here.
  const auto same_batch = [&](const char* name, index_type has, index_type least) {
    if (has != q.batch && has != least)
      throw std::runtime_error(std::string(name) + " has " + std::to_string(has) + " batch entries, Q has " +
                               std::to_string(q.batch));
  };
  same_batch("attn_mask", bias.batch(), 1), same_batch("attn_mask", keep.batch(), 1);
  same_batch("K", k.batch(), q.batch), same_batch("V", v.batch(), q.batch);

  const fovea::attention<E> attend({.scale = call.scale, .heads = q.heads, .kv_heads = k.heads()});
  const bool wants_scores = has_out(c, 3);
  fovea::tensor<T> out(q.batch, q.heads, q.tokens, v.dim()),
      scores(q.batch, q.heads, q.tokens, wants_scores ? keys : 0);
  for (index_type b = 0; b < q.batch; ++b) {
    auto q1 = q;
    q1.data += b * q.batch_stride, q1.batch = 1;
    const auto k1 = entry(k, b);
    with_modifiers<T>(
        call, b, q.tokens, keys, before, keep, bias, [&](const auto& cap, const auto& add, const auto& mask) {
          if constexpr (fovea::bf16_element<E>)
            if (call.rounds_steps) {
              const double scale = call.scale.value_or(1 / std::sqrt(static_cast<double>(q.dim)));
              const auto steps = typed_attention<E>(q1, k1, scale, call.softcap, add, mask);
              product_with_values(steps.probabilities, entry(v, b), entry(out, b));
              const fovea::tensor<float>* by_mode[] = {&steps.raw, &steps.capped, &steps.biased,
                                                       &steps.probabilities};
              for (index_type i = 0; wants_scores && i < steps.raw.size(); ++i)
                scores.data()[b * steps.raw.size() + i] = by_mode[call.mode]->data()[i];
              return;
            }
          attend.into(entry(out, b), q1, k1, entry(v, b), cap, add, mask);
          if (!wants_scores) return;
          const auto one = call.mode == 0   ? attend.scores(q1, k1)
                           : call.mode == 1 ? attend.scores(q1, k1, cap)
                           : call.mode == 2 ? attend.scores(q1, k1, cap, add, mask)
                                            : attend.weights(q1, k1, cap, add, mask);
          for (index_type i = 0; i < one.size(); ++i)
            scores.data()[b * one.size() + i] = static_cast<T>(one.data()[i]);
        });
  }
  write(0, out.view());
  write(1, k.view());
  write(2, v.view());
  write(3, scores.view());
}

}  // namespace onnx
