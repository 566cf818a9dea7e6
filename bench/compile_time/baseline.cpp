// What every user of the library includes anyway: the yardstick of bench/compile_time.py.
#include <Eigen/Core>
#include <xsimd/xsimd.hpp>
