// tests/distributed/killed.cpp - a process that dies in the middle of the calls: MPI ends the others, and says so.
#include <fovea/distributed.hpp>

#include <csignal>
#include <cstdio>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  fovea::tensor<float> x(1, 2, 16, 8);
  const fovea::ring_attention<float, 2> attend(MPI_COMM_WORLD);
  for (int call = 0; call < 3; ++call) {
    if (call == 1 && rank == ranks - 1) std::raise(SIGKILL);
    attend(x, x, x);
  }
  std::puts("all calls came back");  // they must not
  MPI_Finalize();
}
