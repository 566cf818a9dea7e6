// A JSON file of settings; what is wrong in it is named by file, key and value.
#pragma once

#include "input_error.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <limits>

namespace embedding {

class settings {
 public:
  explicit settings(const std::filesystem::path& path) : path_(path.string()) {
    std::ifstream stream(path);
    if (!stream) throw input_error("cannot open " + path_);
    json_ = nlohmann::json::parse(stream, nullptr, false);
    if (!json_.is_object()) throw input_error(path_ + " is no JSON object");
  }
  /// Without settings where there is no such file.
  static settings if_any(const std::filesystem::path& path) {
    return std::filesystem::exists(path) ? settings(path) : settings(path, nlohmann::json::object());
  }

  const std::string& path() const { return path_; }
  const nlohmann::json& json() const { return json_; }
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  /// The settings under a key; none where there is no object.
  settings part(const char* key) const {
    return settings(path_ + ": " + key,
                    has(key) && json_[key].is_object() ? json_[key] : nlohmann::json::object());
  }

  [[noreturn]] void refuse(const std::string& key, const std::string& why) const {
    throw input_error(path_ + ": " + key + " is " + json_.at(key).dump(-1, ' ', false, replace) + ", " + why);
  }

  long long integer(const char* key, long long least, long long most) const {
    if (!has(key)) throw input_error(path_ + " has no integer " + key);
    const auto& value = json_[key];
    const bool fits =
        value.is_number_unsigned()
            ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<long long>::max())
            : value.is_number_integer();
    if (!fits) refuse(key, "not an integer");
    const auto n = value.get<long long>();
    if (n < least || n > most)
      refuse(key, "not within " + std::to_string(least) + " and " + std::to_string(most));
    return n;
  }
  double number(const char* key) const {
    if (!has(key)) throw input_error(path_ + " has no number " + key);
    if (!json_[key].is_number() || !std::isfinite(json_[key].get<double>())) refuse(key, "not a number");
    return json_[key].get<double>();
  }
  bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_boolean()) refuse(key, "neither true nor false");
    return json_[key].get<bool>();
  }
  std::string text(const char* key, const std::string& otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_string()) refuse(key, "not a text");
    return json_[key].get<std::string>();
  }

  /// Throws input_error where a setting is there and another one.
  void expect(const char* key, std::initializer_list<const char*> texts) const {
    std::string all;
    for (const char* one : texts) {
      if (!has(key) || json_[key] == one) return;
      all += std::string(all.empty() ? "\"" : " or \"") + one + '"';
    }
    refuse(key, "expected " + all);
  }
  void expect(const char* key, bool wanted) const {
    if (flag(key, wanted) != wanted) refuse(key, wanted ? "only true is done" : "only false is done");
  }
  void expect_empty(const char* key) const {
    if (has(key) && !json_[key].empty()) refuse(key, "which is not done");
  }

 private:
  static constexpr auto replace = nlohmann::json::error_handler_t::replace;
  settings(const std::filesystem::path& path, nlohmann::json json)
      : path_(path.string()), json_(std::move(json)) {}

  std::string path_;
  nlohmann::json json_;
};

}  // namespace embedding
