// fovea/compiled/rotary.hpp - rotations as the C header describes them.
#pragma once

#include <fovea/compiled/widened.hpp>
#include <fovea/position/rotary.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

inline void check_table(const fovea_tensor& x, const char* name) {
  if (x.batch != 1 || x.heads != 1)
    reject(name, " is ", x.batch, " x ", x.heads, " matrices, not one of positions x angles");
}

/// to <- x, its tokens turned to the positions from `first` on. T: of x and `to`.
template <class Arch, class T>
void turn(const tensor_view<T>& to, const tensor_view<const T>& x, const fovea_rotary& given,
          index_type first) {
  const fovea_rotary angles = whole(&given, "angles");
  check_table(angles.cos, "the cosines"), check_table(angles.sin, "the sines");
  const as_numbers<T> cosines(angles.cos, "the cosines"), sines(angles.sin, "the sines");
  const auto table = [](const tensor_view<const T>& m) {
    return matrix_view<const T>{m.data, m.tokens, m.dim, m.token_stride, m.dim_stride};
  };
  rotate_into<Arch>(
      to, x, rotary_angles<T>{table(cosines.view), table(sines.view)},
      {.pairs = angles.interleaved != 0 ? rotary_pairs::interleaved : rotary_pairs::halves, .first = first});
}

/// fovea_rotate: of 16 bits by way of float.
template <class Arch>
void rotate_tensor(const fovea_rotary& angles, fovea_tensor x, index_type first, fovea_tensor to) {
  if (x.element != to.element)
    reject("to has elements ", name_of_element(to.element), ", not ", name_of_element(x.element), " as x");
  with_real(x, "x", [](const auto&) {});
  widened wide;
  wide.read(x, "x"), wide.write(to, "to");
  if (x.element == FOVEA_F64)
    turn<Arch>(view_as<double>(to, "to"), view_as<const double>(x, "x"), angles, first);
  else
    turn<Arch>(view_as<float>(to, "to"), view_as<const float>(x, "x"), angles, first);
  wide.store();
}

}  // namespace described
FOVEA_NAMESPACE_END
