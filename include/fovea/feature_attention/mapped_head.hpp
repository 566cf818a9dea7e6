// fovea/feature_attention/mapped_head.hpp - features of a key/value head's tokens, a block of them at a time.
#pragma once

#include <fovea/feature_attention/features.hpp>

FOVEA_NAMESPACE_BEGIN
namespace features {

/// A key/value head of a sequence, of which `job` tells the number, with its query heads: the features of a
/// block of their tokens, query heads one after another, in memory of its own.
template <class Arch, class Call, class Features>
class mapped_head {
 protected:
  using T = typename Call::compute;
  using R = xsimd::batch<T, Arch>;
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static constexpr index_type n = static_cast<index_type>(R::size);

  mapped_head(const Call& c, const Features& f, index_type job, index_type block)
      : c_(c),
        features_(f),
        b_(job / c.k.heads()),
        h_(job % c.k.heads()),
        group_(c.q.heads() / c.k.heads()),
        d_(c.k.dim()),
        step_(round_up(d_, n)),
        block_(block),
        q_(group_ * block, step_),
        k_(block, step_) {}

  void map_keys(index_type first, index_type count) {
    const auto rows = c_.k.head(b_, h_);
    for (index_type t = 0; t < count; ++t) map_row<Arch>(features_, rows, first + t, k_.row(t).data());
  }
  void map_queries(index_type first, index_type count) {
    for (index_type g = 0; g < group_; ++g) {
      const auto rows = c_.q.head(b_, h_ * group_ + g);
      for (index_type t = 0; t < count; ++t)
        map_row<Arch>(features_, rows, first + t, q_.row(g * block_ + t).data());
    }
  }

  const Call& c_;
  const Features& features_;
  index_type b_, h_, group_, d_, step_, block_;
  matrix q_, k_;
};

}  // namespace features
FOVEA_NAMESPACE_END
