// fovea/distributed/agreement.hpp - numbers that all ranks must have alike, and those of each that all know.
#pragma once

#include <fovea/distributed/communicator.hpp>
#include <fovea/element/concept.hpp>

#include <array>
#include <bit>
#include <charconv>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

/// What an element is called where ranks disagree: up to 8 letters, as a number.
template <class E>
std::int64_t name_of_element() noexcept {
  std::array<char, 8> letters{};
  const auto name = [&](std::string_view text) { text.copy(letters.data(), letters.size()); };
  if (std::is_same_v<E, float>)
    name("float");
  else if (std::is_same_v<E, double>)
    name("double");
  else if (bf16_element<E>)
    name("bf16");
  else if (sizeof(E) == 2)
    name("fp16");
  else
    name(sizeof(E) == 1 ? "1 byte" : "other");
  return std::bit_cast<std::int64_t>(letters);
}

/// Numbers, real numbers and short names by what they mean.
class agreement {
 public:
  enum class kind { number, real, name };

  void add(const char* name, index_type number) { add(name, std::int64_t{number}, kind::number); }
  void add_real(const char* name, double x) { add(name, std::bit_cast<std::int64_t>(x), kind::real); }
  void add_name(const char* name, std::int64_t letters) { add(name, letters, kind::name); }

  /// Throws std::invalid_argument on all ranks, the same, where one has another number than rank 0 has. One
  /// MPI_Allgather of 8 bytes a number.
  void settle(const communicator& processes) const {
    const int count = static_cast<int>(values_.size());
    std::vector<std::int64_t> all(values_.size() * static_cast<std::size_t>(processes.ranks()));
    MPI_Allgather(values_.data(), count, MPI_INT64_T, all.data(), count, MPI_INT64_T, processes.get());
    for (int r = 1; r < processes.ranks(); ++r)
      for (std::size_t i = 0; i < values_.size(); ++i) {
        const std::int64_t has = all[static_cast<std::size_t>(r) * values_.size() + i], other = all[i];
        if (has != other)
          reject(names_[i], " is ", text_of(has, kinds_[i]), " on rank ", r, " but ",
                 text_of(other, kinds_[i]), " on rank 0");
      }
  }

 private:
  void add(const char* name, std::int64_t value, kind of) {
    names_.push_back(name), values_.push_back(value), kinds_.push_back(of);
  }
  static std::string text_of(std::int64_t value, kind of) {
    if (of == kind::number) return std::to_string(value);
    if (of == kind::name) {
      const auto letters = std::bit_cast<std::array<char, 8>>(value);
      return std::string(letters.data(), std::find(letters.data(), letters.data() + letters.size(), '\0'));
    }
    char digits[32];
    return std::string(digits,
                       std::to_chars(digits, digits + sizeof digits, std::bit_cast<double>(value)).ptr);
  }

  std::vector<const char*> names_;
  std::vector<std::int64_t> values_;
  std::vector<kind> kinds_;
};

/// The numbers of each rank, one rank's after another's.
class numbers_of_ranks {
 public:
  numbers_of_ranks(const communicator& processes, std::span<const std::int64_t> own)
      : count_(own.size()), all_(own.size() * static_cast<std::size_t>(processes.ranks())) {
    const int count = static_cast<int>(own.size());
    MPI_Allgather(own.data(), count, MPI_INT64_T, all_.data(), count, MPI_INT64_T, processes.get());
  }
  index_type at(int rank, index_type i) const noexcept {
    return static_cast<index_type>(
        all_[static_cast<std::size_t>(rank) * count_ + static_cast<std::size_t>(i)]);
  }

 private:
  std::size_t count_;
  std::vector<std::int64_t> all_;
};

}  // namespace distributed
FOVEA_NAMESPACE_END
