// Wrong arguments are refused before anything is written, in a sentence with the argument and both values.
#include "../support/refusal.hpp"

#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace errors_test {

using fovea::index_type;
using fovea_test::expect_refused;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Two heads of four dimensions, three of values; five queries, seven keys.
struct wrong : testing::Test {
  Matrix q = Matrix::Random(5, 8), k = Matrix::Random(7, 8), v = Matrix::Random(7, 6),
         o = Matrix::Constant(5, 6, 42);
  fovea::attention<float, 2> attend;

  template <class... Mods>
  void refused(const Matrix& q_, const Matrix& k_, const Matrix& v_, Matrix o_, const std::string& sentence,
               const Mods&... mods) const {
    o_.setConstant(42);
    expect_refused([&] { attend.into(o_, q_, k_, v_, mods...); }, sentence);
    EXPECT_TRUE((o_.array() == 42).all()) << "written before it was refused";
  }
  template <class... Mods>
  void refused_with(const std::string& sentence, const Mods&... mods) const {
    refused(q, k, v, o, sentence, mods...);
    expect_refused([&] { attend(q, k, v, mods...); }, sentence);
    expect_refused([&] { attend.plan_for(q, k, v, mods...); }, sentence);
    expect_refused([&] { attend.weights(q, k, mods...); }, sentence);
  }
};

TEST_F(wrong, sizes) {
  refused(q, k, Matrix::Zero(5, 6), o, "k has 7 tokens but v has 5");
  refused(q, Matrix::Zero(7, 10), v, o, "q has 4 dimensions a head but k has 5");
  refused(Matrix::Zero(5, 9), k, v, o, "q has 9 columns, which 2 heads do not divide");
  refused(q, Matrix::Zero(7, 9), v, o, "k has 9 columns, which 2 heads do not divide");
  refused(q, k, Matrix::Zero(7, 7), o, "v has 7 columns, which 2 heads do not divide");
  refused(q, k, v, Matrix::Zero(4, 6), "o has 4 tokens but q has 5");
  refused(q, k, v, Matrix::Zero(5, 8), "o has 4 columns a head, not 3");
  refused(q, k, v, Matrix::Zero(5, 7), "o has 7 columns, which 2 heads do not divide");
}

TEST_F(wrong, lse) {
  Matrix lse = Matrix::Constant(4, 2, 42);
  expect_refused([&] { attend.with_lse_into(o, lse, q, k, v); }, "lse has 4 tokens but q has 5");
  Matrix wide = Matrix::Constant(5, 4, 42);
  expect_refused([&] { attend.with_lse_into(o, wide, q, k, v); }, "lse has 2 columns a head, not 1");
  EXPECT_TRUE((o.array() == 42).all() && (lse.array() == 42).all() && (wide.array() == 42).all());
}

TEST_F(wrong, options) {
  using fovea::attention;
  expect_refused([] { attention<float, 8> a({.heads = 4}); }, "the option heads is 4, but the type says 8");
  expect_refused([] { attention<float, 8, 2> a({.kv_heads = 4}); },
                 "the option kv_heads is 4, but the type says 2");
  expect_refused([] { attention<float> a({.heads = -1}); }, "the option heads is -1, below 0");
  expect_refused([] { attention<float> a({.scale = std::numeric_limits<double>::quiet_NaN()}); },
                 "scale is nan, not a finite number");
  expect_refused([] { attention<float> a({.scale = std::numeric_limits<double>::infinity()}); },
                 "scale is inf, not a finite number");
  expect_refused([&] { attention<float>()(q, k, v); },
                 {"q is a matrix, which does not tell how many heads it holds", "attention<T>{{.heads = 8}}",
                  "attention<T, 8>"});
  const attention<float> uneven{{.heads = 4, .kv_heads = 3}};
  expect_refused([&] { uneven(q, k, v); }, "4 query heads can not share 3 key/value heads evenly");
}

TEST_F(wrong, head_of_weights) {
  expect_refused([&] { attend.weights_of(2, q, k); }, "head 2 is not one of 2");
  expect_refused([&] { attend.weights_of(-1, q, k); }, "head -1 is not one of 2");
}

TEST_F(wrong, masks) {
  refused_with(
      "causal needs as many queries as keys, not 5 queries and 7 keys; say causal_top_left (k <= q) or "
      "causal_bottom_right (k <= q + Lk - Lq), or causal_offset{n}",
      fovea::causal);
  const std::vector<index_type> none, two = {1, 2}, eight = {8}, negative = {-1};
  refused_with("key_lengths has 0 entries for 1 sequences", fovea::key_lengths{none});
  refused_with("key_lengths has 2 entries for 1 sequences", fovea::key_lengths{two});
  refused_with("key_lengths's entry 0 is 8, not within 0 and the 7 keys", fovea::key_lengths{eight});
  refused_with("key_lengths's entry 0 is -1, not within 0 and the 7 keys", fovea::key_lengths{negative});
  refused_with("left_padding's entry 0 is 8, not within 0 and the 7 keys", fovea::left_padding{eight});
  refused_with("sliding_window's left is -2, below -1 (open)", fovea::sliding_window{.left = -2});
  refused_with("sliding_window's right is -5, below -1 (open)", fovea::sliding_window{.right = -5});
  const Eigen::Matrix<bool, -1, -1> short_rows(4, 7), short_columns(5, 6);
  refused_with("boolean_mask has 4 rows (queries), neither 1 nor 5", fovea::boolean_mask(short_rows));
  refused_with("boolean_mask has 6 columns (keys), neither 1 nor 7", fovea::boolean_mask(short_columns));
}

TEST_F(wrong, masks_inside_of_an_intersection) {
  refused_with("sliding_window's left is -2, below -1 (open)",
               fovea::causal_top_left & fovea::sliding_window{.left = -2});
}

TEST_F(wrong, scores) {
  const std::vector<float> three(3);
  refused_with("alibi has 3 slopes for 2 heads", fovea::alibi{three});
  refused_with("sink has 3 logits for 2 heads", fovea::sink{three});
  const Matrix narrow = Matrix::Zero(5, 3);
  refused_with("bias has 3 columns (keys), neither 1 nor 7", fovea::bias(narrow));
  refused_with("softcap is -1, not a finite number >= 0", fovea::softcap{-1.0f});
  refused_with("softcap is inf, not a finite number >= 0",
               fovea::softcap{std::numeric_limits<float>::infinity()});
  refused_with("softcap is nan, not a finite number >= 0",
               fovea::softcap{std::numeric_limits<float>::quiet_NaN()});
}

TEST(wrong_tensor, sizes_and_pointers) {
  std::vector<float> x(1000);
  const auto view = [&](index_type b, index_type h, index_type t, index_type d) {
    return fovea::bhsd(x.data(), b, h, t, d);
  };
  const fovea::attention<float> attend{{.heads = 4, .kv_heads = 2}};
  const auto q = view(2, 4, 3, 5), k = view(2, 2, 6, 5), v = view(2, 2, 6, 7);
  EXPECT_NO_THROW(attend(q, k, v));
  expect_refused([&] { attend(view(2, 3, 3, 5), k, v); }, "q has 3 heads, not 4");
  expect_refused([&] { attend(q, view(2, 4, 6, 5), v); }, "k has 4 heads, not 2");
  expect_refused([&] { attend(q, k, view(2, 1, 6, 7)); }, "v has 1 heads, not 2");
  expect_refused([&] { attend(q, view(3, 2, 6, 5), view(3, 2, 6, 7)); }, "q has 2 sequences but k has 3");
  expect_refused([&] { attend(q, k, view(1, 2, 6, 7)); }, "k has 2 sequences but v has 1");
  expect_refused([&] { attend(q, k, view(2, 2, 5, 7)); }, "k has 6 tokens but v has 5");
  expect_refused([&] { attend(q, view(2, 2, 6, 4), v); }, "q has 5 dimensions a head but k has 4");
  expect_refused([&] { attend(q, view(2, 2, -6, 5), v); }, "k has a negative size: 2 x 2 x -6 x 5");
  const fovea::tensor_view<float> null{nullptr, 2, 2, 6, 5, 60, 30, 5, 1};
  expect_refused([&] { attend(q, null, v); }, "k is a null pointer");
  const fovea::tensor_view<float> no_q{nullptr, 2, 4, 3, 5, 60, 15, 5, 1};
  expect_refused([&] { attend(no_q, k, v); }, "q is a null pointer");
  auto twice = view(2, 4, 3, 7);
  twice.token_stride = 0;
  expect_refused([&] { attend.into(twice, q, k, v); },
                 "o has 3 tokens with a stride of 0: it can not be written");
}

/// Views whose strides are 0 may be as large as one likes, but not larger than can be counted.
TEST(wrong_tensor, sizes_that_no_plan_counts) {
  float x = 0;
  const fovea::attention<float> attend;
  const auto view = [&](index_type b, index_type h, index_type t, index_type d) {
    return fovea::tensor_view<float>{&x, b, h, t, d, 0, 0, 0, 0};
  };
  const auto refused = [&](index_type b, index_type h, index_type t, index_type d, const char* sentence) {
    try {
      const auto all = view(b, h, t, d);
      static_cast<void>(attend.plan_for(all, all, all));
      ADD_FAILURE() << "not refused: " << sentence;
    } catch (const std::length_error& e) {
      EXPECT_NE(std::string(e.what()).find(sentence), std::string::npos) << e.what();
    }
  };
  constexpr index_type two60 = index_type(1) << 60, two40 = index_type(1) << 40;
  refused(1, 1, 1, two60, "dim 1152921504606846976 and value dim 1152921504606846976");
  refused(1, 1, two60, 1, "1152921504606846976 queries, 1152921504606846976 keys");
  refused(two40, 1, 1, 1, "a call of 1099511627776 x 1 heads");
  refused(two40, 1, two40, 1, "q of 1099511627776 x 1 x 1099511627776 x 1 is more than can be counted");
  // Results as large as batch x heads x Lq x Lk.
  const auto wide = view(1, 1, two40, 1);
  EXPECT_THROW(static_cast<void>(attend.scores(wide, wide)), std::length_error);
}

TEST(wrong_ragged, offsets) {
  const Matrix q = Matrix::Zero(5, 4), k = Matrix::Zero(7, 4);
  const fovea::attention<float, 1> attend;
  const std::vector<index_type> one = {0, 5}, two = {0, 2, 5}, keys = {0, 3, 7}, beyond = {0, 3, 8};
  expect_refused([&] { attend(fovea::ragged(q, one), fovea::ragged(k, keys), fovea::ragged(k, keys)); },
                 "q has 1 sequences but k has 2");
  expect_refused([&] { attend(fovea::ragged(q, two), fovea::ragged(k, beyond), fovea::ragged(k, keys)); },
                 "k's offset 2 is 8, not within 3 and 7");
  const std::vector<index_type> other = {0, 4, 7};
  expect_refused([&] { attend(fovea::ragged(q, two), fovea::ragged(k, keys), fovea::ragged(k, other)); },
                 "k has 3 tokens but v has 4");
}

TEST(wrong_merge, shapes) {
  const fovea::attention<float, 2> attend;
  const auto part = [&](index_type tokens) {
    return attend.with_lse(Matrix::Zero(tokens, 4).eval(), Matrix::Zero(3, 4).eval(),
                           Matrix::Zero(3, 4).eval());
  };
  expect_refused([&] { fovea::merge(part(5), part(6)); },
                 "merge: lse is 1 x 5 x 2 in one part and 1 x 6 x 2 in the other");
}

}  // namespace errors_test
