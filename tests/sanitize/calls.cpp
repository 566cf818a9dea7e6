// Calls under sanitizers, which end the program where one reads or writes what it must not, or races: queries in
// lanes, dim in lanes, spans of keys, all by the threads of a pool that several callers share. What is right is
// told by a double loop.
#include <fovea/attention.hpp>

#include "../support/max_abs.hpp"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix expected_of(const Matrix& q, const Matrix& k, const Matrix& v, int heads) {
  const auto dim = q.cols() / heads;
  Matrix o(q.rows(), v.cols());
  for (int h = 0; h < heads; ++h)
    for (Eigen::Index i = 0; i < q.rows(); ++i) {
      Eigen::RowVectorXd sum = Eigen::RowVectorXd::Zero(dim);
      double total = 0;
      for (Eigen::Index j = 0; j < k.rows(); ++j) {
        const double s =
            q.row(i).segment(h * dim, dim).cast<double>().dot(k.row(j).segment(h * dim, dim).cast<double>());
        const double p = std::exp(s / std::sqrt(double(dim)));
        total += p, sum += p * v.row(j).segment(h * dim, dim).cast<double>();
      }
      o.row(i).segment(h * dim, dim) = (sum / total).cast<float>();
    }
  return o;
}

}  // namespace

int main() {
  const fovea::threads pool(3);
  const fovea::attention<float, 2> attend{{.executor = pool}};
  std::atomic<int> wrong{0}, calls{0};
  const auto check = [&](int queries, int keys, int dim) {
    const Matrix q = Matrix::Random(queries, 2 * dim), k = Matrix::Random(keys, 2 * dim),
                 v = Matrix::Random(keys, 2 * dim);
    Matrix o = q;
    attend.into(o, q, k, v);
    wrong += !(fovea_test::max_abs(o - expected_of(q, k, v, 2)) < 1e-5f), ++calls;
  };
  check(1, 1, 5), check(3, 7, 16), check(17, 33, 40), check(100, 70, 33);
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) callers.emplace_back([&] { check(40, 300, 64), check(1, 4500, 64); });
  for (auto& c : callers) c.join();
  pool.for_each(3, [&](fovea::index_type, fovea::index_type) { check(40, 300, 64), check(2, 4500, 64); });
  std::printf("%d of %d calls are wrong\n", wrong.load(), calls.load());
  return wrong == 0 && calls == 16 ? 0 : 1;
}
