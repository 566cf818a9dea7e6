// glimpse/model.hpp - a model that looks at one patch of a picture and says what it shows. Where it looks is
// learnt by REINFORCE: nothing tells it which patch matters but how well it answers.
//
//   k_j = W tanh(W x_j + b)     where: a key a patch, and one query for all pictures
//   v_j = tanh(W x_j + b)       what: read at the patch that is picked, and nowhere else
//   answer = W v_a + b          a ~ softmax(q . k_j / sqrt(d))
#pragma once

#include "pictures.hpp"

#include "../transformer/cross_entropy.hpp"
#include "../transformer/linear.hpp"

#include <fovea/hard.hpp>

namespace glimpse {

using transformer::linear;

struct model {
  static constexpr Index hidden = 32, dim = 8;
  Matrix query = transformer::uniform_matrix<float>(1, dim, 1, transformer::random_key(1, 0));
  linear<float> edges{pixels, hidden, transformer::random_key(1, 1)};
  linear<float> key{hidden, dim, transformer::random_key(1, 2)};
  linear<float> value{pixels, hidden, transformer::random_key(1, 3)};
  linear<float> answer{hidden, static_cast<Index>(shapes.size()), transformer::random_key(1, 4)};

  static void each_parameter(const std::string&, const auto& f, auto&... of) {
    f("query", of.query...);
    linear<float>::each_parameter("edges", f, of.edges...);
    linear<float>::each_parameter("key", f, of.key...);
    linear<float>::each_parameter("value", f, of.value...);
    linear<float>::each_parameter("answer", f, of.answer...);
  }
};

/// Rows of a matrix as a tensor, so many a picture.
inline fovea::tensor_view<const float> by_picture(const Matrix& m, Index rows) {
  return fovea::bshd(m.data(), m.rows() / rows, rows, 1, m.cols());
}
inline Matrix as_matrix(const fovea::tensor<float>& x) {
  return Eigen::Map<const Matrix>(x.data(), x.batch() * x.tokens(), x.dim());
}

/// Of some pictures: the mean loss -ln p(shape), the share of right answers, and of looks at the right patch.
struct score {
  double loss = 0, right = 0, found = 0;
};

/// What a forward call leaves: where it looked, and what backward needs.
struct looked {
  linear<float>::saved edges, key, value, answer;
  Matrix hidden, keys, values, queries, logits;
  fovea::picked<fovea::tensor<float>, fovea::tensor<float>> seen;
};

template <class Choice>
looked look_at(const model& m, const pictures& x, const Choice& choice) {
  looked s;
  s.hidden = m.edges(x.patches, s.edges).array().tanh().matrix();
  s.keys = m.key(s.hidden, s.key);
  s.values = m.value(x.patches, s.value).array().tanh().matrix();
  s.queries = m.query.replicate(static_cast<Index>(x.shape.size()), 1);
  s.seen = fovea::hard<float, 1>().with_log_p(by_picture(s.queries, 1), by_picture(s.keys, patches),
                                              by_picture(s.values, patches), choice);
  s.logits = m.answer(as_matrix(s.seen.out), s.answer);
  return s;
}

inline score score_of(const looked& s, const pictures& x) {
  score mean;
  const auto count = static_cast<double>(x.shape.size());
  mean.loss = transformer::cross_entropy<float>()(s.logits, x.shape).mean();
  for (std::size_t i = 0; i < x.shape.size(); ++i) {
    const auto row = static_cast<Index>(i);
    Index said = 0;
    s.logits.row(row).maxCoeff(&said);
    mean.right += (said == x.shape[i]) / count;
    mean.found += (s.seen.picks(row, 0, 0, 0) == x.place[i]) / count;
  }
  return mean;
}

/// What each picture's look is blamed for: its loss, and `curiosity` times ln p of where it looked, so that
/// looks stay open to chance (Williams & Peng, "Function optimization using connectionist reinforcement
/// learning algorithms", 1991). Without it the model soon knows one shape and looks for no other.
inline Matrix blame_of(const looked& s, const pictures& x, double curiosity) {
  Matrix blame(s.logits.rows(), 1);
  for (Index i = 0; i < blame.rows(); ++i) {
    const auto z = s.logits.row(i).array();
    const float most = z.maxCoeff(), all = most + std::log((z - most).exp().sum());
    blame(i) = all - z(x.shape[static_cast<std::size_t>(i)]) + float(curiosity) * s.seen.log_p(i, 0, 0, 0);
  }
  return blame;
}

/// Adds the gradient of the mean loss of `x`. `blame`: what the looks' log-probabilities are weighed with,
/// less a baseline.
inline void add_gradient(const model& m, const looked& s, const pictures& x, const Matrix& blame,
                         model& gradient) {
  const Matrix d_logits = transformer::cross_entropy<float>()(s.logits, x.shape).gradient;
  const Matrix d_seen = m.answer.backward(d_logits, s.answer, gradient.answer);
  const Matrix d_log_p = blame / float(blame.rows());
  const auto d = fovea::hard<float, 1>().reinforce(by_picture(s.queries, 1), by_picture(s.keys, patches),
                                                   by_picture(s.values, patches), s.seen,
                                                   by_picture(d_seen, 1), by_picture(d_log_p, 1));
  gradient.query += as_matrix(d.d_q).colwise().sum();
  const Matrix d_values = (as_matrix(d.d_v).array() * (1 - s.values.array().square())).matrix();
  m.value.backward(d_values, s.value, gradient.value);
  const Matrix d_hidden = m.key.backward(as_matrix(d.d_k), s.key, gradient.key);
  m.edges.backward((d_hidden.array() * (1 - s.hidden.array().square())).matrix(), s.edges, gradient.edges);
}

}  // namespace glimpse
