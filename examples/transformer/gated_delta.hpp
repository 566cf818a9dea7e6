// transformer/gated_delta.hpp - a layer with a state in place of attention: Gated DeltaNet (Yang, Kautz and
// Hatamizadeh, "Gated Delta Networks", arXiv:2412.06464, section 3.4), by fovea::short_convolution and
// fovea::linear_attention.
//
//   q, k, v = silu(convolution(W x))        z = W_z x
//   beta = sigmoid(W_b x + b_b)             log decay = -exp(A) softplus(W_a x + b_a)      a number a head
//   o = the gated delta rule of q / |q|, k / |k|, v      y = W_o (norm(o) * silu(z))       norm: a head's
//
// A token reads itself and those before it in its sequence, in time linear in their number. An encoder's
// tokens read both sides: bidirectional<gated_delta<T>>.
#pragma once

#include "activation.hpp"
#include "linear.hpp"
#include "rms_norm.hpp"

#include <fovea/multi_head/token_rows.hpp>
#include <fovea/short_convolution.hpp>

#include <algorithm>

namespace transformer {

struct gated_delta_options {
  Index width = 0;               // of x and y
  Index heads = 1;               // each with a state of dim x value_dim
  Index dim = 0, value_dim = 0;  // 0: width / heads; dim
  Index kernel = 4;              // tokens that the convolution sums

  Index keys() const { return heads * (dim > 0 ? dim : width / heads); }
  Index values() const { return value_dim > 0 ? heads * value_dim : keys(); }
};

template <class T>
struct gated_delta {
  using matrix = Matrix<T>;
  using tokens = fovea::token_rows<T>;

  gated_delta_options sizes;
  linear<T> inputs;    // q, k, v of all heads, then z
  linear<T> rates;     // of each head's decay, then of its delta rule
  matrix convolution;  // kernel x the columns of q, k and v
  Row<T> log_rate;     // A, a head
  rms_norm<T> norm;    // one gain for all heads
  linear<T> out;

  struct saved {
    std::vector<fovea::index_type> offsets;
    typename linear<T>::saved in, out;  // x; norm(o) * silu(z)
    matrix projected, convolved;        // q, k, v, z before the convolution; q, k, v after it
    matrix rates, decay, beta;          // W_a x + b_a and W_b x + b_b; what becomes of them
    matrix normed;                      // norm(o)
    typename rms_norm<T>::saved norm;
  };

  gated_delta() = default;
  /// At random as in Mamba 2 (Dao and Gu, arXiv:2405.21060), whose code has exp(A) from 1 on: here it is
  /// uniform within 0 and 16 (0.016 at least); softplus(b_a) within 0.001 and 0.1 by its logarithm. Where
  /// W_a x is 0 a head then forgets between 1 in 62,500 (1 - exp(-0.016 * 0.001)) and 80 % (1 - exp(-1.6)) a
  /// token.
  gated_delta(const gated_delta_options& o, std::uint64_t key)
      : sizes(o),
        inputs(o.width, 2 * (o.keys() + o.values()), random_key(key, 0), false),
        rates(o.width, 2 * o.heads, random_key(key, 1)),
        convolution(uniform_matrix<T>(o.kernel, 2 * o.keys() + o.values(),
                                      1 / std::sqrt(static_cast<double>(o.kernel)), random_key(key, 2))),
        log_rate(o.heads),
        norm(o.values() / o.heads),
        out(o.values(), o.width, random_key(key, 3), false) {
    random_stream stream(random_key(key, 4));
    for (Index h = 0; h < o.heads; ++h) {
      log_rate(h) = static_cast<T>(std::log(16 * std::max(stream.unit(), 1e-3)));
      const double step = 1e-3 * std::pow(100., stream.unit());
      rates.bias(h) = static_cast<T>(std::log(std::expm1(step)));
    }
  }

  /// x: tokens x width, of one sequence, or {x, offsets} of several, one right after another.
  matrix operator()(const tokens& x) const {
    saved unused;
    return (*this)(x, unused);
  }

  matrix operator()(const tokens& x, saved& s) const {
    x.check("x", sizes.width);
    s.offsets = x.starts();
    if (s.offsets.back() != x.count())
      throw std::invalid_argument("x has " + std::to_string(x.count()) + " rows, its sequences " +
                                  std::to_string(s.offsets.back()));
    matrix room;
    s.projected = inputs(matrix(x.rows(room)), s.in);
    const auto before = s.projected.leftCols(convolution.cols());
    s.convolved.resize(before.rows(), before.cols());
    convolve().into(at(s.convolved, s), at(before, s), convolution);
    s.rates = rates(s.in.x);
    s.decay = (softplus(s.rates.leftCols(sizes.heads)).rowwise() * -log_rate.array().exp()).matrix();
    s.beta = s.rates.rightCols(sizes.heads).array().logistic();

    matrix o(s.projected.rows(), sizes.values());
    const auto q = queries(s.convolved), k = keys(s.convolved), v = values(s.convolved);
    const fovea::ragged decay{s.decay, s.offsets}, beta{s.beta, s.offsets};
    recall().into(at(o, s), at(q, s), at(k, s), at(v, s), fovea::log_decay(decay), fovea::delta_rule(beta));
    s.normed = by_tokens(norm(by_heads(std::move(o)), s.norm));
    matrix gate(s.normed.rows(), s.normed.cols());
    silu::apply(s.projected.rightCols(sizes.values()), gate);
    return out(gate.cwiseProduct(s.normed), s.out);
  }

  matrix backward(const matrix& dy, const saved& s, gated_delta& gradient) const {
    matrix d_normed = out.backward(dy, s.out, gradient.out), d_gate = d_normed.cwiseProduct(s.normed);
    const auto z = s.projected.rightCols(sizes.values());
    silu::backward(z, d_gate);
    d_normed.array() *= z.array() * z.array().logistic();
    const matrix d_o = by_tokens(norm.backward(by_heads(std::move(d_normed)), s.norm, gradient.norm));

    matrix d_convolved(s.convolved.rows(), s.convolved.cols());
    matrix d_decay(s.decay.rows(), s.decay.cols()), d_beta(s.beta.rows(), s.beta.cols());
    auto d_q = queries(d_convolved), d_k = keys(d_convolved), d_v = values(d_convolved);
    const auto q = queries(s.convolved), k = keys(s.convolved), v = values(s.convolved);
    const fovea::ragged decay{s.decay, s.offsets}, beta{s.beta, s.offsets};
    fovea::ragged to_decay{d_decay, s.offsets}, to_beta{d_beta, s.offsets};
    recall().backward_into(at(d_q, s), at(d_k, s), at(d_v, s), at(q, s), at(k, s), at(v, s), at(d_o, s),
                           fovea::log_decay(decay, to_decay), fovea::delta_rule(beta, to_beta));

    matrix d_projected(s.projected.rows(), s.projected.cols()),
        d_weights(convolution.rows(), convolution.cols());
    d_projected.rightCols(sizes.values()) = d_gate;
    auto d_before = d_projected.leftCols(convolution.cols());
    const auto before = s.projected.leftCols(convolution.cols());
    convolve().backward_into(at(d_before, s), d_weights, at(before, s), convolution, at(d_convolved, s));
    gradient.convolution += d_weights;
    gradient.log_rate += d_decay.cwiseProduct(s.decay).colwise().sum();
    matrix d_rates(s.rates.rows(), s.rates.cols());
    d_rates.leftCols(sizes.heads) =
        ((d_decay.array() * s.rates.leftCols(sizes.heads).array().logistic()).rowwise() *
         -log_rate.array().exp())
            .matrix();
    d_rates.rightCols(sizes.heads) = d_beta.array() * s.beta.array() * (T(1) - s.beta.array());
    matrix d_x = inputs.backward(d_projected, s.in, gradient.inputs);
    d_x += rates.backward(d_rates, s.in, gradient.rates);
    return d_x;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    linear<T>::each_parameter(part(name, "inputs"), f, of.inputs...);
    linear<T>::each_parameter(part(name, "rates"), f, of.rates...);
    f(part(name, "convolution"), of.convolution...);
    f(part(name, "log_rate"), of.log_rate...);
    rms_norm<T>::each_parameter(part(name, "norm"), f, of.norm...);
    linear<T>::each_parameter(part(name, "out"), f, of.out...);
  }

 private:
  fovea::short_convolution<T> convolve() const { return fovea::short_convolution<T>({.heads = 1}); }
  fovea::linear_attention<T> recall() const {
    return fovea::linear_attention<T>({.heads = sizes.heads, .l2_norm = true});
  }

  static auto at(auto& rows, const saved& s) { return fovea::ragged{rows, s.offsets}; }
  auto queries(auto& of) const { return of.leftCols(sizes.keys()); }
  auto keys(auto& of) const { return of.middleCols(sizes.keys(), sizes.keys()); }
  auto values(auto& of) const { return of.rightCols(sizes.values()); }

  /// The same numbers with a row a token and head, and back.
  matrix by_heads(matrix x) const {
    x.resize(x.rows() * sizes.heads, x.cols() / sizes.heads);
    return x;
  }
  matrix by_tokens(matrix x) const {
    x.resize(x.rows() / sizes.heads, x.cols() * sizes.heads);
    return x;
  }
  /// log(1 + exp(x)), where exp(x) would overflow as well.
  static auto softplus(const auto& x) { return x.array().cwiseMax(T(0)) + (-x.array().abs()).exp().log1p(); }
};

/// y = ahead(x) + back(x read from the end): two layers that each read one way, as in Schuster and Paliwal,
/// "Bidirectional recurrent neural networks" (1997), and, of layers with a state, Vision Mamba
/// (arXiv:2401.09417). With half the heads each, the sum of two W_o is one W_o over the heads of both.
template <class Layer>
struct bidirectional {
  using matrix = typename Layer::matrix;
  using tokens = typename Layer::tokens;

  Layer ahead, back;

  struct saved {
    typename Layer::saved ahead, back;
  };

  matrix operator()(const tokens& x) const {
    saved unused;
    return (*this)(x, unused);
  }
  matrix operator()(const tokens& x, saved& s) const {
    // All rows in reverse: each sequence from its end, the last sequence first.
    matrix room;
    const matrix turned = x.rows(room).colwise().reverse();
    std::vector<fovea::index_type> from = x.starts();
    std::ranges::reverse(from);
    for (auto& start : from) start = x.count() - start;
    matrix y = ahead(x, s.ahead);
    y += back({turned, from}, s.back).colwise().reverse();
    return y;
  }
  matrix backward(const matrix& dy, const saved& s, bidirectional& gradient) const {
    matrix dx = ahead.backward(dy, s.ahead, gradient.ahead);
    dx += back.backward(dy.colwise().reverse(), s.back, gradient.back).colwise().reverse();
    return dx;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    Layer::each_parameter(part(name, "ahead"), f, of.ahead...);
    Layer::each_parameter(part(name, "back"), f, of.back...);
  }
};

/// Layers of half the heads each way, with weights at random.
inline bidirectional<gated_delta<float>> random_attention(const gated_delta_options& of_both,
                                                          std::uint64_t key) {
  gated_delta_options one = of_both;
  one.dim = of_both.keys() / of_both.heads, one.value_dim = of_both.values() / of_both.heads;
  one.heads = of_both.heads / 2;
  if (one.heads * 2 != of_both.heads)
    throw std::invalid_argument("heads is " + std::to_string(of_both.heads) + ", not twice a number");
  return {{one, random_key(key, 0)}, {one, random_key(key, 1)}};
}

}  // namespace transformer
