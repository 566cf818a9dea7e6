// transformer/parameter.hpp - matrices, and what optimisers, clipping and checkpoints see of a model.
//
// A module (linear, layer_norm, a whole model) is a plain value: matrices, and modules of them. The gradient
// of a module is a second value of the same type. So threads share one model read-only, and write a gradient
// and what they save each:
//
//   y  = module(x)                              inference
//   y  = module(x, saved)                       training; `saved` keeps what backward needs. Moved x: no copy
//   dx = module.backward(dy, saved, gradient)   adds to the parameters of `gradient`
//
// Rows are tokens, columns channels; sequences lie one after another in the rows. A module names its
// parameters by
//
//   static void each_parameter(const std::string& name, const auto& f, auto&... modules)
//
// which calls f(name of the parameter, the parameter of each of `modules`...): one module is enough to save a
// model, a model and its gradient to clip, and so on.
#pragma once

#include <Eigen/Core>

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace transformer {

using Eigen::Index;

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Row = Eigen::Matrix<T, 1, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Column = Eigen::Matrix<T, Eigen::Dynamic, 1>;

/// A named parameter of a model, and its gradient: views of matrices that others own.
template <class T>
struct parameter {
  std::string name;
  Eigen::Map<Matrix<T>> value, gradient;

  /// Gains and biases, which are one row, are left out of weight decay.
  bool decays() const { return value.rows() > 1; }
};

/// The parameters of a model with their gradients. The list is good as long as the memory of both is the
/// same: write into it (set_zero, p.value = x); another value assigned to a matrix of the model may bring its
/// own memory.
template <class T, class Module>
std::vector<parameter<T>> parameters_of(Module& model, Module& gradient) {
  std::vector<parameter<T>> all;
  const auto map = [](auto& m) { return Eigen::Map<Matrix<T>>(m.data(), m.rows(), m.cols()); };
  const auto add = [&](const std::string& name, auto& value, auto& slope) {
    if (value.rows() != slope.rows() || value.cols() != slope.cols())
      throw std::invalid_argument("the gradient of " + name + " has another shape than its value");
    all.push_back({name, map(value), map(slope)});
  };
  Module::each_parameter("", add, model, gradient);
  return all;
}

/// The name of a part of a module.
inline std::string part(const std::string& module, const std::string& name) {
  return module.empty() ? name : module + "." + name;
}

template <class Module>
void set_zero(Module& gradient) {
  Module::each_parameter(
      "", [](const std::string&, auto& g) { g.setZero(); }, gradient);
}

/// A gradient for `model`, zero.
template <class Module>
Module zeros_like(const Module& model) {
  Module gradient = model;
  set_zero(gradient);
  return gradient;
}

/// to += from. Gradients of parts of a batch, added in a fixed order, don't depend on the threads that made
/// them.
template <class Module>
void add(Module& to, const Module& from) {
  Module::each_parameter(
      "", [](const std::string&, auto& a, const auto& b) { a += b; }, to, from);
}

/// How many numbers a model learns.
template <class Module>
Index parameter_count(const Module& model) {
  Index count = 0;
  Module::each_parameter(
      "", [&](const std::string&, const auto& p) { count += p.size(); }, model);
  return count;
}

}  // namespace transformer
