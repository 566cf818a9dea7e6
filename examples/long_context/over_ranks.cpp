// long_context_ranks: the same needle, found by several processes, each of which holds a part of the keys and
// values in int8: mpirun -np 4 long_context_ranks --tokens 1048576
#include "arguments.hpp"
#include "look.hpp"
#include "picture.hpp"
#include "progress.hpp"

#include <fovea/distributed.hpp>
#include <fovea/kv_cache.hpp>

namespace {

using long_context::arguments;
using long_context::haystack;
using long_context::Index;
using long_context::Matrix;

/// This rank's tokens.
fovea::kv_cache<std::int8_t> read(const haystack& text, fovea::range tokens, long_context::progress& cached) {
  constexpr Index block = 4096;
  const auto& sizes = text.sizes();
  fovea::kv_cache<std::int8_t> cache(std::max<Index>(tokens.size(), 1), sizes.dim, {.heads = sizes.heads});
  Matrix k, v;
  for (Index first = tokens.first; first < tokens.last; first += block) {
    text.read(first, std::min(block, tokens.last - first), k, v);
    cache.append(k, v);
    cached.at(cache.tokens());
  }
  return cache;
}

/// Weights of all tokens, on rank 0: each rank's are of its own tokens, e^(s - its LSE), and become e^(s -
/// the whole LSE).
std::vector<float> gather(long_context::view seen, fovea::range tokens, const haystack& text, int ranks) {
  const Index heads = text.sizes().heads, all = text.sizes().tokens;
  std::vector<float> lses(static_cast<std::size_t>(heads * ranks));
  MPI_Allgather(seen.lse.data(), int(heads), MPI_FLOAT, lses.data(), int(heads), MPI_FLOAT, MPI_COMM_WORLD);
  const Eigen::Map<const Matrix> of_ranks(lses.data(), ranks, heads);
  const int own = int(tokens.size()), first = int(tokens.first);
  std::vector<int> counts(static_cast<std::size_t>(ranks)), places(counts);
  MPI_Gather(&own, 1, MPI_INT, counts.data(), 1, MPI_INT, 0, MPI_COMM_WORLD);
  MPI_Gather(&first, 1, MPI_INT, places.data(), 1, MPI_INT, 0, MPI_COMM_WORLD);
  std::vector<float> weights(static_cast<std::size_t>(heads * all));
  for (Index h = 0; h < heads; ++h) {
    const float largest = of_ranks.col(h).maxCoeff();
    const float whole = largest + std::log((of_ranks.col(h).array() - largest).exp().sum());
    Eigen::Map<Eigen::ArrayXf> part(seen.weights.data() + h * own, own);
    part *= std::exp(seen.lse(0, h) - whole);
    MPI_Gatherv(part.data(), own, MPI_FLOAT, weights.data() + h * all, counts.data(), places.data(),
                MPI_FLOAT, 0, MPI_COMM_WORLD);
  }
  return weights;
}

int run(const arguments& a) {
  const haystack text(a.sizes);
  const fovea::spread_decode<float> attend{MPI_COMM_WORLD, {.heads = a.sizes.heads}};
  const int rank = attend.rank(), ranks = attend.ranks();
  const auto tokens = fovea::tokens_of_rank(fovea::token_layout::contiguous, a.sizes.tokens, rank, ranks)[0];
  if (rank == 0)
    std::printf("%td tokens, %td heads of %td, keys and values in int8, on %d processes\n", a.sizes.tokens,
                a.sizes.heads, a.sizes.dim, ranks);
  long_context::progress cached("cached by the first process", std::max<Index>(tokens.size(), 1), rank == 0);
  const auto cache = read(text, tokens, cached);
  if (rank == 0)
    std::printf("%.1f MB on the first process in %.2f s\n", double(cache.bytes()) / 1e6, cached.seconds());
  const Matrix q = text.query(a.sharpness);
  MPI_Barrier(MPI_COMM_WORLD);
  const examples::stopwatch attending;
  const Matrix o = attend(q, cache);
  const double seconds = attending.seconds();
  const auto weights = gather(long_context::look(q, cache, a.threads), tokens, text, ranks);
  int found = 1;
  if (rank == 0) {
    std::printf("attended to %.1f MB on the first process in %.3f s; each sent %td bytes\n",
                double(cache.bytes()) / 1e6, seconds,
                a.sizes.heads * (a.sizes.dim + 1) * Index(sizeof(float)));
    found = long_context::report(text, o, weights) ? 1 : 0;
  }
  MPI_Bcast(&found, 1, MPI_INT, 0, MPI_COMM_WORLD);
  if (rank == 0) long_context::save_picture(a.picture, weights, text);  // if not, no other rank waits
  return found ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  CLI::App app(
      "Hides a number in a long text of numbers; processes that hold a part of it each find it together.");
  arguments a;
  a.threads = 1;
  add_options(app, a);
  const int status = examples::run_program("long_context_ranks", app, argc, argv, [&] { return run(a); });
  MPI_Finalize();
  return status;
}
