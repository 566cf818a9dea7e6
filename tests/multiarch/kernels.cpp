// Kernels that use fovea, and of Eigen and the standard library what linkers see: functions that are not inlined.
#include "kernels.hpp"

#include <fovea/attention.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int compute(float* results, const float* numbers, int count) {
  const int tokens = count / 32;
  const Matrix q = Eigen::Map<const Matrix>(numbers, tokens, 32), k = q.rowwise().reverse(), v = q * 0.5f;
  const std::vector<float> slopes(4, 0.1f);
  std::vector<Matrix> all{fovea::attention<float, 4>()(q, k, v, fovea::causal, fovea::alibi{slopes})};
  all.push_back(q.transpose() * k);
  all.push_back((q.array().exp() / (1 + k.array().square())).matrix());
  std::vector<float> sorted(numbers, numbers + count);
  std::sort(sorted.begin(), sorted.end());
  std::map<std::string, double> sums;
  for (const float x : sorted) sums[std::to_string(int(x * 8))] += double(x);
  float* to = results;
  for (const Matrix& m : all) to = std::copy(m.data(), m.data() + m.size(), to);
  for (const auto& [name, sum] : sums) *to++ = static_cast<float>(sum);
  return static_cast<int>(to - results);
}

void fail() {
  const Matrix q = Matrix::Zero(3, 8), k = Matrix::Zero(2, 7);
  fovea::attention<float, 2>()(q, k, k);
}

}  // namespace

extern "C" const kernel_table* kernels() {
  static constexpr kernel_table table{compute, fail};
  return &table;
}
