// BERT's tokenizer: text is cleaned, lower-cased, stripped of accents (as its settings say) and split into
// words, words into the longest pieces that the vocabulary has. (Devlin et al., arXiv:1810.04805; Wu et al.,
// arXiv:1609.08144, section 4.1.)
#pragma once

#include "input_error.hpp"

#include "../utf8.hpp"

#include <utf8proc.h>

#include <filesystem>
#include <fstream>
#include <unordered_map>
#include <utility>
#include <vector>

namespace embedding {

using code_points = std::vector<utf8proc_int32_t>;

/// The code points of UTF-8 text. Throws std::invalid_argument with the number of the first byte that is
/// none.
inline code_points decode(const std::string& text) {
  code_points points;
  examples::each_code_point(text, [&](utf8proc_int32_t point) { points.push_back(point); });
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

struct wordpiece_options {
  bool lower_case = true;
  bool strip_accents = true;
  bool split_cjk = true;  // each Chinese character is a word
};

class wordpiece {
 public:
  /// A piece's number is that of its line, from 0; of lines that say the same, the last one's. Lines end with
  /// "\n"; blanks at their end (a "\r" too) are none of the piece.
  explicit wordpiece(const std::filesystem::path& vocabulary, const wordpiece_options& options = {})
      : options_(options) {
    std::ifstream stream(vocabulary, std::ios::binary);
    if (!stream) throw input_error("cannot open " + vocabulary.string());
    for (std::string piece; std::getline(stream, piece);) {
      try {
        examples::check_utf8(piece);
      } catch (const std::invalid_argument& e) {
        throw input_error(vocabulary.string() + ", line " + std::to_string(pieces_.size() + 1) + ": " +
                          e.what());
      }
      trim_end(piece);
      if (!piece.empty()) ids_.insert_or_assign(piece, static_cast<int>(pieces_.size()));
      pieces_.push_back(piece);
    }
    for (auto [piece, id] : {std::pair{"[UNK]", &unknown_}, {"[CLS]", &start_}, {"[SEP]", &end_}}) {
      const auto at = ids_.find(piece);
      if (at == ids_.end()) throw input_error(vocabulary.string() + " has no " + piece);
      *id = at->second;
    }
  }

  /// Lines of the vocabulary.
  std::size_t size() const { return pieces_.size(); }
  const std::string& piece(int id) const { return pieces_[static_cast<std::size_t>(id)]; }

  /// [CLS] pieces [SEP], at most `most` of them in all. The names of special pieces, [SEP] in the text, are
  /// these. Throws std::invalid_argument where the text is no UTF-8.
  std::vector<int> operator()(const std::string& text, std::size_t most) const {
    examples::check_utf8(text);
    std::vector<int> ids{start_};
    const auto plainly = [&](std::size_t first, std::size_t last) {
      for (const auto& word : words(text.substr(first, last - first), options_)) split(word, ids);
    };
    std::size_t from = 0;
    for (std::size_t at = text.find('['); at != std::string::npos; at = text.find('[', at)) {
      const int special = special_at(text, at);
      if (special < 0) {
        ++at;
        continue;
      }
      plainly(from, at);
      ids.push_back(special);
      from = at += piece(special).size();
    }
    plainly(from, text.size());
    if (ids.size() > most - 1) ids.resize(most - 1);
    ids.push_back(end_);
    return ids;
  }

  /// Words: runs between blanks; a punctuation mark or a CJK character is a word.
  static std::vector<std::string> words(const std::string& text, const wordpiece_options& options = {}) {
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
      const bool alone = options.split_cjk && is_cjk(original);
      if (alone) finish();
      for (const auto point : plain(original, options)) {
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

  // In lower case, and canonically decomposed without the marks, where these are wanted.
  static code_points plain(utf8proc_int32_t point, const wordpiece_options& options) {
    utf8proc_int32_t parts[32] = {point};
    int boundary = 0;
    const auto count =
        options.strip_accents ? utf8proc_decompose_char(point, parts, 32, UTF8PROC_DECOMPOSE, &boundary) : 1;
    code_points kept;
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      if (options.strip_accents && utf8proc_category(parts[i]) == UTF8PROC_CATEGORY_MN) continue;
      kept.push_back(options.lower_case ? utf8proc_tolower(parts[i]) : parts[i]);
      if (options.lower_case && parts[i] == 0x130) kept.push_back(0x307);  // the one that becomes two
    }
    return kept;
  }

  static bool is_blank(utf8proc_int32_t c) {
    const auto category = utf8proc_category(c);
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
  }
  static void trim_end(std::string& piece) {
    while (!piece.empty()) {
      std::size_t at = piece.size() - 1;
      while (at > 0 && (static_cast<unsigned char>(piece[at]) & 0xc0) == 0x80) --at;
      const auto last = decode(piece.substr(at)).front();
      if (!is_blank(last) && last != '\v' && last != '\f' && last != 0x85) return;
      piece.resize(at);
    }
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

  // The special piece whose name stands at `at`; -1 where there is none.
  int special_at(const std::string& text, std::size_t at) const {
    for (const char* name : {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"})
      if (text.compare(at, std::char_traits<char>::length(name), name) == 0)
        if (const auto found = ids_.find(name); found != ids_.end()) return found->second;
    return -1;
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

  wordpiece_options options_;
  std::unordered_map<std::string, int> ids_;
  std::vector<std::string> pieces_;  // of each line
  int unknown_ = 0, start_ = 0, end_ = 0;
};

}  // namespace embedding
