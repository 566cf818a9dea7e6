// transformer/feed_forward.hpp - the two or three products between attentions: plain, and gated.
#pragma once

#include "activation.hpp"
#include "linear.hpp"

namespace transformer {

/// narrow(activation(widen(x)))
template <class T, class Activation = gelu>
struct feed_forward {
  linear<T> widen, narrow;

  struct saved {
    typename linear<T>::saved widen, narrow;
    Matrix<T> before;  // the activation
  };

  feed_forward() = default;
  feed_forward(Index channels, Index inner, std::uint64_t key)
      : widen(channels, inner, random_key(key, 0)), narrow(inner, channels, random_key(key, 1)) {}

  Matrix<T> operator()(const Matrix<T>& x) const {
    Matrix<T> h = widen(x);
    Activation::apply(h, h);
    return narrow(h);
  }

  Matrix<T> operator()(Matrix<T> x, saved& s) const {
    s.before = widen(std::move(x), s.widen);
    s.narrow.x.resize(s.before.rows(), s.before.cols());
    Activation::apply(s.before, s.narrow.x);
    return narrow(s.narrow.x);
  }

  Matrix<T> backward(const Matrix<T>& dy, const saved& s, feed_forward& gradient) const {
    Matrix<T> dh = narrow.backward(dy, s.narrow, gradient.narrow);
    Activation::backward(s.before, dh);
    return widen.backward(dh, s.widen, gradient.widen);
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    linear<T>::each_parameter(part(name, "widen"), f, of.widen...);
    linear<T>::each_parameter(part(name, "narrow"), f, of.narrow...);
  }
};

/// down(activation(gate(x)) * up(x)), without biases. With silu this is SwiGLU: Shazeer, arXiv:2002.05202.
template <class T, class Activation = silu>
struct gated_feed_forward {
  linear<T> gate, up, down;

  struct saved {
    typename linear<T>::saved gate, down;
    Matrix<T> before, opened, carried;  // gate(x), activation(gate(x)), up(x)
  };

  gated_feed_forward() = default;
  gated_feed_forward(Index channels, Index inner, std::uint64_t key)
      : gate(channels, inner, random_key(key, 0), false),
        up(channels, inner, random_key(key, 1), false),
        down(inner, channels, random_key(key, 2), false) {}

  Matrix<T> operator()(const Matrix<T>& x) const {
    Matrix<T> h = gate(x);
    Activation::apply(h, h);
    h.array() *= up(x).array();
    return down(h);
  }

  Matrix<T> operator()(Matrix<T> x, saved& s) const {
    s.before = gate(std::move(x), s.gate);
    s.carried = up(s.gate.x);
    s.opened.resize(s.before.rows(), s.before.cols());
    Activation::apply(s.before, s.opened);
    s.down.x = s.opened.cwiseProduct(s.carried);
    return down(s.down.x);
  }

  Matrix<T> backward(const Matrix<T>& dy, const saved& s, gated_feed_forward& gradient) const {
    Matrix<T> dgate = down.backward(dy, s.down, gradient.down);
    const Matrix<T> dup = dgate.cwiseProduct(s.opened);
    dgate.array() *= s.carried.array();
    Activation::backward(s.before, dgate);
    Matrix<T> dx = gate.backward(dgate, s.gate, gradient.gate);
    dx += up.backward(dup, s.gate, gradient.up);
    return dx;
  }

  static void each_parameter(const std::string& name, const auto& f, auto&... of) {
    linear<T>::each_parameter(part(name, "gate"), f, of.gate...);
    linear<T>::each_parameter(part(name, "up"), f, of.up...);
    linear<T>::each_parameter(part(name, "down"), f, of.down...);
  }
};

}  // namespace transformer
