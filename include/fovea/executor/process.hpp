// fovea/executor/process.hpp - which process this is: a forked child has none of its parent's threads.
#pragma once

#include <fovea/config.hpp>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

FOVEA_NAMESPACE_BEGIN

/// The number of this process; 0 where processes can not fork.
inline long this_process() noexcept {
#if defined(__unix__) || defined(__APPLE__)
  return static_cast<long>(::getpid());
#else
  return 0;
#endif
}

FOVEA_NAMESPACE_END
