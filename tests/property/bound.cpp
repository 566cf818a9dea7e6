// How far from the exact result a result may be.
#include "run.hpp"

#include <bit>

namespace fovea_test {
namespace {

/// Half the spacing of the compute type at 1 (twice that in double, where the reference is no more exact than
/// what it is compared with), and its smallest normal number.
double unit_of(const subject& s) { return s.compute() == element_kind::f64 ? 2 * 0x1p-53 : 0x1p-24; }
double least_of(const subject& s) { return s.compute() == element_kind::f64 ? 0x1p-1022 : 0x1p-126; }

/// The logit that roundings are relative to. Where several numbers are added to it, a sum on the way may be
/// the largest.
double logit_size(const problem& p, const expectation& want, index_type b, index_type h, index_type i) {
  const double size = want.logits(b, h, i, 0);
  if (std::popcount(p.rules.features & any_addend) < 2) return size;
  double largest = 0;
  for (index_type j = 0; j < p.keys[static_cast<std::size_t>(b)]; ++j) {
    if (!visible(p, b, h, i, j)) continue;
    double sum = 0;
    const rules& r = p.rules;
    if (r.features & alibi)
      sum += r.slopes[static_cast<std::size_t>(h)] * static_cast<double>(std::abs(i + r.alibi_offset - j));
    if (r.features & bias) sum += std::abs(r.addend.at(b, h, i, j));
    if (r.features & function) sum += std::abs(r.tilt) * static_cast<double>(i + 2 * j);
    largest = std::max(largest, sum);
  }
  return size + largest;
}

/// How far a logit moves where each subnormal number counts as 0, and each product that small: one smallest
/// normal number an element.
double flushed_logit(const problem& p, index_type b, index_type h, index_type i) {
  double most = 0;
  for (index_type j = 0; j < p.n.keys; ++j) {
    double sum = 0;
    for (index_type c = 0; c < p.n.dim; ++c)
      sum += std::abs(p.q(b, h, i, c)) + std::abs(p.k(b, p.kv_head(h), j, c)) + 2;
    most = std::max(most, sum);
  }
  return std::abs(p.scale_value()) * 0x1p-126 * most;
}

/// The bounds of one row.
class row_bound {
 public:
  row_bound(const subject& s, const problem& p, const expectation& want, index_type b, index_type h,
            index_type i)
      : s_(s),
        unit_(unit_of(s)),
        a_(logit_size(p, want, b, h, i)),
        of_weights_(s.flushes_values() ? 0x1p-8 : 0),
        of_logits_(s.flushes_keys() ? flushed_logit(p, b, h, i) : 0),
        underflow_(2 * static_cast<double>(p.n.keys) * least_of(s)) {}

  double lse(double exact) const { return 3 * unit_ * (4 + a_ + std::abs(exact)) + of_logits_; }
  double out(double exact, double magnitude) const {
    // A probability below the smallest normal number may be taken for that; no value is larger than 2.
    const double of_weights = of_weights_ + std::expm1(2 * of_logits_);
    const double computed = (of_weights + 3 * unit_ * (4 + a_)) * magnitude + underflow_;
    return s_.o == s_.compute() ? computed : computed + spacing(s_.o, std::abs(exact) + computed) / 2;
  }

 private:
  const subject& s_;
  double unit_, a_, of_weights_, of_logits_, underflow_;
};

}  // namespace

double bound_of(const subject& s, const problem& p, const expectation& want, index_type b, index_type h,
                index_type i, index_type c) {
  return row_bound(s, p, want, b, h, i).out(want.out(b, h, i, c), want.magnitude(b, h, i, c));
}

void expect_near(const subject& s, const problem& p, const outcome& got, const expectation& want) {
  index_type misses = 0;
  std::ostringstream first;
  first.precision(10);
  const auto check = [&](const char* what, index_type b, index_type h, index_type i, index_type c, double has,
                         double exact, double bound) {
    if (has == exact || std::abs(has - exact) <= bound || misses++ > 0) return;
    first << what << " at (" << b << ", " << h << ", " << i << ", " << c << "): " << has << ", not " << exact
          << " within " << bound;
  };
  for (index_type b = 0; b < p.n.batch; ++b)
    for (index_type h = 0; h < p.n.heads; ++h)
      for (index_type i = 0; i < p.queries[static_cast<std::size_t>(b)]; ++i) {
        const row_bound bound(s, p, want, b, h, i);
        const bool empty = visible_keys(p, b, h, i) == 0;
        const double lse = want.lse(b, h, i, 0);
        check("LSE", b, h, i, 0, got.lse(b, h, i, 0), lse, std::isinf(lse) ? 0 : bound.lse(lse));
        for (index_type c = 0; c < p.n.value_dim; ++c) {
          const double exact = want.out(b, h, i, c);
          check("out", b, h, i, c, got.out(b, h, i, c), exact,
                empty ? 0 : bound.out(exact, want.magnitude(b, h, i, c)));
        }
      }
  EXPECT_EQ(misses, 0) << "of " << got.out.x.size() << " numbers of " << words(p.n)
                       << "; first: " << first.str();
}

void expect_close(const checked& a, const checked& b, const char* what) {
  const sizes& n = a.of.n;
  for (index_type h = 0; h < n.heads; ++h)
    for (index_type i = 0; i < a.of.queries[static_cast<std::size_t>(a.batch)]; ++i)
      for (index_type c = 0; c < n.value_dim; ++c) {
        const double x = a.got.out(a.batch, h, i, c), y = b.got.out(b.batch, h, i, c);
        const double bound =
            bound_of(a.by, a.of, a.want, a.batch, h, i, c) + bound_of(b.by, b.of, b.want, b.batch, h, i, c);
        if (std::abs(x - y) <= bound) continue;
        ADD_FAILURE() << what << " changed head " << h << ", row " << i << ", column " << c << " of "
                      << words(n) << ": " << x << " and " << y << ", farther apart than " << bound;
        return;
      }
}

void expect_reference(const subject& s, layout l, const problem& p, const executor_choice& executor) {
  expect_near(s, p, run(s, l, p, executor), reference_of(p));
}

}  // namespace fovea_test
