// tests/laws/house_rules.cpp - what can be read off a header's text.
#include "headers.hpp"

#include <algorithm>
#include <regex>

namespace fovea_test {
namespace {

constexpr std::size_t most_columns = 110;
constexpr std::size_t most_lines = 300;   // the aim is 200
constexpr int most_always_inlined = 250;  // in all: what the innermost loops need (bench/hot_loops)

struct rule {
  std::regex pattern;                     // of code: comments are cut off first
  std::vector<std::string> except_below;  // paths or starts of them
  const char* sentence;
};

const rule rules[] = {
    {std::regex(R"(^\s*#\s*define\b)"),
     {"config.hpp", "kernel/arch/xsimd.hpp", "compiled/fovea.h", "compiled/fovea_types.h"},
     "defines a macro; macros live in config.hpp"},
    {std::regex(R"(^\s*#\s*define\s+(?!FOVEA_))"),
     {"kernel/arch/xsimd.hpp"},
     "defines a macro without the prefix FOVEA_"},
    {std::regex(
         R"(^\s*#\s*(if|elif|ifdef|ifndef)\b.*(XSIMD_WITH|__SSE|__AVX|__FMA|__ARM|__aarch64|__x86|__amd64|_M_X64))"),
     {"kernel/arch/", "config.hpp"},
     "asks for an instruction set outside kernel/arch/ and the namespace's name"},
    {std::regex(R"(^\s*using namespace\b)"), {}, "opens a namespace for whoever includes it"},
    {std::regex(R"(^\s*#\s*include\s*<(iostream|cstdio|stdio\.h|print)>)"),
     {},
     "can print; errors are exceptions of the API"},
    {std::regex(R"(\b(std::)?(abort|exit|terminate)\s*\(\s*\))"),
     {"config.hpp"},
     "ends the program; errors are exceptions of the API"},
    {std::regex(R"(\bassert\s*\()"), {}, "asserts; errors are exceptions of the API"},
    {std::regex(R"(^(static|extern)\s|^inline\s+(?!constexpr|namespace)[^(=;{]*[=;{])"),
     {"compiled/fovea.h", "compiled/fovea_types.h",
      "compiled/table.hpp"},  // declared for C, extern and static
     "has a global that is not a constant"},
};

/// What is not C++: the C header of the compiled library, for compilers that have no #pragma once.
const std::vector<std::string> for_c = {"compiled/fovea.h", "compiled/fovea_types.h"};

void check_line(const header& h, std::size_t number, std::vector<std::string>& broken) {
  const std::string& line = h.lines[number];
  const std::string where = h.path + ":" + std::to_string(number + 1) + " ";
  if (line.size() > most_columns) broken.push_back(where + "has " + std::to_string(line.size()) + " columns");
  if (line.ends_with(' ') || line.find('\t') != std::string::npos)
    broken.push_back(where + "has a tab, or a blank at its end");
  const std::string code = line.substr(0, line.find("//"));
  for (const rule& r : rules) {
    const bool excepted = std::any_of(r.except_below.begin(), r.except_below.end(),
                                      [&](const std::string& start) { return h.path.starts_with(start); });
    if (!excepted && std::regex_search(code, r.pattern)) broken.push_back(where + r.sentence);
  }
}

int always_inlined_in(const std::string& code) {
  static const std::regex mark(R"(\bFOVEA_INLINE(_LAMBDA)?\b)");
  return static_cast<int>(std::distance(std::sregex_iterator(code.begin(), code.end(), mark), {}));
}

}  // namespace

std::vector<std::string> broken_house_rules(const std::vector<header>& headers) {
  std::vector<std::string> broken;
  int always_inlined = 0;
  static const std::regex vague(R"((^|[/_.])(fast|opt|impl2?)([/_.]|$))");
  for (const header& h : headers) {
    const auto says = [&](const std::string& sentence) { broken.push_back(h.path + " " + sentence); };
    const bool is_for_c = std::find(for_c.begin(), for_c.end(), h.path) != for_c.end();
    if (!h.path.ends_with(".hpp") && !is_for_c) says("is not a header");
    if (std::regex_search(h.path, vague)) says("has a name that says nothing");
    if (h.lines.size() > most_lines) says("has " + std::to_string(h.lines.size()) + " lines");
    if (h.lines.empty() || !h.lines[0].starts_with("// fovea/" + h.path + " - "))
      says("does not start with its own name and what it is for");
    std::size_t first = 0;
    while (first < h.lines.size() && h.lines[first].starts_with("//")) ++first;
    if (first == h.lines.size() ||
        (is_for_c ? !h.lines[first].starts_with("#ifndef FOVEA_") : h.lines[first] != "#pragma once"))
      says("lacks #pragma once after its first comment");
    for (std::size_t i = 0; i < h.lines.size(); ++i) check_line(h, i, broken);
    for (const std::string& line : h.lines)
      always_inlined += always_inlined_in(line.substr(0, line.find("//")));
  }
  if (always_inlined > most_always_inlined)
    broken.push_back("the headers have " + std::to_string(always_inlined) +
                     " functions that are always inlined, more than " + std::to_string(most_always_inlined));
  return broken;
}

std::vector<std::string> blind_to_nan(const std::vector<header>& tests) {
  static const std::regex largest(R"([aA]bs\(\)\s*\.(template )?maxCoeff\(\))");
  std::vector<std::string> blind;
  for (const header& test : tests) {
    std::string text;
    for (const std::string& line : test.lines) text += line.substr(0, line.find("//")) + "\n";
    if (test.path.ends_with("pp") && !test.path.starts_with("laws/") && std::regex_search(text, largest))
      blind.push_back("tests/" + test.path +
                      " takes the largest error with maxCoeff(), which passes over NaN");
  }
  return blind;
}

}  // namespace fovea_test
