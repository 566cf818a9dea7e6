// tests/laws/mirror.cpp - tests/ mirrors include/fovea: who looks for the tests of a folder finds one of its name.
#include "headers.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>

namespace fovea_test {
namespace {

/// Folders whose tests are found under another name.
const std::map<std::string, std::string> other_names = {
    {"additive", "projected"},      {"differential", "projected"}, {"luong", "projected"},
    {"talking_heads", "projected"}, {"decomposed", "projected"},   {"transformer_xl", "projected"},
    {"roles", "extension"},         {"top_keys", "kv_cache"}};

/// Folders of tests/ that are no folder of the library's: what users do, what the headers promise as text, what holds
/// of all calls, and what tests need.
const std::set<std::string> beside = {"api",       "bench",     "compatibility", "consumers", "examples",
                                      "extension", "fast_math", "gradient",      "headers",   "laws",
                                      "multiarch", "onnx",      "portable",      "property",  "readme",
                                      "sanitize",  "support",   "symbols",       "windows"};

std::string first_of(const std::string& path) { return path.substr(0, path.find('/')); }

bool contains(const std::vector<std::string>& folders, const std::string& name) {
  return std::find(folders.begin(), folders.end(), name) != folders.end();
}

}  // namespace

std::vector<std::string> read_folders(const std::string& directory) {
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    if (entry.is_directory() && std::isalpha(entry.path().filename().string().front()))  // no __pycache__
      folders.push_back(std::filesystem::relative(entry.path(), directory).generic_string());
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::vector<std::string> broken_mirror(const std::vector<std::string>& of_library,
                                       const std::vector<std::string>& of_tests) {
  std::vector<std::string> broken;
  for (const std::string& folder : of_library) {
    const auto other = other_names.find(folder);
    const std::string name = other == other_names.end() ? folder : other->second;
    if (folder == first_of(folder) &&
        !contains(of_tests, name))  // rooms of kernel/ are tested by gradient/, property/
      broken.push_back("include/fovea/" + folder + " has no folder tests/" + name);
  }
  for (const std::string& folder : of_tests)
    if (!beside.contains(first_of(folder)) && !contains(of_library, folder))
      broken.push_back("tests/" + folder + " is no folder of include/fovea");
  return broken;
}

}  // namespace fovea_test
