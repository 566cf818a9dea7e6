// The tokenizer on a vocabulary of its own.
#include "sentence_embedding/wordpiece.hpp"

#include <gtest/gtest.h>

namespace {

using Words = std::vector<std::string>;

TEST(Wordpiece, CleansLowersAndStripsAccents) {
  EXPECT_EQ(embedding::wordpiece::words("Café CRÈME\tİstanbul  Ångström"),
            (Words{"cafe", "creme", "istanbul", "angstrom"}));
  EXPECT_EQ(embedding::wordpiece::words("e\u0301a\u00adb\u200bc\ufffdd \u00a0x"), (Words{"eabcd", "x"}));
  EXPECT_EQ(embedding::wordpiece::words(""), Words{});
  EXPECT_EQ(embedding::wordpiece::words(" \r\n\t"), Words{});
}

TEST(Wordpiece, SplitsPunctuationAndCjk) {
  EXPECT_EQ(embedding::wordpiece::words("don't—stop…"), (Words{"don", "'", "t", "—", "stop", "…"}));
  EXPECT_EQ(embedding::wordpiece::words("a我b喜 c"), (Words{"a", "我", "b", "喜", "c"}));
  EXPECT_EQ(embedding::wordpiece::words("x+y=$1"), (Words{"x", "+", "y", "=", "$", "1"}));
}

TEST(Wordpiece, RefusesWhatIsNoUtf8AndSaysWhere) {
  for (const auto& [text, byte] : {std::pair<std::string, const char*>{"ab\xff", "byte 3"},
                                   {"\xc3", "byte 1"},
                                   {"a\xed\xa0\x80", "byte 2"}}) {
    try {
      embedding::wordpiece::words(text);
      ADD_FAILURE() << "accepted";
    } catch (const std::invalid_argument& e) {
      EXPECT_NE(std::string(e.what()).find(byte), std::string::npos) << e.what();
    }
  }
}

TEST(Wordpiece, LeavesWhatItsOptionsLeave) {
  using options = embedding::wordpiece_options;
  const std::string text = "Café İ我b";
  const auto words = [&](const options& o) { return embedding::wordpiece::words(text, o); };
  EXPECT_EQ(words({}), (Words{"cafe", "i", "我", "b"}));
  EXPECT_EQ(words({.lower_case = false, .strip_accents = false}), (Words{"Café", "İ", "我", "b"}));
  EXPECT_EQ(words({.lower_case = false}), (Words{"Cafe", "I", "我", "b"}));
  EXPECT_EQ(words({.strip_accents = false}), (Words{"café", "i\u0307", "我", "b"}));
  EXPECT_EQ(words({.split_cjk = false}), (Words{"cafe", "i我b"}));
}

class Vocabulary : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(testing::TempDir()) / "vocab.txt";
    std::ofstream(path_) << "[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##aff\n##able\nable\n##ab\n!\nü\n";
  }
  std::filesystem::path path_;
};

TEST_F(Vocabulary, TakesTheLongestPieces) {
  const embedding::wordpiece split(path_);
  EXPECT_EQ(split("Unaffable!", 256), (std::vector<int>{2, 4, 5, 6, 9, 3}));
  EXPECT_EQ(split("able unab unx", 256), (std::vector<int>{2, 7, 4, 8, 1, 3}));
  EXPECT_EQ(split("", 256), (std::vector<int>{2, 3}));
  EXPECT_EQ(split(std::string(101, 'x'), 256), (std::vector<int>{2, 1, 3}));
}

TEST_F(Vocabulary, KeepsTheEndWhenItTruncates) {
  const embedding::wordpiece split(path_);
  EXPECT_EQ(split("able able able", 4), (std::vector<int>{2, 7, 7, 3}));
  EXPECT_EQ(split("able able", 4), (std::vector<int>{2, 7, 7, 3}));
}

TEST_F(Vocabulary, CountsLines) {
  std::ofstream(path_, std::ios::binary) << "\n[UNK]\r\n[CLS]\n[SEP] \u3000\n\nab\na\u2028b\nab\n\n";
  const embedding::wordpiece split(path_);
  EXPECT_EQ(split.size(), 9u);
  EXPECT_EQ(split("ab", 256), (std::vector<int>{2, 7, 3}));
  EXPECT_EQ(split.piece(5), "ab");
  EXPECT_EQ(split.piece(4), "");
  EXPECT_EQ(split("[SEP]ab[UNK][sep", 256), (std::vector<int>{2, 3, 7, 1, 1, 1, 3}));
}

TEST_F(Vocabulary, NeedsItsSpecialPieces) {
  std::ofstream(path_) << "[UNK]\n[CLS]\n";
  EXPECT_THROW(embedding::wordpiece split(path_), embedding::input_error);
  EXPECT_THROW(embedding::wordpiece split(path_.string() + ".missing"), embedding::input_error);
}

}  // namespace
