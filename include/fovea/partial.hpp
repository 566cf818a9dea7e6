// fovea/partial.hpp - attention over a part of the keys, and how parts are put together.
#pragma once

#include <fovea/element.hpp>
#include <fovea/plan/operands.hpp>
#include <fovea/view.hpp>

#include <cmath>

FOVEA_NAMESPACE_BEGIN

/// The result over some of the keys: `out` as attention returns it, and the natural logarithm of each row's
/// sum of exponents (one a row and query head; -inf where no key was seen).
template <class Out, class Lse>
struct partial {
  Out out;
  Lse lse;

  partial() = default;
  partial(Out o, Lse l) : out(std::move(o)), lse(std::move(l)) {}
};

/// a <- the result over the keys of both:
///   lse = log(exp(a.lse) + exp(b.lse)),   out = a.out * exp(a.lse - lse) + b.out * exp(b.lse - lse).
/// Associative and commutative up to rounding; {0, -inf} is neutral, exactly. Finite parts give a finite
/// result, but for the last places of the largest number. Throws std::invalid_argument where the shapes
/// differ, or what is written shares memory with something else. (FlashInfer's state algebra,
/// arXiv:2501.01005, section 2.2.)
template <class OutA, class LseA, class OutB, class LseB>
void merge_into(partial<OutA, LseA>& a, const partial<OutB, LseB>& b) {
  const auto check = [](const auto& x, const auto& y, const char* name) {
    if (x.batch != y.batch || x.tokens != y.tokens || x.heads * x.dim != y.heads * y.dim)
      reject("merge: ", name, " is ", x.batch, " x ", x.tokens, " x ", x.heads * x.dim, " in one part and ",
             y.batch, " x ", y.tokens, " x ", y.heads * y.dim, " in the other");
  };
  // A matrix holds the heads side by side: then its columns, one a head, are the heads.
  const auto by_head = [](auto lse) {
    if (lse.dim != 1) lse.heads = lse.dim, lse.head_stride = lse.dim_stride, lse.dim = 1;
    return lse;
  };
  const auto lse_a = by_head(as_sequences(a.lse, any_heads, "lse").all);
  const auto lse_b = by_head(as_sequences(b.lse, any_heads, "lse").all);
  check(lse_a, lse_b, "lse");
  const index_type heads = lse_a.heads;
  auto out_a = as_sequences(a.out, heads, "out").all;
  const auto out_b = as_sequences(b.out, heads, "out").all;
  check(out_a, out_b, "out");
  if (out_a.batch != lse_a.batch || out_a.tokens != lse_a.tokens)
    reject("merge: out has ", out_a.tokens, " tokens, lse has ", lse_a.tokens);

  check_writable("a.out", out_a), check_writable("a.lse", lse_a);
  check_apart("a.out", out_a, "a.lse", lse_a), check_apart("a.out", out_a, "b.out", out_b);
  check_apart("a.out", out_a, "b.lse", lse_b), check_apart("a.lse", lse_a, "b.out", out_b);
  check_apart("a.lse", lse_a, "b.lse", lse_b);

  using T = element_of<LseA>;
  using O = element_of<OutA>;
  for (index_type n = 0; n < out_a.batch; ++n)
    for (index_type h = 0; h < heads; ++h)
      for (index_type t = 0; t < out_a.tokens; ++t) {
        T& x = lse_a(n, h, t, 0);
        const bool a_saw_none = x == -std::numeric_limits<T>::infinity();
        const T y = static_cast<T>(lse_b(n, h, t, 0)), larger = x > y ? x : y;
        if (y == -std::numeric_limits<T>::infinity()) continue;
        // Weights first: they add up to 1, so that no sum is larger than what it is made of.
        T of_a = std::exp(x - larger), of_b = std::exp(y - larger);
        const T sum = of_a + of_b;
        of_a /= sum, of_b /= sum;
        for (index_type c = 0; c < out_a.dim; ++c) {
          O& o = out_a(n, h, t, c);
          const T other = load_element<T>(out_b(n, h, t, c));
          o = store_element<O>(a_saw_none ? other : load_element<T>(o) * of_a + other * of_b);
        }
        x = larger + std::log(sum);
      }
}

/// The result over the keys of both.
template <class Out, class Lse, class OutB, class LseB>
partial<Out, Lse> merge(partial<Out, Lse> a, const partial<OutB, LseB>& b) {
  merge_into(a, b);
  return a;
}

FOVEA_NAMESPACE_END
