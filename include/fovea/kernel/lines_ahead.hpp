// fovea/kernel/lines_ahead.hpp - cache lines that will be needed, asked for a few at a time while tiles are
// computed.
#pragma once

#include <fovea/kernel/simd.hpp>
#include <fovea/view/matrix.hpp>

FOVEA_NAMESPACE_BEGIN
namespace kernel {

/// The lines of some rows of a matrix, to be read or (Write) written soon. Queries are packed and results
/// unpacked once a job, 16 rows at a time: a pattern that hardware does not foresee.
template <bool Write>
class lines_ahead {
 public:
  FOVEA_INLINE lines_ahead() noexcept = default;
  template <class E>
  FOVEA_INLINE lines_ahead(const matrix_view<E>& m, range rows) noexcept
      : row_(reinterpret_cast<const char*>(m.at(rows.first))),
        stride_(m.row_stride * static_cast<index>(sizeof(E))),
        bytes_(m.cols * static_cast<index>(sizeof(E))),
        rows_(m.col_stride == 1 && m.cols > 0 ? rows.size() : 0) {}

  /// How many of them are due with each of `times` calls.
  FOVEA_INLINE index share(index times) const noexcept {
    return ceil_div(rows_ * ceil_div(bytes_, line), std::max<index>(times, 1));
  }

  FOVEA_INLINE void fetch(index count) noexcept {
    for (; count > 0 && rows_ > 0; --count) {
      FOVEA_PREFETCH(row_ + offset_, Write);
      offset_ += line;
      if (offset_ >= bytes_) offset_ = 0, row_ += stride_, --rows_;
    }
  }

 private:
  static constexpr index line = 64;
  const char* row_ = nullptr;
  index stride_ = 0, bytes_ = 0, rows_ = 0, offset_ = 0;
};

}  // namespace kernel
FOVEA_NAMESPACE_END
