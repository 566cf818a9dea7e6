// The uncased BERT tokenizer: text is cleaned, lower-cased, stripped of accents and split into words, words
// into the longest pieces that the vocabulary has. (Devlin et al., arXiv:1810.04805; Wu et al.,
// arXiv:1609.08144, section 4.1.)
#pragma once

#include "safetensors.hpp"

#include <utf8proc.h>

#include <unordered_map>

namespace embedding {

using code_points = std::vector<utf8proc_int32_t>;

/// The code points of UTF-8 text. Throws std::invalid_argument with the offset of the first byte that is
/// none.
inline code_points decode(const std::string& text) {
  code_points points;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t at = 0; at < text.size();) {
    utf8proc_int32_t point = 0;
    const auto used = utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &point);
    if (used <= 0) throw std::invalid_argument("invalid UTF-8 at byte " + std::to_string(at + 1));
    points.push_back(point);
    at += static_cast<std::size_t>(used);
  }
  return points;
}

inline std::string encode(const code_points& points) {
  std::string text;
  for (const auto point : points) {
    utf8proc_uint8_t bytes[4];
    text.append(reinterpret_cast<const char*>(bytes),
                static_cast<std::size_t>(utf8proc_encode_char(point, bytes)));
  }
  return text;
}

class wordpiece {
 public:
  explicit wordpiece(const std::filesystem::path& vocabulary) {
    std::ifstream stream(vocabulary);
    if (!stream) throw input_error("cannot open " + vocabulary.string());
    for (std::string piece; std::getline(stream, piece);) {
      if (!piece.empty() && piece.back() == '\r') piece.pop_back();
      if (ids_.emplace(piece, static_cast<int>(ids_.size())).second) pieces_.push_back(piece);
    }
    for (auto [piece, id] : {std::pair{"[UNK]", &unknown_}, {"[CLS]", &start_}, {"[SEP]", &end_}}) {
      const auto at = ids_.find(piece);
      if (at == ids_.end()) throw input_error(vocabulary.string() + " has no " + piece);
      *id = at->second;
    }
  }

  std::size_t size() const { return ids_.size(); }
  const std::string& piece(int id) const { return pieces_[static_cast<std::size_t>(id)]; }

  /// [CLS] pieces [SEP], at most `most` of them in all. Throws std::invalid_argument where the text is no
  /// UTF-8.
  std::vector<int> operator()(const std::string& text, std::size_t most) const {
    std::vector<int> ids{start_};
    for (const auto& word : words(text)) split(word, ids);
    if (ids.size() > most - 1) ids.resize(most - 1);
    ids.push_back(end_);
    return ids;
  }

  /// Words: lower-cased runs between blanks; a punctuation mark or a CJK character is a word.
  static std::vector<std::string> words(const std::string& text) {
    std::vector<std::string> found;
    code_points word;
    const auto finish = [&] {
      if (!word.empty()) found.push_back(encode(word));
      word.clear();
    };
    for (const auto original : decode(text)) {
      if (is_blank(original)) {
        finish();
        continue;
      }
      if (is_control(original)) continue;
      const bool alone = is_cjk(original);
      if (alone) finish();
      for (const auto point : plain(original)) {
        if (is_blank(point)) {
          finish();
        } else if (is_punctuation(point)) {
          finish();
          word = {point};
          finish();
        } else {
          word.push_back(point);
        }
      }
      if (alone) finish();
    }
    finish();
    return found;
  }

 private:
  static constexpr std::size_t longest_word = 100;  // characters; a longer one is unknown

  // Canonical decomposition, without the marks, in lower case.
  static code_points plain(utf8proc_int32_t point) {
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const auto count = utf8proc_decompose_char(point, parts, 32, UTF8PROC_DECOMPOSE, &boundary);
    code_points kept;
    for (utf8proc_ssize_t i = 0; i < count; ++i)
      if (utf8proc_category(parts[i]) != UTF8PROC_CATEGORY_MN) kept.push_back(utf8proc_tolower(parts[i]));
    return kept;
  }

  static bool is_blank(utf8proc_int32_t c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || utf8proc_category(c) == UTF8PROC_CATEGORY_ZS;
  }
  static bool is_control(utf8proc_int32_t c) {
    const auto category = utf8proc_category(c);
    return c == 0 || c == 0xfffd || category == UTF8PROC_CATEGORY_CN || category == UTF8PROC_CATEGORY_CC ||
           category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CS ||
           category == UTF8PROC_CATEGORY_CO;
  }
  static bool is_punctuation(utf8proc_int32_t c) {
    const bool ascii =
        (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    const auto category = utf8proc_category(c);
    return ascii || (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO);
  }
  static bool is_cjk(utf8proc_int32_t c) {
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
  }

  // The longest piece first, then the longest continuation (##...); a word with a rest that is no piece is
  // unknown.
  void split(const std::string& word, std::vector<int>& ids) const {
    std::vector<std::size_t> starts;  // of characters, and the end
    for (std::size_t i = 0; i < word.size(); ++i)
      if ((static_cast<unsigned char>(word[i]) & 0xc0) != 0x80) starts.push_back(i);
    if (starts.size() > longest_word) return ids.push_back(unknown_);
    starts.push_back(word.size());
    const std::size_t before = ids.size();
    for (std::size_t first = 0; first + 1 < starts.size();) {
      std::size_t last = starts.size() - 1;
      auto at = ids_.end();
      for (; last > first; --last) {
        const std::string piece = word.substr(starts[first], starts[last] - starts[first]);
        if (at = ids_.find(first == 0 ? piece : "##" + piece); at != ids_.end()) break;
      }
      if (at == ids_.end()) {
        ids.resize(before);
        return ids.push_back(unknown_);
      }
      ids.push_back(at->second);
      first = last;
    }
  }

  std::unordered_map<std::string, int> ids_;
  std::vector<std::string> pieces_;
  int unknown_ = 0, start_ = 0, end_ = 0;
};

}  // namespace embedding
