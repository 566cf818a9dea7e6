# The compiled library as a DLL and programs in C that call it (prefill, decode, gradients, a cache's file, refusals), made by
# mingw-w64 and run under wine: -DFOVEA= -DEIGEN= -DXSIMD= -DMINGW= -DWINE= -DWORK=
cmake_minimum_required(VERSION 3.25)
file(MAKE_DIRECTORY ${WORK})
string(REPLACE "g++" "gcc" c_compiler ${MINGW})
file(WRITE ${WORK}/toolchain.cmake "set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER ${c_compiler})
set(CMAKE_CXX_COMPILER ${MINGW})
")
execute_process(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/dll -B ${WORK}/build -DFOVEA=${FOVEA} -DEIGEN=${EIGEN} -DXSIMD=${XSIMD}
                -DCMAKE_TOOLCHAIN_FILE=${WORK}/toolchain.cmake -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -DNDEBUG -march=x86-64-v3"
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${WORK}/build COMMAND_ERROR_IS_FATAL ANY)

# mingw's own DLLs, where its compiler says that they are.
set(path "")
foreach(library libstdc++-6.dll libgcc_s_seh-1.dll libwinpthread-1.dll)
  execute_process(COMMAND ${MINGW} -print-file-name=${library} OUTPUT_VARIABLE file OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  get_filename_component(folder ${file} REALPATH)
  get_filename_component(folder ${folder} DIRECTORY)
  string(APPEND path "Z:${folder}\;")
endforeach()
set(ENV{WINEPATH} "${path}")
set(ENV{WINEPREFIX} ${WORK}/wine)
set(ENV{WINEDEBUG} -all)
foreach(program c_program c_beside c_refused)
  set(file "")
  if(NOT program STREQUAL c_program)
    set(file ${program}.cache)
  endif()
  execute_process(COMMAND ${WINE} ${WORK}/build/${program}.exe ${file} WORKING_DIRECTORY ${WORK}/build OUTPUT_VARIABLE said
                  RESULT_VARIABLE status)
  message(STATUS "${program}: ${said}")
  if(NOT status EQUAL 0 OR NOT said MATCHES "good")
    message(FATAL_ERROR "${program}.exe: ${status}")
  endif()
endforeach()
