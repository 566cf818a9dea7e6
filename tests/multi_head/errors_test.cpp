// What does not fit is said, with both values, before a gradient is written.
#include "support.hpp"

namespace errors_test {

using namespace multi_head_test;

const fovea::rotary_table<double> table(4, 4);

void expect_error(const auto& f, const std::string& sentence) {
  try {
    f();
    ADD_FAILURE() << "no error: " << sentence;
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find(sentence), std::string::npos) << e.what();
  }
}

TEST(MultiHeadErrors, Options) {
  const auto makes = [](const options& o) { return [o] { layer made(o); }; };
  expect_error(makes({.heads = 2}), "width is 0, below 1");
  expect_error(makes({.width = 8}), "heads is 0, below 1");
  expect_error(makes({.width = 8, .heads = 3}), "width is 8, which 3 heads do not divide");
  expect_error(makes({.width = 8, .heads = 4, .kv_heads = 3}),
               "4 query heads can not share 3 key/value heads");
  expect_error(makes({.width = 8, .heads = 2, .memory_width = -1}), "memory_width is -1, below 0");
  expect_error(makes({.width = 8, .heads = 2, .epsilon = -1}), "epsilon is -1");
  expect_error(makes({.width = 4, .heads = 2, .rotary = table.angles()}),
               "rotates 4 dimensions, multi_head has 2");
  expect_error([] { fovea::multi_head<double, 4> made({.width = 8, .heads = 2}); },
               "heads is 2, but the type says 4");
}

TEST(MultiHeadErrors, Inputs) {
  const layer l = random_layer({.width = 8, .heads = 2, .rotary = table.angles()});
  const matrix x = random_matrix(4, 8, 1), narrow = random_matrix(4, 6, 1);
  expect_error([&] { l(narrow); }, "x has 6 columns, but the layer reads 8");
  expect_error([&] { l(x, narrow); }, "memory has 6 columns, but the layer reads 8");
  expect_error([&] { l({x, offsets{}}); }, "x has 0 offsets");
  expect_error([&] { l({x, offsets{1, 4}}); }, "x's first offset is 1, not 0");
  expect_error([&] { l({x, offsets{0, 3}}); }, "x's last offset is 3, but it has 4 rows");
  expect_error([&] { l({x, offsets{0, 3, 2, 4}}); }, "x's offset 2 is 2, below the 3");
  expect_error([&] { l({x, offsets{0, 2, 4}}, x); }, "q has 2 sequences but k has 1");
  expect_error([&] { l(random_matrix(5, 8, 1)); }, "position 4 of token 4 is not within the table's 4 rows");
  const layer cross = random_layer({.width = 8, .heads = 2, .memory_width = 6});
  expect_error([&] { cross(x); }, "made from 8 columns, keys and values from 6");
}

TEST(MultiHeadErrors, BackwardWritesNothing) {
  const layer l = random_layer({.width = 8, .heads = 2});
  const matrix x = random_matrix(4, 8, 1);
  layer::saved s;
  l(x, s);
  layer gradient = l.zero_gradient(), other({.width = 8, .heads = 2, .bias = false});
  expect_error([&] { l.backward(random_matrix(3, 8, 1), s, gradient); },
               "d_y has 3 rows, but the saved call had 4");
  expect_error([&] { l.backward(random_matrix(4, 6, 1), s, gradient); }, "d_y has 6 columns");
  expect_error([&] { l.backward(x, s, other); }, "the gradient's qkv_bias is 1 x 0, the layer's 1 x 24");
  EXPECT_TRUE(gradient.out_weight.isZero(0));
  EXPECT_TRUE(gradient.qkv_weight.isZero(0));
}

}  // namespace errors_test
