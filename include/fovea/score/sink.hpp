// fovea/score/sink.hpp - a logit that attends to nothing.
#pragma once

#include <fovea/list_view.hpp>
#include <fovea/score/concept.hpp>

#include <numbers>

FOVEA_NAMESPACE_BEGIN

/// Adds exp(logits[h]) to the denominator of every row of query head h; the LSE includes it. (gpt-oss has a
/// learnt logit a head.) It is no key: masks and other scores do not touch it. Logits are of any real type,
/// in a named vector, array, span or Eigen vector: read during the call, not copied.
struct sink {
  list_view<double> logits;
  borrowed_span<float> d_logits = {};  // where a backward call writes their gradient, if wanted

  std::span<float> gradient() const noexcept { return d_logits; }
  void set_gradient(index_type head, double value) const noexcept {
    if (!d_logits.empty()) d_logits[static_cast<std::size_t>(head)] = static_cast<float>(value);
  }
  void check(const place& at) const {
    if (!d_logits.empty() && static_cast<index_type>(d_logits.size()) != logits.size())
      reject("sink has ", logits.size(), " logits but d_logits has ", d_logits.size());
    if (logits.size() != at.heads) reject("sink has ", logits.size(), " logits for ", at.heads, " heads");
    for (index_type h = 0; h < at.heads; ++h)
      if (!is_finite(logits[h]) && !(logits[h] < 0))
        reject("sink's logit ", h, " is ", logits[h], ", not a number, or -inf for none");
  }
  /// Sums are made of powers of two: log2(e) times the logit is a number of theirs.
  template <class T>
  void check_numbers() const {
    for (index_type h = 0; h < logits.size(); ++h)
      if (is_finite(logits[h]) && !is_finite(static_cast<T>(logits[h] * std::numbers::log2e)))
        reject("sink's logit ", h, " is ", logits[h], ", which times log2(e) is no finite float");
  }
  void each_operand(const auto& f) const { f("sink's logits", logits); }
  double logit(index_type head) const noexcept { return logits[head]; }
};

/// The softmax off by one: 1 joins every row's denominator, exp(s_j) / (1 + sum_i exp(s_i)), so that a head
/// may attend to nothing. A sink with a logit of 0 in every head. (Miller, "Attention is off by one", 2023.)
struct off_by_one_sink {
  double logit(index_type) const noexcept { return 0; }
};
inline constexpr off_by_one_sink off_by_one;

FOVEA_NAMESPACE_END
