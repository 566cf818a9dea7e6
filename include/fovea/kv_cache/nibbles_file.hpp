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
  static constexpr bool int8_keys = true;  // the newest keys, fewer than a block, are floats
};

/// f(bytes) for each part of the tokens, in the order of a file.
template <class F>
void each_part(const nibble_keys& keys, const nibble_values& values, index_type heads, index_type tokens,
               F&& f) {
  for (index_type h = 0; h < heads; ++h) keys.each_part(h, tokens, f);
  for (index_type h = 0; h < heads; ++h) values.each_part(h, tokens, f);
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
  keys.set_closed(closed);
  const std::byte* from = bytes.data();
  each_part(keys, values, e.heads, h.tokens, [&](std::span<const std::byte> part) {
    std::copy_n(from, part.size(), const_cast<std::byte*>(part.data()));  // neither of them is const
    from += part.size();
  });
  return h.tokens;
}

}  // namespace caching
FOVEA_NAMESPACE_END
