// fovea/kv_cache/nibbles_file.hpp - a cache in 4 bits as a file: the header of file.hpp, then, a head after
// another, keys of whole blocks (codes, scales), those of the open block in float; then values (codes with
// their multiples, scales).
#pragma once

#include <fovea/kv_cache/file.hpp>
#include <fovea/kv_cache/nibbles.hpp>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// What a file's header says of 4 bits.
struct four_bits {};
template <>
inline constexpr std::uint16_t element_code<four_bits> = 6;
struct four_bit_store {
  static constexpr bool opens_blocks = true;
};

/// f(bytes) for each part of the tokens, in the order of a file.
template <class Keys, class Values, class F>
void each_part(Keys& keys, Values& values, index_type heads, index_type tokens, F&& f) {
  for (index_type h = 0; h < heads; ++h) Keys::each_part(keys, h, tokens, f);
  for (index_type h = 0; h < heads; ++h) Values::each_part(values, h, tokens, f);
}

inline void save_nibbles(std::ostream& out, const extent& e, const nibble_keys& keys,
                         const nibble_values& values, index_type tokens) {
  file_header h;
  h.key_element = h.value_element = element_code<four_bits>;
  h.heads = e.heads, h.dim = e.dim, h.value_dim = e.value_dim, h.tokens = tokens;
  h.open_tokens = static_cast<std::uint32_t>(tokens - keys.closed());
  std::vector<std::byte> bytes;
  each_part(keys, values, e.heads, tokens,
            [&](std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
  h.payload_sum = sum_of(bytes), h.header_sum = sum_of_header(h);
  out.write(reinterpret_cast<const char*>(&h), sizeof h);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) bad_file("could not be written");
}

/// Goes through what stands behind a header, and throws where save_nibbles() never writes it, whatever the
/// sums say: what is taken is multiplied, and rounded when a block is full, without another look.
class number_checks {
 public:
  explicit number_checks(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  void key_codes(index_type rows, index_type dim) {
    for (; rows > 0; --rows) codes("keys", dim);
  }
  void value_codes(index_type rows, index_type dim) {
    for (; rows > 0; --rows) {
      codes("values", dim);
      for (index_type c = 0; c < dim; c += nibble_block)
        if (const int multiple = next(); multiple < 1 || multiple > nibble_values::steps)
          refuse("values with the multiple " + std::to_string(multiple) + ", not 1 to 16,", 1);
    }
  }
  /// The largest number is so many times its scale.
  void scales(const char* of, index_type count, float largest) {
    for (; count > 0; --count)
      if (const float x = next_float(); !is_finite(x) || x < 0 || !is_finite(x * largest))
        refuse(std::string(of) + " with the scale " + std::to_string(x), sizeof x);
  }
  void open_keys(index_type count) {
    for (; count > 0; --count)
      if (const float x = next_float(); !is_finite(x)) refuse("a key that is " + std::to_string(x), sizeof x);
  }

 private:
  void codes(const char* of, index_type dim) {
    const index_type half = nibble_bytes(dim);
    for (index_type c = 0; c < half; ++c) {
      const int pair = next();
      if ((pair & 15) == 0 || (half + c < dim && pair >> 4 == 0))
        refuse(std::string(of) + " with the code 0, not 1 to 15,", 1);
    }
  }
  int next() noexcept { return std::to_integer<int>(bytes_[at_++]); }
  float next_float() noexcept {
    float x;
    std::memcpy(&x, bytes_.data() + at_, sizeof x);
    at_ += sizeof x;
    return x;
  }
  [[noreturn]] void refuse(const std::string& what, std::size_t size) const {
    bad_file("has what no cache has: " + what +
             at_byte(static_cast<index_type>(sizeof(file_header) + at_ - size)));
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

inline void check_numbers(std::span<const std::byte> bytes, const extent& e, index_type closed,
                          index_type tokens) {
  number_checks next(bytes);
  for (index_type h = 0; h < e.heads; ++h) {
    next.key_codes(closed, e.dim);
    next.scales("keys", closed / nibble_block * e.dim, 7);
    next.open_keys((tokens - closed) * e.dim);
  }
  for (index_type h = 0; h < e.heads; ++h) {
    next.value_codes(tokens, e.value_dim);
    next.scales("values", tokens, 7 * nibble_values::steps);
  }
}

/// Returns how many tokens there are now; throws, and then has changed nothing. `e`: sizes and room.
inline index_type load_nibbles(std::istream& in, const extent& e, nibble_keys& keys, nibble_values& values) {
  std::vector<std::byte> first(sizeof(file_header));
  in.read(reinterpret_cast<char*>(first.data()), static_cast<std::streamsize>(first.size()));
  first.resize(static_cast<std::size_t>(in.gcount()));
  const file_header h = checked_header<four_bit_store, four_bits, four_bits>(first, e);
  if (h.open_tokens != static_cast<std::uint64_t>(h.tokens % nibble_block))
    bad_file("has a header that no cache has: " + std::to_string(h.open_tokens) + " of " +
             std::to_string(h.tokens) + " tokens in an open block" +
             at_byte(offsetof(file_header, open_tokens)));
  const index_type closed = h.tokens - static_cast<index_type>(h.open_tokens);
  const index_type size = e.heads * (nibble_keys::file_bytes(closed, h.tokens, e.dim) +
                                     nibble_values::file_bytes(h.tokens, e.value_dim));
  const std::vector<std::byte> bytes = read_bytes(in, size, sizeof h);
  check_sum(h, sum_of(bytes));
  check_numbers(bytes, e, closed, h.tokens);
  keys.set_closed(closed);
  const std::byte* from = bytes.data();
  each_part(keys, values, e.heads, h.tokens, [&](std::span<std::byte> part) {
    std::copy_n(from, part.size(), part.data());
    from += part.size();
  });
  return h.tokens;
}

}  // namespace caching
FOVEA_NAMESPACE_END
