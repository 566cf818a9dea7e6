# fovea_python_module(<target>): the module fovea._native, which needs pybind11 and fovea::compiled.
set(FOVEA_PYTHON_NATIVE ${CMAKE_CURRENT_LIST_DIR})
function(fovea_python_module target)
  pybind11_add_module(${target} MODULE NO_EXTRAS ${FOVEA_PYTHON_NATIVE}/arrays.cpp ${FOVEA_PYTHON_NATIVE}/call.cpp
                      ${FOVEA_PYTHON_NATIVE}/options.cpp ${FOVEA_PYTHON_NATIVE}/module.cpp)
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_link_libraries(${target} PRIVATE fovea::compiled)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME _native CXX_VISIBILITY_PRESET hidden UNITY_BUILD ON)
endfunction()
