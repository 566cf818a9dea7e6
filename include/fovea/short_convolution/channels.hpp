// fovea/short_convolution/channels.hpp - the channels of a head, convolved and differentiated row by row.
#pragma once

#include <fovea/kernel/tile/sigmoid.hpp>
#include <fovea/linear/call.hpp>

#include <array>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// One row a head, added to each token; `d_b` gets its gradient.
template <class M, class D = no_gradient>
struct convolution_bias : linear_operand<M, D> {
  using is_convolution_bias = void;
  using linear_operand<M, D>::linear_operand;
};
template <class X>
explicit convolution_bias(X&&) -> convolution_bias<std::remove_reference_t<X>>;
template <class X, class Y>
convolution_bias(X&&, Y&&) -> convolution_bias<std::remove_reference_t<X>, std::remove_reference_t<Y>>;

/// The K - 1 tokens before the first one, the oldest first; a call puts its own last ones there.
template <class M, class D = no_gradient>
struct convolution_state : linear_operand<M, D> {
  using is_convolution_state = void;
  using linear_operand<M, D>::linear_operand;
};
template <class X>
explicit convolution_state(X&&) -> convolution_state<std::remove_reference_t<X>>;
template <class X, class Y>
convolution_state(X&&, Y&&) -> convolution_state<std::remove_reference_t<X>, std::remove_reference_t<Y>>;

template <class M>
concept convolution_bias_like = requires { typename std::remove_cvref_t<M>::is_convolution_bias; };
template <class M>
concept convolution_state_like = requires { typename std::remove_cvref_t<M>::is_convolution_state; };

namespace convolution {

inline constexpr index_type most = 8;  // rows of w
enum class operand { bias, state };

template <operand Which, class M>
inline constexpr bool is = Which == operand::bias ? convolution_bias_like<M> : convolution_state_like<M>;

/// The view of the modifier that is such an operand, or none.
template <operand Which, class Otherwise>
sequences<Otherwise> operand_of(index_type) noexcept {
  return {};
}
template <operand Which, class Otherwise, class M, class... Mods>
auto operand_of(index_type heads, const M& m, const Mods&... mods) {
  if constexpr (!is<Which, M>)
    return operand_of<Which, Otherwise>(heads, mods...);
  else if constexpr (Which == operand::bias)
    return read_only(view_of(m.numbers, heads, "convolution_bias"));
  else
    return view_of(m.numbers, heads, "convolution_state");
}

/// Where its gradient goes, or none.
template <operand Which, class Otherwise>
sequences<Otherwise> gradient_of(index_type) noexcept {
  return {};
}
template <operand Which, class Otherwise, class M, class... Mods>
auto gradient_of(index_type heads, const M& m, const Mods&... mods) {
  if constexpr (!is<Which, M>)
    return gradient_of<Which, Otherwise>(heads, mods...);
  else if constexpr (std::is_same_v<std::remove_cvref_t<decltype(m.gradient)>, no_gradient>)
    return sequences<Otherwise>{};
  else
    return view_of(m.gradient, heads, Which == operand::bias ? "d_convolution_bias" : "d_convolution_state");
}

template <class T, class X, class W, class B, class S>
struct call {
  using compute = T;
  sequences<const X> x;
  sequences<const W> w;
  sequences<const B> bias;
  sequences<S> state;
  bool silu;

  index_type kernel() const noexcept { return w.all.tokens; }
  /// f(name, view) for what is only read.
  template <class F>
  void each_read(const F& f) const {
    f("x", x), f("w", w);
    if (bias.all.data) f("convolution_bias", bias);
  }
};

template <class Call, class S>
void check_state(const char* name, const Call& c, const sequences<S>& state) {
  check_same(name, "sequences", state.batches(), "x", c.x.batches());
  if (state.all.tokens != c.kernel() - 1 || state.all.dim != c.x.dim())
    reject(name, " has ", state.all.tokens, " x ", state.all.dim, " numbers a head, not ", c.kernel() - 1,
           " x ", c.x.dim());
}

/// A head: rows are whole registers, 0 beyond its columns.
template <class Arch, class Call>
class channels {
  using T = typename Call::compute;
  using R = xsimd::batch<T, Arch>;
  static constexpr index_type n = static_cast<index_type>(R::size);

 public:
  channels(const Call& c, index_type head)
      : c_(c), h_(head), dim_(c.x.dim()), step_(round_up(std::max<index_type>(dim_, 1), n)), k_(c.kernel()) {
    w_ = zeros(k_), bias_ = zeros(1);
    for (index_type i = 0; i < k_; ++i) load(c.w.head(0, h_), i, &w_[at(i)]);
    if (c.bias.all.data) load(c.bias.head(0, h_), 0, bias_.data());
  }

  template <class Y>
  void forward(index_type b, const sequences<Y>& y) const {
    const auto x = rows_of(b);
    std::vector<T> p = zeros(1);
    const auto to = y.head(b, h_);
    for (index_type t = 0; t < tokens(b); ++t) {
      sum(&x[at(t)], p.data());
      for (index_type c = 0; c_.silu && c < step_; c += n) {
        const R v = R::load_unaligned(&p[index(c)]);
        (v * sigmoid(v)).store_unaligned(&p[index(c)]);
      }
      store_elements(p.data(), dim_, to.at(t), to.col_stride);
    }
    if constexpr (!std::is_const_v<std::remove_pointer_t<decltype(c_.state.all.data)>>)
      if (c_.state.all.data) {
        const auto state = c_.state.head(b, h_);
        for (index_type i = 0; i + 1 < k_; ++i)
          store_elements(&x[at(tokens(b) + i)], dim_, state.at(i), state.col_stride);
      }
  }

  /// Sequences one after another, so that sums over them are the same for any executor.
  ///   d_p = d_y (s + p s (1 - s)), s = sigmoid(p)    d_x_t = sum_i w_i d_p_(t + K - 1 - i)
  ///   d_w_i = sum_t d_p_t x_(t - K + 1 + i)
  template <class G, class DX, class DW, class DB, class DS>
  void backward(const sequences<const G>& d_y, const sequences<DX>& d_x, const sequences<DW>& d_w,
                const sequences<DB>& d_bias, const sequences<DS>& d_state) const {
    std::vector<T> by_w = zeros(k_), by_bias = zeros(1), p = zeros(1), g = zeros(1);
    for (index_type b = 0; b < c_.x.batches(); ++b) {
      const auto x = rows_of(b);
      std::vector<T> by_x = zeros(tokens(b) + k_ - 1);  // the state's rows in front
      if (d_state.all.data)
        for (index_type i = 0; i + 1 < k_; ++i) load(d_state.head(b, h_), i, &by_x[at(tokens(b) + i)]);
      for (index_type t = 0; t < tokens(b); ++t) {
        load(d_y.head(b, h_), t, g.data());
        if (c_.silu) sum(&x[at(t)], p.data());
        for (index_type c = 0; c < step_; c += n) {
          R by_p = R::load_unaligned(&g[index(c)]);
          if (c_.silu) {
            const R v = R::load_unaligned(&p[index(c)]), s = sigmoid(v);
            by_p = by_p * (s + v * s * (R(T(1)) - s));
          }
          add(by_p, R(T(1)), &by_bias[index(c)]);
          for (index_type i = 0; i < k_; ++i) {
            add(by_p, R::load_unaligned(&x[at(t + i) + index(c)]), &by_w[at(i) + index(c)]);
            add(by_p, R::load_unaligned(&w_[at(i) + index(c)]), &by_x[at(t + i) + index(c)]);
          }
        }
      }
      const auto store = [&](const auto& to, index_type row, index_type from) {
        store_elements(&by_x[at(from)], dim_, to.at(row), to.col_stride);
      };
      for (index_type t = 0; t < tokens(b); ++t) store(d_x.head(b, h_), t, t + k_ - 1);
      for (index_type i = 0; d_state.all.data && i + 1 < k_; ++i) store(d_state.head(b, h_), i, i);
    }
    for (index_type i = 0; i < k_; ++i)
      store_elements(&by_w[at(i)], dim_, d_w.head(0, h_).at(i), d_w.head(0, h_).col_stride);
    if (d_bias.all.data)
      store_elements(by_bias.data(), dim_, d_bias.head(0, h_).at(0), d_bias.head(0, h_).col_stride);
  }

 private:
  static std::size_t index(index_type i) noexcept { return static_cast<std::size_t>(i); }
  std::size_t at(index_type row) const noexcept { return index(row * step_); }
  std::vector<T> zeros(index_type rows) const { return std::vector<T>(index(rows * step_), T(0)); }
  index_type tokens(index_type b) const noexcept { return c_.x.tokens(b); }
  static R sigmoid(const R& v) noexcept { return kernel::sigmoid<Arch, T>(v); }
  static void add(const R& a, const R& b, T* to) noexcept {
    xsimd::fma(a, b, R::load_unaligned(to)).store_unaligned(to);
  }
  template <class E>
  void load(const matrix_view<E>& from, index_type row, T* to) const noexcept {
    load_elements(from.at(row), from.col_stride, dim_, to);
  }

  /// The state's K - 1 rows, or zeros, and those of x after them.
  std::vector<T> rows_of(index_type b) const {
    std::vector<T> rows = zeros(tokens(b) + k_ - 1);
    for (index_type i = 0; c_.state.all.data && i + 1 < k_; ++i) load(c_.state.head(b, h_), i, &rows[at(i)]);
    for (index_type t = 0; t < tokens(b); ++t) load(c_.x.head(b, h_), t, &rows[at(t + k_ - 1)]);
    return rows;
  }

  /// p = bias + sum_i w_i times row i of `rows`.
  void sum(const T* rows, T* p) const noexcept {
    for (index_type c = 0; c < step_; c += n) {
      R total = R::load_unaligned(&bias_[index(c)]);
      for (index_type i = 0; i < k_; ++i)
        total = xsimd::fma(R::load_unaligned(&w_[at(i) + index(c)]), R::load_unaligned(rows + i * step_ + c),
                           total);
      total.store_unaligned(p + c);
    }
  }

  const Call& c_;
  index_type h_, dim_, step_, k_;
  std::vector<T> w_, bias_;
};

}  // namespace convolution
FOVEA_NAMESPACE_END
