// fovea/multi_head.hpp - multi-head attention as a layer with weights: forward, backward, and decoding with a
// cache.
//
//   q, k, v = x W_q^T + b_q,  m W_k^T + b_k,  m W_v^T + b_v          m: x itself, or a memory
//   y = [attention(q, k, v) of each head] W_o^T + b_o
//
//   fovea::multi_head<float, 8> layer({.width = 512});           // 8 heads of 64
//   layer.randomise(std::mt19937{1});                            // or copy weights into layer.w_q(), ...
//   Matrix y = layer(x, fovea::causal);                          // self-attention, x: tokens x 512
//   Matrix z = layer(x, memory);                                 // cross-attention
//
//   decltype(layer)::saved saved;                                // training
//   auto gradient = layer.zero_gradient();
//   y = layer(x, saved, fovea::causal);
//   auto [d_x, d_memory] = layer.backward(d_y, saved, gradient, fovea::causal);
//
// Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, 3.2.2. Products by Eigen, on the calling
// thread; attention by fovea::attention, on the executor of the options.
#pragma once

#include <fovea/attention.hpp>
#include <fovea/kv_cache/cached.hpp>
#include <fovea/multi_head/projections.hpp>
#include <fovea/position.hpp>

#include <algorithm>
#include <functional>

FOVEA_NAMESPACE_BEGIN

/// T: float or double. Heads, KVHeads: numbers of query and of key/value heads; dynamic_heads: as the options
/// say. The weights are members: see multi_head/weights.hpp.
///
/// x is tokens x width, memory tokens x memory_width, the result tokens x width. Both are an Eigen matrix
/// (one sequence), or ragged{matrix, offsets} or {matrix, offsets}, both with lengths where rows lie between
/// sequences: as many sequences of x as of memory, packed; rows of no sequence are not read, and results and
/// gradients are 0 there. Positions count from 0 in each sequence; with a cache, from its own. `mods` are
/// masks, scores and at most one sink, as in attention; backward is given the same ones.
///
/// Calls are const; threads can share a layer and have a `saved` and a gradient each. Every call throws
/// std::invalid_argument, naming the argument and both values, before a gradient or a cache is written
/// (`saved` may be). Cost: 2 width * rows() operations a token for q, k and v, 2 width * heads * value_dim
/// for W_o, and attention; twice that in backward. Rows of a batch may differ from those of a sequence alone
/// in their last bits, as Eigen's products do. These take up to twice EIGEN_STACK_ALLOCATION_LIMIT (128 KiB
/// unless set) of stack; attention 16 KiB.
template <class T, int Heads = dynamic_heads, int KVHeads = Heads, class Arch = xsimd::default_arch>
class multi_head : public multi_head_projections<T, Arch> {
  using base = multi_head_projections<T, Arch>;
  using base::normalise_and_turn_backward, base::output, base::spread, base::check_backward,
      base::check_memory;
  using base::o_columns, base::parts, base::project_all, base::project_queries, base::project_memory;
  using base::saves_nothing, base::saves_all;
  using typename base::standing;

 public:
  using typename base::matrix, typename base::tokens, typename base::saved;
  using keys_values = memory_keys_values<T>;
  using input_gradients = multi_head_input_gradients<T>;

  multi_head() = default;
  /// Weights and biases 0, gains 1. Throws where sizes do not fit each other.
  explicit multi_head(const multi_head_options<T>& options)
      : base(with_heads(options)),
        attend_({.scale = options.scale,
                 .heads = this->options().heads,
                 .kv_heads = this->options().kv_heads,
                 .executor = options.executor}) {}

  /// A gradient for this layer, 0.
  multi_head zero_gradient() const {
    multi_head g(this->options());
    g.q_gain.setZero(), g.k_gain.setZero();
    return g;
  }

  /// Self-attention. W_q, W_k and W_v are one product.
  template <modifier... Mods>
  matrix operator()(const tokens& x, const Mods&... mods) const {
    saved unused;
    project_all(x, unused, saves_nothing);
    return attended(unused, saves_nothing, mods...);
  }
  /// The same, for training.
  template <modifier... Mods>
  matrix operator()(const tokens& x, saved& s, const Mods&... mods) const {
    project_all(x, s, saves_all);
    return attended(s, saves_all, mods...);
  }

  /// Cross-attention: keys and values are made from `memory`.
  template <modifier... Mods>
  matrix operator()(const tokens& x, const tokens& memory, const Mods&... mods) const {
    saved unused;
    project_queries(x, unused, saves_nothing), project_memory(memory, unused, saves_nothing);
    return attended(unused, saves_nothing, mods...);
  }
  /// The same, for training.
  template <modifier... Mods>
  matrix operator()(const tokens& x, const tokens& memory, saved& s, const Mods&... mods) const {
    project_queries(x, s, saves_all), project_memory(memory, s, saves_all);
    return attended(s, saves_all, mods...);
  }

  /// Keys and values of a memory that many calls will attend to.
  keys_values project(const tokens& memory) const {
    saved s;
    project_memory(memory, s, saves_nothing);
    keys_values projected;
    projected.rows = std::move(s.kv), projected.offsets = std::move(s.keys),
    projected.layer = layer_sizes(this->options());
    return projected;
  }
  /// Cross-attention to them; x has as many sequences as the memory, and positions from 0 in each.
  template <modifier... Mods>
  matrix operator()(const tokens& x, const keys_values& memory, const Mods&... mods) const {
    check_memory(memory);
    saved s;
    project_queries(x, s, saves_nothing);
    matrix o(s.q.rows(), eigen_index(o_columns()));
    auto to = projection::columns(o, 0, o_columns());
    const auto q = projection::columns(std::as_const(s.q), 0, this->q_rows());
    const auto k = projection::columns(memory.rows, 0, this->k_rows());
    const auto v = projection::columns(memory.rows, this->k_rows(), this->v_rows());
    attend_.into(ragged{to, s.queries}, ragged{q, s.queries}, ragged{k, memory.offsets},
                 ragged{v, memory.offsets}, mods...);
    return output(o, s.of_x);
  }

  /// A step of decoding: appends the keys and values of x, one sequence, to the cache, then attends to all of
  /// it; give causal where x has several tokens. Any cache of kv_cache.hpp with these heads and dims. If a
  /// mask or score rejects the call, or there is no memory, the cache is truncated to what it was (a ring may
  /// have let go of tokens). With add_received among `mods` keys' sums are made (received.hpp).
  template <key_value_cache Cache, call_modifier... Mods>
    requires requires(Cache& c) { c.position(); }
  matrix operator()(const tokens& x, Cache& cache, const Mods&... mods) const {
    Cache* const one[] = {&cache};
    return (*this)(x, std::span<Cache* const>(one), mods...);
  }
  /// The same for several sequences with a cache each; x has a sequence for each, of any length.
  template <key_value_cache Cache, call_modifier... Mods>
  matrix operator()(const tokens& x, std::span<Cache* const> caches, const Mods&... mods) const {
    saved s;
    project_all(x, s, saves_nothing, standing_in(x, caches));
    matrix o(s.q.rows(), eigen_index(o_columns())), y;
    if (caches.empty()) return output(o, s.of_x);
    auto to = projection::columns(o, 0, o_columns());
    const auto p = parts(std::as_const(s.q), std::as_const(s.kv));
    appended(s.queries, p.k, p.v, caches, [&](const auto& batch) {
      attend_.into(ragged{to, s.queries}, ragged{p.q, s.queries}, batch, mods...);
      y = output(o, s.of_x);  // may have no memory: caches are then as they were
    });
    return y;
  }

  /// The probabilities of each head, sequences x heads x tokens of x x tokens of memory, for looking at.
  template <modifier... Mods>
  tensor<T> weights(const tokens& x, const tokens& memory, const Mods&... mods) const {
    saved s;
    project_queries(x, s, saves_nothing), project_memory(memory, s, saves_nothing);
    const auto p = parts(std::as_const(s.q), std::as_const(s.kv));
    return attend_.weights(ragged{p.q, s.queries}, ragged{p.k, s.keys}, mods...);
  }

  /// Adds the gradients of the parameters to those of `gradient` and returns those of the inputs, where d_y
  /// is the loss's gradient by the result of the call that `s` and `mods` were given to, of this layer or of
  /// one of the same sizes:
  ///   d_o = d_y W_o      d_W_o += d_y^T o      d_q, d_k, d_v: attention's backward, then back through
  ///   rotation and norm      d_W_q += d_q^T x      d_x = d_q W_q (+ d_k W_k + d_v W_v)
  template <modifier... Mods>
  input_gradients backward(const tokens& d_y, const saved& s, multi_head& gradient,
                           const Mods&... mods) const {
    check_backward(d_y, s, gradient);
    matrix room;
    const auto of_y = d_y.rows(s.of_x, room);
    const matrix d_o = projection::input_gradient<T>(of_y, this->out_weight);
    matrix d_first(s.q.rows(), s.q.cols()), d_second(s.kv.rows(), s.kv.cols());
    const auto p = parts(s.q, s.kv);
    auto d = parts(d_first, d_second);
    attend_.backward_into(ragged{d.q, s.queries}, ragged{d.k, s.keys}, ragged{d.v, s.keys},
                          ragged{p.q, s.queries}, ragged{p.k, s.keys}, ragged{p.v, s.keys},
                          ragged{s.o, s.queries}, ragged{s.lse, s.queries}, ragged{d_o, s.queries}, mods...);
    projection::add_weight_gradient<T>(of_y, s.o, gradient.out_weight, gradient.out_bias);
    const auto& o = this->options();
    normalise_and_turn_backward(d.q, s.queries, o.heads, this->q_gain, s.q_norm, gradient.q_gain);
    normalise_and_turn_backward(d.k, s.keys, o.kv_heads, this->k_gain, s.k_norm, gradient.k_gain);
    if (s.kv.cols() == 0)
      return {spread(projection::product_backward<T>(d_first, s.x, this->qkv_weight, gradient.qkv_weight,
                                                     gradient.qkv_bias),
                     s.of_x),
              {}};
    return {spread(projection::product_backward<T>(d_first, s.x, this->w_q(), gradient.w_q(), gradient.b_q()),
                   s.of_x),
            spread(projection::product_backward<T>(d_second, s.memory, this->w_kv(), gradient.w_kv(),
                                                   gradient.b_kv()),
                   s.of_memory)};
  }

 private:
  static multi_head_options<T> with_heads(multi_head_options<T> o) {
    const auto agree = [](const char* name, index_type& option, int fixed) {
      if (fixed != dynamic_heads && option != 0 && option != fixed)
        reject("multi_head's option ", name, " is ", option, ", but the type says ", fixed);
      if (fixed != dynamic_heads) option = fixed;
    };
    agree("heads", o.heads, Heads), agree("kv_heads", o.kv_heads, KVHeads);
    return o;
  }

  /// Attention and the product with W_o.
  template <class... Mods>
  matrix attended(saved& s, bool keep, const Mods&... mods) const {
    s.o.resize(s.q.rows(), eigen_index(o_columns()));
    const auto p = parts(std::as_const(s.q), std::as_const(s.kv));
    const ragged q{p.q, s.queries}, k{p.k, s.keys}, v{p.v, s.keys};
    if (keep) {
      s.lse.resize(s.q.rows(), eigen_index(this->options().heads));
      attend_.with_lse_into(ragged{s.o, s.queries}, ragged{s.lse, s.queries}, q, k, v, mods...);
      s.layer = layer_sizes(this->options()), s.complete = true;
    } else {
      attend_.into(ragged{s.o, s.queries}, q, k, v, mods...);
    }
    return output(s.o, s.of_x);
  }

  template <class Cache>
  standing standing_in(const tokens& x, std::span<Cache* const> caches) const {
    x.check("x", this->options().width);
    const auto n = static_cast<index_type>(caches.size());
    if (x.sequences() != n) reject("x has ", x.sequences(), " sequences, but caches are given for ", n);
    std::vector<Cache*> each(caches.begin(), caches.end());
    std::sort(each.begin(), each.end(), std::less<>());
    if (std::adjacent_find(each.begin(), each.end()) != each.end())
      reject("a cache is given for two of the ", n, " sequences");
    standing at{true};
    for (index_type b = 0; b < n; ++b) {
      const auto* const cache = caches[static_cast<std::size_t>(b)];
      if (cache == nullptr) reject("cache ", b, " is a null pointer");
      const auto same = [&](const char* what, index_type has, index_type of_layer) {
        if (has != of_layer) reject("cache ", b, " has ", has, " ", what, ", the layer ", of_layer);
      };
      const auto& o = this->options();
      same("heads", cache->heads(), o.kv_heads), same("dimensions a key", cache->dim(), o.dim);
      same("dimensions a value", cache->value_dim(), o.value_dim);
      for (index_type t = 0; t < x.tokens(b); ++t) at.positions.push_back(cache->position() + t);
    }
    return at;
  }

  /// Appends to all caches and calls attend(batch of them); or throws, with all as they were.
  template <class Block, class Cache, class F>
  void appended(const std::vector<index_type>& offsets, const Block& k, const Block& v,
                std::span<Cache* const> caches, const F& attend) const {
    const auto& o = this->options();
    // f(cache, keys, values, angles or none) for each sequence.
    const auto each = [&](const auto& f) {
      for (std::size_t b = 0; b < caches.size(); ++b) {
        const index_type n = offsets[b + 1] - offsets[b];
        const Eigen::Index first = eigen_index(offsets[b]), rows = eigen_index(n);
        const auto keys = k.middleRows(first, rows), values = v.middleRows(first, rows);
        if (o.rotary.cos.cols > 0)
          f(*caches[b], keys, values, o.rotary, o.pairs);
        else
          f(*caches[b], keys, values);
      }
    };
    std::vector<index_type> before;
    before.reserve(caches.size());
    each([](Cache& cache, const auto&... appended_rows) { cache.check_append(appended_rows...); });
    const auto append = [&] {
      each([&](Cache& cache, const auto&... appended_rows) {
        before.push_back(cache.tokens());
        cache.append(appended_rows...);
      });
      const std::vector<const Cache*> all(caches.begin(), caches.end());
      attend(cache_batch{all});
    };
    do_or_undo(append, [&] {
      for (std::size_t b = 0; b < before.size(); ++b)
        if (caches[b]->tokens() > before[b]) caches[b]->truncate(before[b]);
    });
  }

  attention<T, Heads, KVHeads, Arch> attend_;
};

FOVEA_NAMESPACE_END
