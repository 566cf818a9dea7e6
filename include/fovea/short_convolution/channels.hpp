// fovea/short_convolution/channels.hpp - the channels of a head, convolved and differentiated row by row.
#pragma once

#include <fovea/kernel/tile/sigmoid.hpp>
#include <fovea/linear/call.hpp>
#include <fovea/linear/recurrence.hpp>

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
  static constexpr index_type n = static_cast<index_type>(R::size), at_once = 64;  // tokens
  // Rows that lie apart are asked for so many tokens ahead: no processor guesses them.
  static constexpr index_type ahead = 16, line = 64 / static_cast<index_type>(sizeof(T));

 public:
  channels(const Call& c, index_type head)
      : c_(c), h_(head), dim_(c.x.dim()), step_(round_up(std::max<index_type>(dim_, 1), n)), k_(c.kernel()) {
    w_ = zeros(k_), bias_ = zeros(1);
    for (index_type i = 0; i < k_; ++i) load(c.w.head(0, h_), i, &w_[at(i)]);
    if (c.bias.all.data) load(c.bias.head(0, h_), 0, bias_.data());
  }

  /// Rows of x and y where they lie, if these are whole registers of T (copies of them took half of the
  /// time); else, and where a window begins before the first token, some tokens at a time through copies.
  template <class Y>
  void forward(index_type b, const sequences<Y>& y) const {
    const auto from = c_.x.head(b, h_);
    const auto to = y.head(b, h_);
    const T* const x_first = in_place(from);
    T* const y_first = in_place(to);
    std::vector<T> x = zeros(at_once + k_ - 1), out = zeros(at_once);
    const std::vector<T> last = last_rows(b);
    load_state(b, x.data());
    for (index_type first = 0, count = 0; first < tokens(b); first += count) {
      const index_type left = tokens(b) - first;
      const bool reads_x = x_first && first >= k_ - 1;
      count = reads_x && y_first ? left : std::min(left, first < k_ - 1 ? k_ - 1 - first : at_once);
      for (index_type t = 0; t < count && !reads_x; ++t) load(from, first + t, &x[at(t + k_ - 1)]);
      const T* const window = reads_x ? x_first + (first - k_ + 1) * from.row_stride : x.data();
      T* const written = y_first ? y_first + first * to.row_stride : out.data();
      linear::with_registers<most>(k_, [&](auto kernel) {
        rows<kernel>(window, reads_x ? from.row_stride : step_, count, written,
                     y_first ? to.row_stride : step_);
      });
      for (index_type t = 0; t < count && !y_first; ++t)
        store_elements(&out[at(t)], dim_, to.at(first + t), to.col_stride);
      if (!reads_x) std::copy_n(&x[at(count)], at(k_ - 1), x.data());
    }
    if constexpr (!std::is_const_v<std::remove_pointer_t<decltype(c_.state.all.data)>>)
      if (c_.state.all.data) {
        const auto state = c_.state.head(b, h_);
        for (index_type i = 0; i + 1 < k_; ++i)
          store_elements(&last[at(i)], dim_, state.at(i), state.col_stride);
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

  /// Where the elements of a matrix begin, if its rows are whole registers of T.
  template <class E>
  auto in_place(const matrix_view<E>& m) const noexcept {
    using pointer = std::conditional_t<std::is_const_v<E>, const T*, T*>;
    if constexpr (std::is_same_v<std::remove_const_t<E>, T>)
      if (m.col_stride == 1 && dim_ == step_) return pointer(m.data);
    return pointer(nullptr);
  }

  /// The state's K - 1 rows; what there is none of stays as it is.
  void load_state(index_type b, T* rows) const noexcept {
    for (index_type i = 0; c_.state.all.data && i + 1 < k_; ++i)
      load(c_.state.head(b, h_), i, rows + i * step_);
  }
  /// The K - 1 rows before what comes after x.
  std::vector<T> last_rows(index_type b) const {
    std::vector<T> rows = zeros(2 * (k_ - 1));
    load_state(b, rows.data());
    const index_type count = std::min(tokens(b), k_ - 1);
    for (index_type t = 0; t < count; ++t)
      load(c_.x.head(b, h_), tokens(b) - count + t, &rows[at(t + k_ - 1)]);
    rows.erase(rows.begin(), rows.begin() + count * step_);
    return rows;
  }

  /// The state's K - 1 rows, or zeros, and those of x after them.
  std::vector<T> rows_of(index_type b) const {
    std::vector<T> rows = zeros(tokens(b) + k_ - 1);
    load_state(b, rows.data());
    for (index_type t = 0; t < tokens(b); ++t) load(c_.x.head(b, h_), t, &rows[at(t + k_ - 1)]);
    return rows;
  }

  /// `count` rows of y, from those of their windows.
  template <int Kernel>
  FOVEA_NOINLINE FOVEA_FLATTEN void rows(const T* x, index_type x_step, index_type count, T* out,
                                         index_type out_step) const noexcept {
    for (index_type t = 0; t < count; ++t, x += x_step, out += out_step) {
      if (t + ahead < count && x_step != step_)
        for (index_type c = 0; c < step_; c += line)
          FOVEA_PREFETCH(x + (Kernel - 1 + ahead) * x_step + c, 0, 3);
      if (t + ahead < count && out_step != step_)
        for (index_type c = 0; c < step_; c += line) FOVEA_PREFETCH(out + ahead * out_step + c, 1, 3);
      for (index_type c = 0; c < step_; c += n) {
        R p = R::load_unaligned(bias_.data() + c);
        FOVEA_UNROLL_ALL
        for (index_type i = 0; i < Kernel; ++i)
          p = kernel::isa<Arch>::fma(R::load_unaligned(w_.data() + i * step_ + c),
                                     R::load_unaligned(x + i * x_step + c), p);
        (c_.silu ? p * sigmoid(p) : p).store_unaligned(out + c);
      }
    }
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
