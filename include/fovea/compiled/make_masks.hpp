// fovea/compiled/make_masks.hpp - masks as the C header describes them.
#pragma once

#include <fovea/compiled/described_mask.hpp>
#include <fovea/compiled/operands.hpp>
#include <fovea/mask/block_map.hpp>
#include <fovea/mask/boolean.hpp>
#include <fovea/mask/causal.hpp>
#include <fovea/mask/dilated.hpp>
#include <fovea/mask/documents.hpp>
#include <fovea/mask/draft_tree.hpp>
#include <fovea/mask/global_tokens.hpp>
#include <fovea/mask/lengths.hpp>
#include <fovea/mask/neighbourhood.hpp>
#include <fovea/mask/prefix.hpp>
#include <fovea/mask/row_intervals.hpp>
#include <fovea/mask/sliding_window.hpp>
#include <fovea/view/broadcast.hpp>

FOVEA_NAMESPACE_BEGIN
namespace described {

inline offset_if_given offset_of(const fovea_mask& m) {
  return m.has_offset != 0 ? offset_if_given(m.offset) : offset_if_given();
}
inline sliding_window window_of(const fovea_mask& m) {
  sliding_window window{.left = m.left, .right = m.right, .offset = offset_of(m)};
  if (m.from != FOVEA_NO_CORNER && m.from != FOVEA_TOP_LEFT && m.from != FOVEA_BOTTOM_RIGHT)
    reject("a sliding window's from is ", m.from, ", no fovea_corner");
  if (m.from != FOVEA_NO_CORNER)
    window.from = m.from == FOVEA_TOP_LEFT ? corner::top_left : corner::bottom_right;
  return window;
}
inline broadcast<const std::uint8_t> bytes_of_mask(const fovea_mask& m, const char* name) {
  const auto view = view_as<const std::uint8_t>(m.matrix, name);
  if (view.data == nullptr && view.batch != 0 && view.heads != 0 && view.tokens != 0 && view.dim != 0)
    reject(name, " is a null pointer");
  return {view};
}

template <int D>
neighbourhood<D> neighbourhood_of(const fovea_mask& m) {
  neighbourhood<D> all{};
  for (std::size_t a = 0; a < D; ++a) {
    all.sizes[a] = m.sizes[a], all.kernel[a] = m.kernel[a];
    all.dilation[a] = m.dilation[a] == 0 ? 1 : m.dilation[a], all.causal[a] = m.causal_axes[a] != 0;
  }
  return all;
}

/// f(mask) for a mask whose cells lie between two diagonals; returns whether it is one.
template <class F>
bool with_band(const fovea_mask& m, const F& f) {
  switch (m.kind) {
    case FOVEA_CAUSAL:
      f(causal);
      return true;
    case FOVEA_CAUSAL_TOP_LEFT:
      f(causal_top_left);
      return true;
    case FOVEA_CAUSAL_BOTTOM_RIGHT:
      f(causal_bottom_right);
      return true;
    case FOVEA_CAUSAL_OFFSET:
      f(causal_offset{m.offset});
      return true;
    case FOVEA_SLIDING_WINDOW:
      f(window_of(m));
      return true;
    default:
      return false;
  }
}

inline void check_dense(const fovea_list& list, const char* name) {
  if (list.stride != 1 && list.count > 1)
    reject(name, " has entries ", list.stride, " apart: they lie one after another, 1 apart");
}
/// Ids, or positions, one after another, as Mask<E>.
template <template <class> class Mask, class F, class... A>
void with_ids(const fovea_list& list, const char* name, const F& f, const A&... more) {
  check_dense(list, name);
  with_integers(list, name, [&](const auto* first) {
    using E = std::remove_const_t<std::remove_pointer_t<decltype(first)>>;
    const std::span<const E> ids(first, static_cast<std::size_t>(list.count));
    f(Mask<E>(ids, more...));
  });
}

/// f(mask) for any other mask of the library that has no parts.
template <class F>
void with_mask(const fovea_mask& m, const F& f) {
  switch (m.kind) {
    case FOVEA_KEY_LENGTHS:
      return f(key_lengths{integers(m.list, "key_lengths")});
    case FOVEA_LEFT_PADDING:
      return f(left_padding{integers(m.list, "left_padding")});
    case FOVEA_PREFIX:
      return f(prefix{integers(m.list, "prefix"), offset_of(m)});
    case FOVEA_DOCUMENTS:
      if (m.list2.data == nullptr) return with_ids<documents>(m.list, "documents' ids", f);
      if (m.list2.element != m.list.element)
        reject("documents' query ids have elements ", name_of_element(m.list2.element), ", not ",
               name_of_element(m.list.element), ", as those of keys");
      check_dense(m.list, "documents' ids"), check_list(m.list2, "documents' query ids");
      check_dense(m.list2, "documents' query ids");
      return with_integers(m.list, "documents' ids", [&](const auto* first) {
        using E = std::remove_const_t<std::remove_pointer_t<decltype(first)>>;
        const std::span<const E> of_keys(first, static_cast<std::size_t>(m.list.count)),
            of_queries(static_cast<const E*>(m.list2.data), static_cast<std::size_t>(m.list2.count));
        f(documents<E>(of_queries, of_keys));
      });
    case FOVEA_BLOCK_DIFFUSION:
      return f(block_diffusion{m.size});
    case FOVEA_CHUNKED:
      return f(chunked{m.size});
    case FOVEA_BOOLEAN:
      return f(boolean_matrix<broadcast<const std::uint8_t>>{bytes_of_mask(m, "boolean_mask")});
    case FOVEA_BLOCK_MAP:
      return f(
          block_map_mask<broadcast<const std::uint8_t>>{bytes_of_mask(m, "block_map"), {m.size, m.size2}});
    case FOVEA_DRAFT_TREE: {
      check_list(m.list, "draft_tree's ancestors");
      if (m.list.element != FOVEA_U64)
        reject("draft_tree's ancestors have elements ", name_of_element(m.list.element), ", not U64");
      const list_view<index_type> words(static_cast<const std::uint64_t*>(m.list.data), m.list.count,
                                        stride_of(m.list));
      return f(draft_tree{words, m.size == 0 ? -1 : m.size});
    }
    case FOVEA_DILATED:
      return f(dilated{m.size, offset_of(m)});
    case FOVEA_GLOBAL_TOKENS:
      return with_ids<global_tokens>(m.list, "global_tokens", f, offset_of(m));
    case FOVEA_NEIGHBOURHOOD:
      if (m.axes == 1) return f(neighbourhood_of<1>(m));
      if (m.axes == 2) return f(neighbourhood_of<2>(m));
      if (m.axes == 3) return f(neighbourhood_of<3>(m));
      reject("a neighbourhood has ", m.axes, " axes, not 1, 2 or 3");
    case FOVEA_BIG_BIRD: {
      big_bird bird;
      bird.side = m.size, bird.window = m.window, bird.global = m.global, bird.random = m.random;
      bird.seed = m.seed;
      return f(bird);
    }
    default:
      reject("a mask has the kind ", m.kind, ", no fovea_mask_kind");
  }
}

template <class Arch, class T>
const any_mask<Arch, T>* make_mask(const fovea_mask& m, call_memory& memory, int depth);

/// All of an array of masks.
template <class Arch, class T>
mask_list<Arch, T>* make_masks(const fovea_mask* masks, std::int64_t count, call_memory& memory,
                               int depth = 0) {
  check_count("masks", count, most_masks);
  auto* const all = memory.make<mask_list<Arch, T>>();
  for (std::int64_t i = 0; i < count; ++i)
    all->add(make_mask<Arch, T>(entry_of(masks, i, "masks"), memory, depth));
  return all;
}

template <class Arch, class T>
const any_mask<Arch, T>* make_mask(const fovea_mask& m, call_memory& memory, int depth) {
  check_depth(depth);
  const any_mask<Arch, T>* made = nullptr;
  const auto keep = [&](const auto& mask) {
    using M = std::remove_cvref_t<decltype(mask)>;
    made = memory.make<mask_of<Arch, T, M>>(mask);
  };
  if (m.kind == FOVEA_ALL_OF || m.kind == FOVEA_ANY_OF || m.kind == FOVEA_NOT) {
    const mask_list<Arch, T>& parts = *make_masks<Arch, T>(m.parts, m.part_count, memory, depth + 1);
    if (parts.size() == 0 || (m.kind == FOVEA_NOT && parts.size() != 1))
      reject("a mask of kind ", m.kind, " has ", parts.size(), " parts, not ",
             m.kind == FOVEA_NOT ? "1" : "1 or more");
    if (m.kind == FOVEA_ALL_OF) return &parts;
    if (m.kind == FOVEA_NOT) return memory.make<mask_complement_of<Arch, T>>(&parts[0]);
    made = &parts[0];
    for (index_type i = 1; i < parts.size(); ++i) made = memory.make<mask_union_of<Arch, T>>(made, &parts[i]);
  } else if (!with_band(m, keep)) {
    with_mask(m, keep);
  }
  return made;
}

/// Masks that are bands between diagonals, as one: with none, everything is visible.
class band_mask {
 public:
  using is_mask = void;
  band_mask(const fovea_mask* masks, std::int64_t count) noexcept : masks_(masks), count_(count) {}

  /// Whether masks are all of that kind.
  static bool holds(const fovea_mask* masks, std::int64_t count) {
    check_count("masks", count, most_masks);
    bool all = true;
    fovea_mask room;
    for (std::int64_t i = 0; i < count; ++i)
      all = with_band(entry_at(masks, i, "masks", room), [](const auto&) {}) && all;
    return all;
  }
  void check(const place& at) const {
    const place named = with_diagonals(at);
    each([&](const auto& mask) { check_at(mask, named); });
  }
  diagonal_band bind(const place& at) const noexcept {
    if (count_ == 0) return {-at.queries, at.keys};
    const place named = with_diagonals(at);
    diagonal_band both{-at.queries, at.keys};
    each([&](const auto& mask) {
      const auto bound = mask.bind(named);
      both.last = std::min(both.last, bound.last);
      if constexpr (requires { bound.first; }) both.first = std::max(both.first, bound.first);
    });
    return both;
  }

 private:
  template <class F>
  void each(const F& f) const {
    fovea_mask room;
    for (std::int64_t i = 0; i < count_; ++i) with_band(entry_at(masks_, i, "masks", room), f);
  }
  place with_diagonals(place at) const {
    each([&](const auto& mask) { name_diagonals(mask, at); });
    return at;
  }
  const fovea_mask* masks_;
  std::int64_t count_;
};

}  // namespace described
FOVEA_NAMESPACE_END
