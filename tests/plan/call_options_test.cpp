// A plan and a workspace among the arguments of a call: no memory is taken beside that given, results keep
// their bits, and what does not fit is refused before anything is written.
#include "../support/allocations.hpp"
#include "../support/refusal.hpp"

#include <fovea/attention.hpp>
#include <fovea/kv_cache.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace call_options_test {

using fovea::index_type;
using fovea_test::expect_refused;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using memory = std::vector<std::byte>;

constexpr index_type heads = 4, dim = 32, tokens = 150;

struct operands {
  explicit operands(index_type queries = tokens, index_type keys = tokens)
      : q(Matrix::Random(queries, heads * dim)),
        k(Matrix::Random(keys, heads * dim)),
        v(Matrix::Random(keys, heads * dim)),
        o(Matrix::Constant(queries, heads * dim, 7)),
        lse(Matrix::Constant(queries, heads, 7)),
        d_q(o),
        d_k(Matrix::Constant(keys, heads * dim, 7)),
        d_v(d_k) {}
  Matrix q, k, v, o, lse, d_q, d_k, d_v;
  const Matrix& d_out() const { return q; }
};

const fovea::attention<float, heads> attend;

memory room_for(index_type bytes) { return memory(static_cast<std::size_t>(bytes)); }

TEST(workspace_argument, spares_a_call_its_allocation) {
  operands x;
  memory room = room_for(attend.into_plan_for(x.o, x.q, x.k, x.v, fovea::causal).workspace_bytes());
  ASSERT_TRUE(attend.into_plan_for(x.o, x.q, x.k, x.v, fovea::causal).allocates());
  const Matrix expected = attend(x.q, x.k, x.v, fovea::causal);

  const auto before = fovea_test::allocations().calls;
  attend.into(x.o, x.q, x.k, x.v, fovea::workspace{room}, fovea::causal);
  EXPECT_EQ(fovea_test::allocations().calls - before, 0u);
  EXPECT_EQ(x.o, expected);

  const auto [out, lse] = attend.with_lse(x.q, x.k, x.v, fovea::causal);
  const auto before_lse = fovea_test::allocations().calls;
  attend.with_lse_into(x.o, x.lse, x.q, x.k, x.v, fovea::causal, fovea::workspace{room});
  EXPECT_EQ(fovea_test::allocations().calls - before_lse, 0u);
  EXPECT_EQ(x.o, out);
  EXPECT_EQ(x.lse, lse);
  EXPECT_EQ(attend(x.q, x.k, x.v, fovea::causal, fovea::workspace{room}), expected);
}

TEST(workspace_argument, serves_backward) {
  operands x;
  attend.with_lse_into(x.o, x.lse, x.q, x.k, x.v);
  const auto expected = attend.backward(x.q, x.k, x.v, x.o, x.lse, x.d_out());
  const auto plan = attend.backward_plan_for(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.o, x.lse, x.d_out());
  memory room = room_for(plan.workspace_bytes());
  const auto before = fovea_test::allocations().calls;
  attend.backward_into(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.o, x.lse, x.d_out(), plan,
                       fovea::workspace{room});
  EXPECT_EQ(fovea_test::allocations().calls - before, 0u);
  EXPECT_EQ(x.d_q, expected.d_q);
  EXPECT_EQ(x.d_k, expected.d_k);
  EXPECT_EQ(x.d_v, expected.d_v);
}

TEST(workspace_argument, serves_a_cache) {
  operands x(1, 5000);
  fovea::kv_cache<float, heads> cache{5000, dim};
  cache.append(x.k, x.v);
  const Matrix expected = attend(x.q, cache, fovea::causal);
  memory room = room_for(attend.into_plan_for(x.o, x.q, cache, fovea::causal).workspace_bytes());
  const auto before = fovea_test::allocations().calls;
  attend.into(x.o, x.q, cache, fovea::causal, fovea::workspace{room});
  EXPECT_EQ(fovea_test::allocations().calls - before, 0u);
  EXPECT_EQ(x.o, expected);
}

TEST(workspace_argument, comes_before_the_option) {
  operands x;
  const index_type bytes = attend.into_plan_for(x.o, x.q, x.k, x.v).workspace_bytes();
  memory small = room_for(10), enough = room_for(bytes);
  const fovea::attention<float, heads> with_option{{.workspace = small}};
  const std::string wanted = std::to_string(bytes) + " of the plan";
  expect_refused([&] { with_option.into(x.o, x.q, x.k, x.v); },
                 "workspace has 10 bytes, fewer than the " + wanted);
  with_option.into(x.o, x.q, x.k, x.v, fovea::workspace{enough});
  EXPECT_EQ(x.o, attend(x.q, x.k, x.v));
}

TEST(workspace_argument, is_refused_where_it_is_small_or_shared) {
  operands x;
  const Matrix untouched = x.o;
  const index_type bytes = attend.into_plan_for(x.o, x.q, x.k, x.v).workspace_bytes();
  memory room = room_for(bytes - 1);
  expect_refused([&] { attend.into(x.o, x.q, x.k, x.v, fovea::workspace{room}); },
                 "workspace has " + std::to_string(bytes - 1) + " bytes, fewer than the " +
                     std::to_string(bytes) + " of the plan");
  memory operands_and_room = room_for(bytes + 64);
  float* const first = reinterpret_cast<float*>(operands_and_room.data());
  const Eigen::Map<Matrix> q(first, 1, heads * dim);
  Matrix one = Matrix::Constant(1, heads * dim, 7);
  expect_refused([&] { attend.into(one, q, x.k, x.v, fovea::workspace{operands_and_room}); },
                 "workspace and q share memory; what is written lies apart from what is read and from other "
                 "results (o may be q itself: the same view)");
  EXPECT_EQ(x.o, untouched);
  EXPECT_EQ(one, Matrix::Constant(1, heads * dim, 7));
}

/// What a modifier reads or writes, as well as the operands.
TEST(workspace_argument, is_refused_where_it_shares_with_a_modifier) {
  operands x;
  memory room = room_for(1 << 20);
  float* const first = reinterpret_cast<float*>(room.data());
  const auto expect_shared = [](const std::string& with, const auto& call) {
    expect_refused(call, "workspace and " + with +
                             " share memory; what is written lies apart from what is read and from other "
                             "results (o may be q itself: the same view)");
  };
  Eigen::Map<Matrix> bias(first, tokens, tokens), a_row(first, tokens, heads);
  const std::span<float> sinks(first, heads);
  std::fill_n(first, tokens * tokens, 0.f);
  const Matrix untouched = x.o;
  const fovea::workspace shared{room};
  expect_shared("bias", [&] { attend.into(x.o, x.q, x.k, x.v, fovea::bias(bias), shared); });
  expect_shared("sink's logits", [&] { attend.into(x.o, x.q, x.k, x.v, fovea::sink{sinks}, shared); });
  expect_shared("received", [&] { attend.into(x.o, x.q, x.k, x.v, fovea::add_received(a_row), shared); });
  const fovea::attention<float, heads> with_option{{.workspace = room}};
  expect_shared("bias", [&] { with_option.into(x.o, x.q, x.k, x.v, fovea::bias(bias)); });
  EXPECT_EQ(x.o, untouched);

  attend.with_lse_into(x.o, x.lse, x.q, x.k, x.v);
  const auto backward = [&](const auto&... mods) {
    attend.backward_into(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.o, x.lse, x.d_out(), mods..., shared);
  };
  expect_shared("d_lse", [&] { backward(fovea::lse_gradient(a_row)); });
  const Matrix apart = Matrix::Zero(tokens, tokens);
  expect_shared("the gradient of bias", [&] { backward(fovea::bias(apart, bias)); });
  EXPECT_EQ(x.d_q, Matrix::Constant(tokens, heads * dim, 7));
}

TEST(plan_argument, serves_calls_of_the_same_sizes) {
  operands x, y;
  const auto plan = attend.into_plan_for(x.o, x.q, x.k, x.v, fovea::causal);
  for (operands* z : {&x, &y}) {
    attend.into(z->o, z->q, z->k, z->v, fovea::causal, plan);
    EXPECT_EQ(z->o, attend(z->q, z->k, z->v, fovea::causal));
  }
  EXPECT_EQ(attend(x.q, x.k, x.v, fovea::causal, attend.plan_for(x.q, x.k, x.v, fovea::causal)), x.o);
}

/// `call` refuses a plan, by a sentence that starts so, and writes nothing.
template <class Call>
void expect_other(const operands& x, const std::string& sentence, const Call& call) {
  try {
    call();
    ADD_FAILURE() << "not refused: " << sentence;
  } catch (const std::invalid_argument& e) {
    EXPECT_TRUE(std::string(e.what()).starts_with("fovea: the plan has " + sentence)) << e.what();
  }
  EXPECT_EQ(x.o, Matrix::Constant(x.o.rows(), x.o.cols(), 7));
}

TEST(plan_argument, is_refused_where_anything_differs) {
  operands x;
  const auto plan = attend.into_plan_for(x.o, x.q, x.k, x.v);
  operands longer(tokens + 1), more_keys(tokens, tokens + 1);
  expect_other(longer, "150 queries but the call needs 151",
               [&] { attend.into(longer.o, longer.q, longer.k, longer.v, plan); });
  expect_other(more_keys, "150 keys but the call needs 151",
               [&] { attend.into(more_keys.o, more_keys.q, more_keys.k, more_keys.v, plan); });
  expect_other(x, "4 query heads but the call needs 8",
               [&] { fovea::attention<float, 8>{}.into(x.o, x.q, x.k, x.v, plan); });
  fovea::threads two{2};
  const fovea::attention<float, heads> parallel{{.executor = two}};
  expect_other(x, "1 workers but the call needs 2", [&] { parallel.into(x.o, x.q, x.k, x.v, plan); });
  const Eigen::MatrixXf columns = x.k;
  expect_other(x, "0 bytes in its copy of keys but the call needs ",
               [&] { attend.into(x.o, x.q, columns, x.v, plan); });
  const Matrix bias = Matrix::Random(tokens, tokens);
  expect_other(x, "0 bytes in its copies for masks and scores but the call needs ",
               [&] { attend.into(x.o, x.q, x.k, x.v, fovea::bias(bias), plan); });
  Matrix sums = Matrix::Zero(tokens, heads);
  expect_other(x, "0 sums of what keys receive but the call needs 1",
               [&] { attend.into(x.o, x.q, x.k, x.v, fovea::add_received(sums), plan); });
}

TEST(plan_argument, serves_sequences_of_other_lengths_with_the_same_longest) {
  operands x;
  const std::vector<index_type> even{0, 75, 150}, uneven{0, 75, 80};
  const auto of = [](auto& m, const std::vector<index_type>& offsets) { return fovea::ragged{m, offsets}; };
  const auto plan = attend.into_plan_for(of(x.o, even), of(x.q, even), of(x.k, even), of(x.v, even));
  attend.into(of(x.o, uneven), of(x.q, uneven), of(x.k, uneven), of(x.v, uneven), plan);
  EXPECT_EQ(x.o, attend(of(x.q, uneven), of(x.k, uneven), of(x.v, uneven)));
}

TEST(plan_argument, of_backward_is_refused_where_anything_differs) {
  operands x, longer(tokens + 1);
  attend.with_lse_into(x.o, x.lse, x.q, x.k, x.v);
  const auto plan = attend.backward_plan_for(x.d_q, x.d_k, x.d_v, x.q, x.k, x.v, x.o, x.lse, x.d_out());
  expect_refused(
      [&] {
        attend.backward_into(longer.d_q, longer.d_k, longer.d_v, longer.q, longer.k, longer.v, longer.o,
                             longer.lse, longer.d_out(), plan);
      },
      "the plan has 150 queries but the call needs 151");
  EXPECT_EQ(longer.d_q, Matrix::Constant(tokens + 1, heads * dim, 7));
  const fovea::attention<float, heads, 2> grouped;
  Matrix d_k = Matrix::Constant(tokens, 2 * dim, 7), d_v = d_k;
  const Matrix k = x.k.leftCols(2 * dim), v = x.v.leftCols(2 * dim);
  expect_refused([&] { grouped.backward_into(x.d_q, d_k, d_v, x.q, k, v, x.o, x.lse, x.d_out(), plan); },
                 "the plan has 4 key/value heads but the call needs 2");
  EXPECT_EQ(x.d_q, Matrix::Constant(tokens, heads * dim, 7));
}

}  // namespace call_options_test
