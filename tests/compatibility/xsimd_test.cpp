// tests/compatibility/xsimd_test.cpp - attention of every element, for few and many queries, against the
// formula in double, with whatever xsimd it is compiled with.
#include <fovea/attention.hpp>
#include <fovea/position.hpp>
#include <fovea/reference.hpp>

#include <cmath>
#include <cstdio>

namespace {

template <class E>
fovea::tensor<E> random_tensor(fovea::index_type batch, fovea::index_type heads, fovea::index_type tokens,
                               fovea::index_type dim) {
  fovea::tensor<E> x(batch, heads, tokens, dim);
  const Eigen::ArrayXf values = Eigen::ArrayXf::Random(x.size());
  for (fovea::index_type i = 0; i < x.size(); ++i) x.data()[i] = static_cast<E>(values[i]);
  return x;
}

/// Whether every number is within `most` of the exact one; a NaN is not.
template <class E>
bool near(const fovea::tensor<E>& got, const fovea::tensor<double>& exact, double most) {
  for (fovea::index_type i = 0; i < got.size(); ++i)
    if (!(std::abs(static_cast<double>(got.data()[i]) - exact.data()[i]) <= most)) return false;
  return got.size() == exact.size();
}

template <class E>
bool good(const char* name, fovea::index_type queries, double output_error, double lse_error) {
  const auto q = random_tensor<E>(2, 4, queries, 40);
  const auto k = random_tensor<E>(2, 2, 131, 40), v = random_tensor<E>(2, 2, 131, 24);
  const auto some =
      fovea::causal_bottom_right & fovea::mask([](auto row, auto key) { return key != row + 2; });
  const auto fade = fovea::score([](auto s, auto row, auto key) {
    using std::abs;
    return s - 0.125f * abs(row - key);
  });
  const auto cap = fovea::softcap{5.f};
  const auto got = fovea::attention<E, 4, 2>().with_lse(q, k, v, some, fade, cap);
  const auto exact = fovea::reference(q, k, v, {.heads = 4, .kv_heads = 2}, some, fade, cap);
  const bool fine = near(got.out, exact.out, output_error) && near(got.lse, exact.lse, lse_error);
  std::printf("%-6s %2td queries: %s\n", name, queries, fine ? "good" : "bad");
  return fine;
}

}  // namespace

int main() {
  std::printf("xsimd %d.%d.%d, %s\n", XSIMD_VERSION_MAJOR, XSIMD_VERSION_MINOR, XSIMD_VERSION_PATCH,
              xsimd::default_arch::name());
  bool all = true;
  for (const fovea::index_type queries : {1, 3, 67}) {
    all &= good<float>("float", queries, 0x1p-20, 0x1p-16);
    all &= good<double>("double", queries, 0x1p-49, 0x1p-45);
    all &= good<fovea::bf16>("bf16", queries, 0x1p-8, 0x1p-16);
    all &= good<fovea::fp16>("fp16", queries, 0x1p-11, 0x1p-16);
  }
  return all ? 0 : 1;
}
