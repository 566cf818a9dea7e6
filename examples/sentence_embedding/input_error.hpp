// Bad input.
#pragma once

#include <stdexcept>
#include <string>

namespace embedding {

/// The message names the file and what is wrong in it.
struct input_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace embedding
