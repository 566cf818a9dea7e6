// fovea/kv_cache/store.hpp - pages of keys and values: how the tokens of a cache lie in memory.
//
// A page has room for page_tokens tokens of every head, [head][token][dim], keys and values apart. A token's
// place is a slot: page * page_tokens + token in the page. Which slot a token of a sequence has is known to
// layouts, not here.
#pragma once

#include <fovea/element/bf16.hpp>
#include <fovea/element/f32.hpp>
#include <fovea/element/f64.hpp>
#include <fovea/element/fp16.hpp>
#include <fovea/element/int8.hpp>
#include <fovea/kv_cache/extent.hpp>
#include <fovea/kv_cache/int8_scales.hpp>
#include <fovea/kv_cache/memory.hpp>
#include <fovea/view/matrix.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// E: float, double, bf16, fp16: as they are; std::int8_t: integers and scales. Keys have a scale a channel
/// and block of 32 tokens, values a scale a token and head: x ~ code * scale, scale = max|x| / 127, an
/// error of at most max|x| / 254; where max|x| is below 127 * 2^-126 (1.5e-36), all are exactly 0. (A
/// scale a channel for keys: KIVI, arXiv:2402.02750.)
template <class KE, class VE, class Arch>
class store {
 public:
  static constexpr bool int8_keys = std::is_same_v<KE, std::int8_t>;
  static constexpr bool opens_blocks = int8_keys;  // the newest keys, fewer than a block, are not rounded
  static constexpr bool int8_values = std::is_same_v<VE, std::int8_t>;
  using compute = common_compute_t<KE, VE>;

  /// A kind of data: units of `width` elements of `size` bytes, `units` a head and page.
  struct plane {
    index_type units = 0, width = 0, size = 0, start = 0;
    index_type bytes() const noexcept { return units * width * size; }
  };
  static constexpr int keys = 0, values = 1, key_scales = 2, value_scales = 3;

  explicit store(const extent& e) : store(e, nullptr) {
    owned_ = zeroed_memory(bytes());
    data_ = owned_.get();
  }
  /// Over memory that the caller keeps.
  store(const extent& e, std::byte* data) noexcept : extent_(e), data_(data) {
    const index_type blocks = blocks_of_page().count();
    planes_[keys] = {e.page_tokens, e.dim, static_cast<index_type>(sizeof(KE))};
    planes_[values] = {e.page_tokens, e.value_dim, static_cast<index_type>(sizeof(VE))};
    planes_[key_scales] = {int8_keys ? blocks : 0, e.dim, sizeof(float)};
    planes_[value_scales] = {int8_values ? e.page_tokens : 0, 1, sizeof(float)};
    for (plane& p : planes_) {
      p.start = bytes_;
      bytes_ += round_up(p.bytes() * e.heads * e.pages, 64);
    }
  }

  /// Makes room for `pages` pages, no fewer than there are; they stay as they are. Both memories are held
  /// while they are copied.
  void grow(index_type pages) {
    extent larger_sizes = extent_;
    larger_sizes.pages = pages;
    store larger(larger_sizes);
    for (int which = 0; which < 4; ++which)
      if (const plane& p = planes_[static_cast<std::size_t>(which)]; p.units > 0)
        std::memcpy(larger.unit(which, 0, 0, 0), unit(which, 0, 0, 0),
                    static_cast<std::size_t>(p.bytes() * extent_.heads * extent_.pages));
    *this = std::move(larger);
  }

  const extent& sizes() const noexcept { return extent_; }
  index_type bytes() const noexcept { return bytes_; }
  /// The memory is the caller's.
  bool read_only() const noexcept { return owned_.get() == nullptr; }
  const std::byte* data() const noexcept { return data_; }
  const std::array<plane, 4>& planes() const noexcept { return planes_; }
  scale_blocks blocks_of_page() const noexcept { return {extent_.page_tokens, extent_.sinks}; }

  /// Unit `unit` of a head of a page, and at which byte it lies.
  std::byte* unit(int which, index_type page, index_type head, index_type unit) const noexcept {
    return data_ + byte_of(which, page, head, unit);
  }
  index_type byte_of(int which, index_type page, index_type head, index_type unit) const noexcept {
    const plane& p = planes_[static_cast<std::size_t>(which)];
    return p.start + (page * extent_.heads + head) * p.bytes() + unit * p.width * p.size;
  }

  /// Writes one head's key, or value, of a token, between begin() and end() of it.
  void put_key(index_type slot, index_type head, const compute* key, open_block& open) const noexcept {
    if constexpr (int8_keys)
      std::transform(key, key + extent_.dim, open_row(open, slot, head),
                     [](compute x) { return static_cast<float>(x); });
    else
      store_elements(key, extent_.dim, row<KE>(keys, slot, head), index_type(1));
  }
  void put_value(index_type slot, index_type head, const compute* value) const noexcept {
    if constexpr (int8_values)
      *row<float>(value_scales, slot, head) =
          quantise(value, index_type(1), extent_.value_dim, row<VE>(values, slot, head));
    else
      store_elements(value, extent_.value_dim, row<VE>(values, slot, head), index_type(1));
  }

  /// Room for an open block, which a token needs.
  void make_room(open_block& open) const {
    if constexpr (int8_keys)
      open.rows.resize(static_cast<std::size_t>(extent_.heads * scale_blocks::tokens * extent_.dim));
  }
  /// Before a token is written: opens the block of keys that it belongs to.
  void begin(index_type slot, open_block& open) const noexcept {
    if constexpr (int8_keys) {
      const range block = block_around(slot);
      if (open.slots.first == block.first && slot > block.first && slot <= open.slots.last) {
        open.slots.last = slot;
        return;
      }
      for (index_type s = block.first; s < slot; ++s)  // after a truncation: back from the integers
        for (index_type h = 0; h < extent_.heads; ++h)
          decode_key(s, h, open.rows.data() + open_at(s, h, block));
      open.slots = {block.first, slot};
    }
  }
  /// After its heads are written: closes the block where that was its last.
  void end(index_type slot, open_block& open) const noexcept {
    if constexpr (int8_keys) {
      open.slots.last = slot + 1;
      const range block = block_around(slot);
      if (open.slots.last == block.last) close(block, open);
    }
  }

  /// After tokens are taken back: `newest` is the slot of the newest that is left, or -1. Of an open block
  /// of tokens that are all gone nothing must stay, since its slots may come to hold others.
  static void cut(open_block& open, index_type newest) noexcept {
    if (newest >= open.slots.first && newest < open.slots.last)
      open.slots.last = newest + 1;
    else
      open.slots = {0, 0};
  }
  /// int8 keys of the block of `slot`, before it, that are none of the `kept` tokens that lie right before
  /// it: they become 0, so that they do not count when the block is quantised anew.
  void clear_keys(index_type slot, index_type kept) const noexcept {
    if constexpr (int8_keys)
      for (index_type s = block_around(slot).first; s < slot - kept; ++s)
        for (index_type h = 0; h < extent_.heads; ++h) std::fill_n(row<KE>(keys, s, h), extent_.dim, KE(0));
  }

  /// f(piece) for the keys or values of `count` slots of one page.
  template <class F>
  void each_key_piece(index_type head, index_type slot, index_type count, const open_block& open,
                      F&& f) const noexcept {
    if constexpr (!int8_keys) {
      f(piece<KE>{{row<KE>(keys, slot, head), count, extent_.dim, extent_.dim, 1}});
    } else {
      for (const index_type last = slot + count; slot < last;) {
        const range block = block_around(slot);
        const bool opened = slot >= open.slots.first && slot < open.slots.last;
        const index_type end = std::min({last, block.last, opened ? open.slots.last : last});
        if (opened)
          f(piece<float>{
              {open.rows.data() + open_at(slot, head, block), end - slot, extent_.dim, extent_.dim, 1}});
        else
          f(piece<KE>{{row<KE>(keys, slot, head), end - slot, extent_.dim, extent_.dim, 1},
                      scales_of(slot, head)});
        slot = end;
      }
    }
  }
  template <class F>
  void each_value_piece(index_type head, index_type slot, index_type count, const open_block&,
                        F&& f) const noexcept {
    piece<VE> read{{row<VE>(values, slot, head), count, extent_.value_dim, extent_.value_dim, 1}};
    if constexpr (int8_values) read.token_scales = row<float>(value_scales, slot, head);
    f(read);
  }

  /// Copies a page, as copy-on-write needs it.
  void copy_page(index_type from, index_type to) const noexcept {
    for (int which = 0; which < 4; ++which) {
      const plane& p = planes_[static_cast<std::size_t>(which)];
      if (p.units > 0)
        std::memcpy(unit(which, to, 0, 0), unit(which, from, 0, 0),
                    static_cast<std::size_t>(p.bytes() * extent_.heads));
    }
  }

  /// Token `from` of a page takes the place of `to`: its values, and its keys as they are stored, but for
  /// int8 ones, which share their scales with others.
  void move_token(index_type page, index_type from, index_type to) const noexcept {
    for (const int which : {keys, values, value_scales}) {
      const plane& p = planes_[static_cast<std::size_t>(which)];
      if (p.units == 0 || (which == keys && int8_keys)) continue;
      for (index_type h = 0; h < extent_.heads; ++h)
        std::memcpy(unit(which, page, h, to), unit(which, page, h, from),
                    static_cast<std::size_t>(p.width * p.size));
    }
  }

  /// The keys that are open were of page `from`, and are now of page `to`.
  void move_open(open_block& open, index_type from, index_type to) const noexcept {
    if (open.slots.empty() || open.slots.first / extent_.page_tokens != from) return;
    const index_type by = (to - from) * extent_.page_tokens;
    open.slots = {open.slots.first + by, open.slots.last + by};
  }

  /// One head's key of a token that lies in the store, in numbers.
  template <class T>
  void decode_key(index_type slot, index_type head, T* to) const noexcept {
    load_elements(row<KE>(keys, slot, head), index_type(1), extent_.dim, to);
    if constexpr (int8_keys)
      for (index_type c = 0; c < extent_.dim; ++c) to[c] *= static_cast<T>(scales_of(slot, head)[c]);
  }
  /// The same, or one that is open.
  void read_key(index_type slot, index_type head, open_block& open, compute* to) const noexcept {
    if (slot >= open.slots.first && slot < open.slots.last)
      load_elements(open_row(open, slot, head), index_type(1), extent_.dim, to);
    else
      decode_key(slot, head, to);
  }
  /// Where an open block keeps a key.
  float* open_row(open_block& open, index_type slot, index_type head) const noexcept {
    return open.rows.data() + open_at(slot, head, block_around(slot));
  }

 private:
  template <class E>
  E* row(int which, index_type slot, index_type head) const noexcept {
    return reinterpret_cast<E*>(unit(which, slot / extent_.page_tokens, head, slot % extent_.page_tokens));
  }
  /// The slots whose keys share their scales with that of `slot`.
  range block_around(index_type slot) const noexcept {
    const index_type page = slot / extent_.page_tokens * extent_.page_tokens;
    const range block = blocks_of_page().around(slot - page);
    return {page + block.first, page + block.last};
  }
  float* scales_of(index_type slot, index_type head) const noexcept {
    const index_type page = slot / extent_.page_tokens;
    return reinterpret_cast<float*>(
        unit(key_scales, page, head, blocks_of_page().of(slot - page * extent_.page_tokens)));
  }
  index_type open_at(index_type slot, index_type head, const range& block) const noexcept {
    return (head * scale_blocks::tokens + slot - block.first) * extent_.dim;
  }

  void close(const range& block, open_block& open) const noexcept {
    for (index_type h = 0; h < extent_.heads; ++h) {
      const float* from = open.rows.data() + open_at(block.first, h, block);
      KE* to = row<KE>(keys, block.first, h);
      float* scales = scales_of(block.first, h);
      for (index_type c = 0; c < extent_.dim; ++c)
        scales[c] = quantise_column(from + c, extent_.dim, block.size(), to + c);
    }
    open.slots = {block.last, block.last};
  }
  static float quantise_column(const float* from, index_type stride, index_type count, KE* to) noexcept {
    if constexpr (int8_keys) return quantise(from, stride, count, to);
    return 1;
  }

  extent extent_;
  std::array<plane, 4> planes_;
  index_type bytes_ = 0;
  zeroed_memory owned_;
  std::byte* data_ = nullptr;
};

}  // namespace caching
FOVEA_NAMESPACE_END
