// bench/hot_loops/linear.cpp - linear attention, whole and differentiated: tiles of states and of tokens. Compiled,
// never run; see hot_loops.py.
#include <fovea/linear_attention.hpp>

using view = fovea::tensor_view<float>;

void attend(const view& o, const view& q, const view& k, const view& v, const view& g, const view& b) {
  const fovea::linear_attention<float> attend{{.heads = q.heads, .kv_heads = k.heads}};
  attend.into(o, q, k, v, fovea::log_decay(g), fovea::delta_rule(b));
}
void differentiate(const view& d, const view& q, const view& k, const view& v, const view& g, const view& b) {
  const fovea::linear_attention<float> attend{{.heads = q.heads, .kv_heads = k.heads}};
  attend.backward_into(d, d, d, q, k, v, q, fovea::log_decay(g, g), fovea::delta_rule(b, b));
}
