# What the project's own tests, examples and benchmarks are built with. None of it reaches a user of fovea::fovea.
set(FOVEA_MARCH native CACHE STRING "Instruction set of tests, examples and benchmarks: native, x86-64-v3, x86-64-v4, ...")
option(FOVEA_QUICK_BUILD "Examples and benchmarks are built to be tested and not to be timed: they compile in half the time" OFF)
option(FOVEA_WERROR "Warnings are errors" OFF)
set(FOVEA_SANITIZE "" CACHE STRING "Sanitizers of the tests, address;undefined or thread; only those tests are built then that have memory or threads to do with")

if(PROJECT_IS_TOP_LEVEL)
  get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(NOT multi_config AND NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endif()

set(FOVEA_WARNINGS -Wall -Wextra -Wpedantic -Wshadow)
# GCC 12 takes the undefined operands of its own AVX-512 intrinsics for uninitialised variables (its bug 105593).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND FOVEA_WARNINGS -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
# GCC collects its garbage whenever its heap has grown by a part, up to a sixth of the time of a large file. It need not below
# 2 GiB, which few files reach.
set(FOVEA_QUICK_GNU --param=ggc-min-heapsize=2097152)
set(FOVEA_QUICK_COMPILER ${FOVEA_QUICK_${CMAKE_CXX_COMPILER_ID}})
add_compile_options(${FOVEA_QUICK_COMPILER})
# fovea_sanitizers(<target> <visibility> <sanitizer>...): nothing is reported and passed over.
function(fovea_sanitizers target visibility)
  list(JOIN ARGN "," names)
  target_compile_options(${target} ${visibility} -fsanitize=${names} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(${target} ${visibility} -fsanitize=${names})
endfunction()

add_library(fovea_flags INTERFACE)
if(FOVEA_SANITIZE)
  fovea_sanitizers(fovea_flags INTERFACE ${FOVEA_SANITIZE})
endif()
target_compile_options(fovea_flags INTERFACE ${FOVEA_WARNINGS} $<$<BOOL:${FOVEA_WERROR}>:-Werror>
                       $<$<BOOL:${FOVEA_MARCH}>:-march=${FOVEA_MARCH}>)
fovea_kernels(fovea_developer_kernels)
target_link_libraries(fovea_developer_kernels PRIVATE fovea_flags)

add_library(fovea_developer INTERFACE)
target_link_libraries(fovea_developer INTERFACE fovea_flags fovea_developer_kernels)
