// fovea/kv_cache/file.hpp - a cache as a file: a header that says what it holds, then the store's own bytes.
#pragma once

#include <fovea/kv_cache/store.hpp>

#include <bit>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <string>

FOVEA_NAMESPACE_BEGIN
namespace caching {

/// Little-endian; then the planes of a store of one page of `tokens` tokens, 64-byte aligned, then the keys
/// of an open block.
struct file_header {
  char magic[8] = {'f', 'o', 'v', 'e', 'a', 'k', 'v', '1'};
  std::uint16_t key_element = 0, value_element = 0;
  std::uint32_t open_tokens = 0;  // the last of them, whose int8 keys are not quantised yet
  std::int64_t heads = 0, dim = 0, value_dim = 0, tokens = 0;
  std::uint64_t payload_sum = 0, header_sum = 0;  // FNV-1a; the latter of what stands before it
};
static_assert(sizeof(file_header) == 64 && std::endian::native == std::endian::little);

/// Bytes of a file are counted from 0.
[[noreturn]] inline void bad_file(const std::string& what) {
  reject_as<std::runtime_error>("the file ", what);
}
inline std::string at_byte(index_type byte) { return " at byte " + std::to_string(byte); }

/// 0: no file holds such elements.
template <class E>
inline constexpr std::uint16_t element_code = std::is_same_v<E, float>         ? 1
                                              : std::is_same_v<E, double>      ? 2
                                              : bfloat16_bits<E>               ? 3
                                              : binary16_bits<E>               ? 4
                                              : std::is_same_v<E, std::int8_t> ? 5
                                                                               : 0;

inline std::string name_of_element(std::uint16_t code) {
  constexpr const char* names[] = {"nothing", "float", "double", "bf16", "fp16", "int8", "4 bits"};
  return code > 0 && code < std::size(names) ? names[code] : "an unknown element " + std::to_string(code);
}

/// FNV-1a of 64 bits, of eight bytes at a time.
inline std::uint64_t sum_of(std::span<const std::byte> bytes, std::uint64_t sum = 0xcbf29ce484222325u) {
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, std::min<std::size_t>(8, bytes.size() - i));
    sum = (sum ^ word) * 0x100000001b3u;
  }
  return sum;
}
inline std::uint64_t sum_of_header(const file_header& h) {
  return sum_of(std::as_bytes(std::span(&h, 1)).first(offsetof(file_header, header_sum)));
}

/// The sizes of a store that holds a file's tokens and no more.
inline extent extent_of(const file_header& h) noexcept {
  return {1, std::max<index_type>(h.tokens, 1), h.heads, h.dim, h.value_dim, 0};
}

/// Copies the tokens of one page to another store of one page, as wide and with more or less room.
template <class Store>
void copy_tokens(const Store& from, const Store& to, index_type tokens) {
  for (int which = 0; which < 4; ++which) {
    const auto& p = from.planes()[static_cast<std::size_t>(which)];
    const index_type units = which == Store::key_scales
                                 ? (p.units > 0 ? ceil_div(tokens, scale_blocks::tokens) : 0)
                                 : std::min(tokens, p.units);
    for (index_type h = 0; h < from.sizes().heads && units > 0; ++h)
      std::memcpy(to.unit(which, 0, h, 0), from.unit(which, 0, h, 0),
                  static_cast<std::size_t>(units * p.width * p.size));
  }
}

template <class KE, class VE, class Arch>
void save(std::ostream& out, const store<KE, VE, Arch>& all, index_type tokens, const open_block& open) {
  static_assert(element_code<KE> != 0 && element_code<VE> != 0,
                "fovea: a file holds float, double, bf16, fp16 or std::int8_t, not elements of one's own");
  const extent& e = all.sizes();
  file_header header;
  header.key_element = element_code<KE>, header.value_element = element_code<VE>;
  header.heads = e.heads, header.dim = e.dim, header.value_dim = e.value_dim, header.tokens = tokens;
  const range opened = intersect(open.slots, {0, tokens});
  header.open_tokens = static_cast<std::uint32_t>(opened.size());
  const store<KE, VE, Arch> compact(extent_of(header));
  copy_tokens(all, compact, tokens);
  const std::span<const std::byte> planes(compact.unit(0, 0, 0, 0),
                                          static_cast<std::size_t>(compact.bytes()));
  auto rows = std::as_bytes(std::span(open.rows));
  if (header.open_tokens == 0) rows = {};
  header.payload_sum = sum_of(rows, sum_of(planes));
  header.header_sum = sum_of_header(header);
  const auto write = [&](std::span<const std::byte> bytes) {
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  write(std::as_bytes(std::span(&header, 1))), write(planes), write(rows);
  if (!out.flush()) bad_file("could not be written");
}

/// The header of a file, which is one of these types and of these sizes, but for those that are 0.
template <class Store, class KE, class VE>
file_header checked_header(std::span<const std::byte> bytes, const extent& wanted) {
  static_assert(element_code<KE> != 0 && element_code<VE> != 0,
                "fovea: a file holds float, double, bf16, fp16 or std::int8_t, not elements of one's own");
  file_header h;
  if (bytes.size() < sizeof h)
    bad_file("has " + std::to_string(bytes.size()) + " bytes, fewer than a header, which has " +
             std::to_string(sizeof h));
  std::memcpy(&h, bytes.data(), sizeof h);
  for (std::size_t i = 0; i < sizeof h.magic; ++i)
    if (h.magic[i] != file_header{}.magic[i])
      bad_file("is not a saved fovea cache: it has " +
               std::to_string(static_cast<unsigned char>(h.magic[i])) + at_byte(static_cast<index_type>(i)) +
               ", such a file " + std::to_string(file_header{}.magic[i]));
  if (h.header_sum != sum_of_header(h))
    bad_file("has a damaged header: the sum" + at_byte(offsetof(file_header, header_sum)) +
             " is not that of what stands before it");
  const auto same_element = [](const char* what, std::uint16_t has, std::uint16_t other, index_type byte) {
    if (has != other)
      bad_file(std::string("has ") + what + " in " + name_of_element(has) + at_byte(byte) +
               ", the cache has them in " + name_of_element(other));
  };
  same_element("keys", h.key_element, element_code<KE>, offsetof(file_header, key_element));
  same_element("values", h.value_element, element_code<VE>, offsetof(file_header, value_element));
  const auto no_cache = [](const std::string& what) { bad_file("has a header that no cache has: " + what); };
  if (h.tokens < 0 || h.heads <= 0 || h.dim <= 0 || h.value_dim <= 0 || !countable(extent_of(h)))
    no_cache(std::to_string(h.heads) + " heads" + at_byte(offsetof(file_header, heads)) + ", dim " +
             std::to_string(h.dim) + at_byte(offsetof(file_header, dim)) + ", value_dim " +
             std::to_string(h.value_dim) + at_byte(offsetof(file_header, value_dim)) + ", " +
             std::to_string(h.tokens) + " tokens" + at_byte(offsetof(file_header, tokens)));
  if (h.open_tokens > 0 &&
      (!Store::opens_blocks || h.open_tokens > std::min<std::int64_t>(h.tokens, scale_blocks::tokens) ||
       (h.tokens - h.open_tokens) % scale_blocks::tokens != 0))
    no_cache(std::to_string(h.open_tokens) + " of " + std::to_string(h.tokens) + " tokens in an open block" +
             at_byte(offsetof(file_header, open_tokens)));
  const auto same = [](const char* what, std::int64_t has, std::int64_t other, index_type byte) {
    if (other != 0 && has != other)
      bad_file(std::string("has ") + what + " " + std::to_string(has) + ", the cache " +
               std::to_string(other) + "," + at_byte(byte));
  };
  same("heads", h.heads, wanted.heads, offsetof(file_header, heads));
  same("dim", h.dim, wanted.dim, offsetof(file_header, dim));
  same("value_dim", h.value_dim, wanted.value_dim, offsetof(file_header, value_dim));
  if (wanted.page_tokens != 0 && h.tokens > wanted.page_tokens)
    bad_file("has " + std::to_string(h.tokens) + " tokens, the cache room for " +
             std::to_string(wanted.page_tokens) + "," + at_byte(offsetof(file_header, tokens)));
  return h;
}

/// Bytes of the payload: planes, and an open block where there is one.
template <class Store>
std::pair<index_type, index_type> payload_bytes(const file_header& h) {
  const index_type open =
      h.open_tokens > 0 ? h.heads * scale_blocks::tokens * h.dim * static_cast<index_type>(sizeof(float)) : 0;
  return {Store(extent_of(h), nullptr).bytes(), open};
}

inline open_block open_again(std::span<const std::byte> rows, const file_header& h) {
  open_block open;
  if (rows.empty()) return open;
  open.rows.resize(rows.size() / sizeof(float));
  std::memcpy(open.rows.data(), rows.data(), rows.size());
  open.slots = {h.tokens - static_cast<index_type>(h.open_tokens), h.tokens};
  return open;
}

/// `count` bytes of a stream, from byte `at` of a file on. Memory grows with what is there, whatever a header
/// says that there should be.
inline std::vector<std::byte> read_bytes(std::istream& in, index_type count, index_type at) {
  constexpr index_type most = 1 << 22;
  std::vector<std::byte> bytes;
  while (count > 0) {
    const index_type part = std::min(count, most);
    const std::size_t before = bytes.size();
    bytes.resize(before + static_cast<std::size_t>(part));
    in.read(reinterpret_cast<char*>(bytes.data() + before), static_cast<std::streamsize>(part));
    at += in.gcount(), count -= part;
    if (in.gcount() != part)
      bad_file("ends early, at byte " + std::to_string(at) + "; there should be " +
               std::to_string(count + part - in.gcount()) + " more");
  }
  return bytes;
}

inline void check_sum(const file_header& h, std::uint64_t payload_sum) {
  if (payload_sum != h.payload_sum)
    bad_file("is damaged: the sum" + at_byte(offsetof(file_header, payload_sum)) +
             " is not that of what stands behind the header");
}

template <class KE, class VE, class Arch>
index_type load(std::istream& in, store<KE, VE, Arch>& all, index_type capacity, open_block& open) {
  using Store = store<KE, VE, Arch>;
  std::vector<std::byte> first(sizeof(file_header));
  in.read(reinterpret_cast<char*>(first.data()), static_cast<std::streamsize>(first.size()));
  first.resize(static_cast<std::size_t>(in.gcount()));
  extent wanted = all.sizes();
  wanted.page_tokens = capacity;
  const file_header h = checked_header<Store, KE, VE>(first, wanted);
  const auto [planes, rows] = payload_bytes<Store>(h);
  std::vector<std::byte> bytes = read_bytes(in, planes, sizeof h);
  const std::vector<std::byte> opened = read_bytes(in, rows, index_type(sizeof h) + planes);
  check_sum(h, sum_of(opened, sum_of(bytes)));
  open_block read = open_again(opened, h);
  copy_tokens(Store(extent_of(h), bytes.data()), all, h.tokens);
  open = std::move(read);
  return h.tokens;
}

/// A file's bytes as a store; `heads`: how many it must have, or 0.
template <class Store>
struct mapped {
  std::shared_ptr<Store> memory;
  index_type tokens;
  open_block open;
};

template <class KE, class VE, class Arch>
mapped<store<KE, VE, Arch>> map(std::span<const std::byte> file, index_type heads, bool whole) {
  using Store = store<KE, VE, Arch>;
  const file_header h = checked_header<Store, KE, VE>(file, extent{.heads = heads});
  const auto [planes, rows] = payload_bytes<Store>(h);
  const auto size = static_cast<index_type>(file.size()), end = index_type(sizeof h) + planes + rows;
  if (size != end)
    bad_file((size < end ? "ends early, at byte " : "goes on to byte ") + std::to_string(size) +
             "; by its header it ends at byte " + std::to_string(end));
  constexpr std::size_t alignment = std::max({alignof(KE), alignof(VE), alignof(float)});
  if (reinterpret_cast<std::uintptr_t>(file.data()) % alignment != 0)
    bad_file("lies at an address that is not a multiple of " + std::to_string(alignment));
  const auto payload = file.subspan(sizeof h);
  const auto rows_of_file = payload.subspan(static_cast<std::size_t>(planes));
  if (whole) check_sum(h, sum_of(payload));
  // Nothing is written: such a store is read_only().
  std::byte* const data = const_cast<std::byte*>(payload.data());
  return {std::make_shared<Store>(extent_of(h), data), h.tokens, open_again(rows_of_file, h)};
}

}  // namespace caching
FOVEA_NAMESPACE_END
