// tests/laws/laws.cpp - the headers keep the laws, and the laws see who does not.
#include "headers.hpp"

#include <gtest/gtest.h>

namespace {

using fovea_test::header;
using broken = std::vector<std::string>;

std::string joined(const broken& sentences) {
  std::string text;
  for (const std::string& s : sentences) text += "\n  " + s;
  return text;
}

const std::vector<header>& real_headers() {
  static const auto headers = fovea_test::read_headers(FOVEA_HEADERS);
  return headers;
}

/// A tree that keeps the laws, and one more header.
broken laws_broken_by(const std::string& path, const std::string& include_line) {
  std::vector<header> tree = {{"config.hpp", {}},
                              {"index.hpp", {}},
                              {"view.hpp", {}},
                              {"view/matrix.hpp", {}},
                              {"view/eigen.hpp", {}},
                              {"mask/concept.hpp", {}},
                              {"mask/causal.hpp", {}},
                              {"mask.hpp", {}},
                              {"kernel/arch.hpp", {}},
                              {"kernel/arch/avx2.hpp", {}},
                              {"kernel/tile/tile.hpp", {}},
                              {"plan/plan.hpp", {}},
                              {"attention.hpp", {}},
                              {"executor/threads.hpp", {}},
                              {"inspect.hpp", {}},
                              {"inspect/rows.hpp", {}}};
  std::erase_if(tree, [&](const header& h) { return h.path == path; });
  tree.push_back({path, {"#pragma once", include_line}});
  return fovea_test::broken_include_laws(tree);
}

broken rules_broken_by(const std::string& line) {
  return fovea_test::broken_house_rules(
      {{"mask/new.hpp", {"// fovea/mask/new.hpp - a mask.", "#pragma once", line}}});
}

TEST(include_laws, hold) {
  ASSERT_GT(real_headers().size(), 40u) << FOVEA_HEADERS;
  const broken found = fovea_test::broken_include_laws(real_headers());
  EXPECT_TRUE(found.empty()) << joined(found);
}

TEST(mirror, holds) {
  const auto library = fovea_test::read_folders(FOVEA_HEADERS), tests = fovea_test::read_folders(FOVEA_TESTS);
  ASSERT_GT(library.size(), 10u) << FOVEA_HEADERS;
  const broken found = fovea_test::broken_mirror(library, tests);
  EXPECT_TRUE(found.empty()) << joined(found);
}

TEST(mirror, sees_what_breaks_it) {
  using fovea_test::broken_mirror;
  EXPECT_TRUE(broken_mirror({"kernel", "kernel/arch", "kernel/tile", "roles"},
                            {"api", "extension", "kernel", "kernel/arch", "onnx", "onnx/cases"})
                  .empty());
  EXPECT_EQ(broken_mirror({"mask", "view"}, {"mask"}), broken{"include/fovea/view has no folder tests/view"});
  EXPECT_EQ(
      broken_mirror({"kernel"}, {"kernel", "kernel/new", "odds"}),
      (broken{"tests/kernel/new is no folder of include/fovea", "tests/odds is no folder of include/fovea"}));
}

TEST(house_rules, hold) {
  const broken found = fovea_test::broken_house_rules(real_headers());
  EXPECT_TRUE(found.empty()) << joined(found);
}

TEST(house_rules, tests_see_nan) {
  const broken found = fovea_test::blind_to_nan(fovea_test::read_headers(FOVEA_TESTS));
  EXPECT_TRUE(found.empty()) << joined(found);
  const auto blind = [](std::vector<std::string> lines) {
    return fovea_test::blind_to_nan({{"new/new_test.cpp", std::move(lines)}}).size();
  };
  EXPECT_EQ(blind({"EXPECT_LT((a - b).cwiseAbs()", "    .maxCoeff(), 1e-6);"}), 1u);
  EXPECT_EQ(blind({"EXPECT_LT((a - b).array().abs().maxCoeff(), 1e-6);"}), 1u);
  EXPECT_EQ(
      blind({"x.cwiseAbs().maxCoeff<Eigen::PropagateNaN>()", "s.maxCoeff();  // .cwiseAbs().maxCoeff()"}),
      0u);
}

TEST(house_rules, count_what_is_always_inlined) {
  std::vector<header> headers = {{"mask/new.hpp", {"// fovea/mask/new.hpp - a mask.", "#pragma once"}}};
  headers[0].lines.insert(headers[0].lines.end(), 250, "FOVEA_INLINE void f();  // no FOVEA_INLINE");
  EXPECT_TRUE(fovea_test::broken_house_rules(headers).empty());
  headers[0].lines.push_back("const auto f = [] FOVEA_INLINE_LAMBDA { };");
  EXPECT_EQ(fovea_test::broken_house_rules(headers),
            broken{"the headers have 251 functions that are always inlined, more than 250"});
}

TEST(include_laws, allow_what_points_downward) {
  EXPECT_TRUE(laws_broken_by("mask/new.hpp", "#include <fovea/mask/concept.hpp>").empty());
  EXPECT_TRUE(laws_broken_by("kernel/rules/new.hpp", "#include <fovea/mask/concept.hpp>").empty());
  EXPECT_TRUE(laws_broken_by("kernel/rules/new.hpp", "#include <fovea/view/matrix.hpp>").empty());
  EXPECT_TRUE(laws_broken_by("kernel/rules/new.hpp", "#include <fovea/kernel/arch.hpp>").empty());
  EXPECT_TRUE(laws_broken_by("kernel/arch/new.hpp", "#include <immintrin.h>").empty());
  EXPECT_TRUE(laws_broken_by("kernel/sweep/new.hpp", "#include <fovea/kernel/tile/tile.hpp>").empty());
  EXPECT_TRUE(laws_broken_by("new.hpp", "#include <fovea/view.hpp>").empty());
  EXPECT_TRUE(laws_broken_by("inspect/new.hpp", "#include <fovea/inspect/rows.hpp>").empty());
  EXPECT_TRUE(laws_broken_by("view/eigen.hpp", "#include <Eigen/Core>").empty());
}

TEST(include_laws, see_what_does_not) {
  const auto sees = [](const char* path, const char* include_line, const char* sentence) {
    const broken found = laws_broken_by(path, include_line);
    ASSERT_EQ(found.size(), 1u) << path << " with " << include_line << joined(found);
    EXPECT_NE(found[0].find(sentence), std::string::npos) << found[0];
  };
  sees("kernel/rules/new.hpp", "#include <fovea/plan/plan.hpp>", "law 1: layer 3 stands above 2");
  sees("index.hpp", "#include <fovea/view/matrix.hpp>", "law 1: layer 1 stands above 0");
  sees("mask/new.hpp", "#include <fovea/mask.hpp>", "law 1: layer 4 stands above 1");
  sees("mask/new.hpp", "  #  include <fovea/view/matrix.hpp>", "law 1: siblings");
  sees("position/new.hpp", "#include <fovea/view.hpp>", "law 1: a part never includes an umbrella");
  sees("inspect/new.hpp", "#include <fovea/inspect.hpp>", "law 1: a part never includes an umbrella");
  sees("plan/new.hpp", "#include <fovea/inspect/rows.hpp>", "law 1: layer 4 stands above 3");
  sees("attention.hpp", "#include <fovea/inspect/rows.hpp>",
       "law 1: pictures (inspect/) stand above all else");
  sees("kernel/arch/new.hpp", "#include <fovea/kernel/arch.hpp>", "law 1: a part never includes an umbrella");
  sees("kernel/arch/new.hpp", "#include <fovea/kernel/tile/tile.hpp>", "arch does not stand above tile");
  sees("kernel/tile/new.hpp", "#include <fovea/kernel/forward/new.hpp>", "does not exist");
  sees("kernel/new.hpp", "#include <fovea/kernel/tile/tile.hpp>", "new.hpp is no room of kernel/");
  sees("attention.hpp", "#include <fovea/attention.hpp>", "law 1: a circle");
  sees("kernel/rules/new.hpp", "#include <Eigen/Core>", "law 2");
  sees("attention.hpp", "#include <Eigen/Core>", "law 2");
  sees("attention.hpp", "#include <mpi.h>", "MPI stops at distributed/");
  sees("executor/threads.hpp", "#include <unsupported/Eigen/CXX11/ThreadPool>", "law 2");
  sees("kernel/rules/new.hpp", "#include <fovea/mask/causal.hpp>", "law 3");
  sees("plan/new.hpp", "#include <fovea/view/eigen.hpp>", "law 3");
  sees("mask/new.hpp", "#include <xsimd/xsimd.hpp>", "law 4");
  sees("kernel/rules/new.hpp", "#include <immintrin.h>", "law 4");
  sees("mask/new.hpp", "#include \"concept.hpp\"", "in quotes");
  sees("mask/new.hpp", "#include <fovea/mask/gone.hpp>", "does not exist");
}

TEST(house_rules, see_what_breaks_them) {
  EXPECT_TRUE(rules_broken_by("struct fine {};  // #define abort()").empty());
  EXPECT_TRUE(rules_broken_by("inline int function(int x = 1) { return x; }").empty());
  for (const char* line :
       {"#define FOVEA_NEW 1", "  # define FOVEA_NEW 1", "#if defined(__AVX2__)", "#if XSIMD_WITH_AVX",
        "using namespace std;", "#include <iostream>", "  std::abort();", "  assert(q > 0);",
        "inline int counter = 0;", "static int counter = 0;", "int trailing; ", "\tint tab;"})
    EXPECT_EQ(rules_broken_by(line).size(), 1u) << line << joined(rules_broken_by(line));
  EXPECT_EQ(rules_broken_by(std::string(111, '/')).size(), 1u);
  EXPECT_EQ(
      fovea_test::broken_house_rules({{"fast_path.hpp", {"// fovea/fast_path.hpp - no.", "#pragma once"}}})
          .size(),
      1u);
  EXPECT_EQ(fovea_test::broken_house_rules({{"a.hpp", {"#pragma once"}}}).size(), 1u);
  EXPECT_EQ(fovea_test::broken_house_rules({{"a.hpp", {"// fovea/a.hpp - no guard."}}}).size(), 1u);
}

}  // namespace
