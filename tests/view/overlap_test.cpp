// Whether views share memory, and whether one folds onto itself: against a list of their bytes.
#include "../support/random.hpp"

#include <fovea/view/overlap.hpp>
#include <fovea/view/tensor.hpp>

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace {

using fovea::index_type;
using fovea::tensor_view;

/// The bytes of a view, and whether two elements have one address.
template <class E>
struct listed {
  std::set<const char*> bytes;
  bool folds = false;

  explicit listed(const tensor_view<E>& x) {
    std::set<const E*> elements;
    for (index_type b = 0; b < x.batch; ++b)
      for (index_type h = 0; h < x.heads; ++h)
        for (index_type t = 0; t < x.tokens; ++t)
          for (index_type c = 0; c < x.dim; ++c) {
            const E* at =
                x.data + b * x.batch_stride + h * x.head_stride + t * x.token_stride + c * x.dim_stride;
            folds |= !elements.insert(at).second;
            for (std::size_t i = 0; i < sizeof(E); ++i) bytes.insert(reinterpret_cast<const char*>(at) + i);
          }
  }
  template <class F>
  bool shares_with(const listed<F>& other) const {
    for (const char* byte : bytes)
      if (other.bytes.contains(byte)) return true;
    return false;
  }
};

struct source {
  fovea_test::random_source random{7};
  std::vector<char> memory = std::vector<char>(1 << 16);

  index_type within(index_type least, index_type most) {
    return least + static_cast<index_type>(random.bits() % static_cast<std::uint64_t>(most - least + 1));
  }
  template <class E>
  tensor_view<E> view() {
    tensor_view<E> x;
    x.data = reinterpret_cast<E*>(memory.data() + memory.size() / 2) + within(0, 200);
    x.batch = within(0, 4), x.heads = within(1, 4), x.tokens = within(1, 5), x.dim = within(1, 4);
    x.dim_stride = within(-2, 4), x.token_stride = within(-10, 20);
    x.head_stride = within(-20, 30), x.batch_stride = within(-40, 60);
    if (within(0, 1) == 0) return x;
    x.dim_stride = within(1, 2), x.token_stride = within(5, 15);  // nested, as tensors are
    x.head_stride = x.token_stride * within(5, 8), x.batch_stride = x.head_stride * 4 + within(0, 9);
    return x;
  }
};

template <class E, class F>
void expect_as_listed(source& from, int cases) {
  int shared = 0, folded = 0;
  for (int i = 0; i < cases; ++i) {
    const auto a = from.view<E>();
    auto b = from.view<F>();
    if (i % 2 == 0)
      b.batch_stride = a.batch_stride, b.head_stride = a.head_stride, b.token_stride = a.token_stride,
      b.dim_stride = a.dim_stride;
    const listed<E> of_a(a);
    const bool share = of_a.shares_with(listed<F>(b));
    ASSERT_EQ(fovea::share_memory(a, b), share) << i;
    ASSERT_EQ(fovea::share_memory(b, a), share) << i;
    ASSERT_EQ(fovea::folds(a), of_a.folds) << i;
    shared += share, folded += of_a.folds;
  }
  EXPECT_GT(shared, cases / 10);
  EXPECT_LT(shared, cases / 10 * 9);
  EXPECT_GT(folded, cases / 10);
  EXPECT_LT(folded, cases / 10 * 9);
}

TEST(overlap, as_a_list_of_bytes_says) {
  source from;
  expect_as_listed<float, float>(from, 2000);
  expect_as_listed<float, std::uint16_t>(from, 1000);
  expect_as_listed<double, char>(from, 500);
}

TEST(overlap, packed_projections_share_nothing) {
  std::vector<float> x(3 * 50 * 8 * 3 * 16);
  const auto [q, k, v] = fovea::packed_qkv(x.data(), 3, 50, 8, 8, 16);
  EXPECT_FALSE(fovea::share_memory(q, k) || fovea::share_memory(k, v) || fovea::share_memory(q, v));
  // [batch][token][head][3][dim]
  const auto part = [&](index_type i) {
    return tensor_view<float>{x.data() + i * 16, 3, 8, 50, 16, 50 * 8 * 48, 48, 8 * 48, 1};
  };
  EXPECT_FALSE(fovea::share_memory(part(0), part(1)) || fovea::share_memory(part(2), part(0)));
  auto longer = part(0);
  longer.dim = 17;
  EXPECT_TRUE(fovea::share_memory(longer, part(1)));
  EXPECT_FALSE(fovea::share_memory(longer, part(2)));
}

/// A table by strides: element (q, k) at k - q.
TEST(overlap, a_table_by_strides_folds) {
  std::vector<float> x(19);
  EXPECT_TRUE(fovea::folds(tensor_view<float>{x.data() + 9, 1, 1, 10, 10, 0, 0, -1, 1}));
  EXPECT_TRUE(fovea::folds(tensor_view<float>{x.data(), 1, 1, 4, 3, 0, 0, 2, 1}));
  EXPECT_FALSE(fovea::folds(tensor_view<float>{x.data(), 1, 1, 4, 2, 0, 0, 2, 1}));
  EXPECT_FALSE(fovea::folds(tensor_view<float>{x.data(), 1, 1, 2, 3, 0, 0, 1, 2}));  // by columns
  EXPECT_FALSE(fovea::folds(tensor_view<float>{x.data(), 5, 1, 1, 0, 0, 0, 0, 0}));  // nothing
}

}  // namespace
