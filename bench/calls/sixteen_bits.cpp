#include "../fovea_call.hpp"

template bench::call bench::fovea_call_for<fovea::bf16>(const bench::workload&);
template bench::call bench::fovea_call_for<fovea::fp16>(const bench::workload&);
