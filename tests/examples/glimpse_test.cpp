// A model that looks at one patch of a picture learns which, from nothing but how well it answers.
#include "glimpse/train.hpp"

#include <gtest/gtest.h>

namespace {

TEST(glimpse, learns_where_to_look) {
  const glimpse::score before = glimpse::test(glimpse::model(), 1000, 1);
  EXPECT_LT(before.right, 0.4);
  const auto trained = glimpse::train({}, [](glimpse::Index, const glimpse::score&) {});
  const glimpse::score after = glimpse::test(trained, 1000, 1);
  EXPECT_GT(after.right, 0.95);
  EXPECT_GT(after.found, 0.95);
}

}  // namespace
