// fovea/additive/weights.hpp - the parameters of additive attention.
#pragma once

#include <fovea/element/inverse_length.hpp>
#include <fovea/projected/calls.hpp>
#include <fovea/projected/head_products.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN

struct additive_options {
  index_type hidden = 0;                  // columns of the projections, a head
  index_type query_dim = 0, key_dim = 0;  // of q and k, a head; key_dim: 0 means query_dim
  index_type heads = 0, kv_heads = 0;     // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  bool bias = true, normalised = false;   // normalised: g v / |v| in place of v
  executor_ref executor = {};             // who does the work; must outlive the attention object
};

/// Parameters of each head, one head's rows or columns after another's; gradients have the same type.
template <class T>
class additive_weights {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "fovea: layers with weights compute in float or double");

 public:
  using matrix = projection::row_matrix<T>;
  using row = projection::row_vector<T>;

  matrix w_q;  // heads * hidden x query_dim
  matrix w_k;  // kv_heads * hidden x key_dim
  row b;       // heads * hidden; empty without bias
  row v;       // heads * hidden
  row g;       // heads, at first 1; empty where v is not normalised

  additive_weights() = default;
  /// All 0, but g.
  explicit additive_weights(const additive_options& options) : options_(completed(options)) {
    const auto& o = options_;
    w_q.setZero(eigen_index(o.heads * o.hidden), eigen_index(o.query_dim));
    w_k.setZero(eigen_index(o.kv_heads * o.hidden), eigen_index(o.key_dim));
    b.setZero(o.bias ? eigen_index(o.heads * o.hidden) : 0), v.setZero(eigen_index(o.heads * o.hidden));
    g.setOnes(o.normalised ? eigen_index(o.heads) : 0);
  }

  /// The options with every 0 replaced by what it stands for.
  const additive_options& options() const noexcept { return options_; }

  /// f(name, the parameter of each of `of`...) for each parameter that is not empty, as multi_head has it.
  template <class F, class... Of>
  static void each_parameter(const F& f, Of&... of) {
    const auto part = [&](const char* name, auto&... x) {
      if (((x.size() > 0) || ...)) f(name, x...);
    };
    part("w_q", of.w_q...), part("w_k", of.w_k...), part("b", of.b...), part("v", of.v...),
        part("g", of.g...);
  }

  /// Whether the parameters have the sizes that the options of `like` say.
  void check_parameters(const char* name, const additive_options& like) const {
    const auto same = [&](const char* what, const auto& is, index_type rows, index_type columns) {
      if (is.rows() != rows || is.cols() != columns)
        reject(name, "'s ", what, " is ", is.rows(), " x ", is.cols(), ", not ", rows, " x ", columns);
    };
    const index_type rows = like.heads * like.hidden;
    same("w_q", w_q, rows, like.query_dim), same("w_k", w_k, like.kv_heads * like.hidden, like.key_dim);
    same("b", b, 1, like.bias ? rows : 0), same("v", v, 1, rows);
    same("g", g, 1, like.normalised ? like.heads : 0);
  }

 protected:
  /// v, or g v / |v|, of all heads.
  row scored_v() const {
    row scored = v;
    for (index_type h = 0; h < g.size(); ++h) {
      auto of_head = projection::columns_of_head(scored, h, options_.hidden);
      split_factor by = inverse_length(of_head.data(), options_.hidden);
      if (!(by.value() < HUGE_VAL))
        reject("v of head ", h, " is of length ", 1 / by.value(), ": it can not be normalised");
      by.rest *= static_cast<double>(g[eigen_index(h)]);
      of_head = of_head.unaryExpr([&](T number) { return by.times(number); });
    }
    return scored;
  }
  /// Adds the gradient by scored_v() to those by v and g: with n = v / |v|, dg = d . n and
  /// dv = g / |v| (d - (d . n) n).
  void add_v_gradient(const std::vector<double>& d_scored, additive_weights& gradient) const {
    const index_type n = options_.hidden;
    using column = Eigen::Matrix<double, 1, Eigen::Dynamic>;
    for (index_type h = 0; h < options_.heads; ++h) {
      column d = Eigen::Map<const column>(d_scored.data() + h * n, eigen_index(n));
      if (g.size() > 0) {
        column unit = projection::columns_of_head(v, h, n).template cast<double>();
        const split_factor by = inverse_length(unit.data(), n);
        unit = unit.unaryExpr([&](double number) { return by.times(number); });
        const double along = d.dot(unit);
        gradient.g[eigen_index(h)] += static_cast<T>(along);
        d = static_cast<double>(g[eigen_index(h)]) * by.value() * (d - along * unit);
      }
      projection::columns_of_head(gradient.v, h, n) += d.cast<T>();
    }
  }

 private:
  static additive_options completed(additive_options o) {
    const auto at_least_one = [](const char* what, index_type is) {
      check_at_least_one("additive", what, is);
    };
    if (o.kv_heads == 0) o.kv_heads = o.heads;
    if (o.key_dim == 0) o.key_dim = o.query_dim;
    at_least_one("hidden", o.hidden), at_least_one("query_dim", o.query_dim);
    at_least_one("key_dim", o.key_dim), check_numbers_of_heads("additive", o);
    size_product("additive's weights", o.heads, o.hidden, std::max(o.query_dim, o.key_dim), sizeof(T));
    return o;
  }

  additive_options options_{};
};

FOVEA_NAMESPACE_END
