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
/// f(q_ic, k_jc), f being what add adds.
template <class Arch, class T, class Scorer>
class scorer_gradient {
  using V = vec<Arch, T>;
  using D = dual<V>;
  static constexpr index_type n = lanes<Arch, T>;

 public:
  scorer_gradient(const Scorer& scorer, const key_group<Arch, T>& group,
                  const gradient_rows<T>& rows) noexcept
      : scorer_(scorer), group_(group), r_(rows) {}

  /// S, where it is seen, in place of P.
  FOVEA_NOINLINE FOVEA_FLATTEN void score() const noexcept {
    each_sum(
        [&](index_type i, index_type j, const V& z) { scorer_.logit(z).store_unaligned(group_.p_at(i, j)); });
  }

  /// dZ = dS logit'(Z), in place of dS; 0 beyond the last key.
  FOVEA_NOINLINE FOVEA_FLATTEN void pull_back_logits() const noexcept {
    each_sum([&](index_type i, index_type j, const V& z) {
      T* const at = group_.ds_at(i, j);
      const V ds = pulled(V::load_unaligned(at), scorer_.logit(D(z, V(T(1)))).slope);
      const V left(static_cast<T>(group_.keys().size() - j));
      xsimd::select(counting_up<Arch, T>() < left, ds, V(T(0))).store_unaligned(at);
    });
  }

  /// dQ_ic += sum_j dZ_ij df / dq_ic
  FOVEA_NOINLINE FOVEA_FLATTEN void add_to_queries() const noexcept {
    group_.each_seen_row([&](index_type i, range lanes) {
      each_channels([&](index_type first, index_type channels) {
        V sums[std::size_t{n}];
        for (V& x : sums) x = V(T(0));
        for (index_type j = lanes.first; j < lanes.last; j += n)
          for (index_type e = 0; e < channels; ++e) sums[e] = sums[e] + term<true>(i, j, first + e);
        T* const to = r_.d_q + i * r_.d_q_stride + first;
        (V::load_unaligned(to) + isa<Arch>::sums_of_lanes(sums)).store_unaligned(to);
      });
    });
  }

  /// dK_jc += sum_i dZ_ij df / dk_jc, a row a key.
  FOVEA_NOINLINE FOVEA_FLATTEN void add_to_keys(const sums_of_rows<T>& d_k) const noexcept {
    for (index_type j = 0; j < group_.keys().size(); j += n) {
      const index_type keys = std::min(n, group_.keys().size() - j);
      each_channels([&](index_type first, index_type channels) {
        V sums[std::size_t{n}];
        for (V& x : sums) x = V(T(0));
        group_.each_seen_row([&](index_type i, range lanes) {
          if (intersect(lanes, {j, j + n}).empty()) return;
          for (index_type e = 0; e < channels; ++e) sums[e] = sums[e] + term<false>(i, j, first + e);
        });
        isa<Arch>::transpose(sums);
        for (index_type e = 0; e < keys; ++e) {
          T* const to = d_k.data + (j + e) * d_k.stride + first;
          (V::load_unaligned(to) + sums[e]).store_unaligned(to);
        }
      });
    }
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
  /// dZ_ij times the derivative of what channel c adds, by the query or by the key.
  template <bool ByQuery>
  V term(index_type i, index_type j, index_type c) const noexcept {
    constexpr T one(ByQuery ? 1 : 0);
    const D added = scorer_.add(D(V(T(0))), D(query(i, c), V(one)), D(key(j, c), V(1 - one)));
    return pulled(V::load_unaligned(group_.ds_at(i, j)), added.slope);
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
          z = scorer_.add(z, q, key(j, c)), z_other = scorer_.add(z_other, q, key(other, c));
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

/// A reference to either, asked once a group of keys and block of rows.
template <class Arch, class T>
class gradient_scorer_ref {
  using group_type = key_group<Arch, T>;
  using rows_type = gradient_rows<T>;

 public:
  template <class Scorer>
  explicit gradient_scorer_ref(const Scorer& scorer) noexcept
      : scorer_(&scorer), of_(&functions_of<Scorer>) {}

  /// See key_group::score; a user's logits are left as raw products are.
  void score(const group_type& group, const rows_type& rows, bool plain, bool finite) const noexcept {
    of_->score(scorer_, group, rows, plain, finite);
  }
  /// (C, d)  dK += dS^T Q   and   (R, d)  dQ += dS K,   or what a scorer has in their place.
  void pull_back(const group_type& group, const rows_type& rows, const rows_of<T>& k, bool finite,
                 const sums_of_rows<T>& d_k) const noexcept {
    of_->pull_back(scorer_, group, rows, k, finite, d_k);
  }

 private:
  struct functions {
    void (*score)(const void*, const group_type&, const rows_type&, bool, bool) noexcept;
    void (*pull_back)(const void*, const group_type&, const rows_type&, const rows_of<T>&, bool,
                      const sums_of_rows<T>&) noexcept;
  };
  template <class Scorer>
  static scorer_gradient<Arch, T, Scorer> on(const void* scorer, const group_type& group,
                                             const rows_type& rows) noexcept {
    return {*static_cast<const Scorer*>(scorer), group, rows};
  }
  template <class Scorer>
  static constexpr functions functions_of{
      [](const void* scorer, const group_type& group, const rows_type& rows, bool plain,
         bool finite) noexcept {
        if constexpr (std::is_same_v<Scorer, dot_product>)
          group.score(rows, plain, finite);
        else
          on<Scorer>(scorer, group, rows).score();
      },
      [](const void* scorer, const group_type& group, const rows_type& rows, const rows_of<T>& k, bool finite,
         const sums_of_rows<T>& d_k) noexcept {
        if constexpr (std::is_same_v<Scorer, dot_product>) {
          group.add_to_keys(rows, finite, d_k);
          group.add_to_queries(rows, k, finite, d_k.stride);
        } else {
          const auto own = on<Scorer>(scorer, group, rows);
          own.pull_back_logits(), own.add_to_keys(d_k), own.add_to_queries();
        }
      }};

  const void* scorer_;
  const functions* of_;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
