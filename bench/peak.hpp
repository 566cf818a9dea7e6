// bench/peak.hpp - what the machine can do: multiply-adds a second from registers, bytes a second read from
// memory.
#pragma once

#include "machine.hpp"

#include <xsimd/xsimd.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace bench {

/// The compiler's own vector of T, as wide as the registers this program is compiled for. Its a * b + c
/// becomes a fused multiply-add wherever the target has one; xsimd 8 would multiply and add for AVX-512, and
/// leave it to the compiler.
template <class T>
struct native {
  typedef T vector __attribute__((vector_size(sizeof(xsimd::batch<T>))));
  static constexpr int lanes = sizeof(vector) / sizeof(T);
};

template <class T>
struct probe {
  volatile T factor = T(0.5), addend = T(1), sink = T(0);  // volatile: the compiler knows none
};

/// steps * (sizeof...(Chain)) vector multiply-adds. The chains are independent of each other: it takes
/// latency times ports of them (4 x 2 on most x86) to keep every port busy.
template <class T, std::size_t... Chain>
__attribute__((noinline)) void run_chains(index_type steps, probe<T>& p, std::index_sequence<Chain...>) {
  using vector = typename native<T>::vector;
  const vector factor = vector{} + p.factor, addend = vector{} + p.addend;
  vector sum[] = {vector{} + T(Chain)...};
  for (index_type i = 0; i < steps; ++i) ((sum[Chain] = sum[Chain] * factor + addend), ...);
  vector total{};
  ((total += sum[Chain]), ...);
  p.sink = total[0];
}

template <class T, int Chains>
double flops_with(index_type threads, double patience) {
  constexpr index_type steps = 200'000;  // about a millisecond
  const double best = best_time(threads, patience, [](index_type) {
    probe<T> p;
    run_chains<T>(steps, p, std::make_index_sequence<Chains>{});
  });
  return 2.0 * native<T>::lanes * Chains * double(steps) * double(threads) / best;
}

/// Floating-point operations a second of multiply-adds on `threads` threads at once: the best of 12 and 24
/// chains, as 24 do not fit sixteen registers and 12 do not fill four ports.
template <class T>
double fma_peak(index_type threads, double patience) {
  return std::max(flops_with<T, 12>(threads, patience / 2), flops_with<T, 24>(threads, patience / 2));
}

/// Memory to read, as large as asked for.
class read_buffer {
 public:
  using vector = native<std::uint64_t>::vector;
  static constexpr index_type line = 64, vectors_a_line = line / index_type(sizeof(vector));

  explicit read_buffer(index_type bytes)
      : words_(std::size_t(std::max(bytes, 512 * line) / 8 + line / 8), 1) {}

  index_type bytes() const { return index_type(words_.size() * 8) / line * line - line; }

  /// Reads the share of `thread` among `threads` once, as `streams` streams side by side.
  template <int Streams>
  __attribute__((noinline)) void read(index_type thread, index_type threads) const {
    const auto address = reinterpret_cast<std::uintptr_t>(words_.data());
    const char* first = reinterpret_cast<const char*>((address + line - 1) / line * line);
    const index_type lines = bytes() / line / threads / Streams;
    const char* from = first + thread * lines * Streams * line;
    vector sum[Streams][4] = {};
    for (index_type i = 0; i < lines; ++i)
      for (int s = 0; s < Streams; ++s) {
        const char* at = from + (s * lines + i) * line;
        __builtin_prefetch(at + ahead);
        for (int v = 0; v < vectors_a_line; ++v)
          sum[s][v] ^= *reinterpret_cast<const vector*>(at + v * index_type(sizeof(vector)));
      }
    vector all{};
    for (const auto& stream : sum)
      for (const auto& part : stream) all ^= part;
    volatile std::uint64_t sink = all[0];
    static_cast<void>(sink);
  }

  /// Reads the share of `thread` once, and writes it again, one more.
  __attribute__((noinline)) void update(index_type thread, index_type threads) {
    const index_type count = bytes() / index_type(sizeof(vector)) / threads;
    auto* first = words_.data() + thread * count * index_type(sizeof(vector) / 8);
    for (index_type i = 0; i < count; ++i) {
      vector x;
      __builtin_memcpy(&x, first + i * index_type(sizeof(vector) / 8), sizeof x);
      x += 1;
      __builtin_memcpy(first + i * index_type(sizeof(vector) / 8), &x, sizeof x);
    }
  }

 private:
  static constexpr index_type ahead = 1024;
  std::vector<std::uint64_t> words_;
};

/// Bytes a second, read and written ones counted, that `threads` threads update together in a buffer of `bytes`.
inline double update_bandwidth(index_type bytes, index_type threads, double patience) {
  read_buffer buffer(bytes);
  const index_type repeats = std::max<index_type>(1, (index_type(4) << 20) / buffer.bytes());
  const double best = best_time(threads, patience, [&](index_type thread) {
    for (index_type r = 0; r < repeats; ++r) buffer.update(thread, threads);
  });
  return 2 * double(buffer.bytes()) * double(repeats) / best;
}

/// Bytes a second that `threads` threads read together from a buffer of `bytes`, over and over: from memory
/// where it is larger than the caches, from a cache where it fits.
inline double read_bandwidth(index_type bytes, index_type threads, double patience) {
  const read_buffer buffer(bytes);
  const index_type repeats = std::max<index_type>(1, (index_type(4) << 20) / buffer.bytes());
  const auto with = [&]<int Streams>(std::integral_constant<int, Streams>) {
    return best_time(threads, patience / 3, [&](index_type thread) {
      for (index_type r = 0; r < repeats; ++r) buffer.read<Streams>(thread, threads);
    });
  };
  const double one = with(std::integral_constant<int, 1>{}), two = with(std::integral_constant<int, 2>{}),
               four = with(std::integral_constant<int, 4>{});
  return double(buffer.bytes()) * double(repeats) / std::min({one, two, four});
}

}  // namespace bench
