// add_received: what each key receives is the column sum of the probabilities, in double.
#include "../../support/allocations.hpp"
#include "../../support/random.hpp"
#include "../../support/refusal.hpp"

#include <fovea/attention.hpp>
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace received_test {

using fovea::index_type;
using fovea::tensor;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr index_type heads = 4, kv_heads = 2, dim = 20;
using attention = fovea::attention<float, heads, kv_heads>;

template <class T>
struct inputs {
  tensor<T> q, k, v, o, sums;
  inputs(index_type batch, index_type queries, index_type keys, std::uint64_t seed = 7)
      : q(batch, heads, queries, dim),
        k(batch, kv_heads, keys, dim),
        v(batch, kv_heads, keys, 3),
        o(batch, heads, queries, 3),
        sums(batch, kv_heads, keys, 1) {
    fovea_test::random_source random(seed);
    for (tensor<T>* x : {&q, &k, &v})
      for (index_type i = 0; i < x->size(); ++i) x->data()[i] = T(random.uniform(-2, 2));
  }
};

/// A value matrix that shows column sums of P: value c of key j is 1 where j % columns == c. Small inputs
/// have a column a key.
tensor<double> marks(index_type batch, index_type keys) {
  const index_type columns = std::min<index_type>(keys, keys > 1000 ? 61 : 331);
  tensor<double> v(batch, kv_heads, keys, columns);
  for (index_type b = 0; b < batch; ++b)
    for (index_type g = 0; g < kv_heads; ++g)
      for (index_type j = 0; j < keys; ++j) v(b, g, j, j % columns) = 1;
  return v;
}

template <class T, class S, class... Mods>
void expect_column_sums(const tensor<S>& sums, const inputs<T>& in, double tolerance, const Mods&... mods) {
  const index_type batch = in.q.batch(), keys = in.k.tokens();
  const auto v = marks(batch, keys);
  const auto p = fovea::reference(in.q, in.k, v, {.heads = heads, .kv_heads = kv_heads}, mods...);
  for (index_type b = 0; b < batch; ++b)
    for (index_type g = 0; g < kv_heads; ++g)
      for (index_type c = 0; c < v.dim(); ++c) {
        double got = 0, want = 0;
        for (index_type j = c; j < keys; j += v.dim()) got += double(sums(b, g, j, 0));
        for (index_type h = 2 * g; h < 2 * g + 2; ++h)
          for (index_type i = 0; i < in.q.tokens(); ++i) want += p.out(b, h, i, c);
        ASSERT_NEAR(got, want, tolerance * (want + 1e-3))
            << "sequence " << b << " head " << g << " key " << c << " of " << in.q.tokens() << " x " << keys;
      }
}

const auto window_of = [](index_type offset, index_type left, index_type right) {
  return fovea::causal_offset{offset} & fovea::sliding_window{.left = left, .right = right, .offset = offset};
};

template <class... Mods>
void add(inputs<float>& in, const attention& attend, const Mods&... mods) {
  attend.into(in.o, in.q, in.k, in.v, mods..., fovea::add_received(in.sums));
}

bool same_bits(const tensor<float>& a, const tensor<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), std::size_t(a.size()) * sizeof(float)) == 0;
}

/// Few rows, whose logits are kept; many, which are swept again; one more than a register; spans of keys.
const std::vector<std::pair<index_type, index_type>> shapes{{1, 1},    {1, 37},    {3, 130}, {7, 64},
                                                            {8, 200},  {9, 129},   {17, 33}, {50, 50},
                                                            {33, 310}, {120, 300}, {200, 9}, {2, 5000}};

TEST(received, is_the_column_sum_of_any_shape_and_window) {
  fovea_test::random_source random(3);
  for (const auto& [queries, keys] : shapes) {
    inputs<float> in(2, queries, keys);
    const auto window =
        window_of(random.integer(-queries / 2, keys), random.pick<index_type>({0, 5, 40, 9999}),
                  random.pick<index_type>({0, 3, 9999}));
    for (const auto& seen : {window_of(keys, 9999, 9999), window}) {
      std::fill_n(in.sums.data(), in.sums.size(), 0.f);
      const tensor<float> plain = attention()(in.q, in.k, in.v, seen);
      add(in, attention(), seen);
      expect_column_sums(in.sums, in, 1e-5, seen);
      EXPECT_TRUE(same_bits(in.o, plain));
    }
  }
}

TEST(received, is_the_column_sum_of_any_score) {
  const std::vector<float> sinks{0.f, 5.f, -3.f, 300.f};
  for (const auto& [queries, keys] : shapes) {
    if (keys > 1000) continue;
    const inputs<float> in(1, queries, keys);
    Eigen::MatrixXf added(queries, keys);
    Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> shown(queries, keys);
    for (index_type i = 0; i < queries; ++i)
      for (index_type j = 0; j < keys; ++j) {
        added(i, j) = (i * j) % 7 == 3 || i == 11 ? -std::numeric_limits<float>::infinity()
                                                  : float(i % 5) - float(j % 3);
        shown(i, j) = (i + j) % 4 != 0;
      }
    const auto check = [&](const auto&... mods) {
      expect_column_sums(attention().received(in.q, in.k, mods...), in, 1e-5, mods...);
    };
    check(fovea::bias(added), fovea::boolean_mask(shown), fovea::sink{sinks}, fovea::softcap{9.f});
  }
}

TEST(received, in_double_and_of_16_bits) {
  const auto fade = fovea::score([](auto s, auto q, auto k) { return s - 0.01f * (q - k) * (q - k); });
  const std::vector<float> slopes{0.5f, 0.25f, 0.125f, 0.f};
  for (const auto& [queries, keys] : {std::pair<index_type, index_type>{3, 130}, {40, 70}}) {
    const inputs<double> wide(2, queries, keys);
    const fovea::attention<double, heads, kv_heads> exact;
    const auto window = window_of(keys - queries, 20, 0);
    expect_column_sums(exact.received(wide.q, wide.k, window), wide, 1e-12, window);

    inputs<fovea::bf16> narrow(2, queries, keys);
    tensor<float> lse(2, heads, queries, 1);
    tensor<double> sums(2, kv_heads, keys, 1);
    fovea::attention<fovea::bf16, heads, kv_heads>().with_lse_into(
        narrow.o, lse, narrow.q, narrow.k, narrow.v, fovea::add_received(sums), fade, fovea::alibi{slopes});
    expect_column_sums(sums, narrow, 1e-5, fade, fovea::alibi{slopes});
  }
}

const auto everything = window_of(9999, 9999, 9999);

TEST(received, is_added_and_leaves_the_rest_alone) {
  inputs<float> in(2, 3, 130);
  for (const index_type queries : {index_type(3), index_type(60)}) {
    inputs<float> some(2, queries, 130, 9);
    add(some, attention(), everything);
    // Rows 7, 9, 11 ... of a larger tensor's odd columns; 5 tokens more than keys.
    std::vector<float> room(2 * 2 * 140 * 3, 0.5f);
    const fovea::tensor_view<float> view{room.data() + 7, 2, kv_heads, 135, 1, 2 * 140 * 3, 140 * 3, 3, 1};
    attention().into(some.o, some.q, some.k, some.v, everything, fovea::add_received(view));
    index_type changed = 0;
    for (const float x : room) changed += x != 0.5f;
    EXPECT_EQ(changed, 2 * kv_heads * 130);
    for (index_type b = 0; b < 2; ++b)
      for (index_type g = 0; g < kv_heads; ++g)
        for (index_type j = 0; j < 130; ++j) EXPECT_EQ(view(b, g, j, 0), 0.5f + some.sums(b, g, j, 0));
  }
}

TEST(received, of_packed_sequences_of_matrices) {
  const index_type lengths[] = {5, 0, 40}, keys[] = {70, 9, 40};
  const std::vector<index_type> q_starts{0, 5, 5, 45}, k_starts{0, 70, 79, 119};
  const Eigen::MatrixXf q = Eigen::MatrixXf::Random(45, heads * dim),
                        k = Eigen::MatrixXf::Random(119, kv_heads * dim);
  Eigen::MatrixXf o(45, heads * dim), sums = Eigen::MatrixXf::Zero(119, kv_heads);
  const fovea::ragged sums_of{sums, k_starts}, os{o, q_starts};
  const fovea::ragged qs{q, q_starts}, ks{k, k_starts};
  attention().into(os, qs, ks, ks, everything, fovea::add_received(sums_of));
  for (std::size_t b = 0; b < 3; ++b) {
    Eigen::MatrixXf one = Eigen::MatrixXf::Zero(keys[b], kv_heads);
    const Eigen::MatrixXf some_q = q.middleRows(q_starts[b], lengths[b]),
                          some_k = k.middleRows(k_starts[b], keys[b]);
    Eigen::MatrixXf some_o(lengths[b], heads * dim);
    attention().into(some_o, some_q, some_k, some_k, everything, fovea::add_received(one));
    EXPECT_EQ(sums.middleRows(k_starts[b], keys[b]), one);
    EXPECT_NEAR(one.sum(), double(lengths[b] * heads), 1e-4);
  }
}

TEST(received, is_the_same_bits_for_any_number_of_threads_in_given_memory) {
  for (const auto& [queries, keys] :
       {std::pair<index_type, index_type>{2, 5000}, {8, 300}, {33, 3000}, {400, 600}}) {
    inputs<float> in(2, queries, keys), again = in;
    add(in, attention(), everything);
    fovea::threads pool(2);
    const attention planned{{.executor = pool}};
    const auto plan = planned.plan_for(in.q, in.k, in.v, everything, fovea::add_received(in.sums));
    std::vector<std::byte> memory(static_cast<std::size_t>(plan.workspace_bytes()) + 64, std::byte{0x5a});
    const attention given{{.executor = pool, .workspace = std::span(memory).first(memory.size() - 64)}};
    add(again, given, everything);
    EXPECT_TRUE(same_bits(in.sums, again.sums));
    for (std::size_t i = memory.size() - 64; i < memory.size(); ++i) ASSERT_EQ(memory[i], std::byte{0x5a});

    const attention alone{{.workspace = memory}};
    const auto before = fovea_test::allocations().calls;
    add(again, alone, everything);
    EXPECT_EQ(fovea_test::allocations().calls, before);
  }
}

TEST(received, nans_stay_in_what_they_touch) {
  const index_type keys = 150;
  for (const index_type queries : {5, 60}) {
    const auto seen = window_of(keys - queries, 20, 0);  // query i sees keys i + offset - 20 and on
    inputs<float> clean(1, queries, keys), in = clean;
    add(clean, attention(), seen);
    const index_type unseen = keys - queries - 25;
    for (index_type c = 0; c < dim; ++c) in.k(0, 1, unseen, c) = float(nan);
    in.q(0, 2, queries - 1, 3) = float(nan);  // sees the last 21 keys of key/value head 1
    add(in, attention(), seen);
    for (index_type g = 0; g < kv_heads; ++g)
      for (index_type j = 0; j < keys; ++j)
        if (g == 1 && j >= keys - 21)
          EXPECT_TRUE(std::isnan(in.sums(0, g, j, 0))) << j;
        else
          EXPECT_EQ(in.sums(0, g, j, 0), clean.sums(0, g, j, 0)) << j;
    EXPECT_EQ(in.sums(0, 0, unseen, 0), 0);
  }
}

TEST(received, of_nothing) {
  inputs<float> no_queries(2, 0, 5), no_keys(1, 3, 0), none(0, 2, 2);
  for (auto* in : {&no_queries, &no_keys, &none}) {
    add(*in, attention(), everything);
    for (index_type i = 0; i < in->sums.size(); ++i) EXPECT_EQ(in->sums.data()[i], 0);
  }
}

TEST(received, mistakes_are_named) {
  inputs<float> in(2, 3, 10);
  const auto refused = [&](auto&& sums, std::initializer_list<const char*> why) {
    const tensor<float> before = in.o;
    fovea_test::expect_refused(
        [&] { attention().into(in.o, in.q, in.k, in.v, everything, fovea::add_received(sums)); }, why);
    EXPECT_TRUE(same_bits(in.o, before));
  };
  refused(tensor<float>(2, kv_heads, 9, 1), {"received has 9 tokens", "the 10 of k"});
  refused(tensor<float>(1, kv_heads, 10, 1), {"received has 1 sequences", "k has 2"});
  refused(tensor<float>(2, heads, 10, 1), {"received has 4 heads, not 2"});
  refused(tensor<float>(2, kv_heads, 10, 2), {"received has 2 columns a head, not 1"});
  float one = 0;
  refused(fovea::tensor_view<float>{&one, 2, kv_heads, 10, 1, 0, 0, 0, 0}, {"received", "stride of 0"});
  std::vector<std::byte> small(64);
  fovea_test::expect_refused(
      [&] {
        attention({.workspace = small})
            .into(in.o, in.q, in.k, in.v, everything, fovea::add_received(in.sums));
      },
      {"workspace has 64 bytes"});
}

}  // namespace received_test
