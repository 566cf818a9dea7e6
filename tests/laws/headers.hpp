// tests/laws/headers.hpp - the library's headers as text, and what the laws say of them.
#pragma once

#include <string>
#include <vector>

namespace fovea_test {

struct header {
  std::string path;  // below include/fovea, as kernel/tile/tile.hpp
  std::vector<std::string> lines;
};

/// Every file below `directory`, sorted by path.
std::vector<header> read_headers(const std::string& directory);

/// What breaks the four laws over the #include lines, a sentence each, starting with the file.
std::vector<std::string> broken_include_laws(const std::vector<header>& headers);

/// Every folder below `directory`, as kernel/arch, sorted.
std::vector<std::string> read_folders(const std::string& directory);

/// Where the folders of tests/ do not mirror those of include/fovea, a sentence each: one of the library's without
/// tests, or one that is neither the library's nor known for what it tests beside.
std::vector<std::string> broken_mirror(const std::vector<std::string>& of_library,
                                       const std::vector<std::string>& of_tests);

/// What breaks the rules on text: macros, sizes, names, what a library must not do.
std::vector<std::string> broken_house_rules(const std::vector<header>& headers);

/// Which tests can not see a NaN: Eigen's maxCoeff() passes over one (support/max_abs.hpp does not).
std::vector<std::string> blind_to_nan(const std::vector<header>& tests);

}  // namespace fovea_test
