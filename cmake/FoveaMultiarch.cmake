# fovea_multiarch(<target> SOURCES <file>... [ENTRY <function>] [ISAS <isa>...] [STATIC | SHARED | OBJECT]
#                 [SOURCES_<isa> <file>...])
#
# One binary for every processor: compiles the sources once for each instruction set, and the program takes the best that its
# machine runs.
#
#   fovea_multiarch(kernels SOURCES kernels.cpp)         # kernels.cpp includes fovea, and no other file does
#   target_link_libraries(program PRIVATE kernels)
#
#   // kernels.hpp: plain data and pointers to functions that take plain data, no type of fovea's
#   struct kernel_table { void (*attend)(float* o, const float* q, const float* k, const float* v, int tokens); };
#   extern "C" const kernel_table* kernels();
#
#   // kernels.cpp
#   extern "C" const kernel_table* kernels() { static constexpr kernel_table table{attend}; return &table; }
#
# <target>: a library (STATIC unless said) that defines ENTRY, by default a function of the target's name: with C linkage, without
# parameters, that returns a pointer. The sources define it as if they were compiled once. What a program calls decides at its
# first call, once, in any number of threads, and then calls that of the best instruction set; const char* ENTRY_isa(), with C
# linkage, is its name. The environment variable FOVEA_ISA names another, for tests: the best that is not above it is taken, so that one which
# the machine lacks does no harm; names that are none here are passed over.
#
# ISAS: x86-64 (SSE2, always there), x86-64-v3 (AVX2 and FMA), x86-64-v4 (AVX-512), by default these three; x86-64-v4-bf16
# (AVX-512 with BF16 dot products, for calls in bf16); aarch64 (NEON). The lowest is not asked of the machine. On
# other processors and where objects are not ELF the sources are compiled once, with the flags of the build.
#
# SOURCES_<isa>: what is compiled for that instruction set in place of SOURCES. Its ENTRY may call that of another,
# <ENTRY>_of_<isa> with _ in place of -, for what it does not have of its own.
#
# Include directories, definitions, options and libraries of <target> hold for its sources. They share nothing with
# each other or with the program: of each set's objects one is made whose only global symbol is its ENTRY, so that no linker takes
# Eigen's or the standard library's inline functions from the wrong one (it keeps the first of a name that it meets). Inline
# variables and static variables in functions of the sources' headers are therefore one a set. Nothing of theirs runs before
# ENTRY is called: a global object that needs a constructor, as <iostream>'s, is an error of the build.
#
# Needs GNU ld (>= 2.29) and objcopy; link-time optimisation is turned off for these sources alone.
include_guard(GLOBAL)
set(FOVEA_MULTIARCH_FOLDER ${CMAKE_CURRENT_LIST_DIR} CACHE INTERNAL "")

set(fovea_flags_x86-64 -march=x86-64)
set(fovea_flags_x86-64-v3 -march=x86-64-v3)
set(fovea_flags_x86-64-v4 -march=x86-64-v4)
set(fovea_flags_x86-64-v4-bf16 -march=x86-64-v4 -mavx512bf16)
set(fovea_flags_aarch64 -march=armv8-a)
set(fovea_isas_from_best x86-64-v4-bf16 x86-64-v4 x86-64-v3 x86-64 aarch64)
foreach(isa IN LISTS fovea_isas_from_best)
  set(FOVEA_FLAGS_${isa} ${fovea_flags_${isa}} CACHE INTERNAL "")
endforeach()
set(FOVEA_ISAS_FROM_BEST ${fovea_isas_from_best} CACHE INTERNAL "")

function(fovea_multiarch target)
  list(TRANSFORM FOVEA_ISAS_FROM_BEST PREPEND SOURCES_ OUTPUT_VARIABLE own_sources)
  cmake_parse_arguments(PARSE_ARGV 1 in "STATIC;SHARED;OBJECT" "ENTRY" "SOURCES;ISAS;${own_sources}")
  if(NOT in_SOURCES OR in_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "fovea_multiarch(${target} SOURCES <file>... [ENTRY <function>] [ISAS <isa>...] "
                        "[STATIC | SHARED | OBJECT] [SOURCES_<isa> <file>...]), not ${ARGN}")
  endif()
  set(kind STATIC)
  foreach(other SHARED OBJECT)
    if(in_${other})
      set(kind ${other})
    endif()
  endforeach()
  set(entry ${target})
  if(in_ENTRY)
    set(entry ${in_ENTRY})
  endif()
  if(NOT entry MATCHES "^[A-Za-z_][A-Za-z_0-9]*$")
    message(FATAL_ERROR "fovea_multiarch: ${entry} is no name of a function; say ENTRY <function>")
  endif()

  add_library(${target} ${kind})
  target_link_libraries(${target} PRIVATE fovea::fovea)
  fovea_isas_here(here)
  if(NOT in_ISAS)
    set(in_ISAS x86-64 x86-64-v3 x86-64-v4 aarch64)
  endif()
  foreach(isa IN LISTS in_ISAS)
    if(NOT isa IN_LIST FOVEA_ISAS_FROM_BEST)
      message(FATAL_ERROR "fovea_multiarch: ISAS names ${isa}, which is none of ${FOVEA_ISAS_FROM_BEST}")
    endif()
  endforeach()

  set(isas "")
  foreach(isa IN LISTS here)  # the best first
    if(isa IN_LIST in_ISAS)
      list(APPEND isas ${isa})
    endif()
  endforeach()
  set(declarations "")
  set(candidates "")
  foreach(isa IN LISTS isas)
    string(MAKE_C_IDENTIFIER ${isa} name)
    set(sources ${in_SOURCES})
    if(in_SOURCES_${isa})
      set(sources ${in_SOURCES_${isa}})
    endif()
    fovea_multiarch_object(${target} ${entry} ${isa} ${entry}_of_${name} ${sources})
    string(APPEND declarations "const void* ${entry}_of_${name}();\n")
    string(APPEND candidates "    {\"${isa}\", runs_${name}, ${entry}_of_${name}},\n")
  endforeach()
  list(LENGTH isas FOVEA_ISAS)
  if(FOVEA_ISAS EQUAL 0)
    target_sources(${target} PRIVATE ${in_SOURCES})
    string(APPEND candidates "    {\"as compiled\", runs_always, nullptr},\n")
  endif()
  set(dispatch ${CMAKE_CURRENT_BINARY_DIR}/${target}_multiarch.cpp)
  configure_file(${FOVEA_MULTIARCH_FOLDER}/multiarch.cpp.in ${dispatch} @ONLY)
  target_sources(${target} PRIVATE ${dispatch})
  if(isas)  # it runs on all of them
    list(GET isas -1 isa)
    set_source_files_properties(${dispatch} PROPERTIES COMPILE_OPTIONS "${FOVEA_FLAGS_${isa}}")
  endif()
endfunction()

# The instruction sets that this build's compiler and tools make one binary of, the best first.
function(fovea_isas_here result)
  set(isas "")
  if(CMAKE_EXECUTABLE_FORMAT STREQUAL "ELF" AND CMAKE_OBJCOPY AND CMAKE_NM)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
      set(isas ${FOVEA_ISAS_FROM_BEST})
      list(REMOVE_ITEM isas aarch64)
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
      set(isas aarch64)
    endif()
  endif()
  if(isas AND NOT FOVEA_GNU_LD)
    execute_process(COMMAND ${CMAKE_LINKER} --version OUTPUT_VARIABLE linker ERROR_QUIET)
    if(linker MATCHES "^GNU ld")
      set(FOVEA_GNU_LD ${CMAKE_LINKER} CACHE FILEPATH "GNU ld, which joins the objects of an instruction set")
    endif()
    find_program(FOVEA_GNU_LD ld.bfd DOC "GNU ld, which joins the objects of an instruction set")
    mark_as_advanced(FOVEA_GNU_LD)
  endif()
  if(NOT FOVEA_GNU_LD)
    set(isas "")
  endif()
  set(${result} ${isas} PARENT_SCOPE)
endfunction()

# One object of all sources for one instruction set, whose only global symbol is `symbol`: what `entry` was.
function(fovea_multiarch_object target entry isa symbol)
  set(sources ${target}_${isa})
  add_library(${sources} OBJECT ${ARGN})
  set_target_properties(${sources} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                        POSITION_INDEPENDENT_CODE ON INTERPROCEDURAL_OPTIMIZATION OFF)
  foreach(property INCLUDE_DIRECTORIES COMPILE_DEFINITIONS COMPILE_OPTIONS)
    set_property(TARGET ${sources} APPEND PROPERTY ${property} $<TARGET_PROPERTY:${target},${property}>)
  endforeach()
  # A library of its own, linked last: its flags come after all others. (-fno-gnu-unique: such symbols stay global. Sanitizers
  # and coverage register what they watch by constructors, which no object may have.)
  add_library(${sources}_flags INTERFACE)
  target_compile_options(${sources}_flags INTERFACE -fno-lto -fno-sanitize=all -fno-profile-arcs -fno-test-coverage
                         $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique> ${FOVEA_FLAGS_${isa}})
  target_link_libraries(${sources} PRIVATE $<TARGET_PROPERTY:${target},LINK_LIBRARIES> ${sources}_flags)

  set(object ${CMAKE_CURRENT_BINARY_DIR}/${target}_${symbol}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${CMAKE_COMMAND} -DLD=${FOVEA_GNU_LD} -DOBJCOPY=${CMAKE_OBJCOPY} -DNM=${CMAKE_NM} -DOBJDUMP=${CMAKE_OBJDUMP}
            -DENTRY=${entry} -DSYMBOL=${symbol} -DISA=${isa} -DOUT=${object} "-DOBJECTS=$<TARGET_OBJECTS:${sources}>"
            -P ${FOVEA_MULTIARCH_FOLDER}/FoveaMultiarchObject.cmake
    DEPENDS ${sources} $<TARGET_OBJECTS:${sources}> ${FOVEA_MULTIARCH_FOLDER}/FoveaMultiarchObject.cmake
    COMMENT "Joining what ${target} is for ${isa}" VERBATIM)
  set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  target_sources(${target} PRIVATE ${object})
endfunction()
