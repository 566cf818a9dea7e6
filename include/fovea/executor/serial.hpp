// fovea/executor/serial.hpp - the calling thread.
#pragma once

#include <fovea/executor/concept.hpp>

FOVEA_NAMESPACE_BEGIN

struct serial {
  index_type workers() const noexcept { return 1; }
  void for_each(index_type n, task_ref f) const {
    for (index_type i = 0; i < n; ++i) f(i, 0);
  }
};

FOVEA_NAMESPACE_END
