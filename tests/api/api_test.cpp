// What attention refuses: the message names the argument and both values, and nothing has been written.
#include "../support/refusal.hpp"

#include <fovea/attention.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

namespace api_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class Refusal : public testing::Test {
 protected:
  Matrix q = Matrix::Random(5, 8), k = Matrix::Random(7, 8), v = Matrix::Random(7, 12),
         o = Matrix::Constant(5, 12, 7.f);

  /// Expects the call to throw with this sentence, and o to be as it was.
  template <class Call>
  void expect(Call&& call, const std::string& sentence) {
    fovea_test::expect_refused(call, sentence);
    EXPECT_TRUE((o.array() == 7.f).all());
  }
};

TEST_F(Refusal, OfSizes) {
  const fovea::attention<float, 2> attend;
  const Matrix narrow = Matrix::Random(7, 6), odd = Matrix::Random(7, 9), few = Matrix::Random(6, 12);
  expect([&] { attend.into(o, q, narrow, v); }, "q has 4 dimensions a head but k has 3");
  expect([&] { attend.into(o, q, odd, v); }, "k has 9 columns, which 2 heads do not divide");
  expect([&] { attend.into(o, q, k, few); }, "k has 7 tokens but v has 6");
  Matrix small = Matrix::Constant(4, 12, 7.f), thin = Matrix::Constant(5, 10, 7.f);
  expect([&] { attend.into(small, q, k, v); }, "o has 4 tokens but q has 5");
  expect([&] { attend.into(thin, q, k, v); }, "o has 5 columns a head, not 6");
  Matrix lse(5, 3);
  expect([&] { attend.with_lse_into(o, lse, q, k, v); }, "lse has 3 columns, which 2 heads do not divide");
}

TEST_F(Refusal, OfHeads) {
  const fovea::attention<float> three{{.heads = 3}}, uneven{{.heads = 4, .kv_heads = 3}};
  expect([&] { three.into(o, q, k, v); }, "q has 8 columns, which 3 heads do not divide");
  expect([&] { uneven.into(o, q, k, v); }, "4 query heads can not share 3 key/value heads evenly");
  expect([&] { fovea::attention<float, 2>{{.heads = 3}}; }, "the option heads is 3, but the type says 2");
  expect([&] { fovea::attention<float>{{.heads = -2}}; }, "the option heads is -2, below 0");
  expect([&] { three.weights_of(3, Matrix(2, 6), Matrix(2, 6)); }, "head 3 is not one of 3");
}

TEST_F(Refusal, OfMasksAndScores) {
  const fovea::attention<float, 2> attend;
  expect([&] { attend.into(o, q, k, v, fovea::causal); },
         "causal needs as many queries as keys, not 5 queries and 7 keys; say causal_top_left (k <= q) or "
         "causal_bottom_right (k <= q + Lk - Lq), or causal_offset{n}");
  expect([&] { attend.into(o, q, k, v, fovea::sliding_window{.left = -3}); },
         "sliding_window's left is -3, below -1 (open)");
  const std::vector<index_type> two{1, 2}, long_one{8}, negative{-1};
  expect([&] { attend.into(o, q, k, v, fovea::key_lengths{two}); },
         "key_lengths has 2 entries for 1 sequences");
  expect([&] { attend.into(o, q, k, v, fovea::key_lengths{long_one}); },
         "key_lengths's entry 0 is 8, not within 0 and the 7 keys");
  expect([&] { attend.into(o, q, k, v, fovea::left_padding{negative}); },
         "left_padding's entry 0 is -1, not within 0 and the 7 keys");
  const Matrix table = Matrix::Zero(5, 6);
  const Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic> keep(4, 7);
  expect([&] { attend.into(o, q, k, v, fovea::bias(table)); }, "bias has 6 columns (keys), neither 1 nor 7");
  expect([&] { attend.into(o, q, k, v, fovea::boolean_mask(keep)); },
         "boolean_mask has 4 rows (queries), neither 1 nor 5");
  const std::vector<float> three(3);
  expect([&] { attend.into(o, q, k, v, fovea::alibi{three}); }, "alibi has 3 slopes for 2 heads");
  expect([&] { attend.into(o, q, k, v, fovea::sink{three}); }, "sink has 3 logits for 2 heads");
  expect([&] { attend.into(o, q, k, v, fovea::softcap{-1.f}); }, "softcap is -1, not a finite number >= 0");
}

TEST_F(Refusal, OfOptions) {
  expect([&] { fovea::attention<float>{{.scale = std::nan("")}}; }, "scale is nan, not a finite number");
  expect([&] { fovea::threads(0); }, "threads has 0 workers, fewer than 1");
  try {
    fovea::threads(index_type(1) << 62);
    ADD_FAILURE() << "so many threads are refused";
  } catch (const std::length_error& e) {
    EXPECT_EQ(std::string(e.what()),
              "fovea: threads of 4611686018427387904 x 16 is more than can be counted");
  }
  std::byte few[8];
  const fovea::attention<float, 2> attend{{.workspace = few}};
  const index_type needed = attend.plan_for(q, k, v).workspace_bytes();
  ASSERT_GT(needed, 8);
  expect([&] { attend.into(o, q, k, v); },
         "workspace has 8 bytes, fewer than the " + std::to_string(needed) + " of the plan");
}

TEST_F(Refusal, OfViews) {
  const fovea::attention<float, 2> attend;
  std::vector<float> x(40);
  const auto view = fovea::bhsd(x.data(), 1, 2, 5, 4), three = fovea::bhsd(x.data(), 1, 3, 3, 4),
             two = fovea::bhsd(x.data(), 2, 2, 2, 4);
  auto flat = view;
  flat.token_stride = 0;
  expect([&] { attend.into(flat, view, view, view); },
         "o has 5 tokens with a stride of 0: it can not be written");
  expect([&] { attend.into(view, view, three, three); }, "k has 3 heads, not 2");
  expect([&] { attend.into(view, view, two, two); }, "q has 1 sequences but k has 2");
  auto null = view;
  null.data = nullptr;
  expect([&] { attend.into(view, null, view, view); }, "q is a null pointer");
  const auto packed = [&](const std::vector<index_type>& offsets) {
    return [this, &attend, offsets] {
      const fovea::ragged rows{q, offsets};
      attend(rows, rows, rows);
    };
  };
  expect(packed({}), "k has 0 offsets; a batch of n sequences has n + 1");
  expect(packed({0, 6}), "k's offset 1 is 6, not within 0 and 5");
  expect(packed({3, 2}), "k's offset 1 is 2, not within 3 and 5");
  expect(packed({-1, 2}), "k's offset 0 is -1, not within 0 and 5");
  EXPECT_TRUE(std::all_of(x.begin(), x.end(), [](float e) { return e == 0.f; }));
}

TEST(Attention, ReadsAsTheReadmeSays) {
  const Matrix q = Matrix::Random(9, 12), k = Matrix::Random(9, 12), v = Matrix::Random(9, 12);
  const fovea::attention<float, 3> attend;
  const auto exact = fovea::reference(q, k, v, {.heads = 3}, fovea::causal);
  const Matrix o = attend(q, k, v, fovea::causal), weights = attend.weights_of(2, q, k, fovea::causal);
  const Eigen::MatrixXf columns = fovea::attention<float, 3>()(Eigen::MatrixXf(q), k, v, fovea::causal);
  for (int i = 0; i < 9; ++i)
    for (int c = 0; c < 12; ++c) EXPECT_NEAR(o(i, c), exact.out(0, c / 4, i, c % 4), 1e-6);
  EXPECT_EQ(o, Matrix(columns));
  EXPECT_TRUE((weights * v.rightCols(4)).isApprox(o.rightCols(4), 1e-5f));
}

}  // namespace api_test
