// fovea/kernel/backward/gradient_scorer.hpp - how the backward walk makes logits, and pulls their gradient
// back to queries and keys: by the dot product, or by a scorer of one's own (roles/concept.hpp), which is
// differentiated with dual numbers.
#pragma once

#include <fovea/kernel/backward/key_group.hpp>
#include <fovea/roles/concept.hpp>
#include <fovea/score/concept.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// A user's scorer on a group of keys, in lanes, and a block of rows: s_ij = logit(z_ij), z_ij = sum_c
/// f(q_ic, k_jc, w_c), f being what add adds.
template <class Arch, class T, class Scorer>
class scorer_gradient {
  using V = vec<Arch, T>;
  using D = dual<V>;
  static constexpr index_type n = lanes<Arch, T>;
  static constexpr index_type most_lanes = 6 * gradient_shape<Arch, T>::line;
  static constexpr bool has_parameters = scorer_with_parameters<Scorer>;

  /// The derivatives of f.
  struct slopes {
    V by_query, by_key, by_parameter;
  };

 public:
  scorer_gradient(const Scorer& scorer, const key_group<Arch, T>& group,
                  const gradient_rows<T>& rows) noexcept
      : scorer_(scorer), group_(group), r_(rows) {}

  /// S, where it is seen, in place of P.
  FOVEA_NOINLINE FOVEA_FLATTEN void score() const noexcept {
    each_sum([&](index_type i, index_type j, const V& z) {
      logit_of(scorer_, z).store_unaligned(group_.p_at(i, j));
    });
  }

  /// dZ = dS logit'(Z), in place of dS; 0 beyond the last key.
  FOVEA_NOINLINE FOVEA_FLATTEN void pull_back_logits() const noexcept {
    const auto pull_back = [&](index_type i, index_type j, const V& slope) {
      T* const at = group_.ds_at(i, j);
      const V ds = pulled(V::load_unaligned(at), slope), left(static_cast<T>(group_.keys().size() - j));
      xsimd::select(counting_up<Arch, T>() < left, ds, V(T(0))).store_unaligned(at);
    };
    if constexpr (requires(const D& z) { scorer_.logit(z); })
      each_sum([&](index_type i, index_type j, const V& z) {
        pull_back(i, j, scorer_.logit(D(z, V(T(1)))).slope);
      });
    else
      group_.each_seen_row([&](index_type i, range lanes) {
        for (index_type j = lanes.first; j < lanes.last; j += n) pull_back(i, j, V(T(1)));
      });
  }

  /// dQ_ic += sum_j dZ_ij df / dq_ic, dK_jc += sum_i dZ_ij df / dk_jc, a row a key, and dW_c += sum_ij dZ_ij
  /// df / dw_c, where that is wanted: a register of channels at a time; f is asked once a cell and channel.
  FOVEA_NOINLINE FOVEA_FLATTEN void add(const sums_of_rows<T>& d_k, double* d_w) const noexcept {
    const index_type keys = round_up(group_.keys().size(), n);
    alignas(64) T room[std::size_t{most_lanes} * n];
    each_channels([&](index_type first, index_type channels) {
      V of_keys[std::size_t{n}], of_parameters[std::size_t{n}];
      std::fill_n(room, n * keys, T(0));
      for (V& x : of_parameters) x = V(T(0));
      group_.each_seen_row([&](index_type i, range lanes) {
        V of_query[std::size_t{n}];
        for (V& x : of_query) x = V(T(0));
        for (index_type j = lanes.first; j < lanes.last; j += n) {
          const V dz = V::load_unaligned(group_.ds_at(i, j));
          for (index_type e = 0; e < channels; ++e) {
            const slopes of = slopes_at(query(i, first + e), key(j, first + e), first + e);
            T* const at = room + e * keys + j;
            (V::load_aligned(at) + pulled(dz, of.by_key)).store_aligned(at);
            of_query[e] = of_query[e] + pulled(dz, of.by_query);
            if constexpr (has_parameters) of_parameters[e] = of_parameters[e] + pulled(dz, of.by_parameter);
          }
        }
        T* const to = r_.d_q.data + i * r_.d_q.stride + first;
        (V::load_unaligned(to) + isa<Arch>::sums_of_lanes(of_query)).store_unaligned(to);
      });
      for (index_type j = 0; j < keys; j += n) {
        for (index_type e = 0; e < n; ++e) of_keys[e] = V::load_aligned(room + e * keys + j);
        isa<Arch>::transpose(of_keys);
        for (index_type e = 0; e < std::min(n, group_.keys().size() - j); ++e) {
          T* const to = d_k.data + (j + e) * d_k.stride + first;
          (V::load_unaligned(to) + of_keys[e]).store_unaligned(to);
        }
      }
      if (!has_parameters || d_w == nullptr) return;
      alignas(64) T sums[std::size_t{n}];
      isa<Arch>::sums_of_lanes(of_parameters).store_aligned(sums);
      for (index_type e = 0; e < channels; ++e) d_w[first + e] += static_cast<double>(sums[e]);
    });
  }

 private:
  /// What is hidden, or weighs nothing, passes nothing on, not even a NaN.
  static V pulled(const V& gradient, const V& slope) noexcept {
    return xsimd::select(gradient == V(T(0)), V(T(0)), gradient * slope);
  }
  V query(index_type i, index_type c) const noexcept { return V(r_.q.data[i * r_.q.stride + c]); }
  V key(index_type j, index_type c) const noexcept {
    return V::load_unaligned(group_.keys_in_lanes(j) + c * group_.channel_stride);
  }
  /// As the scorer says, or by dual numbers.
  slopes slopes_at(const V& q, const V& k, index_type c) const noexcept {
    const V zero(T(0)), one(T(1));
    if constexpr (has_parameters) {
      const V w = parameter_of<V>(scorer_, c);
      if constexpr (requires { scorer_.slopes(q, k, w); }) {
        const auto [by_query, by_key, by_parameter] = scorer_.slopes(q, k, w);
        return {by_query, by_key, by_parameter};
      } else {
        const auto slope = [&](const V& of_q, const V& of_k, const V& of_w) {
          return scorer_.add(D(zero), D(q, of_q), D(k, of_k), D(w, of_w)).slope;
        };
        return {slope(one, zero, zero), slope(zero, one, zero), slope(zero, zero, one)};
      }
    } else if constexpr (requires { scorer_.slopes(q, k); }) {
      const auto [by_query, by_key] = scorer_.slopes(q, k);
      return {by_query, by_key, zero};
    } else {
      const auto slope = [&](const V& of_q, const V& of_k) {
        return scorer_.add(D(zero), D(q, of_q), D(k, of_k)).slope;
      };
      return {slope(one, zero), slope(zero, one), zero};
    }
  }
  /// f(row, lane, Z) for the registers that are seen: two chains of sums at a time hide what one waits for.
  template <class F>
  void each_sum(const F& f) const noexcept {
    group_.each_seen_row([&](index_type i, range lanes) {
      for (index_type j = lanes.first; j < lanes.last; j += 2 * n) {
        const index_type other = std::min(j + n, lanes.last - n);
        V z(T(0)), z_other(T(0));
        for (index_type c = 0; c < group_.dim(); ++c) {
          const V q = query(i, c);
          const auto w = parameter_of<V>(scorer_, c);
          z = add_channel(scorer_, z, q, key(j, c), w);
          z_other = add_channel(scorer_, z_other, q, key(other, c), w);
        }
        f(i, j, z);
        if (other != j) f(i, other, z_other);
      }
    });
  }
  /// f(first, count) for each register of channels.
  template <class F>
  void each_channels(const F& f) const noexcept {
    for (index_type c = 0; c < group_.dim(); c += n) f(c, std::min(n, group_.dim() - c));
  }

  const Scorer& scorer_;
  const key_group<Arch, T>& group_;
  const gradient_rows<T>& r_;
};

/// A reference to either, asked once a group of keys and block of rows; and where a head's gradient by the
/// scorer's parameters is summed, if it is wanted.
template <class Arch, class T>
class gradient_scorer_ref {
  using group_type = key_group<Arch, T>;
  using rows_type = gradient_rows<T>;

 public:
  template <class Scorer>
  explicit gradient_scorer_ref(const Scorer& scorer, double* d_parameters = nullptr) noexcept
      : scorer_(&scorer), d_parameters_(d_parameters), of_(&functions_of<Scorer>) {}

  /// See key_group::score; a user's logits are left as raw products are.
  void score(const group_type& group, const rows_type& rows, bool plain, bool finite) const noexcept {
    of_->score(scorer_, group, rows, plain, finite);
  }
  /// (C, d)  dK += dS^T Q   and   (R, d)  dQ += dS K,   or what a scorer has in their place.
  void pull_back(const group_type& group, const rows_type& rows, const rows_of<T>& k, bool finite,
                 const sums_of_rows<T>& d_k) const noexcept {
    of_->pull_back(scorer_, group, rows, k, finite, d_k, d_parameters_);
  }

 private:
  struct functions {
    void (*score)(const void*, const group_type&, const rows_type&, bool, bool) noexcept;
    void (*pull_back)(const void*, const group_type&, const rows_type&, const rows_of<T>&, bool,
                      const sums_of_rows<T>&, double*) noexcept;
  };
  template <class Scorer>
  static constexpr functions functions_of{
      [](const void* scorer, const group_type& group, const rows_type& rows, bool plain,
         bool finite) noexcept {
        if constexpr (std::is_same_v<Scorer, dot_product>)
          group.score(rows, plain, finite);
        else
          with_chosen(*static_cast<const Scorer*>(scorer), [&](const auto& chosen) {
            scorer_gradient<Arch, T, std::remove_cvref_t<decltype(chosen)>>(chosen, group, rows).score();
          });
      },
      [](const void* scorer, const group_type& group, const rows_type& rows, const rows_of<T>& k, bool finite,
         const sums_of_rows<T>& d_k, [[maybe_unused]] double* d_parameters) noexcept {
        if constexpr (std::is_same_v<Scorer, dot_product>) {
          group.add_to_keys(rows, finite, d_k);
          group.add_to_queries(rows, k, finite);
        } else {
          clear_if_empty<Arch>(d_k, group.keys().size(), group.width());
          clear_if_empty<Arch>(rows.d_q, rows.rows.size(), group.width());
          with_chosen(*static_cast<const Scorer*>(scorer), [&](const auto& chosen) {
            const scorer_gradient<Arch, T, std::remove_cvref_t<decltype(chosen)>> own(chosen, group, rows);
            own.pull_back_logits(), own.add(d_k, d_parameters);
          });
        }
      }};

  const void* scorer_;
  double* d_parameters_;
  const functions* of_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
