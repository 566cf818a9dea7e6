// tests/property/suite.hpp - the whole suite, registered with GoogleTest under the name of an instruction
// set.
#pragma once

#include <string>

namespace fovea_test {
void register_tests(const std::string& isa);
}
