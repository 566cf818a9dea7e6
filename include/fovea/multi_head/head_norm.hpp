// fovea/multi_head/head_norm.hpp - queries and keys of bounded size: an RMS norm of each head's rows.
#pragma once

#include <fovea/element/inverse_length.hpp>
#include <fovea/view/eigen.hpp>

FOVEA_NAMESPACE_BEGIN

/// What the norm's backward needs: the normalised heads before the gain, and 1 / sqrt(mean + epsilon) of each
/// row and head.
template <class T>
struct head_norm_saved {
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> unit, inverse;
};

/// 1 / sqrt(mean of x^2 + epsilon).
template <class Row>
split_factor inverse_rms(const Row& x, double epsilon) {
  const double dim = static_cast<double>(x.size());
  split_factor by = inverse_length(x.data(), x.size(), x.innerStride(), dim * epsilon);
  by.rest *= std::sqrt(dim);
  return by;
}

/// x <- x / sqrt(mean of x^2 + epsilon) * gain, for each head of each row of x (tokens x heads * dim); gain
/// has dim entries, which all heads share. Zhang and Sennrich, arXiv:1910.07467; for queries and keys: Henry
/// et al., arXiv:2010.04245, in the form of Gemma 3, arXiv:2503.19786.
template <class T, class X, class Gain>
void normalise_heads(X&& x, index_type heads, const Gain& gain, T epsilon, head_norm_saved<T>* norm_saved) {
  const Eigen::Index dim = gain.size(), count = eigen_index(heads);
  if (norm_saved != nullptr)
    norm_saved->unit.resize(x.rows(), x.cols()), norm_saved->inverse.resize(x.rows(), count);
  for (Eigen::Index i = 0; i < x.rows(); ++i)
    for (Eigen::Index h = 0; h < count; ++h) {
      auto row = x.row(i).segment(h * dim, dim);
      const split_factor by = inverse_rms(row, static_cast<double>(epsilon));
      const T inverse = static_cast<T>(by.value());
      row = row.unaryExpr([&](T number) { return by.times(number); });
      if (norm_saved != nullptr)
        norm_saved->unit.row(i).segment(h * dim, dim) = row, norm_saved->inverse(i, h) = inverse;
      row.array() *= gain.array();
    }
}

/// d <- the gradient by x of what normalise_heads gave, d before; adds to the gain's gradient. With u the
/// unit rows and g = d * gain: (g - u mean(g u)) * inverse.
template <class T, class D, class Gain>
void normalise_heads_backward(D&& d, index_type heads, const Gain& gain, const head_norm_saved<T>& norm_saved,
                              Gain& d_gain) {
  const Eigen::Index dim = gain.size(), count = eigen_index(heads);
  for (Eigen::Index i = 0; i < d.rows(); ++i)
    for (Eigen::Index h = 0; h < count; ++h) {
      auto g = d.row(i).segment(h * dim, dim).array();
      const auto unit = norm_saved.unit.row(i).segment(h * dim, dim).array();
      d_gain.array() += g * unit;
      g *= gain.array();
      const T along = (g * unit).mean();
      g = (g - unit * along) * norm_saved.inverse(i, h);
    }
}

FOVEA_NAMESPACE_END
