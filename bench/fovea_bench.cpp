// bench/fovea_bench.cpp - times attention on shapes given in words, beside the textbook and the machine's
// limit.
//
//   fovea_bench                                                  the standard table
//   fovea_bench --workload "Hq=8,Lq=1024,d=64,mask=causal" ...   shapes of your own, see workload.hpp
//   fovea_bench --benchmark_format=json --benchmark_filter=-textbook     Google Benchmark's flags
//
// Rows are named by their workload; the textbook's have "/textbook" behind it. Counters of a row:
//   best_ms           the shortest of all calls; the counters below are made from it
//   gflops            useful operations (causal: half of the square; op=backward: 10 Lq Lk d a head, op=hard: 2)
//   of_peak           their share of the multiply-add peak of the compute type
//   bytes_per_second  K and V, read once (op=linear: the states, read and written)
//   of_bandwidth      its share of a plain read, over and over, of a buffer as large as K and V (op=linear: of a
//                     plain update of a buffer as large as the states)
//   scratch_bytes     memory beyond inputs and outputs
// Peak and memory bandwidth are measured before (in the context) and after all rows (in rows "machine:...").
#include "call.hpp"
#include "command_line.hpp"
#include "yardstick.hpp"

#include <benchmark/benchmark.h>

#include <cstdio>
#include <exception>
#include <limits>
#include <memory>
#include <set>
#include <utility>
#include <vector>

namespace {

using namespace bench;
using bench::index_type;

constexpr double textbook_limit = 8e9;  // bytes of scores beyond which the textbook's row is left out

#ifdef __clang__
constexpr const char* compiler = __VERSION__;
#else
constexpr const char* compiler = "g++ " __VERSION__;
#endif

yardstick limits;
bool failed = false;

bool wide(const workload& w) { return w.dtype == element::f64; }
std::string type_name(bool is_wide) { return is_wide ? "f64" : "f32"; }

/// The machines that rows are held against: (double?, threads).
std::set<std::pair<bool, index_type>> machines_of(const std::vector<named_workload>& rows) {
  std::set<std::pair<bool, index_type>> machines;
  for (const auto& row : rows) machines.emplace(wide(row.shape), row.shape.threads);
  return machines;
}

struct machine_speed {
  double flops, bytes;
};

machine_speed probe_machine(bool is_wide, index_type threads, const char* when) {
  const machine_speed seen{limits.probe_flops(is_wide, threads, 0.4),
                           limits.probe_bandwidth(yardstick::beyond_caches, threads, 0.6)};
  std::fprintf(stderr, "%s: %s, %td thread%s: %.1f GFLOP/s of %s multiply-adds, %.1f GB/s read from memory\n",
               when, xsimd::default_arch::name(), threads, threads == 1 ? "" : "s", seen.flops / 1e9,
               type_name(is_wide).c_str(), seen.bytes / 1e9);
  return seen;
}

void add_context(const std::set<std::pair<bool, index_type>>& machines) {
  const auto version = std::to_string(FOVEA_VERSION_MAJOR) + "." + std::to_string(FOVEA_VERSION_MINOR) + "." +
                       std::to_string(FOVEA_VERSION_PATCH);
  benchmark::AddCustomContext("fovea_version", version);
  benchmark::AddCustomContext("fovea_arch", xsimd::default_arch::name());
  benchmark::AddCustomContext("fovea_compiler", compiler);
  const auto number = [](double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", x / 1e9);
    return std::string(text);
  };
  std::set<index_type> threads_told;
  for (const auto& [is_wide, threads] : machines) {
    const auto seen = probe_machine(is_wide, threads, "before");
    const std::string of_threads = "_threads_" + std::to_string(threads);
    benchmark::AddCustomContext("peak_gflops_" + type_name(is_wide) + of_threads, number(seen.flops));
    if (threads_told.insert(threads).second)
      benchmark::AddCustomContext("read_gbytes_per_second" + of_threads, number(seen.bytes));
  }
}

/// Every row has every counter, so that Google Benchmark can write a table of them.
void set_counters(benchmark::State& state, double seconds, machine_speed row, machine_speed limit,
                  double scratch) {
  state.counters["best_ms"] = seconds * 1e3;
  state.counters["gflops"] = row.flops / 1e9;
  state.counters["of_peak"] = row.flops / limit.flops;
  state.counters["bytes_per_second"] = row.bytes;
  state.counters["of_bandwidth"] = row.bytes / limit.bytes;
  state.counters["scratch_bytes"] = scratch;
}

/// The shortest time of a row, over all the times that Google Benchmark comes back to it.
struct record {
  double best = std::numeric_limits<double>::infinity();

  double time(const std::function<void()>& run) {
    const double start = seconds_now();
    run();
    const double seconds = seconds_now() - start;
    best = std::min(best, seconds);
    return seconds;
  }
};

using prepare_call = call (*)(const workload&);

void time_row(benchmark::State& state, const workload& w, prepare_call prepare, record& times) try {
  const pinned alone(w.threads == 1);
  const call c = prepare(w);
  double spent = times.time(c.run);
  int runs = 1;
  for (auto _ : state) spent += times.time(c.run), ++runs;
  for (; runs < 6 && spent < 6; ++runs) spent += times.time(c.run);

  const auto bytes = static_cast<index_type>(kv_bytes(w));
  limits.probe_flops(wide(w), w.threads, 0.02);
  if (is_linear(w.op))
    limits.probe_updates(bytes / 2, w.threads, 0.2);
  else
    limits.probe_bandwidth(bytes, w.threads, 0.06);
  set_counters(state, times.best, {useful_flops(w) / times.best, kv_bytes(w) / times.best},
               {limits.flops(wide(w), w.threads), is_linear(w.op)
                                                      ? limits.updates(bytes / 2, w.threads)
                                                      : limits.bandwidth(bytes, w.threads)},
               double(c.scratch_bytes));
} catch (const std::exception& e) {
  failed = true;
  state.SkipWithError(e.what());
}

void register_rows(const std::vector<named_workload>& rows) {
  const auto add = [](const std::string& name, const workload& w, prepare_call prepare) {
    const auto times = std::make_shared<record>();
    const auto row = [=](benchmark::State& state) { time_row(state, w, prepare, *times); };
    benchmark::RegisterBenchmark(name.c_str(), row)->Unit(benchmark::kMillisecond);
  };
  for (const auto& [name, w] : rows) {
    add(name, w, fovea_call);
    if (w.cache != cache::none)
      std::fprintf(stderr, "%s: no textbook row, it has no cache\n", name.c_str());
    else if (w.op == operation::backward)
      std::fprintf(stderr, "%s: no textbook row, it computes no gradients\n", name.c_str());
    else if (w.op == operation::dsa)
      std::fprintf(stderr, "%s: no textbook row, it reads all keys\n", name.c_str());
    else if (is_linear(w.op) || w.op == operation::feature)
      std::fprintf(stderr, "%s: no textbook row, it has no softmax\n", name.c_str());
    else if (w.op == operation::additive || w.op == operation::decomposed)
      std::fprintf(stderr, "%s: no textbook row, its scores are not of q and k alone\n", name.c_str());
    else if (w.op > operation::decomposed)
      std::fprintf(stderr, "%s: no textbook row, it has one softmax and no gate\n", name.c_str());
    else if (w.op != operation::forward)
      std::fprintf(stderr, "%s: no textbook row, it reads all values\n", name.c_str());
    else if (!has_intervals(w.mask))
      std::fprintf(stderr, "%s: no textbook row, it shows intervals of keys\n", name.c_str());
    else if (w.with != modifier::none)
      std::fprintf(stderr, "%s: no textbook row, it has masks only\n", name.c_str());
    else if (double(w.threads) * double(w.queries) * double(w.keys) * double(wide(w) ? 8 : 4) <
             textbook_limit)
      add(name + "/textbook", w, textbook_call);
    else
      std::fprintf(stderr, "%s: no textbook row, its scores would fill the memory\n", name.c_str());
  }
}

/// Rows that end the table: the machine's limits once more, as shares of what was seen before.
void register_machines(const std::set<std::pair<bool, index_type>>& machines) {
  for (const auto& [is_wide, threads] : machines) {
    const std::string name = "machine:dtype=" + type_name(is_wide) + ",threads=" + std::to_string(threads);
    const auto row = [is_wide = is_wide, threads = threads](benchmark::State& state) {
      const machine_speed before{limits.flops(is_wide, threads),
                                 limits.bandwidth(yardstick::beyond_caches, threads)};
      machine_speed after{};
      for (auto _ : state) after = probe_machine(is_wide, threads, "after");
      set_counters(state, 0, after, before, 0);
    };
    benchmark::RegisterBenchmark(name.c_str(), row)->Unit(benchmark::kMillisecond)->Iterations(1);
  }
}

}  // namespace

bench::call bench::fovea_call(const workload& w) {
  if (w.cache == cache::latent) return latent_call(w);
  if (w.cache != cache::none) return cached_call(w);
  if (w.op == operation::backward) return backward_call(w);
  if (w.op == operation::additive) return additive_call(w);
  if (w.op == operation::decomposed) return decomposed_call(w);
  if (is_linear(w.op)) return linear_call(w);
  if (w.op == operation::gate) return gate_call(w);
  if (w.op == operation::differential) return differential_call(w);
  if (w.op == operation::sigmoid) return sigmoid_call(w);
  if (w.op == operation::transformer_xl) return transformer_xl_call(w);
  if (w.op == operation::talking_heads) return talking_heads_call(w);
  if (w.op == operation::cosine) return cosine_call(w);
  if (w.op == operation::luong) return luong_call(w);
  if (w.op == operation::weights_into) return weights_into_call(w);
  if (w.op == operation::feature) return feature_call(w);
  if (w.op == operation::dsa) return dsa_call(w);
  if (w.op != operation::forward) return hard_call(w);
  call timed;
  with_element<float, double, fovea::bf16, fovea::fp16>(w.dtype,
                                                        [&]<class T>(T) { timed = fovea_call_for<T>(w); });
  return timed;
}

int main(int argc, char** argv) try {
  const bool only_lists = std::any_of(argv, argv + argc, [](const char* argument) {
    return std::string_view(argument).starts_with("--benchmark_list_tests");
  });
  benchmark::Initialize(&argc, argv, print_help);
  const auto rows = workloads_from(argc, argv);
  const auto machines = machines_of(rows);
  if (!only_lists) add_context(machines);
  register_rows(rows);
  register_machines(machines);
  const auto ran = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return failed || ran == 0 ? 1 : 0;
} catch (const std::invalid_argument& e) {
  std::fprintf(stderr, "fovea_bench: %s\n", e.what());
  return 2;
} catch (const std::exception& e) {
  std::fprintf(stderr, "fovea_bench: %s\n", e.what());
  return 1;
}
