#include "operators_of.hpp"

template void onnx::run_attention_of<fovea::bf16>(const case_file&, const output_writer&, bool);
template void onnx::run_rotary_of<fovea::bf16>(const case_file&, const output_writer&);
template void onnx::run_linear_of<fovea::bf16>(const case_file&, const output_writer&);
