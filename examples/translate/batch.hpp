// translate/batch.hpp - pairs as tokens, packed one after another.
#pragma once

#include "characters.hpp"
#include "dates.hpp"

#include <cstddef>

namespace translate {

/// Texts as tokens: text i is tokens[offsets[i]] to tokens[offsets[i + 1]].
struct packed {
  std::vector<int> tokens;
  std::vector<std::ptrdiff_t> offsets{0};

  std::ptrdiff_t texts() const { return static_cast<std::ptrdiff_t>(offsets.size()) - 1; }
  void add(std::span<const int> text) {
    tokens.insert(tokens.end(), text.begin(), text.end());
    offsets.push_back(static_cast<std::ptrdiff_t>(tokens.size()));
  }
};

/// The decoder reads `begin` and the target, and should say the target and `end`.
struct batch {
  packed source, target;
  std::vector<int> next;

  void add(const pair& p, const characters& known) {
    source.add(known.encode(p.source));
    std::vector<int> text = known.encode(p.target);
    next.insert(next.end(), text.begin(), text.end());
    next.push_back(characters::end);
    text.insert(text.begin(), characters::begin);
    target.add(text);
  }
};

}  // namespace translate
