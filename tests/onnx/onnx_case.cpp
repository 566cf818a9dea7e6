// onnx_case [--library] --out DIR CASE_FOLDER...
//
// Runs ONNX operator cases through the library and writes every output of a case as
// DIR/<case>/output_<index>_<name>.bin. Prints `NAME ok` or `NAME error: ...` for each; exits with 0 when
// every case ran, else with 1 (2: bad arguments). It never compares, and reads nothing of the expected
// outputs but names, dtypes and shapes. The standard's steps are rounded to bfloat16 one by one in cases of that
// type (typed_softmax.hpp); with --library these are a call like all others, which rounds once.
#include "operator_io.hpp"

#include <iostream>

namespace {

template <class E>
void run_at(const onnx::case_file& c, const onnx::output_writer& write, bool rounds_steps) {
  if (c.op == "Attention") return onnx::run_attention_of<E>(c, write, rounds_steps);
  if (c.op == "RotaryEmbedding") return onnx::run_rotary_of<E>(c, write);
  if (c.op == "LinearAttention") return onnx::run_linear_of<E>(c, write);
  throw std::runtime_error("the operator " + c.op + " is not supported");
}

void run_case(const std::filesystem::path& folder, const std::filesystem::path& out, bool rounds_steps) {
  auto c = onnx::read_case(folder);
  std::filesystem::create_directories(out / folder.filename());
  const onnx::output_writer write(c, out / folder.filename());
  // The values of an Attention may be of another type than its queries and keys.
  if (c.op == "Attention" && onnx::operand_in(c, 2).dtype != onnx::operand_in(c, 0).dtype)
    for (const std::size_t i : {0u, 1u, 2u, 4u, 5u})
      if (onnx::has_in(c, i)) c.in[i] = onnx::in_doubles(c.in[i]);
  const auto& dtype = onnx::operand_in(c, 0).dtype;
  if (dtype == "float32")
    run_at<float>(c, write, rounds_steps);
  else if (dtype == "float64")
    run_at<double>(c, write, rounds_steps);
  else if (dtype == "float16")
    run_at<fovea::fp16>(c, write, rounds_steps);
  else if (dtype == "bfloat16")
    run_at<fovea::bf16>(c, write, rounds_steps);
  else
    throw std::runtime_error("elements of dtype " + dtype + " are not supported");
}

}  // namespace

int main(int argc, char** argv) {
  std::filesystem::path out;
  std::vector<std::filesystem::path> folders;
  bool rounds_steps = true;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--out" && i + 1 < argc)
      out = argv[++i];
    else if (std::string(argv[i]) == "--library")
      rounds_steps = false;
    else
      folders.emplace_back(argv[i]);
  }
  if (out.empty() || folders.empty()) {
    std::cerr << "usage: onnx_case [--library] --out DIR CASE_FOLDER...\n";
    return 2;
  }
  bool all = true;
  for (auto& folder : folders) {
    if (!folder.has_filename()) folder = folder.parent_path();
    const std::string name = folder.filename().string();
    try {
      run_case(folder, out, rounds_steps);
      std::cout << name << " ok" << std::endl;
    } catch (const std::exception& e) {
      std::cout << name << " error: " << e.what() << std::endl;
      all = false;
    }
  }
  return all ? 0 : 1;
}
