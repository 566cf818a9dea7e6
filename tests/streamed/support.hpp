// tests/streamed/support.hpp - files that go with their test.
#pragma once

#include "../kv_cache/support.hpp"
#include "../support/refusal.hpp"

#include <fovea/position/rotary_table.hpp>
#include <fovea/streamed.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <unistd.h>

namespace fovea_test {

/// A name in the folder of the test, which no other process has.
class temporary_file {
 public:
  explicit temporary_file(const std::string& name)
      : path_("streamed_" + std::to_string(getpid()) + "_" + name + ".kv") {}
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() { std::filesystem::remove(path_); }

  const std::string& path() const { return path_; }
  std::string bytes() const {
    std::ifstream in(path_, std::ios::binary);
    std::ostringstream all;
    all << in.rdbuf();
    return all.str();
  }
  void write(const std::string& bytes) const {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    out << bytes;
  }

 private:
  std::string path_;
};

/// The least that may be resident: 32 MiB.
inline constexpr index_type least = fovea::streaming::resident_chunks::least_bound;

}  // namespace fovea_test
