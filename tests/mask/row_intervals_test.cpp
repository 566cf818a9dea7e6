// block_diffusion, chunked: what they say of blocks is so, exactly; results are those of their
// booleans.
#include "expect_mask.hpp"

#include <string>

namespace row_intervals_test {

using fovea::index_type;
using fovea_test::expect_refused;
using mask_test::expect_like_booleans, mask_test::Matrix;

void expect_all(const auto& mask, const auto& sees) {
  using enum mask_test::cover_is;
  mask_test::expect_promises(mask, mask_test::last_tokens(90, 90), exact, sees);
  mask_test::expect_promises(mask, mask_test::last_tokens(37, 150), exact, sees);
  expect_like_booleans(mask, 90, sees), expect_like_booleans(mask, 421, sees);
}

TEST(block_diffusion, sees_its_block_and_those_before) {
  for (const index_type b : {1, 5, 16, 64, 1000})
    expect_all(fovea::block_diffusion{b}, [b](index_type q, index_type k) { return q / b >= k / b; });
}

TEST(chunked, sees_its_chunk) {
  for (const index_type c : {1, 5, 16, 64, 1000})
    expect_all(fovea::chunked{c}, [c](index_type q, index_type k) { return q / c == k / c; });
  expect_like_booleans(fovea::causal & fovea::chunked{48}, 300,
                       [](index_type q, index_type k) { return q / 48 == k / 48 && k <= q; });
}

TEST(row_intervals, refuse_what_does_not_fit) {
  const Matrix q = Matrix::Random(7, 16), k = Matrix::Random(8, 16);
  const fovea::attention<float, 1> attend;
  const auto refused = [&](const Matrix& x, const auto& mask, const char* why) {
    expect_refused([&] { attend(x, k, k, mask); }, std::string(why));
  };
  refused(q, fovea::block_diffusion{4},
          "block_diffusion needs as many queries as keys, not 7 queries and 8 keys");
  refused(k, fovea::block_diffusion{0}, "block_diffusion's size is 0, not within 1 and 2147483647");
  refused(q, fovea::chunked{4}, "chunked needs as many queries as keys, not 7 queries and 8 keys");
  refused(k, fovea::chunked{-3}, "chunked's size is -3, not within 1 and 2147483647");
}

}  // namespace row_intervals_test
