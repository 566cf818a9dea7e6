#include "operators_of.hpp"

template void onnx::run_attention_of<double>(const case_file&, const output_writer&, bool);
template void onnx::run_rotary_of<double>(const case_file&, const output_writer&);
template void onnx::run_linear_of<double>(const case_file&, const output_writer&);
