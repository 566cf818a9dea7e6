// !mask shows what the mask hides, for every mask, in every form.
#include "expect_mask.hpp"

#include <vector>

namespace complement_test {

using fovea::coverage;
using fovea::index_type;
using mask_test::Matrix;

/// Cell by cell and block by block against the mask itself.
template <class M>
void expect_complement(const M& mask, index_type queries, index_type keys) {
  const fovea::place at{0, 0, 1, 1, queries, keys};
  const auto m = fovea::bind_to(mask, at);
  const auto other = (!mask).bind(at);
  for (index_type q = 0; q < queries; ++q)
    for (index_type k = 0; k < keys; ++k)
      ASSERT_NE(fovea::visible_at(other, fovea::cell{q, k}), fovea::visible_at(m, fovea::cell{q, k}))
          << q << " " << k;
  index_type told = 0;
  for (index_type q = 0; q < queries; ++q)
    for (index_type q_end : {q + 1, std::min(q + 5, queries)})
      for (index_type k = 0; k < keys; ++k)
        for (index_type k_end : {k + 1, std::min(k + 7, keys)}) {
          const coverage covered = fovea::cover_of(other, {q, q_end}, {k, k_end});
          told += covered != coverage::partial;
          for (index_type i = q; i < q_end && covered != coverage::partial; ++i)
            for (index_type j = k; j < k_end; ++j)
              ASSERT_EQ(fovea::visible_at(other, fovea::cell{i, j}), covered == coverage::full)
                  << i << " " << j;
        }
  EXPECT_EQ(told > 0, !fovea::is_unsure<decltype(other)>) << "blocks of one cell are known";
  EXPECT_EQ(fovea::reach_of(other, {0, 1}, keys), (fovea::range{0, keys}));
}

Eigen::Matrix<bool, -1, -1, Eigen::RowMajor> booleans(index_type rows, index_type cols) {
  return (Matrix::Random(rows, cols).array() > 0).matrix();
}

TEST(complement, of_every_mask) {
  const index_type queries = 17, keys = 23;
  const std::vector<index_type> eleven = {11};
  const auto keep = booleans(queries, keys);
  expect_complement(fovea::causal_top_left, queries, keys);
  expect_complement(fovea::causal_bottom_right, queries, keys);
  expect_complement(fovea::causal, keys, keys);
  expect_complement(fovea::causal_offset{3}, queries, keys);
  expect_complement(fovea::sliding_window{.left = 3, .right = 2, .offset = 1}, queries, keys);
  expect_complement(fovea::key_lengths{eleven}, queries, keys);
  expect_complement(fovea::left_padding{eleven}, queries, keys);
  const Eigen::VectorXi of_queries = Eigen::VectorXi::LinSpaced(queries, 0, 3),
                        of_keys = Eigen::VectorXi::LinSpaced(keys, 0, 4);
  expect_complement(fovea::documents{of_queries, of_keys}, queries, keys);
  expect_complement(fovea::boolean_mask(keep), queries, keys);
  expect_complement(fovea::mask([](auto q, auto k) { return k <= q; }), queries, keys);
  expect_complement(fovea::causal_top_left & fovea::key_lengths{eleven}, queries, keys);
  expect_complement(!fovea::causal_top_left, queries, keys);
}

/// A mask that says of keys outside its reach what is not so, as it may.
struct first_keys {
  index_type count;
  auto visible(const auto&, const auto& k) const noexcept {
    return k < std::remove_cvref_t<decltype(k)>(static_cast<int>(count));
  }
  coverage cover(fovea::range, fovea::range) const noexcept { return coverage::full; }
  fovea::range reach(fovea::range) const noexcept { return {0, count}; }
};

TEST(complement, promises_hold) {
  const auto expect = [](const auto& mask, const auto& sees) {
    mask_test::expect_promises(fovea::mask_complement{mask}, mask_test::last_tokens(100, 100),
                               mask_test::cover_is::a_promise,
                               [&](index_type q, index_type k) { return !sees(q, k); });
  };
  expect(first_keys{30}, [](index_type, index_type k) { return k < 30; });
  expect(fovea::causal, [](index_type q, index_type k) { return k <= q; });
  expect(fovea::sliding_window{.left = 40, .right = 3},
         [](index_type q, index_type k) { return k >= q - 40 && k <= q + 3; });
  std::vector<int> ids;
  for (int t = 0; t < 100; ++t) ids.push_back(t * t / 900);
  const auto same = [&](index_type q, index_type k) { return ids[std::size_t(q)] == ids[std::size_t(k)]; };
  expect(fovea::documents{ids}, same);
  const std::vector<int> few{3, 17, 18, 66};
  const auto global = [&](index_type t) { return std::count(few.begin(), few.end(), t) != 0; };
  expect(fovea::global_tokens{few}, [&](index_type q, index_type k) { return global(q) || global(k); });
  Eigen::Matrix<bool, 4, 4> map;
  map << 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0;
  expect(fovea::block_map(map, {.queries = 27, .keys = 26}),
         [&](index_type q, index_type k) { return map(q / 27, k / 26); });
}

/// Edges are the mask's, and blocks that it shows are neither computed nor read.
TEST(complement, carries_sparsity) {
  Eigen::Matrix<bool, 4, 4> map;
  map << 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 0;
  const auto hidden = fovea::block_map(map, {.queries = 64, .keys = 64});
  const auto bound = (!hidden).bind({0, 0, 1, 1, 256, 256});
  EXPECT_EQ(bound.row_edge(3), 64);
  EXPECT_EQ(bound.key_edge(64), 128);
  EXPECT_EQ(bound.next({0, 64}, 5), 128);
  EXPECT_EQ(bound.next({128, 192}, 5), 256);
  EXPECT_EQ((!fovea::causal_top_left).bind({0, 0, 1, 1, 256, 256}).shown({70, 80}, {0, 256}),
            (fovea::range{64, 256}));
  Matrix q = Matrix::Random(256, 16), k = q, v = q;
  const fovea::attention<float, 1> attend;
  const Matrix clean = attend(q, k, v, !hidden);
  k.middleRows(64, 64).setConstant(std::numeric_limits<float>::quiet_NaN());
  v.middleRows(64, 64).setConstant(std::numeric_limits<float>::infinity());
  EXPECT_EQ(clean, Matrix(attend(q, k, v, !hidden)));
}

/// What the mask reads is read by its complement: no result lies there.
TEST(complement, results_lie_apart_from_its_numbers) {
  const Matrix x = Matrix::Random(4, 4);
  Matrix o = x;
  const auto padding =
      Eigen::Map<const Eigen::Matrix<unsigned char, 1, 4>>(reinterpret_cast<const unsigned char*>(o.data()));
  const fovea::attention<float> attend{{.heads = 1}};
  fovea_test::expect_refused([&] { attend.into(o, x, x, x, !fovea::boolean_mask(padding)); },
                             "o and boolean_mask share memory; what is written lies apart from what is read "
                             "and from other results (o may be q itself: the same view)");
}

TEST(complement, is_checked_as_the_mask_is) {
  const Matrix q = Matrix::Random(2, 4), k = Matrix::Random(4, 4);
  const fovea::attention<float> attend;
  const auto words_of = [&](const auto& mask) -> std::string {
    try {
      attend.plan_for(q, k, k, mask);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  const std::vector<index_type> five = {5};
  EXPECT_NE(words_of(fovea::causal), "");
  EXPECT_EQ(words_of(!fovea::causal), words_of(fovea::causal));
  EXPECT_NE(words_of(fovea::key_lengths{five}), "");
  EXPECT_EQ(words_of(!(fovea::causal_top_left & fovea::key_lengths{five})),
            words_of(fovea::key_lengths{five}));
}

/// O, LSE and gradients, queries in lanes and few rows, are the bits of the mask said outright.
template <class Same, class Mask>
void expect_same_call(index_type queries, index_type keys, const Same& same, const Mask& mask) {
  const Matrix q = Matrix::Random(queries, 20), k = Matrix::Random(keys, 20), v = Matrix::Random(keys, 6);
  const fovea::attention<float, 2> attend;
  const auto [out, lse] = attend.with_lse(q, k, v, mask);
  const auto [out2, lse2] = attend.with_lse(q, k, v, same);
  EXPECT_TRUE(out.isApprox(out2, 1e-5f) && out.norm() > 0) << queries;
  EXPECT_EQ((lse.array() == -std::numeric_limits<float>::infinity()).count(),
            (lse2.array() == -std::numeric_limits<float>::infinity()).count());
  const auto exact = fovea::reference(q, k, v, {.heads = 2}, mask);
  for (index_type i = 0; i < queries; ++i)
    for (index_type c = 0; c < 6; ++c) EXPECT_NEAR(out(i, c), exact.out(0, c / 3, i, c % 3), 1e-5);
  const auto d = attend.backward(q, k, v, out, lse, out, mask),
             d2 = attend.backward(q, k, v, out2, lse2, out2, same);
  EXPECT_TRUE(d.d_q.isApprox(d2.d_q, 1e-4f) && d.d_k.isApprox(d2.d_k, 1e-4f) &&
              d.d_v.isApprox(d2.d_v, 1e-4f));
}

TEST(complement, in_every_form) {
  for (const index_type queries : {3, 70}) {
    const index_type keys = 150;
    Eigen::Matrix<bool, -1, -1, Eigen::RowMajor> hidden = booleans(queries, keys), shown(queries, keys);
    for (index_type i = 0; i < queries; ++i)
      for (index_type j = 0; j < keys; ++j) {
        hidden(i, j) = hidden(i, j) || j < 32 || i == 2;  // whole blocks, and a row that sees nothing
        shown(i, j) = !hidden(i, j) && !(j <= i && j % 4 == 0);
      }
    const auto fourth = fovea::mask([](auto, auto k) { return (k & decltype(k)(3)) == decltype(k)(0); });
    expect_same_call(queries, keys, fovea::boolean_mask(shown),
                     (!fovea::boolean_mask(hidden)) & !(fovea::causal_top_left & fourth));
  }
}

}  // namespace complement_test
