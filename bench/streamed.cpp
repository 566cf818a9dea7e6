// bench/streamed.cpp - attention to keys and values in a file that is larger than the memory it may take,
// beside a plain read of that file.
//
//   fovea_streamed write FILE float|bf16|int8 GIB
//   fovea_streamed time FILE BOUND_MIB THREADS [cold]     a row of the table of results/streamed.md
//
// 4 query tokens, 8 query heads, as many key/value heads, dim 128. cold: the system's copy of the file is
// dropped before each reading. Readings take turns; the best of each counts.
#include "machine.hpp"

#include <fovea/streamed.hpp>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
constexpr int heads = 8;
constexpr index_type dim = 128, queries = 4;

Matrix normal(index_type rows, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> number;
  return Matrix::NullaryExpr(rows, heads * dim, [&] { return number(random); });
}

template <class E>
void write(const char* path, double gib) {
  constexpr index_type block = 4096;
  const double token = 2 * heads * (dim * sizeof(E) + (sizeof(E) == 1 ? 4.0 : 0.0));
  const index_type tokens = static_cast<index_type>(gib * 0x1p30 / token) / block * block;
  fovea::cache_writer<E, heads> writer(path, tokens, dim, {.block_tokens = block});
  const Matrix k = normal(block, 1), v = normal(block, 2);
  while (writer.tokens() < tokens) writer.append(k, v);
  writer.finish();
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct open_file {
  int file;
  index_type bytes;
  explicit open_file(const char* path) : file(::open(path, O_RDONLY)), bytes(::lseek(file, 0, SEEK_END)) {
    if (file < 0) throw std::runtime_error(std::string(path) + " can not be opened");
  }
  ~open_file() { ::close(file); }
};

/// Each thread reads a part of it into a buffer of its own.
double read_plainly(const open_file& f, int threads) {
  const double start = now();
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([&f, t, threads] {
      std::vector<char> buffer(1 << 20);
      const index_type end = f.bytes / threads * (t + 1);
      for (index_type at = f.bytes / threads * t; at < end;) {
        const auto got = ::pread(f.file, buffer.data(), buffer.size(), at);
        if (got <= 0) break;
        at += got;
      }
    });
  for (auto& t : all) t.join();
  return now() - start;
}

/// The largest resident set since the last call, in bytes.
double most_resident() {
  double kib = 0;
  char line[256];
  if (std::FILE* status = std::fopen("/proc/self/status", "r")) {
    while (std::fgets(line, sizeof line, status))
      if (std::sscanf(line, "VmHWM: %lf", &kib) == 1) break;
    std::fclose(status);
  }
  if (std::FILE* reset = std::fopen("/proc/self/clear_refs", "w")) std::fputs("5", reset), std::fclose(reset);
  return kib * 1024;
}

template <class E>
void time(const char* name, const char* path, index_type bound, int threads, bool cold) {
  const open_file f(path);
  const auto settle = [&] {
    if (cold) ::fsync(f.file), ::posix_fadvise(f.file, 0, 0, POSIX_FADV_DONTNEED);
  };
  fovea::threads pool(threads);
  const fovea::attention<float, heads> attend{{.executor = pool}};
  const Matrix q = normal(queries, 3);
  Matrix o(queries, heads * dim);
  double alone = 1e9, plain = 1e9, streamed = 1e9, resident = 0;
  if (!cold) read_plainly(f, threads);
  for (int round = 0; round < (cold ? 2 : 5); ++round) {
    settle();
    alone = std::min(alone, read_plainly(f, 1));
    settle();
    plain = std::min(plain, read_plainly(f, threads));
    settle();
    most_resident();
    const fovea::streamed_cache<E, heads> cache(path, {.resident_bytes = bound});
    const double start = now();
    attend.into(o, q, cache, fovea::causal);
    streamed = std::min(streamed, now() - start);
    resident = std::max(resident, most_resident());
  }
  const double gb = static_cast<double>(f.bytes) / 1e9;
  std::printf("| %s | %.2f | %s | %d | %td | %.0f | %.1f | %.1f | %.1f | %.0f %% | %.0f %% |\n", name, gb,
              cold ? "no" : "yes", threads, bound >> 20, resident / 0x1p20, gb / alone, gb / plain,
              gb / streamed, 100 * alone / streamed, 100 * plain / streamed);
}

int run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "write" && argc == 5) {
    const std::string element = argv[3];
    const double gib = std::atof(argv[4]);
    if (element == "float") return write<float>(argv[2], gib), 0;
    if (element == "bf16") return write<fovea::bf16>(argv[2], gib), 0;
    if (element == "int8") return write<std::int8_t>(argv[2], gib), 0;
  } else if (command == "time" && (argc == 5 || argc == 6)) {
    const index_type bound = std::atoll(argv[3]) << 20;
    const int threads = std::atoi(argv[4]);
    const bool cold = argc == 6 && std::strcmp(argv[5], "cold") == 0;
    fovea::caching::file_header header;
    const open_file f(argv[2]);
    if (::pread(f.file, &header, sizeof header, 0) != sizeof header) return 2;
    if (header.key_element == fovea::caching::element_code<float>)
      return time<float>("float", argv[2], bound, threads, cold), 0;
    if (header.key_element == fovea::caching::element_code<fovea::bf16>)
      return time<fovea::bf16>("bf16", argv[2], bound, threads, cold), 0;
    return time<std::int8_t>("int8", argv[2], bound, threads, cold), 0;
  }
  std::fprintf(stderr,
               "fovea_streamed write FILE float|bf16|int8 GIB\n"
               "fovea_streamed time FILE BOUND_MIB THREADS [cold]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "fovea_streamed: %s\n", e.what());
    return 1;
  }
}
