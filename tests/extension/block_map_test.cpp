// A mask of one's own that names its next block: every fourth block of 128 keys, and one's own.
#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>

namespace block_map_test {

using fovea::index_type, fovea::range, fovea::coverage;

struct every_fourth_block {
  std::atomic<int>* in_vain;  // blocks of keys that kernels came to and that are hidden
  auto visible(auto q, auto k) const { return (((q >> 7) - (k >> 7)) & 3) == 0; }
  coverage cover(range rows, range keys) const {
    if ((rows.first ^ (rows.last - 1)) >> 7 != 0 || (keys.first ^ (keys.last - 1)) >> 7 != 0)
      return coverage::partial;
    if (!visible(rows.first, keys.first)) return ++*in_vain, coverage::none;
    return coverage::full;
  }
  index_type next(range rows, index_type key) const {
    if ((rows.first ^ (rows.last - 1)) >> 7 != 0) return key;
    const index_type ahead = ((rows.first >> 7) - (key >> 7)) & 3;
    return ahead == 0 ? key : ((key >> 7) + ahead) << 7;
  }
};

struct no_next {  // the same, which names no block
  every_fourth_block blocks;
  auto visible(auto q, auto k) const { return blocks.visible(q, k); }
  coverage cover(range rows, range keys) const { return blocks.cover(rows, keys); }
};

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(block_map, walks_jump_to_the_next_block) {
  const fovea::attention<float, 1> attend;
  for (const index_type queries : {2, 128}) {
    const index_type keys = 4096, dim = 16;
    const Matrix q = Matrix::Random(queries, dim), k = Matrix::Random(keys, dim), v = 2 * k;
    std::atomic<int> jumped{0}, walked{0};
    const Matrix o = attend(q, k, v, every_fourth_block{&jumped});
    EXPECT_EQ(o, attend(q, k, v, no_next{{&walked}}));
    EXPECT_TRUE(walked >= 24 && jumped <= (queries == 128 ? 0 : 24)) << jumped << " of " << walked;
    for (index_type i = 0; i < queries; ++i) {
      double sum = 0;
      Eigen::RowVectorXd expected = Eigen::RowVectorXd::Zero(dim);
      for (index_type j = 0; j < keys; ++j)
        if (j / 128 % 4 == 0) {
          const double p = std::exp(q.row(i).cast<double>().dot(k.row(j).cast<double>()) / 4);
          sum += p, expected += p * v.row(j).cast<double>();
        }
      EXPECT_LT((o.row(i).cast<double>() - expected / sum).cwiseAbs().maxCoeff<Eigen::PropagateNaN>(), 1e-5);
    }
  }
}

}  // namespace block_map_test
