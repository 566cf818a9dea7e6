// fovea/kernel/dropout.hpp - weights left out after the softmax.
#pragma once

#include <fovea/kernel/cells.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// What a register of weights is multiplied by: 0, or the dropout's scale.
template <class Dropout, class Cells>
FOVEA_INLINE typename Cells::number worth_of(const Dropout& dropout, const Cells& at) noexcept {
  using V = typename Cells::number;
  using T = typename V::value_type;
  return xsimd::select(dropout.kept(at), V(static_cast<T>(dropout.scale)), V(T(0)));
}

/// The weights of a panel after dropout; the sums they were normalised by stay.
template <class Arch, class Dropout, class Panel, class... Rows>
FOVEA_NOINLINE FOVEA_FLATTEN void drop(const Dropout& dropout, const Panel& panel,
                                       const Rows&... rows) noexcept {
  panel.each_register(rows..., [&](const auto& at, auto* p) FOVEA_INLINE_LAMBDA {
    using V = typename std::remove_cvref_t<decltype(at)>::number;
    (V::load_aligned(p) * worth_of(dropout, at)).store_aligned(p);
  });
}

}  // namespace kernel
FOVEA_NAMESPACE_END
