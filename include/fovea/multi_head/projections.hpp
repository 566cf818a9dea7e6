// fovea/multi_head/projections.hpp - from tokens to queries, keys and values as attention reads them, and
// back.
#pragma once

#include <fovea/multi_head/head_norm.hpp>
#include <fovea/multi_head/layer_sizes.hpp>
#include <fovea/multi_head/products.hpp>
#include <fovea/multi_head/token_rows.hpp>
#include <fovea/multi_head/weights.hpp>

FOVEA_NAMESPACE_BEGIN

/// Keys and values of a memory, projected once for many calls: [k | v], tokens x (k_rows + v_rows), those of
/// its sequences.
template <class T>
struct memory_keys_values {
  typename multi_head_weights<T>::matrix rows;
  std::vector<index_type> offsets;  // of the memory's sequences
  layer_sizes layer = {};           // that made them

  memory_keys_values() = default;  // so that {rows, offsets} in a call are token_rows
};

/// What backward returns: the gradients of the inputs; `memory` is empty in self-attention.
template <class T>
struct multi_head_input_gradients {
  using matrix = typename multi_head_weights<T>::matrix;
  matrix x, memory;

  multi_head_input_gradients() = default;
  multi_head_input_gradients(matrix of_x, matrix of_memory)
      : x(std::move(of_x)), memory(std::move(of_memory)) {}
};

/// The base of multi_head: all of it but attention.
template <class T, class Arch>
class multi_head_projections : public multi_head_weights<T> {
  using weights_type = multi_head_weights<T>;

 public:
  using matrix = typename weights_type::matrix;
  using tokens = token_rows<T>;

  /// What a forward call keeps for backward. One value can serve many calls, one after another.
  struct saved {
    bool complete = false;  // the call came to its end
    layer_sizes layer;      // that made it
    packed_rows of_x, of_memory;
    matrix x, memory;  // inputs, rows of sequences; no memory in self-attention
    matrix q, kv;      // as attention saw them: [q | k | v] and nothing, or [q] and [k | v]
    matrix o, lse;     // what it gave
    head_norm_saved<T> q_norm, k_norm;
    std::vector<index_type> queries, keys;  // offsets
  };

 protected:
  using weights_type::weights_type;

  static constexpr bool saves_nothing = false, saves_all = true;

  /// Where tokens stand: each sequence from 0, or as a cache says, which then turns the keys.
  struct standing {
    bool in_cache = false;
    std::vector<index_type> positions = {};
  };

  index_type o_columns() const noexcept { return this->options().heads * this->options().value_dim; }

  template <class M>
  auto parts(M& first, M& second) const {
    const bool one = second.cols() == 0;
    const index_type k = one ? this->q_rows() : 0;
    M& kv = one ? first : second;
    using projection::columns;
    return projection::parts<decltype(columns(first, 0, 0))>{columns(first, 0, this->q_rows()),
                                                             columns(kv, k, this->k_rows()),
                                                             columns(kv, k + this->k_rows(), this->v_rows())};
  }

  /// q, k and v of x in one product.
  void project_all(const tokens& x, saved& s, bool keep, const standing& at = {}) const {
    const auto& o = this->options();
    if (this->has_memory_weight())
      reject("self-attention: queries are made from ", o.width, " columns, keys and values from ",
             o.memory_width);
    x.check("x", o.width), this->check_parameters("the layer");
    s.complete = false;
    matrix room;
    const auto rows = x.rows(room);
    if (keep) s.x = rows, s.memory.resize(0, 0);
    s.of_x = x.packed(), s.queries = x.starts(), s.keys = s.queries;
    s.q = projection::product<T>(rows, this->qkv_weight, this->qkv_bias), s.kv.resize(0, 0);
    auto p = parts(s.q, s.kv);
    normalise_and_turn(p.q, s.queries, o.heads, this->q_gain, keep ? &s.q_norm : nullptr, at.positions);
    normalise_and_turn(p.k, s.keys, o.kv_heads, this->k_gain, keep ? &s.k_norm : nullptr, at.positions,
                       !at.in_cache);
  }
  void project_queries(const tokens& x, saved& s, bool keep) const {
    x.check("x", this->options().width), this->check_parameters("the layer");
    s.complete = false;
    matrix room;
    const auto rows = x.rows(room);
    if (keep) s.x = rows;
    s.of_x = x.packed(), s.queries = x.starts();
    s.q = projection::product<T>(rows, this->w_q(), this->b_q());
    auto q = projection::columns(s.q, 0, s.q.cols());
    normalise_and_turn(q, s.queries, this->options().heads, this->q_gain, keep ? &s.q_norm : nullptr);
  }
  void project_memory(const tokens& memory, saved& s, bool keep) const {
    memory.check("memory", this->options().memory_width), this->check_parameters("the layer");
    s.complete = false;
    matrix room;
    const auto rows = memory.rows(room);
    if (keep) s.memory = rows;
    s.of_memory = memory.packed(), s.keys = memory.starts();
    s.kv = projection::product<T>(rows, this->w_kv(), this->b_kv());
    auto k = projection::columns(s.kv, 0, this->k_rows());
    normalise_and_turn(k, s.keys, this->options().kv_heads, this->k_gain, keep ? &s.k_norm : nullptr);
  }

  /// Norm and rotation of queries or keys.
  template <class X>
  void normalise_and_turn(X& x, const std::vector<index_type>& offsets, index_type heads, const auto& gain,
                          head_norm_saved<T>* norm_saved, const list_view<index_type>& positions = {},
                          bool turns = true) const {
    const auto& o = this->options();
    if (gain.size() > 0) normalise_heads(x, heads, gain, static_cast<T>(o.epsilon), norm_saved);
    if (turns && o.rotary.cos.cols > 0) {
      const ragged batch{x, offsets};
      rotate<Arch>(batch, o.rotary, {.heads = heads, .pairs = o.pairs, .positions = positions});
    }
  }
  /// The other way: turned back, and back through the norm.
  template <class X>
  void normalise_and_turn_backward(X& d, const std::vector<index_type>& offsets, index_type heads,
                                   const auto& gain, const head_norm_saved<T>& norm_saved,
                                   auto& d_gain) const {
    const auto& o = this->options();
    if (o.rotary.cos.cols > 0)
      rotate_back<Arch>(ragged{d, offsets}, o.rotary, {.heads = heads, .pairs = o.pairs});
    if (gain.size() > 0) normalise_heads_backward(d, heads, gain, norm_saved, d_gain);
  }

  /// Among all rows again: 0 for those of no sequence.
  static matrix spread(matrix rows, const packed_rows& at) {
    if (rows.rows() == at.count) return rows;
    matrix all = matrix::Zero(eigen_index(at.count), rows.cols());
    index_type from = 0;
    for (const range part : at.parts) {
      const Eigen::Index count = eigen_index(part.size());
      all.middleRows(eigen_index(part.first), count) = rows.middleRows(eigen_index(from), count);
      from += part.size();
    }
    return all;
  }
  matrix output(const matrix& o, const packed_rows& at) const {
    return spread(projection::product<T>(o, this->out_weight, this->out_bias), at);
  }

  void check_memory(const memory_keys_values<T>& memory) const {
    if (memory.offsets.empty()) reject("the projected memory is empty: no layer's project() made it");
    memory.layer.check("the memory was projected", layer_sizes(this->options()));
    const index_type columns = this->k_rows() + this->v_rows();
    if (memory.rows.cols() != columns)
      reject("the projected memory has ", memory.rows.cols(), " columns, the layer's keys and values have ",
             columns);
  }

  void check_backward(const tokens& d_y, const saved& s, const weights_type& gradient) const {
    d_y.check("d_y", this->options().width);
    if (!s.complete) reject("saved holds no call: none that it was given to before backward came to its end");
    s.layer.check("saved was filled", layer_sizes(this->options()));
    this->check_parameters("the layer");
    if (&gradient == this) reject("the gradient is the layer itself, not another value of its type");
    if (d_y.count() != s.of_x.count)
      reject("d_y has ", d_y.count(), " rows, but the saved call had ", s.of_x.count);
    const auto like = [](const char* name, const auto& is, const auto& should) {
      if (is.rows() != should.rows() || is.cols() != should.cols())
        reject("the gradient's ", name, " is ", is.rows(), " x ", is.cols(), ", the layer's ", should.rows(),
               " x ", should.cols());
    };
    like("qkv_weight", gradient.qkv_weight, this->qkv_weight);
    like("memory_weight", gradient.memory_weight, this->memory_weight);
    like("out_weight", gradient.out_weight, this->out_weight);
    like("qkv_bias", gradient.qkv_bias, this->qkv_bias), like("out_bias", gradient.out_bias, this->out_bias);
    like("q_gain", gradient.q_gain, this->q_gain), like("k_gain", gradient.k_gain, this->k_gain);
  }
};

FOVEA_NAMESPACE_END
