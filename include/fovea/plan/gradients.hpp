// fovea/plan/gradients.hpp - what a backward call returns.
#pragma once

#include <fovea/config.hpp>

FOVEA_NAMESPACE_BEGIN

/// What backward returns.
template <class DQ, class DK, class DV>
struct gradients {
  DQ d_q;
  DK d_k;
  DV d_v;
};

FOVEA_NAMESPACE_END
