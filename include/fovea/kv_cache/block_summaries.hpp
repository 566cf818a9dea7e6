// fovea/kv_cache/block_summaries.hpp - what is known of blocks of keys: sums, least and largest numbers.
#pragma once

#include <fovea/element/concept.hpp>
#include <fovea/view/sequences.hpp>

#include <utility>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// What is known of each block of one sequence's keys: memory of 3 dim floats a block and head.
class block_summaries {
 public:
  struct options {
    index_type side = 64;  // keys of a block
  };
  /// Throws std::invalid_argument for a side below 16, and no heads or channels; std::length_error where the
  /// numbers of a block, or of all that is taken in, are more than can be counted.
  block_summaries(index_type heads, index_type dim, options o) : heads_(heads), dim_(dim), side_(o.side) {
    if (side_ < 16) reject("block_summaries' side is ", side_, ", less than 16");
    if (heads < 1 || dim < 1)
      reject("block_summaries are of ", heads, " heads of ", dim, " channels, fewer than 1");
    size_product("a block of block_summaries", heads, dim, index_type(3), sizeof(float));
  }
  block_summaries(const block_summaries&) = default;
  block_summaries& operator=(const block_summaries&) = default;
  /// What was moved from is of no keys.
  block_summaries(block_summaries&& other) noexcept
      : heads_(other.heads_),
        dim_(other.dim_),
        side_(other.side_),
        tokens_(std::exchange(other.tokens_, 0)),
        numbers_(std::move(other.numbers_)) {}
  block_summaries& operator=(block_summaries&& other) noexcept {
    if (this == &other) return *this;
    heads_ = other.heads_, dim_ = other.dim_, side_ = other.side_;
    tokens_ = std::exchange(other.tokens_, 0), numbers_ = std::move(other.numbers_);
    return *this;
  }

  index_type heads() const noexcept { return heads_; }
  index_type dim() const noexcept { return dim_; }
  index_type side() const noexcept { return side_; }
  index_type tokens() const noexcept { return tokens_; }
  index_type blocks() const noexcept { return ceil_div(tokens_, side_); }

  /// Takes in the keys that follow, as a cache's append does: an Eigen matrix (tokens x heads * dim) or a
  /// tensor of one sequence, of any element. Reads each key once. Throws std::invalid_argument, with both
  /// numbers, for other sizes.
  template <viewable K>
  void append(const K& k) {
    const auto all = as_sequences(k, heads_, "k");
    if (all.batches() != 1) reject("block_summaries are of one sequence, k has ", all.batches());
    if (all.heads() != heads_) reject("k has ", all.heads(), " heads but block_summaries ", heads_);
    if (all.dim() != dim_) reject("k has ", all.dim(), " dimensions a head but block_summaries ", dim_);
    take(tokens_ + all.tokens(0), [&](index_type h, const auto& take_key) {
      const auto head = all.head(0, h);
      for (index_type t = 0; t < head.rows; ++t)
        take_key([&](index_type c) { return load_element<float>(head(t, c)); });
    });
  }
  /// Becomes the summaries of all that a cache shows of its keys (cache.keys()), as they are stored; the
  /// first `unchanged` of them are those that were taken in before. Reads the others, and fewer than `side`
  /// of these.
  template <class Shown>
  void follow(const Shown& shown, index_type unchanged) {
    if (shown.heads() != heads_)
      reject("the cache has ", shown.heads(), " heads but block_summaries ", heads_);
    if (shown.dim() != dim_)
      reject("the cache has ", shown.dim(), " dimensions a head but block_summaries ", dim_);
    const index_type total = shown.tokens(0);
    if (const index_type same = std::max<index_type>(std::min(unchanged, total), 0); same < tokens_)
      tokens_ = same / side_ * side_;
    const range more{tokens_, total};
    take(total, [&](index_type h, const auto& take_key) {
      shown.head(0, h).each_piece(more, [&](const auto& part) {
        for (index_type t = 0; t < part.tokens.rows; ++t)
          take_key([&](index_type c) {
            float x = load_element<float>(part.tokens(t, c));
            if (part.channel_scales != nullptr) x *= part.channel_scales[c];
            return part.token_scales != nullptr ? x * part.token_scales[t] : x;
          });
      });
    });
  }
  void reset() noexcept { tokens_ = 0; }
  /// Makes room: taking in keys up to so many in all, or following them, then allocates nothing.
  void reserve(index_type tokens) {
    const std::size_t wanted = size(tokens), twice = 2 * numbers_.capacity();
    if (wanted > numbers_.capacity()) numbers_.reserve(std::max(wanted, twice));
    key_.resize(static_cast<std::size_t>(dim_));
  }

  /// The sum of a block's keys, and the least and largest number of each channel, which a NaN makes NaN.
  const float* sum(index_type head, index_type block) const noexcept { return at(head, block); }
  const float* least(index_type head, index_type block) const noexcept { return at(head, block) + dim_; }
  const float* largest(index_type head, index_type block) const noexcept {
    return at(head, block) + 2 * dim_;
  }
  /// Keys of a block: `side`, or fewer of the last.
  index_type count(index_type block) const noexcept { return std::min(side_, tokens_ - block * side_); }

 private:
  index_type a_block() const noexcept { return heads_ * 3 * dim_; }
  std::size_t size(index_type tokens) const {
    return static_cast<std::size_t>(size_product("block_summaries", ceil_div(tokens, side_), a_block()));
  }
  const float* at(index_type head, index_type block) const noexcept {
    return numbers_.data() + block * a_block() + head * 3 * dim_;
  }
  /// Takes in tokens up to `total`: each_key(head, take_key) calls take_key(number of a channel) for each.
  template <class EachKey>
  void take(index_type total, const EachKey& each_key) {
    reserve(total);
    numbers_.resize(size(total));
    for (index_type h = 0; h < heads_; ++h) {
      index_type token = tokens_;
      each_key(h, [&](const auto& number) {
        for (index_type c = 0; c < dim_; ++c) key_[static_cast<std::size_t>(c)] = number(c);
        add(h, token++, key_.data());
      });
    }
    tokens_ = total;
  }
  void add(index_type head, index_type token, const float* key) noexcept {
    float* const sum = numbers_.data() + token / side_ * a_block() + head * 3 * dim_;
    if (token % side_ == 0) {
      for (int which = 0; which < 3; ++which) std::copy_n(key, dim_, sum + which * dim_);
      return;
    }
    float *const least = sum + dim_, *const largest = least + dim_;
    for (index_type c = 0; c < dim_; ++c) sum[c] += key[c];
    for (index_type c = 0; c < dim_; ++c) {
      const float x = key[c];
      least[c] = ((x < least[c]) | (x != x)) ? x : least[c];
      largest[c] = ((x > largest[c]) | (x != x)) ? x : largest[c];
    }
  }

  index_type heads_, dim_, side_, tokens_ = 0;
  std::vector<float> numbers_;  // block, head, which, channel
  std::vector<float> key_;      // one that is taken in
};

FOVEA_NAMESPACE_END
