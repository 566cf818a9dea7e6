// bench/hot_loops/calls.cpp - calls that between them instantiate every inner loop of the kernels: both
// forms, all tile sizes, float and double, masked or not. Compiled, never run; see hot_loops.py.
#include <fovea/attention.hpp>

template <class T>
void attend(const fovea::tensor_view<T>& o, const fovea::tensor_view<T>& q, const fovea::tensor_view<T>& k,
            const fovea::tensor_view<T>& v) {
  const fovea::attention<T> attend{{.heads = q.heads, .kv_heads = k.heads}};
  attend.into(o, q, k, v);
  attend.into(o, q, k, v, fovea::causal_bottom_right);
  attend.into(o, q, k, v, fovea::softcap<T>{T(30)});
  attend.backward_into(q, k, v, q, k, v, o, q, o, fovea::causal_bottom_right);
}

template void attend(const fovea::tensor_view<float>&, const fovea::tensor_view<float>&,
                     const fovea::tensor_view<float>&, const fovea::tensor_view<float>&);
template void attend(const fovea::tensor_view<double>&, const fovea::tensor_view<double>&,
                     const fovea::tensor_view<double>&, const fovea::tensor_view<double>&);
