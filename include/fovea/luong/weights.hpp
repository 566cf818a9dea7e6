// fovea/luong/weights.hpp - which of Luong's attentions, and its parameters.
#pragma once

#include <fovea/projected/calls.hpp>
#include <fovea/projected/head_products.hpp>

FOVEA_NAMESPACE_BEGIN

enum class luong_score { dot, general, concat, location };
enum class luong_window { global, local_m, local_p };

struct luong_options {
  index_type query_dim = 0, key_dim = 0;  // of q and k, a head; key_dim: 0 means query_dim
  index_type hidden = 0;                  // concat: rows of W_a, a head
  index_type positions = 0;               // location: rows of W_a, a head: the most keys of a sequence
  index_type distance = 10;               // D of a local window
  index_type predicted = 0;               // local_p: rows of W_p, a head; 0 means query_dim
  index_type heads = 0, kv_heads = 0;     // where the type leaves them dynamic_heads; kv_heads: 0 means heads
  executor_ref executor = {};             // who does the work; must outlive the attention object
};

/// The options with every 0 replaced by what it stands for; throws std::invalid_argument where they do not
/// fit the score.
inline luong_options completed(luong_options o, luong_score score) {
  if (o.key_dim == 0) o.key_dim = o.query_dim;
  if (o.predicted == 0) o.predicted = o.query_dim;
  const auto at_least_one = [](const char* what, index_type is) { check_at_least_one("luong", what, is); };
  at_least_one("query_dim", o.query_dim), at_least_one("key_dim", o.key_dim);
  check_numbers_of_heads("luong", o);
  at_least_one("distance", o.distance), at_least_one("predicted", o.predicted);
  if (score == luong_score::dot && o.key_dim != o.query_dim)
    reject("luong's query_dim is ", o.query_dim, " but key_dim is ", o.key_dim, ": dot needs the same");
  if (score == luong_score::concat) at_least_one("hidden", o.hidden);
  if (score == luong_score::location) at_least_one("positions", o.positions);
  const index_type rows = score == luong_score::general    ? o.key_dim
                          : score == luong_score::location ? o.positions
                                                           : 1;
  size_product("luong's weights", o.heads, std::max(rows, o.predicted), o.query_dim, sizeof(double));
  return o;
}

/// Parameters of each head, one head's rows or columns after another's; empty where the score or the window
/// has none. concat's are those of an additive_weights without bias, W_a being [w_q w_k].
template <class T>
struct luong_weights {
  projection::row_matrix<T> w_a;  // general: heads * key_dim x query_dim, the transpose of the paper's W_a
                                  // location: kv_heads * positions x query_dim
  projection::row_matrix<T> w_p;  // heads * predicted x query_dim
  projection::row_vector<T> v_p;  // heads * predicted

  /// All 0, as a score and a window have them.
  static luong_weights zero(luong_score score, luong_window window, const luong_options& o) {
    const index_type rows = score == luong_score::general    ? o.heads * o.key_dim
                            : score == luong_score::location ? o.kv_heads * o.positions
                                                             : 0;
    const index_type predicted = window == luong_window::local_p ? o.heads * o.predicted : 0;
    luong_weights w;
    w.w_a.setZero(eigen_index(rows), eigen_index(rows == 0 ? 0 : o.query_dim));
    w.w_p.setZero(eigen_index(predicted), eigen_index(predicted == 0 ? 0 : o.query_dim));
    w.v_p.setZero(eigen_index(predicted));
    return w;
  }
  /// Throws std::invalid_argument where sizes are not those of `like`.
  void check(const char* name, const luong_weights& like) const {
    const auto same = [&](const char* what, const auto& is, const auto& wanted) {
      if (is.rows() != wanted.rows() || is.cols() != wanted.cols())
        reject(name, "'s ", what, " is ", is.rows(), " x ", is.cols(), ", not ", wanted.rows(), " x ",
               wanted.cols());
    };
    same("w_a", w_a, like.w_a), same("w_p", w_p, like.w_p), same("v_p", v_p, like.v_p);
  }
};

FOVEA_NAMESPACE_END
