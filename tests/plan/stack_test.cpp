// The stack that a call takes: at most 16 KiB, whatever the call.
#include "../support/stack.hpp"

#include <fovea/inspect.hpp>
#include <fovea/kv_cache.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace stack_test {

using fovea::index_type;
using fovea_test::run_on_stack, fovea_test::stack_of;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(stack, is_measured) {
  const auto take = [](auto kibibytes) {
    return stack_of([] {
      volatile char used[decltype(kibibytes)::value * 1024];
      for (std::size_t i = 0; i < sizeof used; i += 64) used[i] = 1;
    });
  };
  const std::size_t little = take(std::integral_constant<int, 1>{}),
                    much = take(std::integral_constant<int, 100>{});
  EXPECT_GE(little, 1024u);
  EXPECT_LT(little, 4096u);
  EXPECT_GE(much, 100u * 1024);
  EXPECT_LT(much, 104u * 1024);
}

/// A call, which also runs on a thread with 64 KiB.
template <class F>
void expect_little(const char* name, index_type tokens, const F& call) {
  run_on_stack(64 * 1024, call);
  const std::size_t bytes = stack_of(call);
  EXPECT_GT(bytes, 0u) << name;
  EXPECT_LE(bytes, 16u * 1024) << name << " of " << tokens << " tokens";
}

TEST(stack, is_16_KiB_at_most) {
  const fovea::attention<float, 4, 2> attend;
  const index_type dim = 64;
  const Matrix history = Matrix::Random(4500, 2 * dim);
  for (const index_type tokens : {1, 5, 8, 16, 33, 300}) {
    const Matrix q = Matrix::Random(tokens, 4 * dim), k = Matrix::Random(tokens, 2 * dim),
                 v = Matrix::Random(tokens, 2 * dim);
    const Eigen::MatrixXf by_columns = q, history_by_columns = history;
    const Matrix first = Matrix::Random(tokens, tokens), second = Matrix::Random(tokens, tokens);
    const auto keep =
        Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>::Constant(tokens, tokens, true)
            .eval();
    const std::vector<float> slopes(4, 0.5f), sinks(4, 1.f);
    Matrix o = q, lse(tokens, 4), d_q = q, d_k = k, d_v = v, sums = Matrix::Zero(4500, 2), d_first = first;
    Eigen::MatrixXf o_by_columns = by_columns;
    const auto expect = [&](const char* name, const auto& call) { expect_little(name, tokens, call); };

    attend.with_lse_into(o, lse, q, k, v);
    expect("prefill", [&] { attend.with_lse_into(o, lse, q, k, v); });
    expect("causal", [&] { attend.with_lse_into(o, lse, q, k, v, fovea::causal); });
    expect("a long history", [&] { attend.into(o, q, history, history); });
    expect("column-major",
           [&] { attend.into(o_by_columns, by_columns, history_by_columns, history_by_columns); });
    expect("scores and matrices", [&] {
      attend.into(o, q, k, v, fovea::bias(first), fovea::bias(second), fovea::boolean_mask(keep),
                  fovea::alibi{slopes}, fovea::softcap{3.f}, fovea::sink{sinks});
    });
    expect("weights", [&] { static_cast<void>(attend.weights(q, k, fovea::causal)); });
    expect("statistics", [&] { static_cast<void>(attend.statistics(q, k, fovea::causal)); });
    expect("received", [&] { static_cast<void>(attend.received(q, k)); });
    expect("add_received", [&] { attend.into(o, q, history, history, fovea::add_received(sums)); });
    expect("merge", [&] {
      static_cast<void>(
          fovea::merge(fovea::partial<Matrix, Matrix>{o, lse}, fovea::partial<Matrix, Matrix>{o, lse}));
    });
    expect("backward", [&] { attend.backward_into(d_q, d_k, d_v, q, k, v, o, lse, q); });
    expect("backward with a learnt matrix", [&] {
      attend.backward_into(d_q, d_k, d_v, q, k, v, o, lse, q, fovea::bias(first, d_first),
                           fovea::sink{sinks});
    });

    fovea::kv_cache<std::int8_t, 2> cache(4500, dim);
    fovea::page_pool<float, 2> pages({.pages = 40, .page_tokens = 16, .dim = dim});
    fovea::paged_cache<float, 2> paged(pages);
    expect("append",
           [&] { cache.truncate(0), cache.append(history, history), paged.truncate(0), paged.append(k, v); });
    expect("a cache of int8", [&] { attend.into(o, q, cache, fovea::causal); });
    expect("pages", [&] { attend.into(o, q, paged, fovea::causal); });
  }
}

}  // namespace stack_test
