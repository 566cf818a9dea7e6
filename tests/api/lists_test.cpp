// Lists of lengths, offsets, slopes and logits are of any type of number, in any contiguous range.
#include "../support/max_abs.hpp"
#include "../support/refusal.hpp"

#include <fovea/attention.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

namespace lists_test {

using fovea::index_type;
using fovea_test::expect_refused;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Seven queries and keys of two heads of four dimensions, in sequences of 3 and 4 tokens where packed.
struct lists : testing::Test {
  Matrix x = Matrix::Random(7, 8);
  fovea::attention<float, 2> attend;

  Matrix of_lengths(const fovea::key_lengths& mask) const { return attend(x, x, x, mask); }
  Matrix of_starts(const fovea::left_padding& mask) const { return attend(x, x, x, mask); }
  Matrix of_slopes(const fovea::alibi& score) const { return attend(x, x, x, score); }
  Matrix of_logits(const fovea::sink& sink) const { return attend(x, x, x, sink); }
  Matrix of_offsets(const fovea::list_view<index_type>& offsets) const {
    const fovea::ragged packed{x, offsets};
    return attend(packed, packed, packed);
  }

  template <class... N>
  void expect_any_integer() const {
    const std::vector<index_type> three{3}, offsets{0, 3, 7};
    const Matrix cut = of_lengths({three}), padded = of_starts({three}), packed = of_offsets(offsets);
    ASSERT_NE(cut, attend(x, x, x));
    ASSERT_NE(packed, attend(x, x, x));
    const auto with = [&]<class E>(E) {
      const std::vector<E> one{E(3)}, many{E(0), E(3), E(7)};
      EXPECT_EQ(of_lengths({one}), cut);
      EXPECT_EQ(of_starts({one}), padded);
      EXPECT_EQ(of_offsets(many), packed);
    };
    (with(N()), ...);
  }
};

TEST_F(lists, of_integers_of_any_size) {
  expect_any_integer<signed char, unsigned char, short, std::uint16_t, int, std::uint32_t, long,
                     unsigned long, long long, std::uint64_t>();
}

TEST_F(lists, in_any_contiguous_range) {
  const std::vector<index_type> three{3};
  const Matrix cut = of_lengths({three});
  const int plain[] = {3};
  const std::array<std::uint32_t, 1> array{3};
  const Eigen::VectorXi vector = Eigen::VectorXi::Constant(1, 3);
  const Eigen::Matrix<std::int64_t, 1, 3> row{9, 3, 5};
  EXPECT_EQ(of_lengths({plain}), cut);
  EXPECT_EQ(of_lengths({.lengths = array}), cut);
  EXPECT_EQ(of_lengths({vector}), cut);
  EXPECT_EQ(of_lengths({std::span(plain)}), cut);
  EXPECT_EQ(of_lengths({std::span(row.data() + 1, 1)}), cut);
  const auto middle = row.segment(1, 1);
  EXPECT_EQ(of_lengths({middle}), cut);
  // A row of a column-major matrix: its numbers are two apart.
  const Eigen::Matrix<int, 2, 3> offsets{{0, 3, 7}, {9, 9, 9}};
  const auto first = offsets.row(0);
  const std::vector<index_type> same{0, 3, 7};
  EXPECT_EQ(of_offsets(first), of_offsets(same));
}

TEST_F(lists, of_real_numbers_of_any_precision) {
  const std::vector<float> some{0.5f, 0.25f};
  const Matrix sloped = of_slopes({some}), sunk = of_logits({some});
  ASSERT_NE(sloped, attend(x, x, x));
  ASSERT_NE(sunk, attend(x, x, x));
  const auto with = [&]<class E>(E) {
    const std::vector<E> given{E(0.5f), E(0.25f)};
    EXPECT_EQ(of_slopes({given}), sloped);
    EXPECT_EQ(of_logits({given}), sunk);
  };
  with(0.0), with(0.0L), with(fovea::bf16()), with(fovea::fp16()), with(Eigen::half()),
      with(Eigen::bfloat16());
  const Eigen::VectorXd vector = Eigen::Vector2d(0.5, 0.25);
  EXPECT_EQ(of_slopes({vector}), sloped);
  EXPECT_EQ(of_logits({vector}), sunk);
}

TEST_F(lists, in_double_keep_their_precision) {
  const Eigen::MatrixXd m = x.cast<double>();
  const std::vector<double> thirds{1. / 3, 2. / 3};
  const fovea::attention<double, 2> exact;
  const auto own = [](auto s, auto q, auto k) {
    using std::abs;
    return s - abs(q - k) * 1 / 3;
  };
  const Eigen::MatrixXd one_head = m.leftCols(4);
  const std::vector<double> third{1. / 3};
  const Eigen::MatrixXd given =
                            fovea::attention<double, 1>()(one_head, one_head, one_head, fovea::alibi{third}),
                        asked =
                            fovea::attention<double, 1>()(one_head, one_head, one_head, fovea::score(own));
  EXPECT_LT(fovea_test::max_abs(given - asked), 1e-15);
  const double sum = exact.with_lse(m, m, m, fovea::sink{thirds}).lse(0, 0);
  EXPECT_NEAR(sum, std::log(std::exp(exact.with_lse(m, m, m).lse(0, 0)) + std::exp(1. / 3)), 1e-14);
}

TEST_F(lists, name_what_is_out_of_range_as_it_is) {
  const auto lengths = [&](const auto& list) { return [&] { of_lengths({list}); }; };
  const std::vector<std::uint64_t> huge{(std::uint64_t(1) << 63) + 5}, wide{(std::uint64_t(1) << 32) + 3};
  const std::vector<std::uint32_t> large{4294967295u};
  const std::vector<signed char> negative{-3};
  expect_refused(lengths(huge), "key_lengths's entry 0 is 9223372036854775813, not within 0 and the 7 keys");
  expect_refused(lengths(wide), "key_lengths's entry 0 is 4294967299, not within 0 and the 7 keys");
  expect_refused(lengths(large), "key_lengths's entry 0 is 4294967295, not within 0 and the 7 keys");
  expect_refused(lengths(negative), "key_lengths's entry 0 is -3, not within 0 and the 7 keys");
  const std::vector<std::uint64_t> far{0, ~std::uint64_t(0), 7};
  expect_refused([&] { of_offsets(far); }, "k's offset 1 is 18446744073709551615, not within 0 and 7");
}

TEST_F(lists, of_slopes_and_logits_are_numbers) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> slopes{0.5, nan}, large{1e39, 0},
      infinite{0, -std::numeric_limits<double>::infinity()};
  expect_refused([&] { of_slopes({slopes}); }, "alibi's slope 1 is nan, not a finite float");
  expect_refused([&] { of_slopes({infinite}); }, "alibi's slope 1 is -inf, not a finite float");
  expect_refused([&] { of_slopes({large}); }, "alibi's slope 0 is 1e+39, not a finite float");
  expect_refused([&] { of_logits({slopes}); }, "sink's logit 1 is nan, not a number, or -inf for none");
}

}  // namespace lists_test
