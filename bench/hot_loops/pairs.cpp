// bench/hot_loops/pairs.cpp - calls whose products are made of pairs of bf16, where the instruction set has them:
// exact, and with rounded weights. Compiled, never run; see hot_loops.py.
#include <fovea/attention.hpp>

using view = fovea::tensor_view<fovea::bf16>;

void attend(const view& o, const view& q, const view& k, const view& v) {
  const fovea::attention<fovea::bf16> attend{{.heads = q.heads, .kv_heads = k.heads}};
  attend.into(o, q, k, v, fovea::causal_bottom_right);
  attend.into(o, q, k, v, fovea::causal_bottom_right, fovea::rounded_weights);
}
