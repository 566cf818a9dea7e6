// fovea/top_blocks.hpp - the blocks of keys that matter most to each block of queries, as a mask.
//
//   fovea::block_summaries keys(kv_heads, dim, {.side = 64});       // of one call
//   keys.append(k);                                                 // a cache keeps them: summarised_cache
//   const fovea::chosen_blocks chosen = fovea::top_blocks(q, keys, {.blocks = 12});
//   attend(q, k, v, chosen.mask(), fovea::causal);                  // computes these blocks alone
//
// Of blocks of keys the mean is kept, and the least and largest of each channel. A block of queries scores a
// block of keys by
//   block_score::mean      (mean of its queries) . (mean of the keys)
//                          (Lu et al., "MoBA", arXiv:2502.13189)
//   block_score::min_max   max over its queries of  sum_c max(q_c least_c, q_c largest_c), which no q . k of
//                          the block exceeds (Tang et al., "Quest", arXiv:2406.10774)
// and takes those with the largest scores. It is not exact attention: kept_mass says how much is lost.
#pragma once

#include <fovea/kv_cache/block_summaries.hpp>
#include <fovea/mask.hpp>

#include <cmath>
#include <numeric>
#include <vector>

FOVEA_NAMESPACE_BEGIN

enum class block_score { mean, min_max };

struct top_blocks_options {
  index_type blocks = 1;    // of keys that a block of queries sees, those that it always sees among them
  index_type queries = 64;  // of a block
  block_score score = block_score::mean;
  bool first = true, own = true;  // the first block, and those of the queries' own tokens, always
  bool causal = true;             // blocks behind the queries are not chosen; else all may be
  index_type heads = 1;           // of q, where it is a matrix
};

/// A map of the chosen blocks, of each query head; its mask reads it during calls.
class chosen_blocks {
 public:
  /// None of them is chosen. Throws std::invalid_argument for a negative size, std::length_error for a
  /// product that no index can count.
  chosen_blocks(index_type heads, index_type rows, index_type columns, block_sides sides)
      : heads_(heads), rows_(rows), columns_(columns), sides_(sides), map_(size(heads, rows, columns)) {}

  bool operator()(index_type head, index_type row, index_type column) const noexcept {
    return map_[at(head, row, column)] != 0;
  }
  void choose(index_type head, index_type row, index_type column) noexcept {
    map_[at(head, row, column)] = 1;
  }
  block_sides sides() const noexcept { return sides_; }
  index_type rows() const noexcept { return rows_; }
  index_type columns() const noexcept { return columns_; }
  /// The mask, which lives no longer than this.
  auto mask() const& { return block_map(bhsd(map_.data(), 1, heads_, rows_, columns_), sides_); }
  auto mask() && = delete;

 private:
  static std::size_t size(index_type heads, index_type rows, index_type columns) {
    if (heads < 0 || rows < 0 || columns < 0)
      reject("chosen_blocks of ", heads, " x ", rows, " x ", columns, " have a negative size");
    return static_cast<std::size_t>(size_product("chosen_blocks", heads, rows, columns));
  }
  std::size_t at(index_type head, index_type row, index_type column) const noexcept {
    return static_cast<std::size_t>((head * rows_ + row) * columns_ + column);
  }
  index_type heads_, rows_, columns_;
  block_sides sides_;
  std::vector<unsigned char> map_;
};

namespace choosing {

/// What a block of queries makes of each block of keys; numbers of a key a channel, blocks side by side.
class block_scores {
 public:
  block_scores(const block_summaries& keys, index_type head, block_score score)
      : blocks_(keys.blocks()), dim_(keys.dim()), score_(score), sums_(size(blocks_)), best_(size(blocks_)) {
    const bool mean = score == block_score::mean;
    a_.resize(size(blocks_ * dim_)), b_.resize(mean ? 0 : a_.size());
    for (index_type j = 0; j < blocks_; ++j)
      for (index_type c = 0; c < dim_; ++c) {
        const std::size_t to = size(c * blocks_ + j);
        a_[to] = mean ? keys.sum(head, j)[c] / static_cast<float>(keys.count(j)) : keys.least(head, j)[c];
        if (!mean) b_[to] = keys.largest(head, j)[c];
      }
  }
  /// Of the queries `rows`.
  const std::vector<float>& of(const auto& q, range rows) {
    std::vector<float> query(size(dim_));
    const auto read = [&](index_type t, index_type c) { return load_element<float>(q(t, c)); };
    if (score_ == block_score::mean) {
      for (index_type t = rows.first; t < rows.last; ++t)
        for (index_type c = 0; c < dim_; ++c) query[size(c)] += read(t, c);
      add_products(query);
      return sums_;
    }
    for (index_type t = rows.first; t < rows.last; ++t) {
      for (index_type c = 0; c < dim_; ++c) query[size(c)] = read(t, c);
      add_products(query);
      for (index_type j = 0; j < blocks_; ++j) {
        float& best = best_[size(j)];
        best = t == rows.first || best < sums_[size(j)] || sums_[size(j)] != sums_[size(j)] ? sums_[size(j)]
                                                                                            : best;
      }
    }
    return best_;
  }

 private:
  static std::size_t size(index_type n) noexcept { return static_cast<std::size_t>(n); }
  void add_products(const std::vector<float>& query) {
    std::fill(sums_.begin(), sums_.end(), 0.0f);
    for (index_type c = 0; c < dim_; ++c) {
      const float x = query[size(c)];
      const auto& from = score_ == block_score::min_max && x >= 0 ? b_ : a_;  // max(x least, x largest)
      const float* const of_channel = from.data() + c * blocks_;
      for (index_type j = 0; j < blocks_; ++j) sums_[size(j)] += x * of_channel[j];
    }
  }

  index_type blocks_, dim_;
  block_score score_;
  std::vector<float> a_, b_, sums_, best_;
};

}  // namespace choosing

/// For each query head and block of o.queries queries, the o.blocks blocks of keys with the largest scores;
/// of equal ones the earlier, and a NaN counts as the largest. The queries are the last tokens of the keys.
/// q: an Eigen matrix (tokens x heads * dim) or a tensor of one sequence, of any element; query head h reads
/// the summaries of head h / (heads / keys.heads()). By the mean 1 / (side queries) of the operations of
/// Q K^T, by min_max 1 / side. Throws std::invalid_argument, with both numbers, where sizes do not fit, for
/// fewer than 1 block and fewer than 16 queries a block, and for more queries than keys.
template <viewable Q>
chosen_blocks top_blocks(const Q& q, const block_summaries& keys, const top_blocks_options& o) {
  const auto all = as_sequences(q, o.heads, "q");
  if (all.batches() != 1) reject("top_blocks is for one sequence, q has ", all.batches());
  if (all.dim() != keys.dim()) reject("q has ", all.dim(), " dimensions a head but k has ", keys.dim());
  if (all.heads() % keys.heads() != 0)
    reject("q has ", all.heads(), " heads, no multiple of the ", keys.heads(), " of k");
  if (o.blocks < 1) reject("top_blocks' blocks are ", o.blocks, ", fewer than 1");
  if (o.queries < 16) reject("top_blocks' queries a block are ", o.queries, ", fewer than 16");
  const index_type queries = all.tokens(0), group = all.heads() / keys.heads();
  if (queries > keys.tokens())
    reject("top_blocks needs no more queries than keys, not ", queries, " queries and ", keys.tokens(),
           " keys");
  const index_type first_query = keys.tokens() - queries;

  chosen_blocks chosen(all.heads(), ceil_div(queries, o.queries), keys.blocks(), {o.queries, keys.side()});
  std::vector<index_type> order(static_cast<std::size_t>(keys.blocks()));
  for (index_type h = 0; h < all.heads(); ++h) {
    choosing::block_scores scores(keys, h / group, o.score);
    const auto head = all.head(0, h);
    for (index_type i = 0; i < chosen.rows(); ++i) {
      const range rows{i * o.queries, std::min((i + 1) * o.queries, queries)};
      const range own{(rows.first + first_query) / keys.side(),
                      (rows.last - 1 + first_query) / keys.side() + 1};
      const index_type candidates = o.causal ? own.last : keys.blocks();
      const std::vector<float>& score = scores.of(head, rows);
      const auto always = [&](index_type j) {
        return (o.first && j == 0) || (o.own && j >= own.first && j < own.last);
      };
      const auto rank = [&](index_type j) {
        const float s = score[static_cast<std::size_t>(j)];
        return std::pair(always(j) ? 2 : s != s ? 1 : 0, s != s ? 0.0f : s);
      };
      const auto last = order.begin() + candidates;
      std::iota(order.begin(), last, index_type(0));
      index_type count = 0;
      for (index_type j = 0; j < candidates; ++j) count += always(j);
      count = std::min(std::max(count, o.blocks), candidates);
      std::partial_sort(order.begin(), order.begin() + count, last, [&](index_type x, index_type y) {
        const auto of_x = rank(x), of_y = rank(y);
        return of_x == of_y ? x < y : of_x > of_y;
      });
      for (auto j = order.begin(); j != order.begin() + count; ++j) chosen.choose(h, i, *j);
    }
  }
  return chosen;
}

/// The recall of a mask: of each row's softmax under mods alone, the share of its mass that the mask keeps,
/// exp(LSE with it - LSE without), averaged over the rows and heads that see a key. Two calls of attention.
template <class Attention, class Q, class K, class Mask, class... Mods>
double kept_mass(const Attention& attend, const Q& q, const K& k, const Mask& mask, const Mods&... mods) {
  const auto with = attend.with_lse(q, k, k, mask, mods...), without = attend.with_lse(q, k, k, mods...);
  const auto kept = as_sequences(with.lse, any_heads, "lse"),
             whole = as_sequences(without.lse, any_heads, "lse");
  double sum = 0, rows = 0;
  for (index_type b = 0; b < whole.batches(); ++b)
    for (index_type h = 0; h < whole.heads(); ++h)
      for (index_type i = 0; i < whole.tokens(b); ++i)
        for (index_type c = 0; c < whole.dim(); ++c) {  // heads, of a matrix
          const double of_all = static_cast<double>(whole.head(b, h)(i, c));
          if (of_all == -std::numeric_limits<double>::infinity()) continue;
          sum += std::exp(static_cast<double>(kept.head(b, h)(i, c)) - of_all), ++rows;
        }
  return rows == 0 ? 1 : sum / rows;
}

FOVEA_NAMESPACE_END
