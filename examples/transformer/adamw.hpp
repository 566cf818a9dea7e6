// transformer/adamw.hpp - Adam with decoupled weight decay: Loshchilov and Hutter, arXiv:1711.05101,
// algorithm 2.
#pragma once

#include "parameter.hpp"

#include <cmath>
#include <cstdint>

namespace transformer {

struct adamw_options {
  double beta1 = 0.9, beta2 = 0.98, epsilon = 1e-9;  // as arXiv:1706.03762, 5.3
  double weight_decay = 0.01;
};

/// m = beta1 m + (1 - beta1) g     v = beta2 v + (1 - beta2) g^2
/// w -= rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + weight_decay w)
template <class T>
class adamw {
 public:
  adamw(std::span<const parameter<T>> parameters, adamw_options options = {}) : options_(options) {
    for (const auto& p : parameters) {
      first_.push_back(Matrix<T>::Zero(p.value.rows(), p.value.cols()));
      second_.push_back(first_.back());
      names_.push_back(p.name);
    }
  }

  /// One step along the gradients, which stay as they are.
  void step(std::span<parameter<T>> parameters, double rate) {
    if (parameters.size() != first_.size())
      throw std::invalid_argument("an optimiser of " + std::to_string(first_.size()) + " parameters got " +
                                  std::to_string(parameters.size()));
    ++steps_;
    for (std::size_t i = 0; i < parameters.size(); ++i)
      update(parameters[i], first_[i].array(), second_[i].array(), rate);
  }

  std::int64_t steps() const { return steps_; }

  /// What a checkpoint keeps beside the model: f(name, matrix&) for the moments, and the number of steps.
  void each_state(const auto& f) {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      f("adamw.first." + names_[i], first_[i]);
      f("adamw.second." + names_[i], second_[i]);
    }
  }
  void resume(std::int64_t steps) { steps_ = steps; }

 private:
  void update(parameter<T>& p, auto m, auto v, double rate) const {
    const auto t = static_cast<double>(steps_);
    const T b1 = static_cast<T>(options_.beta1), b2 = static_cast<T>(options_.beta2);
    const T pace = static_cast<T>(rate / (1 - std::pow(options_.beta1, t)));
    const T unbias = static_cast<T>(1 / (1 - std::pow(options_.beta2, t)));
    const T kept = p.decays() ? static_cast<T>(1 - rate * options_.weight_decay) : T(1);
    const T epsilon = static_cast<T>(options_.epsilon);
    auto w = p.value.array();
    const auto g = p.gradient.array();
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g.square();
    w = kept * w - pace * m / ((v * unbias).sqrt() + epsilon);
  }

  adamw_options options_;
  std::vector<Matrix<T>> first_, second_;
  std::vector<std::string> names_;
  std::int64_t steps_ = 0;
};

}  // namespace transformer
