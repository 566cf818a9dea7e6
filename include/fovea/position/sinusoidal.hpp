// fovea/position/sinusoidal.hpp - the sines and cosines of the paper, as a table of absolute positions.
#pragma once

#include <fovea/position/frequencies.hpp>
#include <fovea/view/tensor.hpp>

FOVEA_NAMESPACE_BEGIN

/// Where pair i's sine and cosine stand: at 2i and 2i + 1 (the paper), or at i and i + width / 2
/// (tensor2tensor, fairseq, Marian, Whisper).
enum class sinusoidal_order { interleaved, halves };

struct sinusoidal_options {
  double base = 10000;
  sinusoidal_order order = sinusoidal_order::interleaved;
  // Whether the slowest pair has the frequency 1 / base (tensor2tensor, fairseq, Whisper): exponents run to 1
  // and not to 1 - 2 / width.
  bool to_the_end = false;
};

/// Owns a table, positions x width:
///
///   sin(p f_i), cos(p f_i),   f_i = base^(-2i / width), or base^(-i / (width / 2 - 1)) with to_the_end
///
///   const fovea::sinusoidal_table<float> table(512, width);
///   fovea::add_positions(x, table.values());
///
/// Computed in double, rounded once to T. Vaswani et al., arXiv:1706.03762, section 3.5. Throws
/// std::invalid_argument where `positions` is negative, `width` odd or negative, `base` not a finite number
/// above 0, or an angle not finite; std::length_error where positions * width numbers are more than can be
/// counted.
template <class T = float>
class sinusoidal_table {
 public:
  sinusoidal_table(index_type positions, index_type width, const sinusoidal_options& options = {})
      : rows_(positions), columns_(width) {
    if (positions < 0) reject("sinusoidal_table has ", positions, " positions, fewer than 0");
    if (width < 0 || width % 2 != 0)
      reject("sinusoidal_table's width is ", width, ", not an even number >= 0");
    position::check_positive("sinusoidal_table", "base", options.base);
    size_product("sinusoidal_table", positions, width, sizeof(T));
    values_.resize(static_cast<std::size_t>(positions * width));
    const index_type pairs = width / 2;
    const bool halves = options.order == sinusoidal_order::halves;
    const double last = static_cast<double>(options.to_the_end ? std::max<index_type>(pairs - 1, 1) : pairs);
    for (index_type i = 0; i < pairs; ++i) {
      const double frequency = std::pow(options.base, -static_cast<double>(i) / last);
      if (!is_finite(static_cast<double>(positions) * frequency))
        reject("sinusoidal_table's base is ", options.base, ", with which position ", positions,
               " has an infinite angle");
      T *sine = values_.data() + (halves ? i : 2 * i), *cosine = sine + (halves ? pairs : 1);
      for (index_type p = 0; p < positions; ++p, sine += width, cosine += width) {
        const double angle = static_cast<double>(p) * frequency;
        *sine = static_cast<T>(std::sin(angle)), *cosine = static_cast<T>(std::cos(angle));
      }
    }
  }

  /// A view of this table, which must outlive it.
  tensor_view<const T> values() const& noexcept {
    return {values_.data(), 1, 1, rows_, columns_, rows_ * columns_, rows_ * columns_, columns_, 1};
  }
  template <class X = T>
  tensor_view<const T> values() const&& {
    static_assert(never<X>, "fovea: values() is a view of the table; give the sinusoidal_table a name");
  }

 private:
  index_type rows_ = 0, columns_ = 0;
  std::vector<T> values_;
};

FOVEA_NAMESPACE_END
