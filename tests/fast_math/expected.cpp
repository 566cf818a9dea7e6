#include "expected.hpp"

#include <algorithm>
#include <cmath>

namespace fovea_test {
namespace {

using index = std::ptrdiff_t;

double dot(const float* a, const float* b, index n) {
  double sum = 0;
  for (index c = 0; c < n; ++c) sum += double(a[c]) * double(b[c]);
  return sum;
}

/// The probabilities of row i, of hidden cells 0; what else is known of the row goes to r.
std::vector<double> probabilities(const problem& p, index i, result& r) {
  const double scale = 1 / std::sqrt(double(p.dim));
  std::vector<double> s(static_cast<std::size_t>(p.keys), -INFINITY);
  double maximum = -INFINITY, largest = 0, sum = 0;
  for (index j = 0; j < p.keys; ++j) {
    if (!p.seen[i * p.keys + j]) continue;
    double& x = s[static_cast<std::size_t>(j)];
    x = scale * dot(p.q + i * p.dim, p.k + j * p.dim, p.dim);
    double terms = 0;
    for (index c = 0; c < p.dim; ++c)
      terms += std::abs(double(p.q[i * p.dim + c]) * double(p.k[j * p.dim + c]));
    if (p.cap > 0) x = p.cap * std::tanh(x / p.cap);
    if (p.bias != nullptr) x += double(p.bias[i * p.keys + j]);
    largest = std::max({largest, std::abs(x), scale * terms});
    maximum = std::max(maximum, x);
  }
  for (double& x : s) sum += x = maximum == -INFINITY ? 0 : std::exp(x - maximum);
  for (double& x : s) x = sum == 0 ? 0 : x / sum;
  r.lse.push_back(maximum + std::log(sum)), r.largest.push_back(largest), r.hidden.push_back(sum == 0);
  return s;
}

}  // namespace

result expected(const problem& p) {
  result r;
  for (index i = 0; i < p.queries; ++i) {
    const std::vector<double> weight = probabilities(p, i, r);
    for (index c = 0; c < p.dim; ++c) {
      double sum = 0, magnitude = 0;
      for (index j = 0; j < p.keys; ++j)
        if (const double w = weight[static_cast<std::size_t>(j)]; p.seen[i * p.keys + j]) {
          sum += w * double(p.v[j * p.dim + c]);
          magnitude += w * std::abs(double(p.v[j * p.dim + c]));
        }
      r.out.push_back(sum), r.magnitude.push_back(magnitude);
    }
  }
  return r;
}

slopes expected_slopes(const problem& p, const float* d_out) {
  const double scale = 1 / std::sqrt(double(p.dim));
  const auto zeros = [&](index rows) { return std::vector<double>(static_cast<std::size_t>(rows * p.dim)); };
  slopes s{zeros(p.queries), zeros(p.keys), zeros(p.keys)};
  result r;
  for (index i = 0; i < p.queries; ++i) {
    const std::vector<double> weight = probabilities(p, i, r);
    double delta = 0;
    for (index j = 0; j < p.keys; ++j)
      if (p.seen[i * p.keys + j])
        delta += weight[static_cast<std::size_t>(j)] * dot(d_out + i * p.dim, p.v + j * p.dim, p.dim);
    for (index j = 0; j < p.keys; ++j) {
      if (!p.seen[i * p.keys + j]) continue;
      const double w = weight[static_cast<std::size_t>(j)];
      const double d_s = w * (dot(d_out + i * p.dim, p.v + j * p.dim, p.dim) - delta) * scale;
      for (index c = 0; c < p.dim; ++c) {
        s.d_q[static_cast<std::size_t>(i * p.dim + c)] += d_s * double(p.k[j * p.dim + c]);
        s.d_k[static_cast<std::size_t>(j * p.dim + c)] += d_s * double(p.q[i * p.dim + c]);
        s.d_v[static_cast<std::size_t>(j * p.dim + c)] += w * double(d_out[i * p.dim + c]);
      }
    }
  }
  return s;
}

std::uint32_t bits_of_fp16(std::uint32_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu;
  std::uint32_t fraction = half & 0x3ffu;
  if (exponent == 0x1fu) return sign | 0x7f800000u | fraction << 13;
  if (exponent != 0) return sign | (exponent + 112u) << 23 | fraction << 13;
  if (fraction == 0) return sign;
  std::uint32_t shift = 0;
  for (; (fraction & 0x400u) == 0; fraction <<= 1) ++shift;
  return sign | (113u - shift) << 23 | (fraction & 0x3ffu) << 13;
}

}  // namespace fovea_test
