// fovea/luong/local_window.hpp - a window around a place of each query's own, and the Gaussian over it.
#pragma once

#include <fovea/kernel/arch.hpp>
#include <fovea/mask/concept.hpp>
#include <fovea/score/concept.hpp>
#include <fovea/view/sequences.hpp>

#include <cmath>
#include <numbers>

FOVEA_NAMESPACE_BEGIN

/// The centres of one head of one sequence, a number a query.
template <class T>
matrix_view<const T> centres_at(const sequences<const T>& centres, const place& at) noexcept {
  const auto of_queries = centres.head(at.batch, at.head);
  return {of_queries.data, at.queries, at.keys, of_queries.row_stride, 0};
}

/// Key k is visible to query q where |k - centre_q| <= distance; all are where the centre is NaN, so that the
/// row is NaN as well.
template <class T>
struct window_around {
  using is_mask = void;
  sequences<const T> centres;
  T distance;

  struct bound {
    using reads_cells = void;
    matrix_view<const T> centres;
    T distance;

    auto visible(const auto& cells) const noexcept {
      const auto apart = cells.col() - cells.load(centres);
      using V = std::remove_cvref_t<decltype(apart)>;
      return !((apart > number_as<V>(distance)) | (apart < number_as<V>(-distance)));
    }
    coverage cover(range rows, range keys) const noexcept {
      return intersect(reach(rows), keys).empty() ? coverage::none : coverage::partial;
    }
    range reach(range rows) const noexcept {
      range all{centres.cols, 0};
      for (index_type i = rows.first; i < rows.last; ++i) {
        const T centre = centres(i, 0);
        if (centre != centre) return {0, centres.cols};
        // A key more on each side: these sums are rounded, as the differences above are.
        all.first = std::min(all.first, static_cast<index_type>(std::floor(centre - distance)));
        all.last = std::max(all.last, static_cast<index_type>(std::ceil(centre + distance)) + 1);
      }
      return intersect(all, {0, centres.cols});
    }
  };
  bound bind(const place& at) const noexcept { return {centres_at(centres, at), distance}; }
};

/// P_ij -> P_ij exp(-(j - centre_i)^2 / (2 sigma^2)) after the softmax; `moment`: that times j - centre_i.
template <class T>
struct gaussian_around {
  static constexpr bool drops = true;
  sequences<const T> centres;
  T sigma;
  bool moment = false;

  struct bound {
    static constexpr bool drops = true;
    matrix_view<const T> centres;
    double exponent;  // -log2(e) / (2 sigma^2)
    bool moment;

    auto factor(const auto& cells) const noexcept {
      const auto apart = cells.col() - cells.load(centres);
      using V = std::remove_cvref_t<decltype(apart)>;
      const V gauss = power_of_two(V(number_as<V>(exponent) * apart * apart));
      return moment ? V(gauss * apart) : gauss;
    }

   private:
    template <class V>
    static V power_of_two(const V& x) noexcept {
      if constexpr (requires { typename V::arch_type; })
        return kernel::isa<typename V::arch_type>::exp2(x);
      else
        return std::exp2(x);
    }
  };
  bound bind(const place& at) const noexcept {
    const double s = static_cast<double>(sigma);
    return {centres_at(centres, at), -std::numbers::log2e / (2 * s * s), moment};
  }
};

FOVEA_NAMESPACE_END
