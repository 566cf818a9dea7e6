// fovea/kv_cache/nibbles.hpp - keys and values in 4 bits: which scales they have, and how a call reads them.
#pragma once

#include <fovea/kernel/arch/nibbles.hpp>
#include <fovea/kv_cache/cached.hpp>
#include <fovea/kv_cache/int8_scales.hpp>
#include <fovea/kv_cache/memory.hpp>
#include <fovea/kv_cache/nibble_rows.hpp>

#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Keys: a scale a channel and 32 tokens. Those of a block that is not full yet are floats.
class nibble_keys {
 public:
  static constexpr bool by_channel = true;
  nibble_keys() noexcept = default;  // no memory
  nibble_keys(index_type heads, index_type capacity, index_type dim)
      : heads_(heads),
        capacity_(round_up(capacity, nibble_block)),
        dim_(dim),
        codes_(heads * capacity_ * nibble_bytes(dim)),
        code_bytes_(heads * capacity_ * nibble_bytes(dim)),
        scales_(size(heads * capacity_ / nibble_block * dim)),
        open_(size(heads * nibble_block * dim)) {}

  index_type bytes() const noexcept {
    return code_bytes_ + static_cast<index_type>(4 * (scales_.size() + open_.size()));
  }
  std::span<const std::byte> memory() const noexcept {
    return {codes_.get(), static_cast<std::size_t>(code_bytes_)};
  }

  /// Tokens whose keys are rounded; the others are open.
  index_type closed() const noexcept { return closed_; }
  void set_closed(index_type tokens) noexcept { closed_ = tokens; }
  /// f(bytes) of each part of a head's tokens, of `keys` that may be const, and how many bytes those are.
  template <class Self, class F>
  static void each_part(Self& keys, index_type head, index_type tokens, F&& f) {
    const index_type closed = keys.closed_, dim = keys.dim_;
    f(bytes_of_numbers(keys.codes(0, head), closed * nibble_bytes(dim)));
    f(bytes_of_numbers(keys.scales(0, head), closed / nibble_block * dim));
    f(bytes_of_numbers(keys.open_row(closed, head), (tokens - closed) * dim));
  }
  static index_type file_bytes(index_type closed, index_type tokens, index_type dim) noexcept {
    return closed * nibble_bytes(dim) + 4 * (closed / nibble_block + tokens - closed) * dim;
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
      for (index_type t = first; t < tokens; ++t) read_row(t, h, dim_, open_row(t, h));
    closed_ = first;
  }

  /// f(first, rows, stride, count, scales): rows of codes, `width` apart at `buffer`, with a scale a channel;
  /// or of floats, which are open: as they lie, or, where rows are read wider than they are, padded by zeros
  /// in the buffer, which has room for as many rows of floats.
  template <class F>
  void each_coded(index_type head, range tokens, index_type cols, std::int8_t* buffer, index_type width,
                  F&& f) const noexcept {
    constexpr const float* unscaled = nullptr;
    const auto open = [&](index_type first, const float* rows, index_type stride, index_type count,
                          const float*) {
      if (width <= dim_) return f(first, rows, stride, count, unscaled);
      float* const copy = reinterpret_cast<float*>(buffer) + first * width;
      for (index_type j = 0; j < count; ++j)
        std::fill_n(std::copy_n(rows + j * stride, cols, copy + j * width), width - cols, 0.f);
      f(first, static_cast<const float*>(copy), width, count, unscaled);
    };
    each_block(head, tokens, open, [&](index_type token, index_type first, index_type count) {
      std::int8_t* const to = buffer + first * width;
      read_nibbles<false>(codes(token, head), nibble_bytes(dim_), count, dim_, cols, to, width);
      f(first, static_cast<const std::int8_t*>(to), width, count, scales(token, head));
    });
  }
  /// The same of rows of nibbles, in place.
  template <class F>
  void each_nibbles(index_type head, range tokens, F&& f) const noexcept {
    each_block(head, tokens, f, [&](index_type token, index_type first, index_type count) {
      f(first, reinterpret_cast<const kernel::nibble_pair*>(codes(token, head)), nibble_bytes(dim_), count,
        scales(token, head));
    });
  }
  /// A token's first numbers.
  template <class T>
  void read_row(index_type t, index_type head, index_type cols, T* to) const noexcept {
    if (t >= closed_) return static_cast<void>(std::copy_n(open_row(t, head), cols, to));
    const std::uint8_t* const row = codes(t, head);
    const float* const scale = scales(t, head);
    const index_type half = nibble_bytes(dim_);
    for (index_type c = 0; c < std::min(half, cols); ++c)
      to[c] = static_cast<float>((row[c] & 15) - 8) * scale[c];
    for (index_type c = half; c < cols; ++c) to[c] = static_cast<float>((row[c - half] >> 4) - 8) * scale[c];
  }

 private:
  std::uint8_t* all_codes() const noexcept { return reinterpret_cast<std::uint8_t*>(codes_.get()); }
  static std::size_t size(index_type n) noexcept { return static_cast<std::size_t>(n); }
  const std::uint8_t* codes(index_type t, index_type h) const noexcept {
    return all_codes() + (h * capacity_ + t) * nibble_bytes(dim_);
  }
  std::uint8_t* codes(index_type t, index_type h) noexcept {
    return all_codes() + (h * capacity_ + t) * nibble_bytes(dim_);
  }
  const float* scales(index_type t, index_type h) const noexcept {
    return scales_.data() + (h * capacity_ + t) / nibble_block * dim_;
  }
  float* scales(index_type t, index_type h) noexcept {
    return scales_.data() + (h * capacity_ + t) / nibble_block * dim_;
  }
  const float* open_row(index_type t, index_type h) const noexcept {
    return open_.data() + (h * nibble_block + t % nibble_block) * dim_;
  }
  float* open_row(index_type t, index_type h) noexcept {
    return open_.data() + (h * nibble_block + t % nibble_block) * dim_;
  }
  /// f for tokens that are open, closed(token, first, count) for those that share their scales.
  template <class F, class Closed>
  void each_block(index_type head, range tokens, F&& f, const Closed& closed) const noexcept {
    const index_type start = tokens.first;
    for (index_type end; tokens.first < tokens.last; tokens.first = end) {
      end = std::min(tokens.last, (tokens.first / nibble_block + 1) * nibble_block);
      const index_type count = end - tokens.first, first = tokens.first - start;
      if (tokens.first >= closed_)
        f(first, open_row(tokens.first, head), dim_, count, static_cast<const float*>(nullptr));
      else
        closed(tokens.first, first, count);
    }
  }
  void close(index_type first, index_type h) noexcept {
    auto* const to = codes(first, h);
    float* const scale = scales(first, h);
    for (index_type c = 0; c < dim_; ++c) {
      float most = 0;
      for (index_type t = 0; t < nibble_block; ++t) most = std::max(most, std::abs(open_row(t, h)[c]));
      scale[c] = nibble_scale(most);
      for (index_type t = 0; t < nibble_block; ++t)
        put_nibble(to + t * nibble_bytes(dim_), dim_, c, nibble_of(open_row(t, h)[c], scale[c]));
    }
  }

  index_type heads_ = 0, capacity_ = 0, dim_ = 0, closed_ = 0;
  zeroed_memory codes_;
  index_type code_bytes_ = 0;
  std::vector<float> scales_, open_;
};

/// Values: a scale a token and a multiple of it, 1 to 16 sixteenths, each 32 channels.
class nibble_values {
 public:
  static constexpr bool by_channel = false;
  static constexpr int steps = static_cast<int>(kernel::most_nibble_multiple);
  nibble_values() noexcept = default;
  nibble_values(index_type heads, index_type capacity, index_type dim)
      : heads_(heads),
        capacity_(capacity),
        dim_(dim),
        row_bytes_(nibble_bytes(dim) + ceil_div(dim, nibble_block)),
        codes_(heads * capacity * row_bytes_),
        code_bytes_(heads * capacity * row_bytes_),
        scales_(static_cast<std::size_t>(heads * capacity)) {}

  index_type bytes() const noexcept { return code_bytes_ + static_cast<index_type>(4 * scales_.size()); }

  /// As of nibble_keys.
  template <class Self, class F>
  static void each_part(Self& values, index_type head, index_type tokens, F&& f) {
    const index_type first = head * values.capacity_;
    using code = std::conditional_t<std::is_const_v<Self>, const std::uint8_t, std::uint8_t>;
    f(bytes_of_numbers<code>(values.all_codes() + first * values.row_bytes_, tokens * values.row_bytes_));
    f(bytes_of_numbers(values.scales_.data() + first, tokens));
  }
  static index_type file_bytes(index_type tokens, index_type dim) noexcept {
    return tokens * (nibble_bytes(dim) + ceil_div(dim, nibble_block) + 4);
  }

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
          scale > 0 ? std::clamp(std::ceil(of_block / (7 * scale) - 0.001f), 1.f, float{steps}) : 1.f;
      row[nibble_bytes(dim_) + first / nibble_block] = static_cast<std::uint8_t>(multiple);
      for (index_type c = first; c < last; ++c) put_nibble(row, dim_, c, nibble_of(x[c], scale * multiple));
    }
  }

  /// f(first, rows, stride, count, scales): rows of codes times their block's multiple, with a scale a token.
  template <class F>
  void each_coded(index_type head, range tokens, index_type cols, std::int8_t* buffer, index_type width,
                  F&& f) const noexcept {
    read_nibbles<true>(all_codes() + (head * capacity_ + tokens.first) * row_bytes_, row_bytes_,
                       tokens.size(), dim_, cols, buffer, width);
    f(index_type(0), static_cast<const std::int8_t*>(buffer), width, tokens.size(),
      scales_.data() + head * capacity_ + tokens.first);
  }
  template <class F>
  void each_nibbles(index_type head, range tokens, F&& f) const noexcept {
    const std::uint8_t* const rows = all_codes() + (head * capacity_ + tokens.first) * row_bytes_;
    f(index_type(0), reinterpret_cast<const kernel::nibble_pair*>(rows), row_bytes_, tokens.size(),
      scales_.data() + head * capacity_ + tokens.first);
  }
  template <class T>
  void read_row(index_type t, index_type head, index_type cols, T* to) const noexcept {
    const std::uint8_t* const row = all_codes() + (head * capacity_ + t) * row_bytes_;
    const float scale = scales_[static_cast<std::size_t>(head * capacity_ + t)];
    const index_type half = nibble_bytes(dim_);
    for (index_type c = 0, last; c < cols; c = last) {  // numbers that share a multiple, and a half
      last = std::min({(c / nibble_block + 1) * nibble_block, cols, c < half ? half : cols});
      const float step = static_cast<float>(row[half + c / nibble_block]);
      for (index_type i = c; c < half && i < last; ++i)
        to[i] = static_cast<float>((row[i] & 15) - 8) * step * scale;
      for (index_type i = c; c >= half && i < last; ++i)
        to[i] = static_cast<float>((row[i - half] >> 4) - 8) * step * scale;
    }
  }

 private:
  std::uint8_t* all_codes() const noexcept { return reinterpret_cast<std::uint8_t*>(codes_.get()); }
  index_type heads_ = 0, capacity_ = 0, dim_ = 0, row_bytes_ = 0;
  zeroed_memory codes_;
  index_type code_bytes_ = 0;
  std::vector<float> scales_;
};

/// One head of a cache of them: see view/matrix.hpp.
template <class Cache, side Side>
struct nibble_head {
  using element = std::int8_t;
  const Cache* cache;
  index_type head, rows, cols, first;
  static constexpr index_type row_stride = 0, col_stride = 1;
  static constexpr bool codes_by_channel = Side == side::keys, codes_in_nibbles = true;

  template <class T>
  void read(range tokens, T* to, index_type stride) const noexcept {
    const auto& all = cache->template rows<Side>();
    for (index_type t = tokens.first; t < tokens.last; ++t, to += stride)
      all.read_row(first + t, head, cols, to);
  }
  template <class F>
  void each_coded(range tokens, std::int8_t* buffer, index_type width, F&& f) const noexcept {
    cache->template rows<Side>().each_coded(head, {first + tokens.first, first + tokens.last}, cols, buffer,
                                            width, f);
  }
  template <class F>
  void each_nibbles(range tokens, F&& f) const noexcept {
    cache->template rows<Side>().each_nibbles(head, {first + tokens.first, first + tokens.last}, f);
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
