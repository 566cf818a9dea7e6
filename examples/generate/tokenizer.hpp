// tokenizer.hpp - byte-level byte-pair encoding as GPT-2's, as a GGUF file describes it.
#pragma once

#include "byte_pairs.hpp"
#include "gguf.hpp"
#include "words.hpp"

#include <array>
#include <optional>

namespace generate {

class tokenizer {
 public:
  explicit tokenizer(const gguf& file)
      : words_(checked_words(file)),
        texts_(file.texts("tokenizer.ggml.tokens")),
        pairs_(file.texts("tokenizer.ggml.merges")) {
    refuse_what_is_not_done(file);
    find_ends(file);
    sort_tokens(file);
    for (int byte = 0, beyond = 256; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const std::string letter = encoded(printable ? byte : beyond++);
      letters_[static_cast<std::size_t>(byte)] = pairs_.symbol(letter);
      bytes_.emplace(letter, static_cast<char>(byte));
    }
    for (int symbol = 0; symbol < pairs_.symbols(); ++symbol) {
      const auto found = ids_.find(pairs_.text(symbol));
      ids_of_symbols_.push_back(found == ids_.end() ? -1 : found->second);
    }
  }

  int size() const { return static_cast<int>(texts_.size()); }
  /// Whether a text ends with this token, and all tokens that end one.
  bool is_end(int token) const { return std::ranges::find(ends_, token) != ends_.end(); }
  const std::vector<int>& ends() const { return ends_; }
  std::optional<int> find(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  /// The tokens of a text; the names of control tokens in it (<|im_start|>) are these. first: nothing stands
  /// before it, so that it begins with the token that begins a text, where the file wants one.
  std::vector<int> encode(std::string_view text, bool first) const {
    std::vector<int> tokens;
    if (first && start_) tokens.push_back(*start_);
    std::size_t from = 0;
    for (std::size_t at = 0; at < text.size();) {
      const int token = whole_at(text.substr(at));
      if (token < 0) {
        ++at;
        continue;
      }
      encode_plain(text.substr(from, at - from), tokens);
      tokens.push_back(token);
      from = at += this->text(token).size();
    }
    encode_plain(text.substr(from), tokens);
    return tokens;
  }

  /// The bytes that a token stands for; of a control token, none.
  std::string decode(int token) const {
    const auto kind = kinds_[static_cast<std::size_t>(token)];
    if (kind == control || kind == unknown) return {};
    if (kind == of_the_user) return text(token);
    std::string bytes;
    for (std::string_view rest = text(token); !rest.empty();) {
      const std::string_view letter = rest.substr(0, words::read(rest).size);
      const auto found = bytes_.find(std::string(letter));
      if (found != bytes_.end()) bytes += found->second;
      rest.remove_prefix(letter.size());
    }
    return bytes;
  }

 private:
  static constexpr std::int64_t unknown = 2, control = 3, of_the_user = 4;

  static std::string key(const char* name) { return std::string("tokenizer.ggml.") + name; }
  const std::string& text(int token) const { return texts_[static_cast<std::size_t>(token)]; }

  static words checked_words(const gguf& file) {
    if (file.text(key("model")) != "gpt2")
      throw input_error("the tokenizer is " + file.text(key("model")) + ", not gpt2");
    for (const char* name : {"smollm", "starcoder", "refact", "command-r", "codeshell"})
      if (file.text(key("pre")) == name) return words(true);
    if (file.text(key("pre")) != "gpt-2") file.refuse(key("pre"), "words are found as smollm and gpt-2 do");
    return words(false);
  }

  static void refuse_what_is_not_done(const gguf& file) {
    constexpr std::string_view known[] = {"model",
                                          "pre",
                                          "tokens",
                                          "token_type",
                                          "merges",
                                          "scores",
                                          "token_type_count",
                                          "bos_token_id",
                                          "eos_token_id",
                                          "eot_token_id",
                                          "eom_token_id",
                                          "unknown_token_id",
                                          "padding_token_id",
                                          "seperator_token_id",
                                          "separator_token_id",
                                          "cls_token_id",
                                          "mask_token_id",
                                          "add_bos_token",
                                          "add_eos_token",
                                          "add_sep_token",
                                          "add_space_prefix",
                                          "prefix_token_id",
                                          "suffix_token_id",
                                          "middle_token_id",
                                          "fim_pre_token_id",
                                          "fim_suf_token_id",
                                          "fim_mid_token_id",
                                          "fim_pad_token_id",
                                          "fim_rep_token_id",
                                          "fim_sep_token_id"};
    file.refuse_others("tokenizer.ggml.", known);
    for (const char* name : {"add_eos_token", "add_sep_token", "add_space_prefix"})
      if (file.has(key(name)) && file.flag(key(name))) file.refuse(key(name), "only false is done");
  }

  int checked_token(const gguf& file, const char* name) const {
    const auto token = file.integer(key(name));
    if (token < 0 || token >= size())
      file.refuse(key(name), "there are " + std::to_string(size()) + " tokens");
    return static_cast<int>(token);
  }
  void find_ends(const gguf& file) {
    ends_.push_back(checked_token(file, "eos_token_id"));
    for (const char* name : {"eot_token_id", "eom_token_id"})
      if (file.has(key(name))) ends_.push_back(checked_token(file, name));
    if (file.has(key("add_bos_token")) && file.flag(key("add_bos_token")))
      start_ = checked_token(file, "bos_token_id");
  }

  void sort_tokens(const gguf& file) {
    kinds_ = file.integers(key("token_type"));
    if (kinds_.size() != texts_.size())
      throw input_error("the tokenizer has " + std::to_string(texts_.size()) + " tokens but " +
                        std::to_string(kinds_.size()) + " types");
    for (int i = 0; i < size(); ++i) {
      if (text(i).empty()) continue;  // stands for nothing
      if (const auto [at, added] = ids_.emplace(text(i), i); !added)
        throw input_error("the tokenizer's tokens " + std::to_string(at->second) + " and " +
                          std::to_string(i) + " are both \"" + text(i) + '"');
      const auto kind = kinds_[static_cast<std::size_t>(i)];
      if (kind == control || kind == unknown || kind == of_the_user)
        wholes_[static_cast<unsigned char>(text(i).front())].push_back(i);
    }
    for (auto& some : wholes_)  // the longest first
      std::ranges::stable_sort(some, std::greater(), [&](int token) { return text(token).size(); });
  }

  /// The token that a text begins with and that no word is split into; -1 where there is none.
  int whole_at(std::string_view text) const {
    for (const int token : wholes_[static_cast<unsigned char>(text.front())])
      if (text.starts_with(this->text(token))) return token;
    return -1;
  }

  static std::string encoded(int code_point) {
    utf8proc_uint8_t bytes[4];
    const auto n = utf8proc_encode_char(code_point, bytes);
    return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(n)};
  }

  void encode_plain(std::string_view text, std::vector<int>& tokens) const {
    words_.each(text, [&](std::string_view word) {
      std::vector<int> parts;
      parts.reserve(word.size());
      for (const char c : word) parts.push_back(letters_[static_cast<unsigned char>(c)]);
      for (const int symbol : pairs_.join(std::move(parts))) {
        const int id = ids_of_symbols_[static_cast<std::size_t>(symbol)];
        if (id < 0) throw input_error("the tokenizer has no token for \"" + pairs_.text(symbol) + "\"");
        tokens.push_back(id);
      }
    });
  }

  words words_;
  std::vector<std::string> texts_;
  std::vector<std::int64_t> kinds_;
  byte_pairs pairs_;
  std::vector<int> ends_;
  std::optional<int> start_;
  std::unordered_map<std::string, int> ids_;
  std::vector<int> ids_of_symbols_;
  std::array<std::vector<int>, 256> wholes_;  // by their first byte
  std::array<int, 256> letters_{};
  std::unordered_map<std::string, char> bytes_;
};

}  // namespace generate
