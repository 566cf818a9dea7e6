// fovea/distributed/slices.hpp - which tokens of a sequence a rank holds.
#pragma once

#include <fovea/index.hpp>

#include <array>
#include <cstdint>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// How the tokens of a sequence are spread over P ranks.
enum class token_layout {
  contiguous,  // one slice a rank, one after another; any lengths, as the ranks have them
  balanced  // 2P even slices; rank i holds slices i and 2P - 1 - i: under a causal mask all have equal work
};

/// The tokens that a rank holds, in the order in which its rows hold them: one range, or two.
/// Even slices: slice s of n holds the tokens from floor(s L / n) up to floor((s + 1) L / n). Up to
/// 2^31 ranks, which is more than MPI counts.
inline std::array<range, 2> tokens_of_rank(token_layout layout, index_type tokens, index_type rank,
                                           index_type ranks) {
  constexpr std::int64_t most_ranks = std::int64_t(1) << 31;
  if (tokens < 0) reject("tokens_of_rank: a sequence of ", tokens, " tokens, fewer than 0");
  if (ranks <= 0 || rank < 0 || rank >= ranks)
    reject("tokens_of_rank: rank ", rank, " is not one of ", ranks);
  if (ranks > most_ranks) reject("tokens_of_rank: ", ranks, " ranks, more than ", most_ranks);
  const auto slice = [&](index_type s, index_type of) {
    const auto start = [&](index_type i) {  // the product of two numbers of up to 2^32, one below it
      const auto left = static_cast<std::uint64_t>(tokens % of) * static_cast<std::uint64_t>(i);
      return tokens / of * i + static_cast<index_type>(left / static_cast<std::uint64_t>(of));
    };
    return range{start(s), start(s + 1)};
  };
  if (layout == token_layout::contiguous) return {slice(rank, ranks), range{}};
  return {slice(rank, 2 * ranks), slice(2 * ranks - 1 - rank, 2 * ranks)};
}

namespace distributed {

/// Rows of a rank that stand side by side in the sequence: from `row` on, its tokens from `first` on.
struct slice {
  index_type row, first, count;
};

/// The slices of each rank of one sequence.
class slices_of_ranks {
 public:
  slices_of_ranks() = default;
  /// held(rank): how many tokens a rank says it holds. Throws, where that is not what the layout gives it.
  template <class Held>
  slices_of_ranks(token_layout layout, int ranks, const char* name, const Held& held) {
    for (int r = 0; r < ranks; ++r) tokens_ += held(r);
    index_type first = 0;
    for (int r = 0; r < ranks; ++r) {
      std::array<range, 2> parts{range{first, first + held(r)}, range{}};
      if (layout == token_layout::balanced) parts = tokens_of_rank(layout, tokens_, r, ranks);
      const index_type wanted = parts[0].size() + parts[1].size();
      if (wanted != held(r))
        reject(name, " has ", held(r), " tokens on rank ", r, " but the balanced layout of ", tokens_,
               " tokens over ", ranks, " ranks gives it ", wanted);
      all_.push_back({slice{0, parts[0].first, parts[0].size()},
                      slice{parts[0].size(), parts[1].first, parts[1].size()}});
      first += held(r);
    }
  }
  index_type tokens() const noexcept { return tokens_; }
  index_type held(int rank) const noexcept { return of(rank)[0].count + of(rank)[1].count; }
  const std::array<slice, 2>& of(int rank) const noexcept { return all_[static_cast<std::size_t>(rank)]; }

 private:
  index_type tokens_ = 0;
  std::vector<std::array<slice, 2>> all_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
