// bench/command_line.hpp - what fovea_bench is asked to time.
#pragma once

#include "workload.hpp"

#include <cstdio>

namespace bench {

inline constexpr const char* standard_table[] = {
    "B=1,Hq=8,Lq=1024,d=64",
    "B=1,Hq=8,Lq=1024,d=64,mask=causal",
    "B=1,Hq=8,Lq=1024,d=128",
    "B=1,Hq=8,Lq=1024,d=128,mask=causal",
    "B=1,Hq=32,Hkv=8,Lq=2048,d=128,mask=causal",
    "B=8,Hq=12,Lq=128,d=64",
    "B=8,Hq=12,Lq=512,d=64",
    "B=8,Hq=12,Lq=197,d=64",
    "B=2,Hq=8,Lq=4096,d=40",
    "B=1,Hq=4,Lq=16384,d=64,mask=causal",
    "B=1,Hq=8,Lq=128,Lk=1500,d=64",
    "B=1,Hq=32,Hkv=8,Lq=1,Lk=4096,d=128",
    "B=1,Hq=32,Hkv=8,Lq=1,Lk=32768,d=128",
    "B=8,Hq=16,Lq=1,Lk=1024,d=64",
    "B=1,Hq=4,Lq=16,d=32",
};

struct named_workload {
  std::string name;
  workload shape;
};

/// The workloads of a command line without Google Benchmark's flags; the standard table where it names none.
/// Throws std::invalid_argument.
inline std::vector<named_workload> workloads_from(int argc, char** argv) {
  std::vector<named_workload> rows;
  const auto add = [&](const std::string& words) { rows.push_back({words, parse_workload(words)}); };
  const std::string option = "--workload";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with(option + "=")) {
      add(argument.substr(option.size() + 1));
    } else if (argument == "--models") {
      for (const auto& m : model_workloads) add(std::string(m.name));
    } else if (argument == option) {
      if (++i == argc) throw std::invalid_argument("--workload needs words after it");
      add(argv[i]);
    } else {
      throw std::invalid_argument("unknown argument \"" + argument + "\"");
    }
  }
  if (rows.empty())
    for (const char* words : standard_table) {
      const auto w = parse_workload(words);
      rows.push_back({to_text(w), w});
    }
  return rows;
}

/// What --help says of the arguments: each of known_keys().
inline std::string help_text() {
  std::string text =
      "fovea_bench [--workload \"key=value,...\"]... [Google Benchmark's flags]\n\n"
      "Times attention, beside the textbook and the machine's limit. The option repeats; without it the\n"
      "standard table runs. A workload may begin with the name of a model; --models is all of those.\n"
      "The keys of a workload, in any order:\n\n";
  for (const auto& entry : known_keys())
    text += "  " + entry.key + "=" + entry.values + "\n            " + entry.meaning + " [" + entry.missing +
            "]\n";
  text += "\nModels:\n\n";
  for (const auto& m : model_workloads)
    text += "  " + std::string(m.name) + "=\"" + std::string(m.words) + "\"\n            " +
            std::string(m.meaning) + "\n";
  return text +
         "\nGoogle Benchmark's flags, among others: --benchmark_filter=REGEX, or -REGEX for all others\n"
         "(-textbook); --benchmark_list_tests; --benchmark_min_time=SECONDS; --benchmark_repetitions=N;\n"
         "--benchmark_format=console|json|csv; --benchmark_out=FILE\n"
         "(https://github.com/google/benchmark/blob/main/docs/user_guide.md)\n";
}

inline void print_help() { std::fputs(help_text().c_str(), stdout); }

}  // namespace bench
