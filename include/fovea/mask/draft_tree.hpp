// fovea/mask/draft_tree.hpp - a tree of drafts: each sees what was before the tree, its ancestors and itself.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/mask/concept.hpp>

#include <bit>
#include <vector>

FOVEA_NAMESPACE_BEGIN

/// Word i as bits; of a negative number those of its own type alone.
inline std::uint64_t bits_of(const list_view<index_type>& words, index_type i) noexcept {
  const index_type bits = 8 * std::min<index_type>(words.element_bytes(), 8);
  return static_cast<std::uint64_t>(words[i]) & (~std::uint64_t(0) >> (64 - bits));
}

/// draft_tree, of one sequence: the drafts are the keys from `tree` on, query 0 stands at key first_query.
struct draft_cells {
  using reads_cells = void;
  list_view<index_type> words;
  index_type first_word, words_a_draft, tree, keys, first_query;

  auto visible(const auto& cells) const noexcept {
    return cells.ask([this](index_type q, index_type k) { return sees(q + first_query, k); });
  }
  /// Reads the words of the drafts among the rows, where keys of the tree are asked about.
  coverage cover(range rows, range block) const noexcept {
    const range before{block.first, std::min(block.last, tree)},
        inside{std::max(block.first, tree), block.last};
    const index_type first = rows.first + first_query, last = rows.last - 1 + first_query;  // tokens that ask
    bool all = true, any = false;
    if (!before.empty()) any = before.first <= last, all = before.last - 1 <= first;
    if (inside.empty()) return all ? coverage::full : any ? coverage::partial : coverage::none;
    all = all && first >= tree;
    for (index_type token = std::max(first, tree); token <= last && (all || !any); ++token)
      for (index_type k = inside.first; k < inside.last && (all || !any); ++k) {
        const bool now = sees(token, k);
        all = all && now, any = any || now;
      }
    return all ? coverage::full : any ? coverage::partial : coverage::none;
  }
  range reach(range rows) const noexcept {
    const index_type end = rows.last + first_query;
    return {0, end <= tree ? end : keys};
  }

 private:
  bool sees(index_type token, index_type key) const noexcept {
    if (key < tree || token < tree) return key <= token;
    const index_type draft = token - tree, other = key - tree;
    const std::uint64_t word = bits_of(words, first_word + draft * words_a_draft + other / 64);
    return draft == other || (word >> (other % 64) & 1) != 0;
  }
};

/// Speculative decoding: the last n keys are drafts, nodes of a tree of tokens that may follow. A draft sees
/// all keys before them, those of its ancestors and itself; queries before the drafts see causally. The
/// queries are the last tokens, with a cache or without. (SpecInfer, arXiv:2305.09781; Medusa,
/// arXiv:2401.10774; EAGLE, arXiv:2401.15077.)
///
/// Bit j of a draft's words says that draft j is visible to it, bit j % 64 of its word j / 64; its own bit
/// may be missing. With ancestors_of(parents) from a tree:
///
///   draft_tree{words}                   up to 64 drafts, a word each: one tree for every sequence
///   draft_tree{words, n}                n drafts of ceil(n / 64) words each; or a tree a sequence, one after
///                                       another
///
/// Words are integers of any type in a named list, read in place during the call. Throws
/// std::invalid_argument, with both numbers, where there are more drafts than keys or more queries than keys,
/// for a list of another length, and for a bit beyond the drafts. 32 drafts over 8,192 keys take the time of
/// a causal call.
struct draft_tree {
  using is_mask = void;
  list_view<index_type> ancestors;
  index_type drafts = -1;  // as many as words

  void check(const place& at) const {
    const index_type n = count(), size = ancestors.size();
    if (drafts < -1) reject("draft_tree's drafts are ", drafts, ", fewer than none");
    if (drafts < 0 && n > 64)
      reject("draft_tree's ancestors have ", n,
             " words; of more than 64 drafts, say how many: draft_tree{words, n}");
    if (n > at.keys) reject("draft_tree has ", n, " drafts, more than the ", at.keys, " keys");
    const index_type one = n * words_a_draft();
    if (size != one && size != at.batches * one)
      reject("draft_tree's ancestors have ", size, " words, neither ", one, " for its ", n,
             " drafts nor that for each of ", at.batches, " sequences");
    if (at.queries > at.keys)
      reject("draft_tree: q has ", at.queries, " tokens, more than the ", at.keys, " keys");
    for (index_type draft = 0; draft < n && n % 64 != 0; ++draft) {
      const index_type last = first_word(at) + (draft + 1) * words_a_draft() - 1;
      const auto beyond = bits_of(ancestors, last) >> (n % 64);
      if (beyond != 0)
        reject("draft_tree's draft ", draft, " names draft ", n + std::countr_zero(beyond), " of ", n);
    }
  }
  void each_operand(const auto& f) const { f("draft_tree", ancestors); }
  named_diagonal diagonal(const place& at) const noexcept { return {"draft_tree", at.keys - at.queries}; }
  draft_cells bind(const place& at) const noexcept {
    return {ancestors, first_word(at), words_a_draft(), at.keys - count(), at.keys, at.keys - at.queries};
  }

 private:
  index_type count() const noexcept { return drafts < 0 ? ancestors.size() : drafts; }
  index_type words_a_draft() const noexcept { return ceil_div(count(), 64); }
  index_type first_word(const place& at) const noexcept {
    const index_type one = count() * words_a_draft();
    return ancestors.size() == one ? 0 : at.batch * one;
  }
};

/// The words of a draft_tree whose draft i follows draft parents[i], an earlier one, or with -1 the last
/// token before the drafts. Throws std::invalid_argument where a parent is none of these.
inline std::vector<std::uint64_t> ancestors_of(const list_view<index_type>& parents) {
  const index_type n = parents.size(), words = ceil_div(n, 64);
  std::vector<std::uint64_t> bits(static_cast<std::size_t>(n * words));
  const auto word = [&](index_type draft, index_type w) -> std::uint64_t& {
    return bits[static_cast<std::size_t>(draft * words + w)];
  };
  for (index_type i = 0; i < n; ++i) {
    const index_type parent = parents[i];
    if (parent < -1 || parent >= i)
      reject("ancestors_of: draft ", i, " follows ", text_of(parents, i),
             ", neither -1 nor an earlier draft");
    for (index_type w = 0; w < words && parent >= 0; ++w) word(i, w) = word(parent, w);
    word(i, i / 64) |= std::uint64_t(1) << (i % 64);
  }
  return bits;
}

FOVEA_NAMESPACE_END
