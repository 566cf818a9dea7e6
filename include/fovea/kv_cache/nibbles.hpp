// fovea/kv_cache/nibbles.hpp - rows of 4-bit numbers: how they lie, and how a call reads them.
//
// A row of n numbers is ceil(n / 2) bytes: byte i has number i in its low half and number i + ceil(n / 2) in
// its high one, so that registers of bytes become registers of numbers without a shuffle. Each stands for
// itself less 8, times a scale.
#pragma once

#include <fovea/kv_cache/cached.hpp>
#include <fovea/kv_cache/int8_scales.hpp>
#include <fovea/kv_cache/memory.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace caching {

inline constexpr index_type nibble_block = 32;

inline index_type nibble_bytes(index_type n) noexcept { return (n + 1) / 2; }
inline float nibble_scale(float largest) noexcept {
  return largest >= 7 * std::numeric_limits<float>::min() ? largest / 7 : 0.f;
}
inline std::uint8_t nibble_of(float x, float scale) noexcept {
  return static_cast<std::uint8_t>(
      8 + (scale > 0 ? static_cast<int>(std::clamp(std::nearbyint(x / scale), -7.f, 7.f)) : 0));
}
inline void put_nibble(std::uint8_t* row, index_type n, index_type c, std::uint8_t code) noexcept {
  const index_type half = nibble_bytes(n);
  std::uint8_t& byte = row[c < half ? c : c - half];
  byte = static_cast<std::uint8_t>(c < half ? (byte & 0xf0) | code : (byte & 0x0f) | code << 4);
}
/// 32 numbers of the low halves of bytes, or of the high ones: to[i] = (code - 8) * multiple, which is 1 to
/// 16. Two bytes at a time, neither of which overflows: code * multiple is at most 240, and so is what is
/// added to.
inline void read_block(const std::uint8_t* from, bool high, unsigned multiple, std::int8_t* to) noexcept {
  std::uint16_t pairs[nibble_block / 2];
  std::memcpy(pairs, from, sizeof pairs);
  const unsigned shift = high ? 4 : 0, add = (128 - 8 * multiple) * 0x0101u;
  for (std::uint16_t& x : pairs)
    x = static_cast<std::uint16_t>((((x >> shift) & 0x0f0fu) * multiple + add) ^ 0x8080u);
  std::memcpy(to, pairs, sizeof pairs);
}

/// to[c] = (the code of number c less 8) * multiple[c / 32], or without multiples once.
inline void read_nibbles(const std::uint8_t* row, index_type n, const std::uint8_t* multiples,
                         std::int8_t* to) noexcept {
  const index_type half = nibble_bytes(n);
  const auto multiple = [&](index_type c) { return multiples != nullptr ? multiples[c / nibble_block] : 1u; };
  if (n % (2 * nibble_block) == 0) {
    for (index_type c = 0; c < half; c += nibble_block) {
      read_block(row + c, false, multiple(c), to + c);
      read_block(row + c, true, multiple(half + c), to + half + c);
    }
    return;
  }
  for (index_type c = 0; c < n; ++c) {
    const int code = (c < half ? row[c] & 15 : row[c - half] >> 4) - 8;
    to[c] = static_cast<std::int8_t>(code * static_cast<int>(multiple(c)));
  }
}

/// Asks for the rows that come so many bytes later: no pointer tells a walk where they lie.
inline void ask_ahead(const std::uint8_t* row, index_type bytes) noexcept {
  constexpr index_type ahead = 4096, line = 64;
  for (index_type i = 0; i < bytes; i += line) FOVEA_PREFETCH(row + ahead + i, 0, 2);
}

/// Keys: a scale a channel and 32 tokens. Those of a block that is not full yet are floats.
class nibble_keys {
 public:
  static constexpr bool by_channel = true;
  nibble_keys(index_type heads, index_type capacity, index_type dim)
      : heads_(heads),
        capacity_(round_up(capacity, nibble_block)),
        dim_(dim),
        codes_(heads * capacity_ * nibble_bytes(dim)),
        code_bytes_(heads * capacity_ * nibble_bytes(dim)),
        scales_(size(heads * capacity_ / nibble_block * dim)),
        open_(size(heads * nibble_block * dim)) {}

  index_type bytes() const noexcept { return code_bytes_ + static_cast<index_type>(4 * scales_.size()); }
  std::span<const std::byte> memory() const noexcept {
    return {codes_.get(), static_cast<std::size_t>(code_bytes_)};
  }

  /// The same tokens with room for more.
  nibble_keys larger(index_type capacity) const {
    nibble_keys all(heads_, capacity, dim_);
    const index_type codes_a_head = capacity_ * nibble_bytes(dim_),
                     scales_a_head = capacity_ / nibble_block * dim_;
    for (index_type h = 0; h < heads_; ++h) {
      std::copy_n(codes(0, h), codes_a_head, all.all_codes() + h * all.capacity_ * nibble_bytes(dim_));
      std::copy_n(scales(0, h), scales_a_head, all.scales_.data() + h * all.capacity_ / nibble_block * dim_);
    }
    all.open_ = open_, all.closed_ = closed_;
    return all;
  }

  void put(index_type token, index_type head, const float* x) noexcept {
    std::copy_n(x, dim_, open_row(token, head));
    closed_ = std::min(closed_, token / nibble_block * nibble_block);
    if (token % nibble_block == nibble_block - 1) close(token - nibble_block + 1, head);
    if (token % nibble_block == nibble_block - 1 && head == heads_ - 1) closed_ = token + 1;
  }
  void truncate(index_type tokens) noexcept {
    if (tokens >= closed_) return;
    const index_type first = tokens / nibble_block * nibble_block;
    for (index_type h = 0; h < heads_; ++h)
      for (index_type t = first; t < tokens; ++t) {
        float* const to = open_row(t, h);
        for (index_type c = 0; c < dim_; ++c) to[c] = number(t, h, c);
      }
    closed_ = first;
  }

  /// f(first, rows, count, scales): rows of codes, `width` apart at `buffer`, with a scale a channel; or of
  /// floats, which are open.
  template <class F>
  void each_coded(index_type head, range tokens, std::int8_t* buffer, index_type width,
                  F&& f) const noexcept {
    const index_type start = tokens.first;
    for (index_type end; tokens.first < tokens.last; tokens.first = end) {
      end = std::min(tokens.last, (tokens.first / nibble_block + 1) * nibble_block);
      const index_type count = end - tokens.first, first = tokens.first - start;
      if (tokens.first >= closed_) {
        f(first, open_row(tokens.first, head), dim_, count, static_cast<const float*>(nullptr));
        continue;
      }
      for (index_type t = tokens.first; t < end; ++t, buffer += width) {
        read_nibbles(codes(t, head), dim_, nullptr, buffer);
        ask_ahead(codes(t, head), nibble_bytes(dim_));
        std::fill(buffer + dim_, buffer + width, std::int8_t(0));
      }
      f(first, static_cast<const std::int8_t*>(buffer - count * width), width, count,
        scales(tokens.first, head));
    }
  }
  float number(index_type t, index_type head, index_type c) const noexcept {
    if (t >= closed_) return open_row(t, head)[c];
    const index_type half = nibble_bytes(dim_);
    const std::uint8_t byte = codes(t, head)[c < half ? c : c - half];
    return static_cast<float>((c < half ? byte & 15 : byte >> 4) - 8) * scales(t, head)[c];
  }

 private:
  std::uint8_t* all_codes() const noexcept { return reinterpret_cast<std::uint8_t*>(codes_.get()); }
  static std::size_t size(index_type n) noexcept { return static_cast<std::size_t>(n); }
  const std::uint8_t* codes(index_type t, index_type h) const noexcept {
    return all_codes() + (h * capacity_ + t) * nibble_bytes(dim_);
  }
  const float* scales(index_type t, index_type h) const noexcept {
    return scales_.data() + (h * capacity_ + t) / nibble_block * dim_;
  }
  const float* open_row(index_type t, index_type h) const noexcept {
    return open_.data() + (h * nibble_block + t % nibble_block) * dim_;
  }
  float* open_row(index_type t, index_type h) noexcept {
    return open_.data() + (h * nibble_block + t % nibble_block) * dim_;
  }
  void close(index_type first, index_type h) noexcept {
    auto* const to = all_codes() + (h * capacity_ + first) * nibble_bytes(dim_);
    float* const scale = scales_.data() + (h * capacity_ + first) / nibble_block * dim_;
    for (index_type c = 0; c < dim_; ++c) {
      float most = 0;
      for (index_type t = 0; t < nibble_block; ++t) most = std::max(most, std::abs(open_row(t, h)[c]));
      scale[c] = nibble_scale(most);
      for (index_type t = 0; t < nibble_block; ++t)
        put_nibble(to + t * nibble_bytes(dim_), dim_, c, nibble_of(open_row(t, h)[c], scale[c]));
    }
  }

  index_type heads_, capacity_, dim_, closed_ = 0;
  zeroed_memory codes_;
  index_type code_bytes_;
  std::vector<float> scales_, open_;
};

/// Values: a scale a token and a multiple of it, 1 to 16 sixteenths, each 32 channels.
class nibble_values {
 public:
  static constexpr bool by_channel = false;
  static constexpr int steps = 16;
  nibble_values(index_type heads, index_type capacity, index_type dim)
      : heads_(heads),
        capacity_(capacity),
        dim_(dim),
        row_bytes_(nibble_bytes(dim) + ceil_div(dim, nibble_block)),
        codes_(heads * capacity * row_bytes_),
        code_bytes_(heads * capacity * row_bytes_),
        scales_(static_cast<std::size_t>(heads * capacity)) {}

  index_type bytes() const noexcept { return code_bytes_ + static_cast<index_type>(4 * scales_.size()); }

  nibble_values larger(index_type capacity) const {
    nibble_values all(heads_, capacity, dim_);
    for (index_type h = 0; h < heads_; ++h) {
      std::copy_n(all_codes() + h * capacity_ * row_bytes_, capacity_ * row_bytes_,
                  all.all_codes() + h * capacity * row_bytes_);
      std::copy_n(scales_.data() + h * capacity_, capacity_, all.scales_.data() + h * capacity);
    }
    return all;
  }

  void put(index_type token, index_type head, const float* x) noexcept {
    float most = 0;
    for (index_type c = 0; c < dim_; ++c) most = std::max(most, std::abs(x[c]));
    const float scale = nibble_scale(most) / steps;
    scales_[static_cast<std::size_t>(head * capacity_ + token)] = scale;
    std::uint8_t* const row = all_codes() + (head * capacity_ + token) * row_bytes_;
    for (index_type first = 0; first < dim_; first += nibble_block) {
      const index_type last = std::min(first + nibble_block, dim_);
      float of_block = 0;
      for (index_type c = first; c < last; ++c) of_block = std::max(of_block, std::abs(x[c]));
      const float multiple =
          scale > 0 ? std::clamp(std::ceil(of_block / (7 * scale) - 0.001f), 1.f, 16.f) : 1.f;
      row[nibble_bytes(dim_) + first / nibble_block] = static_cast<std::uint8_t>(multiple);
      for (index_type c = first; c < last; ++c) put_nibble(row, dim_, c, nibble_of(x[c], scale * multiple));
    }
  }

  /// f(first, rows, count, scales): rows of codes times their block's multiple, with a scale a token.
  template <class F>
  void each_coded(index_type head, range tokens, std::int8_t* buffer, index_type width,
                  F&& f) const noexcept {
    for (index_type t = tokens.first; t < tokens.last; ++t) {
      std::int8_t* const to = buffer + (t - tokens.first) * width;
      const std::uint8_t* const row = all_codes() + (head * capacity_ + t) * row_bytes_;
      read_nibbles(row, dim_, row + nibble_bytes(dim_), to);
      ask_ahead(row, row_bytes_);
      std::fill(to + dim_, to + width, std::int8_t(0));
    }
    f(index_type(0), static_cast<const std::int8_t*>(buffer), width, tokens.size(),
      scales_.data() + head * capacity_ + tokens.first);
  }
  float number(index_type t, index_type head, index_type c) const noexcept {
    const index_type half = nibble_bytes(dim_);
    const std::uint8_t* const row = all_codes() + (head * capacity_ + t) * row_bytes_;
    const int code = (c < half ? row[c] & 15 : row[c - half] >> 4) - 8;
    return static_cast<float>(code * row[half + c / nibble_block]) *
           scales_[static_cast<std::size_t>(head * capacity_ + t)];
  }

 private:
  std::uint8_t* all_codes() const noexcept { return reinterpret_cast<std::uint8_t*>(codes_.get()); }
  index_type heads_, capacity_, dim_, row_bytes_;
  zeroed_memory codes_;
  index_type code_bytes_;
  std::vector<float> scales_;
};

/// One head of a cache of them: see view/matrix.hpp.
template <class Cache, side Side>
struct nibble_head {
  using element = std::int8_t;
  const Cache* cache;
  index_type head, rows, cols, first;
  static constexpr index_type row_stride = 0, col_stride = 1;
  static constexpr bool codes_by_channel = Side == side::keys;

  template <class T>
  void read(range tokens, T* to, index_type stride) const noexcept {
    const auto& all = cache->template rows<Side>();
    for (index_type t = tokens.first; t < tokens.last; ++t, to += stride)
      for (index_type c = 0; c < cols; ++c) to[c] = static_cast<T>(all.number(first + t, head, c));
  }
  template <class F>
  void each_coded(range tokens, std::int8_t* buffer, index_type width, F&& f) const noexcept {
    cache->template rows<Side>().each_coded(head, {first + tokens.first, first + tokens.last}, buffer, width,
                                            f);
  }
  /// f(piece) once, of rows that live as long as it takes: for what reads element by element.
  template <class F>
  void each_piece(range tokens, F&& f) const {
    std::vector<float> numbers(static_cast<std::size_t>(tokens.size() * cols));
    read(tokens, numbers.data(), cols);
    if (!tokens.empty()) f(piece<float>{{numbers.data(), tokens.size(), cols, cols, 1}});
  }
};

}  // namespace caching
FOVEA_NAMESPACE_END
