// Every call takes every kind of view, const or not, and they agree.
#include <fovea/kv_cache.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace kinds_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Two heads of 4, five queries of five keys, and what is right of them.
struct kinds : testing::Test {
  Matrix q = Matrix::Random(5, 8), k = Matrix::Random(5, 8), v = Matrix::Random(5, 8),
         d_o = Matrix::Random(5, 8);
  fovea::attention<float> attend{{.heads = 2}};
  const Matrix &cq = q, &ck = k, &cv = v;
  fovea::partial<Matrix, Matrix> result = attend.with_lse(cq, ck, cv);
  fovea::tensor<float> weights = attend.weights(cq, ck), scores = attend.scores(cq, ck),
                       sums = attend.received(cq, ck);
  fovea::row_statistics rows = attend.statistics(cq, ck);
  fovea::gradients<Matrix, Matrix, Matrix> d = attend.backward(cq, ck, cv, result.out, result.lse, d_o);

  template <class X>
  void same(const X& got, const Matrix& wanted, index_type heads) const {
    const auto view = fovea::as_sequences(got, heads, "got");
    const index_type dim = wanted.cols() / heads;
    ASSERT_EQ(view.dim(), dim);
    for (index_type h = 0; h < heads; ++h)
      for (index_type i = 0; i < wanted.rows(); ++i)
        for (index_type c = 0; c < dim; ++c) ASSERT_EQ(view.head(0, h)(i, c), wanted(i, h * dim + c));
  }
  static void same(const fovea::tensor<float>& got, const fovea::tensor<float>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (index_type i = 0; i < got.size(); ++i) ASSERT_EQ(got.data()[i], wanted.data()[i]);
  }

  /// What is looked at.
  template <class Q, class K>
  void look(const Q& xq, const K& xk) const {
    same(attend.weights(xq, xk), weights), same(attend.scores(xq, xk), scores);
    same(attend.received(xq, xk), sums);
    const auto statistics = attend.statistics(xq, xk);
    for (index_type i = 0; i < 10; ++i) ASSERT_EQ(statistics.entropy.data()[i], rows.entropy.data()[i]);
    const auto one = attend.weights_of(1, xq, xk);
    const auto view = fovea::as_sequences(one, 1, "one");
    for (index_type i = 0; i < 5; ++i)
      for (index_type j = 0; j < 5; ++j) ASSERT_EQ(view.all(0, 0, i, j), weights(0, 1, i, j));
  }
  template <class Q, class K, class V>
  void agree(Q&& xq, K&& xk, V&& xv) const {
    look(xq, xk);
    const auto got = attend.with_lse(xq, xk, xv);
    same(got.out, result.out, 2), same(got.lse, result.lse, 2);
    same(attend(xq, xk, xv), result.out, 2);
    EXPECT_EQ(attend.plan_for(xq, xk, xv).heads, 2);
  }
  /// And gradients; in the order of sums they agree with those of other strides to a few bits alone.
  template <class Q, class K, class V, class O, class L, class G>
  void agree(Q&& xq, K&& xk, V&& xv, O&& out, L&& lse, G&& d_out) const {
    agree(xq, xk, xv);
    const auto got = attend.backward(xq, xk, xv, out, lse, d_out);
    same(got.d_q, d.d_q, 2), same(got.d_k, d.d_k, 2), same(got.d_v, d.d_v, 2);
  }
};

TEST_F(kinds, tensors) {
  std::vector<float> packed(5 * 24);
  const auto parts = fovea::packed_qkv(packed.data(), 1, 5, 2, 2, 4);
  const auto fill = [](const auto& view, const Matrix& from) {
    for (index_type h = 0; h < 2; ++h)
      for (index_type i = 0; i < 5; ++i)
        for (index_type c = 0; c < 4; ++c) view(0, h, i, c) = from(i, h * 4 + c);
  };
  fill(parts.q, q), fill(parts.k, k), fill(parts.v, v);
  const auto of = [](auto& m, index_type heads) {
    return fovea::bshd(m.data(), 1, 5, heads, m.cols() / heads);
  };
  Matrix out = result.out, lse = result.lse;
  agree(parts.q, parts.k, parts.v, of(out, 2), of(lse, 2), of(d_o, 2));  // elements that can be written
  agree(of(cq, 2), of(ck, 2), of(cv, 2));                                // and not
  fovea::tensor<float> tq(1, 2, 5, 4), tk = tq, tv = tq;
  fill(tq.view(), q), fill(tk.view(), k), fill(tv.view(), v);
  agree(tq, tk, tv), look(std::as_const(tq), std::as_const(tk));
  look(cq, of(k, 2));  // one of each
}

TEST_F(kinds, packed_sequences) {
  const std::vector<index_type> offsets{0, 5};
  Matrix out = result.out, lse = result.lse;
  agree(fovea::ragged(q, offsets), fovea::ragged(k, offsets), fovea::ragged(v, offsets),
        fovea::ragged(out, offsets), fovea::ragged(lse, offsets), fovea::ragged(d_o, offsets));
  look(fovea::ragged(cq, offsets), fovea::ragged(ck, offsets));
  auto of_k = fovea::bshd(k.data(), 1, 5, 2, 4);
  look(fovea::ragged(q, offsets), fovea::ragged(of_k, offsets));
}

TEST_F(kinds, matrices) {
  Matrix lse = result.lse;
  agree(q, k, v, result.out, lse, d_o);
  Eigen::MatrixXf columns = q, of_k = k;
  look(columns, of_k);
  Eigen::Map<Matrix> map(q.data(), 5, 8);
  const Eigen::Ref<const Matrix> ref(k);
  Eigen::Ref<Matrix, 0, Eigen::OuterStride<>> writable(v);
  agree(map, ref, writable);
  Matrix wide = Matrix::Zero(9, 20);
  wide.block(1, 2, 5, 8) = q, wide.block(2, 11, 5, 8) = k;
  Eigen::MatrixXf turned = v.transpose();
  agree(wide.block(1, 2, 5, 8), wide.block(2, 11, 5, 8), turned.transpose());
}

TEST_F(kinds, caches) {
  fovea::kv_cache<float> cache(9, 4, {.heads = 2});
  cache.append(k, v);
  look(cq, cache), look(fovea::bshd(q.data(), 1, 5, 2, 4), cache);
  same(attend(q, cache), result.out, 2);
  const std::vector<const fovea::kv_cache<float>*> one{&cache};
  const fovea::cache_batch batch(one);
  const std::vector<index_type> offsets{0, 5};
  look(fovea::ragged(q, offsets), batch);
  same(attend(fovea::ragged(q, offsets), batch), result.out, 2);
}

/// One token as a vector.
TEST_F(kinds, vectors) {
  const Eigen::RowVectorXf one = q.row(0);
  const Matrix wanted = attend(q.topRows(1), ck, cv), got = attend(one, ck, cv);
  EXPECT_EQ(got, wanted);
  EXPECT_EQ(attend.weights(one, ck)(0, 1, 0, 2), attend.weights(q.topRows(1), ck)(0, 1, 0, 2));
  EXPECT_EQ(attend.received(q.row(0), k.row(2))(0, 1, 0, 0), 1);
}

}  // namespace kinds_test
