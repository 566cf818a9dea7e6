// The suite for one instruction set. This file is compiled for the plainest processor: where the instructions
// are missing the program says so and ends with 77, which ctest shows as skipped, before anything else of it
// has run.
#include "suite.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

namespace {

bool processor_has([[maybe_unused]] const char* isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (std::strcmp(isa, "avx2") == 0)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (std::strcmp(isa, "avx512") == 0)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
  if (std::strcmp(isa, "avx512bf16") == 0)
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#endif
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const char* isa = FOVEA_TEST_ISA;
  if (!processor_has(isa)) {
    std::printf("SKIPPED: this processor lacks %s\n", isa);
    return 77;
  }
  testing::InitGoogleTest(&argc, argv);
  fovea_test::register_tests(isa);
  const int failed = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() > 0 || testing::GTEST_FLAG(list_tests))
    return failed;
  std::printf("No test matches the filter.\n");
  return 1;
}
