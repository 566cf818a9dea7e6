#include "../fovea_call.hpp"

template bench::call bench::fovea_call_for<float>(const bench::workload&);
