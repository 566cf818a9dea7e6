// fovea/mask/lengths.hpp - padded batches: how many keys of each sequence are real.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/mask/concept.hpp>

FOVEA_NAMESPACE_BEGIN

/// The keys [seen.first, seen.last), for every query.
struct key_range {
  range seen;

  auto visible(const auto& q, const auto& k) const noexcept {
    using position = std::remove_cvref_t<decltype(q)>;
    return (k >= position(static_cast<int>(seen.first))) & (k < position(static_cast<int>(seen.last)));
  }
  coverage cover(range, range keys) const noexcept {
    const range both = intersect(keys, seen);
    return both == keys ? coverage::full : both.empty() ? coverage::none : coverage::partial;
  }
  range reach(range) const noexcept { return seen; }
};

/// Right padding: of sequence b the keys below lengths[b] are visible. One length a batch entry, of any type
/// of integer, in a named vector, array, span or Eigen vector: it is read during the call, not copied.
struct key_lengths {
  using is_mask = void;
  list_view<index_type> lengths;

  void check(const place& at) const { check_lengths(lengths, at, "key_lengths"); }
  void each_operand(const auto& f) const { f("key_lengths", lengths); }
  key_range bind(const place& at) const noexcept { return {{0, lengths[at.batch]}}; }

  static void check_lengths(const list_view<index_type>& lengths, const place& at, const char* name) {
    if (lengths.size() != at.batches)
      reject(name, " has ", lengths.size(), " entries for ", at.batches, " sequences");
    const index_type length = lengths[at.batch];
    if (length < 0 || length > at.keys)
      reject(name, "'s entry ", at.batch, " is ", text_of(lengths, at.batch), ", not within 0 and the ",
             at.keys, " keys");
  }
};

/// Left padding: of sequence b the keys from starts[b] on are visible. One start a batch entry, as above.
struct left_padding {
  using is_mask = void;
  list_view<index_type> starts;

  void check(const place& at) const { key_lengths::check_lengths(starts, at, "left_padding"); }
  void each_operand(const auto& f) const { f("left_padding", starts); }
  key_range bind(const place& at) const noexcept { return {{starts[at.batch], at.keys}}; }
};

FOVEA_NAMESPACE_END
