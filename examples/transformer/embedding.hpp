// transformer/embedding.hpp - tokens to vectors, vectors to scores of tokens, and where a token stands.
#pragma once

#include "random.hpp"

namespace transformer {

/// A vector for each token of a vocabulary. The same weights may serve at the other end, as the scores of
/// what comes next: arXiv:1706.03762, 3.4, from Press and Wolf, arXiv:1608.05859.
template <class T>
struct embedding {
  Matrix<T> weight;  // (vocabulary, channels)

  embedding() = default;
  /// Vectors of length about 1, so that sqrt(channels) times them has entries of variance 1.
  embedding(Index vocabulary, Index channels, std::uint64_t key)
      : weight(uniform_matrix<T>(vocabulary, channels, std::sqrt(3. / static_cast<double>(channels)), key)) {}

  /// Row i is sqrt(channels) times the vector of tokens[i]. What backward needs is the tokens.
  Matrix<T> operator()(std::span<const int> tokens) const {
    Matrix<T> y(static_cast<Index>(tokens.size()), weight.cols());
    for (std::size_t i = 0; i < tokens.size(); ++i)
      y.row(static_cast<Index>(i)) = scale() * weight.row(checked(tokens[i]));
    return y;
  }

  void backward(const Matrix<T>& dy, std::span<const int> tokens, embedding& gradient) const {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      gradient.weight.row(checked(tokens[i])) += scale() * dy.row(static_cast<Index>(i));
  }

  /// x W^T: the logit of each token of the vocabulary.
  Matrix<T> logits(const Matrix<T>& x) const {
    Matrix<T> y(x.rows(), weight.rows());
    y.noalias() = x * weight.transpose();
    return y;
  }

  /// dx of logits(x).
  Matrix<T> logits_backward(const Matrix<T>& dy, const Matrix<T>& x, embedding& gradient) const {
    gradient.weight.noalias() += dy.transpose() * x;
    Matrix<T> dx(dy.rows(), weight.cols());
    dx.noalias() = dy * weight;
    return dx;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    f(part(name, "weight"), of.weight...);
  }

 private:
  T scale() const { return std::sqrt(static_cast<T>(weight.cols())); }
  Index checked(int token) const {
    if (token < 0 || token >= weight.rows())
      throw std::out_of_range("token " + std::to_string(token) + " of a vocabulary of " +
                              std::to_string(weight.rows()));
    return token;
  }
};

/// Row p: sin(p / 10000^(2i / channels)) in column 2i, the cosine in column 2i + 1. arXiv:1706.03762, 3.5.
template <class T>
Matrix<T> sinusoidal_positions(Index positions, Index channels) {
  return Matrix<T>::NullaryExpr(positions, channels, [&](Index p, Index c) {
    const double angle = static_cast<double>(p) *
                         std::pow(10000., -static_cast<double>(c - c % 2) / static_cast<double>(channels));
    return static_cast<T>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
  });
}

/// x += the table's rows: sequence i has the rows offsets[i] to offsets[i + 1] of x, and starts at position
/// `first`.
template <class T>
void add_positions(Matrix<T>& x, std::span<const std::ptrdiff_t> offsets, const Matrix<T>& table,
                   Index first = 0) {
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    const Index tokens = offsets[i + 1] - offsets[i];
    if (first + tokens > table.rows())
      throw std::out_of_range("a sequence reaches position " + std::to_string(first + tokens) + " of " +
                              std::to_string(table.rows()));
    x.middleRows(offsets[i], tokens) += table.middleRows(first, tokens);
  }
}

}  // namespace transformer
