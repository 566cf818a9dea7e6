// What does not fit is said, with both values, before a gradient is written.
#include "../support/max_abs.hpp"
#include "../support/refusal.hpp"
#include "support.hpp"

#include <fovea/kv_cache.hpp>

#include <random>

namespace errors_test {

using namespace multi_head_test;

const fovea::rotary_table<double> table(4, 4);

using fovea_test::expect_refused;

/// With these words in the sentence.
void expect_error(const auto& f, const std::string& words) { expect_refused(f, {words.c_str()}); }

TEST(MultiHeadErrors, Options) {
  const auto makes = [](const options& o) { return [o] { layer result(o); }; };
  expect_refused(makes({.heads = 2}), "multi_head's width is 0, below 1");
  expect_refused(makes({.width = 8}),
                 "multi_head's heads is 0, below 1; give .heads, or say it in the type, as multi_head<T, 8>");
  expect_refused(makes({.width = 8, .heads = 3}),
                 "multi_head's width is 8, which 3 heads do not divide; give dim");
  expect_refused(makes({.width = 8, .heads = 4, .kv_heads = 3}),
                 "4 query heads can not share 3 key/value heads evenly");
  expect_refused(makes({.width = 8, .heads = 2, .memory_width = -1}),
                 "multi_head's memory_width is -1, below 0");
  expect_refused(makes({.width = 8, .heads = 2, .epsilon = -1}),
                 "multi_head's epsilon is -1, not a finite number of at least 0");
  expect_refused(makes({.width = 4, .heads = 2, .rotary = table.angles()}),
                 "the table rotates 4 dimensions, multi_head has 2 a head");
  expect_refused([] { fovea::multi_head<double, 4> result({.width = 8, .heads = 2}); },
                 "multi_head's option heads is 2, but the type says 4");
}

TEST(MultiHeadErrors, Inputs) {
  const layer l = random_layer({.width = 8, .heads = 2, .rotary = table.angles()});
  const matrix x = random_matrix(4, 8, 1), narrow = random_matrix(4, 6, 1);
  expect_refused([&] { l(narrow); }, "x has 6 columns, but the layer reads 8");
  expect_refused([&] { l(x, narrow); }, "memory has 6 columns, but the layer reads 8");
  expect_refused([&] { l({x, offsets{}}); }, "x has 0 offsets; a batch of n sequences has n + 1");
  expect_refused([&] { l({x, offsets{-1, 4}}); }, "x's offset 0 is -1, not within 0 and 4");
  expect_refused([&] { l({x, offsets{0, 5}}); }, "x's offset 1 is 5, not within 0 and 4");
  expect_refused([&] { l({x, offsets{0, 3, 2, 4}}); }, "x's offset 2 is 2, not within 3 and 4");
  expect_refused([&] { l({x, offsets{0, 2, 4}}, x); }, "q has 2 sequences but k has 1");
  expect_refused([&] { l(random_matrix(5, 8, 1)); },
                 "position 4 of token 4 is not within the table's 4 rows");
  const layer cross = random_layer({.width = 8, .heads = 2, .memory_width = 6});
  expect_refused([&] { cross(x); },
                 "self-attention: queries are made from 8 columns, keys and values from 6");
}

TEST(MultiHeadErrors, BackwardWritesNothing) {
  const layer l = random_layer({.width = 8, .heads = 2});
  const matrix x = random_matrix(4, 8, 1);
  layer::saved s;
  l(x, s);
  layer gradient = l.zero_gradient(), other({.width = 8, .heads = 2, .bias = false});
  expect_refused([&] { l.backward(random_matrix(3, 8, 1), s, gradient); },
                 "d_y has 3 rows, but the saved call had 4");
  expect_refused([&] { l.backward(random_matrix(4, 6, 1), s, gradient); },
                 "d_y has 6 columns, but the layer reads 8");
  expect_refused([&] { l.backward(x, s, other); }, "the gradient's qkv_bias is 1 x 0, the layer's 1 x 24");
  EXPECT_TRUE(gradient.out_weight.isZero(0));
  EXPECT_TRUE(gradient.qkv_weight.isZero(0));
}

/// What another layer saved, projected or cached.
TEST(MultiHeadErrors, OfAnotherLayer) {
  const layer few = random_layer({.width = 8, .heads = 4, .kv_heads = 2}),
              many = random_layer({.width = 8, .heads = 4}), two = random_layer({.width = 8, .heads = 2}),
              norm = random_layer({.width = 8, .heads = 4, .normalised = true}),
              apart = random_layer({.width = 8, .heads = 4, .memory_width = 6}),
              turned = random_layer({.width = 8, .heads = 2, .rotary = table.angles()}),
              scaled = random_layer({.width = 8, .heads = 4, .scale = 2.});
  const matrix x = random_matrix(4, 8, 1), memory = random_matrix(3, 6, 2);
  const auto refused = [&](const layer& by, const layer& given, const std::string& sentence) {
    layer::saved s;
    by.has_memory_weight() ? by(x, memory, s) : by(x, s);
    layer gradient = given.zero_gradient();
    expect_error([&] { given.backward(x, s, gradient); }, "saved was filled by a layer whose " + sentence);
    EXPECT_TRUE(gradient.out_weight.isZero(0) && gradient.qkv_weight.isZero(0));
  };
  refused(few, many, "number of kv_heads is 2, but this layer's is 4");
  refused(many, few, "number of kv_heads is 4, but this layer's is 2");
  refused(two, many, "number of heads is 2, but this layer's is 4");
  refused(many, norm, "option normalised is 0, but this layer's is 1");
  refused(apart, many, "memory_width is 6, but this layer's is 8");
  refused(turned, two, "rotary dimension is 4, but this layer's is 0");
  refused(scaled, many, "scale is 2");
}

TEST(MultiHeadErrors, MemoryOfAnotherLayer) {
  const layer few = random_layer({.width = 8, .heads = 4, .kv_heads = 2}),
              many = random_layer({.width = 8, .heads = 4}), two = random_layer({.width = 8, .heads = 2});
  const matrix x = random_matrix(4, 8, 1);
  expect_error([&] { many(x, few.project(x)); },
               "the memory was projected by a layer whose number of kv_heads is 2, but this layer's is 4");
  expect_error([&] { many(x, two.project(x)); },
               "the memory was projected by a layer whose number of heads is 2, but this layer's is 4");
  expect_error([&] { many(x, layer::keys_values()); }, "no layer's project() made it");
}

TEST(MultiHeadErrors, SavedOfNoCall) {
  const layer l = random_layer({.width = 8, .heads = 2});
  const matrix x = random_matrix(4, 8, 1), none(0, 8);
  layer::saved s;
  layer gradient = l.zero_gradient();
  expect_error([&] { l.backward(x, s, gradient); }, "saved holds no call");
  expect_error([&] { l.backward(none, s, gradient); }, "saved holds no call");
  l(x, s);
  expect_error([&] { l({x, offsets{0, 2, 4}}, x, s); }, "q has 2 sequences but k has 1");
  expect_error([&] { l.backward(x, s, gradient); }, "saved holds no call");  // that one did not end
  l(x, s);
  layer itself = l;
  expect_error([&] { itself.backward(x, s, itself); }, "the gradient is the layer itself");
  EXPECT_NO_THROW(l.backward(x, s, gradient));
}

/// A layer may be moved, assigned and trained between its calls.
TEST(MultiHeadErrors, MovedLayers) {
  layer first = random_layer({.width = 8, .heads = 2});
  const matrix x = random_matrix(4, 8, 1);
  layer::saved s;
  first(x, s);
  const auto memory = first.project(x);
  layer gradient = first.zero_gradient();
  const matrix wanted = first.backward(x, s, gradient).x;
  layer second = std::move(first);
  gradient = second.zero_gradient();
  EXPECT_EQ(second.backward(x, s, gradient).x, wanted);
  EXPECT_NO_THROW(second(x, memory));
  expect_error([&] { first(x); }, "the layer's qkv_weight is 0 x 0, not 24 x 8 (was it moved from?)");
  expect_error([&] { first.backward(x, s, gradient); }, "the layer's qkv_weight is 0 x 0, not 24 x 8");
  expect_error([&] { second.backward(x, s, first); },
               "the gradient's qkv_weight is 0 x 0, the layer's 24 x 8");
  second = random_layer({.width = 8, .heads = 4});
  expect_error([&] { second.backward(x, s, gradient); }, "number of heads is 2, but this layer's is 4");
}

TEST(MultiHeadErrors, CachesOfOtherSizes) {
  const layer l = random_layer({.width = 8, .heads = 4, .kv_heads = 2});
  const matrix x = random_matrix(1, 8, 1);
  using cache = fovea::kv_cache<double>;
  cache heads(8, 2, {.heads = 4}), keys(8, 4, {.heads = 2}), values(8, 2, {.heads = 2, .value_dim = 4}),
      fits(8, 2, {.heads = 2});
  expect_error([&] { l(x, heads); }, "cache 0 has 4 heads, the layer 2");
  expect_error([&] { l(x, keys); }, "cache 0 has 4 dimensions a key, the layer 2");
  expect_error([&] { l(x, values); }, "cache 0 has 4 dimensions a value, the layer 2");
  const std::vector<cache*> twice{&fits, &fits}, none;
  const matrix rows = random_matrix(2, 8, 1), no_rows(0, 8);
  expect_error(
      [&] {
        l({rows, offsets{0, 1, 2}}, std::span<cache* const>(twice));
      },
      "a cache is given for two of the 2 sequences");
  EXPECT_EQ(heads.tokens() + keys.tokens() + values.tokens() + fits.tokens(), 0);
  EXPECT_EQ(l({no_rows, offsets{0}}, std::span<cache* const>(none)).rows(), 0);
}

TEST(MultiHeadErrors, SizesThatWrap) {
  const index_type two40 = index_type(1) << 40;
  try {
    layer result({.width = two40, .heads = 4, .dim = two40});
    ADD_FAILURE() << "made";
  } catch (const std::length_error& e) {
    EXPECT_NE(std::string(e.what()).find("4 heads x 1099511627776 numbers x width 1099511627776"),
              std::string::npos)
        << e.what();
  }
}

/// From an engine, all weights within their bounds, and the same for a seed; a function that draws from
/// elsewhere changes nothing.
TEST(MultiHeadErrors, RandomWeights) {
  layer l({.width = 8, .heads = 2}), same = l;
  l.randomise(std::mt19937{1});
  EXPECT_LE(fovea_test::max_abs(l.qkv_weight), std::sqrt(6. / 16));
  EXPECT_GT(fovea_test::max_abs(l.qkv_weight), 0.9 * std::sqrt(6. / 16));
  EXPECT_LT(std::abs(l.qkv_weight.mean()), 0.1);
  EXPECT_DOUBLE_EQ(l.w_q()(0, 0), std::sqrt(6. / 16) * (2 * 1791095845. / 4294967296. - 1));
  std::mt19937_64 wide(1);
  std::minstd_rand narrow(1);
  for (const double bound : {0., 1.}) {
    bound > 0 ? same.randomise(wide) : same.randomise(narrow);
    EXPECT_LE(fovea_test::max_abs(same.qkv_weight), std::sqrt(6. / 16));
    EXPECT_GT(fovea_test::max_abs(same.qkv_weight), 0.9 * std::sqrt(6. / 16));
  }
  same.randomise(std::mt19937{1});
  EXPECT_EQ(same.qkv_weight, l.qkv_weight);
  int draws = 0;
  for (const double outside : {1.5, -1.001, std::nan(""), 1e300}) {
    const auto draw = [&] { return ++draws % 100 == 0 ? outside : 0.25; };
    expect_error([&] { same.randomise(draw); }, "which is not within -1 and 1; give it an engine");
    EXPECT_EQ(same.qkv_weight, l.qkv_weight);
    EXPECT_EQ(same.out_weight, l.out_weight);
  }
  expect_error([&] { same.randomise([r = std::mt19937{1}]() mutable { return r(); }); },
               "randomise was given 1791095845");
}

}  // namespace errors_test
