# fovea_kernels(<target>): the kernels of a program, compiled once in place of once a file (include/fovea/kernels.hpp). Files
# that call attention then compile in half the time.
#
#   add_compile_options(-march=native)                     # as everywhere in the program
#   fovea_kernels(kernels)
#   target_link_libraries(program PRIVATE kernels)         # and by it fovea::fovea
#
# The library takes the flags of the directory that this is called in, and what target_compile_options(<target> ...) adds. What
# links it is compiled for the same processors (else it does not link), and with the same settings of Eigen.
include_guard(GLOBAL)
set(FOVEA_KERNELS_FOLDER ${CMAKE_CURRENT_LIST_DIR} CACHE INTERNAL "")

function(fovea_kernels target)
  if(ARGN)
    message(FATAL_ERROR "fovea_kernels(${target}), without ${ARGN}")
  endif()
  add_library(${target} STATIC ${FOVEA_KERNELS_FOLDER}/kernels.cpp)
  target_link_libraries(${target} PUBLIC fovea::fovea)
  target_compile_definitions(${target} INTERFACE FOVEA_EXTERN_KERNELS)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
                        VISIBILITY_INLINES_HIDDEN ON)  # for shared libraries too; each has its own
endfunction()
