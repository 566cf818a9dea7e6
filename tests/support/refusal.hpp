// tests/support/refusal.hpp - calls that must throw, and say why.
#pragma once

#include <gtest/gtest.h>

#include <cctype>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace fovea_test {

/// Expects a call to be refused by the library, with just this sentence.
template <class F>
void expect_refused(const F& f, const std::string& sentence) {
  try {
    f();
    ADD_FAILURE() << "not refused: " << sentence;
  } catch (const std::invalid_argument& e) {
    EXPECT_EQ(std::string(e.what()), "fovea: " + sentence);
  }
}

/// Whether `text` has the words `part`, and not as a part of other words: "v" is not in "fovea".
inline bool has_words(const std::string& text, const std::string& part) {
  const auto inside_a_word = [&](std::size_t at) {
    const auto in_word = [&](std::size_t i) {
      return std::isalnum(static_cast<unsigned char>(text[i])) != 0 || text[i] == '_';
    };
    return at > 0 && at < text.size() && in_word(at - 1) && in_word(at);
  };
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    if (!inside_a_word(at) && !inside_a_word(at + part.size())) return true;
  return false;
}

/// The same where a sentence is too long, or not the test's to know: each part of it is in the message, behind
/// "fovea: ".
template <class F>
void expect_refused(const F& f, std::initializer_list<const char*> parts) {
  ASSERT_GT(parts.size(), 0u);
  try {
    f();
    ADD_FAILURE() << "not refused, though it should be for " << *parts.begin();
  } catch (const std::invalid_argument& e) {
    const std::string text = e.what(), name = "fovea: ";
    ASSERT_TRUE(text.starts_with(name)) << text;
    for (const char* part : parts)
      EXPECT_TRUE(has_words(text.substr(name.size()), part)) << text << " lacks " << part;
  }
}

}  // namespace fovea_test
