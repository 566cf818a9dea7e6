// fovea/streamed/resident_chunks.hpp - how much of a mapped file is resident, while many threads read it.
#pragma once

#include <fovea/streamed/mapped_file.hpp>

#if __has_include(<sys/mman.h>)
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

FOVEA_NAMESPACE_BEGIN
namespace streaming {

/// Cuts a file into chunks. Those that readers need are counted, half of the bound at a time: a generation.
/// When one is full, what was needed in neither it nor the one before is released, so that no more than two
/// are resident; a chunk that is still read moves on with its readers. Nothing that is wrong here can change
/// what is read: a chunk that was released too early is read from the file once more.
///
/// (A list of chunks, the oldest of which is released for each new one, would release one that a slow thread
/// is in the middle of, and lose count of what that thread brings back; generations release it a second
/// time.)
class resident_chunks {
 public:
  /// As much as the system may map around a byte that is touched, whatever it is advised.
  static constexpr index_type chunk_bytes = mapped_file::large_page;
  /// Eight chunks a generation: enough for keys, values and scales of two workers.
  static constexpr index_type least_bound = 16 * chunk_bytes;

  /// `bound`: bytes that may be resident at a time. `ahead`: bytes to ask for in advance, unless the system
  /// reads as far ahead by itself, which costs it half as much: 2.1 GB from a disk 3.5 GB/s in place of 2.4
  /// where it reads 8 MiB ahead; where that is 128 KiB 2.1 in place of 0.8.
  resident_chunks(const mapped_file& file, index_type bound, index_type ahead)
      : file_(file),
        first_(file.bytes().data()),
        size_(static_cast<index_type>(file.bytes().size())),
        most_(bound / (2 * chunk_bytes)),
        ahead_(file.system_reads_ahead() >= ahead ? 0 : ceil_div(ahead, chunk_bytes)),
        chunks_(ceil_div(size_, chunk_bytes)),
        needed_(new std::atomic<std::uint32_t>[static_cast<std::size_t>(chunks_)]),
        asked_(new std::atomic<std::uint32_t>[static_cast<std::size_t>(chunks_)]) {
    for (index_type c = 0; c < chunks_; ++c) needed_[at(c)] = asked_[at(c)] = 0;
  }

  /// Before bytes are read: their chunks are resident, and counted. What lies outside of the file is none of
  /// its business.
  void need(const void* data, index_type bytes) noexcept {
    const index_type from = reinterpret_cast<std::intptr_t>(data) - reinterpret_cast<std::intptr_t>(first_);
    if (from < 0 || from >= size_ || bytes <= 0) return;
    for (index_type c = from / chunk_bytes; c <= (from + bytes - 1) / chunk_bytes; ++c)
      if (needed_[at(c)].load(std::memory_order_relaxed) != generation_.load(std::memory_order_relaxed))
        admit(c);
  }

 private:
  static std::size_t at(index_type chunk) noexcept { return static_cast<std::size_t>(chunk); }

  FOVEA_COLD void admit(index_type chunk) noexcept {
    bool resident = false;
    {
      const std::lock_guard one_at_a_time(mutex_);
      const std::uint32_t current = generation_.load(std::memory_order_relaxed);
      const std::uint32_t last = needed_[at(chunk)].load(std::memory_order_relaxed);
      if (last == current) return;
      resident = last + 1 == current;
      if (resident) needed_[at(chunk)].store(current, std::memory_order_relaxed);
      if (count_ == most_) begin_generation();
      needed_[at(chunk)].store(generation_.load(std::memory_order_relaxed), std::memory_order_relaxed);
      ++count_;
    }
    if (resident) return;
    // What comes next is asked for before this one is waited for.
    for (index_type c = chunk + 1; c < std::min(chunk + 1 + ahead_, chunks_); ++c) ask(c);
    file_.fetch(bytes_of(chunk, chunk + 1));
  }
  /// Once a generation or two.
  void ask(index_type chunk) noexcept {
    const std::uint32_t current = generation_.load(std::memory_order_relaxed),
                        last = asked_[at(chunk)].exchange(current, std::memory_order_relaxed);
    if (last + 1 < current) file_.read_ahead(bytes_of(chunk, chunk + 1));
  }

  /// Releases what the full generation did not need: the chunks of the two before it, and now and then all,
  /// lest something stays that a thread brought back after that.
  void begin_generation() noexcept {
    const std::uint32_t full = generation_.load(std::memory_order_relaxed);
    const auto goes = [&](index_type c) {
      const std::uint32_t last = needed_[at(c)].load(std::memory_order_relaxed);
      return last != full && (last + 2 >= full || full % 16 == 0);
    };
    for (index_type c = 0; c < chunks_; ++c)
      if (goes(c)) {
        const index_type begin = c;
        while (c < chunks_ && goes(c)) ++c;
        file_.release(bytes_of(begin, c));
      }
    generation_.store(full + 1, std::memory_order_relaxed);
    count_ = 0;
  }
  range bytes_of(index_type first_chunk, index_type last_chunk) const noexcept {
    return {first_chunk * chunk_bytes, last_chunk * chunk_bytes};
  }

  const mapped_file& file_;
  const std::byte* first_;
  index_type size_;
  index_type most_, ahead_, chunks_;
  // Of each chunk, the generation that last needed it, and that last asked for it; the first one is 3, so
  // that 0 is long ago. (2^32 generations of 16 MiB are 64 PiB.)
  std::unique_ptr<std::atomic<std::uint32_t>[]> needed_, asked_;
  std::atomic<std::uint32_t> generation_{3};
  std::mutex mutex_;
  index_type count_ = 0;  // chunks of this generation
};

}  // namespace streaming
FOVEA_NAMESPACE_END
#endif
