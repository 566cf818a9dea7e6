// A program that right calls and a refused one run through, compiled as other people compile: it ends well with or
// without exceptions.
#ifndef __cpp_exceptions
[[noreturn]] void end_with(const char* text);
#define FOVEA_ERROR_HANDLER end_with
#endif
#include <fovea/attention.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace {

int status_of(const char* text) {
  std::printf("%s\n", text);
  const bool good = std::strcmp(text, "fovea: k has 9 columns, which 2 heads do not divide") == 0;
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

bool right_results() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(3, 4);
  Eigen::MatrixXf k = Eigen::MatrixXf::Random(3, 4), v(3, 4);
  v << 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12;
  const std::vector<float> slopes{0, 0};
  const std::vector<fovea::index_type> lengths{2};
  const fovea::attention<float, 2> attend;
  const Eigen::MatrixXf o = attend(q, k, v, fovea::causal, fovea::alibi{slopes}, fovea::sink{slopes}),
                        padded = attend(q, k, v, fovea::key_lengths{lengths});
  const auto near = [](float x, float y) { return std::abs(x - y) < 1e-5f; };
  return near(o(2, 3), 6) && near(o(0, 0), 0.5f) && near(padded(0, 1), 4);
}

}  // namespace

#ifndef __cpp_exceptions
void end_with(const char* text) { std::exit(status_of(text)); }
#endif

int main() {
  if (!right_results()) return 2;
  const Eigen::MatrixXf q = Eigen::MatrixXf::Random(4, 8), wrong = Eigen::MatrixXf::Random(4, 9);
#ifdef __cpp_exceptions
  try {
    fovea::attention<float, 2>()(q, wrong, q);
  } catch (const std::invalid_argument& refused) {
    return status_of(refused.what());
  }
#else
  fovea::attention<float, 2>()(q, wrong, q);
#endif
  return 3;
}
