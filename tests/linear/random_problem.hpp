// tests/linear/random_problem.hpp - random problems of linear attention, and where their numbers lie.
#pragma once

#include <fovea/linear_attention.hpp>

#include "rules.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace linear_random {

using fovea::index_type, fovea::tensor, fovea::linear_engine;
using namespace linear_test;

struct random_source {
  std::mt19937 bits;
  index_type within(index_type first, index_type last) {
    return std::uniform_int_distribution<index_type>(first, last)(bits);
  }
  bool often(double share) { return std::bernoulli_distribution(share)(bits); }
  double normal() { return std::normal_distribution<double>()(bits); }
};

struct problem {
  rule r;
  linear_engine engine;
  bool state, l2_norm, packed;
  index_type batch, kv_heads, heads, dim, value_dim;
  std::vector<index_type> lengths, starts;  // of packed sequences, rows of none between them
  double strength;                          // of decays

  static index_type some_dim(random_source& random) {
    if (random.often(0.2)) return random.within(0, 1);
    return random.often(0.5) ? 8 * random.within(1, 9) : random.within(1, 70);
  }
  explicit problem(random_source& random)
      : r(all_rules[random.within(0, 5)]),
        engine(static_cast<linear_engine>(random.within(0, 2))),
        state(random.often(0.6)),
        l2_norm(random.often(0.3)),
        packed(random.often(0.5)),
        batch(random.within(1, 4)),
        kv_heads(random.within(1, 3)),
        heads(kv_heads * random.within(1, 3)),
        dim(some_dim(random)),
        value_dim(some_dim(random)),
        strength(std::pow(10., random.within(-3, 2))) {
    const index_type longest = random.often(0.3) ? 4 : 110;
    for (index_type row = 0, n = 0; n < batch; ++n) {
      lengths.push_back(n > 0 && !packed ? lengths[0] : random.within(0, longest));
      starts.push_back(row += random.within(0, 2));
      row += lengths.back();
    }
  }
};

/// Numbers of a batch somewhere in a larger memory: axes in any order, gaps between all. What is not of
/// them is `outside`.
template <class E>
struct scattered {
  const problem& p;
  E outside;
  bool packed;
  std::vector<E> memory;
  fovea::tensor_view<E> view;

  scattered(random_source& random, const problem& of, const tensor<E>& like, float beside,
            bool a_state = false)
      : p(of), outside(beside), packed(of.packed && !a_state) {
    const auto shape = like.view();
    const index_type tokens = packed ? p.starts.back() + p.lengths.back() + 1 : shape.tokens;
    index_type counts[] = {packed ? 1 : p.batch, shape.heads, tokens}, strides[3], axes[] = {0, 1, 2};
    std::shuffle(axes, axes + 3, random.bits);
    // (A token goes to a state of rows in one piece another way, with other bits.)
    const index_type step = !a_state && random.often(0.2) ? 2 : 1;
    index_type stride = shape.dim * step + random.within(0, 3);
    for (const index_type axis : axes) {
      strides[axis] = stride;
      stride = stride * counts[axis] + random.within(0, 9);
    }
    constexpr index_type before = 5, behind = 70;  // a register and more
    memory.assign(static_cast<std::size_t>(before + stride + behind), outside);
    view = {memory.data() + before,
            counts[0],
            counts[1],
            tokens,
            shape.dim,
            strides[0],
            strides[1],
            strides[2],
            step};
  }
  E& at(index_type n, index_type h, index_type t, index_type c) {
    const index_type row = packed ? p.starts[static_cast<std::size_t>(n)] + t : t;
    return view.data[(packed ? 0 : n) * view.batch_stride + h * view.head_stride + row * view.token_stride +
                     c * view.dim_stride];
  }
  /// f(number here, number of the tensor) for all of sequence n.
  void each(index_type n, const tensor<E>& alone, const auto& f) {
    const auto shape = alone.view();
    for (index_type h = 0; h < shape.heads; ++h)
      for (index_type t = 0; t < shape.tokens; ++t)
        for (index_type c = 0; c < shape.dim; ++c) f(at(n, h, t, c), alone(0, h, t, c));
  }
  void set(index_type n, const tensor<E>& from) {
    each(n, from, [](E& here, const E& x) { here = x; });
  }
  /// Sequence n has the bits of `alone`; leaves `outside` there.
  void take(const char* name, index_type n, const tensor<E>& alone) {
    each(n, alone, [&](E& here, const E& x) {
      EXPECT_EQ(std::memcmp(&here, &x, sizeof(E)), 0)
          << name << " of sequence " << n << " is " << float(here) << ", alone " << float(x);
      here = outside;
    });
  }
  /// Once all sequences are taken, nothing is left but 0 in rows of none.
  void expect_nothing_else(const char* name) {
    if (packed)
      for (index_type row = 0; row < view.tokens; ++row)
        for (index_type h = 0; h < view.heads; ++h)
          for (index_type c = 0; c < view.dim; ++c) {
            E& here = view.data[h * view.head_stride + row * view.token_stride + c * view.dim_stride];
            if (float(here) == 0) here = outside;
          }
    for (const E& x : memory)
      ASSERT_EQ(std::memcmp(&x, &outside, sizeof(E)), 0) << name << " has " << float(x) << " beside itself";
  }
};

/// One sequence: arguments, and what a call on it alone makes of them.
template <class E>
struct sequence {
  using T = fovea::compute_t<E>;
  tensor<E> q, k, v, d_o, o, d_q, d_k, d_v;
  tensor<T> g, b, s, d_s, d_g, d_b, after, before;  // the last token's state; the gradient of the first's

  sequence(random_source& random, const problem& p, index_type tokens)
      : q(1, p.heads, tokens, p.dim),
        k(1, p.kv_heads, tokens, p.dim),
        v(1, p.kv_heads, tokens, p.value_dim),
        d_o(1, p.heads, tokens, p.value_dim),
        g(1, p.kv_heads, tokens, by_channel(p.r) ? p.dim : 1),
        b(1, p.kv_heads, tokens, 1),
        s(1, p.kv_heads, p.dim, p.value_dim) {
    d_s = s, d_q = q, d_k = k, d_v = v, o = d_o, d_g = g, d_b = b;
    const auto fill = [](auto& x, auto&& next) {
      using X = std::remove_cvref_t<decltype(*x.data())>;
      for (index_type i = 0; i < x.size(); ++i) x.data()[i] = X(static_cast<float>(next()));
    };
    for (auto* x : {&q, &v, &d_o}) fill(*x, [&] { return random.normal(); });
    for (auto* x : {&s, &d_s}) fill(*x, [&] { return random.normal(); });
    fill(k, [&] { return (random.often(0.5) ? 1 : -1) / std::sqrt(double(p.dim)); });  // of length 1
    fill(b, [&] { return 1 / (1 + std::exp(-random.normal())); });
    fill(g, [&] { return -p.strength * std::abs(random.normal()); });
    after = s, before = d_s;
  }
};

}  // namespace linear_random
