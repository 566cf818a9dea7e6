// fovea/position/rotary_table.hpp - cosines and sines of the positions that tokens stand at.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/position/frequencies.hpp>
#include <fovea/view/matrix.hpp>

#include <initializer_list>

FOVEA_NAMESPACE_BEGIN

/// Cosines and sines, positions x r/2 each, of any element and strides; not owned.
template <class E>
struct rotary_angles {
  matrix_view<const E> cos, sin;
};

namespace position {

/// Whether cosines and sines fit each other, and `dim` dimensions: those that `whose` "has", `of` a head.
template <class E>
void check_angles(const rotary_angles<E>& angles, index_type dim, const char* whose, const char* of = "") {
  const auto &cos = angles.cos, &sin = angles.sin;
  if (sin.rows != cos.rows || sin.cols != cos.cols || cos.rows < 0 || cos.cols < 0)
    reject("the table of cosines is ", cos.rows, " x ", cos.cols, ", that of sines ", sin.rows, " x ",
           sin.cols);
  if (cos.rows > 0 && cos.cols > 0 && (cos.data == nullptr || sin.data == nullptr))
    reject("the table of ", cos.rows, " x ", cos.cols,
           " cosines and sines is a null pointer (was it moved from?)");
  if (cos.cols > dim / 2)
    reject("the table rotates ", saturated_sum(cos.cols, cos.cols), " dimensions, ", whose, " ", dim, of);
}

}  // namespace position

/// Owns cosines and sines, times the frequencies' magnitude: computed in double, rounded once to T. Memory:
/// two numbers a row and pair.
template <class T = float>
class rotary_table {
 public:
  /// Of the angles position * base^(-2i / r), i < r/2, for the positions 0 to `positions` - 1. Throws
  /// std::invalid_argument where `positions` is negative, `rotary_dim` (r) odd or negative, or `base` not a
  /// finite number above 0; std::length_error where positions * r numbers are more than can be counted.
  rotary_table(index_type positions, index_type rotary_dim, double base = 10000.0)
      : rotary_table(positions, plain(positions, rotary_dim, base)) {}

  /// Of the angles position * frequencies.values[i], for the positions 0 to `positions` - 1. Throws
  /// std::invalid_argument where `positions` is negative, a frequency negative or not finite (nor its last
  /// angle), the magnitude not a finite number above 0, or a pair turns with a coordinate other than the
  /// first; std::length_error as above.
  rotary_table(index_type positions, const rotary_frequencies& frequencies)
      : rows_(checked_rows(positions)), columns_(checked_pairs(frequencies, 1)) {
    fill(frequencies, [](index_type row, index_type) { return static_cast<double>(row); });
  }

  /// A row a token: row t has the angles coordinates[axis of i][t] * frequencies.values[i]. For tokens with
  /// several coordinates (axes.hpp), for positions that are no integers, and for a cache whose tokens stand
  /// elsewhere than at their index: append reads row n for its n-th token, so that a table for all that are
  /// to come is made at once.
  ///
  ///   const fovea::rotary_table<float> table({times, rows, columns}, frequencies);
  ///
  /// Each list is a view, of any integer or real type. Throws std::invalid_argument as above, and where lists
  /// differ in size, a pair turns with a coordinate that is not given, or an angle is not finite.
  rotary_table(std::initializer_list<list_view<double>> coordinates, const rotary_frequencies& frequencies)
      : rows_(checked_rows(coordinates)),
        columns_(checked_pairs(frequencies, static_cast<index_type>(coordinates.size()))) {
    fill(frequencies, [&](index_type row, index_type axis) { return coordinates.begin()[axis][row]; });
  }

  /// Views of this table, which must outlive them.
  rotary_angles<T> angles() const& noexcept {
    return {{values_.data(), rows_, columns_, columns_, 1},
            {values_.data() + rows_ * columns_, rows_, columns_, columns_, 1}};
  }
  template <class X = T>
  rotary_angles<T> angles() const&& {
    static_assert(never<X>, "fovea: angles() are views of the table; give the rotary_table a name");
  }

 private:
  static rotary_frequencies plain(index_type positions, index_type rotary_dim, double base) {
    checked_rows(positions);
    rotary_frequencies f{position::powers_of("rotary_table", rotary_dim, base)};
    if (!f.values.empty() && !is_finite(static_cast<double>(positions) * f.values.back()))
      reject("rotary_table's base is ", base, ", with which position ", positions, " has an infinite angle");
    return f;
  }
  static index_type checked_rows(index_type positions) {
    if (positions < 0) reject("rotary_table has ", positions, " positions, fewer than 0");
    return positions;
  }
  static index_type checked_rows(std::initializer_list<list_view<double>> coordinates) {
    if (coordinates.size() == 0) reject("rotary_table has 0 lists of coordinates, fewer than 1");
    for (const auto& list : coordinates)
      if (list.size() != coordinates.begin()->size())
        reject("rotary_table has coordinates of ", coordinates.begin()->size(), " and of ", list.size(),
               " tokens");
    return coordinates.begin()->size();
  }
  static index_type checked_pairs(const rotary_frequencies& f, index_type axes) {
    position::check_positive("rotary_table", "magnitude", f.magnitude);
    for (const double x : f.values)
      if (!is_finite(x) || !(x >= 0))
        reject("rotary_table has a frequency of ", x, ", not a finite number >= 0");
    if (!f.axes.empty() && f.axes.size() != f.values.size())
      reject("rotary_table has ", f.values.size(), " frequencies but axes of ", f.axes.size());
    for (const index_type axis : f.axes)
      if (axis < 0 || axis >= axes)
        reject("rotary_table has a pair that turns with coordinate ", axis, "; there are ", axes);
    return static_cast<index_type>(f.values.size());
  }

  template <class Coordinate>
  void fill(const rotary_frequencies& f, const Coordinate& coordinate) {
    size_product("rotary_table", rows_, 2 * columns_, sizeof(T));
    values_.resize(static_cast<std::size_t>(2 * rows_ * columns_));
    T *cosines = values_.data(), *sines = cosines + rows_ * columns_;
    for (index_type i = 0; i < columns_; ++i) {
      const double step = f.values[static_cast<std::size_t>(i)];
      const index_type axis = f.axes.empty() ? 0 : f.axes[static_cast<std::size_t>(i)];
      for (index_type p = 0; p < rows_; ++p) {
        const double angle = coordinate(p, axis) * step;
        if (!is_finite(angle)) reject("rotary_table has an angle of ", angle, " in row ", p);
        cosines[p * columns_ + i] = static_cast<T>(f.magnitude * std::cos(angle));
        sines[p * columns_ + i] = static_cast<T>(f.magnitude * std::sin(angle));
      }
    }
  }

  index_type rows_ = 0, columns_ = 0;
  std::vector<T> values_;
};

FOVEA_NAMESPACE_END
