// fovea/mask/dilated.hpp - a query sees every n-th key, counted from its own position.
#pragma once

#include <fovea/mask/division.hpp>

FOVEA_NAMESPACE_BEGIN

/// dilated, where query q stands at key q + first_query, 0 <= first_query < step.
struct every_nth {
  using reads_cells = void;
  static constexpr bool step_alone = true;
  index_type step, first_query;

  auto visible(const auto& cells) const noexcept {
    using number = std::remove_cvref_t<decltype(cells.row())>;
    const number distance = cells.row() + whole<number>(first_query) - cells.col();
    return remainder_of(distance, step) == number(0.0f);
  }
  key_step every() const noexcept { return {step, first_query}; }
  coverage cover(range rows, range keys) const noexcept {
    if (rows.empty() || next(rows, keys.first) >= keys.last) return coverage::none;
    return step == 1 || (rows.size() == 1 && keys.size() == 1) ? coverage::full : coverage::partial;
  }
  index_type next(range rows, index_type key) const noexcept {
    const index_type behind = behind_first(rows, key);
    return behind < rows.size() ? key : key + step - behind;
  }
  range shown(range rows, range keys) const noexcept {
    const index_type behind = behind_first(rows, keys.last - 1);
    return {next(rows, keys.first), keys.last - std::max<index_type>(behind - rows.size() + 1, 0)};
  }

 private:
  /// How many keys lie between this one and the last before it, or itself, that the first row sees.
  index_type behind_first(range rows, index_type key) const noexcept {
    return modulo(key - rows.first - first_query, step);
  }
};

/// Key k is visible to query q where q + n - k is a multiple of `step`; n, where the first query stands, is
/// the offset, or as a causal mask of the call says, or a cache, or 0 with as many queries as keys. With
/// others:
///
///   sliding_window{.left = w * step, .right = w * step} & dilated{step}    a window with gaps (Longformer,
///                                                                          arXiv:2004.05150, figure 2c)
///   causal & (sliding_window{.left = step} | dilated{step})                strided (Sparse Transformer,
///                                                                          arXiv:1904.10509, figure 3b)
///
/// Throws std::invalid_argument where nothing says where queries stand, for a step not within 1 and 2^21, and
/// from 2^21 tokens on.
///
/// Calls of attention, forward and backward, sort tokens by remainder (plan/token_classes.hpp): queries of
/// one remainder see keys of one, every n-th row, and what is computed is what is visible. Of the time
/// without a mask, 4 heads x 4,096 x 64, one thread (Zen 5, AVX-512), forward, backward and one query: step
/// 2 takes 0.52, 0.53 and 0.72, step 8 0.13, 0.15 and 0.20, step 64 0.023, 0.034 and 0.028. Other masks of
/// the call go along, and scores of positions. Not so a cache's keys, learnt scores, a bias, a scorer,
/// dropout, what is kept or received, and a dilated mask inside of a | b: there keys are skipped only where
/// a block of queries sees none, with steps far beyond 48, the queries that kernels take at a time. The plan
/// of such a call speaks of classes of tokens where those of others speak of sequences, and is for as many
/// keys and the same offset.
///
/// The strided mask above is therefore better said as two calls, of what is near and of the rest, merged
/// (partial.hpp); its gradients are the sums of those of both, given the merged out and LSE. With a step of
/// 64 4.4 ms in place of 37, backward 13 in place of 62; of 8 7.4 in place of 43, and 20 in place of 110:
///
///   const fovea::sliding_window near{.left = step};
///   auto o = merge(attend.with_lse(q, k, v, causal & near),
///                  attend.with_lse(q, k, v, causal & dilated{step} & !near));
struct dilated {
  using is_mask = void;
  index_type step;
  offset_if_given offset = {};

  void check(const place& at) const {
    at.check_named_first_query("dilated", offset), check_divided("dilated", at);
    if (step < 1 || step > most_divided / 2)
      reject("dilated's step is ", step, ", not within 1 and ", most_divided / 2);
  }
  every_nth bind(const place& at) const noexcept {
    return {step, modulo(at.named_first_query(offset), step)};
  }
};

FOVEA_NAMESPACE_END
