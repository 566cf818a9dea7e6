// fovea/hard/pick.hpp - which keys a row picks: choices, and the states (roles/concept.hpp) that make them.
#pragma once

#include <fovea/hard/gumbel.hpp>
#include <fovea/roles/concept.hpp>

#include <limits>

FOVEA_NAMESPACE_BEGIN

/// Keys are kept beside their logits as the bits of their positions: exact however many there are.
template <class T>
index_type key_with_bits(T number) noexcept {
  return static_cast<index_type>(std::bit_cast<kernel::position_t<T>>(number));
}

template <class V>
V minus_infinity() noexcept {
  return V(-std::numeric_limits<number_in<V>>::infinity());
}

/// sum_j exp(s_j - m), m = max_j s_j, after one more s. -inf changes nothing, a NaN stays.
template <class V>
V sum_with(const V& sum, const V& m, const V& s) noexcept {
  using std::abs, std::exp;
  const V e = exp(-abs(s - m));
  return choose(s == minus_infinity<V>(), sum, choose(s > m, sum * e + V(1), sum + e));
}

/// The same of two sums, each with its own m; relative to the larger.
template <class T>
T sum_of_both(T sum, T m, T other, T other_m) noexcept {
  const T most = other_m > m ? other_m : m;
  const auto part = [&](T x, T from) { return x == T(0) || from == most ? x : x * std::exp(from - most); };
  return part(sum, m) + part(other, other_m);
}

/// The Picks largest logits of a row and their keys, ties to the lower key; with noise: of s + G, Picks being
/// 1. With Sum also the sum of exponents that probabilities need. A NaN is larger than all numbers, so that
/// it is seen in the end.
/// Stored: Picks logits (or s + G), as many keys' bits; the sum; with noise and sum max s, and the pick's s.
template <int Picks, bool Noisy, bool Sum>
struct pick_state {
  using is_state = void;
  using reads_cells = void;
  static constexpr int columns = 2 * Picks + (Sum ? 1 + 2 * Noisy : 0);
  static constexpr int sum = 2 * Picks, most = Noisy ? sum + 1 : 0, logit = Noisy ? sum + 2 : 0;
  gumbel_noise noise;

  template <class V>
  void clear(V* stored) const noexcept {
    for (int c = 0; c < columns; ++c) stored[c] = V(0);
    for (int i = 0; i < Picks; ++i) stored[i] = minus_infinity<V>();
    if constexpr (Sum) stored[most] = stored[logit] = stored[0];
  }

  template <class V>
  void absorb(V* stored, V s, const auto& cells) const noexcept {
    if constexpr (Sum) stored[sum] = sum_with(stored[sum], stored[most], s);
    V x = s;
    if constexpr (Noisy) x = s + noise.at<V>(cells.q(), cells.k());
    V next = x, key = number_with_bits<V>(cells.k());
    for (int i = 0; i < Picks; ++i) {  // what is smaller than x moves down a place
      const V here = stored[i], here_key = stored[Picks + i];
      const auto stays = as_large(here, x);
      stored[i] = choose(stays, here, next), next = choose(stays, next, here);
      stored[Picks + i] = choose(stays, here_key, key), key = choose(stays, key, here_key);
      if constexpr (Noisy && Sum) stored[logit] = choose(stays, stored[logit], s);
    }
    if constexpr (Noisy && Sum) stored[most] = choose(as_large(stored[most], s), stored[most], s);
  }

  template <class T>
  void merge(T* stored, const T* other) const noexcept {
    if constexpr (Sum) {
      stored[sum] = sum_of_both(stored[sum], stored[most], other[sum], other[most]);
      if constexpr (Noisy)
        if (!(stored[most] >= other[most]) && stored[most] == stored[most]) stored[most] = other[most];
    }
    for (int o = 0; o < Picks && !before(stored, Picks - 1, other, o); ++o) {
      int i = Picks - 1;  // where other's pick o comes to stand
      for (; i > 0 && before(other, o, stored, i - 1); --i)
        stored[i] = stored[i - 1], stored[Picks + i] = stored[Picks + i - 1];
      stored[i] = other[o], stored[Picks + i] = other[Picks + o];
      if constexpr (Noisy && Sum) stored[logit] = other[logit];
    }
  }

 private:
  /// Whether a is no smaller than b, a NaN being the largest. (Of registers a != a is not true of a NaN
  /// everywhere.)
  template <class V>
  static auto as_large(const V& a, const V& b) noexcept {
    return (a >= b) | !(a == a);
  }
  /// Whether pick i of a comes before pick j of b, or is as good.
  template <class T>
  static bool before(const T* a, int i, const T* b, int j) noexcept {
    if (a[i] != a[i]) return true;
    return a[i] > b[j] || (a[i] == b[j] && key_with_bits(a[Picks + i]) <= key_with_bits(b[Picks + j]));
  }
};

/// The key with the largest logit; of several, the one with the lowest index.
struct argmax {
  static constexpr int picks = 1;
  static constexpr bool samples = false;
  template <bool Sum>
  auto bind(const place&) const noexcept {
    return pick_state<1, false, Sum>{};
  }
};

/// A key drawn from the softmax, independently for each row: a function of the seed, the sequence's number,
/// the head and the positions of query and key, whatever the blocking, the number of workers and the form
/// (which may round logits that are nearly the same differently). A seed a step and layer. Costs about 150
/// instructions a register of cells.
struct sampled {
  static constexpr int picks = 1;
  static constexpr bool samples = true;
  std::uint64_t seed = 0;

  gumbel_noise noise(const place& at) const noexcept {
    const auto [key0, key1] =
        threefry<std::int64_t>(static_cast<std::uint32_t>(seed),
                               static_cast<std::uint32_t>(seed >> 32) ^ 0x6d75u, at.batch, at.head);
    return {static_cast<std::uint32_t>(key0), static_cast<std::uint32_t>(key1)};
  }
  template <bool Sum>
  auto bind(const place& at) const noexcept {
    return pick_state<1, true, Sum>{noise(at)};
  }
};

/// The K keys with the largest logits, largest first; of equal ones, those with the lowest indices.
template <int K>
struct top {
  static_assert(K > 0 && K <= 32, "fovea: top<K> picks 1 to 32 keys");
  static constexpr int picks = K;
  static constexpr bool samples = false;
  template <bool Sum>
  auto bind(const place&) const noexcept {
    return pick_state<K, false, Sum>{};
  }
};

/// argmax, sampled or top.
template <class C>
concept choice_like = requires {
  { std::remove_cvref_t<C>::picks } -> std::convertible_to<int>;
  { std::remove_cvref_t<C>::samples } -> std::convertible_to<bool>;
};

/// The state of a choice, bound to each head.
template <class Choice, bool Sum>
struct state_of_choice {
  using is_state = void;
  using bound = decltype(std::declval<const Choice&>().template bind<Sum>(place()));
  static constexpr int columns = bound::columns;
  const Choice& choice;
  bound bind(const place& at) const noexcept { return choice.template bind<Sum>(at); }
};

FOVEA_NAMESPACE_END
