// The ONNX operator LinearAttention (opset 27), by the library's public API.
#pragma once

#include "operator_io.hpp"

#include <fovea/linear_attention.hpp>

namespace onnx {

/// (batch, tokens, heads * dim) as the library sees it; `one_for_all`: with a single column every head reads it.
template <class E>
fovea::tensor_view<const E> packed_heads(const case_file& c, std::size_t i, fovea::index_type heads,
                                         bool one_for_all = false) {
  const auto& t = operand_in(c, i);
  if (t.dtype != operand_in(c, 0).dtype)
    throw std::runtime_error("query is " + operand_in(c, 0).dtype + ", " + t.name + " is " + t.dtype);
  if (t.shape.size() != 3)
    throw std::runtime_error(t.name + " has rank " + std::to_string(t.shape.size()) + ", not 3");
  const E* data = reinterpret_cast<const E*>(t.bytes.data());
  const fovea::index_type columns = t.shape[2];
  if (one_for_all && columns == 1 && heads > 0) {
    auto x = fovea::bshd(data, t.shape[0], t.shape[1], 1, 1);
    x.heads = heads, x.head_stride = 0;
    return x;
  }
  if (heads <= 0 || columns % heads != 0)
    throw std::runtime_error(t.name + " has " + std::to_string(columns) + " columns, which " +
                             std::to_string(heads) + " heads do not divide");
  return fovea::bshd(data, t.shape[0], t.shape[1], heads, columns / heads);
}

template <class E>
void run_linear(const case_file& c, const output_writer& write) {
  using T = fovea::compute_t<E>;
  const auto heads = c.int_or("q_num_heads", 0), kv_heads = c.int_or("kv_num_heads", 0);
  const auto rule_at = c.strings.find("update_rule");
  const std::string rule = rule_at == c.strings.end() ? "gated_delta" : rule_at->second;
  if (rule != "linear" && rule != "gated" && rule != "delta" && rule != "gated_delta")
    throw std::runtime_error("update_rule is " + rule + ", not linear, gated, delta or gated_delta");
  const auto scale_at = c.floats.find("scale");
  const bool scaled = scale_at != c.floats.end() && scale_at->second != 0;

  const auto q = packed_heads<E>(c, 0, heads);
  const auto k = packed_heads<E>(c, 1, kv_heads), v = packed_heads<E>(c, 2, kv_heads);
  fovea::tensor<T> s(q.batch, kv_heads, k.dim, v.dim);
  if (has_in(c, 3)) {
    const auto& past = operand_in(c, 3);
    if (past.shape != std::vector<std::int64_t>{s.batch(), s.heads(), s.tokens(), s.dim()})
      throw std::runtime_error("past_state has another shape than (batch, kv heads, d_k, d_v)");
    const auto given = numbers(past);
    for (std::size_t i = 0; i < given.size(); ++i) s.data()[i] = static_cast<T>(given[i]);
  }
  const fovea::linear_attention<E> attend(
      {.scale = scaled ? std::optional<double>(scale_at->second) : std::nullopt,
       .heads = heads,
       .kv_heads = kv_heads});
  fovea::tensor<T> out(q.batch, heads, q.tokens, v.dim);
  const fovea::linear_state state(s);
  const bool gated = rule == "gated" || rule == "gated_delta",
             delta = rule == "delta" || rule == "gated_delta";
  if (!gated && !delta) {
    attend.into(out, q, k, v, state);
  } else if (!delta) {
    attend.into(out, q, k, v, state, fovea::log_decay(packed_heads<E>(c, 4, kv_heads)));
  } else {
    const fovea::delta_rule rate(packed_heads<E>(c, 5, kv_heads, true));
    if (gated)
      attend.into(out, q, k, v, state, fovea::log_decay(packed_heads<E>(c, 4, kv_heads)), rate);
    else
      attend.into(out, q, k, v, state, rate);
  }
  write(0, out.view());
  write(1, s.view());
}

}  // namespace onnx
