// words.hpp - how a text falls into words before each is encoded: GPT-2's rule,
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// for the whole text, or for what lies between its digits, each of which is a word of its own (SmolLM).
#pragma once

#include "../utf8.hpp"

#include <cstddef>
#include <string_view>

namespace generate {

class words {
 public:
  enum class kind { letter, number, space, other };
  /// A character: its bytes, and what kind it is of. Bytes that are no UTF-8 are a character each.
  struct character {
    std::size_t size;
    kind is;
  };
  static character read(std::string_view text) {
    const auto [c, size] = examples::first_code_point(text);
    if (size == 0) return {1, kind::other};
    const auto category = utf8proc_category(c);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return {size, kind::letter};
    if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return {size, kind::number};
    const bool space = (c >= 9 && c <= 13) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
                       category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
    return {size, space ? kind::space : kind::other};
  }

  explicit words(bool digits_apart) : digits_apart_(digits_apart) {}

  /// f(word) for each of a text, in order.
  template <class F>
  void each(std::string_view text, const F& f) const {
    if (!digits_apart_) return each_between(text, f);
    for (std::size_t first = 0; first < text.size();) {
      std::size_t last = first;
      character c{0, kind::other};
      while (last < text.size() && (c = read(text.substr(last))).is != kind::number) last += c.size;
      each_between(text.substr(first, last - first), f);
      if (last < text.size()) f(text.substr(last, c.size)), last += c.size;
      first = last;
    }
  }

 private:
  template <class F>
  static void each_between(std::string_view text, const F& f) {
    while (!text.empty()) {
      const std::size_t size = size_of_first(text);
      f(text.substr(0, size));
      text.remove_prefix(size);
    }
  }

  static std::size_t size_of_first(std::string_view text) {
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (text.starts_with(ending)) return ending.size();
    const auto run = [&](std::size_t from, kind wanted) {
      for (character c; from < text.size() && (c = read(text.substr(from))).is == wanted;) from += c.size;
      return from;
    };
    const std::size_t skipped = text.front() == ' ' && text.size() > 1 ? 1 : 0;
    for (const kind wanted : {kind::letter, kind::number, kind::other})
      if (const std::size_t end = run(skipped, wanted); end > skipped) return end;
    // Spaces: all but the last, which belongs to the word that follows.
    const std::size_t end = run(0, kind::space);
    if (end == text.size()) return end;
    std::size_t last = 0;
    for (std::size_t at = 0; at < end; at += read(text.substr(at)).size) last = at;
    return last == 0 ? end : last;
  }

  bool digits_apart_;
};

}  // namespace generate
