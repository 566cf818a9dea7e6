// O may be Q itself, in every form, with the same bits as apart; what else shares an element is refused,
// before anything is written, and views that interleave without sharing are not.
#include "../support/random.hpp"
#include "../support/refusal.hpp"

#include <fovea/kv_cache.hpp>

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace overlap_test {

using fovea::index_type;
using fovea_test::expect_refused;
using view = fovea::tensor_view<float>;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

std::vector<float> random_values(index_type count, std::uint64_t seed) {
  fovea_test::random_source random(seed);
  std::vector<float> x(static_cast<std::size_t>(count));
  for (float& value : x) value = static_cast<float>(random.uniform(-1, 1));
  return x;
}

struct sizes {
  index_type batch, queries, keys, dim;
  enum { heads_first, tokens_first, columns_first, apart } layout = heads_first;
};

view view_of(std::vector<float>& x, const sizes& s, index_type heads, index_type tokens) {
  const index_type all = heads * s.dim;
  switch (s.layout) {
    case sizes::heads_first:
      return fovea::bhsd(x.data(), s.batch, heads, tokens, s.dim);
    case sizes::tokens_first:
      return fovea::bshd(x.data(), s.batch, tokens, heads, s.dim);
    case sizes::columns_first:
      return {x.data(), s.batch, heads, tokens, s.dim, tokens * all, s.dim * tokens, 1, tokens};
    default:
      return {x.data(), s.batch, heads, tokens, s.dim, 2 * tokens * all, 2 * s.dim, 2 * all, 2};
  }
}

/// 4 query heads, 2 key/value heads.
struct same_view : testing::TestWithParam<sizes> {
  static constexpr index_type heads = 4, kv_heads = 2;
  const sizes s = GetParam();
  std::vector<float> q = values(heads * s.queries, 1), k = values(kv_heads * s.keys, 2),
                     v = values(kv_heads * s.keys, 3), o = values(heads * s.queries, 4), x = q;
  fovea::threads pool{3};

  std::vector<float> values(index_type rows, std::uint64_t seed) const {
    return random_values(2 * s.batch * rows * s.dim, seed);
  }
  view of_q(std::vector<float>& a) const { return view_of(a, s, heads, s.queries); }
  view of_k(std::vector<float>& a) const { return view_of(a, s, kv_heads, s.keys); }
  void expect_same_bits() {
    const auto apart = of_q(o), in_place = of_q(x);
    for (index_type b = 0; b < s.batch; ++b)
      for (index_type h = 0; h < heads; ++h)
        for (index_type t = 0; t < s.queries; ++t)
          for (index_type c = 0; c < s.dim; ++c) ASSERT_EQ(apart(b, h, t, c), in_place(b, h, t, c));
  }
};

TEST_P(same_view, result_and_lse) {
  const fovea::attention<float> attend{{.heads = 4, .kv_heads = 2, .executor = pool}};
  fovea::tensor<float> lse(s.batch, heads, s.queries, 1), lse_in_place = lse;
  attend.with_lse_into(of_q(o), lse, of_q(q), of_k(k), of_k(v));
  attend.with_lse_into(of_q(x), lse_in_place, of_q(x), of_k(k), of_k(v));
  expect_same_bits();
  for (index_type i = 0; i < lse.size(); ++i) ASSERT_EQ(lse.data()[i], lse_in_place.data()[i]);
}

TEST_P(same_view, with_received_and_dropout) {
  for (const double rate : {0., 0.25}) {
    x = q;
    fovea::tensor<float> sums(s.batch, kv_heads, s.keys, 1), sums_in_place = sums;
    const fovea::attention<float> attend{{.heads = 4, .kv_heads = 2, .executor = pool}};
    attend.into(of_q(o), of_q(q), of_k(k), of_k(v), fovea::dropout{rate, 5}, fovea::add_received(sums));
    // With the memory of its own plan, and none beside it.
    const auto plan = attend.into_plan_for(of_q(x), of_q(x), of_k(k), of_k(v), fovea::dropout{rate, 5},
                                           fovea::add_received(sums_in_place));
    std::vector<std::byte> memory(static_cast<std::size_t>(plan.workspace_bytes()));
    const fovea::attention<float> given{{.heads = 4, .kv_heads = 2, .executor = pool, .workspace = memory}};
    given.into(of_q(x), of_q(x), of_k(k), of_k(v), fovea::dropout{rate, 5},
               fovea::add_received(sums_in_place));
    expect_same_bits();
    double all = 0;
    for (index_type i = 0; i < sums.size(); ++i) {
      ASSERT_EQ(sums.data()[i], sums_in_place.data()[i]) << i;
      all += double(sums.data()[i]);
    }
    EXPECT_NEAR(all, double(s.batch * heads * s.queries), 1e-3 * all);
    const bool copies = plan.queries_form;
    EXPECT_EQ(plan.query_copy, copies ? s.batch * heads * s.queries * s.dim * index_type(sizeof(float)) : 0);
    EXPECT_EQ(
        attend.plan_for(of_q(q), of_k(k), of_k(v), fovea::dropout{}, fovea::add_received(sums)).query_copy,
        0);
  }
}

INSTANTIATE_TEST_SUITE_P(forms, same_view,
                         testing::Values(sizes{2, 1, 1, 32}, sizes{1, 3, 1, 32}, sizes{1, 1, 80, 16},
                                         sizes{1, 2, 4200, 16}, sizes{2, 3, 80, 24, sizes::tokens_first},
                                         sizes{2, 8, 5, 16}, sizes{1, 33, 50, 20, sizes::tokens_first},
                                         sizes{2, 40, 80, 16, sizes::columns_first}, sizes{1, 300, 200, 64},
                                         sizes{1, 50, 8, 17, sizes::apart}));

/// One key, and rows whose logit is no finite number: they go another way than those before them.
TEST(same_view, one_key_and_infinite_logits) {
  for (const index_type infinite : {0, 1, 2}) {
    auto q = random_values(3 * 32, 1);
    std::fill_n(q.begin() + infinite * 32, 32, 1e30f);
    std::vector<float> k(32, 1e30f), v = random_values(32, 2), x = q, o(q), lse(3), lse_in_place(3);
    if (infinite != 0) std::fill(q.begin(), q.begin() + 32, 1e-30f), x = q;
    const fovea::attention<float> attend{{.heads = 1}};
    const auto rows = [](std::vector<float>& a) {
      return fovea::bhsd(a.data(), 1, 1, 3, index_type(a.size()) / 3);
    };
    const auto key = [](std::vector<float>& a) { return fovea::bhsd(a.data(), 1, 1, 1, 32); };
    attend.with_lse_into(rows(o), rows(lse), rows(q), key(k), key(v));
    attend.with_lse_into(rows(x), rows(lse_in_place), rows(x), key(k), key(v));
    for (std::size_t i = 0; i < o.size(); ++i) {
      ASSERT_EQ(std::isnan(o[i]), std::isnan(x[i])) << i;
      if (!std::isnan(o[i])) {
        ASSERT_EQ(o[i], x[i]) << i;
      }
    }
    for (std::size_t i = 0; i < 3; ++i) {
      ASSERT_EQ(std::isnan(lse[i]), std::isnan(lse_in_place[i])) << i;
      if (!std::isnan(lse[i])) {
        EXPECT_EQ(lse[i], lse_in_place[i]) << i;
      }
    }
  }
}

/// Four tokens of a head of 8; what is written is 42 at first, and must be it still.
struct sharing : testing::Test {
  static constexpr float untouched = 42;
  Matrix q = Matrix::Constant(4, 8, untouched), k = q, v = q, o = q, lse = Matrix::Constant(4, 1, untouched);
  fovea::attention<float> attend{{.heads = 1}};

  void refused(const auto& call, const std::string& what) const {
    expect_refused(call, {what.c_str(), "share memory"});
    for (const Matrix* m : {&q, &k, &v, &o, &lse})
      EXPECT_TRUE((m->array() == untouched).all()) << "written before it was refused: " << what;
  }
};

TEST_F(sharing, a_result_and_what_is_read) {
  refused([&] { attend.into(k, q, k, v); }, "o and k");
  refused([&] { attend.into(v, q, k, v); }, "o and v");
  refused([&] { attend.into(q, q, q, v); }, "o and k");
  refused([&] { attend.into(q, q, q, q); }, "o and k");
  refused([&] { attend.into(q.topRows(3), q.bottomRows(3), k, v); }, "o and q");
  refused([&] { attend.into(Eigen::Map<Eigen::MatrixXf>(q.data(), 4, 8), q, k, v); }, "o and q");
  refused([&] { attend.with_lse_into(o, o.leftCols(1), q, k, v); }, "lse and o");
  refused([&] { attend.with_lse_into(o, q.col(3), q, k, v); }, "lse and q");
  refused([&] { attend.with_lse_into(o, v.col(0), q, k, v); }, "lse and v");
  auto of_q = q.col(0), of_o = o.col(0);
  const fovea::dropout none{};
  refused([&] { attend.into(o, q, k, v, none, fovea::add_received(of_q)); }, "received and q");
  refused([&] { attend.into(o, q, k, v, none, fovea::add_received(of_o)); }, "received and o");
  refused([&] { attend.with_lse_into(o, lse, q, k, v, none, fovea::add_received(lse)); }, "received and lse");
}

/// One kind of call, so that it is compiled once: a bias, a mask, slopes and logits of sinks.
TEST_F(sharing, a_result_and_what_modifies) {
  Matrix table = Matrix::Zero(4, 4);
  Eigen::Matrix<int, 4, 4, Eigen::RowMajor> shown;
  shown.setOnes();
  float slope = 0, logit = 0;
  const auto call = [&](float* table_at, int* shown_at, float* slope_at, float* logit_at) {
    return [=, this] {
      const Eigen::Map<const Matrix> values(table_at, 4, 4);
      const Eigen::Map<const Eigen::Matrix<int, 4, 4, Eigen::RowMajor>> cells(shown_at);
      Matrix& to = const_cast<Matrix&>(o);
      attend.with_lse_into(to, const_cast<Matrix&>(lse), q, k, v, fovea::bias(values),
                           fovea::causal & fovea::boolean_mask(cells), fovea::alibi{std::span(slope_at, 1)},
                           fovea::sink{std::span(logit_at, 1)});
    };
  };
  refused(call(o.data() + 3, shown.data(), &slope, &logit), "o and bias");
  refused(call(table.data(), reinterpret_cast<int*>(o.data() + 16), &slope, &logit), "o and boolean_mask");
  refused(call(table.data(), shown.data(), o.data() + 31, &logit), "o and alibi's slopes");
  refused(call(table.data(), shown.data(), &slope, lse.data()), "lse and sink's logits");
  EXPECT_NO_THROW(call(table.data(), shown.data(), &slope, &logit)());
}

TEST_F(sharing, memory_of_a_workspace) {
  std::vector<float> memory(1 << 16, untouched);
  const fovea::attention<float> given{{.heads = 1, .workspace = std::as_writable_bytes(std::span(memory))}};
  refused([&] { given.into(o, q, Eigen::Map<Matrix>(memory.data() + 100, 4, 8), v); }, "workspace and k");
  refused([&] { given.into(Eigen::Map<Matrix>(memory.data() + 100, 4, 8), q, k, v); }, "workspace and o");
  EXPECT_EQ(std::count(memory.begin(), memory.end(), untouched), 1 << 16);
}

TEST_F(sharing, a_cache_over_memory_of_the_users) {
  fovea::kv_cache<float, 1> cache(4, 8);
  cache.append(k, v);
  std::ostringstream file;
  cache.save(file);
  alignas(64) std::array<std::byte, 4096> bytes{};
  std::memcpy(bytes.data(), file.str().data(), file.str().size());
  const auto over = fovea::kv_cache<float, 1>::over(std::span(bytes).first(file.str().size()));
  refused(
      [&] { attend.into(Eigen::Map<Matrix>(reinterpret_cast<float*>(bytes.data() + 128), 4, 8), q, over); },
      "o and k");
}

TEST_F(sharing, gradients) {
  const auto [out, sums] = attend.with_lse(q, k, v);
  Matrix d_q = o, d_k = o, d_v = o, d_out = o, twice = Matrix::Constant(8, 8, untouched);
  const auto backward = [&](auto&& a, auto&& b, auto&& c, const auto&... mods) {
    return [&, a_ = &a, b_ = &b, c_ = &c, mods...] {
      attend.backward_into(*a_, *b_, *c_, q, k, v, out, sums, d_out, mods...);
    };
  };
  refused(backward(d_q, d_q, d_v), "d_q and d_k");
  refused(backward(d_q, d_k, d_k), "d_k and d_v");
  refused(backward(q, d_k, d_v), "d_q and q");
  refused(backward(d_q, k, d_v), "d_k and k");
  refused(backward(d_q, d_k, d_out), "d_v and d_out");
  auto top = twice.topRows(4), middle = twice.middleRows(3, 4);
  refused(backward(top, middle, d_v), "d_q and d_k");
  Matrix table = Matrix::Zero(4, 4), d_table = table;
  float slope = 1, d_slope = 0, d_logit = 0;
  const auto learnt = [&](Matrix& to, float& to_slope, float& to_logit) {
    auto block = to.topLeftCorner(4, 4);
    return backward(d_q, d_k, d_v, fovea::bias(table, block),
                    fovea::alibi{std::span(&slope, 1), 0, std::span(&to_slope, 1)},
                    fovea::sink{std::span(&slope, 1), std::span(&to_logit, 1)});
  };
  refused(learnt(table, d_slope, d_logit), "the gradient of bias and bias");
  refused(learnt(d_v, d_slope, d_logit), "d_v and the gradient of bias");
  refused(learnt(d_table, slope, d_logit), "alibi's d_slopes and alibi's slopes");
  refused(learnt(d_table, d_slope, d_slope), "alibi's d_slopes and sink's d_logits");
  EXPECT_TRUE(d_q == o && d_k == o && d_v == o && d_out == o);
  EXPECT_TRUE((twice.array() == untouched).all() && table.isZero(0) && d_table.isZero(0) && d_slope == 0);
}

TEST_F(sharing, a_view_that_meets_itself) {
  std::vector<float> few(64, untouched), table(7, untouched);
  const view folded{few.data(), 1, 1, 4, 8, 0, 0, 4, 1};
  const char* const words =
      "1 x 1 x 4 x 8 elements with strides of 0, 0, 4 and 1, so that some lie at the same place";
  const auto q4 = fovea::bhsd(q.data(), 1, 1, 4, 8);
  expect_refused([&] { attend.into(folded, q4, q4, q4); }, {"o has", words});
  const view column{few.data(), 1, 1, 4, 1, 0, 0, 0, 1};
  expect_refused([&] { attend.with_lse_into(fovea::bhsd(o.data(), 1, 1, 4, 8), column, q4, q4, q4); },
                 {"lse has 4 tokens with a stride of 0"});
  const auto [out, sums] = attend.with_lse(q, k, v);
  Matrix d_q = o, d_k = o, d_v = o;
  const Eigen::Matrix4f values = Eigen::Matrix4f::Zero();
  const view by_distance{table.data() + 3, 1, 1, 4, 4, 0, 0, -1, 1};  // a number a distance
  const float one = 1;
  float d_slope = 0, d_logit = 0;
  expect_refused(
      [&] {
        attend.backward_into(d_q, d_k, d_v, q, k, v, out, sums, o, fovea::bias(values, by_distance),
                             fovea::alibi{std::span(&one, 1), 0, std::span(&d_slope, 1)},
                             fovea::sink{std::span(&one, 1), std::span(&d_logit, 1)});
      },
      {"the gradient of bias has 1 x 1 x 4 x 4", "strides of 0, 0, -1 and 1"});
  expect_refused([&] { attend.into(o, q, k, v, fovea::dropout{}, fovea::add_received(column)); },
                 {"received has 4 tokens"});
  EXPECT_EQ(std::count(few.begin(), few.end(), untouched), 64);
  EXPECT_EQ(std::count(table.begin(), table.end(), untouched), 7);
}

/// What lies in one buffer and shares nothing: [token][head][q k v o][dim], and blocks of one matrix.
TEST(interleaved, is_no_sharing) {
  constexpr index_type tokens = 20, heads = 3, dim = 8;
  auto x = random_values(tokens * heads * 4 * dim, 1);
  const auto part = [&](index_type i) {
    return view{x.data() + i * dim, 1, heads, tokens, dim, 0, 4 * dim, heads * 4 * dim, 1};
  };
  const fovea::attention<float> attend{{.heads = 3}};
  const auto wanted = attend(part(0), part(1), part(2));
  attend.into(part(3), part(0), part(1), part(2));
  for (index_type h = 0; h < heads; ++h)
    for (index_type t = 0; t < tokens; ++t)
      for (index_type c = 0; c < dim; ++c) ASSERT_EQ(part(3)(0, h, t, c), wanted(0, h, t, c));

  Matrix m = Matrix::Random(tokens, 4 * heads * dim);
  const auto columns = [&](index_type i) { return m.middleCols(i * heads * dim, heads * dim); };
  const Matrix expected = attend(columns(0), columns(1), columns(2));
  attend.into(columns(3), columns(0), columns(1), columns(2));
  EXPECT_EQ(Matrix(columns(3)), expected);
  attend.into(columns(0), columns(0), columns(1), columns(2));
  EXPECT_EQ(Matrix(columns(0)), expected);
}

}  // namespace overlap_test
