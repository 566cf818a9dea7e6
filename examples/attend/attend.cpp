// attend: multi-head causal self-attention on Eigen matrices, beside the textbook version of two products and
// a softmax of rows: error, time, speed, memory.
#include <fovea/attention.hpp>
#include <fovea/reference.hpp>

#include "../command_line.hpp"
#include "../stopwatch.hpp"

#include <algorithm>
#include <vector>

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
constexpr int heads = 8, dim = 64;

/// softmax(Q K^T / sqrt(d)) V, a head after the other, with the whole score matrix in memory.
Matrix textbook(const Matrix& q, const Matrix& k, const Matrix& v) {
  Matrix o(q.rows(), v.cols());
  for (int h = 0; h < heads; ++h) {
    Matrix s = q.middleCols(h * dim, dim) * k.middleCols(h * dim, dim).transpose() / std::sqrt(float(dim));
    for (Eigen::Index i = 0; i < s.rows(); ++i) {
      auto seen = s.row(i).head(i + 1);
      seen = (seen.array() - seen.maxCoeff()).exp().matrix();
      seen /= seen.sum();
      s.row(i).tail(s.cols() - i - 1).setZero();
    }
    o.middleCols(h * dim, dim) = s * v.middleCols(h * dim, dim);
  }
  return o;
}

/// The shortest of the calls that fit into half a second.
template <class F>
double best_seconds(F&& f) {
  double best = 1e9;
  const examples::stopwatch since_start;
  do {
    const examples::stopwatch this_call;
    f();
    best = std::min(best, this_call.seconds());
  } while (since_start.seconds() < 0.5);
  return best;
}

/// The largest difference from the formula in double, over the last rows: those that see most keys.
double error_of(const Matrix& o, const Matrix& q, const Matrix& k, const Matrix& v) {
  const Eigen::Index rows = std::min<Eigen::Index>(q.rows(), 16);
  const Matrix last = q.bottomRows(rows);
  const auto exact = fovea::reference(last, k, v, {.heads = heads}, fovea::causal_bottom_right);
  double worst = 0;
  for (Eigen::Index i = 0; i < rows; ++i)
    for (Eigen::Index c = 0; c < o.cols(); ++c)
      worst = std::max(worst, std::abs(o(o.rows() - rows + i, c) - exact.out(0, c / dim, i, c % dim)));
  return worst;
}

void print_row(const char* name, Eigen::Index tokens, double seconds, double error, double bytes) {
  const double operations = 4.0 * heads * dim * double(tokens) * double(tokens) / 2;  // the visible half
  std::printf("%6td  %-18s %9.2f ms  %7.1f GFLOP/s  %8.1e  %10.1f KiB\n", tokens, name, seconds * 1e3,
              operations / seconds / 1e9, error, bytes / 1024);
}

/// The table for each number of tokens.
void compare(const std::vector<Eigen::Index>& all_tokens, fovea::index_type threads) {
  std::printf("causal self-attention, %d heads of %d, float32\n\n", heads, dim);
  std::printf("tokens  %-18s %12s  %15s  %8s  %14s\n", "", "time", "speed", "error", "memory");
  fovea::threads pool(threads);
  const fovea::attention<float, heads> attend, parallel{{.executor = pool}};
  for (const Eigen::Index tokens : all_tokens) {
    const Matrix q = Matrix::Random(tokens, heads * dim), k = Matrix::Random(tokens, heads * dim);
    const Matrix v = Matrix::Random(tokens, heads * dim);
    Matrix o(tokens, heads * dim);
    const auto run = [&](const std::string& name, const auto& with) {
      const double seconds = best_seconds([&] { with.into(o, q, k, v, fovea::causal); });
      const double bytes = double(with.plan_for(q, k, v, fovea::causal).workspace_bytes());
      print_row(name.c_str(), tokens, seconds, error_of(o, q, k, v), bytes);
    };
    const double seconds = best_seconds([&] { o = textbook(q, k, v); });
    print_row("textbook", tokens, seconds, error_of(o, q, k, v),
              double(sizeof(float)) * double(tokens * tokens));
    run("fovea", attend);
    if (threads > 1) run("fovea, " + std::to_string(threads) + " threads", parallel);
  }
  std::printf("\nerror: against the formula in double; memory: beyond inputs and result\n");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Multi-head causal self-attention by fovea beside the textbook's two products and a softmax: time, "
      "speed, error and memory.");
  std::vector<Eigen::Index> tokens{256, 1024, 2048};
  fovea::index_type threads = 2;
  app.add_option("--tokens", tokens, "lengths of the sequences, at most 16384")
      ->check(CLI::Range(1, 16384))
      ->capture_default_str();
  app.add_option("--threads", threads)->check(CLI::Range(1, 1024))->capture_default_str();
  return examples::run_program("attend", app, argc, argv, [&] {
    compare(tokens, threads);
    return 0;
  });
}
