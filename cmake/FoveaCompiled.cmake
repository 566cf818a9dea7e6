# fovea_compiled(<target> [STATIC | SHARED] [ISAS <isa>...]): the library of include/fovea/compiled/fovea.h and compiled.hpp,
# compiled from the headers once an instruction set (see FoveaMultiarch.cmake); it takes the best that the machine runs.
#
# ISAS: x86-64, x86-64-v3, x86-64-v4, x86-64-v4-bf16 (which brings x86-64-v4 along) and aarch64, by default all.
#
#   fovea_compiled(attention SHARED)
#   target_link_libraries(program PRIVATE attention)       # no -march, no Eigen, no xsimd: #include <fovea/compiled/fovea.h>
#
# Of a shared library nothing is seen but the functions of fovea.h. A static one adds the symbols fovea_compiled_kernels and
# fovea_compiled_kernels_isa.
include_guard(GLOBAL)
include(${CMAKE_CURRENT_LIST_DIR}/FoveaMultiarch.cmake)
set(FOVEA_COMPILED_FOLDER ${CMAKE_CURRENT_LIST_DIR}/compiled CACHE INTERNAL "")

function(fovea_compiled target)
  cmake_parse_arguments(PARSE_ARGV 1 in "STATIC;SHARED" "" "ISAS")
  if(in_UNPARSED_ARGUMENTS OR (in_STATIC AND in_SHARED))
    message(FATAL_ERROR "fovea_compiled(${target} [STATIC | SHARED] [ISAS <isa>...]), not ${ARGN}")
  endif()
  set(kind STATIC)
  if(in_SHARED)
    set(kind SHARED)
  endif()
  set(isas x86-64 x86-64-v3 x86-64-v4 x86-64-v4-bf16 aarch64)
  if(in_ISAS)
    set(isas ${in_ISAS})
  endif()
  if("x86-64-v4-bf16" IN_LIST isas)  # which is x86-64-v4 but for calls in bf16
    list(APPEND isas x86-64-v4)
  endif()
  list(TRANSFORM FOVEA_COMPILED_SOURCES PREPEND ${FOVEA_COMPILED_FOLDER}/ OUTPUT_VARIABLE sources)
  fovea_multiarch(${target} ${kind} ENTRY fovea_compiled_kernels SOURCES ${sources} ISAS ${isas}
                  SOURCES_x86-64-v4-bf16 ${FOVEA_COMPILED_FOLDER}/pairs.cpp)
  target_sources(${target} PRIVATE ${FOVEA_COMPILED_FOLDER}/c_api.cpp)
  fovea_isas_here(here)
  foreach(isa IN LISTS here)  # the lowest comes last: this file runs on all machines, whatever flags its folder has
    if(isa IN_LIST isas)
      set_source_files_properties(${FOVEA_COMPILED_FOLDER}/c_api.cpp PROPERTIES COMPILE_OPTIONS "${FOVEA_FLAGS_${isa}}")
    endif()
  endforeach()
  # One file an instruction set: its elements share kernels. (A third of the time, and of 3 GB at once.)
  foreach(isa IN LISTS FOVEA_ISAS_FROM_BEST)
    if(TARGET ${target}_${isa})
      set_target_properties(${target}_${isa} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
    endif()
  endforeach()
  # After a build type's -O3, which makes it a fifth larger: kernels are unrolled by hand. (Zen 5, AVX-512: prefill, decode and
  # backward within 2 %.) g++ inlines as it does at -O3, which costs nothing: else a softcap is a call a register and takes 11 %
  # more, a boolean mask 4.
  set(optimised $<OR:$<CONFIG:Release,RelWithDebInfo>,$<STREQUAL:$<CONFIG>,>>)  # without a build type, too
  list(TRANSFORM FOVEA_COMPILED_INLINING PREPEND --param= OUTPUT_VARIABLE inlining)
  target_compile_options(${target} PRIVATE $<$<AND:$<CXX_COMPILER_ID:GNU,Clang,AppleClang>,${optimised}>:-O2>
                         "$<$<AND:$<CXX_COMPILER_ID:GNU>,${optimised}>:${inlining}>")
  target_compile_definitions(${target} PRIVATE "FOVEA_COMPILED_VERSION=\"${FOVEA_COMPILED_VERSION}\"")
  # Whoever links it needs nothing that the headers need.
  find_package(Threads REQUIRED)  # in the caller's folder, which does not see what ours has found
  target_link_libraries(${target} PRIVATE Threads::Threads)
  set_property(TARGET ${target} PROPERTY INTERFACE_LINK_LIBRARIES $<$<STREQUAL:${kind},STATIC>:Threads::Threads>)
  get_target_property(headers fovea::fovea INTERFACE_INCLUDE_DIRECTORIES)
  set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES ${headers})
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                        POSITION_INDEPENDENT_CODE ON VERSION ${FOVEA_COMPILED_VERSION} SOVERSION ${FOVEA_COMPILED_SOVERSION})
  if(in_SHARED)
    target_compile_definitions(${target} PUBLIC FOVEA_COMPILED_SHARED)
    if(WIN32)  # what is exported is named where it is built, and imported elsewhere
      target_compile_definitions(${target} PRIVATE FOVEA_COMPILED_BUILDS)
    endif()
    # Functions of the same instructions become one, where the linker knows how: 10.7 MB become 9.9.
    include(CheckLinkerFlag)
    check_linker_flag(CXX "-fuse-ld=gold;-Wl,--icf=safe" FOVEA_FOLDS_FUNCTIONS)
    if(FOVEA_FOLDS_FUNCTIONS AND NOT "${CMAKE_SHARED_LINKER_FLAGS} ${CMAKE_CXX_FLAGS}" MATCHES "-fuse-ld")
      target_link_options(${target} PRIVATE -fuse-ld=gold -Wl,--icf=safe
                          -Wl,--version-script=${FOVEA_COMPILED_FOLDER}/exports.map)  # else it shows _end
    endif()
  endif()
endfunction()

set(FOVEA_COMPILED_SOURCES entry.cpp float.cpp double.cpp bf16.cpp fp16.cpp caches.cpp inspect.cpp CACHE INTERNAL "")
set(FOVEA_COMPILED_INLINING early-inlining-insns=14 max-inline-insns-auto=30 max-inline-insns-single=200 inline-min-speedup=15
    inline-heuristics-hint-percent=600 CACHE INTERNAL "")
