// fovea/position/axes.hpp - tokens with several coordinates: M-RoPE of pictures and films, axial embedding.
//
//   const std::vector<int> rows = ..., columns = ...;                       // of each token
//   const fovea::rotary_table<float> table({rows, columns}, fovea::axial_frequencies({32, 32}));
//   fovea::rotate(q, table.angles(), {.heads = 8});                         // row t of the table: token t
#pragma once

#include <fovea/position/frequencies.hpp>

#include <array>
#include <initializer_list>
#include <utility>

FOVEA_NAMESPACE_BEGIN

/// How M-RoPE shares out pairs to time, height and width: one section after another (Qwen2-VL), or height
/// taking pairs 1, 4, 7, ..., width 2, 5, 8, ... (Qwen3-VL), time what is left.
enum class mrope_order { sections, interleaved };

/// `frequencies` (of any scaling) for tokens with three coordinates: sections[0] pairs turn with the first,
/// sections[1] with the second, sections[2] with the third. Text has all three the same, and turns as with
/// one.
///
/// Wang et al., "Qwen2-VL", arXiv:2409.12191; interleaved: "Qwen3-VL", arXiv:2511.21631. Throws
/// std::invalid_argument where sections are negative or not as many as there are pairs, or interleaved ones
/// reach beyond the last pair.
template <int = 0>
rotary_frequencies mrope_frequencies(rotary_frequencies frequencies,
                                     const std::array<index_type, 3>& sections,
                                     mrope_order order = mrope_order::sections) {
  const auto pairs = static_cast<index_type>(frequencies.values.size());
  index_type left = pairs;
  for (const index_type n : sections) {
    if (n < 0) reject("mrope_frequencies has a section of ", n, " pairs, fewer than 0");
    left -= std::min(n, pairs + 1);
  }
  if (left != 0)
    reject("mrope_frequencies has sections of ", sections[0], ", ", sections[1], " and ", sections[2],
           " pairs, the frequencies are of ", pairs);
  frequencies.axes.assign(static_cast<std::size_t>(pairs), 0);
  if (order == mrope_order::sections) {
    for (index_type i = sections[0]; i < pairs; ++i)
      frequencies.axes[static_cast<std::size_t>(i)] = i < sections[0] + sections[1] ? 1 : 2;
    return frequencies;
  }
  for (index_type axis = 1; axis < 3; ++axis)
    for (index_type n = 0; n < sections[static_cast<std::size_t>(axis)]; ++n) {
      const index_type i = axis + 3 * n;
      if (i >= pairs)
        reject("mrope_frequencies has an interleaved section of ", sections[static_cast<std::size_t>(axis)],
               " pairs, which end beyond pair ", pairs);
      frequencies.axes[static_cast<std::size_t>(i)] = axis;
    }
  return frequencies;
}

/// Axial embedding: axis a turns dims[a] / 2 pairs of its own, after those of the axes before, with the
/// frequencies base^(-2i / dims[a]). Two axes of half a head each are a picture's rows and columns, three a
/// film's time, rows and columns. Coordinates may be real: normalised to -1 .. 1 and times 2 pi they are
/// DINOv3's, with base 100.
///
/// Pairs are those of the whole head; where each axis turns a part of the head by itself (i and i +
/// dims[a] / 2 within it), rotate that part's view with a table of one axis. Heo et al., "Rotary Position
/// Embedding for Vision Transformer", arXiv:2403.13298; the vision towers of Qwen2-VL and DINOv3. Throws
/// std::invalid_argument where a number of dimensions is odd or negative, or `base` not a finite number above
/// 0.
template <int = 0>
rotary_frequencies axial_frequencies(std::initializer_list<index_type> dims, double base = 10000.0) {
  rotary_frequencies f;
  index_type axis = 0;
  for (const index_type dim : dims) {
    const auto own = position::powers_of("axial_frequencies", dim, base);
    f.values.insert(f.values.end(), own.begin(), own.end());
    f.axes.insert(f.axes.end(), own.size(), axis++);
  }
  return f;
}

FOVEA_NAMESPACE_END
