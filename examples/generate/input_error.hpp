// input_error.hpp - what is wrong with a file, an argument, or what they ask for.
#pragma once

#include <cstdio>
#include <new>
#include <stdexcept>
#include <string>

namespace generate {

/// In words for the user.
struct input_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// get(), which takes `bytes` bytes of memory for `what` (plural); where they can not be had, the error says
/// so.
template <class Get>
auto with_memory_for(const std::string& what, double bytes, const Get& get) {
  const auto too_much = [&] {
    char text[64];
    std::snprintf(text, sizeof text, "%.0f bytes (%.1f MB)", bytes, bytes / 1e6);
    return input_error(what + " need " + text + ", more memory than can be had");
  };
  try {
    return get();
  } catch (const std::bad_alloc&) {
    throw too_much();
  } catch (const std::length_error&) {
    throw too_much();
  }
}

}  // namespace generate
