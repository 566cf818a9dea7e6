// Of errors the worst, among them those that are no number.
#pragma once

#include <algorithm>
#include <limits>

namespace fovea_test {

/// The larger of both; infinite where `error` is a NaN, which std::max passes over.
template <class T>
T worse(T worst, T error) {
  return error == error ? std::max(worst, error) : std::numeric_limits<T>::infinity();
}

}  // namespace fovea_test
