# Compiles SOURCE for Windows and runs it: -DCXX= -DWINE= -DSOURCE= -DFOVEA= -DEIGEN= -DXSIMD= -DWORK=
# Eigen and xsimd are linked to, as /usr/include itself holds the headers of another system's C library.
cmake_minimum_required(VERSION 3.25)
if(NOT EXISTS ${EIGEN}/Eigen/Core OR NOT EXISTS ${XSIMD}/xsimd/xsimd.hpp)
  message("skipped: Eigen and xsimd are no folders of one name each")
  return()
endif()
file(REMOVE_RECURSE ${WORK}/include)
file(MAKE_DIRECTORY ${WORK}/include)
file(CREATE_LINK ${EIGEN}/Eigen ${WORK}/include/Eigen SYMBOLIC)
file(CREATE_LINK ${XSIMD}/xsimd ${WORK}/include/xsimd SYMBOLIC)
execute_process(COMMAND ${CXX} -std=c++20 -O1 -Wall -Wextra -I${FOVEA}/include -isystem ${WORK}/include ${SOURCE} -static
                -o ${WORK}/program.exe COMMAND_ERROR_IS_FATAL ANY)
set(ENV{WINEPREFIX} ${WORK}/wine)
set(ENV{WINEDEBUG} -all)
set(ENV{WINEDLLOVERRIDES} "mscoree=;mshtml=")
execute_process(COMMAND ${WINE} ${WORK}/program.exe TIMEOUT 300 COMMAND_ERROR_IS_FATAL ANY)
