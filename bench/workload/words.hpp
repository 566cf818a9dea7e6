// bench/workload/words.hpp - key=value: what keys there are, and how their values are read.
#pragma once

#include "names.hpp"

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// What there is to know of a key: its values, what it is where it is missing, and what it means.
struct key_entry {
  std::string key, values, missing, meaning;
};

/// Every key of a workload, for errors and for --help.
inline std::vector<key_entry> known_keys() {
  const std::string elements = known_names(element_names, "|");
  return {{"op", known_names(operation_names, "|"), "forward", "what is timed"},
          {"B", "N", "1", "sequences"},
          {"Hq", "N", "8", "query heads"},
          {"Hkv", "N", "Hq", "key/value heads"},
          {"Lq", "N", "1024", "query tokens of a sequence"},
          {"Lk", "N", "Lq", "key tokens of a sequence"},
          {"d", "N", "64", "dim of a head of Q and K"},
          {"dv", "N", "d", "dim of a head of V"},
          {"hidden", "N", "64", "op=additive: columns of the projections, a head"},
          {"rule", known_names(rule_names, "|"), "linear",
           "op=linear, linear_backward: how a token changes the state"},
          {"index", "N|N:bf16", "64", "op=dsa: heads of the index, of 128 numbers in f32 or bf16"},
          {"top", "N", "2048", "op=dsa: keys that the index chooses for each query"},
          {"mask", known_masks("|"), "none",
           "with a cache: causal; blocks of N x N, a share S visible (topk: those that matter most, chosen "
           "by the call)"},
          {"dtype", elements, "f32", "elements of Q and O"},
          {"kv", elements, "dtype", "elements of K and V"},
          {"weights", known_names(weights_names, "|"), "exact",
           "in bf16: whether they may be rounded to it before P V"},
          {"cache", known_names(cache_names, "|") + "|paged:N", "no cache",
           "where K and V are kept; pages of N tokens"},
          {"lens", "N:N:...", "Lk each", "with a cache: the keys of each of B sequences"},
          {"layout", known_names(layout_names, "|"), "bhsd", "where elements lie"},
          {"with", known_names(modifier_names, "|"), "none",
           "a score, a sink or a mask; function: alibi as a lambda; swin: of one square window; table: of "
           "257 clipped distances"},
          {"threads", "N", "1", "workers"}};
}

inline constexpr index_type largest = 1'000'000'000;  // of any number in a workload

/// A word of a workload: key=value.
struct word {
  std::string_view key, value;

  [[noreturn]] void refuse(const std::string& why) const {
    throw std::invalid_argument(std::string(key) + "=" + std::string(value) + ": " + why);
  }

  [[noreturn]] void refuse_key() const {
    std::string known;
    for (const auto& entry : known_keys()) known += (known.empty() ? "" : ", ") + entry.key;
    refuse("unknown key \"" + std::string(key) + "\"; known are " + known);
  }

  index_type number(index_type least, index_type most) const {
    index_type n = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc{} || end != value.data() + value.size() || n < least || n > most)
      refuse("\"" + std::string(value) + "\" is not a whole number from " + std::to_string(least) + " to " +
             std::to_string(most));
    return n;
  }

  template <class E, std::size_t N>
  E one_of(const names<E, N>& all) const {
    for (const auto& [name, e] : all)
      if (name == value) return e;
    refuse("unknown value \"" + std::string(value) + "\"; known are " + known_names(all, ", "));
  }
};

/// causal, window:255, blocks:64:0.1: a name, its size, its share.
inline void read_mask(workload& w, const word& x) {
  const auto colon = std::min(x.value.find(':'), x.value.size());
  const auto known = std::find_if(mask_names.begin(), mask_names.end(),
                                  [&](const auto& n) { return n.first == x.value.substr(0, colon); });
  if (known == mask_names.end() || has_size(known->second) != (colon < x.value.size()))
    x.refuse("unknown value \"" + std::string(x.value) + "\"; known are " + known_masks(", "));
  w.mask = known->second;
  if (!has_size(w.mask)) return;
  std::string_view size = x.value.substr(colon + 1), share;
  if (has_share(w.mask)) {
    const auto second = std::min(size.find(':'), size.size());
    share = size.substr(std::min(second + 1, size.size())), size = size.substr(0, second);
    const auto [end, error] = std::from_chars(share.data(), share.data() + share.size(), w.share);
    if (error != std::errc{} || end != share.data() + share.size() || !(w.share > 0 && w.share <= 1))
      x.refuse("\"" + std::string(share) + "\" is not a share of the blocks, above 0 and at most 1");
  }
  const index_type least = w.mask == mask::window ? 0 : has_share(w.mask) ? 16 : 1;
  w.mask_size = word{x.key, size}.number(least, largest);
}

/// contiguous, ring, paged or paged:N, N tokens a page.
inline void read_cache(workload& w, const word& x) {
  constexpr std::string_view paged = "paged:";
  if (x.value.starts_with(paged)) {
    w.cache = cache::paged;
    w.page_tokens = word{x.key, x.value.substr(paged.size())}.number(1, largest);
  } else {
    w.cache = x.one_of(cache_names);
  }
}

/// 64, or 64:bf16.
inline void read_index(workload& w, const word& x) {
  const auto colon = std::min(x.value.find(':'), x.value.size());
  w.index_heads = word{x.key, x.value.substr(0, colon)}.number(1, 1024);
  if (colon < x.value.size())
    w.index = word{x.key, x.value.substr(colon + 1)}.one_of(
        names<element, 2>{{{"f32", element::f32}, {"bf16", element::bf16}}});
}

/// "70:1:5000".
inline void read_lengths(workload& w, const word& x) {
  for (std::string_view rest = x.value; !rest.empty();) {
    const auto end = std::min(rest.find(':'), rest.size());
    w.lengths.push_back(word{x.key, rest.substr(0, end)}.number(1, largest));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

inline std::vector<word> split_words(std::string_view text) {
  std::vector<word> words;
  for (bool more = true; more;) {
    const auto comma = text.find(',');
    const auto part = text.substr(0, comma);
    const auto equals = part.find('=');
    if (equals == part.npos) throw std::invalid_argument("\"" + std::string(part) + "\" is not key=value");
    const word next{part.substr(0, equals), part.substr(equals + 1)};
    for (const word& w : words)
      if (w.key == next.key) next.refuse("the key " + std::string(next.key) + " stands twice");
    words.push_back(next);
    more = comma != text.npos;
    text.remove_prefix(more ? comma + 1 : text.size());
  }
  return words;
}

}  // namespace bench
