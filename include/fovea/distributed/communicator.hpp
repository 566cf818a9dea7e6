// fovea/distributed/communicator.hpp - the processes of a call, and how they fail together.
#pragma once

#include <fovea/index.hpp>

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

FOVEA_NAMESPACE_BEGIN
namespace distributed {

static_assert(FOVEA_EXCEPTIONS, "fovea: calls over several processes fail together by exceptions");

/// A communicator of its own for one object, so that its messages meet no others: made from the user's by all
/// of its processes together. (MPI is initialised by whoever uses it, and outlives the object's calls.)
class communicator {
 public:
  explicit communicator(MPI_Comm of) {
    int ready = 0;
    MPI_Initialized(&ready);
    if (ready == 0) reject("MPI is not initialised: MPI_Init comes before the first call over processes");
    if (of == MPI_COMM_NULL) reject("the communicator is MPI_COMM_NULL: this process is none of its own");
    MPI_Comm_dup(of, &comm_);
    MPI_Comm_rank(comm_, &rank_), MPI_Comm_size(comm_, &ranks_);
  }
  communicator(communicator&& other) noexcept
      : comm_(std::exchange(other.comm_, MPI_COMM_NULL)), rank_(other.rank_), ranks_(other.ranks_) {}
  communicator& operator=(communicator&& other) noexcept {
    std::swap(comm_, other.comm_), std::swap(rank_, other.rank_), std::swap(ranks_, other.ranks_);
    return *this;
  }
  ~communicator() {
    int over = 1;
    MPI_Finalized(&over);
    if (over == 0 && comm_ != MPI_COMM_NULL) MPI_Comm_free(&comm_);
  }

  MPI_Comm get() const noexcept { return comm_; }
  int rank() const noexcept { return rank_; }
  int ranks() const noexcept { return ranks_; }
  /// The rank that is `steps` further round the ring.
  int rank_after(int steps) const noexcept { return ((rank_ + steps) % ranks_ + ranks_) % ranks_; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, ranks_ = 1;
};

/// Adds those of all ranks, on all ranks, in place. MPI counts in int: some at a time.
template <class Number>
void add_numbers_of_ranks(const communicator& processes, std::span<Number> numbers) {
  static_assert(std::is_same_v<Number, double> || std::is_same_v<Number, std::int64_t>);
  constexpr std::size_t most = std::size_t(1) << 24;
  for (std::size_t i = 0; i < numbers.size(); i += most)
    MPI_Allreduce(MPI_IN_PLACE, numbers.data() + i, static_cast<int>(std::min(most, numbers.size() - i)),
                  std::is_same_v<Number, double> ? MPI_DOUBLE : MPI_INT64_T, MPI_SUM, processes.get());
}

/// Those ranks of a communicator that have the same colour, in their order.
class split_communicator {
 public:
  split_communicator(const communicator& of, int colour) {
    MPI_Comm_split(of.get(), colour, of.rank(), &comm_);
  }
  split_communicator(const split_communicator&) = delete;
  split_communicator& operator=(const split_communicator&) = delete;
  ~split_communicator() { MPI_Comm_free(&comm_); }
  MPI_Comm get() const noexcept { return comm_; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
};

/// What an exception becomes on the other ranks.
enum class failure { none, argument, length, memory, other };

template <class Work>
failure failure_of(const Work& work, std::string& text) {
  try {
    work();
    return failure::none;
  } catch (const std::invalid_argument& e) {
    return text = e.what(), failure::argument;
  } catch (const std::length_error& e) {
    return text = e.what(), failure::length;
  } catch (const std::bad_alloc& e) {
    return text = e.what(), failure::memory;
  } catch (const std::exception& e) {
    return text = e.what(), failure::other;
  } catch (...) {
    return text = "an exception of another type", failure::other;
  }
}

/// work() on every rank. Where it throws on some, all ranks throw what it threw on the first of these, with
/// its rank in front: std::invalid_argument and std::length_error as such, all else as std::runtime_error.
/// One MPI_Allreduce; every rank of the communicator calls it.
template <class Work>
void together(const communicator& processes, const Work& work) {
  std::string text;
  const failure own = failure_of(work, text);
  int first = own == failure::none ? processes.ranks() : processes.rank();
  MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, processes.get());
  if (first == processes.ranks()) return;
  constexpr int most = 1 << 16;
  int said[2] = {static_cast<int>(own), static_cast<int>(std::min<std::size_t>(text.size(), most))};
  MPI_Bcast(said, 2, MPI_INT, first, processes.get());
  text.resize(static_cast<std::size_t>(said[1]));
  MPI_Bcast(text.data(), said[1], MPI_CHAR, first, processes.get());
  if (text.starts_with("fovea: ")) text.erase(0, 7);
  const auto kind = static_cast<failure>(said[0]);
  if (kind == failure::argument) reject("rank ", first, ": ", text);
  if (kind == failure::length) reject_length("rank ", first, ": ", text);
  if (kind == failure::memory) reject_as<std::runtime_error>("rank ", first, ": out of memory, ", text);
  reject_as<std::runtime_error>("rank ", first, ": ", text);
}

/// What a rank does between the first message and the last: where it fails, it goes on passing messages, so
/// that no rank waits for it, and the failure is kept.
class kept_failure {
 public:
  template <class Work>
  void attempt(const Work& work) noexcept {
    if (failed_) return;
    try {
      work();
    } catch (...) {
      failed_ = std::current_exception();
    }
  }
  bool happened() const noexcept { return failed_ != nullptr; }
  void rethrow() const {
    if (failed_) std::rethrow_exception(failed_);
  }

 private:
  std::exception_ptr failed_;
};

}  // namespace distributed

/// work() on every rank of `comm`, for what comes before a call over processes: where it throws on one, all
/// ranks throw together, the same exception, that names the first rank and says what it threw; none waits for
/// one that has given up. (A process that ends is MPI's business: it ends the others.)
///
///   fovea::on_all_ranks(MPI_COMM_WORLD, [&] { load(q, k, v); });
template <class Work>
void on_all_ranks(MPI_Comm comm, const Work& work) {
  distributed::together(distributed::communicator(comm), work);
}

FOVEA_NAMESPACE_END
