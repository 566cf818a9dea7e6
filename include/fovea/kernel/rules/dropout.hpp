// fovea/kernel/rules/dropout.hpp - weights left out after the softmax.
#pragma once

#include <fovea/kernel/rules/cells.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// What a register of weights is multiplied by: 0 or the dropout's scale, or what it says.
template <class Dropout, class Cells>
FOVEA_INLINE typename Cells::number drop_factor(const Dropout& dropout, const Cells& at) noexcept {
  using V = typename Cells::number;
  using T = typename V::value_type;
  if constexpr (requires { dropout.factor(at); })
    return dropout.factor(at);
  else
    return xsimd::select(dropout.kept(at), V(static_cast<T>(dropout.scale)), V(T(0)));
}

/// p times a factor that drop_factor gave; 0 stays 0, as where hidden, also where the factor is NaN.
template <class Dropout, class Cells, class V>
FOVEA_INLINE V dropped(const Dropout& dropout, const Cells& at, const V& p, const V& factor) noexcept {
  using T = typename V::value_type;
  if constexpr (requires { dropout.factor(at); })
    return xsimd::select(p == V(T(0)), p, p * factor);
  else
    return p * factor;
}

template <class Dropout, class Cells, class T>
FOVEA_INLINE void drop_register(const Dropout& dropout, const Cells& at, T* p) noexcept {
  dropped(dropout, at, Cells::number::load_aligned(p), drop_factor(dropout, at)).store_aligned(p);
}

/// The weights [key][width] of queries `rows` after dropout; the sums they were normalised by stay.
template <class Arch, class T, class Dropout>
FOVEA_NOINLINE FOVEA_FLATTEN void drop(const Dropout& dropout, T* p, index_type width, range rows,
                                       range keys) noexcept {
  using here = cells<Arch, T, in_lanes::queries>;
  for (index_type j = 0; j < keys.size(); ++j)
    for (index_type i = 0; i < rows.size(); i += here::width)
      drop_register(dropout,
                    here{rows.first + i, keys.first + j, std::min<index_type>(here::width, rows.size() - i)},
                    p + j * width + i);
}

/// The same for the weights of one query.
template <class Arch, class T, class Dropout>
FOVEA_NOINLINE FOVEA_FLATTEN void drop_row(const Dropout& dropout, index_type query, T* p,
                                           range keys) noexcept {
  using here = cells<Arch, T, in_lanes::keys>;
  for (index_type j = 0; j < keys.size(); j += here::width)
    drop_register(dropout, here{query, keys.first + j, keys.size() - j}, p + j);
}

}  // namespace kernel
FOVEA_NAMESPACE_END
