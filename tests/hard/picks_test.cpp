// Which keys are picked, and what belongs to them, against the reference in double.
#include "support.hpp"

namespace hard_test {

using namespace fovea_test;

struct sizes {
  index_type batch, heads, kv_heads, queries, keys, dim, value_dim;
};

/// Few rows and many, tails of registers and blocks, shared heads, more keys than a block.
const sizes of_calls[] = {{1, 2, 2, 1, 9, 16, 3}, {2, 4, 2, 3, 300, 5, 8},   {1, 2, 1, 70, 150, 33, 17},
                          {1, 1, 1, 9, 1, 8, 4},  {2, 8, 2, 1, 1000, 64, 5}, {1, 2, 2, 130, 600, 24, 40}};

template <class T, class Choice, class... Mods>
void compare(const Choice& choice, double error, const Mods&... mods) {
  std::uint64_t seed = 1;
  for (const sizes& n : of_calls) {
    const auto q = normal<T>(n.batch, n.heads, n.queries, n.dim, ++seed);
    const auto k = normal<T>(n.batch, n.kv_heads, n.keys, n.dim, ++seed);
    const auto v = normal<T>(n.batch, n.kv_heads, n.keys, n.value_dim, ++seed);
    const fovea::hard<T> look{{.scale = 0.3, .heads = n.heads, .kv_heads = n.kv_heads}};
    const auto found = look.with_log_p(q, k, v, choice, mods...);
    expect_as_reference(found, fovea::hard_reference(q, k, v, {n.heads, n.kv_heads, 0.3}, choice, mods...),
                        error);
    const auto out = look(q, k, v, choice, mods...);
    const auto picks = look.picks(q, k, choice, mods...);
    for (index_type i = 0; i < picks.size(); ++i) ASSERT_EQ(picks.data()[i], found.picks.data()[i]);
    EXPECT_EQ(std::memcmp(out.data(), found.out.data(), sizeof(T) * static_cast<std::size_t>(out.size())), 0);
  }
}

TEST(hard, argmax_of_every_element) {
  compare<float>(fovea::argmax{}, 2e-5);
  compare<double>(fovea::argmax{}, 1e-12);
  compare<fovea::bf16>(fovea::argmax{}, 2e-5);
  compare<fovea::fp16>(fovea::argmax{}, 2e-5);
}

TEST(hard, samples) {
  compare<float>(fovea::sampled{.seed = 7}, 3e-5);
  compare<double>(fovea::sampled{.seed = 7}, 1e-12);
}

TEST(hard, top_k) {
  compare<float>(fovea::top<1>{}, 2e-5);
  compare<float>(fovea::top<5>{}, 2e-5);
}

TEST(hard, masks_scores_and_sinks) {
  const auto window = fovea::causal_bottom_right & fovea::sliding_window{.left = 40};
  const auto fade = [](auto s, auto q, auto k) {
    using std::abs;
    return s - decltype(s)(0.01f) * abs(q - k);
  };
  compare<float>(fovea::sampled{.seed = 3}, 3e-5, window, fovea::softcap{2.f}, fovea::score(fade));
  for (const sizes& n : of_calls) {  // a sink a head
    const auto q = normal<float>(n.batch, n.heads, n.queries, n.dim, 5);
    const auto k = normal<float>(n.batch, n.kv_heads, n.keys, n.dim, 6);
    const auto v = normal<float>(n.batch, n.kv_heads, n.keys, n.value_dim, 7);
    const std::vector<double> logits(static_cast<std::size_t>(n.heads), 2.0);
    const fovea::hard<float> look{{.heads = n.heads, .kv_heads = n.kv_heads}};
    const auto both = [&](const auto& choice) {
      expect_as_reference(look.with_log_p(q, k, v, choice, fovea::sink{logits}, fovea::causal_top_left),
                          fovea::hard_reference(q, k, v, {n.heads, n.kv_heads}, choice, fovea::sink{logits},
                                                fovea::causal_top_left),
                          3e-5);
    };
    both(fovea::argmax{}), both(fovea::sampled{.seed = 2}), both(fovea::top<3>{});
  }
}

TEST(hard, ties_go_to_the_lowest_index) {
  for (const index_type queries : {1, 40}) {
    const auto q = normal<float>(1, 1, queries, 8, 1), v = normal<float>(1, 1, 500, 2, 2);
    tensor<float> k(1, 1, 500, 8);  // all alike
    const auto found = fovea::hard<float, 1>().picks(q, k, fovea::top<3>{},
                                                     fovea::mask([](auto, auto j) { return j >= 37; }));
    for (index_type i = 0; i < queries; ++i)
      for (index_type n = 0; n < 3; ++n) EXPECT_EQ(found(0, 0, i, n), 37 + n);
  }
}

TEST(hard, a_row_that_sees_no_key_picks_none) {
  for (const index_type queries : {12, 70}) {
    const auto q = normal<float>(1, 2, queries, 8, 1), k = normal<float>(1, 2, 10, 8, 2);
    const auto v = normal<float>(1, 2, 10, 3, 3);
    const auto found =
        fovea::hard<float, 2>().with_log_p(q, k, v, fovea::sampled{.seed = 1}, fovea::causal_bottom_right);
    EXPECT_EQ(found.picks(0, 1, 0, 0), -1);
    EXPECT_EQ(found.log_p(0, 1, 0, 0), 0.f);
    EXPECT_EQ(found.lse(0, 1, 0, 0), -std::numeric_limits<float>::infinity());
    EXPECT_EQ(found.out(0, 1, 0, 2), 0.f);
    EXPECT_EQ(found.picks(0, 1, queries - 10, 0), 0);
    EXPECT_EQ(found.log_p(0, 1, queries - 10, 0), 0.f);
  }
}

TEST(hard, a_nan_reaches_the_rows_that_see_or_pick_it) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const index_type queries : {3, 60}) {
    auto q = normal<float>(1, 1, queries, 8, 1), k = normal<float>(1, 1, 60, 8, 2);
    auto v = normal<float>(1, 1, 60, 3, 3);
    const fovea::hard<float, 1> look;
    const auto before = look.with_log_p(q, k, v, fovea::argmax{});
    q(0, 0, 1, 4) = nan;
    k(0, 0, 50, 2) = nan;
    const auto found = look.with_log_p(q, k, v, fovea::argmax{},
                                       fovea::mask([](auto i, auto j) { return (j != 50) | (i == 2); }));
    for (const index_type i : {1, 2}) {
      EXPECT_EQ(found.picks(0, 0, i, 0), -1);
      EXPECT_TRUE(std::isnan(found.out(0, 0, i, 1)) && std::isnan(found.log_p(0, 0, i, 0)));
    }
    EXPECT_FALSE(std::isnan(found.out(0, 0, 0, 1)));
    const index_type taken = before.picks(0, 0, 0, 0);
    for (index_type j = 0; j < 60; ++j)
      if (j != taken) v(0, 0, j, 0) = nan;
    k(0, 0, 50, 2) = 0;
    EXPECT_FALSE(std::isnan(look(q, k, v, fovea::argmax{})(0, 0, 0, 0)));
    v(0, 0, taken, 0) = nan;
    EXPECT_TRUE(std::isnan(look(q, k, v, fovea::argmax{})(0, 0, 0, 0)));
  }
}

TEST(hard, caches_ragged_and_matrices) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Matrix q = Matrix::Random(4, 4 * 16), k = Matrix::Random(90, 2 * 16), v = Matrix::Random(90, 2 * 5);
  const fovea::hard<float, 4, 2> look;
  fovea::kv_cache<std::int8_t, 2> cache(100, 16, {.value_dim = 5});
  cache.append(k, v);
  const auto choice = fovea::sampled{.seed = 4};
  const auto cached = look.with_log_p(q, cache, choice, fovea::causal);
  const auto wanted = fovea::hard_reference(q, cache.keys(), cache.values(), {4, 2}, choice, fovea::causal);
  for (index_type h = 0; h < 4; ++h)
    for (index_type i = 0; i < 4; ++i) {
      EXPECT_EQ(cached.picks(0, h, i, 0), wanted.picks(0, h, i, 0));
      EXPECT_NEAR(cached.log_p(i, h), wanted.log_p(0, h, i, 0), 2e-5);
      EXPECT_NEAR(cached.out(i, h * 5 + 4), wanted.out(0, h, i, 4), 1e-6);
    }
  // A second and a last of three sequences, packed: each sees its own keys.
  const std::vector<int> of_queries{0, 0, 3, 4}, of_keys{0, 10, 60, 90};
  const auto packed = look.with_log_p(fovea::ragged{q, of_queries}, fovea::ragged{k, of_keys},
                                      fovea::ragged{v, of_keys}, fovea::argmax{});
  const auto alone =
      look.with_log_p(Matrix(q.row(3)), Matrix(k.bottomRows(30)), Matrix(v.bottomRows(30)), fovea::argmax{});
  EXPECT_EQ(packed.out.row(3), alone.out.row(0));
  EXPECT_EQ(packed.log_p.row(3), alone.log_p.row(0));
  EXPECT_EQ(packed.picks(2, 3, 0, 0), alone.picks(0, 3, 0, 0));
  EXPECT_EQ(packed.picks(1, 0, 2, 0) >= 0 && packed.picks(1, 0, 2, 0) < 50, true);
  EXPECT_EQ(packed.picks(0, 0, 0, 0), -1);
}

TEST(hard, the_same_bits_for_any_workers_and_in_place) {
  fovea::threads pool(3);
  for (const index_type queries : {2, 200}) {
    auto q = normal<float>(2, 4, queries, 16, 1);
    const auto k = normal<float>(2, 2, 700, 16, 2), v = normal<float>(2, 2, 700, 16, 3);
    const auto choice = fovea::sampled{.seed = 9};
    const auto one = fovea::hard<float, 4, 2>().with_log_p(q, k, v, choice);
    const fovea::hard<float, 4, 2> parallel{{.executor = pool}};
    const auto more = parallel.with_log_p(q, k, v, choice);
    const auto same = [](const auto& a, const auto& b) {
      return std::memcmp(a.data(), b.data(), sizeof(*a.data()) * static_cast<std::size_t>(a.size())) == 0;
    };
    EXPECT_TRUE(same(one.out, more.out) && same(one.picks, more.picks) && same(one.log_p, more.log_p) &&
                same(one.lse, more.lse));
    parallel.into(q, q, k, v, choice);
    EXPECT_TRUE(same(one.out, q));
  }
}

TEST(hard, errors_come_before_anything_is_written) {
  const auto q = normal<float>(1, 2, 5, 8, 1), k = normal<float>(1, 2, 7, 8, 2),
             v = normal<float>(1, 2, 7, 3, 3);
  auto o = normal<float>(1, 2, 5, 4, 4);
  const float before = o(0, 0, 0, 0);
  const fovea::hard<float, 2> look;
  expect_refused([&] { look.into(o, q, k, v, fovea::argmax{}); }, {"o", "4", "3"});
  expect_refused([&] { look(q, k, v, fovea::argmax{}, fovea::causal); },
                 {"causal_top_left", "causal_bottom_right"});
  const auto short_v = normal<float>(1, 2, 6, 3, 3);
  expect_refused([&] { look(q, k, short_v, fovea::argmax{}); }, "k has 7 tokens but v has 6");
  EXPECT_EQ(o(0, 0, 0, 0), before);
}

}  // namespace hard_test
