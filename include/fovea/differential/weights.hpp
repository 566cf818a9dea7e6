// fovea/differential/weights.hpp - the parameters of differential attention: what lambda is made of.
#pragma once

#include <fovea/projected/calls.hpp>
#include <fovea/projected/head_products.hpp>

#include <cmath>
#include <optional>

FOVEA_NAMESPACE_BEGIN

struct differential_options {
  index_type dim = 0;                  // numbers of each lambda vector; the paper: those of a head of q
  double lambda_init = 0.8;            // see differential_lambda_init
  index_type heads = 0, kv_heads = 0;  // of o and v, where the type leaves them dynamic_heads; 0: as heads
  std::optional<double> scale = {};    // 1 / sqrt(dim of q) otherwise
  executor_ref executor = {};          // who does the work; must outlive the attention object
};

/// The paper's lambda_init of a layer, the first being 1: 0.8 - 0.6 exp(-0.3 (layer - 1)).
inline double differential_lambda_init(index_type layer) {
  if (layer < 1) reject("layer is ", layer, ", below 1");
  return 0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(layer - 1));
}

/// The vectors that lambda is made of; gradients have the same type. One lambda for all heads.
template <class C>
struct differential_weights {
  projection::row_vector<C> lambda_q1, lambda_k1, lambda_q2, lambda_k2;

  explicit differential_weights(index_type dim = 0) {
    for (auto* x : {&lambda_q1, &lambda_k1, &lambda_q2, &lambda_k2}) x->setZero(eigen_index(dim));
  }
  void check_parameters(const char* name, index_type dim) const {
    const auto same = [&](const char* what, const auto& x) {
      if (x.size() != eigen_index(dim)) reject(name, "'s ", what, " has ", x.size(), " numbers, not ", dim);
    };
    same("lambda_q1", lambda_q1), same("lambda_k1", lambda_k1);
    same("lambda_q2", lambda_q2), same("lambda_k2", lambda_k2);
  }
};

FOVEA_NAMESPACE_END
