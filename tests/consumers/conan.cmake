# The package of cmake/packaging/conan and its own test: -DCONAN= -DFOVEA= -DEIGEN= -DXSIMD= -DCXX= -DWORK=
# Eigen and xsimd are those that were found here, which a profile of the test's says, so that nothing is downloaded.
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${WORK})
file(COPY ${FOVEA}/cmake/packaging/conan/test_package DESTINATION ${WORK})
set(ENV{CONAN_HOME} ${WORK}/home)
set(ENV{CXX} ${CXX})
execute_process(COMMAND ${CONAN} profile detect COMMAND_ERROR_IS_FATAL ANY)
set(flags "")
foreach(folder ${EIGEN} ${XSIMD})
  if(NOT folder STREQUAL "/usr/include")
    list(APPEND flags "'-isystem${folder}'")
  endif()
endforeach()
list(JOIN flags "," flags)
file(WRITE ${WORK}/profile "include(default)
[settings]
compiler.cppstd=20
[platform_requires]
eigen/3.4.0
xsimd/8.1.0
[conf]
tools.build:cxxflags=[${flags}]
")
execute_process(COMMAND ${CONAN} create ${FOVEA}/cmake/packaging/conan --profile:all ${WORK}/profile --no-remote
                --test-folder ${WORK}/test_package COMMAND_ERROR_IS_FATAL ANY)
