// tokenizer.hpp - byte-level byte-pair encoding as GPT-2's, with each digit a word of its own (SmolLM).
// Sennrich et al., arXiv:1508.07909.
#pragma once

#include "gguf.hpp"

#include <utf8proc.h>

#include <limits>
#include <unordered_map>

namespace generate {

class tokenizer {
 public:
  explicit tokenizer(const gguf& file)
      : texts_(file.texts("tokenizer.ggml.tokens")),
        end_(static_cast<int>(file.integer("tokenizer.ggml.eos_token_id"))) {
    if (file.text("tokenizer.ggml.model") != "gpt2")
      throw input_error("the tokenizer is " + file.text("tokenizer.ggml.model") + ", not gpt2");
    if (end_ < 0 || end_ >= size())
      throw input_error("the tokenizer ends with token " + std::to_string(end_) + " of " +
                        std::to_string(size()));
    const auto& kinds = file.integers("tokenizer.ggml.token_type");
    if (kinds.size() != texts_.size())
      throw input_error("the tokenizer has " + std::to_string(texts_.size()) + " tokens but " +
                        std::to_string(kinds.size()) + " types");
    for (int i = 0; i < size(); ++i) {
      ids_.emplace(text(i), i);
      if (kinds[static_cast<std::size_t>(i)] == control) controls_.push_back(i);
    }
    const auto& merges = file.texts("tokenizer.ggml.merges");
    for (std::size_t i = 0; i < merges.size(); ++i) ranks_.emplace(merges[i], i);
    for (int byte = 0, beyond = 256; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      letters_[byte] = encoded(printable ? byte : beyond++);
      bytes_.emplace(letters_[byte], static_cast<char>(byte));
    }
  }

  int size() const { return static_cast<int>(texts_.size()); }
  int end() const { return end_; }

  /// The tokens of a text; the names of control tokens in it (<|im_start|>) are these.
  std::vector<int> encode(std::string_view text) const {
    std::vector<int> tokens;
    while (!text.empty()) {
      std::size_t at = text.size();
      int found = -1;
      for (const int c : controls_)
        if (const auto i = text.find(this->text(c)); i < at) at = i, found = c;
      encode_plain(text.substr(0, at), tokens);
      if (found >= 0) tokens.push_back(found), at += this->text(found).size();
      text.remove_prefix(at);
    }
    return tokens;
  }

  /// The bytes that a token stands for; of a control token, none.
  std::string decode(int token) const {
    for (const int c : controls_)
      if (c == token) return {};
    std::string bytes;
    for (std::string_view rest = text(token); !rest.empty();) {
      const std::string_view letter = rest.substr(0, length_of(rest));
      const auto found = bytes_.find(std::string(letter));
      if (found != bytes_.end()) bytes += found->second;
      rest.remove_prefix(letter.size());
    }
    return bytes;
  }

 private:
  static constexpr std::int64_t control = 3;

  const std::string& text(int token) const { return texts_[static_cast<std::size_t>(token)]; }

  static std::string encoded(int code_point) {
    utf8proc_uint8_t bytes[4];
    const auto n = utf8proc_encode_char(code_point, bytes);
    return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(n)};
  }
  static std::size_t length_of(std::string_view text) { return read(text).size; }

  /// A character: its bytes, and what kind it is of. Bytes that are no UTF-8 are a character each.
  enum class kind { letter, number, space, other };
  struct character {
    std::size_t size;
    kind is;
  };
  static character read(std::string_view text) {
    utf8proc_int32_t c = -1;
    const auto n = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                    static_cast<utf8proc_ssize_t>(text.size()), &c);
    if (n <= 0) return {1, kind::other};
    const auto size = static_cast<std::size_t>(n);
    const auto category = utf8proc_category(c);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return {size, kind::letter};
    if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return {size, kind::number};
    const bool space = (c >= 9 && c <= 13) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
                       category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
    return {size, space ? kind::space : kind::other};
  }

  void encode_plain(std::string_view text, std::vector<int>& tokens) const {
    for (std::size_t first = 0; first < text.size();) {  // each number apart, then the words between
      std::size_t last = first;
      while (last < text.size() && read(text.substr(last)).is != kind::number)
        last += read(text.substr(last)).size;
      for (std::string_view words = text.substr(first, last - first); !words.empty();) {
        const std::size_t size = word_size(words);
        encode_word(words.substr(0, size), tokens);
        words.remove_prefix(size);
      }
      if (last < text.size()) {
        const std::size_t size = read(text.substr(last)).size;
        encode_word(text.substr(last, size), tokens);
        last += size;
      }
      first = last;
    }
  }

  /// GPT-2's  's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  static std::size_t word_size(std::string_view text) {
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (text.starts_with(ending)) return ending.size();
    const auto run = [&](std::size_t from, kind wanted) {
      std::size_t at = from;
      while (at < text.size() && read(text.substr(at)).is == wanted) at += read(text.substr(at)).size;
      return at;
    };
    const std::size_t skipped = text.front() == ' ' && text.size() > 1 ? 1 : 0;
    for (const kind wanted : {kind::letter, kind::other})
      if (const std::size_t end = run(skipped, wanted); end > skipped) return end;
    // Spaces: all but the last, which belongs to the word that follows.
    const std::size_t end = run(0, kind::space);
    if (end == text.size()) return end;
    std::size_t last = 0;
    for (std::size_t at = 0; at < end; at += read(text.substr(at)).size) last = at;
    return last == 0 ? end : last;
  }

  /// Joins the pair of least rank until there is none.
  void encode_word(std::string_view word, std::vector<int>& tokens) const {
    std::vector<std::string> parts;
    for (const char c : word) parts.push_back(letters_[static_cast<unsigned char>(c)]);
    while (parts.size() > 1) {
      std::size_t best = std::numeric_limits<std::size_t>::max(), at = 0;
      for (std::size_t i = 0; i + 1 < parts.size(); ++i)
        if (const auto found = ranks_.find(parts[i] + " " + parts[i + 1]);
            found != ranks_.end() && found->second < best)
          best = found->second, at = i;
      if (best == std::numeric_limits<std::size_t>::max()) break;
      parts[at] += parts[at + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    for (const std::string& part : parts) {
      const auto found = ids_.find(part);
      if (found == ids_.end()) throw input_error("the tokenizer has no token for \"" + part + "\"");
      tokens.push_back(found->second);
    }
  }

  std::vector<std::string> texts_;
  int end_;
  std::vector<int> controls_;
  std::unordered_map<std::string, int> ids_;
  std::unordered_map<std::string, std::size_t> ranks_;
  std::string letters_[256];
  std::unordered_map<std::string, char> bytes_;
};

}  // namespace generate
