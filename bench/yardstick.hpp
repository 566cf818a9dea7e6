// bench/yardstick.hpp - the machine's limits that rows are held against: the best seen so far in this
// process.
#pragma once

#include "peak.hpp"

#include <map>

namespace bench {

/// A neighbour on the machine can only make a probe slower, so the best of all probes stands, and every row
/// adds one: a limit seen too low would flatter the rows.
class yardstick {
 public:
  static constexpr index_type beyond_caches = index_type(512) << 20;

  /// FLOP/s of multiply-adds in float or double.
  double flops(bool wide, index_type threads) const { return at(flops_, {wide, threads}); }
  /// Bytes/s read from a buffer of so many bytes.
  double bandwidth(index_type bytes, index_type threads) const {
    return at(bandwidth_, {bytes_probed(bytes), threads});
  }

  /// Probes for `patience` seconds and returns what this probe saw.
  double probe_flops(bool wide, index_type threads, double patience) {
    const double now = wide ? fma_peak<double>(threads, patience) : fma_peak<float>(threads, patience);
    return keep(flops_, {wide, threads}, now);
  }
  double probe_bandwidth(index_type bytes, index_type threads, double patience) {
    const index_type probed = bytes_probed(bytes);
    return keep(bandwidth_, {probed, threads}, read_bandwidth(probed, threads, patience));
  }

  /// Bytes/s read from and written to a buffer of so many bytes.
  double updates(index_type bytes, index_type threads) const { return at(updates_, {bytes, threads}); }
  double probe_updates(index_type bytes, index_type threads, double patience) {
    return keep(updates_, {bytes, threads}, update_bandwidth(bytes, threads, patience));
  }

 private:
  using key = std::pair<index_type, index_type>;

  static index_type bytes_probed(index_type bytes) { return std::min(bytes, 2 * beyond_caches); }
  static double at(const std::map<key, double>& seen, key k) {
    const auto found = seen.find(k);
    return found == seen.end() ? 0 : found->second;
  }
  static double keep(std::map<key, double>& seen, key k, double now) {
    seen[k] = std::max(seen[k], now);
    return now;
  }

  std::map<key, double> flops_, bandwidth_, updates_;
};

}  // namespace bench
