# What the headers need: the installed package where there is one, else its source. No version is asked of find_package:
# the packages' version files accept their own major number only.
include(FetchContent)

FetchContent_Declare(Eigen3 SYSTEM GIT_SHALLOW ON
  GIT_REPOSITORY https://gitlab.com/libeigen/eigen.git GIT_TAG 3.4.0 FIND_PACKAGE_ARGS)
FetchContent_Declare(xsimd SYSTEM GIT_SHALLOW ON
  GIT_REPOSITORY https://github.com/xtensor-stack/xsimd.git GIT_TAG 14.1.0 FIND_PACKAGE_ARGS)
FetchContent_Declare(GTest SYSTEM GIT_SHALLOW ON
  GIT_REPOSITORY https://github.com/google/googletest.git GIT_TAG v1.15.2 FIND_PACKAGE_ARGS)
FetchContent_Declare(benchmark SYSTEM GIT_SHALLOW ON
  GIT_REPOSITORY https://github.com/google/benchmark.git GIT_TAG v1.9.1 FIND_PACKAGE_ARGS)

# A function, so that what is said here to a fetched project is said to no other.
function(fovea_need package)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
  foreach(unwanted BUILD_TESTING EIGEN_BUILD_DOC INSTALL_GTEST BENCHMARK_ENABLE_TESTING BENCHMARK_ENABLE_INSTALL)
    set(${unwanted} OFF)
  endforeach()
  FetchContent_MakeAvailable(${package})
  if(ARGC GREATER 1 AND DEFINED ${package}_VERSION AND ${package}_VERSION VERSION_LESS ARGV1)
    message(FATAL_ERROR "fovea needs ${package} >= ${ARGV1}, found ${${package}_VERSION} in ${${package}_DIR}")
  endif()
endfunction()

if(NOT TARGET Eigen3::Eigen)
  fovea_need(Eigen3 3.4.0)
endif()
if(NOT TARGET xsimd)
  fovea_need(xsimd 8.1.0)
endif()
find_package(Threads REQUIRED)
