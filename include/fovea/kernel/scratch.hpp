// fovea/kernel/scratch.hpp - the memory that a job works in: how many bytes, by who needs them, and where
// each part lies.
#pragma once

#include <fovea/index.hpp>

#include <utility>

FOVEA_NAMESPACE_BEGIN

/// How every part of a workspace is aligned.
inline constexpr index_type workspace_alignment = 64;

namespace kernel {

/// Bytes of so many numbers of T.
template <class T>
constexpr index_type bytes_of(index_type numbers) noexcept {
  return numbers * static_cast<index_type>(sizeof(T));
}

/// Bytes that a part takes of a workspace: rounded up, without a division of signed numbers.
constexpr index_type part_bytes(index_type bytes) noexcept {
  return (bytes + workspace_alignment - 1) & -workspace_alignment;
}

/// What lies so many bytes after `part`.
template <class T>
T* after(T* part, index_type bytes) noexcept {
  return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(part) + bytes);
}

/// A memory in parts, one after another.
class memory_parts {
 public:
  explicit memory_parts(std::byte* first) noexcept : next_(first) {}
  /// The next part, of so many bytes.
  template <class T>
  T* take(index_type bytes) noexcept {
    return reinterpret_cast<T*>(std::exchange(next_, next_ + part_bytes(bytes)));
  }

 private:
  std::byte* next_;
};

/// Bytes of a job's scratch, by who needs them. Each says so where it is defined:
///   panels   query_panel and row_panel: what is kept of queries, and what rows are worked on in
///   logits   logit_block; logits that rows keep for what keys receive
///   keys     operand: copies of a block
///   values   the same; or what a sweep sums in their place: key_mass, statistics
///   stages   staging_block: copies of the cells that rules read
struct scratch_parts {
  index_type panels = 0, logits = 0, keys = 0, values = 0, stages = 0;

  /// Room for what `other` needs as well, at another time.
  void include(const scratch_parts& other) noexcept {
    panels = std::max(panels, other.panels), logits = std::max(logits, other.logits);
    keys = std::max(keys, other.keys), values = std::max(values, other.values);
    stages = std::max(stages, other.stages);
  }
  index_type bytes() const noexcept {
    return part_bytes(panels) + part_bytes(logits) + part_bytes(keys) + part_bytes(values) +
           part_bytes(stages);
  }
};

/// Where they lie.
template <class T>
struct scratch {
  T *panels, *logits, *keys, *values;
  std::byte* stages;

  scratch(std::byte* first, const scratch_parts& bytes) noexcept {
    memory_parts parts(first);
    panels = parts.take<T>(bytes.panels), logits = parts.take<T>(bytes.logits);
    keys = parts.take<T>(bytes.keys), values = parts.take<T>(bytes.values);
    stages = parts.take<std::byte>(bytes.stages);
  }
};

}  // namespace kernel
FOVEA_NAMESPACE_END
