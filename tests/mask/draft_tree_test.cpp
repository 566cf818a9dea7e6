// draft_tree: what it says of blocks, calls with and without a cache, trees a sequence, and what it refuses.
#include "../support/max_abs.hpp"
#include "expect_mask.hpp"

#include <string>

namespace draft_tree_test {

using fovea::index_type;
using fovea_test::expect_refused;
using mask_test::expect_promises, mask_test::last_tokens, mask_test::Matrix;
using enum mask_test::cover_is;

std::vector<int> random_tree(index_type drafts, std::uint64_t seed) {
  fovea_test::random_source random(seed);
  std::vector<int> parents;
  for (index_type i = 0; i < drafts; ++i) parents.push_back(static_cast<int>(random.integer(-1, i - 1)));
  return parents;
}

/// What the tree means, by its parents.
auto seen_in(const std::vector<int>& parents, index_type keys) {
  return [&parents, tree = keys - static_cast<index_type>(parents.size())](index_type q, index_type k) {
    if (q < tree || k < tree) return k <= q;
    index_type draft = q - tree;
    while (draft > k - tree) draft = parents[static_cast<std::size_t>(draft)];
    return draft == k - tree;
  };
}

TEST(draft_tree, sees_ancestors_and_what_was_before) {
  for (const index_type drafts : {0, 1, 5, 32, 63, 64, 65, 90}) {
    const std::vector<int> parents = random_tree(drafts, 3);
    const std::vector<std::uint64_t> words = fovea::ancestors_of(parents);
    const fovea::draft_tree mask{words, drafts};
    for (const index_type queries : {index_type(1), drafts, drafts + 7, index_type(110)})
      if (queries > 0) expect_promises(mask, last_tokens(queries, 110), exact, seen_in(parents, 110));
  }
}

TEST(draft_tree, in_calls) {
  const std::vector<int> parents = random_tree(40, 4);
  const std::vector<std::uint64_t> words = fovea::ancestors_of(parents);
  mask_test::expect_like_booleans(fovea::draft_tree{words}, 300, seen_in(parents, 300));
  const std::vector<int> many = random_tree(70, 5);
  const std::vector<std::uint64_t> two_words = fovea::ancestors_of(many);
  mask_test::expect_like_booleans(fovea::draft_tree{two_words, 70}, 200, seen_in(many, 200));
}

/// Each path from the root gets what a sequence of it gets, causally.
TEST(draft_tree, paths_are_sequences) {
  const std::vector<int> parents{-1, 0, 0, 2, -1, 4};
  const std::vector<std::uint8_t> words{0b1, 0b11, 0b101, 0b1101, 0b10000, 0b110000};
  const Matrix q = Matrix::Random(6, 32), k = Matrix::Random(50, 32), v = Matrix::Random(50, 32);
  const fovea::attention<float, 2> attend;
  const Matrix o = attend(q, k, v, fovea::draft_tree{words});
  for (const std::vector<int>& path : {std::vector<int>{0, 1}, {0, 2, 3}, {4, 5}}) {
    const auto n = static_cast<index_type>(path.size());
    Matrix some_q(n, 32), some_k = k.topRows(44 + n), some_v = v.topRows(44 + n);
    for (index_type i = 0; i < n; ++i) {
      const int draft = path[static_cast<std::size_t>(i)];
      some_q.row(i) = q.row(draft), some_k.row(44 + i) = k.row(44 + draft),
      some_v.row(44 + i) = v.row(44 + draft);
    }
    const Matrix alone = attend(some_q, some_k, some_v, fovea::causal_bottom_right);
    for (index_type i = 0; i < n; ++i)
      EXPECT_LT(fovea_test::max_abs(alone.row(i) - o.row(path[static_cast<std::size_t>(i)])), 1e-6f);
  }
}

/// Drafts of other branches reach nothing, whatever they hold.
TEST(draft_tree, other_branches_are_not_seen) {
  const std::vector<std::uint64_t> words{1, 2, 5};  // 0; 1; 0 and 2
  const Matrix q = Matrix::Random(3, 16);
  Matrix k = Matrix::Random(30, 16), v = k;
  const fovea::attention<float, 1> attend;
  const Matrix clean = attend(q, k, v, fovea::draft_tree{words});
  k.row(28).setConstant(std::numeric_limits<float>::quiet_NaN());
  v.row(28).setConstant(std::numeric_limits<float>::infinity());
  const Matrix o = attend(q, k, v, fovea::draft_tree{words});
  EXPECT_EQ(clean.row(0), o.row(0));
  EXPECT_EQ(clean.row(2), o.row(2));
  EXPECT_TRUE(std::isnan(o(1, 0)));
}

TEST(draft_tree, of_each_sequence) {
  const std::vector<std::uint64_t> words{1, 2, 1, 3};  // two roots; a chain
  const fovea::draft_tree mask{words, 2};
  fovea::place at{.batch = 0, .head = 0, .batches = 2, .heads = 1, .queries = 2, .keys = 9, .in_cache = true};
  EXPECT_FALSE(mask.bind(at).visible(fovea::cell{1, 7}));
  at.batch = 1;
  EXPECT_TRUE(mask.bind(at).visible(fovea::cell{1, 7}));
}

/// The topmost bit of a signed word is that of its last draft, and no sign.
TEST(draft_tree, reads_words_of_any_type) {
  const std::vector<std::int8_t> words{1, 2, 4, 8, 16, 32, 65, -126};  // 6 follows 0, 7 follows 1
  const fovea::draft_tree mask{words};
  const fovea::place at = mask_test::last_tokens(8, 20);
  EXPECT_NO_THROW(mask.check(at));
  const auto bound = mask.bind(at);
  for (index_type k = 12; k < 20; ++k) {
    EXPECT_EQ(bound.visible(fovea::cell{6, k}), k == 12 || k == 18) << k;
    EXPECT_EQ(bound.visible(fovea::cell{7, k}), k == 13 || k == 19) << k;
  }
  const std::vector<std::int8_t> beyond{1, -126};
  expect_refused([&] { fovea::draft_tree{beyond}.check(at); },
                 std::string("draft_tree's draft 1 names draft 7 of 2"));
}

TEST(draft_tree, refuses_what_does_not_fit) {
  const Matrix q = Matrix::Random(7, 16), k = Matrix::Random(6, 16);
  const fovea::attention<float, 1> attend;
  const auto refused = [&](const Matrix& x, const fovea::draft_tree& mask, const char* why) {
    expect_refused([&] { attend(x, k, k, mask); }, std::string(why));
  };
  constexpr index_type most = std::numeric_limits<index_type>::max();
  const std::vector<std::uint64_t> words{1, 2, 0b1101}, many(65, 1), seven(7, 1);
  refused(k, {words}, "draft_tree's draft 2 names draft 3 of 3");
  refused(k, {words, 2},
          "draft_tree's ancestors have 3 words, neither 2 for its 2 drafts nor that for each of 1 sequences");
  refused(k, {words, -2}, "draft_tree's drafts are -2, fewer than none");
  refused(k, {many},
          "draft_tree's ancestors have 65 words; of more than 64 drafts, say how many: draft_tree{words, n}");
  refused(k, {words, most}, "draft_tree has 9223372036854775807 drafts, more than the 6 keys");
  refused(k, {seven}, "draft_tree has 7 drafts, more than the 6 keys");
  const std::vector<std::uint64_t> one{1};
  refused(q, {one}, "draft_tree: q has 7 tokens, more than the 6 keys");
  const std::vector<int> parents{-1, 1};
  expect_refused([&] { static_cast<void>(fovea::ancestors_of(parents)); },
                 std::string("ancestors_of: draft 1 follows 1, neither -1 nor an earlier draft"));
}

}  // namespace draft_tree_test
