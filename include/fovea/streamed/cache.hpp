// fovea/streamed/cache.hpp - keys and values in a file, read block by block while attention runs (POSIX;
// elsewhere using it does not compile, and says why).
#pragma once

#include <fovea/kv_cache/contiguous.hpp>
#include <fovea/lifetime.hpp>
#include <fovea/streamed/resident_chunks.hpp>

#if __has_include(<sys/mman.h>)

FOVEA_NAMESPACE_BEGIN

struct streamed_options {
  index_type resident_bytes = index_type(256) << 20;  // bound on what is resident of the file
  index_type read_ahead = index_type(8) << 20;  // bytes that are read from the disk before they are needed
  file_check check = file_check::header;        // whole: the file is read once, within the bound
};

/// The cache in a file that kv_cache::save or cache_writer wrote, as long as the disk is wide:
///
///   const fovea::streamed_cache<std::int8_t, 8> cache("context.kv", {.resident_bytes = 64 << 20});
///   attend.into(o, q, cache);                      // as with any cache: causal, windows, scores, LSE, ...
///
/// It is a cache in every call that only reads one, and in cache_batch; results are the same bits as of a
/// kv_cache with the same tokens. It is never written to.
///
/// Memory: of the file no more than resident_bytes are resident (in this process's resident set, as the
/// system counts it) at a time, at least 32 MiB; beyond them a worker that was held up may hold 2 MiB more of
/// keys and of values for a while. With less than 8 MiB a worker, parts are read more than once. What the
/// system keeps in its own file cache is not counted: it takes that back when it needs room. (Linux;
/// elsewhere the system gets the same advice, and does what it likes.) A little more memory: 8 bytes for each
/// 2 MiB of the file, and open keys of int8.
///
/// Cost: each job of a plan reads the keys and values that its mask shows; with few query rows (plan_for's
/// rows_form) each is read once. With many, once for each job of rows: a file that does not fit into the
/// system's memory is then read as often. From a disk it is read at the disk's speed, read_ahead bytes in
/// advance; from the system's memory at 0.9 of what a plain read of the file reaches, or more, for 4 queries
/// of 8 heads of 128, where the system has it in pages of 2 MiB, as cache_writer and a reading from the disk
/// leave it on ext4 and xfs; in pages of 4 KiB at 0.7 (bench/results/streamed.md).
///
/// Calls may run at the same time. The file must stay as it is meanwhile: a process that reads beyond the end
/// of a file that was cut is ended by the system (SIGBUS).
template <class E, int KVHeads = dynamic_heads, class VE = E, class Arch = xsimd::default_arch>
class streamed_cache {
  using whole = kv_cache<E, KVHeads, VE, Arch>;

 public:
  using compute = typename whole::compute;
  template <caching::side Side>
  using stored = typename whole::template stored<Side>;

  /// Throws std::invalid_argument for options that are out of range or a number of heads that is not the
  /// type's; std::runtime_error, naming the byte, as kv_cache::over does.
  explicit streamed_cache(const std::string& path, const streamed_options& options = {})
      : file_(std::make_unique<mapping>(path, checked(options))), shown_(shown(*file_, options.check)) {}

  index_type tokens() const noexcept { return shown_.tokens(); }
  index_type position() const noexcept { return shown_.position(); }
  index_type heads() const noexcept { return shown_.heads(); }
  index_type dim() const noexcept { return shown_.dim(); }
  index_type value_dim() const noexcept { return shown_.value_dim(); }
  /// Bytes of keys, values and scales in the file.
  index_type bytes() const noexcept { return shown_.bytes(); }
  std::span<const std::byte> memory() const noexcept { return shown_.memory(); }

  /// What attention reads; attend(q, cache, ...) is attend(q, cache.keys(), cache.values(), ...).
  auto keys() const noexcept {
    return caching::cached<streamed_cache, caching::side::keys>{nullptr, this, 1};
  }
  auto values() const noexcept {
    return caching::cached<streamed_cache, caching::side::values>{nullptr, this, 1};
  }

  /// See cached_head.
  template <caching::side Side, class F>
  void each_piece(index_type head, range wanted, F&& f) const noexcept {
    shown_.template each_piece<Side>(head, wanted, [&](const auto& part) {
      need(part.tokens.data, part.tokens.rows * part.tokens.row_stride);
      if (part.token_scales != nullptr) need(part.token_scales, part.tokens.rows);
      if (part.channel_scales != nullptr) need(part.channel_scales, part.tokens.cols);
      f(part);
    });
  }
  index_type dim_of(caching::side which) const noexcept { return shown_.dim_of(which); }

 private:
  struct mapping {
    streaming::mapped_file file;
    streaming::resident_chunks resident;
    mapping(const std::string& path, const streamed_options& o)
        : file(path), resident(file, o.resident_bytes, o.read_ahead) {}
  };

  static const streamed_options& checked(const streamed_options& o) {
    constexpr index_type least = streaming::resident_chunks::least_bound;
    if (o.resident_bytes < least)
      reject("a streamed cache's resident_bytes are ", o.resident_bytes, ", fewer than ", least);
    if (o.read_ahead < 0) reject("a streamed cache's read_ahead is ", o.read_ahead, ", below 0");
    return o;
  }
  static whole shown(mapping& m, file_check check) {
    const borrowed_span<const std::byte> bytes(m.file.bytes().data(), m.file.bytes().size());
    m.resident.need(bytes.data(), 1);  // the header, and open keys at the end
    m.resident.need(bytes.data() + bytes.size() - std::min<std::size_t>(bytes.size(), 1), 1);
    auto cache = whole::over(bytes, file_check::header);
    if (check == file_check::whole) {
      std::uint64_t sum = caching::sum_of({});
      const std::size_t chunk = static_cast<std::size_t>(streaming::resident_chunks::chunk_bytes);
      for (std::size_t i = sizeof(caching::file_header); i < bytes.size(); i += chunk) {
        const auto part = bytes.subspan(i, std::min(chunk, bytes.size() - i));
        m.resident.need(part.data(), static_cast<index_type>(part.size()));
        sum = caching::sum_of(part, sum);
      }
      caching::file_header h;
      std::memcpy(&h, bytes.data(), sizeof h);
      caching::check_sum(h, sum);
    }
    return cache;
  }
  template <class X>
  void need(const X* data, index_type count) const noexcept {
    file_->resident.need(data, count * static_cast<index_type>(sizeof(X)));
  }

  std::unique_ptr<mapping> file_;
  whole shown_;
};

FOVEA_NAMESPACE_END
#else
FOVEA_NAMESPACE_BEGIN

template <class E, int KVHeads = dynamic_heads, class VE = E, class Arch = xsimd::default_arch>
class streamed_cache {
  static_assert(
      never<E>,
      "fovea: streamed_cache maps a file, for which this system has no <sys/mman.h>; kv_cache::load "
      "reads one into memory");
};

FOVEA_NAMESPACE_END
#endif
