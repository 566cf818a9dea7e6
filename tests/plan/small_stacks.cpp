// Prefill, decoding and the backward pass on threads with little stack: small_stacks THREAD CALL, kibibytes that
// a thread has (an overflow ends the program), and that a call may take.
#include "../support/stack.hpp"

#include <fovea/attention.hpp>

#include <cstdio>

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::size_t of_a_thread = std::strtoul(argv[1], nullptr, 10) * 1024;
  const std::size_t of_a_call = std::strtoul(argv[2], nullptr, 10) * 1024;
  const fovea::attention<float, 4, 2> attend;
  int failures = 0, measured = 0;
  for (const int tokens : {1, 5, 16, 33, 100}) {
    const Matrix q = Matrix::Random(tokens, 4 * 64), k = Matrix::Random(tokens, 2 * 64),
                 v = Matrix::Random(tokens, 2 * 64);
    const Matrix newest = q.bottomRows(1), history = Matrix::Random(4500, 2 * 64);
    Matrix o = q, lse(tokens, 4), o_of_one = newest, lse_of_one(1, 4), d_q = q, d_k = k, d_v = v;
    attend.with_lse_into(o, lse, q, k, v, fovea::causal);
    const auto prefill = [&] { attend.with_lse_into(o, lse, q, k, v, fovea::causal); };
    const auto decode = [&] { attend.with_lse_into(o_of_one, lse_of_one, newest, history, history); };
    const auto backward = [&] { attend.backward_into(d_q, d_k, d_v, q, k, v, o, lse, q, fovea::causal); };
    const auto measure = [&](const char* name, const auto& call) {
      fovea_test::run_on_stack(of_a_thread, call);
      const std::size_t bytes = fovea_test::stack_of(call);
      std::printf("%s of %d tokens: %zu bytes\n", name, tokens, bytes);
      failures += bytes == 0 || bytes > of_a_call, ++measured;
    };
    measure("prefill", prefill), measure("decoding", decode), measure("backward", backward);
  }
  std::printf("%d of %d calls take more than %zu bytes\n", failures, measured, of_a_call);
  return failures == 0 && measured == 15 ? 0 : 1;
}
