// fovea/additive/scorer.hpp - the logits of additive attention, v^T tanh(z_q + z_k), of projected queries and
// keys: the scorer of Bahdanau et al. and of Luong et al.'s concat.
#pragma once

#include <fovea/kernel/tile/tanh.hpp>
#include <fovea/roles/concept.hpp>

#include <array>
#include <cmath>

FOVEA_NAMESPACE_BEGIN

/// v, `hidden` numbers a head, and where dL / dv goes: null, it is not wanted.
template <class T>
struct additive_parameters {
  index_type hidden;
  const T* v;
  double* d_v = nullptr;

  additive_parameters of_head(index_type head) const noexcept { return {hidden, v + head * hidden}; }
  index_type channels() const noexcept { return hidden; }
  T parameter(index_type c) const noexcept { return v[c]; }
  void set_gradient(index_type head, index_type c, double slope) const noexcept {
    if (d_v != nullptr) d_v[head * hidden + c] = slope;
  }
};

/// a b + c, a / b and tanh a of a number or a register.
template <class V>
struct additive_arithmetic {
  static V fma(const V& a, const V& b, const V& c) noexcept { return a * b + c; }
  static V quotient(const V& a, const V& b) noexcept { return a / b; }
  static V tanh(const V& a) noexcept { return std::tanh(a); }
};
template <class V>
  requires requires { typename V::arch_type; }
struct additive_arithmetic<V> : kernel::isa<typename V::arch_type> {
  static V tanh(const V& a) noexcept {
    return kernel::tanh<typename V::arch_type, typename V::value_type>(a);
  }
};

/// Of z_q and z_k as they are: sum_c v_c tanh(q_c + k_c).
template <class T>
struct tanh_scorer : additive_parameters<T> {
  using is_scorer = void;
  tanh_scorer bind(const place& at) const noexcept { return {this->of_head(at.head)}; }

  template <class V>
  V add(const V& sum, const V& q, const V& k, const V& factor) const noexcept {
    using of = additive_arithmetic<V>;
    return of::fma(factor, of::tanh(q + k), sum);
  }
  template <class V>
  std::array<V, 3> slopes(const V& q, const V& k, const V& factor) const noexcept {
    const V t = additive_arithmetic<V>::tanh(q + k), slope = factor * (V(1) - t * t);
    return {slope, slope, t};
  }
};

/// Of exp(2 z_q) and exp(2 z_k), a number a token and channel, in place of an exponential a cell and channel:
///   tanh(z_q + z_k) = 1 - 2 / (1 + exp(2 z_q) exp(2 z_k))
/// to 4 units in the last place of 1. For |z_q| <= largest_query; z_k is taken for the nearest number within
/// largest_key, which changes nothing, as tanh is 1 or -1 beyond it. No product is 0 or infinite. Slopes are
/// by z.
template <class T>
struct exponential_scorer : additive_parameters<T> {
  using is_scorer = void;
  static constexpr T largest_query = sizeof(T) == 4 ? T(17) : T(166),
                     largest_key = sizeof(T) == 4 ? T(27) : T(186);
  exponential_scorer bind(const place& at) const noexcept { return {this->of_head(at.head)}; }

  template <class V>
  V add(const V& sum, const V& q, const V& k, const V& factor) const noexcept {
    using of = additive_arithmetic<V>;
    return of::fma(factor, of::fma(V(-2), reciprocal(of::fma(q, k, V(1))), V(1)), sum);
  }
  template <class V>
  std::array<V, 3> slopes(const V& q, const V& k, const V& factor) const noexcept {
    const V e = q * k, r = reciprocal(V(1) + e),
            slope = V(4) * factor * (e * r) * r;  // 1 - t^2 = 4 e / (1 + e)^2
    return {slope, slope, V(1) - V(2) * r};
  }

 private:
  template <class V>
  static V reciprocal(const V& x) noexcept {
    return additive_arithmetic<V>::quotient(V(1), x);
  }
};

/// Of each sequence whichever of the two its projections are for, so that its bits are those of its own.
template <class T>
struct additive_scorer : additive_parameters<T> {
  using is_scorer = void;
  const unsigned char* exponential;  // of each sequence: its projections are exp(2 z)

  struct bound {
    additive_parameters<T> of_head;
    bool exponential;
    void chosen(const auto& f) const noexcept {
      exponential ? f(exponential_scorer<T>{of_head}) : f(tanh_scorer<T>{of_head});
    }
  };
  bound bind(const place& at) const noexcept { return {this->of_head(at.head), exponential[at.batch] != 0}; }
  void chosen(const place& at, const auto& f) const noexcept {
    bound{*this, exponential[at.batch] != 0}.chosen(f);
  }
};

FOVEA_NAMESPACE_END
