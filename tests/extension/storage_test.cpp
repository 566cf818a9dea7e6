// A storage type of one's own: numbers of 6 bits, with a scale for each 32 of them, as keys and values.
#include <fovea/reference.hpp>

#include <gtest/gtest.h>

namespace storage_test {

using fovea::index_type;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class six_bits {  // of a matrix, tokens x (heads * dim)
 public:
  six_bits(const Matrix& m, index_type heads) : heads_(heads), tokens_(m.rows()), dim_(m.cols() / heads) {
    blocks_.resize(static_cast<std::size_t>((m.size() + 31) / 32), {0, {}});
    for (index_type i = 0; i < m.size(); ++i) of(i).scale = std::max(of(i).scale, std::abs(m.data()[i]) / 31);
    for (index_type i = 0; i < m.size(); ++i)  // -31 to 31, plus 32
      for (long bit = 0, n = std::lround(m.data()[i] / of(i).scale) + 32; bit < 6; ++bit)
        of(i).bits[static_cast<std::size_t>(bit)] |= static_cast<std::uint32_t>(n >> bit & 1) << i % 32;
  }
  index_type heads() const { return heads_; }
  index_type tokens() const { return tokens_; }
  index_type dim() const { return dim_; }
  template <class T>
  void read(index_type head, fovea::range tokens, T* to, index_type stride) const {
    for (index_type t = tokens.first; t < tokens.last; ++t, to += stride)
      for (index_type c = 0, i = (t * heads_ + head) * dim_; c < dim_; ++c, ++i) {
        const block& b = blocks_[static_cast<std::size_t>(i / 32)];
        int number = -32;
        for (int bit = 0; bit < 6; ++bit) number += static_cast<int>(b.bits[bit] >> i % 32 & 1) << bit;
        to[c] = static_cast<T>(b.scale) * static_cast<T>(number);
      }
  }

 private:
  struct block {
    float scale;
    std::uint32_t bits[6];  // bit n of each of 32 numbers
  };
  block& of(index_type i) { return blocks_[static_cast<std::size_t>(i / 32)]; }
  index_type heads_, tokens_, dim_;
  std::vector<block> blocks_;
};

TEST(storage, six_bits_in_double) {
  for (const index_type queries : {1, 3, 8, 70, 200})  // few and many
    for (const index_type dim : {5, 40}) {
      const Matrix q = Matrix::Random(queries, 4 * dim), m = Matrix::Random(200, 2 * dim), n = 3 * m;
      const six_bits keys(m, 2), values(n, 2);
      const fovea::decoded k(keys), v(values);
      const Matrix o = fovea::attention<float, 4, 2>()(q, k, v, fovea::causal_bottom_right);
      const auto exact = fovea::reference(q, k, v, {.heads = 4, .kv_heads = 2}, fovea::causal_bottom_right);
      for (index_type i = 0; i < o.size(); ++i)
        EXPECT_NEAR(o.data()[i], exact.out(0, i / dim % 4, i / dim / 4, i % dim), 1e-5);
    }
}

}  // namespace storage_test
