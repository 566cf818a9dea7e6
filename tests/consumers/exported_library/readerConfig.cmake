include(CMakeFindDependencyMacro)
find_dependency(fovea)
include(${CMAKE_CURRENT_LIST_DIR}/readerTargets.cmake)
