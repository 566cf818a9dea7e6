// fovea/executor.hpp - WHO does the work: the calling thread (serial, the default), a pool (threads), OpenMP
// (openmp), or any type of yours with workers() and for_each() (see executor/concept.hpp).
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/executor/openmp.hpp>
#include <fovea/executor/serial.hpp>
#include <fovea/executor/threads.hpp>
