// byte_pairs.hpp - byte-pair encoding: of all neighbours, the pair that comes first in a list is joined (of
// the same pair, the leftmost), until none is left. Sennrich et al., arXiv:1508.07909.
#pragma once

#include "input_error.hpp"

#include <cstdint>
#include <queue>
#include <unordered_map>
#include <vector>

namespace generate {

class byte_pairs {
 public:
  /// merges: "left right", the first to be joined first. Throws input_error where one is not two parts.
  explicit byte_pairs(const std::vector<std::string>& merges) {
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const auto space = merges[i].find(' ');
      if (space == std::string::npos || space == 0 || space + 1 == merges[i].size() ||
          merges[i].find(' ', space + 1) != std::string::npos)
        throw input_error("the tokenizer's merge " + std::to_string(i) + ", \"" + merges[i] +
                          "\", is not two parts");
      const std::string left = merges[i].substr(0, space), right = merges[i].substr(space + 1);
      pairs_.emplace(key(symbol(left), symbol(right)), joined{i, symbol(left + right)});
    }
  }

  /// The number of a part; texts that are alike have the same.
  int symbol(const std::string& text) {
    const auto [at, added] = numbers_.emplace(text, static_cast<int>(texts_.size()));
    if (added) texts_.push_back(text);
    return at->second;
  }
  const std::string& text(int symbol) const { return texts_[static_cast<std::size_t>(symbol)]; }
  int symbols() const { return static_cast<int>(texts_.size()); }

  /// The parts (symbols) of a word, joined as far as they can be. Cost: n log n of their number.
  std::vector<int> join(std::vector<int> parts) const {
    const std::size_t n = parts.size();
    std::vector<std::size_t> next(n), before(n);  // n: none
    for (std::size_t i = 0; i < n; ++i) next[i] = i + 1, before[i] = i > 0 ? i - 1 : n;
    std::priority_queue<candidate> candidates;
    const auto offer = [&](std::size_t left) {
      if (next[left] == n) return;
      const int a = parts[left], b = parts[next[left]];
      if (const auto found = pairs_.find(key(a, b)); found != pairs_.end())
        candidates.push({found->second, left, a, b});
    };
    for (std::size_t i = 0; i < n; ++i) offer(i);
    while (!candidates.empty()) {
      const candidate c = candidates.top();
      candidates.pop();
      const std::size_t right = next[c.at];
      // Parts only grow: where both are what they were, nothing has happened to them.
      if (parts[c.at] != c.left || right == n || parts[right] != c.right) continue;
      parts[c.at] = c.whole.symbol, parts[right] = gone;
      next[c.at] = next[right];
      if (next[c.at] != n) before[next[c.at]] = c.at;
      if (before[c.at] != n) offer(before[c.at]);
      offer(c.at);
    }
    std::erase(parts, gone);
    return parts;
  }

 private:
  static constexpr int gone = -1;
  struct joined {
    std::size_t rank;
    int symbol;
  };
  struct candidate {
    joined whole;
    std::size_t at;
    int left, right;
    /// The queue gives the greatest: the least rank, then the leftmost.
    bool operator<(const candidate& other) const {
      return whole.rank != other.whole.rank ? whole.rank > other.whole.rank : at > other.at;
    }
  };
  static std::uint64_t key(int left, int right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }

  std::unordered_map<std::string, int> numbers_;
  std::vector<std::string> texts_;
  std::unordered_map<std::uint64_t, joined> pairs_;
};

}  // namespace generate
