// fovea/streamed/large_pages.hpp - a file that is written part by part, kept by the system in large pages.
#pragma once

#include <fovea/streamed/mapped_file.hpp>

#include <filesystem>
#include <memory>
#include <vector>

#ifdef __linux__
#include <sys/vfs.h>
#endif

FOVEA_NAMESPACE_BEGIN
namespace streaming {

/// Has the system make a page of 2 MiB of its own memory for each 2 MiB of a file before they are written;
/// it maps them for a reader with one entry. It is a hint: no byte of the file differs, and where it can not
/// be given nothing changes.
///
/// It is given on Linux for ext4 (which follows it since Linux 6.16) and xfs (not measured) alone: to touch
/// what was never written takes nothing of such a disk, full or not. In tmpfs it takes room, and where none
/// is left the touch ends the process, in place of a write's error; so it would in an overlay, which may lie
/// in tmpfs.
///
/// Linux makes pages as large as a write, but aligned in the file, and a head's tokens begin anywhere: 2 MiB
/// at byte 64 leave pages of 4 KiB to 1 MiB, which are mapped 64 KiB at a time: 1.0 us each, where reading
/// them takes 2.3 (Zen 5, Linux 6.18, ext4; with these pages 0.08, and a plain read takes a tenth less). They
/// cost the writer 0.2 to 0.3 s a GiB, but up to 4 s where the machine is busy and its memory in fragments.
class large_pages {
 public:
  large_pages() = default;
#ifdef __linux__
  /// Of a file that is there. Gives it its final size: what is beyond the end has no page.
  large_pages(const std::string& path, index_type bytes) {
    if (!helps(path)) return;
    std::error_code error;
    std::filesystem::resize_file(path, static_cast<std::uintmax_t>(bytes), error);
    if (error) return;
    file_ = mapped_file::if_possible(path);  // not so, say, where its room of addresses is limited
    if (file_ == nullptr) return;
    made_.resize(file_->bytes().size() / static_cast<std::size_t>(mapped_file::large_page) + 1);
  }
  /// The file is not shorter than it was made.
  void before_write(range bytes) {
    if (file_ == nullptr || bytes.empty()) return;
    constexpr index_type size = mapped_file::large_page;
    for (index_type i = bytes.first / size; i <= (bytes.last - 1) / size; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (at >= made_.size() || made_[at]) continue;
      made_[at] = true;
      file_->fetch({i * size, i * size + 1}), file_->release({i * size, (i + 1) * size});
    }
  }

 private:
  static bool helps(const std::string& path) noexcept {
    struct statfs status;
    if (::statfs(path.c_str(), &status) != 0) return false;
    const auto type = static_cast<std::uint32_t>(status.f_type);
    return type == 0xef53 || type == 0x58465342;  // as in <linux/magic.h>: ext4, xfs
  }

  std::unique_ptr<mapped_file> file_;
  std::vector<bool> made_;
#else
  large_pages(const std::string&, index_type) noexcept {}
  void before_write(range) noexcept {}
#endif
};

}  // namespace streaming
FOVEA_NAMESPACE_END
