// onnx_cases ONNX_CASE CASES OUT: runs onnx_case over the standard's cases and compares by both rules:
//   |got - want| <= 1e-7 + 1e-3 |want|, and for float32   |got - want| <= 16 * 2^-24 * max |want|.
#include "operator_io.hpp"

#include <cmath>
#include <cstdlib>
#include <iostream>

namespace fs = std::filesystem;

namespace {

// How many elements of an output break a rule; a missing or short file throws.
std::size_t broken(const fs::path& got_path, const fs::path& want_path, onnx::tensor_file wanted) {
  const auto bytes = static_cast<std::size_t>(wanted.count()) * onnx::bytes_of(wanted.dtype);
  auto got_file = wanted;
  wanted.bytes = onnx::read_bytes(want_path, bytes);
  got_file.bytes = onnx::read_bytes(got_path, bytes);
  const auto want = onnx::numbers(wanted), got = onnx::numbers(got_file);
  double largest = 0;
  for (const double x : want)
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  std::size_t count = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const bool same = got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]));
    const double error = std::abs(got[i] - want[i]);
    const bool standard = error <= 1e-7 + 1e-3 * std::abs(want[i]);
    const bool tight = wanted.dtype != "float32" || error <= 16 * std::ldexp(1, -24) * largest;
    count += !(same || (standard && tight));
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const fs::path runner = argv[1], cases = argv[2], out = argv[3];
  if (!fs::is_directory(cases)) {
    std::cout << "SKIPPED: there are no cases in " << cases << "\n";
    return 77;
  }
  fs::remove_all(out);
  std::string command = "'" + runner.string() + "' --out '" + out.string() + "'";
  for (const auto& folder : fs::directory_iterator(cases)) command += " '" + folder.path().string() + "'";
  const int status = std::system((command + " > '" + out.string() + ".log'").c_str());

  int passed = 0, failed = 0;
  for (const auto& folder : fs::directory_iterator(cases)) {
    const auto c = onnx::read_case(folder.path());
    try {
      std::size_t count = 0;
      for (const auto& [i, wanted] : c.out)
        count += broken(out / c.name / ("output_" + std::to_string(i) + "_" + wanted.name + ".bin"),
                        folder.path() / wanted.file, wanted);
      if (count > 0) std::cout << c.name << ": " << count << " elements break a rule\n";
      (count == 0 ? passed : failed) += 1;
    } catch (const std::exception& e) {
      std::cout << c.name << ": " << e.what() << "\n";
      ++failed;
    }
  }
  std::cout << passed << " cases pass, " << failed << " fail\n";
  return failed == 0 && passed > 0 && status == 0 ? 0 : 1;
}
