// fovea/streamed/mapped_file.hpp - a file as memory that is read page by page (POSIX; elsewhere this header
// declares nothing).
#pragma once

#include <fovea/index.hpp>

#include <memory>
#include <span>
#include <string>
#include <system_error>

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

FOVEA_NAMESPACE_BEGIN
namespace streaming {

/// All bytes of a file, to be read only. A part that is not resident is read from the file when it is
/// touched; what is said about parts is advice, and changes no byte.
class mapped_file {
 public:
  /// Throws std::runtime_error where the file can not be opened or mapped.
  explicit mapped_file(const std::string& path) {
    if (const char* const what = open(path)) fail(path, what);
  }
  /// None where the file can not be opened or mapped.
  static std::unique_ptr<mapped_file> if_possible(const std::string& path) {
    std::unique_ptr<mapped_file> file(new mapped_file);
    if (file->open(path) != nullptr) file.reset();
    return file;
  }
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
    if (file_ >= 0) ::close(file_);
  }

  static constexpr index_type neighbourhood = 64 * 1024, large_page = 2 * 1024 * 1024;

  std::span<const std::byte> bytes() const noexcept { return bytes_; }
  /// How far the system reads ahead of a touch by itself, in bytes; 0 where it does not say.
  index_type system_reads_ahead() const noexcept { return system_reads_ahead_; }

  /// Makes bytes resident, so that prefetching finds them: Linux maps a neighbourhood around a byte that is
  /// touched, of what it has in memory. (MADV_POPULATE_READ took three times as long: 97 ms for 2.1 GB in
  /// place of 30, where reading these took 55; Zen 5, Linux 6.18, in a virtual machine.)
  void fetch(range part) const noexcept {
    part = intersect(part, {0, static_cast<index_type>(bytes_.size())});
    for (index_type i = part.first; i < part.last; i += neighbourhood)
      static_cast<void>(*static_cast<const volatile std::byte*>(bytes_.data() + i));
  }
  /// Has them read from the disk in the meantime, where they are not in the system's memory yet. (Where they
  /// are, finding that out page by page takes a fifth of the time that attention to them takes.)
  void read_ahead(range part) const noexcept {
    if (!in_memory(part)) advise(part, MADV_WILLNEED);
  }
  /// They are not resident any more, whoever made them so.
  void release(range bytes) const noexcept { advise(bytes, MADV_DONTNEED); }

 private:
  mapped_file() = default;
  /// Says what can not be done, if anything.
  const char* open(const std::string& path) {
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file_ < 0 || ::fstat(file_, &status) != 0) return "be opened";
    if (status.st_size == 0) return nullptr;
    const auto size = static_cast<std::size_t>(status.st_size);
    std::byte* const data = map(size);
    if (data == nullptr) return "be mapped";
    bytes_ = {data, size};
#ifdef MADV_HUGEPAGE
    advise({0, status.st_size}, MADV_HUGEPAGE);  // mapping then takes a quarter of the time
#endif
    system_reads_ahead_ = read_ahead_of(status);
    return nullptr;
  }
  /// At a multiple of large_page: neighbourhoods and large pages are then the file's own.
  std::byte* map(std::size_t size) const noexcept {
    constexpr auto aligned = static_cast<std::size_t>(large_page);
    void* const reserved = ::mmap(nullptr, size + aligned, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (reserved == MAP_FAILED) return nullptr;
    auto* const begin = static_cast<std::byte*>(reserved);
    const std::size_t before = aligned - reinterpret_cast<std::uintptr_t>(begin) % aligned;
    void* const data = ::mmap(begin + before, size, PROT_READ, MAP_SHARED | MAP_FIXED, file_, 0);
    if (data == MAP_FAILED) {
      const int error = errno;
      ::munmap(begin, size + aligned);
      errno = error;
      return nullptr;
    }
    ::munmap(begin, before);
    // What is left of the reserve begins at the next page behind the file.
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t end = (before + size + page - 1) / page * page;
    if (end < size + aligned) ::munmap(begin + end, size + aligned - end);
    return static_cast<std::byte*>(data);
  }
  [[noreturn]] void fail(const std::string& path, const char* what) const {
    const int error = errno;
    if (file_ >= 0) ::close(file_);
    reject_as<std::runtime_error>("the file ", path, " can not ", what, ": ",
                                  std::generic_category().message(error));
  }
  /// Judged by a byte here and there. (mincore answers truly of one's own files alone.)
  bool in_memory([[maybe_unused]] range part) const noexcept {
#ifdef RWF_NOWAIT
    constexpr index_type apart = 4 * neighbourhood;
    part = intersect(part, {0, static_cast<index_type>(bytes_.size())});
    char byte;
    const iovec to{&byte, 1};
    for (index_type i = part.first; i < part.last; i += apart)
      if (::preadv2(file_, &to, 1, std::min(i + apart, part.last) - 1, RWF_NOWAIT) != 1) return false;
    return true;
#else
    return false;
#endif
  }
  /// `part` begins at a multiple of the system's pages. (Not posix_madvise: in glibc it releases nothing.)
  void advise(range part, int advice) const noexcept {
    part = intersect(part, {0, static_cast<index_type>(bytes_.size())});
    if (!part.empty())
      static_cast<void>(::madvise(bytes_.data() + part.first, static_cast<std::size_t>(part.size()), advice));
  }

  static index_type read_ahead_of([[maybe_unused]] const struct stat& status) {
    index_type kib = 0;
#ifdef __linux__
    // As in <sys/sysmacros.h>, whose names are macros: major and minor.
    const std::uint64_t id = status.st_dev, major_id = (id >> 8 & 0xfff) | (id >> 32 & ~std::uint64_t(0xfff)),
                        minor_id = (id & 0xff) | (id >> 12 & ~std::uint64_t(0xff));
    const std::string device = std::to_string(major_id) + ":" + std::to_string(minor_id);
    for (const auto& name :
         {"/sys/class/bdi/" + device + "/read_ahead_kb",
          "/sys/dev/block/" + device + "/../queue/read_ahead_kb"}) {  // of a partition's disk
      const int setting = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
      if (setting < 0) continue;
      char digits[24];
      const auto count = ::read(setting, digits, sizeof digits);
      ::close(setting);
      if (count > 0) std::from_chars(digits, digits + count, kib);
      break;
    }
#endif
    return kib * 1024;
  }

  int file_ = -1;
  std::span<std::byte> bytes_;
  index_type system_reads_ahead_ = 0;
};

}  // namespace streaming
FOVEA_NAMESPACE_END
#endif
