// What a piece's scales mean: the same for keys and values of every element, in every form of a call.
#include "support.hpp"

#include <tuple>

namespace fovea_test {
namespace scales_test {

using fovea::range;

/// Keys or values of one's own: pieces of 7 tokens, each with scales of its own for its channels, its tokens,
/// both or neither, stored as elements of one of several types.
template <class Main>
struct own_side {
  index_type heads, tokens, dim;
  int kind;  // which element
  bool by_channel, by_token;
  std::tuple<std::vector<float>, std::vector<fovea::bf16>, std::vector<fovea::fp16>, std::vector<std::int8_t>,
             std::vector<double>>
      stored = {};                                // [head][token][dim]
  std::vector<float> channels = {}, scales = {};  // [head][piece][dim], [head][token]
  static constexpr index_type a_piece = 7;

  index_type pieces() const { return fovea::ceil_div(tokens, a_piece); }
  std::size_t at(index_type h, index_type t, index_type c) const {
    return static_cast<std::size_t>((h * tokens + t) * dim + c);
  }
  float* channels_of(index_type h, index_type t) {
    return channels.data() + (h * pieces() + t / a_piece) * dim;
  }
  const float* channels_of(index_type h, index_type t) const {
    return channels.data() + (h * pieces() + t / a_piece) * dim;
  }
  float& scale_of(index_type h, index_type t) { return scales[static_cast<std::size_t>(h * tokens + t)]; }

  /// Small integers, and powers of 2: their products are exact in every type.
  own_side(index_type head_count, index_type count, index_type width, int which, bool channel, bool token,
           std::uint64_t seed)
      : heads(head_count), tokens(count), dim(width), kind(which), by_channel(channel), by_token(token) {
    random_source random(seed);
    const auto fill = [&](auto& all) {
      using E = typename std::remove_cvref_t<decltype(all)>::value_type;
      for (index_type i = 0; i < heads * tokens * dim; ++i)
        all.push_back(static_cast<E>(static_cast<float>(random.integer(-8, 8))));
    };
    if (kind == 0) fill(std::get<0>(stored));
    if (kind == 1) fill(std::get<1>(stored));
    if (kind == 2) fill(std::get<2>(stored));
    if (kind == 3) fill(std::get<3>(stored));
    if (kind == 4) fill(std::get<4>(stored));
    const auto power = [&] {
      return std::ldexp(random.integer(0, 1) == 0 ? 1.f : -1.f, static_cast<int>(random.integer(-5, -2)));
    };
    for (index_type i = 0; i < heads * pieces() * dim; ++i) channels.push_back(power());
    for (index_type i = 0; i < heads * tokens; ++i) scales.push_back(power());
  }

  /// The elements, as the documentation says.
  fovea::tensor<double> elements() const {
    fovea::tensor<double> all(1, heads, tokens, dim);
    std::apply(
        [&](const auto&... kinds) {
          const auto take = [&](const auto& some) {
            for (index_type h = 0; h < heads && !some.empty(); ++h)
              for (index_type t = 0; t < tokens; ++t)
                for (index_type c = 0; c < dim; ++c)
                  all(0, h, t, c) =
                      static_cast<double>(static_cast<float>(some[at(h, t, c)])) *
                      (by_channel ? static_cast<double>(channels_of(h, t)[c]) : 1.0) *
                      (by_token ? static_cast<double>(scales[static_cast<std::size_t>(h * tokens + t)])
                                : 1.0);
          };
          (take(kinds), ...);
        },
        stored);
    return all;
  }

  struct head_view {
    using element = Main;
    const own_side* side;
    index_type head, rows, cols;
    static constexpr index_type row_stride = 0, col_stride = 1;
    template <class F>
    void each_piece(range some, F&& f) const noexcept {
      for (; some.first < some.last;) {
        const index_type end = std::min(some.last, (some.first / a_piece + 1) * a_piece);
        const auto give = [&](const auto& all) {
          using E = typename std::remove_cvref_t<decltype(all)>::value_type;
          f(fovea::piece<E>{
              {all.data() + side->at(head, some.first, 0), end - some.first, cols, cols, 1},
              side->by_channel ? side->channels_of(head, some.first) : nullptr,
              side->by_token ? side->scales.data() + head * side->tokens + some.first : nullptr});
        };
        if constexpr (std::is_same_v<Main, double>) {
          if (side->kind == 3) give(std::get<3>(side->stored));
          if (side->kind == 4) give(std::get<4>(side->stored));
        } else {
          if (side->kind == 0) give(std::get<0>(side->stored));
          if (side->kind == 1) give(std::get<1>(side->stored));
          if (side->kind == 2) give(std::get<2>(side->stored));
          if (side->kind == 3) give(std::get<3>(side->stored));
        }
        some.first = end;
      }
    }
  };
  struct all_heads {
    static constexpr bool in_cache = false;
    const own_side* side;
    index_type batches() const noexcept { return 1; }
    index_type heads() const noexcept { return side->heads; }
    index_type dim() const noexcept { return side->dim; }
    index_type tokens(index_type) const noexcept { return side->tokens; }
    index_type max_tokens() const noexcept { return side->tokens; }
    head_view head(index_type, index_type h) const noexcept { return {side, h, side->tokens, side->dim}; }
  };
};

}  // namespace scales_test
}  // namespace fovea_test

template <class Main>
struct fovea::view_traits<fovea_test::scales_test::own_side<Main>> {
  using element = Main;
  static auto view(const fovea_test::scales_test::own_side<Main>& x, index_type, const char*) {
    return typename fovea_test::scales_test::own_side<Main>::all_heads{&x};
  }
};

namespace fovea_test {
namespace scales_test {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
const fovea::reference_options options{.heads = heads, .kv_heads = kv_heads};

fovea::tensor<float> queries(index_type count, index_type dim, std::uint64_t seed) {
  fovea::tensor<float> q(1, heads, count, dim);
  random_source random(seed);
  for (index_type i = 0; i < q.size(); ++i) q.data()[i] = static_cast<float>(random.uniform(-1, 1));
  return q;
}

/// The largest error of `got`, of what is allowed: |err| <= 3 u (P|V|)(4 + A).
double worst(const fovea::tensor<float>& got, const fovea::reference_result& want) {
  double most = 0;
  for (index_type h = 0; h < got.heads(); ++h)
    for (index_type i = 0; i < got.tokens(); ++i)
      for (index_type c = 0; c < got.dim(); ++c) {
        const double bound =
            3 * 0x1p-24 * want.magnitude(0, h, i, c) * (4 + want.logits(0, h, i, 0)) + 0x1p-126;
        const double error = std::abs(got(0, h, i, c) - want.out(0, h, i, c)) / bound;
        if (!(error <= most)) most = error;  // NaN stays
      }
  return most;
}

template <class Main>
void expect_one_meaning(index_type count, index_type tokens, index_type dim, int kind) {
  const auto q = queries(count, dim, 1);
  for (const int scales : {0, 1, 2, 3, 4, 8, 12, 6, 9, 15}) {  // by channel, by token: of keys, of values
    const own_side<Main> k(kv_heads, tokens, dim, kind, scales & 1, scales & 2, 2);
    const own_side<Main> v(kv_heads, tokens, dim + 3, kind, scales & 4, scales & 8, 3);
    const auto dense_k = k.elements(), dense_v = v.elements();
    const auto want = fovea::reference(q, dense_k, dense_v, options);
    SCOPED_TRACE(testing::Message() << count << " queries, " << tokens << " tokens of " << dim << ", element "
                                    << kind << ", scales " << scales);
    ASSERT_LE(worst(attend(q, k, v), want), 1);
    const auto same = fovea::reference(q, k, v, options);
    for (index_type i = 0; i < want.out.size(); ++i) ASSERT_EQ(same.out.data()[i], want.out.data()[i]);
    const auto hides = fovea::mask([](auto i, auto j) { return (j & 3) != (i & 1); });
    ASSERT_LE(worst(attend(q, k, v, hides), fovea::reference(q, dense_k, dense_v, options, hides)), 1);
  }
}

TEST(scales, mean_the_same_with_many_queries_and_with_few) {
  for (const int kind : {0, 1, 2, 3})
    for (const index_type dim : {5, 20}) {
      expect_one_meaning<float>(1, 45, dim, kind);
      expect_one_meaning<float>(3, 130, dim, kind);  // as many as a block of few rows, and 2 more
      expect_one_meaning<float>(20, 75, dim, kind);
      expect_one_meaning<float>(2, 1, dim, kind);  // one key
    }
  expect_one_meaning<double>(2, 45, 20, 4);
  expect_one_meaning<double>(20, 45, 20, 4);
  expect_one_meaning<double>(2, 45, 20, 3);
}

TEST(scales, mean_the_same_where_keys_are_cut_into_spans) {
  for (const int kind : {0, 3}) {
    const own_side<float> k(kv_heads, 4500, 16, kind, true, true, 2),
        v(kv_heads, 4500, 16, kind, true, true, 3);
    const auto q = queries(2, 16, 1);
    ASSERT_GT(attend.plan_for(q, k, v).key_splits, 1);
    ASSERT_LE(worst(attend(q, k, v), fovea::reference(q, k.elements(), v.elements(), options)), 1);
  }
}

TEST(scales, mean_the_same_to_scores_weights_statistics_and_what_keys_receive) {
  for (const int scales : {1, 2, 3})
    for (const index_type count : {2, 40}) {
      const own_side<float> k(kv_heads, 45, 20, 0, scales & 1, scales & 2, 2);
      fovea::tensor<float> dense(1, kv_heads, 45, 20);
      const auto elements = k.elements();
      for (index_type i = 0; i < dense.size(); ++i) dense.data()[i] = static_cast<float>(elements.data()[i]);
      const auto q = queries(count, 20, 1);
      const auto near = [](const auto& a, const auto& b) {
        ASSERT_EQ(a.size(), b.size());
        for (index_type i = 0; i < a.size(); ++i) ASSERT_NEAR(a.data()[i], b.data()[i], 2e-5) << i;
      };
      near(attend.scores(q, k), attend.scores(q, dense));
      near(attend.weights(q, k), attend.weights(q, dense));
      near(attend.received(q, k), attend.received(q, dense));
      const auto got = attend.statistics(q, k), want = attend.statistics(q, dense);
      near(got.entropy, want.entropy), near(got.lse, want.lse);
    }
}

/// A scale is as an element: of 0, not finite where it is seen, not finite where it is masked.
TEST(scales, of_nothing_and_of_no_number) {
  const index_type tokens = 28, dim = 20, hidden = 9;  // in the second piece, which is masked
  const auto seen = fovea::mask([](auto, auto j) { return (j < 7) | (j > 13); });
  for (const index_type count : {1, 40})
    for (const bool of_keys : {true, false})
      for (const bool by_channel : {true, false})
        for (const int kind : {0, 3})
          for (const float scale : {0.f, static_cast<float>(nan), std::numeric_limits<float>::infinity()}) {
            SCOPED_TRACE(testing::Message() << count << " queries, of keys " << of_keys << ", by channel "
                                            << by_channel << ", element " << kind << ", scale " << scale);
            own_side<float> k(kv_heads, tokens, dim, kind, true, true, 2),
                v(kv_heads, tokens, dim, kind, true, true, 3);
            own_side<float>& changed = of_keys ? k : v;
            const auto q = queries(count, dim, 1);
            const auto set = [&](index_type token) {
              by_channel ? changed.channels_of(0, token)[3] = scale : changed.scale_of(0, token) = scale;
            };
            const auto masked = fovea::reference(q, k.elements(), v.elements(), options, seen);
            set(hidden);
            EXPECT_LE(worst(attend(q, k, v, seen), masked), 1);
            const fovea::tensor<float> got = attend(q, k, v);
            if (scale == 0) {
              EXPECT_LE(worst(got, fovea::reference(q, k.elements(), v.elements(), options)), 1);
              continue;
            }
            for (index_type h = 0; h < heads; ++h)  // heads 0 to 2 share the first key/value head
              for (index_type i = 0; i < count; ++i)
                EXPECT_EQ(std::isfinite(got(0, h, i, 3)), h >= heads / kv_heads);
          }
  // A scale of 0 makes no number of what is none.
  for (const index_type count : {1, 40}) {
    own_side<float> k(kv_heads, tokens, dim, 0, true, true, 2), v(kv_heads, tokens, dim, 0, true, true, 3);
    std::get<0>(v.stored)[v.at(0, hidden, 3)] = static_cast<float>(nan);
    v.scale_of(0, hidden) = 0;
    const auto later = fovea::mask([](auto, auto j) { return j > 1; });
    EXPECT_TRUE(std::isnan(attend(queries(count, dim, 1), k, v, later)(0, 0, 0, 3)));
  }
}

}  // namespace scales_test
}  // namespace fovea_test
