#include <cstdio>

int version_of_fovea();

int main() {
  std::printf("fovea %d\n", version_of_fovea());
  return version_of_fovea() > 0 ? 0 : 1;
}
