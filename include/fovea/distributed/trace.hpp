// fovea/distributed/trace.hpp - what a call over several ranks did, and when.
#pragma once

#include <fovea/index.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

/// One step of a ring on this rank; times in seconds, of MPI_Wtime.
struct exchange_step {
  int owner = 0;             // whose keys and values were computed with
  double posted = 0;         // the next block's messages were posted,
  double computed_from = 0;  // this block's results were computed from here
  double computed_to = 0;    // to here,
  double arrived = 0;        // and the messages were seen to be complete (MPI works when it is called:
                             // it is called between parts of a block)
  index_type bytes_sent = 0, bytes_received = 0;

  /// The time that was spent waiting for messages: beyond the computation.
  double waited() const noexcept { return arrived > computed_to ? arrived - computed_to : 0; }
};

/// Where a call notes its steps, if its options refer to one; each call starts anew.
struct exchange_trace {
  std::vector<exchange_step> steps;

  index_type bytes_sent() const noexcept {
    index_type sum = 0;
    for (const exchange_step& step : steps) sum += step.bytes_sent;
    return sum;
  }
  double waited() const noexcept {
    double sum = 0;
    for (const exchange_step& step : steps) sum += step.waited();
    return sum;
  }
};

FOVEA_NAMESPACE_END
