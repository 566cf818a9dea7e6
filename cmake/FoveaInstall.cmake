# Headers, the CMake package (find_package(fovea)) and the pkg-config file. All of it is independent of the machine.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

target_include_directories(fovea INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/fovea)

configure_package_config_file(cmake/foveaConfig.cmake.in ${PROJECT_BINARY_DIR}/foveaConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
set(of_any_machine ARCH_INDEPENDENT)
if(TARGET fovea_compiled)  # then it is one machine's
  set(of_any_machine "")
endif()
write_basic_package_version_file(${PROJECT_BINARY_DIR}/foveaConfigVersion.cmake COMPATIBILITY SameMinorVersion
                                 ${of_any_machine})
configure_file(cmake/fovea.pc.in ${PROJECT_BINARY_DIR}/fovea.pc @ONLY)

install(DIRECTORY include/fovea DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS fovea EXPORT fovea)
install(EXPORT fovea NAMESPACE fovea:: FILE foveaTargets.cmake DESTINATION ${package_dir})
install(FILES ${PROJECT_BINARY_DIR}/foveaConfig.cmake ${PROJECT_BINARY_DIR}/foveaConfigVersion.cmake
        cmake/FoveaMultiarch.cmake cmake/FoveaMultiarchObject.cmake cmake/multiarch.cpp.in cmake/FoveaCompiled.cmake
        cmake/FoveaKernels.cmake cmake/kernels.cpp
        DESTINATION ${package_dir})
install(DIRECTORY cmake/compiled DESTINATION ${package_dir})
if(TARGET fovea_compiled)  # an export of its own: who finds it alone needs neither Eigen nor xsimd
  target_include_directories(fovea_compiled INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  install(TARGETS fovea_compiled EXPORT fovea_compiled)
  install(EXPORT fovea_compiled NAMESPACE fovea:: FILE foveaCompiledTargets.cmake DESTINATION ${package_dir})
endif()
install(FILES ${PROJECT_BINARY_DIR}/fovea.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
