// fovea/streamed/writer.hpp - a cache's file, written block by block: for more tokens than memory holds.
#pragma once

#include <fovea/kv_cache/contiguous.hpp>
#include <fovea/streamed/large_pages.hpp>

#include <filesystem>
#include <fstream>
#include <string>

FOVEA_NAMESPACE_BEGIN

struct writer_options {
  index_type heads = 0;            // of keys and values, where the type leaves them dynamic_heads
  index_type value_dim = 0;        // 0: as dim
  index_type block_tokens = 1024;  // are kept in memory, then written; rounded up to a multiple of 32
};

/// Writes the file that kv_cache::save would write of the same tokens, byte for byte (of a cache with room
/// for more), while no more than a block of them is in memory:
///
///   fovea::cache_writer<fovea::bf16, 8> writer("context.kv", capacity, dim);
///   writer.append(k, v);                           // a few tokens at a time, also with angles
///   writer.finish();                               // a file for kv_cache::load, over, or streamed_cache
///
/// Until finish() there is a file without a header, which nobody takes for a cache. Room for `capacity`
/// tokens is laid out at once (on most systems only what is written takes room on the disk). Memory:
/// block_tokens * heads * (dim + value_dim) elements, and with keys in int8 32 * heads * dim floats. Cost:
/// each byte is written once, read once by finish() for its sum, and moved once by finish() where there are
/// fewer tokens than `capacity`.
///
/// Errors of the file are std::runtime_error, naming the byte; the file is then of no use. Nobody else
/// changes its size meanwhile (the system ends a process that reads beyond the end of a mapped file).
template <class E, int KVHeads = dynamic_heads, class VE = E, class Arch = xsimd::default_arch>
class cache_writer : private caching::basic_cache<caching::contiguous, E, VE, KVHeads, Arch> {
  using base = caching::basic_cache<caching::contiguous, E, VE, KVHeads, Arch>;
  using store_type = typename base::store_type;
  static_assert(caching::element_code<E> != 0 && caching::element_code<VE> != 0,
                "fovea: a file holds float, double, bf16, fp16 or std::int8_t, not elements of one's own");

 public:
  /// Replaces the file, if there is one. Throws std::invalid_argument and std::length_error as kv_cache does,
  /// std::runtime_error where the file can not be opened.
  cache_writer(const std::string& path, index_type capacity, index_type dim,
               const writer_options& options = {})
      : cache_writer(path, caching::checked({1, capacity, options.heads, dim, options.value_dim, 0}, KVHeads),
                     options.block_tokens) {}
  cache_writer(cache_writer&&) = default;
  cache_writer& operator=(cache_writer&&) = default;

  /// Tokens appended, and how many there is room for.
  index_type tokens() const noexcept { return written_ + base::tokens(); }
  index_type capacity() const noexcept { return all_.sizes().page_tokens; }
  index_type heads() const noexcept { return base::heads(); }
  index_type dim() const noexcept { return base::dim(); }
  index_type value_dim() const noexcept { return base::value_dim(); }
  /// Bytes of the file's keys, values and scales, had it all `capacity` tokens.
  index_type bytes() const noexcept { return all_.bytes(); }

  /// As kv_cache::append, and refuses what that refuses, before anything is written.
  template <viewable K, viewable V>
  void append(const K& k, const V& v) {
    append_with(k, v, caching::as_given());
  }
  template <viewable K, viewable V, class A>
  void append(const K& k, const V& v, const rotary_angles<A>& angles,
              rotary_pairs pairs = rotary_pairs::halves) {
    append_with(k, v, base::turned(k, angles, pairs));
  }

  /// Completes the file and closes it: no more can be appended.
  void finish() {
    static_cast<void>(opened());
    flush();
    caching::file_header header;
    header.key_element = caching::element_code<E>, header.value_element = caching::element_code<VE>;
    header.heads = heads(), header.dim = dim(), header.value_dim = value_dim(), header.tokens = written_;
    header.open_tokens = static_cast<std::uint32_t>(this->open_.slots.size());
    const store_type planes(caching::extent_of(header), nullptr);
    set_size(all_.bytes());
    if (written_ < capacity()) move_together(planes);
    pages_ = {};  // of a file of `capacity` tokens: a touch beyond the end would end the process
    set_size(planes.bytes());
    if (header.open_tokens > 0) write(planes.bytes(), std::as_bytes(std::span(this->open_.rows)));
    header.payload_sum = sum_of_payload();
    header.header_sum = caching::sum_of_header(header);
    write(-header_bytes, std::as_bytes(std::span(&header, 1)));
    file_.close();
    if (!file_) fail("written", header_bytes);
  }

 private:
  static constexpr index_type header_bytes = sizeof(caching::file_header);

  cache_writer(const std::string& path, const caching::extent& all, index_type block_tokens)
      : base(std::make_shared<store_type>(one_block(all, block_tokens)), caching::contiguous(block_tokens)),
        path_(path),
        all_(all, nullptr),
        file_(path, std::ios::binary | std::ios::in | std::ios::out | std::ios::trunc) {
    if (!file_) reject_as<std::runtime_error>("the file ", path, " can not be opened to be written");
    pages_ = streaming::large_pages(path, header_bytes + all_.bytes());
  }
  static caching::extent one_block(caching::extent all, index_type block_tokens) {
    if (block_tokens <= 0) reject("a cache_writer's block_tokens are ", block_tokens, ", not above 0");
    constexpr index_type scaled = caching::scale_blocks::tokens;
    all.page_tokens = round_up(std::min(block_tokens, all.page_tokens), scaled);
    return all;
  }
  std::fstream& opened() {
    static_cast<void>(this->held());
    if (!file_.is_open()) reject("the writer's file ", path_, " is finished");
    return file_;
  }

  template <class K, class V, class ReadKey>
  void append_with(const K& k, const V& v, const ReadKey& read_key) {
    static_cast<void>(opened());
    const auto [ks, vs] = this->checked_tokens(k, v, read_key);
    if (ks.tokens(0) > capacity() - tokens())
      reject("the file has room for ", capacity() - tokens(), " tokens of ", capacity(), ", not for ",
             ks.tokens(0));
    for (index_type t = 0; t < ks.tokens(0); ++t) {
      this->put_token(ks, vs, t, read_key);
      if (base::tokens() == base::sizes().page_tokens)
        flush(), this->layout_.thin_out(0), this->open_.slots = {};
    }
  }

  /// Writes the block to its places. Keys that are still open stay where they are: finish() writes them.
  void flush() {
    for (int which = 0; which < 4; ++which) {
      const auto& p = this->store_->planes()[static_cast<std::size_t>(which)];
      const index_type closed =
                           base::tokens() - (which == store_type::values || which == store_type::value_scales
                                                 ? 0
                                                 : this->open_.slots.size()),
                       step = which == store_type::key_scales ? caching::scale_blocks::tokens : 1,
                       units = p.units == 0 ? 0 : ceil_div(closed, step);
      for (index_type h = 0; h < heads() && units > 0; ++h)
        write(all_.byte_of(which, 0, h, written_ / step),
              {this->store_->unit(which, 0, h, 0), static_cast<std::size_t>(units * p.width * p.size)});
    }
    written_ += base::tokens();
  }

  /// From the places in a file of `capacity` tokens to those in a file of what there is: none moves up, so
  /// that what is read was not written over. What lies between the planes is 0.
  void move_together(const store_type& to) {
    index_type end = 0;
    for (int which = 0; which < 4; ++which) {
      const auto& p = to.planes()[static_cast<std::size_t>(which)];
      for (index_type h = 0; h < heads() && p.units > 0; ++h) {
        move(all_.byte_of(which, 0, h, 0), to.byte_of(which, 0, h, 0), p.bytes());
        end = to.byte_of(which, 0, h, 0) + p.bytes();
      }
      const std::vector<std::byte> zeros(static_cast<std::size_t>(round_up(end, 64) - end));
      write(end, zeros), end = round_up(end, 64);
    }
  }
  void move(index_type from, index_type to, index_type bytes) {
    for (index_type i = 0; i < bytes;) {
      const auto part = read(from + i, bytes - i);
      write(to + i, part), i += static_cast<index_type>(part.size());
    }
  }
  std::uint64_t sum_of_payload() {
    const index_type bytes = size();
    std::uint64_t sum = caching::sum_of({});
    for (index_type i = 0; i < bytes;) {
      const auto part = read(i, bytes - i);
      sum = caching::sum_of(part, sum), i += static_cast<index_type>(part.size());
    }
    return sum;
  }

  // Bytes are counted from the end of the header on, but in errors.
  void write(index_type at, std::span<const std::byte> bytes) {
    const index_type first = header_bytes + at;
    pages_.before_write({first, first + static_cast<index_type>(bytes.size())});
    if (!file_.seekp(first) ||
        !file_.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size())))
      fail("written", first);
  }
  /// At most `bytes`, a multiple of 8 where more follow.
  std::span<const std::byte> read(index_type at, index_type bytes) {
    constexpr index_type most = 1 << 20;
    buffer_.resize(static_cast<std::size_t>(most));
    bytes = std::min(bytes, most);
    if (!file_.seekg(header_bytes + at) || !file_.read(reinterpret_cast<char*>(buffer_.data()), bytes))
      fail("read", header_bytes + at);
    return {buffer_.data(), static_cast<std::size_t>(bytes)};
  }
  /// What was never written is 0.
  void set_size(index_type bytes) {
    std::error_code error;
    if (file_.flush())
      std::filesystem::resize_file(path_, static_cast<std::uintmax_t>(header_bytes + bytes), error);
    if (!file_ || error) fail("written", header_bytes + bytes);
  }
  index_type size() {
    if (!file_.seekg(0, std::ios::end)) fail("read", 0);
    return static_cast<index_type>(file_.tellg()) - header_bytes;
  }
  [[noreturn]] void fail(const char* what, index_type byte) const {
    reject_as<std::runtime_error>("the file ", path_, " could not be ", what, " at byte ", byte);
  }

  std::string path_;
  store_type all_;  // where everything lies in the file; of no memory
  std::fstream file_;
  streaming::large_pages pages_;
  index_type written_ = 0;  // tokens
  std::vector<std::byte> buffer_;
};

FOVEA_NAMESPACE_END
