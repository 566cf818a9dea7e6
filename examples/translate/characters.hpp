// translate/characters.hpp - characters as tokens: text in UTF-8 to numbers and back.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace translate {

class characters {
 public:
  static constexpr int padding = 0, begin = 1, end = 2, unknown = 3;

  characters() {
    for (std::string_view rest = known; !rest.empty(); rest.remove_prefix(texts_.back().size())) {
      numbers_.emplace(first_of(rest), static_cast<int>(texts_.size()));
      texts_.push_back(first_of(rest));
    }
  }

  int size() const { return static_cast<int>(texts_.size()); }

  /// A number for each character; what is not known, or is no UTF-8, is `unknown`. Neither `begin` nor `end`
  /// is added.
  std::vector<int> encode(std::string_view text) const {
    std::vector<int> tokens;
    while (!text.empty()) {
      const std::string_view c = first_of(text);
      const auto found = numbers_.find(c);
      tokens.push_back(found == numbers_.end() ? unknown : found->second);
      text.remove_prefix(c.size());
    }
    return tokens;
  }

  /// The text up to `end`, without `begin` and `padding`; `unknown` is U+FFFD.
  std::string decode(std::span<const int> tokens) const {
    std::string text;
    for (const int token : tokens) {
      if (token == end) break;
      text.append(texts_.at(static_cast<std::size_t>(token)));
    }
    return text;
  }

 private:
  /// What dates.hpp writes, in an order that checkpoints rely on: add at the end only.
  static constexpr std::string_view known =
      " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"
      "ßàáäèéëìíñóöúûüº";

  /// The bytes of the first character: a leading byte and those that continue it.
  static std::string_view first_of(std::string_view text) {
    std::size_t n = 1;
    while (n < text.size() && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) ++n;
    return text.substr(0, n);
  }

  std::vector<std::string_view> texts_{"", "", "", "\xef\xbf\xbd"};
  std::unordered_map<std::string_view, int> numbers_;
};

}  // namespace translate
