// fovea/distributed.hpp - sequences spread over processes, by MPI: target fovea::mpi, option FOVEA_MPI. The
// rest of the library never sees it.
#pragma once

#include <fovea/distributed/ring_attention.hpp>
#include <fovea/distributed/spread_attention.hpp>
#include <fovea/distributed/spread_decode.hpp>
