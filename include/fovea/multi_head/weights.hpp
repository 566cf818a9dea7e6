// fovea/multi_head/weights.hpp - the parameters of multi-head attention, and what they are made from.
#pragma once

#include <fovea/executor/concept.hpp>
#include <fovea/plan/heads.hpp>
#include <fovea/position/rotary.hpp>
#include <fovea/view/eigen.hpp>

#include <optional>
#include <random>
#include <string>

FOVEA_NAMESPACE_BEGIN

template <class T>
struct multi_head_options {
  index_type width = 0;                // columns of x and of the result
  index_type heads = 0, kv_heads = 0;  // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  index_type memory_width = 0;         // columns of what keys and values are made from; 0: as x
  index_type dim = 0, value_dim = 0;   // of a head; 0: width / heads, and as dim
  bool bias = true;                    // of the four products
  std::optional<double> scale = {};    // of Q K^T; 1 / sqrt(dim) without
  bool normalised = false;             // an RMS norm of each head's queries and keys, with learnt gains
  double epsilon = 1e-6;               // of that norm
  rotary_angles<T> rotary = {};  // positions, if given: queries and keys turn (after the norm); not owned
  rotary_pairs pairs = rotary_pairs::halves;
  executor_ref executor = {};  // who does the attention; must outlive the layer
};

/// The parameters. Every matrix has a row an output, so that y = x W^T + b, and rows are in the order of
/// heads. A gradient is a second value of the same type.
///
/// From torch.nn.MultiheadAttention(width, heads): qkv_weight is in_proj_weight as it stands, qkv_bias is
/// in_proj_bias, out_weight and out_bias are out_proj.weight and out_proj.bias. With kdim = vdim another than
/// width: qkv_weight is q_proj_weight, memory_weight is k_proj_weight above v_proj_weight.
template <class T>
struct multi_head_weights {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "fovea: multi_head<T>: T is float or double");
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using row = Eigen::Matrix<T, 1, Eigen::Dynamic, Eigen::RowMajor>;

  matrix qkv_weight;     // rows [q | k | v] x width; q alone where the memory has another width
  matrix memory_weight;  // rows [k | v] x memory_width in that case, else empty
  row qkv_bias;          // [q | k | v], or empty
  matrix out_weight;     // width x heads * value_dim
  row out_bias;          // width, or empty
  row q_gain, k_gain;    // dim each, of the norm of queries and keys, or empty

  multi_head_weights() = default;
  explicit multi_head_weights(const multi_head_options<T>& o) : options_(completed(o)) {
    const auto& s = options_;
    const index_type own = has_memory_weight() ? q_rows() : rows();
    const auto zero = [](auto& x, index_type tall, index_type wide) {
      x.setZero(eigen_index(tall), eigen_index(wide));
    };
    zero(qkv_weight, own, s.width),
        zero(memory_weight, rows() - own, has_memory_weight() ? s.memory_width : 0);
    zero(qkv_bias, 1, s.bias ? rows() : 0), zero(out_bias, 1, s.bias ? s.width : 0);
    zero(out_weight, s.width, s.heads * s.value_dim);
    zero(q_gain, 1, s.normalised ? s.dim : 0), zero(k_gain, 1, s.normalised ? s.dim : 0);
    q_gain.setOnes(), k_gain.setOnes();
  }

  /// The options with every 0 replaced by what it stands for.
  const multi_head_options<T>& options() const noexcept { return options_; }

  /// Rows of the products: of queries, of keys, of values.
  index_type q_rows() const noexcept { return options_.heads * options_.dim; }
  index_type k_rows() const noexcept { return options_.kv_heads * options_.dim; }
  index_type v_rows() const noexcept { return options_.kv_heads * options_.value_dim; }
  index_type rows() const noexcept { return q_rows() + k_rows() + v_rows(); }
  /// Whether keys and values are made from rows of another width, by a matrix of their own.
  bool has_memory_weight() const noexcept { return options_.memory_width != options_.width; }

  /// W_q, W_k and W_v (W_o is out_weight): blocks of rows that can be written.
  auto w_q() noexcept { return qkv_weight.topRows(q_rows()); }
  auto w_q() const noexcept { return qkv_weight.topRows(q_rows()); }
  auto w_k() noexcept { return w_kv().topRows(k_rows()); }
  auto w_k() const noexcept { return w_kv().topRows(k_rows()); }
  auto w_v() noexcept { return w_kv().bottomRows(v_rows()); }
  auto w_v() const noexcept { return w_kv().bottomRows(v_rows()); }
  /// [W_k; W_v]: one product.
  auto w_kv() noexcept { return (has_memory_weight() ? memory_weight : qkv_weight).bottomRows(kv_rows()); }
  auto w_kv() const noexcept {
    return (has_memory_weight() ? memory_weight : qkv_weight).bottomRows(kv_rows());
  }
  /// The biases of q, of k, of v (b_o is out_bias); empty without biases.
  auto b_q() noexcept { return qkv_bias.head(biased(q_rows())); }
  auto b_q() const noexcept { return qkv_bias.head(biased(q_rows())); }
  auto b_k() noexcept { return qkv_bias.segment(biased(q_rows()), biased(k_rows())); }
  auto b_v() noexcept { return qkv_bias.tail(biased(v_rows())); }
  auto b_kv() noexcept { return qkv_bias.tail(biased(kv_rows())); }
  auto b_kv() const noexcept { return qkv_bias.tail(biased(kv_rows())); }

  /// Weights of equal chance within +-sqrt(6 / (inputs + outputs)) for each of W_q, W_k, W_v and W_o (Glorot
  /// and Bengio, 2010). Biases become 0, gains 1. `random`: an engine, as std::mt19937{1}, of whose bits the
  /// same numbers are made by every standard library; or a function that gives numbers of equal chance within
  /// [-1, 1]. Throws std::invalid_argument where one is outside, and then has changed nothing.
  template <class F>
  void randomise(F&& random) {
    multi_head_weights drawn = *this;
    const auto fill = [&](auto&& w) {
      const double bound = std::sqrt(6. / static_cast<double>(std::max<index_type>(w.rows() + w.cols(), 1)));
      for (Eigen::Index i = 0; i < w.rows(); ++i)
        for (Eigen::Index j = 0; j < w.cols(); ++j) w(i, j) = static_cast<T>(bound * uniform(random));
    };
    fill(drawn.w_q()), fill(drawn.w_k()), fill(drawn.w_v()), fill(drawn.out_weight);
    drawn.qkv_bias.setZero(), drawn.out_bias.setZero(), drawn.q_gain.setOnes(), drawn.k_gain.setOnes();
    *this = std::move(drawn);
  }

  /// Whether the parameters still have the sizes that the options say: they are members, and a layer that was
  /// moved from has none.
  void check_parameters(const char* layer) const {
    const auto same = [&](const char* name, const auto& is, index_type rows, index_type columns) {
      if (is.rows() != rows || is.cols() != columns)
        reject(layer, "'s ", name, " is ", is.rows(), " x ", is.cols(), ", not ", rows, " x ", columns,
               " (was it moved from?)");
    };
    const auto& s = options_;
    const index_type own = has_memory_weight() ? q_rows() : rows(), norm = s.normalised ? s.dim : 0;
    same("qkv_weight", qkv_weight, own, s.width);
    same("memory_weight", memory_weight, rows() - own, has_memory_weight() ? s.memory_width : 0);
    same("out_weight", out_weight, s.width, s.heads * s.value_dim);
    same("qkv_bias", qkv_bias, 1, s.bias ? rows() : 0), same("out_bias", out_bias, 1, s.bias ? s.width : 0);
    same("q_gain", q_gain, 1, norm), same("k_gain", k_gain, 1, norm);
  }

  /// f(name, the parameter of each of `of`...) for each parameter that is not empty, where `of` are layers of
  /// the same options: one to save it, a layer and its gradient for an optimiser. Names are below `name`,
  /// which may be "".
  template <class F, class... Of>
  static void each_parameter(const std::string& name, const F& f, Of&... of) {
    const auto part = [&](const char* own, auto&... x) {
      if (((x.size() > 0) || ...)) f(name.empty() ? own : name + "." + own, x...);
    };
    part("qkv.weight", of.qkv_weight...), part("qkv.bias", of.qkv_bias...);
    part("memory.weight", of.memory_weight...);
    part("out.weight", of.out_weight...), part("out.bias", of.out_bias...);
    part("q_gain", of.q_gain...), part("k_gain", of.k_gain...);
  }

 protected:
  index_type kv_rows() const noexcept { return k_rows() + v_rows(); }
  index_type biased(index_type rows) const noexcept { return options_.bias ? rows : 0; }

 private:
  /// The next number within [-1, 1].
  template <class F>
  static double uniform(F& random) {
    if constexpr (std::uniform_random_bit_generator<F>) {
      const double values = static_cast<double>(F::max() - F::min()) + 1;
      double number = 0, all = 1;
      for (; all < 0x1p32; all *= values) number = number * values + static_cast<double>(random() - F::min());
      return 2 * number / all - 1;
    } else {
      const auto number = static_cast<double>(random());
      if (!(number >= -1 && number <= 1))
        reject("randomise was given ", number,
               ", which is not within -1 and 1; give it an engine, as "
               "std::mt19937{1}, or a function that draws from there");
      return number;
    }
  }

  static multi_head_options<T> completed(multi_head_options<T> o) {
    const auto at_least = [](const char* what, index_type is, index_type least) {
      if (is < least) reject("multi_head's ", what, " is ", is, ", below ", least);
    };
    at_least("width", o.width, 1);
    if (o.heads < 1)
      reject("multi_head's heads is ", o.heads,
             ", below 1; give .heads, or say it in the type, as multi_head<T, 8>");
    at_least("kv_heads", o.kv_heads, 0);
    at_least("memory_width", o.memory_width, 0), at_least("dim", o.dim, 0);
    at_least("value_dim", o.value_dim, 0);
    if (o.kv_heads == 0) o.kv_heads = o.heads;
    if (o.memory_width == 0) o.memory_width = o.width;
    check_shared(o.heads, o.kv_heads);
    if (o.dim == 0 && o.width % o.heads != 0)
      reject("multi_head's width is ", o.width, ", which ", o.heads, " heads do not divide; give dim");
    if (o.dim == 0) o.dim = o.width / o.heads;
    if (o.value_dim == 0) o.value_dim = o.dim;
    const auto counted = [&](const char* name, index_type heads, index_type width) {
      const index_type dim = std::max(o.dim, o.value_dim);
      if (!countable(heads, dim, width, 4 * sizeof(T)))
        reject_length("multi_head's weights of ", heads, " heads x ", dim, " numbers x ", name, " ", width,
                      " are more than can be counted");
    };
    counted("width", o.heads, o.width), counted("memory_width", o.kv_heads, o.memory_width);
    if (!is_finite(static_cast<T>(o.epsilon)) || !(o.epsilon >= 0))
      reject("multi_head's epsilon is ", o.epsilon, ", not a finite number of at least 0");
    position::check_angles(o.rotary, o.dim, "multi_head has", " a head");
    return o;
  }

  multi_head_options<T> options_{};
};

FOVEA_NAMESPACE_END
