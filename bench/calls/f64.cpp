#include "../fovea_call.hpp"

template bench::call bench::fovea_call_for<double>(const bench::workload&);
