// tests/distributed/ring_test.cpp - a ring gives what one process gives.
#include "support.hpp"

#include <fovea/reference.hpp>

namespace fovea_test {
namespace {

using fovea::causal;
using fovea::tensor;

struct shape {
  index_type batch, heads, kv_heads, queries, keys, dim, value_dim;
};

/// One call on whole sequences, and on slices: both against the reference in double.
template <class T, class Wire = void, class... Mods>
void expect_same(const shape& s, token_layout layout, bool uneven, const Mods&... mods) {
  const auto q = random_tensor<T>(1, s.batch, s.heads, s.queries, s.dim);
  const auto k = random_tensor<T>(2, s.batch, s.kv_heads, s.keys, s.dim);
  const auto v = random_tensor<T>(3, s.batch, s.kv_heads, s.keys, s.value_dim);
  const auto rows = ranges_of(layout, uneven, s.queries), columns = ranges_of(layout, uneven, s.keys);
  const fovea::ring_attention<T, fovea::dynamic_heads, fovea::dynamic_heads, Wire> ring(
      MPI_COMM_WORLD, {.heads = s.heads, .kv_heads = s.kv_heads, .layout = layout});
  const auto own = ring.with_lse(rows_of(q, rows), rows_of(k, columns), rows_of(v, columns), mods...);
  const auto reference = fovea::reference(q, k, v, {.heads = s.heads, .kv_heads = s.kv_heads}, mods...);
  const double error = sizeof(T) == 8 ? 1e-13 : sizeof(T) == 4 && std::is_void_v<Wire> ? 3e-6 : 1e-2;
  expect_rows("o", own.out, reference.out, rows, error);
  expect_rows("lse", own.lse, reference.lse, rows, error);
}

constexpr shape one_head_shape{1, 1, 1, 100, 100, 16, 16};
constexpr shape grouped{2, 4, 2, 96, 96, 24, 8};
constexpr shape cross{1, 2, 1, 70, 131, 16, 16};

TEST(ring, is_attention) {
  for (const token_layout layout : {token_layout::contiguous, token_layout::balanced})
    for (const shape& s : {one_head_shape, grouped, cross}) expect_same<float>(s, layout, false);
  expect_same<float>(grouped, token_layout::contiguous, true);
}

TEST(ring, causal) {
  expect_same<float>(grouped, token_layout::contiguous, false, causal);
  expect_same<float>(grouped, token_layout::contiguous, true, causal);
  expect_same<float>(grouped, token_layout::balanced, false, causal);
  expect_same<float>(one_head_shape, token_layout::balanced, false, causal);
}

TEST(ring, double_and_halves) {
  expect_same<double>(grouped, token_layout::balanced, false, causal);
  expect_same<fovea::bf16>(grouped, token_layout::balanced, false, causal);
  expect_same<fovea::fp16>(cross, token_layout::contiguous, false);
  expect_same<float, fovea::bf16>(grouped, token_layout::balanced, false, causal);
  expect_same<float, fovea::fp16>(grouped, token_layout::balanced, false, causal);
}

/// What knows positions, matrices, heads or random cells of the whole sequence.
TEST(ring, masks_scores_sink_and_dropout) {
  const auto& s = grouped;
  const std::vector<float> slopes{0.1f, 0.2f, 0.05f, 0.4f}, logits{0.3f, -1.f, 0.f, 2.f};
  const auto bias = random_tensor<float>(7, 1, s.heads, s.queries, s.keys);
  std::vector<int> ids;
  for (index_type i = 0; i < s.keys; ++i) ids.push_back(static_cast<int>(i / 23));
  const auto fade = [](auto x, auto i, auto j) { return x - (i - j) * (i - j) * decltype(x)(0.001f); };
  const auto even_or_self = [](auto i, auto j) { return ((j & 1) == 0) | (j == i); };
  for (const token_layout layout : {token_layout::contiguous, token_layout::balanced})
    expect_same<float>(s, layout, false, causal & fovea::sliding_window{.left = 30}, fovea::softcap{2.f},
                       fovea::alibi{slopes}, fovea::sink{logits}, fovea::dropout{.rate = 0.2, .seed = 5});
  expect_same<float>(s, token_layout::balanced, false, fovea::documents{ids}, fovea::bias(bias),
                     fovea::score(fade));
  expect_same<float>(s, token_layout::balanced, false, fovea::mask(even_or_self), causal);
  expect_same<float>(cross, token_layout::contiguous, true, fovea::causal_bottom_right, fovea::off_by_one);
}

/// Rows that see no key, on ranks that hold none or all.
TEST(ring, rows_that_see_nothing) {
  const auto nothing_early = [](auto i, auto j) { return (i > 40) & (j < 20); };
  expect_same<float>(grouped, token_layout::balanced, false, fovea::mask(nothing_early));
  expect_same<float>(shape{1, 2, 2, 3, 5, 8, 8}, token_layout::contiguous, false, fovea::causal_offset{-1});
  expect_same<float>(shape{1, 2, 2, 2, 1, 8, 8}, token_layout::contiguous, false);
}

}  // namespace
}  // namespace fovea_test
