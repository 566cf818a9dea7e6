// weights_into: the softmax weights of chosen heads, against the probabilities in double; O keeps its bits.
#include "../../support/max_abs.hpp"
#include "../../support/random.hpp"
#include "../../support/refusal.hpp"

#include <fovea/attention.hpp>
#include <fovea/executor/threads.hpp>
#include <fovea/kv_cache.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace kept_weights_test {

using fovea::index_type;
using fovea::tensor;

constexpr index_type heads = 4, kv_heads = 2, dim = 20;
constexpr float canary = 77.f;
const float nan = std::numeric_limits<float>::quiet_NaN();
using attention = fovea::attention<float, heads, kv_heads>;

void randomize(tensor<float>& x, std::uint64_t seed) {
  fovea_test::random_source random(seed);
  for (index_type i = 0; i < x.size(); ++i) x.data()[i] = float(random.uniform(-2, 2));
}
template <class T>
bool same_bits(const tensor<T>& a, const tensor<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), std::size_t(a.size()) * sizeof(T)) == 0;
}

struct inputs {
  tensor<float> q, k, v, o;
  inputs(index_type batch, index_type queries, index_type keys)
      : q(batch, heads, queries, dim),
        k(batch, kv_heads, keys, dim),
        v(batch, kv_heads, keys, 3),
        o(batch, heads, queries, 3) {
    randomize(q, 1), randomize(k, 2), randomize(v, 3);
  }
};

/// The weights of heads 3 and 0, with what else the call is given, against the reference's, which sums them with
/// an identity for values; |error| <= 3 u P (4 + A).
template <class... Mods>
void expect_weights(inputs& in, bool columns_first, const Mods&... mods) {
  const index_type batch = in.q.batch(), queries = in.q.tokens(), keys = in.k.tokens();
  const tensor<float> plain = attention()(in.q, in.k, in.v, mods...);
  // With a row, a column and a number between any two that is nobody's.
  const index_type rows = queries + 1, columns = keys + 1;
  std::vector<float> room(std::size_t(batch * 2 * rows * columns), canary);
  fovea::tensor_view<float> w{room.data(),        batch,          2,       queries, keys,
                              2 * rows * columns, rows * columns, columns, 1};
  if (columns_first) w.token_stride = 1, w.dim_stride = rows;
  attention().into(in.o, in.q, in.k, in.v, mods..., fovea::weights_into(w, 3, 0));
  EXPECT_TRUE(same_bits(in.o, plain));

  tensor<float> identity(batch, kv_heads, keys, keys);
  for (index_type b = 0; b < batch; ++b)
    for (index_type g = 0; g < kv_heads; ++g)
      for (index_type j = 0; j < keys; ++j) identity(b, g, j, j) = 1;
  const auto want = fovea::reference(in.q, in.k, identity, {.heads = heads, .kv_heads = kv_heads}, mods...);
  for (index_type b = 0; b < batch; ++b)
    for (index_type n = 0; n < 2; ++n)
      for (index_type i = 0; i < queries; ++i)
        for (index_type j = 0; j < keys; ++j) {
          const index_type head = n == 0 ? 3 : 0;
          const double p = want.out(b, head, i, j),
                       bound = 3 * 0x1p-24 * p * (4 + want.logits(b, head, i, 0));
          ASSERT_NEAR(w(b, n, i, j), p, bound + 0x1p-126)
              << b << " " << head << " " << i << " " << j << " of " << queries << " x " << keys;
          ASSERT_TRUE(p != 0 || w(b, n, i, j) == 0);
        }
  EXPECT_EQ(std::count(room.begin(), room.end(), canary),
            std::ptrdiff_t(room.size()) - batch * 2 * queries * keys);
}

/// Few rows, many, all keys in one block or several, registers and blocks that are not full.
const std::vector<std::pair<index_type, index_type>> shapes{{1, 1}, {3, 130}, {9, 129}, {17, 33}, {50, 140}};

TEST(kept_weights, are_the_probabilities_of_any_shape_and_mask) {
  for (const auto& [queries, keys] : shapes) {
    inputs in(2, queries, keys);
    expect_weights(in, false, fovea::sliding_window{.left = 400, .right = 400, .offset = 0});
    expect_weights(in, true, fovea::causal_offset{keys - queries},
                   fovea::sliding_window{.left = 7, .offset = keys - queries});
  }
}

TEST(kept_weights, come_after_scores_and_sink) {
  const std::vector<float> sinks{0.f, 5.f, -3.f, 2.f};
  for (const auto& [queries, keys] : shapes) {
    inputs in(1, queries, keys);
    Eigen::MatrixXf added(queries, keys);
    for (index_type i = 0; i < queries; ++i)
      for (index_type j = 0; j < keys; ++j)
        added(i, j) = (i * j) % 7 == 3 || i == 11 ? -std::numeric_limits<float>::infinity() : float(i % 5);
    expect_weights(in, queries > 10, fovea::bias(added), fovea::sink{sinks}, fovea::softcap{9.f});
  }
}

TEST(kept_weights, come_before_dropout_and_beside_received) {
  for (const index_type queries : {2, 60}) {
    inputs in(1, queries, 140);
    tensor<float> w(1, 2, queries, 140), alone = w, sums(1, kv_heads, 140, 1), lse(1, heads, queries, 1);
    const std::vector<int> chosen{1, 2};
    attention().into(in.o, in.q, in.k, in.v, fovea::weights_into(alone, chosen));
    const auto dropped = attention().with_lse(in.q, in.k, in.v, fovea::dropout{0.5f, 3});
    attention().with_lse_into(in.o, lse, in.q, in.k, in.v, fovea::weights_into(w, chosen),
                              fovea::dropout{0.5f, 3}, fovea::add_received(sums));
    EXPECT_TRUE(same_bits(w, alone) && same_bits(in.o, dropped.out) && same_bits(lse, dropped.lse));
    EXPECT_TRUE(same_bits(sums, attention().received(in.q, in.k)));
  }
}

TEST(kept_weights, of_caches_are_the_same_bits_for_any_workers) {
  const index_type prompt = 4200;  // more than one split of keys
  fovea::threads pool(3);
  const attention serial, parallel{{.executor = pool}};
  Eigen::MatrixXf k = Eigen::MatrixXf::Random(prompt + 1, kv_heads * dim);
  fovea::kv_cache<float, kv_heads> cache(prompt + 1, dim);
  cache.append(k.topRows(prompt), k.topRows(prompt));
  for (const index_type queries : {40, 1}) {  // the end of a prompt, then a token
    if (queries == 1) cache.append(k.bottomRows(1), k.bottomRows(1));
    const index_type keys = cache.tokens();
    const Eigen::MatrixXf q = Eigen::MatrixXf::Random(queries, heads * dim);
    using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Rows w = Rows::Constant(queries, 2 * keys, nan), again = w;
    const auto seen = fovea::sliding_window{.left = 3000};
    const Eigen::MatrixXf o = serial(q, cache, fovea::causal, seen, fovea::weights_into(w, 2, 1));
    EXPECT_EQ(o, parallel(q, cache, fovea::causal, seen, fovea::weights_into(again, 2, 1)));
    EXPECT_EQ(w, again);
    const Rows apart = serial.weights_of(2, q, cache, fovea::causal, seen);
    EXPECT_LT(fovea_test::max_abs(w.leftCols(keys) - apart), 1e-6f);
    EXPECT_TRUE(((w.leftCols(keys).array() == 0) == (apart.array() == 0)).all());
  }
}

TEST(kept_weights, of_packed_sequences_have_zeros_beyond_their_keys) {
  const std::vector<index_type> q_starts{1, 6, 6, 46}, k_starts{0, 70, 79, 119};  // row 0 belongs to none
  const Eigen::MatrixXf q = Eigen::MatrixXf::Random(46, heads * dim),
                        k = Eigen::MatrixXf::Random(119, kv_heads * dim);
  Eigen::MatrixXf w = Eigen::MatrixXf::Constant(46, 70, nan);
  const fovea::ragged qs{q, q_starts}, ks{k, k_starts};
  const fovea::ragged ws{w, q_starts};
  attention()(qs, ks, ks, fovea::weights_into(ws, 1));
  const Eigen::MatrixXf apart = attention().weights_of(1, qs, ks);
  EXPECT_LT(fovea_test::max_abs(w - apart), 1e-6f);
  EXPECT_TRUE((w.bottomRightCorner(40, 30).array() == 0).all() && (w.row(0).array() == 0).all());
}

TEST(kept_weights, nans_stay_in_what_they_touch) {
  for (const index_type queries : {5, 60}) {
    inputs in(1, queries, 150);
    tensor<float> clean(1, 1, queries, 150), w = clean;
    const auto seen = fovea::causal_offset{150 - queries};
    attention().into(in.o, in.q, in.k, in.v, seen, fovea::weights_into(clean, 3));
    in.q(0, 3, 0, 1) = nan;
    in.k(0, 1, 149, 1) = nan;  // the last query sees it
    attention().into(in.o, in.q, in.k, in.v, seen, fovea::weights_into(w, 3));
    for (index_type i = 0; i < queries; ++i)
      for (index_type j = 0; j < 150; ++j)
        if (j > i + 150 - queries)
          EXPECT_EQ(w(0, 0, i, j), 0.f);
        else if (i == 0 || i == queries - 1)
          EXPECT_TRUE(std::isnan(w(0, 0, i, j)));
        else
          EXPECT_EQ(w(0, 0, i, j), clean(0, 0, i, j));
  }
}

TEST(kept_weights, mistakes_are_named) {
  inputs in(2, 3, 10);
  const auto refused = [&](const auto& weights, const std::string& why) {
    const tensor<float> before = in.o;
    fovea_test::expect_refused([&] { attention().into(in.o, in.q, in.k, in.v, weights); }, why);
    EXPECT_TRUE(same_bits(in.o, before));
  };
  tensor<float> one(2, 1, 3, 10), two(2, 2, 3, 10), narrow(2, 1, 3, 9), few(2, 1, 2, 10), alone(1, 1, 3, 10);
  refused(fovea::weights_into(one, 4), "weights_into names head 4, which is not one of 4");
  refused(fovea::weights_into(one, -1), "weights_into names head -1, which is not one of 4");
  refused(fovea::weights_into(two, 1, 1), "weights_into names head 1 twice");
  refused(fovea::weights_into(one, std::span<const int>()), "weights_into names no head");
  refused(fovea::weights_into(two, 1), "weights has 2 heads, not 1");
  refused(fovea::weights_into(narrow, 1), "weights has 9 columns a head, not 10");
  refused(fovea::weights_into(few, 1), "weights has 2 tokens but q has 3");
  refused(fovea::weights_into(alone, 1), "weights has 1 sequences but q has 2");
  using view = fovea::tensor_view<float>;
  const view folded{one.data(), 2, 1, 3, 10, 30, 30, 0, 1}, of_o{in.o.data(), 2, 1, 3, 10, 30, 30, 10, 1};
  refused(fovea::weights_into(folded, 1), "weights has 3 tokens with a stride of 0: it can not be written");
  fovea_test::expect_refused([&] { attention().into(in.o, in.q, in.k, in.v, fovea::weights_into(of_o, 1)); },
                             {"weights and o share memory"});
  const attention small{{.workspace = std::as_writable_bytes(std::span(one.data(), 60))}};
  fovea_test::expect_refused([&] { small.into(in.o, in.q, in.k, in.v, fovea::weights_into(two, 1, 2)); },
                             {"workspace has 240 bytes"});
}

}  // namespace kept_weights_test
