// Keys and values in several places, in one softmax.
#include "../support/refusal.hpp"
#include "support.hpp"

namespace fovea_test {
namespace joined_test {

constexpr index_type dim = 20, value_dim = 12;

template <class E>
fovea::kv_cache<E, kv_heads> filled(const tokens<float>& all, index_type first, index_type last) {
  fovea::kv_cache<E, kv_heads> cache(last - first + 3, dim, {.value_dim = value_dim});
  append(cache, all.k, all.v, first, last);
  return cache;
}

/// Compressed tokens, a prompt, a window of raw ones: as if all lay in one place.
TEST(joined, is_one_softmax_over_all_parts) {
  const tokens<float> all(301, dim, value_dim, 21);
  const auto first = filled<float>(all, 0, 40), second = filled<float>(all, 40, 41),
             last = filled<float>(all, 41, 301);
  fovea::ring_cache<float, kv_heads> ring(300, dim, {.value_dim = value_dim});
  append(ring, all.k, all.v, 41, 301);
  const fovea::joined three{first, second, last};
  const fovea::joined two{first, second};
  const fovea::joined nested{two, ring};
  const std::vector<float> slopes(heads, 0.01f), sinks{0, 1, -1, 2, 0, 1};
  for (const index_type queries : {1, 3, 50}) {
    const Matrix q = normal(queries, heads * dim, 4);
    for (const Matrix& out : {attend(q, three, fovea::causal), attend(q, nested, fovea::causal)})
      expect_exact(out, q, all.k, all.v, fovea::causal_bottom_right);
    expect_exact(attend(q, three, fovea::sliding_window{.left = 260} & fovea::causal, fovea::sink{sinks}), q,
                 all.k, all.v,
                 fovea::sliding_window{.left = 260, .offset = 301 - queries} & fovea::causal_bottom_right,
                 fovea::sink{sinks});
    expect_exact(attend(q, three, fovea::alibi{slopes}), q, all.k, all.v,
                 fovea::alibi{slopes, 301 - queries});
  }
}

/// Parts stored otherwise, and one in no cache; of many heads, which share lanes.
TEST(joined, parts_may_be_of_other_elements_and_in_no_cache) {
  const tokens<fovea::bf16> all(200, dim, value_dim, 22);
  const auto old = filled<std::int8_t>(tokens<float>(all.count(), dim, value_dim, 22), 0, 90);
  const auto middle = filled<fovea::bf16>(tokens<float>(all.count(), dim, value_dim, 22), 90, 150);
  const fovea::tensor_view<const float> k{
      all.k.data() + 150 * kv_heads * dim, 1, kv_heads, 50, dim, 0, dim, kv_heads * dim, 1},
      v{all.v.data() + 150 * kv_heads * value_dim,
        1,
        kv_heads,
        50,
        value_dim,
        0,
        value_dim,
        kv_heads * value_dim,
        1};
  const fovea::joined mixed{old, middle, fovea::segment{k, v}};
  const fovea::joined exact{middle, fovea::segment{k, v}};
  const Matrix q = normal(2, heads * dim, 5);
  const Matrix later_k = all.k.bottomRows(110), later_v = all.v.bottomRows(110);
  expect_exact(attend(q, exact, fovea::causal), q, later_k, later_v, fovea::causal_bottom_right);
  EXPECT_LE(
      relative_error(attend(q, mixed, fovea::causal), attend(q, all.k, all.v, fovea::causal_bottom_right)),
      0.02);
  const fovea::attention<float, 64, kv_heads> many;
  const Matrix wide = normal(1, 64 * dim, 6);
  EXPECT_LE(relative_error(many(wide, exact, fovea::causal), many(wide, later_k, later_v)), 1e-6);
}

/// A store of one's own, whose numbers no pointer reaches.
struct halves {
  Matrix twice;
  index_type heads() const { return kv_heads; }
  index_type tokens() const { return twice.rows(); }
  index_type dim() const { return twice.cols() / kv_heads; }
  template <class T>
  void read(index_type head, fovea::range some, T* to, index_type stride) const {
    for (index_type t = some.first; t < some.last; ++t, to += stride)
      for (index_type c = 0; c < dim(); ++c) to[c] = static_cast<T>(twice(t, head * dim() + c)) / 2;
  }
};

/// Parts that are decoded as they are read, beside others, and lists of their keys.
TEST(joined, parts_may_be_decoded) {
  const tokens<float> all(120, dim, value_dim, 24);
  fovea::q4_cache<kv_heads> few_bits(80, dim, {.value_dim = value_dim});
  append(few_bits, all.k, all.v, 0, 75);
  const auto integers = filled<std::int8_t>(all, 75, 110);
  const auto floats = filled<float>(all, 75, 110);
  const halves k{2 * all.k.bottomRows(10)}, v{2 * all.v.bottomRows(10)};
  const fovea::decoded keys(k), values(v);
  const fovea::segment own{keys, values};
  const auto expect = [&](const auto& joined, std::initializer_list<numbers> parts) {
    numbers whole;
    for (const numbers& part : parts) {
      const index_type before = whole.k.rows();
      whole.k.conservativeResize(before + part.k.rows(), part.k.cols());
      whole.v.conservativeResize(before + part.v.rows(), part.v.cols());
      whole.k.bottomRows(part.k.rows()) = part.k, whole.v.bottomRows(part.v.rows()) = part.v;
    }
    const Matrix k_all = whole.k.template cast<float>(), v_all = whole.v.template cast<float>();
    for (const index_type queries : {1, 3, 50}) {
      const Matrix q = normal(queries, heads * dim, 4);
      expect_exact(attend(q, joined, fovea::causal), q, k_all, v_all, fovea::causal_bottom_right);
    }
    const std::vector<index_type> list{3, k_all.rows() - 1, 0, 1, 2, k_all.rows() / 2};
    fovea::key_lists lists;
    lists.add(list);
    const Matrix q = normal(1, heads * dim, 5);
    const fovea::tensor_view<const float> entry{q.data(), 1, heads, 1, dim, 0, dim, 0, 1};
    const auto out = attend(entry, fovea::gathered{joined, lists});
    Matrix listed_k(6, k_all.cols()), listed_v(6, v_all.cols());
    for (index_type i = 0; i < 6; ++i)
      listed_k.row(i) = k_all.row(list[static_cast<std::size_t>(i)]),
      listed_v.row(i) = v_all.row(list[static_cast<std::size_t>(i)]);
    const Eigen::Map<const Matrix> row(out.data(), 1, heads * value_dim);
    expect_exact(Matrix(row), q, listed_k, listed_v);
  };
  const numbers n_few = numbers_of(few_bits), n_integers = numbers_of(integers),
                n_floats = numbers_of(floats),
                n_own{all.k.bottomRows(10).cast<double>(), all.v.bottomRows(10).cast<double>()};
  expect(fovea::joined{few_bits, floats}, {n_few, n_floats});
  expect(fovea::joined{integers, few_bits, own}, {n_integers, n_few, n_own});
}

TEST(joined, refuses_parts_that_do_not_fit) {
  const tokens<float> all(9, dim, value_dim, 23);
  const auto cache = filled<float>(all, 0, 9);
  const fovea::kv_cache<float, kv_heads> wider(4, dim + 1, {.value_dim = value_dim});
  const fovea::joined bad{cache, wider};
  const Matrix q = normal(1, heads * dim, 5);
  expect_refused([&] { attend(q, bad, fovea::causal); }, {"k: part 1", "21", "20"});
  Matrix out = normal(1, heads * value_dim, 1);
  std::vector<float> memory(static_cast<std::size_t>(kv_heads * 9 * dim));
  const auto k = fovea::bshd(std::as_const(memory).data(), 1, 9, kv_heads, dim);
  const auto v = fovea::bshd(std::as_const(memory).data(), 1, 9, kv_heads, value_dim);
  const fovea::joined raw{fovea::segment{k, v}};
  const fovea::tensor_view<float> inside = fovea::bshd(memory.data(), 1, 1, heads, value_dim);
  const auto one = fovea::bshd(std::as_const(q).data(), 1, 1, heads, dim);
  expect_refused([&] { attend.into(inside, one, raw, fovea::causal); }, {"o and k share memory"});
}

}  // namespace joined_test
}  // namespace fovea_test
