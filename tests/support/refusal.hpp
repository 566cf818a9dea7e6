// tests/support/refusal.hpp - calls that must throw, and say why.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

namespace fovea_test {

/// Expects a call to be refused by the library, with just this sentence.
template <class F>
void expect_refused_saying(const F& f, const std::string& sentence) {
  try {
    f();
    ADD_FAILURE() << "not refused: " << sentence;
  } catch (const std::invalid_argument& e) {
    EXPECT_EQ(std::string(e.what()), "fovea: " + sentence);
  }
}

/// Expects a call to be refused by the library, with a message that has all the parts.
template <class F>
void expect_refused(F f, std::initializer_list<const char*> parts) {
  try {
    f();
    ADD_FAILURE() << "not refused, though it should be for " << *parts.begin();
  } catch (const std::invalid_argument& e) {
    const std::string text = e.what();
    EXPECT_EQ(text.rfind("fovea: ", 0), 0u) << text;
    for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << text << " lacks " << part;
  }
}

}  // namespace fovea_test
